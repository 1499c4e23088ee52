"""Small experiments, one per picture: net and data in, plain arrays out.

Each shows one statement: gradients have mean zero under the model's own targets; their covariance is F;
F is the second derivative of the KL divergence; sampled targets converge to the exact expectation, labels
do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import fisher
from ...backend import Array, to_host
from ...network import Network, outputs
from .maps import conv_layers


@dataclass(frozen=True)
class Passage:
    """One example on its way through the net and back.

    Attributes:
        index: of the example in the batch it was chosen from.
        x: the input (features,).
        label: its target.
        mean: what the model predicts, probabilities or means (C,).
        target: drawn from the model, an index for a class and (C,) otherwise.
        activations: per parameter layer, what goes into the weights, without the constant 1.
        derivatives: per parameter layer g (O,), for the drawn target.
    """

    index: int
    x: Array
    label: Array
    mean: Array
    target: Array
    activations: list[Array]
    derivatives: list[Array]


def passage(net: Network, theta: Array, x: Array, y: Array, seed: int = 0) -> Passage:
    """Send one example forward and back: the one whose prediction is the least certain but still right.

    For outputs other than classes, the first example.
    """
    z = net.forward(theta, x).z
    mean = net.output.mean(z)
    index = 0
    if isinstance(net.output, outputs.Categorical):
        p = to_host(mean)
        right = p.argmax(1) == to_host(y)
        # one that leaves room for another target to be drawn, but is no coin toss
        distance = np.abs(p.max(1) - 0.7) + ~right
        index = int(distance.argmin())
    one = slice(index, index + 1)
    rng = np.random.default_rng([seed, index])
    target = net.output.sample(z[one], rng)
    drawn = to_host(target)
    if isinstance(net.output, outputs.Categorical):  # a target other than the likeliest shows more
        for _ in range(100):
            if int(drawn[0]) != int(p[index].argmax()):
                break
            target = net.output.sample(z[one], rng)
            drawn = to_host(target)
    tape = net.forward(theta, x[one])
    g = net.backward(theta, tape, net.output.gradient(tape.z, target))
    return Passage(
        index,
        to_host(x[index]),
        to_host(y[index]),
        to_host(mean[index]),
        drawn[0],
        [to_host(abar[0, 0, :-1]) for abar in tape.abar],
        [to_host(own[0, 0]) for own in g],
    )


@dataclass(frozen=True)
class MeanDerivatives:
    """Means over examples of the derivative by the outputs.

    Attributes:
        model: (C,) for targets drawn from the model, one each.
        standard_error: (C,) of ``model``.
        labels: (C,) for the labels.
        exact: (C,) expectation over the model's targets: zero up to rounding.
        model_norm, label_norm: lengths of the mean of the whole gradient (P,), exact expectation and labels.
        sampled_norm: the same length for one drawn target each.
        concentration: share of the squares of expected derivatives by the outputs, trace of the output's
            Fisher matrix, that the largest tenth of the examples hold.
    """

    model: Array
    standard_error: Array
    labels: Array
    exact: Array
    model_norm: float
    label_norm: float
    sampled_norm: float
    concentration: float


def mean_derivatives(net: Network, theta: Array, x: Array, y: Array, seed: int = 0) -> MeanDerivatives:
    """Average the derivatives over examples, under the model's own targets and under the labels."""
    rng = np.random.default_rng([seed, 1])
    tape = net.forward(theta, x)
    drawn = net.output.sample(tape.z, rng)
    sampled = net.output.gradient(tape.z, drawn)  # (N, C)
    labels = net.output.gradient(tape.z, y)
    exact = _expected_derivative(net, tape.z)
    squares = np.sort(to_host((net.output.fisher_root(tape.z) ** 2).sum((0, 2))))[::-1]  # (N,)
    top = squares[: max(1, len(squares) // 10)]

    def length(dz: Array) -> float:
        return float(np.linalg.norm(to_host(net.vjp(theta, tape, dz)) / len(x)))

    return MeanDerivatives(
        to_host(sampled.mean(0)),
        to_host(sampled.std(0) / len(x) ** 0.5),
        to_host(labels.mean(0)),
        to_host(exact.mean(0)),
        length(exact),
        length(labels),
        length(sampled),
        float(top.sum() / squares.sum()),
    )


def _expected_derivative(net: Network, z: Array) -> Array:
    """E_y[ dL/dz ] under the model, by summing over classes where there are some, else by E[y] = mean."""
    mean = net.output.mean(z)
    if isinstance(net.output, outputs.Categorical):
        parts = [mean[:, k, None] * net.output.gradient(z, np.full(len(z), k)) for k in range(z.shape[1])]
        return np.sum(parts, axis=0)
    return net.output.gradient(z, mean)


@dataclass(frozen=True)
class Scatter:
    """Sampled gradients of two weights.

    Attributes:
        layer: name of their layer.
        names: of the weights.
        samples: (N draws, 2) gradients of single examples.
        F: their block of the exact Fisher matrix (2, 2).
        covariance: of the samples (2, 2).
    """

    layer: str
    names: tuple[str, str]
    samples: Array
    F: Array
    covariance: Array

    @property
    def correlation(self) -> float:
        """Between the two gradients, by F."""
        return float(self.F[0, 1] / np.sqrt(self.F[0, 0] * self.F[1, 1]))


def gradient_scatter(net: Network, theta: Array, x: Array, layer: int, seed: int = 0) -> Scatter:
    """Sample gradients of the two weights of a layer that vary most together without being the same.

    Candidates are the 60 weights of the largest variance.
    """
    rng = np.random.default_rng([seed, 2])
    exact = fisher.signals(net, theta, x).select([layer])
    variance = to_host(fisher.diagonal(exact).diagonal())
    units = net.shapes[layer][1]
    strong = np.sort(np.argsort(variance)[-60:])

    def gradients(signals: fisher.Signals, chosen: Array) -> Array:  # (K, N, chosen), weights folded in
        parts = [to_host(piece.gradients()[..., chosen]) for piece in signals[0].pieces()]
        return np.concatenate(parts, axis=1).astype(float)

    D = gradients(exact, strong)
    F = np.einsum("kni,knj->ij", D, D) / len(x)
    sd = np.sqrt(np.maximum(F.diagonal(), np.finfo(float).tiny))
    correlation = np.abs(F / np.outer(sd, sd))
    score = np.where(correlation < 0.9, correlation, 0) * np.outer(sd, sd)
    score[np.diag_indices_from(score)] = 0
    pair = np.sort(np.array(np.unravel_index(score.argmax(), score.shape)))
    draws = 4
    sampled = fisher.signals(net, theta, x, targets="sampled", n_samples=draws, rng=rng).select([layer])
    samples = draws**0.5 * gradients(sampled, strong[pair]).reshape(-1, 2)
    first, second = (weight_name(net, layer, *divmod(int(place), units)) for place in strong[pair])
    covariance = samples.T @ samples / len(samples)
    return Scatter(net.names[layer], (first, second), samples, F[np.ix_(pair, pair)], covariance)


def weight_name(net: Network, layer: int, i: int, o: int) -> str:
    """Name the entry (i, o) of a layer's weights."""
    conv = conv_layers(net).get(layer)
    if conv is None:
        return f"bias of unit {o}" if i == net.shapes[layer][0] - 1 else f"weight {i} → {o}"
    if i == conv.patch_size:
        return f"bias of map {o}"
    place, channel = divmod(i, conv.c_in)
    row, column = divmod(place, conv.windows.kernel[1])
    return f"weight ({row}, {column}) of map {channel} → {o}"


@dataclass(frozen=True)
class Divergence:
    """KL divergence along a direction, against its quadratic model.

    Attributes:
        lengths: |d|, (m,).
        kl: KL(theta || theta + d), mean over examples in nats, (m,).
        quadratic: 1/2 d^T F d, (m,).
        slope: of |kl - quadratic| against |d| on log axes, where rounding does not show.
        floor: what rounding leaves of a difference, in nats.
        fit: lengths between which the slope was fitted.
    """

    lengths: Array
    kl: Array
    quadratic: Array
    slope: float
    floor: float
    fit: tuple[float, float]

    @property
    def differences(self) -> Array:
        """|KL - 1/2 d^T F d|, (m,)."""
        return np.abs(self.kl - self.quadratic)


def divergence(net: Network, theta: Array, x: Array, seed: int = 0, n_lengths: int = 33) -> Divergence:
    """Walk along one random direction and compare KL with 1/2 d^T F d; in float64 whatever theta is."""
    rng = np.random.default_rng([seed, 3])
    theta, x = to_host(theta).astype(float), to_host(x).astype(float)
    d = rng.normal(size=theta.shape)
    d /= np.linalg.norm(d)
    curvature = float(d @ (fisher.product(net, theta, x) @ d))
    lengths = np.logspace(-6, 0.5, n_lengths)
    kl = np.array([net.kl(theta, theta + t * d, x) for t in lengths])
    quadratic = 0.5 * lengths**2 * curvature
    differences = np.abs(kl - quadratic)
    floor = float(np.median(differences[:4]))  # steps of 1e-6: KL is 1e-12 or so, the rest is rounding
    floor = max(floor, 1e-17)
    clean = lengths[differences > 100 * floor]
    fit = (float(clean.min()), float(clean.min()) * 10**1.5) if len(clean) else (0.1, 1.0)
    chosen = (lengths >= fit[0]) & (lengths <= fit[1] * (1 + 1e-9)) & (differences > 0)
    slope = (
        float(np.polyfit(np.log(lengths[chosen]), np.log(differences[chosen]), 1)[0])
        if chosen.sum() > 1
        else float("nan")
    )
    return Divergence(lengths, kl, quadratic, slope, floor, fit)


@dataclass(frozen=True)
class Sampling:
    """Errors of Fisher matrices that are estimated from drawn targets.

    Attributes:
        counts: targets per example, (m,).
        fisher: (m, seeds) relative Frobenius errors of the sampled Fisher matrix against the exact one.
        kfac: (m, seeds) of sampled K-FAC against K-FAC with the exact expectation.
        empirical: error of the matrix made with the labels, against the exact one.
        empirical_scale: its best scalar c*; 1 would mean that only its shape is wrong.
        slope: of the median of ``fisher`` on log axes; -1/2 for independent draws.
        names: of the layers that were used.
        n: examples.
    """

    counts: Array
    fisher: Array
    kfac: Array
    empirical: float
    empirical_scale: float
    slope: float
    names: tuple[str, ...]
    n: int


def sampling(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    layers: Sequence[int],
    counts: Sequence[int] = (1, 2, 4, 8, 16, 32),
    seeds: int = 5,
    seed: int = 0,
) -> Sampling:
    """Estimate the Fisher matrix of some layers from drawn targets and from labels."""

    def error(exact: Array, estimate: Array) -> float:
        return float(np.linalg.norm(to_host(exact - estimate)) / np.linalg.norm(to_host(exact)))

    signals = fisher.signals(net, theta, x).select(layers)
    F = fisher.exact(signals).array
    kfac = fisher.kfac(signals)
    K = [block.to_dense() for block in kfac.blocks]
    norm = np.sqrt(sum(float((block**2).sum()) for block in K))
    whole, factors = np.zeros((len(counts), seeds)), np.zeros((len(counts), seeds))
    for row, count in enumerate(counts):
        for column in range(seeds):
            rng = np.random.default_rng([seed, 4, column, count])
            drawn = fisher.signals(net, theta, x, targets="sampled", n_samples=count, rng=rng).select(layers)
            whole[row, column] = error(F, fisher.exact(drawn).array)
            blocks = [block.to_dense() for block in fisher.kfac(drawn).blocks]
            squared = sum(float(((a - b) ** 2).sum()) for a, b in zip(K, blocks, strict=True))
            factors[row, column] = np.sqrt(squared) / norm
    labels = fisher.exact(fisher.signals(net, theta, x, y, targets="data").select(layers)).array
    slope = float(np.polyfit(np.log(counts), np.log(np.median(whole, axis=1)), 1)[0])
    return Sampling(
        np.array(counts),
        whole,
        factors,
        error(F, labels),
        float((labels * F).sum() / (labels * labels).sum()),
        slope,
        signals.names,
        len(x),
    )


def memory_rows(
    nets: Mapping[str, Sequence[tuple[int, ...]]], bytes_per_number: int = 4
) -> list[dict[str, Any]]:
    """Bytes that the full Fisher matrix and K-FAC's factors take, for nets given by the shapes of weights.

    >>> memory_rows({"a": [(65, 20), (21, 10)]})[0]["parameters"]
    1510
    """
    rows: list[dict[str, Any]] = []
    for name, shapes in nets.items():
        n_params = sum(i * o for i, o in shapes)
        factors = sum(i * i + o * o for i, o in shapes)
        rows.append(
            {
                "name": name,
                "parameters": n_params,
                "largest_layer": max(i * o for i, o in shapes),
                "bytes_per_number": bytes_per_number,
                "fisher_bytes": bytes_per_number * n_params**2,
                "factor_bytes": bytes_per_number * factors,
            }
        )
    return rows
