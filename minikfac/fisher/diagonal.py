"""The diagonal of the Fisher matrix: the mean square of each entry of the per-example gradient.

    F_pp = E[ (d log p / d theta_p)^2 ]

It rescales axes but cannot rotate them. The square of a mini-batch's mean gradient is a different quantity.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..backend import Array, array_module, on_host
from ..linalg import SingularMatrixError
from .block_diagonal import BlockDiagonal
from .matrix import FisherMatrix, not_negative
from .signals import LayerSignals, Signals


def _squared_gradients(layer: LayerSignals, n: int) -> tuple[Array]:
    """Sum over examples and terms of DW^2 / n, (I O,)."""
    if layer.abar.shape[1] == 1 and not layer.scale_and_shift:
        return (((layer.abar[:, 0] ** 2).T @ (layer.g[:, :, 0] ** 2).sum(0)).reshape(-1) / n,)
    return (sum((piece.gradients() ** 2).sum((0, 1)) for piece in layer.pieces()) / n,)


def diagonal(signals: Signals) -> BlockDiagonal:
    """Diagonal Fisher matrix, with one diagonal block per layer."""
    means = signals.total(_squared_gradients)
    return BlockDiagonal([DiagonalBlock(d, name) for (d,), name in zip(means, signals.names, strict=True)])


@dataclass(frozen=True, eq=False, repr=False)
class DiagonalBlock(FisherMatrix):
    """diag(d), d (P,)."""

    d: Array
    name: str = "layer"

    def __post_init__(self) -> None:
        d = not_negative(self.d, f"entries on the diagonal of {self.name}")
        if d.ndim != 1:
            raise ValueError(f"expected the diagonal (P,) of {self.name}, got shape {d.shape}")
        object.__setattr__(self, "d", d)

    @property
    def like(self) -> Array:
        return self.d

    @property
    def floats(self) -> int:
        return self.d.size

    def _product(self, v: Array) -> Array:
        return self.d.reshape((-1,) + (1,) * (v.ndim - 1)) * v

    def root_product(self, v: Array) -> Array:
        return DiagonalBlock(self.d**0.5, self.name)._product(v)

    def diagonal(self) -> Array:
        return self.d

    def eigenvalues(self) -> Array:
        return array_module(self.d).sort(self.d)

    def norm(self) -> float:
        return float(self.d @ self.d) ** 0.5

    def _scaled(self, c: float) -> DiagonalBlock:
        return DiagonalBlock(c * self.d, self.name)

    def _plus(self, other: DiagonalBlock) -> DiagonalBlock:
        return DiagonalBlock(self.d + other.d, self.name)

    def _damped(self, lam: float, method: str | None) -> DiagonalBlock:
        return DiagonalBlock(self.d + lam, self.name)

    def _inverse(
        self, damping: float, method: str | None, pseudo_inverse: bool, explicit: bool
    ) -> DiagonalBlock:
        d, xp = self.d + damping, array_module(self.d)
        keep = d >= xp.finfo(d.dtype).tiny
        if damping > 0 and not on_host(d):  # a check would stall the queue
            return DiagonalBlock(xp.where(keep, 1 / d, xp.nan), self.name)
        if not pseudo_inverse and not bool(keep.all()):
            raise SingularMatrixError(
                f"expected a positive definite matrix, but the diagonal of {self.name} has "
                f"{int((~keep).sum())} zeros among {len(d)}; add damping"
            )
        return DiagonalBlock(xp.where(keep, 1 / xp.where(keep, d, 1), 0), self.name)

    def _logdet(self, damping: float, method: str | None) -> float:
        return -float(array_module(self.d).log(self._inverse(damping, None, False, False).d).sum())
