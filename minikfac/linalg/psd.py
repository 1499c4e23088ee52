"""Symmetric positive semi-definite matrices: factorizations, solves, inverses, and tests for singularity."""

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
"""Largest matrix, in rows, for which one thread is at least as fast as two."""


class SingularMatrixError(ValueError):
    """A matrix is singular or indefinite; the message gives its name, its rank and a remedy."""


def resolution(like: Array) -> float:
    """10 eps: the least permitted ratio of the smallest eigenvalue to the largest diagonal entry.

    Rounding errors leave the smallest eigenvalue of an exactly singular matrix near this size. The relative
    residual ||M x - v|| / ||v|| of a solve is at most about eps times the condition number, so at the limit
    one digit is correct.
    """
    return 10 * _epsilon(like)


def ill_conditioned(name: str, like: Array, condition: float, damping: float) -> SingularMatrixError:
    """The error for a damped matrix that is too ill-conditioned for its dtype."""
    size = f"{condition:.1e}" if math.isfinite(condition) else "a larger one"
    advice = f" with damping {damping:.3g}; use more damping" if damping else "; add damping"
    precision = "" if like.dtype.name == "float64" else " or float64"
    return SingularMatrixError(
        f"expected a condition number up to {1 / resolution(like):.1e} in {like.dtype.name}, but {name} has "
        f"{size}{advice}, inputs of similar scales{precision}"
    )


def symmetrize(M: Array) -> Array:
    """Return (M + M^T) / 2, for a matrix that is symmetric up to rounding."""
    return (M + M.T) / 2


def _calm(function: Function) -> Function:
    """Restrict a function of a small matrix (n, n) on the host to one thread.

    SciPy's and NumPy's BLAS each have a thread pool that spins while waiting for work: when calls to the two
    alternate, the idle threads of one slow down the other.
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

    Pivots above max(n, 20) eps times the largest diagonal entry count.
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

    A matrix counts as singular if the factorization breaks down or its smallest eigenvalue is below
    :func:`resolution` times the largest diagonal entry. Pivots are less reliable: none need be small if the
    null vector has many nonzero entries.

    Args:
        M: (n, n); only its lower triangle is read.
        name: name of the matrix in the error.
        overwrite: work in M's memory.
        at_least: a lower bound on the eigenvalues, such as the damping; if it is large enough, the smallest
            eigenvalue is not computed.
        damping: lambda, already contained in M; only for the error.

    Raises:
        SingularMatrixError: naming the matrix and its numerical rank or, if damped, its condition number.
        ValueError: naming the matrix, if it holds NaN or infinite values.
    """
    return _cholesky_and_bound(M, name, overwrite, at_least, damping)[0]


@_calm
def _cholesky_and_bound(
    M: Array, name: str, overwrite: bool, at_least: float, damping: float
) -> tuple[Array, float]:
    """L, and a lower bound on the ratio of M's smallest eigenvalue to its largest diagonal entry."""
    xp = array_module(M)
    if on_host(M):
        # LAPACK is column-major: the upper factor of M^T is the lower one of M, without a copy.
        (factorize,) = scipy.linalg.get_lapack_funcs(("potrf",), (M,))
        # M must stay intact for pstrf, which the message may need
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
    """Ratio of the smallest eigenvalue of L L^T to its largest diagonal entry, by inverse iteration.

    Two steps suffice: near singularity each amplifies the null direction by about 1 / eps.
    """
    largest = array_module(L).einsum("ij,ij->i", L, L).max()
    v = no_pattern(L)
    for _ in range(2):
        v = cholesky_solve(L, largest * v / abs(v).max())
    return 1 / float(abs(v).max())


def no_pattern(like: Array) -> Array:
    """A vector (n,) without any pattern, so that it is unlikely to be orthogonal to an eigenvector."""
    xp = array_module(like)
    return xp.cos(xp.arange(1, len(like) + 1, dtype=like.dtype) ** 2)


def _device_cholesky(xp: ModuleType, M: Array) -> tuple[Array, bool]:
    """The lower factor, and whether there is none, in which case CuPy by default returns finite nonsense."""
    import cupyx

    try:
        with cupyx.errstate(linalg="raise"):
            return xp.linalg.cholesky(M), False
    except scipy.linalg.LinAlgError:  # NumPy's class, which CuPy raises too
        return M, True


Damped = tuple[Array, str, Any]
"""A damped factor (n, n), its name in errors, and the amount added to its diagonal: a number, or a 0-d array
on a device."""


