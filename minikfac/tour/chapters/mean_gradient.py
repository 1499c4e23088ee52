"""The mean gradient is zero for targets from the model, and not for the labels."""

from __future__ import annotations

import numpy as np

from ...backend import Array, to_host
from ...network import Network, outputs
from ..parts import Chapter, Section, examples, number
from ..studied import Run
from ..words import words


def mean_norms(net: Network, theta: Array, x: Array, y: Array, seed: int = 0) -> dict[str, float]:
    """Norms of the mean gradient (P,): for the expectation under the model, the labels, and drawn targets."""
    rng = np.random.default_rng([seed, 1])
    tape = net.forward(theta, x)
    dzs = {
        "model_norm": _expected_derivative(net, tape.z),
        "label_norm": net.output.gradient(tape.z, y),
        "sampled_norm": net.output.gradient(tape.z, net.output.sample(tape.z, rng)),
    }
    means = {name: to_host(net.vjp(theta, tape, dz)) / len(x) for name, dz in dzs.items()}
    return {name: float(np.linalg.norm(mean)) for name, mean in means.items()}


def concentration(net: Network, theta: Array, x: Array) -> float:
    """Share of the sum of squared derivatives in the tenth of the examples with the largest ones.

    Derivatives are with respect to the outputs: their squares sum to the trace of the outputs' Fisher matrix.
    """
    root = net.output.fisher_root(net.forward(theta, x).z)
    squares = np.sort(to_host((root**2).sum((0, 2))))[::-1]  # (N,)
    return float(squares[: max(1, len(squares) // 10)].sum() / squares.sum())


def _expected_derivative(net: Network, z: Array) -> Array:
    """E_y[ dL/dz ] under the model: a sum over classes or, for other outputs, by E[y] = mean."""
    mean = net.output.mean(z)
    if isinstance(net.output, outputs.Categorical):
        parts = [mean[:, k, None] * net.output.gradient(z, np.full(len(z), k)) for k in range(z.shape[1])]
        return np.sum(parts, axis=0)
    return net.output.gradient(z, mean)


def compute(run: Run) -> Chapter:
    """Mean gradients under the model and under labels, before and after training."""
    start, end = (
        mean_norms(run.net, theta, run.x, run.y, run.settings.seed) for theta in (run.theta0, run.theta)
    )
    text = words(
        "mean-gradient",
        examples=examples(len(run.x)),
        model=number(start["model_norm"]),
        sampled=number(start["sampled_norm"]),
        label=number(start["label_norm"]),
        steps=run.settings.steps,
        trained=number(end["label_norm"]),
    )
    section = Section("mean", "The mean of the gradient", text)
    return Chapter([section], record={"means_start": start, "means": end}, results=start)
