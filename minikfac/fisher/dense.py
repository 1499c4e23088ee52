"""A symmetric (P, P) array as a curvature matrix, and its Cholesky solver."""

from __future__ import annotations

from collections.abc import Sequence

from ..backend import Array, array_module
from ..linalg import cholesky, cholesky_inverse, cholesky_solve, triangular_solve
from ..linalg import pseudo_inverse as pinv
from .damping import add_to_diagonal
from .matrix import FisherMatrix, Operator, symmetric


class DenseMatrix(FisherMatrix):
    """A symmetric (P, P) array, and the slices of its parameter layers."""

    def __init__(
        self,
        array: Array,
        names: Sequence[str] | None = None,
        slices: Sequence[slice] | None = None,
        name: str = "the matrix",
    ) -> None:
        self.array = array = symmetric(array, name)
        self.slices = tuple(slices) if slices else (slice(0, len(array)),)
        self.names = tuple(names) if names else (name,)
        self.name = name

    @property
    def like(self) -> Array:
        return self.array

    @property
    def floats(self) -> int:
        return self.array.size

    @property
    def blocks(self) -> Sequence[DenseMatrix]:
        return [
            DenseMatrix(self.array[part, part], name=f"the block of {name}")
            for part, name in zip(self.slices, self.names, strict=True)
        ]

    def _product(self, v: Array) -> Array:
        return self.array @ v

    def to_dense(self) -> Array:
        return self.array

    def diagonal(self) -> Array:
        return self.array.diagonal()

    def _scaled(self, c: float) -> DenseMatrix:
        return DenseMatrix(c * self.array, self.names, self.slices, self.name)

    def _plus(self, other: DenseMatrix) -> DenseMatrix:
        return DenseMatrix(self.array + other.array, self.names, self.slices, self.name)

    def _damped(self, lam: float, method: str | None) -> DenseMatrix:
        return DenseMatrix(add_to_diagonal(self.array, lam), self.names, self.slices, self.name)

    def _inverse(self, damping: float, method: str | None, pseudo_inverse: bool, explicit: bool) -> Operator:
        if damping == 0 and pseudo_inverse:
            return DenseMatrix(pinv(self.array, self.name), self.names, self.slices, self.name)
        L = self._cholesky(damping)
        if explicit:
            return DenseMatrix(cholesky_inverse(L), self.names, self.slices, self.name)
        return CholeskySolver(L)

    def _cholesky(self, damping: float) -> Array:
        if damping == 0:
            return cholesky(self.array, self.name)
        return cholesky(add_to_diagonal(self.array, damping), self.name, overwrite=True, damping=damping)

    def _logdet(self, damping: float, method: str | None) -> float:
        return CholeskySolver(self._cholesky(damping)).logdet()


class CholeskySolver(Operator):
    """M^{-1} by the Cholesky factor L of M = L L^T."""

    def __init__(self, L: Array) -> None:
        self.L = L

    @property
    def like(self) -> Array:
        return self.L

    def _product(self, v: Array) -> Array:
        return cholesky_solve(self.L, v)

    def to_dense(self) -> Array:
        return cholesky_inverse(self.L)

    def root_product(self, v: Array) -> Array:
        return triangular_solve(self.L, v, transposed=True)

    def logdet(self) -> float:
        """log det M = 2 sum log L_ii."""
        return 2 * float(array_module(self.L).log(self.L.diagonal()).sum())
