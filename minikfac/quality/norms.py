"""Frobenius products and spectral norms of large matrices, without copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..backend import Array, array_module, to_host
from ..linalg import extreme_eigenpairs

Product = Callable[[Array], Array]
"""v -> M v."""

_STRIP = 256
"""Rows of large matrices compared at a time, which avoids a third matrix."""


def inner(A: Array, B: Array) -> float:
    """<A, B>, the sum of the products of entries."""
    return float(array_module(A).einsum("ij,ij->", A, B))


def square_distance(A: Array, B: Array) -> float:
    """||A - B||_F^2, strip by strip."""
    total = 0.0
    for start in range(0, len(A), _STRIP):
        difference = A[start : start + _STRIP] - B[start : start + _STRIP]
        total += inner(difference, difference)
    return total


def square_between(A: Array, slices: Sequence[slice]) -> float:
    """||.||_F^2 of all off-diagonal blocks of a symmetric matrix."""
    return 2 * sum(inner(A[a, b], A[a, b]) for number, a in enumerate(slices) for b in slices[:number])


def times(A: Array) -> Product:
    """v -> A v."""
    return lambda v: A @ v


def spectral_norm(product: Product, like: Array, other: Product | None = None) -> float:
    """Largest eigenvalue in magnitude of a symmetric matrix, or of the difference of two, to 0.1 %."""
    xp = array_module(like)
    v = xp.random.default_rng(1).standard_normal(len(like)).astype(like.dtype)
    Mv = product(v)
    difference = Mv if other is None else Mv - other(v)
    rounding = 100 * float(xp.finfo(like.dtype).eps) * float((Mv @ Mv) ** 0.5)
    if float((difference @ difference) ** 0.5) <= (0.0 if other is None else rounding):
        return 0.0  # Lanczos would start from zero or iterate on rounding errors
    values = extreme_eigenpairs(
        product if other is None else (lambda v: product(v) - other(v)), like, 1, "LM", 1e-3
    )[0]
    return abs(float(to_host(values)[-1]))


def ratio(a: float, b: float) -> float:
    """a / b; nan if b is 0, as for the block of a layer of dead units."""
    return a / b if b != 0 else math.nan
