"""The two forms of damping of a Kronecker block A (x) G; lambda is that of F + lambda I.

    exact      A (x) G + lambda I                                     same eigenvectors, eigenvalues + lambda
    factored   (A + pi sqrt(lambda) I) (x) (G + sqrt(lambda) / pi I)  [MG15, sec. 6.3]

The factored form is again a Kronecker product, so two Cholesky factorizations invert it. It is not exact:
in addition to lambda I, it adds pi sqrt(lambda) I (x) G + sqrt(lambda) / pi A (x) I. This term is positive
semi-definite, and the choice of pi minimizes its trace.
"""

from __future__ import annotations

from typing import Any

from ..backend import Array, array_module, number
from .matrix import check_damping


def pi_ratio(A: Array, G: Array) -> Any:
    """pi = sqrt( (tr A / I) / (tr G / O) ), the trace-norm choice.

    Roots are taken first, since the quotient may overflow. A trace of 0 is replaced by the smallest positive
    number, so that a zero factor is the limit of small ones. On a device the result stays there.
    """
    xp = array_module(A, G)
    mean_a, mean_g = (xp.maximum(M.trace() / len(M), xp.finfo(M.dtype).tiny) for M in (A, G))
    return number(mean_a**0.5 / mean_g**0.5)


def add_to_diagonal(M: Array, amount: Any) -> Array:
    """M + amount I, as a new array."""
    M = M.copy()
    M.reshape(-1)[:: len(M) + 1] += amount
    return M


def factored_shares(A: Array, G: Array, lam: float) -> tuple[Any, Any]:
    """The amounts added to the diagonals of A and G: pi sqrt(lam) and sqrt(lam) / pi."""
    lam = check_damping(lam, A)
    pi = pi_ratio(A, G)
    return pi * lam**0.5, lam**0.5 / pi


def factored_damping(A: Array, G: Array, lam: float) -> tuple[Array, Array]:
    """Return the factors A + pi sqrt(lam) I (I, I) and G + sqrt(lam) / pi I (O, O)."""
    of_a, of_g = factored_shares(A, G, lam)
    return add_to_diagonal(A, of_a), add_to_diagonal(G, of_g)


def tikhonov_eigenvalues(a: Array, g: Array, lam: float) -> Array:
    """Eigenvalues a_i g_o + lam of A (x) G + lam I, (I, O), from those of A (I,) and G (O,)."""
    return array_module(a, g).outer(a, g) + check_damping(lam, a)
