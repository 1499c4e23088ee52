"""Krylov subspaces: an orthonormal basis of the images of a vector under powers of a matrix.

    K_m = span{ v, C M v, (C M)^2 v, ... },    v = C b, with a preconditioner C (the identity by default)

Each new direction is C M times the last basis vector, orthogonalized against all previous ones (Arnoldi).
This spans the same space as the powers, which themselves soon become parallel in floating point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..backend import Array, array_module


class Subspace(NamedTuple):
    """The result of :func:`krylov_subspace`; smaller than ``size`` if the space is invariant before."""

    basis: Array
    """V (m, n), orthonormal rows."""
    projected: Array
    """V M V^T, (m, m)."""


def krylov_subspace(
    product: Callable[[Array], Array],
    b: Array,
    size: int,
    extra: Sequence[Array] = (),
    precondition: Callable[[Array], Array] | None = None,
) -> Subspace:
    """Return a basis of the span of K_size and some extra vectors, with one product per basis vector.

    Args:
        product: v -> M v for a symmetric (n, n) matrix M.
        b: (n,), not 0.
        size: dimension, at least 1.
        extra: vectors (n,) to be added to the space.
        precondition: v -> C v for a symmetric positive definite C.

    Raises:
        ValueError: if size < 1 or b = 0.
    """
    if size < 1:
        raise ValueError(f"expected a subspace of dimension >= 1, got {size}")
    xp = array_module(b)
    most = min(size, len(b))
    V = xp.zeros((min(most + len(extra), len(b)), len(b)), dtype=b.dtype)
    T = xp.zeros((len(V), len(V)), dtype=b.dtype)
    m = 0

    def add(v: Array) -> Array | None:
        """Add the component of v orthogonal to the basis and return M times it; None if it vanishes."""
        nonlocal m
        before = float((v @ v) ** 0.5)
        for _ in range(2):  # the second pass removes rounding errors of the first
            v = v - (V[:m] @ v) @ V[:m]
        norm = float((v @ v) ** 0.5)
        if m == len(V) or not norm > float(xp.finfo(b.dtype).eps) ** 0.75 * before:
            return None
        V[m] = v / norm
        m += 1
        Mv = product(V[m - 1])
        T[m - 1, :m] = V[:m] @ Mv
        return Mv

    image: Array | None = b
    while m < most and image is not None:
        image = add(image if precondition is None else precondition(image))
    if m == 0:
        raise ValueError("expected a vector b other than 0")
    for v in extra:
        add(v)
    T = T[:m, :m]
    return Subspace(V[:m], xp.tril(T) + xp.tril(T, -1).T)
