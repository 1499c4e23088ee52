"""Gradients have mean zero under the model's own targets, and a mean that is not under the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...backend import Array, to_host
from ...network import Network, outputs
from ..parts import Drawings, Section, examples, number

if TYPE_CHECKING:
    from ..run import Run


@dataclass(frozen=True)
class MeanDerivatives:
    """Means over examples of the derivative with respect to the outputs.

    Attributes:
        model_norm, label_norm: lengths of the mean of the whole gradient (P,), exact expectation and labels.
        sampled_norm: the same length for one drawn target each.
    """

    model_norm: float
    label_norm: float
    sampled_norm: float


def mean_derivatives(net: Network, theta: Array, x: Array, y: Array, seed: int = 0) -> MeanDerivatives:
    """Average the derivatives over examples, under the model's own targets and under the labels."""
    rng = np.random.default_rng([seed, 1])
    tape = net.forward(theta, x)
    drawn = net.output.sample(tape.z, rng)
    sampled = net.output.gradient(tape.z, drawn)  # (N, C)
    labels = net.output.gradient(tape.z, y)
    exact = _expected_derivative(net, tape.z)

    def length(dz: Array) -> float:
        return float(np.linalg.norm(to_host(net.vjp(theta, tape, dz)) / len(x)))

    return MeanDerivatives(length(exact), length(labels), length(sampled))


def concentration(net: Network, theta: Array, x: Array) -> float:
    """Share of the squares of expected derivatives that the tenth of the examples with the largest ones hold.

    Derivatives are by the outputs: the squares sum to the trace of the outputs' Fisher matrix.
    """
    root = net.output.fisher_root(net.forward(theta, x).z)
    squares = np.sort(to_host((root**2).sum((0, 2))))[::-1]  # (N,)
    return float(squares[: max(1, len(squares) // 10)].sum() / squares.sum())


def _expected_derivative(net: Network, z: Array) -> Array:
    """E_y[ dL/dz ] under the model, by summing over classes where there are some, else by E[y] = mean."""
    mean = net.output.mean(z)
    if isinstance(net.output, outputs.Categorical):
        parts = [mean[:, k, None] * net.output.gradient(z, np.full(len(z), k)) for k in range(z.shape[1])]
        return np.sum(parts, axis=0)
    return net.output.gradient(z, mean)


@dataclass(frozen=True)
class MeanGradient:
    """Means before and after training, over n examples in so many steps."""

    start: MeanDerivatives
    end: MeanDerivatives
    n: int
    steps: int

    def figures(self) -> Drawings:
        """None: the means are in the text."""
        return {}

    def sections(self) -> list[Section]:
        """Mean gradients under the model and under labels."""
        start = self.start
        text = (
            "If targets are drawn from the model's own predictions, gradients have mean zero: the model is "
            "always right about itself on average. So their covariance, which is <i>F</i>, is the mean of "
            "their products. Before training, with the expectation over targets taken exactly, the mean "
            f"gradient over {examples(self.n)} has length {number(start.model_norm)}, which is rounding; "
            f"with one drawn target per example, {number(start.sampled_norm)}; with the labels, "
            f"{number(start.label_norm)}. After {self.steps} steps of training the labels' mean gradient has "
            f"length {number(self.end.label_norm)}."
        )
        return [Section("mean", "The mean of the gradient", [text])]

    def record(self) -> dict[str, Any]:
        """All means."""
        return {"means_start": vars(self.start), "means": vars(self.end)}


def compute(run: Run) -> MeanGradient:
    """Average before and after training."""
    start, end = (
        mean_derivatives(run.net, theta, run.x, run.y, run.settings.seed) for theta in (run.theta0, run.theta)
    )
    return MeanGradient(start, end, len(run.x), run.settings.steps)
