"""Push the weights of a dense layer through affine maps.

A layer computes s = [x, 1] W. Another one sits between two fixed affine maps, x' = x V + d before it and
s = s' U + c behind it, with weights of its own, s' = [x', 1] W'. Write a function that takes

    W  (I + 1, O)  weights, the bias in the last row
    U  (O, O)      of the output map, invertible
    c  (O,)        its constant
    V  (I, I)      of the input map, invertible
    d  (I,)        its constant

and returns W' (I + 1, O), for which both compute the same s for every x.
"""

from __future__ import annotations

import numpy as np

from ..backend import Array
from .exercise import Answer, Exercise
from .judging import Part, call, in_order

HINTS = (
    "[x', 1] = [x, 1] B with a matrix B (I + 1, I + 1): V, a row d below it, and a last column 0 ... 0 1.",
    "So [x, 1] W = [x, 1] B W' U + c for all x. Where does c go, if [x, 1] is to be a factor of it?",
    "W = B W' U + C, with C zero but for its last row c. Solve for W'.",
    "W' = np.linalg.solve(B, W - C) @ np.linalg.inv(U).",
)


def my_push(W: Array, U: Array, c: Array, V: Array, d: Array) -> Array:
    """Return W' (I + 1, O) with [x V + d, 1] W' U + c = [x, 1] W for every x."""
    raise NotImplementedError("push the weights of a dense layer through affine maps")


def solution(W: Array, U: Array, c: Array, V: Array, d: Array) -> Array:
    """Return B^-1 (W - C) U^-1 [MG15, sec. 10; GM16, sec. 4.1]."""
    C = np.zeros_like(W)
    C[-1] = c
    return np.linalg.solve(input_map(V, d), W - C) @ np.linalg.inv(U)


def input_map(V: Array, d: Array) -> Array:
    """B with [x V + d, 1] = [x, 1] B."""
    B = np.eye(len(V) + 1)
    B[:-1, :-1], B[-1, :-1] = V, d
    return B


CASES = {"a layer with 3 inputs and 4 outputs": (3, 4), "one with 4 and 2": (4, 2)}
CORRECT = (
    "W' = B^-1 (W - C) U^-1, and both layers compute the same; a step of plain gradient descent "
    "would part them, and one of undamped K-FAC does not."
)


def judge(answer: Answer, i: int, o: int) -> None:
    """Raise Wrong unless W' is right for one layer."""
    rng = np.random.default_rng(i)
    W, c, d = rng.standard_normal((i + 1, o)), rng.standard_normal(o), rng.standard_normal(i)
    U, V = np.eye(o) + 0.3 * rng.standard_normal((o, o)), np.eye(i) + 0.3 * rng.standard_normal((i, i))
    shapes = {
        (i, o): "the bias row is missing, which takes up c and d",
        (o, i): "the bias row is missing, and it is transposed",
    }
    right = solution(W, U, c, V, d)
    returned = {"W'": call(answer, W=W, U=U, c=c, V=V, d=d)}
    in_order(returned, Part("W'", right, {}, slips(W, U, c, V, d), shapes, (0,)))


def slips(W: Array, U: Array, c: Array, V: Array, d: Array) -> dict[str, Array]:
    """Matrices that are not W', and their causes."""
    B, inverse = input_map(V, d), np.linalg.inv(U)
    C = np.zeros_like(W)
    C[-1] = c
    first = np.roll(B, 1, axis=(0, 1))

    def middle(inner: Array, left: Array = B, outer: Array = inverse) -> Array:
        return np.linalg.solve(left, inner) @ outer

    return {
        "it is W itself": W,
        "it goes the other way, from W' to W": B @ W @ U + C,
        "c was left out": middle(W),
        "c was added, and is to be subtracted from the bias first": middle(W + C),
        "c was subtracted after U^-1, and is to be before: it is added behind U": middle(W) - C,
        "c was subtracted from every row, and only the bias takes it up": middle(W - c),
        "U stands where its inverse should": middle(W - C, outer=U),
        "U was left out": middle(W - C, outer=np.eye(len(U))),
        "U is transposed: rows are examples, so s' U and not U s'": middle(W - C, outer=inverse.T),
        "V and d stand where their inverse map should": B @ (W - C) @ inverse,
        "V and d were left out": middle(W - C, left=np.eye(len(B))),
        "V was left out": middle(W - C, left=input_map(np.eye(len(V)), d)),
        "V is transposed: rows are examples, so x V and not V x": middle(W - C, left=input_map(V.T, d)),
        "d was left out": middle(W - C, left=input_map(V, 0 * d)),
        "the sign of d is turned": middle(W - C, left=input_map(V, -d)),
        "the signs of c and d are both turned": middle(W + C, left=input_map(V, -d)),
        "the bias was taken for the first row of W, and is the last": middle(W - np.roll(C, 1, 0), first),
    }


reparameterize = Exercise("reparameterize", my_push, HINTS, solution, judge, CASES, CORRECT)
