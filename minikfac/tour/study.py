"""The study of a net's Fisher matrix: every approximation is built, measured, and kept for the figures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import fisher, quality
from ..backend import Array, array_module
from ..network import Network
from ..parallel import one_thread
from ..quality import APPROXIMATIONS, applicable
from ..training.progress import Bar, progress_bar

QUICK = 5000
"""Up to this many parameters every measure is quick."""
_SLOW = ("spectrum",)
"""Measures that are left out above."""


@dataclass(frozen=True)
class Study:
    """A net's Fisher matrix, its approximations, and how good they are.

    Attributes:
        net, theta, x, y: what was studied; x is the batch of the expectation.
        signals: of that batch, of the layers that were studied.
        F: the exact Fisher matrix.
        matrices: the approximations by name.
        methods: how some are damped.
        gradient: of the loss on the batch by the parameters of these layers (P,).
        damping: lambda.
        comparison: the quality table.
        ledger: rows of the assumption ledger.
        left_out: measures that were not computed, because they take long and were not named.
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
    left_out: tuple[str, ...] = ()


def fisher_study(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    approximations: Sequence[str] | None = None,
    damping: float = 1e-2,
    targets: str = "model",
    n_samples: int = 1,
    seed: int = 0,
    progress: bool = True,
    layers: Sequence[int | str] | None = None,
    measures: Sequence[str] | None = None,
) -> Study:
    """Build the exact Fisher matrix and approximations of it, and measure how good each one is.

    Args:
        net: the network.
        theta: (P,).
        x: inputs (N, features) or images (N, H, W, C): the batch over which everything is a mean.
        y: targets; the steps that are compared are on the gradient of the loss.
        approximations: names among :data:`APPROXIMATIONS`; those of :func:`.applicable` by default.
        damping: lambda > 0 on both sides.
        targets: from where the approximations take theirs, "model", "sampled" or "data"; the exact matrix
            always has the exact expectation.
        n_samples: per example, for "sampled".
        seed: of the sampled targets.
        progress: show a bar.
        layers: restrict the study to these parameter layers, by index or name; all by default.
        measures: names among :data:`minikfac.quality.MEASURES`; by default all that are quick at this size.

    Raises:
        ValueError: on unknown names, or what the parts refuse.
    """
    chosen = positions(net, layers)
    exact_signals = signals = fisher.signals(net, theta, x).select(chosen)
    if targets != "model":
        rng = np.random.default_rng(seed) if targets == "sampled" else None
        labels = y if targets == "data" else None
        signals = fisher.signals(net, theta, x, labels, targets, n_samples, rng).select(chosen)
    names = applicable(exact_signals) if approximations is None else _checked(approximations)
    methods = {name: method for name in names if (method := APPROXIMATIONS[name][1])}
    with progress_bar("Fisher matrices", 2 * len(names) + 2, progress) as bar:
        bar.note("exact")
        F = fisher.exact(exact_signals)
        with one_thread(F.shape[0] <= QUICK):  # which is faster for products of small matrices
            matrices, seconds = _build(signals, names, bar)
            reference = _reference(net, theta, x, y, F, chosen, damping)
            gradient = reference.gradient
            columns, left_out = _measures(measures, F.shape[0])
            comparison = quality.compare(
                F, matrices, gradient, damping, methods, columns, reference, seconds, bar.advance
            )
            bar.advance("ledger")
            built = matrices if targets == "model" else None
            rows = quality.ledger(exact_signals, gradient, damping, reference=reference, built=built)
        bar.advance()
    return Study(
        net, theta, x, y, exact_signals, F, matrices, methods, gradient, damping, comparison, rows, left_out
    )


def _reference(
    net: Network, theta: Array, x: Array, y: Array, F: fisher.DenseMatrix, layers: list[int], damping: float
) -> quality.Reference:
    """The exact side of the comparison, on the gradient by the parameters of these layers."""
    whole = net.gradient(theta, x, y)
    gradient = array_module(whole).concatenate([whole[net.slices[layer]] for layer in layers])
    # where F is large and of all layers, a pass forward and back is quicker than a product with it
    quick = QUICK < F.shape[0] == net.n_params
    product = fisher.product(net, theta, x).__matmul__ if quick else None
    return quality.Reference.of(F, gradient, damping, product)


def _build(
    signals: fisher.Signals, names: Sequence[str], bar: Bar
) -> tuple[dict[str, fisher.FisherMatrix], dict[str, float]]:
    """Build and time approximations; names that differ in their damping alone share one matrix."""
    built: dict[Any, tuple[fisher.FisherMatrix, float]] = {}
    for name in names:
        bar.advance(f"building {name}")
        build, started = APPROXIMATIONS[name][0], time.perf_counter()
        if build not in built:
            built[build] = build(signals), time.perf_counter() - started
    each = {name: built[APPROXIMATIONS[name][0]] for name in names}
    return {name: matrix for name, (matrix, _) in each.items()}, {name: s for name, (_, s) in each.items()}


def _measures(measures: Sequence[str] | None, size: int) -> tuple[list[str], tuple[str, ...]]:
    """What to compute for so many parameters, and what is left out unless it is named."""
    left_out = () if measures or size <= QUICK else _SLOW
    chosen = measures or [name for name in quality.MEASURES if name not in left_out]
    return list(dict.fromkeys(["matrix", "step", *chosen])), left_out  # the report needs these two


def _checked(names: Sequence[str]) -> Sequence[str]:
    unknown = [name for name in names if name not in APPROXIMATIONS]
    if unknown or not names:
        raise ValueError(
            f"expected approximations among {', '.join(APPROXIMATIONS)}; got {unknown or 'none'}"
        )
    return names


def positions(net: Network, layers: Sequence[int | str] | None) -> list[int]:
    """Indices of layers given by index or name, in the order of the net; all by default."""
    names = ", ".join(net.names)
    chosen = set(range(len(net.names))) if layers is None else set[int]()
    for layer in layers or ():
        if isinstance(layer, str) and layer in net.names:
            chosen.add(net.names.index(layer))
        elif not isinstance(layer, str) and 0 <= layer < len(net.names):
            chosen.add(layer)
        else:
            raise ValueError(f"expected layers among {names}, or 0 to {len(net.names) - 1}, got {layer!r}")
    if not chosen:
        raise ValueError(f"expected at least one layer among {names}, got none")
    return sorted(chosen)
