"""Write step size and momentum of K-FAC.

K-FAC proposes a step Delta, and the last step was delta0. How much of each? The quadratic model with the
exact Fisher matrix decides:

    M(delta) = 1/2 delta^T (F + lambda I) delta + gradient^T delta,    delta = alpha Delta + mu delta0

Write a function that takes F (P, P), gradient (P,), Delta (P,), delta0 (P,) and lam, and returns
(alpha, mu), for which M is least.
"""

from __future__ import annotations

import numpy as np

from ..backend import Array
from .exercise import Answer, Exercise, Wrong
from .judging import Part, call, in_order, ordered, parts, same, shaped

HINTS = (
    "M is a quadratic function of the two numbers alpha and mu: set both of its derivatives to zero.",
    "The derivatives are two linear equations. The matrix holds the curvatures d_i^T (F + lambda I) d_j of "
    "the two directions, the cross term too; the right side is -gradient^T d_i.",
    "With D = np.stack([Delta, delta0]), the matrix is D @ (F + lam I) @ D.T.",
    "np.linalg.solve(D @ (F + lam I) @ D.T, -D @ gradient).",
)


def my_alpha_and_mu(
    F: Array, gradient: Array, Delta: Array, delta0: Array, lam: float
) -> tuple[float, float]:
    """Return alpha and mu, for which M(alpha Delta + mu delta0) is least."""
    raise NotImplementedError("write step size and momentum of K-FAC")


def solution(F: Array, gradient: Array, Delta: Array, delta0: Array, lam: float) -> tuple[float, float]:
    """Solve two equations in two unknowns [MG15, sec. 6.4, sec. 7]."""
    D = np.stack([Delta, delta0])
    alpha, mu = np.linalg.solve(D @ F @ D.T + lam * D @ D.T, -D @ gradient)
    return float(alpha), float(mu)


CASES = {"a model of 6 parameters": (6, 0.7), "one of 5": (5, 0.2)}
CORRECT = (
    "alpha and mu minimize M; on a quadratic objective this momentum makes K-FAC the method of "
    "conjugate gradients, with its own matrix as preconditioner."
)


def judge(answer: Answer, p: int, lam: float) -> None:
    """Raise Wrong unless alpha and mu are right for one model."""
    rng = np.random.default_rng(p)
    half = rng.standard_normal((9, p))
    F, gradient = half.T @ half / 9, rng.standard_normal(p)
    Delta = -gradient / F.diagonal()
    delta0 = Delta / 2 + rng.standard_normal(p)  # not at right angles, so that the cross term counts
    given = dict(F=F, gradient=gradient, Delta=Delta, delta0=delta0, lam=lam)
    returned = parts(call(answer, **given), "alpha", "mu", what="numbers")
    alpha, mu = (float(shaped(name, value, ())) for name, value in returned.items())
    right = solution(**given)  # type: ignore[arg-type]
    wanted = Part("alpha", right[0]), Part("mu", right[1])
    ordered(returned, *wanted)
    for slip, both in slips(F, gradient, Delta, delta0, lam).items():
        if same(alpha, both[0]) and same(mu, both[1]):
            raise Wrong(
                f"alpha is {alpha:.4g} and mu {mu:.4g}, and they should be {right[0]:.4g} and "
                f"{right[1]:.4g}: {slip}."
            )
    in_order(returned, *wanted)


def slips(
    F: Array, gradient: Array, Delta: Array, delta0: Array, lam: float
) -> dict[str, tuple[float, float]]:
    """Pairs that are not alpha and mu, and their causes."""
    D = np.stack([Delta, delta0])
    M, b = D @ F @ D.T + lam * D @ D.T, -D @ gradient
    alpha, mu = (b / M.diagonal()).tolist()  # each the best alone
    cross = lam * (Delta @ delta0) * np.array([[0, 1], [1, 0]])
    mu_after = float((b[1] - M[0, 1] * alpha) / M[1, 1])

    def solved(matrix: Array, right: Array) -> tuple[float, float]:
        one, other = np.linalg.solve(matrix, right)
        return float(one), float(other)

    return {
        "the sign is turned, M goes up along the gradient": solved(M, -b),
        "lambda is missing": solved(M - lam * D @ D.T, b),
        "lambda is missing from the cross term Delta^T (F + lambda I) delta0": solved(M - cross, b),
        "lambda was added to the two by two matrix, and not to F": solved(D @ F @ D.T + lam * np.eye(2), b),
        "each is the best alone, and the cross term Delta^T (F + lambda I) delta0 is missing": (alpha, mu),
        "alpha was found alone and mu after it, and both are to be found together": (alpha, mu_after),
        "the sign of the cross term is turned": solved(M * np.array([[1, -1], [-1, 1]]), b),
        "the 1/2 of the model was forgotten: the derivative of 1/2 m x^2 is m x": solved(2 * M, b),
        "the 1/2 of the model was kept, and its derivative has none": solved(M / 2, b),
        "F is missing": solved(lam * D @ D.T, b),
    }


rescale_and_momentum = Exercise(
    "rescale-and-momentum", my_alpha_and_mu, HINTS, solution, judge, CASES, CORRECT
)
