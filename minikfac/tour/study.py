"""The study of a net's Fisher matrix: every approximation built, measured, and kept for the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import fisher, quality
from ..backend import Array, array_module, on_host
from ..network import Network
from ..parallel import one_thread, workers
from ..training.progress import progress_bar


class NoCurvature(fisher.BlockDiagonal):
    """Zero: with damping a multiple of the identity, so that its step is the plain gradient's."""

    @property
    def floats(self) -> int:
        return 0


def no_curvature(signals: fisher.Signals) -> NoCurvature:
    """The baseline that every approximation should beat."""
    return NoCurvature(
        [
            fisher.DiagonalBlock(0 * block.diagonal(), name)
            for block, name in zip(fisher.diagonal(signals).blocks, signals.names, strict=True)
        ]
    )


APPROXIMATIONS: dict[str, tuple[Callable[[fisher.Signals], fisher.FisherMatrix], str | None]] = {
    "block-diagonal": (fisher.block_diagonal, None),
    "K-FAC": (fisher.kfac, None),
    "K-FAC (factored damping)": (fisher.kfac, "factored"),
    "block-tridiagonal": (fisher.block_tridiagonal, None),
    "EKFAC": (fisher.ekfac, None),
    "nearest Kronecker": (fisher.nearest_kronecker, None),
    "diagonal": (fisher.diagonal, None),
    "KFAC-reduce": (lambda signals: fisher.kfac(signals, reduce=True), None),
    "T x KFC": (fisher.fully_correlated, None),
    "low rank": (lambda signals: fisher.low_rank(signals, min(100, signals.slices[-1].stop)), None),
    "no curvature": (no_curvature, None),
}
"""By name: how it is built from signals, and how it is damped where not by its default."""

_CHAINS, _SHARED = ("block-tridiagonal",), ("KFAC-reduce", "T x KFC")
"""What exists for chains of dense layers only, and what is K-FAC again where no weights are shared."""
_PATIENT = 1000
"""Parameters above which low rank takes long where weights are shared: it passes through all locations."""


def applicable(signals: fisher.Signals) -> tuple[str, ...]:
    """Names of the approximations that exist for these layers, differ from each other and are quick."""
    shared = any(layer.abar.shape[1] > 1 and not layer.scale_and_shift for layer in next(iter(signals)))
    left_out = (() if signals.dense_chain else _CHAINS) + (() if shared else _SHARED)
    left_out += ("low rank",) if shared and signals.slices[-1].stop > _PATIENT else ()
    return tuple(name for name in APPROXIMATIONS if name not in left_out)


QUICK = 5000
"""Up to this many parameters every measure is quick."""
_SLOW = ("spectrum",)
"""Measures that are left out above."""


@dataclass(frozen=True)
class Study:
    """What :func:`fisher_study` found.

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
        left_out: measures that were not computed, because that would take long and nobody asked for them.
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
        approximations: names among :data:`APPROXIMATIONS`; those of :func:`applicable` by default.
        damping: lambda > 0 on both sides.
        targets: from where the approximations take theirs, "model", "sampled" or "data"; the exact matrix
            always has the exact expectation.
        n_samples: per example, for "sampled".
        seed: of the sampled targets.
        progress: show a bar.
        layers: restrict the study to these parameter layers, by index or name; all by default.
        measures: names among :data:`minikfac.quality.MEASURES`; by default all of them up to 5,000
            parameters, and without the slowest above.

    Raises:
        ValueError: on unknown names, or what the parts refuse.
    """
    unknown = [name for name in approximations or () if name not in APPROXIMATIONS]
    if unknown or (approximations is not None and not approximations):
        raise ValueError(
            f"expected approximations among {', '.join(APPROXIMATIONS)}; got {unknown or 'none'}"
        )
    chosen = list(range(len(net.names))) if layers is None else _positions(net, layers)
    exact_signals = fisher.signals(net, theta, x).select(chosen)
    approximations = applicable(exact_signals) if approximations is None else approximations
    signals = exact_signals
    if targets != "model":
        rng = np.random.default_rng(seed) if targets == "sampled" else None
        labels = y if targets == "data" else None
        signals = fisher.signals(net, theta, x, labels, targets, n_samples, rng).select(chosen)
    with progress_bar("Fisher matrices", len(approximations) + 2, progress) as bar:
        bar.note("exact")
        F = fisher.exact(exact_signals)
        bar.advance()
        whole = net.gradient(theta, x, y)
        gradient = array_module(whole).concatenate([whole[net.slices[layer]] for layer in chosen])
        matrices: dict[str, fisher.FisherMatrix] = {}

        def build(name: str) -> fisher.FisherMatrix:
            matrices[name] = APPROXIMATIONS[name][0](signals)
            return matrices[name]

        started: list[str] = []

        def announce(name: str) -> None:
            if started:
                bar.advance()
            started.append(name)
            bar.note(name)

        methods = {name: method for name in approximations if (method := APPROXIMATIONS[name][1])}
        builders = {name: lambda name=name: build(name) for name in approximations}
        left_out = () if measures or F.shape[0] <= QUICK else _SLOW
        wanted = measures or [name for name in quality.MEASURES if name not in left_out]
        asked = list(dict.fromkeys(["matrix", "step", *wanted]))  # both are quick, and the report needs them
        # products with F by a pass forward and back, where these are quicker than those with the dense matrix
        quick = fisher.product(net, theta, x).__matmul__ if layers is None and F.shape[0] > QUICK else None
        with one_thread():
            reference = quality.Reference.of(F, gradient, damping, quick)
            comparison = quality.compare(
                F,
                builders,
                gradient,
                damping,
                methods,
                on_progress=announce,
                measures=asked,
                reference=reference,
                workers=workers(4 if F.shape[0] <= QUICK else 2) if on_host(theta) else 1,
            )
            matrices = {name: matrices[name] for name in approximations}  # threads keep no order
            bar.advance("ledger")
            blocks = matrices.get("block-diagonal") if targets == "model" else None
            rows = quality.ledger(exact_signals, gradient, damping, F, reference, blocks)
        bar.advance()
    return Study(
        net, theta, x, y, exact_signals, F, matrices, methods, gradient, damping, comparison, rows, left_out
    )


def _positions(net: Network, layers: Sequence[int | str]) -> list[int]:
    """Indices of layers given by index or name, in the order of the net."""
    known = ", ".join(net.names)
    found = set()
    for layer in layers:
        if isinstance(layer, str) and layer in net.names:
            found.add(net.names.index(layer))
        elif not isinstance(layer, str) and 0 <= layer < len(net.names):
            found.add(layer)
        else:
            raise ValueError(f"expected layers among {known}, or 0 to {len(net.names) - 1}, got {layer!r}")
    if not found:
        raise ValueError(f"expected at least one layer among {known}, got none")
    return sorted(found)
