"""Exercise: write the two factors of K-FAC, A = E[ abar abar^T ] and G = E[ g g^T ] [MG15, sec. 3]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import fisher
from ..network import mlp
from .exercise import (
    Exercise,
    Wrong,
    as_numbers,
    call,
    check_finite,
    diagnose,
    kind_of,
    multiple,
    same,
    times,
)

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


def judge(answer: Callable[..., Any]) -> str:
    """Try an answer on the layers of a small net: 5-4-3 units, tanh, three classes."""
    net = mlp([5, 4, 3])
    rng = np.random.default_rng(0)
    theta = net.init(rng) + 0.1 * rng.standard_normal(net.n_params)
    signals = fisher.signals(net, theta, 0.5 + rng.standard_normal((N, 5)))
    for layer in range(len(signals)):
        abar, g = signals[layer].abar[:, 0], signals[layer].g[:, :, 0]
        try:
            judge_layer(call(answer, abar=abar, g=g), abar, g)
        except Wrong as wrong:
            if layer == 0:
                raise
            raise Wrong(
                f"Right on the first layer of a net, but not on the next: {wrong}"
            ) from wrong.__cause__
    return (
        "Correct: A = E[abar abar^T] and G = E[g g^T] up to rounding, on both layers of a small net; "
        "fisher.kfac does no more."
    )


def judge_layer(returned: Any, abar: np.ndarray, g: np.ndarray) -> None:
    """Raise Wrong unless the factors of one layer are right."""
    right_A, right_G = solution(abar, g)
    A, G = _pair(returned, right_A, right_G)
    for name, found in (("A", A), ("G", G)):
        check_finite(name, found)
    c, d = multiple(A, right_A), multiple(G, right_G)
    if c is not None and d is not None and not same(c, 1) and same(c * d, 1):
        raise Wrong(
            f"A (x) G is right, but A is {times(c)} the mean of abar abar^T, and G makes up for it: each "
            "should be a mean over the examples by itself."
        )
    wrong_A = diagnose("A", A, right_A, _causes(abar, g, of_g=False), _slips_A(abar))
    wrong_G = diagnose("G", G, right_G, _causes(abar, g, of_g=True), _slips_G(g))
    if wrong_A and wrong_G:
        raise Wrong(f"{wrong_A}; {wrong_G}.")
    if wrong_A or wrong_G:
        raise Wrong(f"{'G' if wrong_A else 'A'} is right, but {wrong_A or wrong_G}.")


def _pair(returned: Any, right_A: np.ndarray, right_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return A and G of the right shapes.

    Raises:
        Wrong: on anything else.
    """
    i, o = len(right_A), len(right_G)
    if isinstance(returned, np.ndarray) and returned.shape == (i * o, i * o):
        raise Wrong(
            f"Expected the two factors A ({i}, {i}) and G ({o}, {o}), got one array ({i * o}, {i * o}): the "
            "Kronecker product itself, which K-FAC never forms."
        )
    if returned is None:
        raise Wrong("Expected two arrays (A, G), got None: is there a return at the end?")
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        many = f"a {type(returned).__name__} of {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise Wrong(f"Expected two arrays (A, G), got {many or kind_of(returned)}.")
    A, G = (as_numbers(name, array) for name, array in zip("AG", returned, strict=True))
    if (A.shape, G.shape) == (right_G.shape, right_A.shape):
        raise Wrong(
            f"A and G are swapped: expected A ({i}, {i}) of the inputs and then G ({o}, {o}) of the "
            f"derivatives, got {A.shape} and {G.shape}."
        )
    for name, found, size, of in (("A", A, i, "abar"), ("G", G, o, "g")):
        if found.shape != (size, size):
            raise Wrong(f"Expected {name} of shape ({size}, {size}), got {found.shape}{_why(found, i, of)}.")
    return A, G


def _why(found: np.ndarray, i: int, of: str) -> str:
    """What leads to a wrong shape, where that is known."""
    if of == "abar" and found.shape == (i - 1, i - 1):
        return ": the bias is missing, whose input is the last column of abar"
    if found.ndim == 2 and found.shape[0] == found.shape[1] and found.shape[0] % N == 0:
        return f": {of} times its transpose the wrong way round, which sums over units and not over examples"
    if found.ndim == 3:
        return ": one axis is left that is to be averaged or summed over"
    return ""


def _causes(abar: np.ndarray, g: np.ndarray, of_g: bool) -> dict[str, float]:
    """What leads to a wrong scale of A or G, and the factor it leads to."""
    n, k = len(abar), len(g)
    causes = {
        "the sum over examples is not divided by N": n,
        "it is divided by N twice": 1 / n,
        "it is divided by N - 1, which is for means that were subtracted": n / (n - 1),
        "the sign is turned, and a mean of squares is positive": -1,
    }
    if not of_g:
        return causes | {
            "it was summed over the K target terms, on which abar does not depend": k,
            "it is divided by K, but abar does not depend on the target terms": 1 / k,
        }
    return causes | {
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

    terms = {
        f"only term {at} of the K target terms went in, and they are to be summed": g[at] for at in range(k)
    }
    return {
        **{slip: second_moment(term) for slip, term in terms.items()},
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


kronecker_factors = Exercise("kronecker-factors", TASK, my_factors, HINTS, solution, judge)
