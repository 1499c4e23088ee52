"""Products with matrices A (x) G that are never formed.

With row-major vec, ``(A (x) G) vec(V) = vec(A V G^T)`` for V of shape (I, O): two products with small
matrices, I x I and O x O, replace one with an IO x IO matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..backend import Array, array_module
from .psd import check_product, cholesky, symmetrize, triangular_solve


def kron_apply(A: Array, G: Array, v: Array) -> Array:
    """Return (A (x) G) v.

    Args:
        A: (I', I).
        G: (O', O).
        v: (I O,) or (I O, m).

    Returns:
        (I' O',) or (I' O', m).
    """
    tail = v.shape[1:]
    V = A @ v.reshape(A.shape[1], -1)  # (I', O m)
    if not tail:
        return (V.reshape(len(A), G.shape[1]) @ G.T).reshape(-1)
    xp = array_module(A, G, v)
    return xp.matmul(G, V.reshape(len(A), G.shape[1], -1)).reshape(-1, *tail)


def kron_dense(A: Array, G: Array) -> Array:
    """Return A (x) G as an (I' O', I O) array."""
    product = A[:, None, :, None] * G[None, :, None, :]
    return product.reshape(A.shape[0] * G.shape[0], -1)


def kron_eigen_dense(U_A: Array, U_G: Array, s: Array) -> Array:
    """Return (U_A (x) U_G) diag(s) (U_A (x) U_G)^T as an (I O, I O) array, in 2 I^3 O^2 multiplications.

    Args:
        U_A: (I, I).
        U_G: (O, O).
        s: (I, O).
    """
    i, o = s.shape
    xp = array_module(U_A, U_G, s)
    H = s @ (U_G[:, None] * U_G).reshape(o * o, o).T  # (I, O O): sums over the columns of U_G
    M = xp.empty((i, o, i, o), dtype=s.dtype)
    for row in range(i):
        M[row] = ((U_A * U_A[row]) @ H).reshape(i, o, o).swapaxes(0, 1)
    return M.reshape(i * o, i * o)


def kron_sum_solver(
    A: Array, G: Array, C: Array, D: Array, sign: int, names: Sequence[str] = ("A", "G"), damping: float = 0.0
) -> tuple[Array, Array, Array]:
    """Diagonalize A (x) G + sign * C (x) D, which reduces products with its inverse to four small ones.

    With A^{-1/2} C A^{-T/2} = E1 diag(s1) E1^T, K1 = A^{-T/2} E1, and likewise s2, K2 from G and D,

        (A (x) G + sign C (x) D)^{-1} vec V = vec( K1 [ (K1^T V K2) / (1 + sign s1 s2^T) ] K2^T )

    [MG15, app. B]. Any square root works; we use Cholesky factors.

    Args:
        A: (I, I), positive definite.
        G: (O, O), positive definite.
        C: (I, I), positive semi-definite.
        D: (O, O), positive semi-definite.
        sign: +1 or -1. For -1 the eigenvalues s1, s2 are clipped to at most 1, their exact bound if C and D
            are the parts of A and G explained by a regression.
        names: names of A and G in errors.
        damping: lambda, already contained in A and G; only for errors.

    Returns:
        K1 (I, I), K2 (O, O) and the inverse denominators 1 / (1 + sign s1 s2^T), (I, O).

    Raises:
        SingularMatrixError: if A, G or the sum is singular to working precision.
    """
    xp = array_module(A, G, C, D)
    pairs, Ls = [], []
    for M, N, name in ((A, C, names[0]), (G, D, names[1])):
        L = cholesky(M, name, damping=damping)
        Ls.append(L)
        half = triangular_solve(L, N)
        s, E = xp.linalg.eigh(symmetrize(triangular_solve(L, half.T)))
        pairs.append((triangular_solve(L, E, transposed=True), s.clip(0, 1 if sign < 0 else None)))
    (K1, s1), (K2, s2) = pairs
    denominator = 1 + sign * s1[:, None] * s2[None, :]
    what = f"{names[0]}, times {names[1]}, minus the part explained by the next layer,"
    check_product(Ls, what, damping, share=float(denominator.min()))
    return K1, K2, 1 / denominator
