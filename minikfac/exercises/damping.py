"""Write factored damping.

A Kronecker block A (x) G is damped without leaving the Kronecker products, by

    (A + pi sqrt(lambda) I) (x) (G + sqrt(lambda) / pi I)

where pi shares the damping out by the mean eigenvalues of the two factors:

    pi = sqrt( (tr A / I) / (tr G / O) )

Write a function that takes A (I, I), G (O, O) and lam, the lambda of F + lambda I, and returns
(pi, A_damped, G_damped).
"""

from __future__ import annotations

import numpy as np

from ..backend import Array
from .exercise import Answer, Exercise
from .judging import Part, call, in_order, multiple, parts, times

HINTS = (
    "The trace over the size is the mean eigenvalue: A of larger eigenvalues gets more of the damping.",
    "Multiply the two added parts: pi sqrt(lambda) times sqrt(lambda) / pi is lambda, whatever pi is.",
    "M + c adds c to every entry of M; only the diagonal is meant, so c * np.eye(len(M)).",
    "pi = np.sqrt(A.trace() / len(A) / (G.trace() / len(G))).",
)


def my_factored_damping(A: Array, G: Array, lam: float) -> tuple[float, Array, Array]:
    """Return pi, the damped A (I, I) and the damped G (O, O)."""
    raise NotImplementedError("write factored damping")


def solution(A: Array, G: Array, lam: float) -> tuple[float, Array, Array]:
    """Return pi and the two damped factors [MG15, sec. 6.3]."""
    pi = float(np.sqrt(A.trace() / len(A) / (G.trace() / len(G))))
    return pi, A + pi * lam**0.5 * np.eye(len(A)), G + lam**0.5 / pi * np.eye(len(G))


CASES = {"factors of 5 and 3": (5, 3, 0.04), "factors of 3 and 4": (3, 4, 2.5)}
CORRECT = (
    "pi and both damped factors, up to rounding; their product adds lambda I, and a surplus "
    "pi sqrt(lambda) I (x) G + sqrt(lambda) / pi A (x) I that exact damping does not have."
)


def judge(answer: Answer, i: int, o: int, lam: float) -> None:
    """Raise Wrong unless pi and the factors are right for one pair."""
    rng = np.random.default_rng(i)
    half_A, half_G = rng.standard_normal((9, i)), 0.2 * rng.standard_normal((9, o))
    A, G = half_A.T @ half_A / 9, half_G.T @ half_G / 9
    returned = parts(call(answer, A=A, G=G, lam=lam), "pi", "A_damped", "G_damped")
    pi, A_damped, G_damped = solution(A, G, lam)
    shapes = {(i * o, i * o): "the Kronecker product itself, which K-FAC never forms"}
    in_order(
        returned,
        Part("pi", pi, slips=slips_pi(A, G)),
        Part("A_damped", A_damped, {}, lambda M: slips_damped(A, pi, lam, M), shapes),
        Part("G_damped", G_damped, {}, lambda M: slips_damped(G, 1 / pi, lam, M), shapes),
    )


def slips_pi(A: Array, G: Array) -> dict[str, float]:
    """Numbers that are not pi, and their causes."""
    i, o = len(A), len(G)
    mean_A, mean_G = float(A.trace() / i), float(G.trace() / o)
    norm_A, norm_G = float(np.linalg.norm(A)), float(np.linalg.norm(G))
    top_A, top_G = float(np.linalg.norm(A, 2)), float(np.linalg.norm(G, 2))
    return {
        "it is upside down: A comes on top": (mean_G / mean_A) ** 0.5,
        "the root is missing": mean_A / mean_G,
        "the root is missing, and it is upside down": mean_G / mean_A,
        "the traces are not divided by the sizes I and O": (mean_A * i / (mean_G * o)) ** 0.5,
        "it is 1, which shares out equally and forgets the sizes of the eigenvalues": 1.0,
        "it is made of Frobenius norms, and traces are asked for": (norm_A / norm_G) ** 0.5 * (o / i) ** 0.25,
        "it is made of the largest eigenvalues, and their means are asked for": (top_A / top_G) ** 0.5,
    }


def slips_damped(M: Array, share: float, lam: float, damped: Array) -> dict[str, Array]:
    """Matrices that are not M + share sqrt(lam) I, and their causes; share is pi or 1 / pi."""
    one, root = np.eye(len(M)), lam**0.5
    slips = {
        "it is not damped": M,
        "its share of pi is that of the other factor": M + root / share * one,
        "lambda was added, and the root of lambda is meant": M + share * lam * one,
        "pi is missing": M + root * one,
        "pi and the root of lambda are missing": M + lam * one,
        "the damping was added to every entry, and not to the diagonal": M + share * root,
        "the damping was subtracted": M - share * root * one,
        "the damping replaced the matrix": share * root * one,
    }
    if added := multiple(damped - M, one):
        slips[f"what was added is {times(added / (share * root))} what is to be added"] = damped
    return slips


factored_damping = Exercise("factored-damping", my_factored_damping, HINTS, solution, judge, CASES, CORRECT)
