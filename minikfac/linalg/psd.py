"""Symmetric positive semi-definite matrices: factorize, solve, invert, and say so when they are singular."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from types import ModuleType
from typing import Any, TypeVar, cast

import scipy.linalg

from ..backend import Array, array_module, fetch, on_host, to_host
from ..parallel import one_thread

Function = TypeVar("Function", bound=Callable[..., Any])
_SMALL = 800
"""Rows of a matrix up to which one thread is as fast as two, or faster."""


class SingularMatrixError(ValueError):
    """A matrix that had to be positive definite is not; the message names it, its rank, and what to add."""


def resolution(like: Array) -> float:
    """10 eps: the least ratio of a matrix's smallest eigenvalue to its largest diagonal entry.

    There rounding leaves the smallest eigenvalue of an exactly singular matrix. A solve with M has a relative
    residual ||M x - v|| / ||v|| of eps times the condition number at most, give or take, so that one digit
    is right at the limit.
    """
    return 10 * _epsilon(like)


def ill_conditioned(name: str, like: Array, condition: float, damping: float) -> SingularMatrixError:
    """The error for a damped matrix that its dtype cannot resolve."""
    size = f"{condition:.1e}" if math.isfinite(condition) else "a larger one"
    advice = f" with damping {damping:.3g}; use more damping" if damping else "; add damping"
    precision = "" if like.dtype.name == "float64" else " or float64"
    return SingularMatrixError(
        f"expected a condition number up to {1 / resolution(like):.1e} in {like.dtype.name}, but {name} has "
        f"{size}{advice}, inputs of similar scales{precision}"
    )


def symmetrize(M: Array) -> Array:
    """Return (M + M^T) / 2, for a matrix that only rounding made unsymmetric."""
    return (M + M.T) / 2


def _calm(function: Function) -> Function:
    """Let a function of a small matrix (n, n) on the host use one thread.

    SciPy's BLAS and NumPy's have threads of their own, which wait for work at full speed: where routines of
    both come in turn, those of one are in the way of the other's.
    """

    @wraps(function)
    def calm(M: Array, *arguments: Any, **options: Any) -> Any:
        with one_thread(on_host(M) and len(M) <= _SMALL):
            return function(M, *arguments, **options)

    return cast(Function, calm)


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


def cholesky(
    M: Array, name: str = "matrix", overwrite: bool = False, at_least: float = 0.0, damping: float = 0.0
) -> Array:
    """Return the lower Cholesky factor L, M = L L^T, of a symmetric positive definite (n, n) matrix.

    A matrix counts as singular when the factorization breaks down or when its smallest eigenvalue is
    under :func:`resolution` times the largest diagonal entry. Its pivots tell less: none need be small where
    the null vector is spread out.

    Args:
        M: (n, n); only its lower triangle is read.
        name: what to call the matrix in the error.
        overwrite: work in M's memory.
        at_least: a lower bound of the eigenvalues, as damping is; where that is enough, the smallest need
            not be looked for.
        damping: lambda, of which M has some part already; for the error.

    Raises:
        SingularMatrixError: naming the matrix and its numerical rank or, if damped, its condition number.
        ValueError: naming the matrix, if it holds NaN or infinite values.
    """
    return _cholesky_and_bound(M, name, overwrite, at_least, damping)[0]


@_calm
def _cholesky_and_bound(
    M: Array, name: str, overwrite: bool, at_least: float, damping: float
) -> tuple[Array, float]:
    """L, and a lower bound of the smallest eigenvalue of M over its largest diagonal entry."""
    xp = array_module(M)
    if on_host(M):
        # LAPACK works on columns: the upper factor of M^T is the lower one of M, without a copy.
        (factorize,) = scipy.linalg.get_lapack_funcs(("potrf",), (M,))
        # pstrf, should it be needed for the message, must see M as it was
        R, info = factorize(M.T, lower=0, clean=1, overwrite_a=overwrite)
        L, broke_down = R.T, info != 0
    else:
        L, broke_down = _device_cholesky(xp, M)
    bound = 0.0
    if not broke_down:
        bound = at_least / float(M.diagonal().max()) if at_least else 0.0
        if not bound > resolution(L):  # NaN counts too
            bound = smallest_eigenvalue(L)
    if bound > resolution(L):
        return L, bound
    sized = f"{name} ({len(M)} x {len(M)})"
    if not bool(xp.isfinite(M).all()):
        raise ValueError(f"expected finite numbers, but {sized} has NaN or infinity")
    if damping:
        raise ill_conditioned(sized, L, 1 / bound if bound > 0 else math.inf, damping)
    r = len(M) if overwrite else rank(M)
    what = f"has numerical rank {r}" if r < len(M) else "is not positive definite to working precision"
    raise SingularMatrixError(f"expected a positive definite matrix, but {sized} {what}; add damping")


def smallest_eigenvalue(L: Array) -> float:
    """Smallest eigenvalue of L L^T over its largest diagonal entry, by inverse iteration.

    Two steps do: near singularity each outgrows what it started from by 1 / eps.
    """
    largest = array_module(L).einsum("ij,ij->i", L, L).max()
    v = no_pattern(L)
    for _ in range(2):
        v = cholesky_solve(L, largest * v / abs(v).max())
    return 1 / float(abs(v).max())


def no_pattern(like: Array) -> Array:
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


Damped = tuple[Array, str, Any]
"""A damped factor (n, n), what to call it in errors, and what was added to its diagonal: a number, or on a
device an array without axes."""


def damped_choleskys(pairs: Iterable[tuple[Damped, Damped]], damping: float) -> list[tuple[Array, Array]]:
    """Factorize A and G of Kronecker products as :func:`cholesky` does, and wait for a device just once.

    The condition number of A (x) G is the product of theirs, and it must be in the limits too.

    On a device a factorization that breaks down leaves finite nonsense, and to ask whether it did makes the
    host wait. So each L is tried on a vector, L L^T v = M v up to rounding, and the answers come together.
    What fails is looked at again by :func:`cholesky`.

    Args:
        pairs: damped A and G.
        damping: lambda, for errors.

    Raises:
        SingularMatrixError, ValueError: as :func:`cholesky`.
    """
    Ls, unchecked = [], []
    for pair in pairs:  # one after the other: on the host none need be kept
        if on_host(pair[0][0]):
            Ls.append(_pair_of_choleskys(pair, damping))
            continue
        L_A, L_G = (_unchecked_cholesky(M) for M, _, _ in pair)
        Ls.append((L_A, L_G))
        unchecked.append((pair, _are_factors((L_A, L_G), pair)))
    checks = fetch(*(are_factors for _, are_factors in unchecked))
    for place, (good, (pair, _)) in enumerate(zip(checks, unchecked, strict=True)):
        if not good:
            shares = fetch(*(share for *_, share in pair))
            (A, name_A, _), (G, name_G, _) = pair
            Ls[place] = _pair_of_choleskys(((A, name_A, shares[0]), (G, name_G, shares[1])), damping)
    return Ls


def _pair_of_choleskys(pair: tuple[Damped, Damped], damping: float) -> tuple[Array, Array]:
    (L_A, of_A), (L_G, of_G) = (
        _cholesky_and_bound(M, name, False, share, damping) for M, name, share in pair
    )
    if not of_A * of_G > resolution(L_A):  # bounds may be too low
        check_product((L_A, L_G), f"{pair[0][1]}, times {pair[1][1]},", damping)
    return L_A, L_G


def check_product(Ls: Sequence[Array], name: str, damping: float, share: float = 1.0) -> None:
    """Reject a Kronecker product of matrices L L^T whose condition number is too large.

    Args:
        Ls: Cholesky factors.
        name: what to call it in the error.
        damping: lambda, for the error.
        share: of the product's smallest eigenvalue that is left.

    Raises:
        SingularMatrixError: with the condition number.
    """
    smallest = share * math.prod(smallest_eigenvalue(L) for L in Ls)
    if not smallest > resolution(Ls[0]):
        raise ill_conditioned(name, Ls[0], 1 / smallest if smallest > 0 else math.inf, damping)


def _unchecked_cholesky(M: Array) -> Array:
    """The lower factor on a device, or nonsense where there is none."""
    import cupyx

    with cupyx.errstate(linalg="ignore"):
        return array_module(M).linalg.cholesky(M)


def _are_factors(Ls: Sequence[Array], pair: tuple[Damped, Damped]) -> Array:
    """Whether L L^T = M on one vector, and A (x) G is far enough from singular; a bool on the device."""
    good, bound = True, 1.0
    for L, (M, _, share) in zip(Ls, pair, strict=True):
        largest, v = M.diagonal().max(), no_pattern(L)
        wrong = abs(L @ (L.T @ v) - M @ v).max()
        good = good & (wrong <= len(M) * _epsilon(M) * largest)  # neither where NaN
        bound = bound * (share / largest)
    return good & (bound > resolution(Ls[0]))  # type: ignore[return-value]


def _negative_rounding(M: Array, largest: Any) -> Any:
    """How negative rounding makes an eigenvalue beside the largest: M may have been float32, or cancelled."""
    return max(1e-6, len(M) * resolution(M)) * largest + 1e-12


def check_psd(M: Array, name: str) -> None:
    """Reject a symmetric matrix with negative eigenvalues beyond rounding; on a device it is not checked.

    Raises:
        ValueError: naming the matrix and its smallest eigenvalue.
    """
    if on_host(M):
        shifted, (factorize,) = M.copy(), scipy.linalg.get_lapack_funcs(("potrf",), (M,))
        shifted.reshape(-1)[:: len(M) + 1] += _negative_rounding(M, max(float(M.diagonal().max()), 0.0))
        if factorize(shifted.T, overwrite_a=True)[1] != 0:
            eigh(M, name)


@_calm
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


@_calm
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


def eigh(M: Array, name: str | None = None) -> tuple[Array, Array]:
    """Eigenvalues (n,), ascending, negative ones clipped to 0, and eigenvectors (n, n) in columns.

    Raises:
        ValueError: if the matrix has a name, and negative eigenvalues beyond rounding; on a device, where
            the answer would hold up the queue, all are NaN then.
    """
    xp = array_module(M)
    values, vectors = xp.linalg.eigh(M)
    if name is None:
        return xp.maximum(values, 0), vectors
    rounding = _negative_rounding(M, abs(values).max())
    if not on_host(M):
        return xp.where(values[0] < -rounding, xp.nan, xp.maximum(values, 0)), vectors
    if values[0] < -rounding:
        raise ValueError(
            f"expected a positive semi-definite matrix, but {name} ({len(M)} x {len(M)}) has an eigenvalue "
            f"of {float(values[0]):.3g} beside one of {float(values[-1]):.3g}"
        )
    return xp.maximum(values, 0), vectors


def pseudo_inverse(M: Array, name: str | None = None) -> Array:
    """Moore-Penrose inverse; eigenvalues under n eps times the largest count as zero."""
    xp = array_module(M)
    values, vectors = eigh(M, name)
    keep = values > xp.maximum(len(M) * _epsilon(M) * values[-1], xp.finfo(M.dtype).tiny)
    inverse = xp.where(keep, 1 / xp.where(keep, values, 1), 0)
    return (vectors * inverse) @ vectors.T
