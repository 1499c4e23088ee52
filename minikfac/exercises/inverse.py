"""Write K-FAC's step for one layer.

The natural gradient of a layer is F^{-1} vec(V), where V is the gradient in the shape of the weights. K-FAC
replaces F by A (x) G, whose inverse never has to be formed:

    (A (x) G)^{-1} vec(V) = vec(A^{-1} V G^{-1})

Write a function that takes A (I, I), G (O, O), both symmetric positive definite, and the gradient V (I, O),
and returns the step D = -A^{-1} V G^{-1}, (I, O).
"""

from __future__ import annotations

import numpy as np

from ..backend import Array
from .exercise import Answer, Exercise
from .judging import Part, call, in_order

HINTS = (
    "vec is NumPy's ravel, row by row, so A acts on the rows of V and G on its columns.",
    "np.linalg.solve(A, V) is A^{-1} V.",
    "G^{-1} stands on the right. Since G is symmetric, V G^{-1} is the transpose of np.linalg.solve(G, V.T).",
    "A step goes downhill: the sign is minus.",
    "D = -np.linalg.solve(A, np.linalg.solve(G, V.T).T).",
)


def my_kronecker_step(A: Array, G: Array, V: Array) -> Array:
    """Return the step D (I, O) from A (I, I), G (O, O) and the gradient V (I, O)."""
    raise NotImplementedError("write K-FAC's step for one layer")


def solution(A: Array, G: Array, V: Array) -> Array:
    """Solve with two small matrices instead of one with I O rows [MG15, sec. 4.2]."""
    return -np.linalg.solve(A, np.linalg.solve(G, V.T).T)


CASES = {"weights of 5 x 3": (5, 3), "weights of 4 x 4": (4, 4)}
CORRECT = (
    "-A^{-1} V G^{-1}, equal to the solution with the whole Kronecker product, for I^3 + O^3 operations in "
    "place of (I O)^3."
)


def judge(answer: Answer, i: int, o: int) -> None:
    """Raise Wrong unless the step is right for random factors and gradients of these sizes."""
    rng = np.random.default_rng(i)
    A, G = (half.T @ half / len(half) for half in (rng.standard_normal((9, size)) for size in (i, o)))
    V = rng.standard_normal((i, o))
    shapes = {(i * o,): "it is flat, and should have the shape of the weights"}
    causes = {"the sign is turned: this step goes uphill": -1.0}
    step = Part("D", solution(A, G, V), causes, slips(A, G, V), shapes)
    in_order({"D": call(answer, A=A, G=G, V=V)}, step)


def slips(A: Array, G: Array, V: Array) -> dict[str, Array]:
    """Arrays that are not the step, and their causes."""
    over_A, over_G = np.linalg.inv(A), np.linalg.inv(G)
    swapped = np.linalg.solve(np.kron(G, A), V.ravel()).reshape(V.shape)
    return {
        "G^{-1} is missing": -over_A @ V,
        "A^{-1} is missing": -V @ over_G,
        "the factors were multiplied by, and not by their inverses": -A @ V @ G,
        "A was multiplied by, and not its inverse": -A @ V @ over_G,
        "G was multiplied by, and not its inverse": -over_A @ V @ G,
        "V was divided entry by entry by the diagonals of A and G": -V / np.outer(A.diagonal(), G.diagonal()),
        "it is the gradient itself": -V,
        "A and G are swapped: A acts on the inputs, which are the rows of V": -swapped,
        "V was reshaped, and its transpose is meant": -over_A
        @ (over_G @ V.reshape(V.shape[::-1])).reshape(V.shape),
    }


kronecker_step = Exercise("kronecker-step", my_kronecker_step, HINTS, solution, judge, CASES, CORRECT)
