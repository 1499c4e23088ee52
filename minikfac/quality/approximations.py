"""The approximations that are compared, by name: how each is built, where it exists, and how it is damped."""

from __future__ import annotations

from collections.abc import Callable

from .. import fisher

Build = Callable[[fisher.Signals], fisher.FisherMatrix]


class NoCurvature(fisher.BlockDiagonal):
    """Zero: with damping a multiple of the identity, so that its step is the plain gradient's."""

    @property
    def floats(self) -> int:
        return 0


def no_curvature(signals: fisher.Signals) -> NoCurvature:
    """The baseline that every approximation should beat."""
    blocks = zip(fisher.diagonal(signals).blocks, signals.names, strict=True)
    return NoCurvature([fisher.DiagonalBlock(0 * block.diagonal(), name) for block, name in blocks])


APPROXIMATIONS: dict[str, tuple[Build, str | None]] = {
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
"""What exists for chains of dense layers only, and what equals K-FAC where no weights are shared."""
_PATIENT = 1000
"""Parameters above which low rank takes long where weights are shared: it passes through all locations."""


_DENSE = ("block-diagonal", "nearest Kronecker", "low rank")
"""What takes dense blocks, many passes or hundreds of numbers for each parameter."""


def applicable(signals: fisher.Signals, large: bool = False) -> tuple[str, ...]:
    """Names of the approximations that exist for these layers, differ from each other and are quick.

    Args:
        signals: of the net.
        large: leave out what takes dense blocks of layers, or as much memory.
    """
    shared = any(layer.abar.shape[1] > 1 and not layer.scale_and_shift for layer in next(iter(signals)))
    left_out = (() if signals.dense_chain else _CHAINS) + (() if shared else _SHARED)
    left_out += _DENSE if large else ()
    left_out += ("low rank",) if shared and signals.slices[-1].stop > _PATIENT else ()
    return tuple(name for name in APPROXIMATIONS if name not in left_out)
