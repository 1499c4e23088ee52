"""Exercise: write the two factors of K-FAC, A = E[ abar abar^T ] and G = E[ g g^T ] [MG15, sec. 3]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import fisher
from ..network import mlp
from .exercise import Exercise, Wrong
from .judging import as_numbers, call, causes_of_mean, check_finite, diagnose, multiple, parts, same, times

TASK = """Write the two factors of K-FAC.

The Fisher block of a dense layer is E[ abar abar^T (x) g g^T ]. K-FAC takes it for A (x) G, with

    A = E[ abar abar^T ]  (I, I)        G = E[ g g^T ]  (O, O)

Write a function that takes what hand-written backprop holds for one layer,

    abar  (N, I)     inputs of the layer's weights, per example; the last column is the constant 1
    g     (K, N, O)  derivatives of the negative log-likelihood by the pre-activations, per example;
                     k runs over the terms of the expectation over the model's targets, and the square
                     root of each term's weight is folded into g already

and returns (A, G). E is a mean over the N examples and, for G, a sum over the K terms."""

HINTS = (
    "One entry of A is A[i, j] = (1/N) sum_n abar[n, i] abar[n, j]: a matrix product without a loop.",
    "The weights of the targets are inside g as square roots, so that g g^T holds them whole: over k there "
    "is a sum, and no mean.",
    "The bias needs nothing of its own: its input is the 1 in the last column of abar; A has a row for it.",
    "np.cov is not what you want: it subtracts the mean and divides by N - 1. A and G are second moments.",
    "A = abar.T @ abar / N; and G is the same of g, once its first two axes are one of length K N.",
)


def my_factors(abar: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return A (I, I) and G (O, O) from abar (N, I) and g (K, N, O) of one layer."""
    raise NotImplementedError("write the two factors of K-FAC")


