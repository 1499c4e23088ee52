"""The study of a net's Fisher matrix: every approximation built, measured, and kept for the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import fisher, quality
from ..backend import Array
from ..network import Network
from .progress import progress_bar

APPROXIMATIONS: dict[str, tuple[Callable[[fisher.Signals], fisher.FisherMatrix], str | None]] = {
    "block-diagonal": (fisher.block_diagonal, None),
    "K-FAC": (fisher.kfac, None),
    "K-FAC, factored damping": (fisher.kfac, "factored"),
    "block-tridiagonal": (fisher.block_tridiagonal, None),
    "EKFAC": (fisher.ekfac, None),
    "nearest Kronecker": (fisher.nearest_kronecker, None),
    "diagonal": (fisher.diagonal, None),
    "low rank": (lambda signals: fisher.low_rank(signals, min(100, signals.slices[-1].stop)), None),
}
"""By name: how it is built from signals, and how it is damped where not by its default."""


@dataclass(frozen=True)
class Study:
    """What :func:`fisher_study` found.

    Attributes:
        net, theta, x, y: what was studied; x is the batch of the expectation.
        signals: of that batch.
        F: the exact Fisher matrix.
        matrices: the approximations by name.
        methods: how some are damped.
        gradient: of the loss on the batch (P,).
        damping: lambda.
        comparison: the quality table.
        ledger: rows of the assumption ledger.
    """

    net: Network
    theta: Array
    x: Array
    y: Array
    signals: fisher.Signals
    F: fisher.DenseMatrix
    matrices: Mapping[str, fisher.FisherMatrix]
    methods: Mapping[str, str]
    gradient: Array
    damping: float
    comparison: quality.Comparison
    ledger: list[dict[str, Any]]


def fisher_study(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    approximations: Sequence[str] = tuple(APPROXIMATIONS),
    damping: float = 1e-2,
    targets: str = "model",
    n_samples: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> Study:
    """Build the exact Fisher matrix and approximations of it, and measure how good each one is.

    Args:
        net: the network.
        theta: (P,).
        x: inputs (N, features): the batch over which everything is a mean.
        y: targets; the steps that are compared are on the gradient of the loss.
        approximations: names among :data:`APPROXIMATIONS`.
        damping: lambda > 0 on both sides.
        targets: from where the approximations take theirs, "model", "sampled" or "data"; the exact matrix
            always has the exact expectation.
        n_samples: per example, for "sampled".
        seed: of the sampled targets.
        progress: show a bar.

    Raises:
        ValueError: on unknown names, or what the parts refuse.
    """
    unknown = [name for name in approximations if name not in APPROXIMATIONS]
    if unknown or not approximations:
        raise ValueError(
            f"expected approximations among {', '.join(APPROXIMATIONS)}; got {unknown or 'none'}"
        )
    exact_signals = fisher.signals(net, theta, x)
    signals = exact_signals
    if targets != "model":
        rng = np.random.default_rng(seed) if targets == "sampled" else None
        labels = y if targets == "data" else None
        signals = fisher.signals(net, theta, x, labels, targets, n_samples, rng)
    with progress_bar("Fisher matrices", len(approximations) + 2, progress) as bar:
        bar.note("exact")
        F = fisher.exact(exact_signals)
        bar.advance()
        gradient = net.gradient(theta, x, y)
        matrices: dict[str, fisher.FisherMatrix] = {}

        def build(name: str) -> fisher.FisherMatrix:
            matrices[name] = APPROXIMATIONS[name][0](signals)
            return matrices[name]

        def announce(name: str) -> None:
            if matrices:
                bar.advance()
            bar.note(name)

        methods = {name: method for name in approximations if (method := APPROXIMATIONS[name][1])}
        builders = {name: lambda name=name: build(name) for name in approximations}
        comparison = quality.compare(F, builders, gradient, damping, methods, on_progress=announce)
        bar.advance("ledger")
        rows = quality.ledger(exact_signals, gradient, damping, F)
        bar.advance()
    return Study(net, theta, x, y, exact_signals, F, matrices, methods, gradient, damping, comparison, rows)
