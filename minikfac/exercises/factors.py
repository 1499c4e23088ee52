"""Write the two factors of K-FAC.

The Fisher block of a dense layer is E[ abar abar^T (x) g g^T ]. K-FAC replaces it by A (x) G, with

    A = E[ abar abar^T ]  (I, I)        G = E[ g g^T ]  (O, O)

Write a function that takes what hand-written backprop holds for one layer,

    abar  (N, I)     inputs of the layer's weights, per example; the last column is the constant 1
    g     (K, N, O)  derivatives of the negative log-likelihood with respect to the pre-activations, per
                     example; k runs over the terms of the expectation over the model's targets, and the
                     square root of each term's weight is folded into g already

and returns (A, G). E is a mean over the N examples and, for G, a sum over the K terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import fisher
from ..backend import Array
from ..network import mlp
from .exercise import Answer, Exercise, Wrong
from .judging import Part, call, causes_of_mean, drawn, mixed, moment, multiple, ordered, parts, same, times

HINTS = (
    "One entry of A is A[i, j] = (1/N) sum_n abar[n, i] abar[n, j]: a matrix product without a loop.",
    "The weights of the targets are inside g as square roots, so that g g^T holds them whole: over k there "
    "is a sum, and no mean.",
    "The bias needs nothing of its own: its input is the 1 in the last column of abar; A has a row for it.",
    "np.cov is not what you want: it subtracts the mean and divides by N - 1. A and G are second moments.",
    "A = abar.T @ abar / N; and G is the same of g, once its first two axes are one of length K N.",
)


def my_factors(abar: Array, g: Array) -> tuple[Array, Array]:
    """Return A (I, I) and G (O, O) from abar (N, I) and g (K, N, O) of one layer."""
    raise NotImplementedError("write the two factors of K-FAC")


def solution(abar: Array, g: Array) -> tuple[Array, Array]:
    """Return the factors of one layer [MG15, sec. 3]."""
    n = len(abar)
    rows = g.reshape(-1, g.shape[-1])  # (K N, O)
    return abar.T @ abar / n, rows.T @ rows / n


N = 11
"""Examples; N, K = 3, I = 6 and O = 4 differ, so that a factor tells where it comes from."""


CASES = {"the first layer of a net": (0,), "the next": (1,)}
CORRECT = (
    "A = E[abar abar^T] and G = E[g g^T] up to rounding, on both layers of a small net; fisher.kfac does no "
    "more."
)


def judge(answer: Answer, layer: int) -> None:
    """Raise Wrong unless A and G are right for a layer of a net of 5-4-3 units, tanh, three classes."""
    net = mlp([5, 4, 3])
    rng = np.random.default_rng(0)
    theta = net.init(rng) + 0.1 * rng.standard_normal(net.n_params)
    signals = fisher.signals(net, theta, 0.5 + rng.standard_normal((N, 5)))[layer]
    abar, g = signals.abar[:, 0], signals.g[:, :, 0]
    A, G = solution(abar, g)
    judge_pair(
        call(answer, abar=abar, g=g),
        Part("A", A, causes_A(N, len(g)), _slips_A(abar), wrong_shapes("abar", abar), (0, 1)),
        Part("G", G, causes_G(N, len(g)), lambda G: _slips_G(g, G), wrong_shapes("g", g)),
        "each should be a mean over the examples by itself",
    )


def wrong_shapes(name: str, signal: Array) -> dict[Any, str]:
    """Shapes that the second moment of abar or g should not have, and their causes."""
    rows, units = signal.size // signal.shape[-1], signal.shape[-1]
    round_about = f"{name} times its transpose the wrong way round: it sums over units, not examples"
    shapes = {(n, n): round_about for n in (N, rows)}
    if name == "abar":
        shapes[units - 1, units - 1] = "the bias is missing, whose input is the last column of abar"
        shapes[units + 1, units + 1] = "a 1 was appended to abar, which has it already"
    return shapes


def judge_pair(returned: Any, a: Part, g: Part, split: str) -> None:
    """Raise Wrong unless both factors of one layer are right.

    Args:
        returned: what the answer made.
        a: of the inputs.
        g: of the derivatives.
        split: what to say where the product is right and its factors are not.
    """
    i, o = len(a.right), len(g.right)
    if isinstance(returned, np.ndarray) and returned.shape == (i * o, i * o):
        raise Wrong(
            f"Expected the two factors {a.name} ({i}, {i}) and {g.name} ({o}, {o}), got one array "
            f"({i * o}, {i * o}): the Kronecker product itself, which K-FAC never forms."
        )
    factors = parts(returned, a.name, g.name)
    ordered(factors, a, g)
    wrong_A, wrong_G = (part.diagnose(factors[part.name]) for part in (a, g))
    c, d = (multiple(np.asarray(factors[part.name], float), part.right) for part in (a, g))
    if c is not None and d is not None and not same(c, 1) and same(c * d, 1):
        why = f"{a.name} is {times(c)} what it should be, and {g.name} makes up for it: {split}"
        if same(c, -1):
            why = f"the signs of {a.name} and {g.name} are both turned, and a mean of squares is positive"
        raise Wrong(f"{a.name} (x) {g.name} is right, but {why}.")
    if wrong_A and wrong_G:
        raise Wrong(f"{wrong_A}; {wrong_G}.")
    if wrong_A or wrong_G:
        raise Wrong(f"{g.name if wrong_A else a.name} is right, but {wrong_A or wrong_G}.")


def causes_A(n: int, k: int) -> dict[str, float]:
    """Causes of a wrong scale of A, of n examples and k terms, and the resulting factors."""
    return causes_of_mean(n) | {
        "it is divided by N - 1, which is for means that were subtracted": n / (n - 1),
        "it was summed over the K target terms, on which abar does not depend": k,
        "it is divided by K, but abar does not depend on the target terms": 1 / k,
    }


def causes_G(n: int, k: int) -> dict[str, float]:
    """The same of G."""
    shared = {cause: factor for cause, factor in causes_A(n, k).items() if "abar" not in cause}
    return shared | {
        "it is a mean over the K target terms, and should be a sum: g holds their root weights": 1 / k,
        "g was divided by N before its square was taken, as backprop of a mean loss does": 1 / n**2,
        "the sum over examples is not divided by N, and a mean was taken over the K target terms": n / k,
        "it is divided by K N - 1 as np.cov does, and neither the K nor the 1 belongs there": n / (k * n - 1),
    }


def _slips_A(abar: Array) -> dict[str, Array]:
    """Matrices that are not A, and their causes."""
    n, mean = len(abar), abar.mean(0)
    return {
        "the mean was subtracted, as np.cov does; A is a second moment": moment(abar - mean, n),
        "abar was averaged before the outer product, and not after": np.outer(mean, mean),
        **mixed("abar", abar, n),
    }


def _slips_G(g: Array, G: Array) -> dict[str, Array]:
    """Matrices that are not G, and their causes; the last depends on the answer."""
    n, mean, means = g.shape[1], g.mean((0, 1)), g.mean(1, keepdims=True)
    one_term = "only term {} of the K target terms went in, and they are to be summed"
    return {
        **{one_term.format(k): moment(term, n) for k, term in enumerate(g)},
        "g was summed over the K target terms before the outer product": moment(g.sum(0), n),
        "g was averaged over examples before the outer product": moment(g.mean(1), 1),
        "g was averaged before the outer product, and not after": np.outer(mean, mean),
        "the mean was subtracted, as np.cov does; G is a second moment": moment(g - mean, n),
        "the mean over examples was subtracted; G is a second moment": moment(g - means, n),
        **mixed("g", g, n),
        **drawn(G, n * G.trace(), (g**2).sum(2)),
    }


kronecker_factors = Exercise("kronecker-factors", my_factors, HINTS, solution, judge, CASES, CORRECT)