def solution(abar: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors of one layer."""
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


def judge(answer: Callable[..., Any], layer: int) -> None:
    """Raise Wrong unless A and G are right for a layer of a net of 5-4-3 units, tanh, three classes."""
    net = mlp([5, 4, 3])
    rng = np.random.default_rng(0)
    theta = net.init(rng) + 0.1 * rng.standard_normal(net.n_params)
    signals = fisher.signals(net, theta, 0.5 + rng.standard_normal((N, 5)))[layer]
    abar, g = signals.abar[:, 0], signals.g[:, :, 0]
    A, G = solution(abar, g)
    judge_pair(
        call(answer, abar=abar, g=g),
        Factor("A", A, "abar", causes_A(N, len(g)), _slips_A(abar), bias=True),
        Factor("G", G, "g", causes_G(N, len(g)), _slips_G(g)),
        "each should be a mean over the examples by itself",
    )


@dataclass(frozen=True)
class Factor:
    """One of two Kronecker factors, and how it goes wrong.

    Attributes:
        name: of the factor.
        right: what it should be.
        of: the signal whose second moment it is.
        causes, slips: as in :func:`minikfac.exercises.judging.diagnose`.
        bias: whether its last row is that of the constant 1.
    """

    name: str
    right: np.ndarray
    of: str
    causes: Mapping[str, float]
    slips: Mapping[str, np.ndarray]
    bias: bool = False

    def why(self, array: np.ndarray) -> str:
        """What leads to a wrong shape, where that is known."""
        i = len(self.right)
        if self.bias and array.shape == (i - 1, i - 1):
            return f": the bias is missing, whose input is the last column of {self.of}"
        if array.ndim == 2 and array.shape[0] == array.shape[1] and array.shape[0] % N == 0:
            return f": {self.of} times its transpose the wrong way round: it sums over units, not examples"
        if array.ndim > 2:
            return ": one axis is left that is to be averaged or summed over"
        return ""

    def diagnose(self, array: np.ndarray) -> str | None:
        """What is wrong with it, of the right shape."""
        return diagnose(self.name, array, self.right, self.causes, self.slips)


def judge_pair(returned: Any, a: Factor, g: Factor, split: str) -> None:
    """Raise Wrong unless both factors of one layer are right.

    Args:
        returned: what the answer made.
        a: of the inputs.
        g: of the derivatives.
        split: what to say where the product is right and its factors are not.
    """
    A, G = _pair(returned, a, g)
    for factor, array in ((a, A), (g, G)):
        check_finite(factor.name, array)
    c, d = multiple(A, a.right), multiple(G, g.right)
    if c is not None and d is not None and not same(c, 1) and same(c * d, 1):
        raise Wrong(
            f"{a.name} (x) {g.name} is right, but {a.name} is {times(c)} what it should be, and {g.name} "
            f"makes up for it: {split}."
        )
    wrong_A, wrong_G = a.diagnose(A), g.diagnose(G)
    if wrong_A and wrong_G:
        raise Wrong(f"{wrong_A}; {wrong_G}.")
    if wrong_A or wrong_G:
        raise Wrong(f"{g.name if wrong_A else a.name} is right, but {wrong_A or wrong_G}.")


def _pair(returned: Any, a: Factor, g: Factor) -> tuple[np.ndarray, np.ndarray]:
    """Return A and G of the right shapes.

    Raises:
        Wrong: on anything else.
    """
    i, o = len(a.right), len(g.right)
    if isinstance(returned, np.ndarray) and returned.shape == (i * o, i * o):
        raise Wrong(
            f"Expected the two factors {a.name} ({i}, {i}) and {g.name} ({o}, {o}), got one array "
            f"({i * o}, {i * o}): the Kronecker product itself, which K-FAC never forms."
        )
    names = (a.name, g.name)
    A, G = map(as_numbers, names, parts(returned, *names))
    if (A.shape, G.shape) == (g.right.shape, a.right.shape):
        raise Wrong(
            f"{a.name} and {g.name} are swapped: expected {a.name} ({i}, {i}) of the inputs and then "
            f"{g.name} ({o}, {o}) of the derivatives, got {A.shape} and {G.shape}."
        )
    for factor, array in ((a, A), (g, G)):
        if array.shape != factor.right.shape:
            came = f"got {array.shape}{factor.why(array)}"
            raise Wrong(f"Expected {factor.name} of shape {factor.right.shape}, {came}.")
    return A, G


def causes_A(n: int, k: int) -> dict[str, float]:
    """What leads to a wrong scale of A, of n examples and k terms, and the factor it leads to."""
    return causes_of_mean(n) | {
        "it is divided by N - 1, which is for means that were subtracted": n / (n - 1),
        "it was summed over the K target terms, on which abar does not depend": k,
        "it is divided by K, but abar does not depend on the target terms": 1 / k,
    }


def causes_G(n: int, k: int) -> dict[str, float]:
    """The same of G."""
    shared = {cause: factor for cause, factor in causes_A(n, k).items() if "abar" not in cause}
    return shared | {
        "it is a mean over the K target terms, but their root weights are folded into g already, so sum": 1
        / k,
        "g was divided by N before its square was taken, as backprop of a mean loss does; g is per example": (
            1 / n**2
        ),
        "the sum over examples is not divided by N, and a mean was taken over the K target terms": n / k,
        "it is divided by K N - 1 as np.cov does, and neither the K nor the 1 belongs there": n / (k * n - 1),
    }


def _slips_A(abar: np.ndarray) -> dict[str, np.ndarray]:
    """Matrices that are not A, and what leads to them."""
    centre, A = abar.mean(0), abar.T @ abar
    return {
        "the mean was subtracted, as np.cov does; A is a second moment, and the bias lives in the mean": (
            A / len(abar) - np.outer(centre, centre)
        ),
        "abar was averaged before the outer product, and not after": np.outer(centre, centre),
        "only the diagonal is filled in": np.diag(A.diagonal()) / len(abar),
    }


def _slips_G(g: np.ndarray) -> dict[str, np.ndarray]:
    """Matrices that are not G, and what leads to them."""
    k, n, o = g.shape
    rows = g.reshape(-1, o)

    def second_moment(v: np.ndarray) -> np.ndarray:
        return v.T @ v / n

    one_term = "only term {} of the K target terms went in, and they are to be summed"
    return {
        **{one_term.format(at): second_moment(g[at]) for at in range(k)},
        "g was summed over the K target terms before the outer product, and not after": second_moment(
            g.sum(0)
        ),
        "g was averaged over examples before the outer product, and not after": (
            np.einsum("ko,kp->op", g.mean(1), g.mean(1))
        ),
        "g was averaged before the outer product, and not after": np.outer(rows.mean(0), rows.mean(0)),
        "the mean was subtracted, as np.cov does; G is a second moment": second_moment(rows - rows.mean(0)),
        "the mean over examples was subtracted; G is a second moment": (
            second_moment((g - g.mean(1, keepdims=True)).reshape(-1, o))
        ),
        "only the diagonal is filled in": np.diag(second_moment(rows).diagonal()),
    }


kronecker_factors = Exercise("kronecker-factors", TASK, my_factors, HINTS, solution, judge, CASES, CORRECT)
