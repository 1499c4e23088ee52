"""Symmetric positive semi-definite matrices: factorize, solve, invert, and say so when they are singular."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import scipy.linalg

from ..backend import Array, array_module, fetch, on_host, to_host


class SingularMatrixError(ValueError):
    """A matrix that had to be positive definite is not; the message names it, its rank, and what to add."""


def symmetrize(M: Array) -> Array:
    """Return (M + M^T) / 2, for a matrix that only rounding made unsymmetric."""
    return (M + M.T) / 2


def _scipy_linalg(like: Array) -> ModuleType:
    if on_host(like):
        return scipy.linalg
    import cupyx.scipy.linalg

    return cupyx.scipy.linalg


def rank(M: Array) -> int:
    """Numerical rank of a positive semi-definite (n, n) matrix, by Cholesky with pivoting (n^3 / 3 flops).

    A pivot counts while it is above max(n, 20) eps times the largest diagonal entry.
    """
    M = to_host(M)
    factorize = scipy.linalg.get_lapack_funcs("pstrf", (M,))
    tolerance = max(len(M), 20) * _epsilon(M) * max(float(M.diagonal().max(initial=0.0)), 0.0)
    return int(factorize(M, tol=tolerance, lower=1)[2])


def _epsilon(M: Array) -> float:
    return float(array_module(M).finfo(M.dtype).eps)


def cholesky(M: Array, name: str = "matrix", overwrite: bool = False, at_least: float = 0.0) -> Array:
    """Return the lower Cholesky factor L, M = L L^T, of a symmetric positive definite (n, n) matrix.

    A matrix counts as singular when the factorization breaks down or when its smallest eigenvalue is
    under 10 eps times the largest diagonal entry, which is where rounding leaves that of an exactly
    singular matrix. Its pivots tell less: none need be small where the null vector is spread out.

    Args:
        M: (n, n); only its lower triangle is read.
        name: what to call the matrix in the error.
        overwrite: work in M's memory.
        at_least: a lower bound of the eigenvalues, as damping is; where that is enough, the smallest need
            not be looked for.

    Raises:
        SingularMatrixError: naming the matrix and its numerical rank.
        ValueError: naming the matrix, if it holds NaN or infinite values.
    """
    xp = array_module(M)
    if on_host(M):
        # LAPACK works on columns: the upper factor of M^T is the lower one of M, without a copy.
        (factorize,) = scipy.linalg.get_lapack_funcs(("potrf",), (M,))
        # pstrf, should it be needed for the message, must see M as it was
        R, info = factorize(M.T, lower=0, clean=1, overwrite_a=overwrite)
        L, broke_down = R.T, info != 0
    else:
        L, broke_down = _device_cholesky(xp, M)
    if not broke_down:
        largest = float(M.diagonal().max()) if at_least else math.inf
        if not at_least > 10 * _epsilon(L) * largest:  # NaN counts too
            broke_down = not _smallest_eigenvalue(L) > 10 * _epsilon(L)
    if broke_down:
        if not bool(xp.isfinite(M).all()):
            raise ValueError(f"expected finite numbers, but {name} ({len(M)} x {len(M)}) has NaN or infinity")
        if overwrite:
            raise SingularMatrixError(
                f"{name} ({len(M)} x {len(M)}) is singular to working precision; use more damping"
            )
        r = rank(M)
        what = f"has numerical rank {r}" if r < len(M) else "is not positive definite to working precision"
        raise SingularMatrixError(
            f"expected a positive definite matrix, but {name} ({len(M)} x {len(M)}) {what}; "
            "use damping > 0, or pseudo_inverse=True to leave its null space out"
        )
    return L


def _smallest_eigenvalue(L: Array) -> float:
    """Smallest eigenvalue of L L^T over its largest diagonal entry, by inverse iteration.

    Two steps do: near singularity each outgrows what it started from by 1 / eps.
    """
    largest = array_module(L).einsum("ij,ij->i", L, L).max()
    v = _no_pattern(L)
    for _ in range(2):
        v = cholesky_solve(L, largest * v / abs(v).max())
    return 1 / float(abs(v).max())


def _no_pattern(like: Array) -> Array:
    """A vector (n,) that is orthogonal to nothing that matters."""
    xp = array_module(like)
    return xp.cos(xp.arange(1, len(like) + 1, dtype=like.dtype) ** 2)


def _device_cholesky(xp: ModuleType, M: Array) -> tuple[Array, bool]:
    """The lower factor, and whether there is none: by default CuPy would return finite nonsense."""
    import cupyx

    try:
        with cupyx.errstate(linalg="raise"):
            return xp.linalg.cholesky(M), False
    except scipy.linalg.LinAlgError:  # NumPy's class, which CuPy raises too
        return M, True


def damped_choleskys(wanted: Iterable[tuple[Array, str, Any]]) -> list[Array]:
    """Factorize damped matrices, each as :func:`cholesky` does; the host waits for a device just once.

    On a device a factorization that breaks down leaves finite nonsense, and to ask whether it did makes the
    host wait. So each L is tried on a vector, L L^T v = M v up to rounding, and the answers come together.
    What fails is looked at again by :func:`cholesky`.

    Args:
        wanted: matrices (n, n), what to call them in errors, and what was added to their diagonals: numbers,
            or on a device arrays without axes.

    Raises:
        SingularMatrixError, ValueError: as :func:`cholesky`.
    """
    Ls, unchecked = [], []
    for M, name, share in wanted:  # one after the other: on the host none need be kept
        if on_host(M):
            Ls.append(cholesky(M, name, at_least=share))
            continue
        Ls.append(_unchecked_cholesky(M))
        unchecked.append((M, name, share, _is_factor(Ls[-1], M, share)))
    checks = fetch(*(is_factor for *_, is_factor in unchecked))
    for place, (good, (M, name, share, _)) in enumerate(zip(checks, unchecked, strict=True)):
        if not good:
            Ls[place] = cholesky(M, name, at_least=fetch(share)[0])
    return Ls


def _unchecked_cholesky(M: Array) -> Array:
    """The lower factor on a device, or nonsense where there is none."""
    import cupyx

    with cupyx.errstate(linalg="ignore"):
        return array_module(M).linalg.cholesky(M)


def _is_factor(L: Array, M: Array, share: Any) -> Array:
    """Whether L L^T = M on one vector, and M is far enough from singular; a bool on the device."""
    largest, rounding, v = M.diagonal().max(), _epsilon(M), _no_pattern(L)
    wrong = abs(L @ (L.T @ v) - M @ v).max()
    return (share > 10 * rounding * largest) & (wrong <= len(M) * rounding * largest)  # neither where NaN


def triangular_solve(L: Array, b: Array, transposed: bool = False, overwrite: bool = False) -> Array:
    """Solve L x = b or, transposed, L^T x = b, for lower triangular L (n, n) and b (n,) or (n, m).

    With ``overwrite``, b's memory may be used.
    """
    array_module(L, b)  # refuses two that are not in one place
    if on_host(L) and b.ndim == 2 and L.dtype == b.dtype:
        # BLAS works on columns: U = L^T lies there as it is, and so does b or b^T, without a copy
        (solve,) = scipy.linalg.get_blas_funcs(("trsm",), (L, b))
        U = L.T
        if b.flags.f_contiguous:
            return solve(1.0, U, b, side=0, lower=0, trans_a=not transposed, overwrite_b=overwrite)
        return solve(1.0, U, b.T, side=1, lower=0, trans_a=transposed, overwrite_b=overwrite).T
    solve = _scipy_linalg(L).solve_triangular
    return solve(L, b, lower=True, trans=1 if transposed else 0, check_finite=False)


def cholesky_solve(L: Array, b: Array) -> Array:
    """Solve L L^T x = b for b (n,) or (n, m)."""
    return triangular_solve(L, triangular_solve(L, b), transposed=True, overwrite=True)


def cholesky_inverse(L: Array) -> Array:
    """Return the symmetric inverse (L L^T)^{-1}."""
    xp = array_module(L)
    if on_host(L):
        (invert,) = scipy.linalg.get_lapack_funcs(("potri",), (L,))
        upper = invert(L.T, lower=0)[0]  # only its upper triangle is meaningful
        inverse = upper.T
        for start in range(0, len(L), 512):  # mirror in tiles: no second n x n array
            stop = min(start + 512, len(L))
            inverse[:stop, start:stop] = xp.where(
                xp.tri(stop, stop - start, -start, dtype=bool),
                inverse[:stop, start:stop],
                inverse[start:stop, :stop].T,
            )
        return inverse
    half = triangular_solve(L, xp.eye(len(L), dtype=L.dtype))
    return half.T @ half


def eigh(M: Array) -> tuple[Array, Array]:
    """Eigenvalues (n,), ascending, negative rounding clipped to 0, and eigenvectors (n, n) in columns."""
    xp = array_module(M)
    values, vectors = xp.linalg.eigh(M)
    return xp.maximum(values, 0), vectors


def pseudo_inverse(M: Array) -> Array:
    """Moore-Penrose inverse; eigenvalues under n eps times the largest count as zero."""
    xp = array_module(M)
    values, vectors = eigh(M)
    keep = values > len(M) * _epsilon(M) * values[-1]
    inverse = xp.where(keep, 1 / xp.where(keep, values, 1), 0)
    return (vectors * inverse) @ vectors.T
