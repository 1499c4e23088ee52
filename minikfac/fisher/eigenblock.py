"""A block that is diagonal in a Kronecker basis: (U_A (x) U_G) diag(s) (U_A (x) U_G)^T.

Exactly damped K-FAC and EKFAC have this form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..backend import Array, array_module, on_host
from ..linalg import SingularMatrixError, kron_apply, kron_eigen_dense
from ..linalg.psd import ill_conditioned, resolution
from .matrix import FisherMatrix, not_negative


@dataclass(frozen=True, eq=False, repr=False)
class EigenBlock(FisherMatrix):
    """Orthonormal U_A (I, I), U_G (O, O) and eigenvalues s (I, O)."""

    U_A: Array
    U_G: Array
    s: Array
    name: str = "layer"
    damping_methods: ClassVar[tuple[str, ...]] = ("eigen",)

    def __post_init__(self) -> None:
        s = not_negative(self.s, f"eigenvalues of {self.name}")
        shapes = self.U_A.shape, self.U_G.shape
        if s.ndim != 2 or shapes != tuple((n, n) for n in s.shape):
            got = f"{shapes[0]}, {shapes[1]} and {s.shape}"
            raise ValueError(f"expected U_A (I, I), U_G (O, O) and s (I, O) of {self.name}, got {got}")
        object.__setattr__(self, "s", s)

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
        return self._from_basis(self.s, kron_apply(self.U_A.T, self.U_G.T, v))

    def root_product(self, v: Array) -> Array:
        return self._from_basis(self.s**0.5, v)

    def _from_basis(self, scale: Array, v: Array) -> Array:
        return kron_apply(self.U_A, self.U_G, scale.reshape((-1,) + (1,) * (v.ndim - 1)) * v)

    def to_dense(self) -> Array:
        return kron_eigen_dense(self.U_A, self.U_G, self.s)

    def diagonal(self) -> Array:
        return (self.U_A**2 @ self.s @ (self.U_G**2).T).reshape(-1)

    def trace(self) -> float:
        return float(self.s.sum())

    def eigenvalues(self) -> Array:
        return array_module(self.s).sort(self.s.reshape(-1))

    def norm(self) -> float:
        return float((self.s**2).sum()) ** 0.5

    def _scaled(self, c: float) -> EigenBlock:
        return replace(self, s=c * self.s)

    def _damped(self, lam: float, method: str | None) -> EigenBlock:
        return replace(self, s=self.s + lam)

    def _inverse(
        self, damping: float, method: str | None, pseudo_inverse: bool, explicit: bool
    ) -> EigenBlock:
        if damping > 0:
            return self._damped_inverse(damping)
        s, xp = self.s, array_module(self.s)
        # eigenvalues are no more accurate than those of the factors
        keep = s > xp.maximum(max(10, *s.shape) * xp.finfo(s.dtype).eps * s.max(), xp.finfo(s.dtype).tiny)
        if not pseudo_inverse and not bool(keep.all()):
            raise SingularMatrixError(
                f"expected a positive definite matrix, but the block of {self.name} has numerical rank "
                f"{int(keep.sum())} of {s.size}; add damping"
            )
        return replace(self, s=xp.where(keep, 1 / xp.where(keep, s, 1), 0))

    def _damped_inverse(self, damping: float) -> EigenBlock:
        damped, limit = self._damped(damping, None), resolution(self.s)
        s, xp = damped.s, array_module(self.s)
        smallest = s.min()
        if on_host(s) and smallest > limit * s.max():  # s.max() is at least the largest diagonal entry
            return replace(self, s=1 / s)
        largest = damped.diagonal().max()
        if not on_host(s):  # a check would stall the queue
            return replace(self, s=xp.where(smallest > limit * largest, 1 / s, xp.nan))
        if not smallest > limit * largest:
            condition = float(largest) / float(smallest)
            raise ill_conditioned(f"the block of {self.name}", s, condition, damping)
        return replace(self, s=1 / s)

    def _logdet(self, damping: float, method: str | None) -> float:
        return -float(array_module(self.s).log(self._inverse(damping, None, False, False).s).sum())
