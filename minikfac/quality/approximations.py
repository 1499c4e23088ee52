"""The approximations to compare, by name: their construction, applicability and damping."""

from __future__ import annotations

from collections.abc import Callable

from .. import fisher

Build = Callable[[fisher.Signals], fisher.FisherMatrix]


class NoCurvature(fisher.BlockDiagonal):
    """Zero, which with damping is a multiple of the identity and gives a plain gradient step."""

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
"""Functions that build each approximation from signals, and damping methods other than the default."""

_CHAINS, _SHARED = ("block-tridiagonal",), ("KFAC-reduce", "T x KFC")
"""Approximations only for chains of dense layers, and those equal to K-FAC without shared weights."""
_PATIENT = 1000
"""Number of parameters above which low rank is slow for shared weights, as it visits all locations."""


_DENSE = ("block-diagonal", "nearest Kronecker", "low rank")
"""Approximations that need dense blocks, many passes or hundreds of numbers per parameter."""


def applicable(signals: fisher.Signals, large: bool = False) -> tuple[str, ...]:
    """Names of the approximations that are defined for these layers, distinct and fast.

    Args:
        signals: the net's signals.
        large: omit approximations that need dense blocks or similar amounts of memory.
    """
    shared = any(layer.abar.shape[1] > 1 and not layer.scale_and_shift for layer in next(iter(signals)))
    left_out = (() if signals.dense_chain else _CHAINS) + (() if shared else _SHARED)
    left_out += _DENSE if large else ()
    left_out += ("low rank",) if shared and signals.slices[-1].stop > _PATIENT else ()
    return tuple(name for name in APPROXIMATIONS if name not in left_out)
