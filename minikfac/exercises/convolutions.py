"""Write the two factors of KFC, which is K-FAC for convolutions.

A convolution uses its weights at T locations, so the gradient of an example is a sum over them. KFC assumes
that derivatives at different locations are uncorrelated, and replaces the block by Omega (x) Gamma, with

    Omega = E[ sum_t abar_t abar_t^T ]  (I, I)        Gamma = (1/T) E[ sum_t g_t g_t^T ]  (O, O)

Write a function that takes what hand-written backprop holds for one convolution,

    abar  (N, T, I)     its image patches, the constant 1 last
    g     (K, N, T, O)  derivatives with respect to the output at each location, per example, with the root
                        weights of the K target terms folded in

and returns (Omega, Gamma).
"""

from __future__ import annotations

import numpy as np

from .. import fisher, layers
from ..backend import Array
from ..network import Network, outputs
from .exercise import Answer, Exercise
from .factors import N, causes_A, causes_G, judge_pair, wrong_shapes
from .judging import Part, call, drawn, mixed, moment

HINTS = (
    "Every patch counts like an example of a dense layer: make abar one matrix of N T rows.",
    "Outer product first, sum over locations afterwards. The other way round is KFAC-reduce, another matrix.",
    "Omega sums over locations and Gamma averages over them, so that T is in the product once.",
    "Omega = rows.T @ rows / N with rows (N T, I); Gamma the same of g, with rows (K N T, O), over N T.",
)


def my_kfc_factors(abar: Array, g: Array) -> tuple[Array, Array]:
    """Return Omega (I, I) and Gamma (O, O) from abar (N, T, I) and g (K, N, T, O) of one convolution."""
    raise NotImplementedError("write the two factors of KFC")


def solution(abar: Array, g: Array) -> tuple[Array, Array]:
    """Return the factors of one convolution [GM16, sec. 3]."""
    n, t, i = abar.shape
    patches, derivatives = abar.reshape(-1, i), g.reshape(-1, g.shape[-1])
    return patches.T @ patches / n, derivatives.T @ derivatives / (n * t)


CASES = {"the first convolution of a net": (0,), "the next": (1,)}
CORRECT = (
    "Omega sums over locations and Gamma averages, up to rounding, on both convolutions of a small net; "
    "fisher.kfac does no more."
)


def judge(answer: Answer, layer: int) -> None:
    """Raise Wrong unless both are right for a convolution, 2 x 2 or 2 x 1, of a net on images of 4 x 3.

    T is 6 and 4, and three classes make K = 3.
    """
    net = Network(
        [
            layers.Conv2d(2, 5, 2),
            layers.Tanh(),
            layers.Conv2d(5, 4, (2, 1)),
            layers.Tanh(),
            layers.Flatten(),
            layers.Dense(16, 3),
        ],
        outputs.Categorical(),
    )
    rng = np.random.default_rng(0)
    theta = net.init(rng) + 0.1 * rng.standard_normal(net.n_params)
    signals = fisher.signals(net, theta, 0.5 + rng.standard_normal((N, 4, 3, 2)))[layer]
    abar, g = signals.abar, signals.g
    Omega, Gamma = solution(abar, g)
    (k, n, t, _) = g.shape
    judge_pair(
        call(answer, abar=abar, g=g),
        Part("Omega", Omega, causes_Omega(n, t, k), slips_Omega(abar), wrong_shapes("abar", abar), (0, 1)),
        Part("Gamma", Gamma, causes_Gamma(n, t, k), lambda G: slips_Gamma(g, G), wrong_shapes("g", g)),
        "the T sits in the other factor, as in some libraries; here Omega is the sum over locations and "
        "Gamma the mean",
    )


def causes_Omega(n: int, t: int, k: int) -> dict[str, float]:
    """Causes of a wrong scale of Omega, and the resulting factors."""
    return causes_A(n, k) | {
        "it is a mean over locations, and should be a sum: the one T sits in Gamma": 1 / t,
        "it is divided by T twice, and should be a sum over locations": 1 / t**2,
        "it was multiplied by T, and the sum over locations holds that already": t,
    }


def causes_Gamma(n: int, t: int, k: int) -> dict[str, float]:
    """The same of Gamma."""
    return causes_G(n, k) | {
        "it is a sum over locations, and should be a mean: divide by T": t,
        "it is divided by T twice": 1 / t,
        "it is divided by neither N nor T": n * t,
        "it is a sum over locations and a mean over the K target terms, the wrong way round": t / k,
    }


def slips_Omega(abar: Array) -> dict[str, Array]:
    """Matrices that are not Omega, and their causes."""
    n, mean = len(abar), abar.mean((0, 1))
    reduced = moment(abar.sum(1), n)
    return {
        "abar was summed over locations before the outer product, which is KFAC-reduce": reduced,
        "abar was averaged over examples before the outer product": moment(abar.mean(0), 1),
        "abar was averaged before the outer product, and not after": np.outer(mean, mean),
        "the mean was subtracted, as np.cov does; Omega is a second moment": moment(abar - mean, n),
        "only the first location went in": moment(abar[:, 0], n),
        **mixed("abar", abar, n),
    }


def slips_Gamma(g: Array, Gamma: Array) -> dict[str, Array]:
    """Matrices that are not Gamma, and their causes; the last depends on the answer."""
    (_, n, t, _), mean = g.shape, g.mean((0, 1, 2))
    return {
        "g was summed over locations before the outer product": moment(g.sum(2), n * t),
        "g was averaged over locations before the outer product, which is KFAC-reduce": moment(g.mean(2), n),
        "g was summed over the K target terms before the outer product": moment(g.sum(0), n * t),
        "g was averaged over examples before the outer product": moment(g.mean(1), t),
        "only the first location went in": moment(g[:, :, 0], n),
        "the mean was subtracted, as np.cov does; Gamma is a second moment": moment(g - mean, n * t),
        **mixed("g", g, n * t),
        **drawn(Gamma, n * t * Gamma.trace(), (g**2).sum((2, 3))),
    }


kfc_factors = Exercise("kfc-factors", my_kfc_factors, HINTS, solution, judge, CASES, CORRECT)
