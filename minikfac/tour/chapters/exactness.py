"""Where KFC and its relatives are exact, and how they stop being so: walks away from exact cases.

Three approximations of a convolution's Fisher block read the same signals,

    KFC        E[sum_t abar_t abar_t^T] (x) (1/T) E[sum_t g_t g_t^T]       derivatives uncorrelated in space
    T x KFC    T times the same                                            derivatives equal everywhere
    reduce     E[a a^T] (x) E[g g^T],  a = sum_t abar_t,  g = mean_t g_t   derivatives equal everywhere

and each is exact somewhere [GM16, sec. 3; EIST23, sec. 3]:

    a loss on every location, nothing but linear maps above      KFC, for any images
    a mean over locations, nothing but linear maps above         reduce, for any images
    constant images, no padding, a mean over locations above     T x KFC and reduce, for one distinct image;
                                                                 for any number if what is above is linear

A walk turns one knob away from such a case and leaves everything else as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ... import fisher
from ...backend import Array
from ...network import Network, outputs
from ...network.layers import Conv2d, Dense, Flatten, GlobalAvgPool, Identity, Layer, Tanh

NAMES = KFC, FULL, REDUCE = ("KFC", "T × KFC", "reduce")
ROUNDING = 1e-10
"""Relative errors below this are called exact."""

STRENGTHS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
CORRELATIONS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Walk:
    """Errors of a convolution's block along one knob.

    Attributes:
        key: a short name.
        knob: what is turned.
        net: what the net is.
        values: of the knob, (m,).
        errors: relative Frobenius errors (m,) by name of the approximation; medians where a walk draws its
            images several times.
        scales: the best scalars c* (m,) by the same names.
        exact: names and indices of values where theory says that the error is zero.
        locations: T.
    """

    key: str
    knob: str
    net: str
    values: Array
    errors: dict[str, Array]
    scales: dict[str, Array]
    exact: tuple[tuple[str, int], ...]
    locations: int

    @property
    def as_predicted(self) -> bool:
        """Whether errors are rounding exactly where theory says so."""
        found = {
            (name, place)
            for name, values in self.errors.items()
            for place, error in enumerate(values)
            if error < ROUNDING
        }
        return found == set(self.exact)


def exactness(seed: int = 0, n: int = 96) -> list[Walk]:
    """Take all walks.

    Args:
        seed: of images and weights.
        n: images each; at least 72, so that white noise can be made exactly white.

    Raises:
        ValueError: on fewer images.
    """
    if n < 72:
        raise ValueError(f"expected n >= 72 images, got {n}")
    return [
        spatial_correlation(seed, n),
        distinct_inputs(seed),
        nonlinearity(seed, n, per_location=True),
        nonlinearity(seed, n, per_location=False),
    ]


def spatial_correlation(seed: int = 0, n: int = 96, values: Sequence[float] = CORRELATIONS) -> Walk:
    """Turn white noise into constant images, below a mean over locations and a linear output.

    Images are sqrt(1 - rho) noise + sqrt(rho) colour: rho is the correlation between any two pixels. The
    noise is made exactly white over these images, and patches do not overlap, so KFC is exact at rho = 0;
    T x KFC is at rho = 1; reduce always is, as derivatives are the same everywhere.
    """
    rng = np.random.default_rng([seed, 10])
    side, channels = 6, 2
    net = Network(
        [Conv2d(channels, 3, 3, stride=3, bias=False), GlobalAvgPool(), Dense(3, 2)], outputs.Gaussian()
    )
    theta = net.init(rng)
    white = np.linalg.qr(rng.standard_normal((n, side * side * channels)))[0] * n**0.5
    white = white.reshape(n, side, side, channels)
    colour = rng.standard_normal((n, 1, 1, channels))
    images = [(1 - rho) ** 0.5 * white + rho**0.5 * colour for rho in values]
    last = len(values) - 1
    exact = [(REDUCE, place) for place in range(len(values))]
    exact += [(KFC, 0)] if values[0] == 0 else []
    exact += [(FULL, last)] if values[last] == 1 else []
    return _walk(
        "correlation",
        "correlation between pixels",
        "conv (stride = kernel) – mean – dense, squared error",
        values,
        [[(net, theta, x)] for x in images],
        exact,
    )


def distinct_inputs(seed: int = 0, counts: Sequence[int] = COUNTS, draws: int = 15) -> Walk:
    """Begin with one constant image and add others, below tanh, a mean over locations and a softmax.

    For one distinct image neither activations nor derivatives vary, in space or between examples: T x KFC
    and reduce are exact whatever the net is. With more, derivatives depend on the image, as activations
    do: they are not independent any more. Medians over several draws of the images.
    """
    rng = np.random.default_rng([seed, 11])
    net = Network([Conv2d(2, 3, 3), Tanh(), GlobalAvgPool(), Dense(3, 4)], outputs.Categorical())
    theta = 2 * net.init(rng)
    colours = rng.standard_normal((draws, max(counts), 1, 1, 2))
    cases = [
        [(net, theta, np.broadcast_to(own[:count], (count, 5, 5, 2)).copy()) for own in colours]
        for count in counts
    ]
    exact = [(name, 0) for name in (FULL, REDUCE)] if counts[0] == 1 else []
    return _walk(
        "inputs",
        "distinct images (constant ones)",
        "conv – tanh – mean – dense, softmax",
        counts,
        cases,
        exact,
    )


def nonlinearity(
    seed: int = 0, n: int = 96, per_location: bool = True, values: Sequence[float] = STRENGTHS
) -> Walk:
    """Bend a linear net, from the identity to tanh(beta s) / beta, with noise as images.

    With a squared error at every location KFC is exact in the linear net; with a mean over locations
    below the squared error, reduce is.
    """
    rng = np.random.default_rng([seed, 12])
    nets = []
    for phi in (Identity, Tanh):
        below: list[Layer] = [Conv2d(2, 3, 3, padding=0 if per_location else 1), phi()]
        above: list[Layer] = [Conv2d(3, 2, 1), Flatten()] if per_location else [GlobalAvgPool(), Dense(3, 2)]
        nets.append(Network([*below, *above], outputs.Gaussian()))
    straight, bent = nets
    theta = straight.init(rng)
    images = rng.standard_normal((n, 5, 5, 2))
    first, second = straight.unpack(theta)
    cases = []
    for beta in values:
        if beta == 0:
            cases.append([(straight, theta, images)])
            continue
        scaled = second.copy()
        scaled[:-1] /= beta  # the bias is not behind the nonlinearity
        cases.append([(bent, bent.pack([beta * first, scaled]), images)])
    return _walk(
        "nonlinearity" if per_location else "pooled",
        "strength β of the nonlinearity tanh(βs)/β",
        "conv – tanh – 1×1 conv, squared error at every location"
        if per_location
        else "conv – tanh – mean – dense, squared error",
        values,
        cases,
        [(KFC if per_location else REDUCE, 0)] if values[0] == 0 else [],
    )


Case = tuple[Network, Array, Array]
"""A net, its parameters, and images."""


def _walk(
    key: str,
    knob: str,
    net: str,
    values: Sequence[float],
    cases: Sequence[Sequence[Case]],
    exact: Sequence[tuple[str, int]],
) -> Walk:
    """Measure the first layer's block in every case, one or several for each value of the knob."""
    found = np.array([[_measure(*case) for case in same] for same in cases])  # (m, draws, 2, names)
    errors, scales = np.median(found, axis=1).transpose(1, 2, 0)
    own, theta, x = cases[0][0]
    return Walk(
        key,
        knob,
        net,
        np.array(values, dtype=float),
        dict(zip(NAMES, errors, strict=True)),
        dict(zip(NAMES, scales, strict=True)),
        tuple(exact),
        own.forward(theta, x).abar[0].shape[1],
    )


def _measure(net: Network, theta: Array, x: Array) -> tuple[list[float], list[float]]:
    """Relative errors and best scalars of the approximations of the first layer's block."""
    signals = fisher.signals(net, theta, x).select([0])
    F = fisher.block_diagonal(signals).to_dense()
    near = (fisher.kfac(signals), fisher.fully_correlated(signals), fisher.kfac(signals, reduce=True))
    blocks = [matrix.to_dense() for matrix in near]
    return (
        [float(np.linalg.norm(F - M) / np.linalg.norm(F)) for M in blocks],
        [float((M * F).sum() / (M * M).sum()) for M in blocks],
    )
