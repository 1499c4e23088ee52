"""The approximations that are compared, by name: how each is built, where it exists, and how it is damped."""

from __future__ import annotations

from collections.abc import Callable

from ..fisher import (
    BlockDiagonal,
    DiagonalBlock,
    FisherMatrix,
    Signals,
    block_diagonal,
    block_tridiagonal,
    diagonal,
    ekfac,
    fully_correlated,
    kfac,
    low_rank,
    nearest_kronecker,
)

Build = Callable[[Signals], FisherMatrix]


class NoCurvature(BlockDiagonal):
    """Zero: with damping a multiple of the identity, so that its step is the plain gradient's."""

    @property
    def floats(self) -> int:
        return 0


def no_curvature(signals: Signals) -> NoCurvature:
    """The baseline that every approximation should beat."""
    blocks = zip(diagonal(signals).blocks, signals.names, strict=True)
    return NoCurvature([DiagonalBlock(0 * block.diagonal(), name) for block, name in blocks])


APPROXIMATIONS: dict[str, tuple[Build, str | None]] = {
    "block-diagonal": (block_diagonal, None),
    "K-FAC": (kfac, None),
    "K-FAC (factored damping)": (kfac, "factored"),
    "block-tridiagonal": (block_tridiagonal, None),
    "EKFAC": (ekfac, None),
    "nearest Kronecker": (nearest_kronecker, None),
    "diagonal": (diagonal, None),
    "KFAC-reduce": (lambda signals: kfac(signals, reduce=True), None),
    "T x KFC": (fully_correlated, None),
    "low rank": (lambda signals: low_rank(signals, min(100, signals.slices[-1].stop)), None),
    "no curvature": (no_curvature, None),
}
"""By name: how it is built from signals, and how it is damped where not by its default."""

_CHAINS, _SHARED = ("block-tridiagonal",), ("KFAC-reduce", "T x KFC")
"""What exists for chains of dense layers only, and what equals K-FAC where no weights are shared."""
_PATIENT = 1000
"""Parameters above which low rank takes long where weights are shared: it passes through all locations."""


def applicable(signals: Signals) -> tuple[str, ...]:
    """Names of the approximations that exist for these layers, differ from each other and are quick."""
    shared = any(layer.abar.shape[1] > 1 and not layer.scale_and_shift for layer in next(iter(signals)))
    left_out = (() if signals.dense_chain else _CHAINS) + (() if shared else _SHARED)
    left_out += ("low rank",) if shared and signals.slices[-1].stop > _PATIENT else ()
    return tuple(name for name in APPROXIMATIONS if name not in left_out)
