"""Write backprop by hand.

A net of two layers, rows are examples, the constant 1 comes last:

    s1 = [x, 1] W1    a = tanh(s1)    z = [a, 1] W2    p = softmax(z)

The loss of one example is -log p of its label. Write a function that takes

    x   (N, I)      inputs
    y   (N,)        labels, whole numbers from 0
    W1  (I + 1, H)  weights, the bias in the last row
    W2  (H + 1, C)

and returns (g1, g2, DW1, DW2): g1 (N, H) and g2 (N, C) are the derivatives of each example's own loss with
respect to s1 and z; DW1 and DW2, shaped like W1 and W2, are the gradient of the mean loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array
from .exercise import Answer, Exercise
from .judging import Part, call, in_order, parts

HINTS = (
    "Begin at the top: the derivative of -log p_y with respect to z is p minus the one-hot label.",
    "From z down to s1: back through the weights of W2 (its bias row leads nowhere), then times tanh', which "
    "is 1 - a^2.",
    "The gradient of one example is the outer product of what goes into the weights, the constant 1 counted, "
    "and g. A sum of outer products over examples is one matrix product.",
    "g1 = (g2 @ W2[:-1].T) * (1 - a**2); DW2 = abar.T @ g2 / N, with abar = [a, 1].",
)


def my_backward(x: Array, y: Array, W1: Array, W2: Array) -> tuple[Array, ...]:
    """Return g1 (N, H), g2 (N, C), DW1 (I + 1, H) and DW2 (H + 1, C)."""
    raise NotImplementedError("write backprop by hand")


def solution(x: Array, y: Array, W1: Array, W2: Array) -> tuple[Array, ...]:
    """Run the net forward, then backward."""
    n = len(x)
    abar0 = with_one(x)
    a = np.tanh(abar0 @ W1)
    abar1 = with_one(a)
    g2 = softmax(abar1 @ W2)
    g2[np.arange(n), y] -= 1
    g1 = (g2 @ W2[:-1].T) * (1 - a**2)
    return g1, g2, abar0.T @ g1 / n, abar1.T @ g2 / n


def with_one(a: Array) -> Array:
    """[a, 1]."""
    return np.concatenate([a, np.ones((len(a), 1))], axis=1)


def softmax(z: Array) -> Array:
    """Probabilities (N, C)."""
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


CASES = {"a net of 2-4-3 units": (5, 2, 4, 3), "one of 3-2-4": (6, 3, 2, 4)}
CORRECT = (
    "g1, g2 and both gradients agree up to rounding; [x, 1] and g1, [a, 1] and g2 are the "
    "signals that every Fisher matrix here is made of."
)


def judge(answer: Answer, n: int, i: int, h: int, c: int) -> None:
    """Raise Wrong unless all four are right on one net; what is above is judged first."""
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((n, i)), np.arange(n) % c
    W1, W2 = rng.standard_normal((i + 1, h)), rng.standard_normal((h + 1, c))
    returned = parts(call(answer, x=x, y=y, W1=W1, W2=W2), "g1", "g2", "DW1", "DW2")
    g1, g2, DW1, DW2 = solution(x, y, W1, W2)
    a = np.tanh(with_one(x) @ W1)
    scales = {
        "g is per example, and was divided by N, as backprop of the mean loss does": 1 / n,
        "the sign is turned: the loss is minus the log-likelihood": -1.0,
    }
    shapes_g2 = {(c,): "the examples are not kept apart", (n,): "classes are missing"}
    shapes_g1 = {(n, h + 1): "the bias row of W2 was not left out, and its constant 1 has no unit below it"}
    in_order(
        returned,
        Part("g2", g2, scales, lambda g: slips_g2(x, y, W1, W2, g), shapes_g2),
        Part("g1", g1, scales, slips_g1(a, with_one(x) @ W1, g2, W2), shapes_g1),
        Part("DW2", DW2, causes_DW(n), slips_DW(with_one(a), g2), shapes_DW(n, h + 1, c), (0,)),
        Part("DW1", DW1, causes_DW(n), slips_DW(with_one(x), g1), shapes_DW(n, i + 1, h), (0,)),
    )


def slips_g2(x: Array, y: Array, W1: Array, W2: Array, g2: Array) -> dict[str, Array]:
    """Arrays that are not g2, and their causes; one depends on the answer."""
    z = with_one(np.tanh(with_one(x) @ W1)) @ W2
    first = solution(x, y, *(np.roll(W, -1, axis=0) for W in (W1, W2)))[1]  # the first row is the bias
    p, classes = softmax(z), np.eye(z.shape[1])
    one_hot = classes[y]
    error = p - one_hot
    return {
        "the label is missing, it is p alone": p,
        "it is z minus the one-hot label, and the softmax is missing": z - one_hot,
        "only the entry of the label is there, and every class pushes": (p - 1) * one_hot,
        "it is the derivative by p, and not by z": -one_hot / p,
        "the softmax ran over the examples, and not over the classes": softmax(z.T).T - one_hot,
        "it is that of 1/2 ||y - p||^2 by p and z": p * (error - (error * p).sum(1, keepdims=True)),
        "the target is another label than y": p - classes[(p - g2).argmax(1)],
        "the constant 1 comes first in [x, 1] and [a, 1], and should be the last": first,
    }


def slips_g1(a: Array, s: Array, g2: Array, W2: Array) -> dict[str, Array]:
    """Arrays that are not g1, and their causes."""
    back = g2 @ W2[:-1].T
    return {
        "tanh' is missing": back,
        "tanh' is 1 - a^2, with a after the tanh, and not 1 - s^2": back * (1 - s**2),
        "tanh was applied twice in tanh'": back * (1 - np.tanh(a) ** 2),
        "a (1 - a) is the derivative of the logistic function, that of tanh is 1 - a^2": back * a * (1 - a),
        "a stands where tanh' = 1 - a^2 should": back * a,
        "a^2 stands where tanh' = 1 - a^2 should": back * a**2,
        "the first row of W2 was left out, and the bias is the last": (g2 @ W2[1:].T) * (1 - a**2),
    }


def shapes_DW(n: int, rows: int, columns: int) -> dict[Any, str]:
    """Shapes that a weight gradient should not have, and their causes."""
    return {
        (rows - 1, columns): "the bias row is missing, whose input is the constant 1",
        (n, rows, columns): "the examples are not averaged",
    }


def causes_DW(n: int) -> dict[str, float]:
    """Causes of a wrong scale of a weight gradient."""
    return {
        "it is the sum over the examples, and the loss is their mean": n,
        "it is divided by N twice": 1 / n,
    }


def slips_DW(abar: Array, g: Array) -> dict[str, Array]:
    """Matrices that are not the gradient, and their causes."""
    mixed = abar.reshape(abar.shape[::-1])
    return {
        "abar was reshaped, which mixes the examples, and a transpose is meant": mixed @ g / len(g),
        "abar and g were averaged before the outer product, and not after": np.outer(abar.mean(0), g.mean(0)),
    }


backward = Exercise("backward", my_backward, HINTS, solution, judge, CASES, CORRECT)