def damped_choleskys(pairs: Iterable[tuple[Damped, Damped]], damping: float) -> list[tuple[Array, Array]]:
    """Factorize A and G of Kronecker products as :func:`cholesky` does, synchronizing a device only once.

    The condition number of A (x) G is the product of theirs, and must be within the limit too.

    On a device a failed factorization returns finite nonsense, and querying its status makes the host wait.
    So each L is tested on a vector, L L^T v = M v up to rounding, and all results are fetched together.
    Failures are factorized again by :func:`cholesky`, which raises the error.

    Args:
        pairs: damped A and G.
        damping: lambda, for errors.

    Raises:
        SingularMatrixError, ValueError: as :func:`cholesky`.
    """
    Ls, unchecked = [], []
    for pair in pairs:  # one by one, so that the host need not keep them all
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
        name: name of the product in the error.
        damping: lambda, for the error.
        share: remaining share of the product's smallest eigenvalue.

    Raises:
        SingularMatrixError: with the condition number, if it is too large.
    """
    smallest = share * math.prod(smallest_eigenvalue(L) for L in Ls)
    if not smallest > resolution(Ls[0]):
        raise ill_conditioned(name, Ls[0], 1 / smallest if smallest > 0 else math.inf, damping)


def _unchecked_cholesky(M: Array) -> Array:
    """The lower factor on a device, or nonsense if the factorization fails."""
    import cupyx

    with cupyx.errstate(linalg="ignore"):
        return array_module(M).linalg.cholesky(M)


def _are_factors(Ls: Sequence[Array], pair: tuple[Damped, Damped]) -> Array:
    """Whether L L^T v = M v for a test vector and A (x) G is well conditioned; a bool on the device."""
    good, bound = True, 1.0
    for L, (M, _, share) in zip(Ls, pair, strict=True):
        largest, v = M.diagonal().max(), no_pattern(L)
        wrong = abs(L @ (L.T @ v) - M @ v).max()
        good = good & (wrong <= len(M) * _epsilon(M) * largest)  # False for NaN
        bound = bound * (share / largest)
    return good & (bound > resolution(Ls[0]))  # type: ignore[return-value]


def _negative_rounding(M: Array, largest: Any) -> Any:
    """Bound on negative eigenvalues due to rounding; generous, as M may stem from float32 or cancellation."""
    return max(1e-6, len(M) * resolution(M)) * largest + 1e-12


def check_psd(M: Array, name: str) -> None:
    """Reject a symmetric matrix with negative eigenvalues beyond rounding; does nothing on a device.

    Raises:
        ValueError: with the matrix's name and its smallest eigenvalue.
    """
    if on_host(M):
        shifted, (factorize,) = M.copy(), scipy.linalg.get_lapack_funcs(("potrf",), (M,))
        shifted.reshape(-1)[:: len(M) + 1] += _negative_rounding(M, max(float(M.diagonal().max()), 0.0))
        if factorize(shifted.T, overwrite_a=True)[1] != 0:
            eigh(M, name)


@_calm
def triangular_solve(L: Array, b: Array, transposed: bool = False, overwrite: bool = False) -> Array:
    """Solve L x = b or, transposed, L^T x = b, for lower triangular L (n, n) and b (n,) or (n, m).

    With ``overwrite``, b's memory may be reused.
    """
    array_module(L, b)  # rejects arrays on different devices
    if on_host(L) and b.ndim == 2 and L.dtype == b.dtype:
        # BLAS is column-major: it can use U = L^T and b or b^T without a copy
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
        upper = invert(L.T, lower=0)[0]  # only the upper triangle is meaningful
        inverse = upper.T
        for start in range(0, len(L), 512):  # mirrored in tiles, without a second n x n array
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
        ValueError: if the matrix has a name and negative eigenvalues beyond rounding. On a device all
            eigenvalues are NaN instead, since a check would stall the queue.
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
            f"expected a positive semi-definite matrix, but {name} ({len(M)} x {len(M)}) has eigenvalues "
            f"from {float(values[0]):.3g} to {float(values[-1]):.3g}"
        )
    return xp.maximum(values, 0), vectors


def pseudo_inverse(M: Array, name: str | None = None) -> Array:
    """Moore-Penrose inverse; eigenvalues below n eps times the largest count as zero."""
    xp = array_module(M)
    values, vectors = eigh(M, name)
    keep = values > xp.maximum(len(M) * _epsilon(M) * values[-1], xp.finfo(M.dtype).tiny)
    inverse = xp.where(keep, 1 / xp.where(keep, values, 1), 0)
    return (vectors * inverse) @ vectors.T
