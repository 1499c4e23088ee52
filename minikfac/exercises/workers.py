"""Write the all-reduce of K-FAC.

A batch lies on R workers in shards of unequal size. Each has the mean gradient and the factors A and G of
its own examples. Write a function that takes what all workers hand in,

    sizes      (R,)       examples of each worker
    gradients  (R, P)     mean gradient over its own examples
    As         (R, I, I)  E[ abar abar^T ] over its own examples
    Gs         (R, O, O)  E[ g g^T ] over its own examples

and returns (gradient, A, G), those of the whole batch: what one worker with all examples would have found.
"""

from __future__ import annotations

import numpy as np

from .. import fisher
from ..backend import Array
from ..network import mlp
from .exercise import Answer, Exercise
from .judging import Part, call, in_order, parts

HINTS = (
    "A mean over examples is their sum over their number. What did each worker sum, and divide by?",
    "A worker's sum is its mean times its size; the sums of all workers add up.",
    "The mean of means is right only where all shards are of one size.",
    "weights = sizes / sizes.sum(); then np.tensordot(weights, gradients, 1), and the same of As and Gs.",
)


def my_all_reduce(sizes: Array, gradients: Array, As: Array, Gs: Array) -> tuple[Array, Array, Array]:
    """Return gradient (P,), A (I, I) and G (O, O) of the whole batch."""
    raise NotImplementedError("write the all-reduce of K-FAC")


def solution(sizes: Array, gradients: Array, As: Array, Gs: Array) -> tuple[Array, Array, Array]:
    """Weight each mean by its number of examples."""
    weights = sizes / sizes.sum()
    gradient, A, G = (np.tensordot(weights, means, 1) for means in (gradients, As, Gs))
    return gradient, A, G


CASES = {"three workers": ((5, 2, 4),), "four": ((1, 6, 3, 7),)}
CORRECT = (
    "gradient, A and G are those of one worker with all examples, up to rounding, however the "
    "batch is divided."
)


def judge(answer: Answer, shards: tuple[int, ...]) -> None:
    """Raise Wrong unless the parts are those of the whole batch, which is computed at once."""
    net, rng = mlp([3, 4, 2]), np.random.default_rng(0)
    theta, n = rng.standard_normal(net.n_params), sum(shards)
    x, y = rng.standard_normal((n, 3)), rng.integers(0, 2, n)

    def means(rows: slice) -> tuple[Array, Array, Array]:
        A, G = fisher.kronecker.factors(fisher.signals(net, theta, x[rows])[0], len(x[rows]))
        return net.gradient(theta, x[rows], y[rows]), A, G

    sizes, ends = np.array(shards), np.cumsum(shards)
    of_workers = [means(slice(end - size, end)) for size, end in zip(shards, ends, strict=True)]
    gradients, As, Gs = (np.stack(column) for column in zip(*of_workers, strict=True))
    given = dict(sizes=sizes, gradients=gradients, As=As, Gs=Gs)
    returned = parts(call(answer, **given), "gradient", "A", "G")
    slip = "the workers are not added up"
    wanted = [
        Part(name, right, causes(len(shards), n), slips(sizes, values), {values.shape: slip})
        for name, right, values in zip(returned, means(slice(None)), (gradients, As, Gs), strict=True)
    ]
    in_order(returned, *wanted)


def causes(workers: int, n: int) -> dict[str, float]:
    """Causes of a wrong scale, and the resulting factors."""
    return {
        "the weighted sum is not divided by the number of examples": n,
        "it is divided by the number of workers too": 1 / workers,
        "the weighted sum is divided by the number of workers, and that of examples is meant": n / workers,
        "it is divided by the number of examples twice": 1 / n,
    }


def slips(sizes: Array, values: Array) -> dict[str, Array]:
    """Arrays that are not the mean over all examples, and their causes."""
    return {
        "it is the mean of the workers' means; a worker counts by its examples": values.mean(0),
        "it is the sum of the workers' means; a worker counts by its examples": values.sum(0),
        "the sizes went in squared": np.tensordot(sizes**2 / (sizes**2).sum(), values, 1),
        "the means were divided by the sizes, and not multiplied": np.tensordot(1 / sizes, values, 1),
        "it is that of the largest shard alone": values[sizes.argmax()],
        **{f"it is that of worker {at} alone": value for at, value in enumerate(values)},
    }


all_reduce = Exercise("all-reduce", my_all_reduce, HINTS, solution, judge, CASES, CORRECT)
