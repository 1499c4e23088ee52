"""Write the exact Fisher matrix of a classifier.

F = E[ D D^T ], with D = d log p(y | x) / d theta, x from the data and y from the model: a mean over the
examples, and for each of them an expectation over all possible labels. Write a
function that takes

    D  (C, N, P)  gradients of log p of every label c, for every example n
    p  (N, C)     probabilities of the labels by the model
    y  (N,)       the labels of the data, which a loader hands over; do you need them?

and returns F (P, P).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import fisher
from ..backend import Array
from ..network import mlp
from .exercise import Answer, Exercise
from .judging import Part, call, causes_of_mean, drawn, in_order

HINTS = (
    "One entry is F[a, b] = (1/N) sum_n sum_c p[n, c] D[c, n, a] D[c, n, b].",
    "The weights p are those of the expectation over labels: they sum to 1, so nothing is divided by C.",
    "Outer product first, mean afterwards: the mean of D itself under the model is zero.",
    "With rows D[c, n] sqrt(p[n, c] / N), (C N, P), it is one matrix product rows.T @ rows; or np.einsum.",
)


def my_exact_fisher(D: Array, p: Array, y: Array) -> Array:
    """Return F (P, P) from D (C, N, P), p (N, C) and y (N,)."""
    raise NotImplementedError("write the exact Fisher matrix of a classifier")


def solution(D: Array, p: Array, y: Array) -> Array:
    """Weight all labels by the model's probabilities; the labels of the data play no part."""
    rows = D * np.sqrt(p.T / len(p))[:, :, None]  # (C, N, P)
    rows = rows.reshape(-1, D.shape[-1])
    return rows.T @ rows


CASES = {"a net of 2-2-3 units": (5, [2, 2, 3]), "one of 1-2-4": (7, [1, 2, 4])}
CORRECT = (
    "F = E_x E_y[D D^T] with y from the model, up to rounding; the labels of the data were not "
    "needed, and with them it would be the empirical Fisher matrix."
)


def judge(answer: Answer, n: int, sizes: list[int]) -> None:
    """Raise Wrong unless F is right on one net."""
    net, rng = mlp(sizes), np.random.default_rng(n)
    theta, x = rng.standard_normal(net.n_params), rng.standard_normal((n, sizes[0]))
    p, c = net.predict(theta, x), sizes[-1]
    D = -np.stack([gradients(net, theta, x, np.full(n, label)) for label in range(c)])
    y = rng.integers(0, c, n)
    P = net.n_params
    shapes = {
        (n, P, P): "the examples are not averaged",
        (c, P, P): "the labels are not summed over",
        (c, n, P, P): "all outer products are there, and neither labels nor examples are averaged over",
        (P,): "only the diagonal is there, or the mean of D",
        (n, n): "it is that of D D^T over parameters, a matrix of examples",
    }
    F, right = call(answer, D=D, p=p, y=y), solution(D, p, y)
    slip = "it is divided by C, but the probabilities weigh the labels already"
    causes = causes_of_mean(n) | {slip: 1 / c}
    in_order({"F": F}, Part("F", right, causes, lambda F: slips(D, p, y, F), shapes))


def gradients(net: Any, theta: Array, x: Array, y: Array) -> Array:
    """Per-example gradients of -log p for these labels, (N, P)."""
    layers = next(iter(fisher.signals(net, theta, x, y, targets="data")))
    return np.concatenate([layer.gradients()[0] for layer in layers], axis=1)


def slips(D: Array, p: Array, y: Array, F: Array) -> dict[str, Array]:
    """Matrices that are not F, and their causes; the last depends on the answer."""
    n, c = p.shape

    def weighted(w: Array) -> Array:
        return np.einsum("cna,nc,cnb->ab", D, w, D) / n

    of_data, of_labels = D[y, np.arange(n)], D.mean(1) * np.sqrt(p.mean(0))[:, None]
    mean = of_data.mean(0)
    zero = 0 < np.linalg.norm(F) < 1e-12 * np.linalg.norm(D) ** 2
    slips = (
        {"D was averaged over the labels before the outer product, and that mean is zero": F} if zero else {}
    )
    return slips | {
        "the labels of the data were used: it is the empirical Fisher matrix": of_data.T @ of_data / n,
        "the mean gradient was squared, and the mean of outer products is meant": np.outer(mean, mean),
        "the weights p were forgotten, so that every label counts the same": weighted(np.ones_like(p)),
        "the weights are p^2, and p is meant: its root goes in before the outer product": weighted(p**2),
        "the weights are sqrt(p), and p is meant": weighted(np.sqrt(p)),
        "only the most probable label of each example was used": weighted(np.eye(c)[p.argmax(1)]),
        "D was averaged over the examples before the outer product": of_labels.T @ of_labels,
        "the mean was subtracted, as np.cov does": np.cov(D.reshape(c * n, -1).T, ddof=0),
        "p was reshaped to (C, N), and its transpose is meant": weighted(p.reshape(c, n).T),
        **drawn(F, n * F.trace(), (D**2).sum(2)),
    }


exact_fisher = Exercise("exact-fisher", my_exact_fisher, HINTS, solution, judge, CASES, CORRECT)
