"""A block that is diagonal in a Kronecker basis: (U_A (x) U_G) diag(s) (U_A (x) U_G)^T.

K-FAC with exact damping has this form, and so has EKFAC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..backend import Array, array_module, on_host
from ..linalg import SingularMatrixError, kron_apply, kron_eigen_dense
from .matrix import FisherMatrix


@dataclass(frozen=True, eq=False, repr=False)
class EigenBlock(FisherMatrix):
    """Orthonormal U_A (I, I), U_G (O, O) and eigenvalues s (I, O)."""

    U_A: Array
    U_G: Array
    s: Array
    name: str = "layer"
    damping_methods: ClassVar[tuple[str, ...]] = ("eigen",)

    @property
    def shape(self) -> tuple[int, int]:
        return (self.s.size, self.s.size)

    @property
    def like(self) -> Array:
        return self.s

    @property
    def floats(self) -> int:
        return self.U_A.size + self.U_G.size + self.s.size

    def _product(self, v: Array) -> Array:
        rotated = kron_apply(self.U_A.T, self.U_G.T, v)
        scaled = self.s.reshape((-1,) + (1,) * (v.ndim - 1)) * rotated
        return kron_apply(self.U_A, self.U_G, scaled)

    def to_dense(self) -> Array:
        return kron_eigen_dense(self.U_A, self.U_G, self.s)

    def diagonal(self) -> Array:
        return (self.U_A**2 @ self.s @ (self.U_G**2).T).reshape(-1)

    def trace(self) -> float:
        return float(self.s.sum())

    def _damped(self, lam: float, method: str | None) -> EigenBlock:
        return replace(self, s=self.s + lam)

    def _inverse(
        self, damping: float, method: str | None, pseudo_inverse: bool, explicit: bool
    ) -> EigenBlock:
        s = self.s + damping
        xp = array_module(s)
        # an eigenvalue is no better known than the factors' are; beside lambda none needs to be
        keep = s > (0 if damping > 0 else max(s.shape) * float(xp.finfo(s.dtype).eps) * s.max())
        if damping > 0 and not on_host(s):  # the answer would hold up the queue
            return replace(self, s=xp.where(keep, 1 / s, xp.nan))
        if not pseudo_inverse and not bool(keep.all()):
            raise SingularMatrixError(
                f"expected a positive definite matrix, but the block of {self.name} has numerical rank "
                f"{int(keep.sum())} of {s.size}; use damping > 0, or pseudo_inverse=True"
            )
        return replace(self, s=xp.where(keep, 1 / xp.where(keep, s, 1), 0))

    def _logdet(self, damping: float, method: str | None) -> float:
        return -float(array_module(self.s).log(self._inverse(damping, None, False, False).s).sum())
