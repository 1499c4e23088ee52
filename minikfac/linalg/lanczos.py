"""Extreme eigenvalues of large symmetric matrices by Lanczos iteration (SciPy's or CuPy's ``eigsh``)."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import scipy.sparse.linalg

from ..backend import Array, array_module, on_host


def extreme_eigenpairs(
    product: Callable[[Array], Array],
    like: Array,
    k: int = 1,
    which: str = "LA",
    tolerance: float = 0.0,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Return k eigenvalues (k,), ascending, and their eigenvectors (n, k) in columns.

    Args:
        product: v -> M v for a symmetric (n, n) matrix M.
        like: (n,), an array with the dtype and device to use.
        k: number of eigenvalues, from 1 to n.
        which: "LA" for the largest, "SA" for the smallest, "LM" for the largest in magnitude.
        tolerance: relative accuracy; 0 means machine precision.
        seed: seed of the starting vector.

    Raises:
        ValueError: on an invalid k or which.
    """
    xp = array_module(like)
    n = len(like)
    if not 1 <= k <= n:
        raise ValueError(f"expected k from 1 to {n} eigenvalues, got {k}")
    if which not in ("LA", "SA", "LM"):
        raise ValueError(f"expected which 'LA', 'SA' or 'LM', got {which!r}")
    if n <= max(2 * k + 1, 64):  # Lanczos needs k well below n; a dense solver is cheaper for small matrices
        dense = xp.stack([product(column) for column in xp.eye(n, dtype=like.dtype)], axis=1)
        values, vectors = xp.linalg.eigh((dense + dense.T) / 2)
        if which == "LM":
            order = xp.argsort(abs(values))[n - k :]
            order = xp.sort(order)
        else:
            order = xp.arange(n - k, n) if which == "LA" else xp.arange(k)
        return values[order], vectors[:, order]
    sparse = scipy.sparse.linalg if on_host(like) else import_module("cupyx.scipy.sparse.linalg")
    operator = sparse.LinearOperator((n, n), matvec=lambda v: product(v.reshape(-1)), dtype=like.dtype)
    start = xp.random.default_rng(seed).standard_normal(n).astype(like.dtype)
    values, vectors = sparse.eigsh(operator, k=k, which=which, tol=tolerance, v0=start)
    order = xp.argsort(values)
    return values[order], vectors[:, order]
