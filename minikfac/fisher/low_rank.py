"""Low rank: keep the leading eigenvectors of the Fisher matrix and drop the rest.

    F ~ B B^T,    B (P, r) = eigenvectors scaled by the roots of their eigenvalues

With damping, (B B^T + lambda I)^{-1} = (I - B (lambda I + B^T B)^{-1} B^T) / lambda, so only an r x r matrix
is inverted. The inverse multiplies directions outside the span by 1 / lambda. Layers are not separated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..backend import Array, all_finite, array_module, on_host, real_array, whole_number
from ..linalg import SingularMatrixError, cholesky, eigh, extreme_eigenpairs, triangular_solve
from ..linalg.psd import ill_conditioned, resolution
from .exact import exact
from .matrix import FisherMatrix, Operator
from .signals import LayerSignals, Signals

_DENSE = 1000
"""Most parameters for which the eigenvectors are those of the exact dense matrix."""


def low_rank(signals: Signals, rank: int) -> LowRank:
    """The rank-r matrix nearest to the exact Fisher matrix.

    Computed by Lanczos iteration, using products with per-example gradients that are never formed.

    Args:
        signals: from :func:`minikfac.fisher.signals`.
        rank: r, from 1 to P.

    Raises:
        ValueError: on a rank out of range.
    """
    slices = signals.slices
    size = slices[-1].stop
    rank = whole_number(rank, "rank")
    if rank > size:
        raise ValueError(f"expected a rank from 1 to {size}, got {rank}")
    like = next(iter(signals))[0].abar
    if size <= _DENSE or rank > size // 2:
        values, vectors = eigh(exact(signals).array)
        values, vectors = values[-rank:], vectors[:, -rank:]
    else:
        xp = array_module(like)
        values, vectors = extreme_eigenpairs(
            lambda v: _product(signals, v), xp.empty(size, dtype=like.dtype), k=rank
        )
        values = xp.maximum(values, 0)
    return LowRank(vectors * values**0.5, signals.names, slices)


def _product(signals: Signals, v: Array) -> Array:
    """F v = E[ D (D^T v) ] for v (P,)."""
    xp = array_module(v)
    Vs = [v[part].reshape(shape) for part, shape in zip(signals.slices, signals.shapes, strict=True)]

    def contribution(chunk: list[LayerSignals], n: int) -> list[tuple[Array]]:
        along = sum(
            (layer.along(V) for layer, V in zip(chunk, Vs, strict=True)),
            start=xp.zeros((), dtype=v.dtype),
        )  # (K, N): inner products of gradients with v
        return [(layer.summed_gradients(along) / n,) for layer in chunk]

    return xp.concatenate([DW.reshape(-1) for (DW,) in signals.total_of_chunks(contribution)])


@dataclass(frozen=True, eq=False, repr=False)
class LowRank(FisherMatrix):
    """ridge I + sign B B^T, with B (P, r); sign is -1 in the inverse of such a matrix."""

    B: Array
    names: tuple[str, ...] = ()
    slices: tuple[slice, ...] = ()
    ridge: float = 0.0
    sign: int = 1
    name: str = "the low-rank matrix"

    def __post_init__(self) -> None:
        B = real_array(self.B, f"B of {self.name}")
        if B.ndim != 2:
            raise ValueError(f"expected an array (P, r) for B of {self.name}, got shape {B.shape}")
        if on_host(B) and not all_finite((B**2).sum(1)):
            raise ValueError(f"expected finite entries of B B^T in {self.name}, got NaN or infinity")
        object.__setattr__(self, "B", B)

    @property
    def like(self) -> Array:
        return self.B

    @property
    def floats(self) -> int:
        return self.B.size

    @property
    def blocks(self) -> Sequence[LowRank]:
        if not self.slices:
            return [self]
        return [
            replace(self, B=self.B[part], names=(), slices=(), name=f"the low-rank block of {name}")
            for part, name in zip(self.slices, self.names, strict=True)
        ]

    def _product(self, v: Array) -> Array:
        return self.ridge * v + self.sign * (self.B @ (self.B.T @ v))

    def to_dense(self) -> Array:
        dense = self.sign * (self.B @ self.B.T)
        dense.reshape(-1)[:: len(dense) + 1] += self.ridge
        return dense

    def diagonal(self) -> Array:
        return self.ridge + self.sign * (self.B**2).sum(1)

    def norm(self) -> float:
        small = self.sign * (self.B.T @ self.B)
        squares = len(self.B) * self.ridge**2 + 2 * self.ridge * float(small.trace())
        return (squares + float((small**2).sum())) ** 0.5

    def _scaled(self, c: float) -> LowRank:
        return replace(self, B=c**0.5 * self.B, ridge=c * self.ridge)

    def _damped(self, lam: float, method: str | None) -> LowRank:
        return replace(self, ridge=self.ridge + lam)

    def _inverse(self, damping: float, method: str | None, pseudo_inverse: bool, explicit: bool) -> Operator:
        ridge = self.ridge + damping
        if ridge == 0 and pseudo_inverse:  # B (B^T B)^{-2} B^T, on the range of B
            s, U = eigh(self.B.T @ self.B)
            keep = s > len(self.B) * float(array_module(s).finfo(s.dtype).eps) * s.max()
            return replace(self, B=self.B @ (U[:, keep] / s[keep]))
        if ridge == 0:
            raise SingularMatrixError(
                f"expected a positive definite matrix, but {self.name} ({self.shape[0]} x {self.shape[0]}) "
                f"has rank {self.B.shape[1]} at most; add damping"
            )
        largest = float(self.diagonal().max()) + damping
        if self.sign > 0 and not ridge > resolution(self.B) * largest:
            raise ill_conditioned(self.name, self.B, largest / ridge, ridge)
        L = self._small_cholesky(ridge)
        C = triangular_solve(L, self.B.T).T / ridge**0.5
        return replace(self, B=C, ridge=1 / ridge, sign=-self.sign)

    def _small_cholesky(self, ridge: float) -> Array:
        small = self.sign * (self.B.T @ self.B)
        small.reshape(-1)[:: len(small) + 1] += ridge
        return cholesky(small, self.name, damping=ridge)

    def _logdet(self, damping: float, method: str | None) -> float:
        """Use the determinant lemma: (P - r) log ridge + log det(ridge I + B^T B)."""
        ridge = self.ridge + damping
        if ridge == 0:
            self.inverse()  # raises
        size, r = self.B.shape
        L = self._small_cholesky(ridge)
        return (size - r) * math.log(ridge) + 2 * float(array_module(L).log(L.diagonal()).sum())
