"""Each exercise, wrong in every way that it knows: the answer gets the sentence that belongs to the slip."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from minikfac import exercises
from minikfac.exercises import judging
from oracles.wrong_answers import TABLES

Slips = dict[str, tuple[Any, str]]


def of(name: str) -> Callable[..., Any]:
    return exercises.find(name).solution


def replaced(name: str, at: int, change: Callable[..., Any]) -> Callable[..., Any]:
    """The solution with one of its parts changed; ``change`` takes the part and then the arguments."""

    def answer(*given: Any) -> Any:
        parts = list(of(name)(*given))
        parts[at] = change(parts[at], *given)
        return tuple(parts)

    return answer


# natural-gradient ---------------------------------------------------------------------------------


def D(x: np.ndarray, mu: float, rho: float) -> np.ndarray:
    """By (mu, log sigma), (N, 2)."""
    return np.stack([(x - mu) * np.exp(-2 * rho), (x - mu) ** 2 * np.exp(-2 * rho) - 1], 1)


def F_of(make: Callable[..., Any]) -> Callable[..., Any]:
    return replaced("natural-gradient", 0, lambda F, x, mu, rho: make(x, mu, rho))


def step_of(make: Callable[..., Any]) -> Callable[..., Any]:
    return replaced("natural-gradient", 1, lambda step, x, mu, rho: make(step, x, mu, rho))


def follows(x: np.ndarray, mu: float, rho: float) -> Any:
    F = np.diag([np.exp(-2 * rho), 2 * np.exp(-2 * rho)])
    return F, np.linalg.solve(F, D(x, mu, rho).mean(0))


def observed(x: np.ndarray, mu: float, rho: float) -> np.ndarray:
    v = np.exp(2 * rho)
    return np.array([[1, 2 * (x.mean() - mu)], [2 * (x.mean() - mu), 2 * ((x - mu) ** 2).mean()]]) / v


NATURAL: Slips = {
    "F only": (lambda x, mu, rho: np.eye(2), "Expected two arrays (F, step), got an array of shape (2, 2)"),
    "no return": (lambda x, mu, rho: None, "got None: is there a return at the end?"),
    "diagonal": (F_of(lambda x, mu, rho: np.ones(2)), "F of shape (2, 2), got (2,): only the diagonal is"),
    "sum": (
        F_of(lambda x, mu, rho: len(x) * np.diag([np.exp(-2 * rho), 2])),
        "F is 7 times what it should be: it is a sum",
    ),
    "over N": (
        F_of(lambda x, mu, rho: np.diag([np.exp(-2 * rho), 2]) / len(x)),
        "F is 1/7 of what it should be: it is divided by N",
    ),
    "sign of F": (
        F_of(lambda x, mu, rho: -np.diag([np.exp(-2 * rho), 2])),
        "F is -1 times what it should be: the sign is turned.",
    ),
    "of sigma": (
        F_of(lambda x, mu, rho: np.diag([1, 2]) * np.exp(-2 * rho)),
        "F is another matrix: it is that of (mu, sigma); by log",
    ),
    "of sigma, and so the step": (
        follows,
        "the step is -F^-1 grad with that F, and will be right when F is.",
    ),
    "of log variance": (
        F_of(lambda x, mu, rho: np.diag([np.exp(-2 * rho), 0.5])),
        "it is that of (mu, log sigma^2)",
    ),
    "inverse": (F_of(lambda x, mu, rho: np.diag([np.exp(2 * rho), 0.5])), "it is the inverse of F"),
    "sigma not squared": (
        F_of(lambda x, mu, rho: np.diag([np.exp(-rho), 2])),
        "sigma is in it where sigma^2",
    ),
    "no exponential": (F_of(lambda x, mu, rho: np.diag([rho**-2, 2])), "log sigma was taken for sigma"),
    "unit variance": (
        F_of(lambda x, mu, rho: np.diag([1, 2])),
        "F is another matrix: sigma was taken for 1.",
    ),
    "empirical": (
        F_of(lambda x, mu, rho: D(x, mu, rho).T @ D(x, mu, rho) / len(x)),
        "over the data, the empirical Fisher",
    ),
    "covariance": (
        F_of(lambda x, mu, rho: np.cov(D(x, mu, rho).T)),
        "it is the covariance of D over the data",
    ),
    "observed": (F_of(observed), "it is the Hessian of the loss on these data"),
    "not averaged": (
        step_of(lambda step, *given: -D(*given)),
        "step of shape (2,), got (7, 2): the gradients of the",
    ),
    "uphill": (
        step_of(lambda step, *given: -step),
        "F is right, but step is -1 times what it should be: the sign is turned, and it goes uphill.",
    ),
    "summed": (
        step_of(lambda step, x, mu, rho: len(x) * step),
        "step is 7 times what it should be: it is a sum",
    ),
    "gradient": (
        step_of(lambda step, *given: D(*given).mean(0)),
        "step is another vector: it is the gradient, and F^-1",
    ),
    "gradient uphill": (
        step_of(lambda step, *given: -D(*given).mean(0)),
        "another vector (and -1 times even that): it is the grad",
    ),
    "times F": (
        step_of(lambda step, x, mu, rho: D(x, mu, rho).mean(0) * [np.exp(-2 * rho), 2]),
        "it is F times the gradient",
    ),
    "no log sigma": (
        step_of(lambda step, *given: (D(*given).mean(0) + [0, 1]) / [np.exp(-2 * given[2]), 2]),
        "the log sigma of the loss",
    ),
    "step of sigma": (
        step_of(lambda step, x, mu, rho: step * [1, np.exp(rho)]),
        "is a step of sigma, and not of log sigma",
    ),
    "step of variance": (
        step_of(lambda step, x, mu, rho: step * [1, 2 * np.exp(2 * rho)]),
        "is a step of sigma^2, and not",
    ),
    "hard-coded": (
        lambda x, mu, rho: (np.diag([np.exp(0.8), 2]), of("natural-gradient")(x, mu, rho)[1]),
        "Right on seven numbers, but not on five others: F is",
    ),
}

# backward -----------------------------------------------------------------------------------------


def one(a: np.ndarray) -> np.ndarray:
    return np.c_[a, np.ones(len(a))]


def forward(x: np.ndarray, W1: np.ndarray, W2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a = np.tanh(one(x) @ W1)
    return a, one(a) @ W2


def p_of(z: np.ndarray, axis: int = 1) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum(axis, keepdims=True)


def top(make: Callable[..., Any]) -> Callable[..., Any]:
    """g2 from z and the one-hot labels."""

    def change(g2: np.ndarray, x: np.ndarray, y: np.ndarray, W1: np.ndarray, W2: np.ndarray) -> Any:
        z = forward(x, W1, W2)[1]
        return make(z, np.eye(z.shape[1])[y])

    return replaced("backward", 1, change)


def low(make: Callable[..., Any]) -> Callable[..., Any]:
    """g1 from g2, a, s and W2."""

    def change(g1: np.ndarray, x: np.ndarray, y: np.ndarray, W1: np.ndarray, W2: np.ndarray) -> Any:
        return make(of("backward")(x, y, W1, W2)[1], forward(x, W1, W2)[0], one(x) @ W1, W2)

    return replaced("backward", 0, change)


def weights(make: Callable[..., Any], at: int = 3) -> Callable[..., Any]:
    """DW2 from abar and g2, or DW1 from its own."""

    def change(DW: np.ndarray, x: np.ndarray, y: np.ndarray, W1: np.ndarray, W2: np.ndarray) -> Any:
        g1, g2, _, _ = of("backward")(x, y, W1, W2)
        return make(*((one(forward(x, W1, W2)[0]), g2) if at == 3 else (one(x), g1)))

    return replaced("backward", at, change)


def squared(z: np.ndarray, hot: np.ndarray) -> np.ndarray:
    p = p_of(z)
    return np.stack([(np.diag(q) - np.outer(q, q)) @ (q - h) for q, h in zip(p, hot, strict=True)])


def no_bias(abar: np.ndarray, g: np.ndarray) -> np.ndarray:
    DW = abar.T @ g / len(g)
    DW[-1] = 0
    return DW


def bias_first(abar: np.ndarray, g: np.ndarray) -> np.ndarray:
    return np.c_[np.ones(len(g)), abar[:, :-1]].T @ g / len(g)


BACKWARD: Slips = {
    "three": (
        lambda *given: of("backward")(*given)[:3],
        "Expected four arrays (g1, g2, DW1, DW2), got a tuple of 3.",
    ),
    "mean g2": (
        top(lambda z, hot: (p_of(z) - hot).mean(0)),
        "g2 of shape (5, 3), got (3,): the examples are not kept",
    ),
    "sum over classes": (top(lambda z, hot: (p_of(z) - hot).sum(1)), "got (5,): classes are missing"),
    "mean loss": (
        top(lambda z, hot: (p_of(z) - hot) / len(z)),
        "g2 is 1/5 of what it should be: g is per example, and was",
    ),
    "sign": (
        top(lambda z, hot: hot - p_of(z)),
        "g2 is -1 times what it should be: the sign is turned: the loss",
    ),
    "no label": (top(lambda z, hot: p_of(z)), "g2 is another matrix: the label is missing, it is p alone"),
    "no softmax": (top(lambda z, hot: z - hot), "z minus the one-hot label, and the softmax is missing"),
    "label only": (top(lambda z, hot: (p_of(z) - hot) * hot), "only the entry of the label is there"),
    "by p": (top(lambda z, hot: -hot / p_of(z)), "it is the derivative by p, and not by z"),
    "softmax over examples": (top(lambda z, hot: p_of(z, 0) - hot), "the softmax ran over the examples"),
    "squared error": (top(squared), "it is that of 1/2 ||y - p||^2 by p and z"),
    "bias row kept": (
        low(lambda g2, a, s, W2: g2 @ W2.T),
        "Expected g1 of shape (5, 4), got (5, 5): the bias row",
    ),
    "g1 over N": (
        low(lambda g2, a, s, W2: g2 @ W2[:-1].T * (1 - a**2) / 5),
        "g2 is right, but g1 is 1/5 of what it should be",
    ),
    "no tanh'": (low(lambda g2, a, s, W2: g2 @ W2[:-1].T), "g1 is another matrix: tanh' is missing"),
    "1 - s^2": (
        low(lambda g2, a, s, W2: g2 @ W2[:-1].T * (1 - s**2)),
        "with a after the tanh, and not 1 - s^2",
    ),
    "tanh twice": (
        low(lambda g2, a, s, W2: g2 @ W2[:-1].T * (1 - np.tanh(a) ** 2)),
        "tanh was applied twice",
    ),
    "logistic": (
        low(lambda g2, a, s, W2: g2 @ W2[:-1].T * a * (1 - a)),
        "is the derivative of the logistic function",
    ),
    "times a": (low(lambda g2, a, s, W2: g2 @ W2[:-1].T * a), "a stands where tanh' = 1 - a^2 should"),
    "times a^2": (low(lambda g2, a, s, W2: g2 @ W2[:-1].T * a**2), "a^2 stands where tanh'"),
    "first row": (low(lambda g2, a, s, W2: g2 @ W2[1:].T * (1 - a**2)), "the first row of W2 was left out"),
    "bias lost": (
        weights(lambda abar, g: abar[:, :-1].T @ g),
        "got (4, 3): the bias row is missing, whose input is the constant",
    ),
    "transposed": (
        weights(lambda abar, g: g.T @ abar / len(g)),
        "DW2 of shape (5, 3), got (3, 5): it is transposed.",
    ),
    "per example": (
        weights(lambda abar, g: abar[:, :, None] * g[:, None]),
        "got (5, 5, 3): the examples are not averaged",
    ),
    "sum": (
        weights(lambda abar, g: abar.T @ g),
        "g2 and g1 are right, but DW2 is 5 times what it should be: it is the sum",
    ),
    "N twice": (
        weights(lambda abar, g: abar.T @ g / len(g) ** 2),
        "DW2 is 1/5 of what it should be: it is divided by N twice",
    ),
    "sign of DW1": (
        weights(lambda abar, g: -abar.T @ g / len(g), 2),
        "g2, g1 and DW2 are right, but DW1 is -1 times",
    ),
    "zero bias": (weights(no_bias, 2), "DW1 is another matrix: the bias row is zero"),
    "bias first": (weights(bias_first), "the bias comes first, and should be the last"),
    "means first": (
        weights(lambda abar, g: np.outer(abar.mean(0), g.mean(0))),
        "abar and g were averaged before the outer",
    ),
}

# exact-fisher -------------------------------------------------------------------------------------


def expected(D: np.ndarray, w: np.ndarray) -> np.ndarray:
    n = len(w)
    return sum(w[m, c] * np.outer(D[c, m], D[c, m]) for m in range(n) for c in range(len(D))) / n


def at_labels(D: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([D[c, n] for n, c in enumerate(y)])


EXACT: Slips = {
    "per example": (
        lambda D, p, y: np.einsum("cna,nc,cnb->nab", D, p, D),
        "F of shape (15, 15), got (5, 15, 15): the examples are",
    ),
    "per label": (
        lambda D, p, y: np.einsum("cna,nc,cnb->cab", D, p, D),
        "got (3, 15, 15): the labels are not summed over",
    ),
    "all": (
        lambda D, p, y: np.einsum("cna,cnb->cnab", D, D),
        "neither labels nor examples are averaged over",
    ),
    "a vector": (
        lambda D, p, y: np.einsum("cna,nc->a", D**2, p),
        "got (15,): only the diagonal is there, or the mean",
    ),
    "Gram": (
        lambda D, p, y: np.einsum("cna,cma->nm", D, D),
        "got (5, 5): it is that of D D^T over parameters",
    ),
    "NaN": (lambda D, p, y: expected(D, p) + np.nan, "F has NaN or infinite entries (225 of 225)"),
    "no return": (lambda D, p, y: None, "Expected F, got None: is there a return at the end?"),
    "text": (lambda D, p, y: "F", "F should be an array of real numbers, got a str."),
    "zeros": (lambda D, p, y: 0 * expected(D, p), "F is all zeros."),
    "unknown": (lambda D, p, y: expected(D, p) + np.eye(15), "F is off by"),
    "single precision": (lambda D, p, y: expected(D.astype("f"), p).astype("f"), "as if computed in single"),
    "N": (lambda D, p, y: len(p) * expected(D, p), "F is 5 times what it should be: the sum over examples"),
    "N twice": (
        lambda D, p, y: expected(D, p) / len(p),
        "F is 1/5 of what it should be: it is divided by N twice",
    ),
    "1/C": (lambda D, p, y: expected(D, p) / len(D), "F is 1/3 of what it should be: it is divided by C"),
    "sign": (lambda D, p, y: -expected(D, p), "the sign is turned."),
    "labels": (
        lambda D, p, y: at_labels(D, y).T @ at_labels(D, y) / len(y),
        "another matrix: the labels of the data were used",
    ),
    "mean gradient": (
        lambda D, p, y: np.outer(at_labels(D, y).mean(0), at_labels(D, y).mean(0)),
        "the mean gradient was squared",
    ),
    "no weights": (
        lambda D, p, y: expected(D, 0 * p + 1),
        "F is another matrix: the weights p were forgotten",
    ),
    "no weights, 1/C": (
        lambda D, p, y: expected(D, 0 * p + 1) / 3,
        "(and 1/3 of even that): the weights p were",
    ),
    "p^2": (lambda D, p, y: expected(D * p.T[:, :, None], 0 * p + 1), "the weights are p^2"),
    "sqrt(p)": (lambda D, p, y: expected(D, np.sqrt(p)), "the weights are sqrt(p)"),
    "most probable": (
        lambda D, p, y: expected(D, p == p.max(1, keepdims=True)),
        "only the most probable label",
    ),
    "examples first": (
        lambda D, p, y: np.einsum("ca,c,cb->ab", D.mean(1), p.mean(0), D.mean(1)),
        "averaged over the examples before",
    ),
    "diagonal": (lambda D, p, y: np.diag(np.diag(expected(D, p))), "only the diagonal is filled in"),
    "np.cov": (lambda D, p, y: np.cov(D.reshape(-1, D.shape[2]).T), "was subtracted, as np.cov does"),
    "labels first": (
        lambda D, p, y: np.einsum("na,nb->ab", *2 * [np.einsum("cna,nc->na", D, p)]),
        "D was averaged over the labels before the outer product",
    ),
    "unsymmetric": (
        lambda D, p, y: np.triu(expected(D, p)),
        "F is not symmetric, which a mean of outer products",
    ),
}

# tridiagonal --------------------------------------------------------------------------------------

inv, kron = np.linalg.inv, np.kron


def sigma(make: Callable[..., Any]) -> Callable[..., Any]:
    return replaced("tridiagonal", 2, lambda S, *given: make(*given))


def explained(A12: np.ndarray, A22: np.ndarray) -> np.ndarray:
    return A12 @ inv(A22) @ A12.T


def psi(make: Callable[..., Any], at: int = 0) -> Callable[..., Any]:
    return replaced("tridiagonal", at, lambda P, *given: make(*given[1 + 3 * at : 3 + 3 * at]))


TRIDIAGONAL: Slips = {
    "transposed": (
        psi(lambda A12, A22: inv(A22) @ A12.T),
        "PsiA of shape (5, 4), got (4, 5): it is transposed.",
    ),
    "no inverse": (psi(lambda A12, A22: A12), "PsiA is another matrix: it is the cross factor itself"),
    "product": (psi(lambda A12, A22: A12 @ A22), "times that of the upper layer, and its inverse is meant"),
    "inverse twice": (psi(lambda A12, A22: A12 @ inv(A22) @ inv(A22)), "the inverse went in twice"),
    "entry by entry": (psi(lambda A12, A22: A12 / np.diag(A22)), "it is divided entry by entry"),
    "PsiG": (
        psi(lambda G12, G22: G12, 1),
        "PsiA is right, but PsiG is another matrix: it is the cross factor itself",
    ),
    "sign": (
        replaced("tridiagonal", 2, lambda S, *given: -S),
        "PsiA and PsiG are right, but Sigma is -1 times",
    ),
    "A alone": (
        sigma(lambda A11, A12, A22, G11, G12, G22: A11 - explained(A12, A22)),
        "unexplained part of A11 alone",
    ),
    "upper": (
        sigma(lambda A11, A12, A22, G11, G12, G22: kron(A22, G22)),
        "got (8, 8): it is of the size of the upper",
    ),
    "F11": (
        sigma(lambda A11, A12, A22, G11, G12, G22: kron(A11, G11)),
        "explains was not subtracted, it is F11",
    ),
    "explained": (
        sigma(lambda A11, A12, A22, G11, G12, G22: kron(explained(A12, A22), explained(G12, G22))),
        "it is what the upper layer explains",
    ),
    "plus": (
        sigma(
            lambda A11, A12, A22, G11, G12, G22: (
                kron(A11, G11) + kron(explained(A12, A22), explained(G12, G22))
            )
        ),
        "explains was added",
    ),
    "factors": (
        sigma(
            lambda A11, A12, A22, G11, G12, G22: kron(A11 - explained(A12, A22), G11 - explained(G12, G22))
        ),
        "subtracted before the Kronecker",
    ),
    "no A22": (
        sigma(
            lambda A11, A12, A22, G11, G12, G22: (
                kron(A11, G11) - kron(A12 @ inv(A22) @ inv(A22) @ A12.T, G12 @ inv(G22) @ inv(G22) @ G12.T)
            )
        ),
        "A22 and G22 are missing",
    ),
    "no inverses": (
        sigma(lambda A11, A12, A22, G11, G12, G22: kron(A11, G11) - kron(A12 @ A12.T, G12 @ G12.T)),
        "the inverses are missing",
    ),
    "both orders": (
        sigma(
            lambda A11, A12, A22, G11, G12, G22: (
                kron(G11, A11) - kron(explained(G12, G22), explained(A12, A22))
            )
        ),
        "order of the Kronecker products",
    ),
    "second order": (
        sigma(
            lambda A11, A12, A22, G11, G12, G22: (
                kron(A11, G11) - kron(explained(G12, G22), explained(A12, A22))
            )
        ),
        "order of the second Kronecker",
    ),
    "first order": (
        sigma(
            lambda A11, A12, A22, G11, G12, G22: (
                kron(G11, A11) - kron(explained(A12, A22), explained(G12, G22))
            )
        ),
        "order of the first Kronecker",
    ),
}

# kfc-factors --------------------------------------------------------------------------------------


def moment(v: np.ndarray) -> np.ndarray:
    rows = v.reshape(-1, v.shape[-1])
    return rows.T @ rows


def omega(make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda abar, g: (make(abar, len(abar), abar.shape[1]), moment(g) / g[0, :, :, 0].size)


def gamma(make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda abar, g: (moment(abar) / len(abar), make(g, len(abar), abar.shape[1]))


KFC: Slips = {
    "swapped": (
        lambda a, g: of("kfc-factors")(a, g)[::-1],
        "Omega and Gamma are swapped: expected (Omega, Gamma)",
    ),
    "no bias": (omega(lambda a, n, t: moment(a[..., :-1]) / n), "got (8, 8): the bias is missing"),
    "per location": (
        omega(lambda a, n, t: np.einsum("nti,ntj->tij", a, a)),
        "got (6, 9, 9): one axis is left",
    ),
    "split": (
        lambda a, g: (moment(a) / a[..., 0].size, moment(g) / len(a)),
        "Omega (x) Gamma is right, but Omega is 1/6 of what it should be, and Gamma makes up for it: the T",
    ),
    "mean over t": (
        omega(lambda a, n, t: moment(a) / (n * t)),
        "Gamma is right, but Omega is 1/6 of what it should be: it is a mean over loc",
    ),
    "T twice": (
        omega(lambda a, n, t: moment(a) / (n * t**2)),
        "Omega is 1/36 of what it should be: it is divided by T twice",
    ),
    "T twice, Omega": (
        omega(lambda a, n, t: moment(a) * t / n),
        "Omega is 6 times what it should be: it was multiplied by T",
    ),
    "N alone": (
        omega(lambda a, n, t: moment(a)),
        "Omega is 11 times what it should be: the sum over examples is not",
    ),
    "sum over t": (
        gamma(lambda g, n, t: moment(g) / n),
        "Omega is right, but Gamma is 6 times what it should be: it is a sum over loc",
    ),
    "Gamma T twice": (
        gamma(lambda g, n, t: moment(g) / (n * t**2)),
        "Gamma is 1/6 of what it should be: it is divided by T twice.",
    ),
    "neither": (
        gamma(lambda g, n, t: moment(g)),
        "Gamma is 66 times what it should be: it is divided by neither N nor T",
    ),
    "K for T": (
        gamma(lambda g, n, t: moment(g) / (n * len(g))),
        "a sum over locations and a mean over the K target terms",
    ),
    "mean over k": (
        gamma(lambda g, n, t: moment(g) / (n * t * len(g))),
        "Gamma is 1/3 of what it should be: it is a mean over the K",
    ),
    "reduce": (
        omega(lambda a, n, t: moment(a.sum(1)) / n),
        "abar was summed over locations before the outer product, which is",
    ),
    "reduce by mean": (
        omega(lambda a, n, t: moment(a.mean(1)) / n),
        "(and 1/36 of even that): abar was summed over locations",
    ),
    "mean over n first": (omega(lambda a, n, t: moment(a.mean(0))), "abar was averaged over examples before"),
    "all means": (
        omega(lambda a, n, t: np.outer(a.mean((0, 1)), a.mean((0, 1)))),
        "abar was averaged before the outer",
    ),
    "centred": (
        omega(lambda a, n, t: moment(a - a.mean((0, 1))) / n),
        "Omega is a second moment",
    ),
    "one location": (
        omega(lambda a, n, t: moment(a[:, 0]) / n),
        "Omega is another matrix: only the first location",
    ),
    "Omega diagonal": (
        omega(lambda a, n, t: np.diag(np.diag(moment(a))) / n),
        "only the diagonal is filled in",
    ),
    "sum then outer": (
        gamma(lambda g, n, t: moment(g.sum(2)) / (n * t)),
        "Gamma is another matrix: g was summed over locations before",
    ),
    "mean then outer": (
        gamma(lambda g, n, t: moment(g.mean(2)) / n),
        "g was averaged over locations before the outer product, which",
    ),
    "sum over k first": (
        gamma(lambda g, n, t: moment(g.sum(0)) / (n * t)),
        "g was summed over the K target terms before",
    ),
    "g over n first": (gamma(lambda g, n, t: moment(g.mean(1)) / t), "g was averaged over examples before"),
    "one location of g": (
        gamma(lambda g, n, t: moment(g[:, :, 0]) / n),
        "Gamma is another matrix: only the first location",
    ),
    "Gamma centred": (
        gamma(lambda g, n, t: moment(g - g.mean((0, 1, 2))) / (n * t)),
        "Gamma is a second moment",
    ),
    "Gamma diagonal": (
        gamma(lambda g, n, t: np.diag(np.diag(moment(g))) / (n * t)),
        "Gamma is another matrix: only the diag",
    ),
}

# factored-damping ---------------------------------------------------------------------------------


def pi(make: Callable[..., Any]) -> Callable[..., Any]:
    return replaced("factored-damping", 0, lambda pi, A, G, lam: make(A, G))


def damped(make: Callable[..., Any], at: int = 1) -> Callable[..., Any]:
    """A_damped from A, pi and lam."""

    def change(M: np.ndarray, A: np.ndarray, G: np.ndarray, lam: float) -> Any:
        share = (A.trace() / len(A) / (G.trace() / len(G))) ** 0.5
        return make(A, share, lam) if at == 1 else make(G, share, lam)

    return replaced("factored-damping", at, change)


def mean_eigenvalue(M: np.ndarray) -> float:
    return float(np.linalg.eigvalsh(M).mean())


I5, I3 = np.eye(5), np.eye(3)
DAMPING: Slips = {
    "no pi returned": (
        lambda A, G, lam: (A, G),
        "Expected three arrays (pi, A_damped, G_damped), got a tuple of 2.",
    ),
    "pi is an array": (pi(lambda A, G: np.ones(2)), "Expected pi to be a number, got (2,)."),
    "upside down": (
        pi(lambda A, G: (mean_eigenvalue(G) / mean_eigenvalue(A)) ** 0.5),
        "it is upside down: A comes on top",
    ),
    "no root": (pi(lambda A, G: mean_eigenvalue(A) / mean_eigenvalue(G)), "the root is missing."),
    "neither": (
        pi(lambda A, G: mean_eigenvalue(G) / mean_eigenvalue(A)),
        "the root is missing, and it is upside down",
    ),
    "no sizes": (pi(lambda A, G: (A.trace() / G.trace()) ** 0.5), "the traces are not divided by the sizes"),
    "one": (pi(lambda A, G: 1), "it is 1, which shares out equally"),
    "Frobenius": (
        pi(lambda A, G: (np.linalg.norm(A) * 3**0.5 / (np.linalg.norm(G) * 5**0.5)) ** 0.5),
        "it is made of Frobenius norms",
    ),
    "spectral": (
        pi(lambda A, G: (np.linalg.eigvalsh(A)[-1] / np.linalg.eigvalsh(G)[-1]) ** 0.5),
        "it is made of the largest eig",
    ),
    "unknown": (pi(lambda A, G: 0.123), "pi is 0.123 and should be"),
    "product": (damped(lambda A, p, lam: np.eye(15)), "got (15, 15): the Kronecker product itself"),
    "undamped": (
        damped(lambda A, p, lam: A),
        "pi is right, but A_damped is another matrix: it is not damped",
    ),
    "other share": (
        damped(lambda A, p, lam: A + lam**0.5 / p * I5),
        "its share of pi is that of the other factor",
    ),
    "G's other share": (
        damped(lambda G, p, lam: G + lam**0.5 * p * I3, 2),
        "pi and A_damped are right, but G_damped is another matrix: its share",
    ),
    "lambda": (
        damped(lambda A, p, lam: A + lam * p * I5),
        "lambda was added, and the root of lambda is meant",
    ),
    "without pi": (damped(lambda A, p, lam: A + lam**0.5 * I5), "another matrix: pi is missing"),
    "lambda alone": (damped(lambda A, p, lam: A + lam * I5), "pi and the root of lambda are missing"),
    "every entry": (
        damped(lambda A, p, lam: A + lam**0.5 * p),
        "added to every entry, and not to the diagonal",
    ),
    "minus": (damped(lambda A, p, lam: A - lam**0.5 * p * I5), "the damping was subtracted"),
    "instead": (damped(lambda A, p, lam: lam**0.5 * p * I5), "the damping replaced the matrix"),
}

# reparameterize -----------------------------------------------------------------------------------


def B_of(V: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.block([[V, np.zeros((len(V), 1))], [d[None], np.ones((1, 1))]])


def bias(W: np.ndarray, c: np.ndarray) -> np.ndarray:
    """W with c added to its last row."""
    return np.concatenate([W[:-1], W[-1:] + c])


def zero_bias(W: np.ndarray, U: np.ndarray, c: np.ndarray, V: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.concatenate([of("reparameterize")(W, U, c, V, d)[:-1], np.zeros((1, len(c)))])


REPARAMETERIZE: Slips = {
    "no bias": (
        lambda W, U, c, V, d: inv(V) @ W[:-1] @ inv(U),
        "W' of shape (4, 4), got (3, 4): the bias row is missing, which takes",
    ),
    "no bias, transposed": (
        lambda W, U, c, V, d: (inv(V) @ W[:-1] @ inv(U)).T,
        "got (4, 3): the bias row is missing, and it is trans",
    ),
    "transposed": (lambda *given: of("reparameterize")(*given).T, "W' is transposed."),
    "sign": (
        lambda *given: -of("reparameterize")(*given),
        "W' is -1 times what it should be: the sign is turned",
    ),
    "nothing": (lambda W, U, c, V, d: W, "W' is another matrix: it is W itself"),
    "pull": (lambda W, U, c, V, d: bias(B_of(V, d) @ W @ U, c), "it goes the other way, from W' to W"),
    "no c": (lambda W, U, c, V, d: inv(B_of(V, d)) @ W @ inv(U), "c was left out"),
    "plus c": (
        lambda W, U, c, V, d: inv(B_of(V, d)) @ bias(W, c) @ inv(U),
        "c was added, and is to be subtracted",
    ),
    "c after": (lambda W, U, c, V, d: bias(inv(B_of(V, d)) @ W @ inv(U), -c), "c was subtracted after U^-1"),
    "c everywhere": (
        lambda W, U, c, V, d: inv(B_of(V, d)) @ (W - c) @ inv(U),
        "c was subtracted from every row",
    ),
    "U": (lambda W, U, c, V, d: inv(B_of(V, d)) @ bias(W, -c) @ U, "U stands where its inverse should"),
    "no U": (lambda W, U, c, V, d: inv(B_of(V, d)) @ bias(W, -c), "U was left out"),
    "U transposed": (
        lambda W, U, c, V, d: inv(B_of(V, d)) @ bias(W, -c) @ inv(U.T),
        "U is transposed: rows are examples",
    ),
    "B": (
        lambda W, U, c, V, d: B_of(V, d) @ bias(W, -c) @ inv(U),
        "V and d stand where their inverse map should",
    ),
    "no V, no d": (lambda W, U, c, V, d: bias(W, -c) @ inv(U), "V and d were left out"),
    "no V": (
        lambda W, U, c, V, d: inv(B_of(np.eye(len(V)), d)) @ bias(W, -c) @ inv(U),
        "matrix: V was left out",
    ),
    "V transposed": (
        lambda W, U, c, V, d: inv(B_of(V.T, d)) @ bias(W, -c) @ inv(U),
        "V is transposed: rows are examples",
    ),
    "no d": (lambda W, U, c, V, d: inv(B_of(V, 0 * d)) @ bias(W, -c) @ inv(U), "matrix: d was left out"),
    "sign of d": (lambda W, U, c, V, d: inv(B_of(V, -d)) @ bias(W, -c) @ inv(U), "the sign of d is turned"),
    "zero bias": (zero_bias, "the bias row is zero, and its input is the constant 1"),
}

# rescale-and-momentum -----------------------------------------------------------------------------


def from_system(make: Callable[..., Any]) -> Callable[..., Any]:
    """alpha and mu from the curvatures without lambda, the lengths, and the slopes."""

    def answer(F: np.ndarray, grad: np.ndarray, Delta: np.ndarray, delta0: np.ndarray, lam: float) -> Any:
        ds = [Delta, delta0]
        curvature = np.array([[a @ F @ b for b in ds] for a in ds])
        lengths = np.array([[a @ b for b in ds] for a in ds])
        return tuple(make(curvature, lengths, np.array([d @ grad for d in ds]), lam))

    return answer


def in_turn(C: np.ndarray, L: np.ndarray, s: np.ndarray, lam: float) -> Any:
    M = C + lam * L
    alpha = -s[0] / M[0, 0]
    return alpha, -(s[1] + M[1, 0] * alpha) / M[1, 1]


off = np.array([[1, -1], [-1, 1]])
solve = np.linalg.solve
MOMENTUM: Slips = {
    "one": (lambda *given: 0.5, "Expected two numbers (alpha, mu), got a float."),
    "a vector each": (lambda *given: (np.ones(2), 1), "Expected alpha to be a number, got (2,)."),
    "swapped": (
        lambda *given: of("rescale-and-momentum")(*given)[::-1],
        "alpha and mu are swapped: expected (alpha, mu)",
    ),
    "sign": (from_system(lambda C, L, s, lam: solve(C + lam * L, s)), "the sign is turned, M goes up"),
    "no lambda": (from_system(lambda C, L, s, lam: solve(C, -s)), "lambda is missing."),
    "no lambda across": (
        from_system(lambda C, L, s, lam: solve(C + lam * L * np.eye(2), -s)),
        "lambda is missing from the cross",
    ),
    "lambda on 2 x 2": (
        from_system(lambda C, L, s, lam: solve(C + lam * np.eye(2), -s)),
        "lambda was added to the two by two",
    ),
    "each alone": (
        from_system(lambda C, L, s, lam: -s / np.diag(C + lam * L)),
        "each is the best alone, and the cross term",
    ),
    "in turn": (from_system(in_turn), "alpha was found alone and mu after it"),
    "sign of cross": (
        from_system(lambda C, L, s, lam: solve((C + lam * L) * off, -s)),
        "the sign of the cross term is turned",
    ),
    "half": (
        from_system(lambda C, L, s, lam: solve(2 * (C + lam * L), -s)),
        "the 1/2 of the model was forgotten",
    ),
    "twice": (
        from_system(lambda C, L, s, lam: solve((C + lam * L) / 2, -s)),
        "the 1/2 of the model was kept",
    ),
    "no F": (from_system(lambda C, L, s, lam: solve(lam * L, -s)), "F is missing."),
    "alpha wrong": (lambda *given: (7.0, of("rescale-and-momentum")(*given)[1]), "alpha is 7 and should be"),
    "mu wrong": (
        lambda *given: (of("rescale-and-momentum")(*given)[0], 7.0),
        "alpha is right, but mu is 7 and should be",
    ),
}

# ekfac-scales -------------------------------------------------------------------------------------


def turned(make: Callable[..., Any]) -> Callable[..., Any]:
    """s from the gradients in the eigenbasis, (K, N, I, O)."""

    def answer(U_A: np.ndarray, U_G: np.ndarray, abar: np.ndarray, g: np.ndarray) -> Any:
        return make(np.einsum("ai,na,kno,op->knip", U_A, abar, g, U_G))

    return answer


def own_values(U_A: np.ndarray, U_G: np.ndarray, abar: np.ndarray, g: np.ndarray) -> Any:
    A, G = abar.T @ abar / len(abar), moment(g) / len(abar)
    return np.outer(np.diag(U_A.T @ A @ U_A), np.diag(U_G.T @ G @ U_G))


scales = of("ekfac-scales")
EKFAC: Slips = {
    "flat": (lambda *given: scales(*given).ravel(), "s of shape (5, 3), got (15,): it is flat"),
    "transposed": (lambda *given: scales(*given).T, "s of shape (5, 3), got (3, 5): it is transposed."),
    "per example": (turned(lambda D: (D**2).sum(0)), "got (9, 5, 3): the examples are not averaged"),
    "neither": (turned(lambda D: D**2), "neither target terms nor examples are averaged over"),
    "whole": (turned(lambda D: np.eye(15)), "got (15, 15): it is the whole matrix"),
    "N": (turned(lambda D: (D**2).sum((0, 1))), "s is 9 times what it should be: the sum over examples"),
    "N twice": (
        turned(lambda D: (D**2).sum((0, 1)) / 81),
        "s is 1/9 of what it should be: it is divided by N twice",
    ),
    "1/K": (
        turned(lambda D: (D**2).mean((0, 1))),
        "s is 1/5 of what it should be: it is a mean over the K target terms",
    ),
    "sign": (lambda *given: -scales(*given), "the sign is turned"),
    "K-FAC's": (own_values, "it is a_i g_o, K-FAC's own eigenvalues"),
    "both transposed": (
        lambda U_A, U_G, a, g: scales(U_A.T, U_G.T, a, g),
        "U_A and U_G are transposed: eigenvectors",
    ),
    "U_A transposed": (lambda U_A, U_G, a, g: scales(U_A.T, U_G, a, g), "matrix: U_A is transposed"),
    "U_G transposed": (lambda U_A, U_G, a, g: scales(U_A, U_G.T, a, g), "matrix: U_G is transposed"),
    "no basis": (lambda U_A, U_G, a, g: scales(np.eye(5), np.eye(3), a, g), "the basis is missing"),
    "mean first": (turned(lambda D: (D.mean(1) ** 2).sum(0)), "averaged over examples before the square"),
    "terms first": (
        turned(lambda D: (D.sum(0) ** 2).mean(0)),
        "summed over the K target terms before the square",
    ),
    "no square": (turned(lambda D: D.mean(1).sum(0)), "the square is missing"),
    "absolute": (turned(lambda D: abs(D).sum(0).mean(0)), "it holds absolute values"),
}

# all-reduce ---------------------------------------------------------------------------------------


def reduced(make: Callable[..., Any], at: int = 0) -> Callable[..., Any]:
    """One of the parts from the sizes and what the workers hold of it."""
    return replaced("all-reduce", at, lambda part, sizes, *values: make(sizes, values[at]))


def added(sizes: np.ndarray, values: np.ndarray) -> Any:
    return sum(n * value for n, value in zip(sizes, values, strict=True))


WORKERS: Slips = {
    "not added": (
        reduced(lambda n, v: v),
        "Expected gradient of shape (26,), got (3, 26): the workers are not added up.",
    ),
    "no division": (
        reduced(added),
        "gradient is 11 times what it should be: the weighted sum is not divided by the number of examples",
    ),
    "workers too": (
        reduced(lambda n, v: added(n, v) / 33),
        "gradient is 1/3 of what it should be: it is divided by the number of workers",
    ),
    "workers": (
        reduced(lambda n, v: added(n, v) / 3),
        "gradient is 11/3 times what it should be: the weighted sum is divided by the",
    ),
    "N twice": (reduced(lambda n, v: added(n, v) / 121), "divided by the number of examples twice"),
    "sign": (reduced(lambda n, v: -added(n, v) / 11), "the sign is turned"),
    "mean of means": (
        reduced(lambda n, v: v.mean(0)),
        "gradient is another vector: it is the mean of the workers' means",
    ),
    "sum of means": (
        reduced(lambda n, v: v.sum(0), 1),
        "gradient is right, but A is another matrix: it is the sum of the workers'",
    ),
    "mean of Gs": (
        reduced(lambda n, v: v.mean(0), 2),
        "gradient and A are right, but G is another matrix: it is the mean of",
    ),
    "squared": (reduced(lambda n, v: added(n**2, v) / (n**2).sum()), "the sizes went in squared"),
    "divided": (reduced(lambda n, v: added(1 / n, v)), "the means were divided by the sizes"),
    "largest": (reduced(lambda n, v: v[0]), "it is that of the largest shard alone"),
    "second worker": (reduced(lambda n, v: v[1]), "it is that of worker 1 alone"),
}

ALL: dict[str, Slips] = {
    "natural-gradient": NATURAL,
    "backward": BACKWARD,
    "exact-fisher": EXACT,
    "tridiagonal": TRIDIAGONAL,
    "kfc-factors": KFC,
    "factored-damping": DAMPING,
    "reparameterize": REPARAMETERIZE,
    "rescale-and-momentum": MOMENTUM,
    "ekfac-scales": EKFAC,
    "all-reduce": WORKERS,
}
PAIRS = [(name, slip) for name, slips in ALL.items() for slip in slips]


@pytest.mark.parametrize(("name", "slip"), PAIRS)
def test_a_wrong_answer_gets_its_sentence(name: str, slip: str) -> None:
    answer, part = ALL[name][slip]
    verdict = exercises.check(name, answer)
    assert not verdict
    assert verdict.error is None
    text = str(verdict)
    assert part in text
    assert re.search(r"[^.?][.?]$", text)  # one sentence
    assert not re.search(r"[.?] [A-Z]", text)
    assert len(text) < 320


def test_all_exercises_are_here() -> None:
    elsewhere = {"kronecker-factors", "kronecker-step", "kfac-in-forty-lines"}  # in files of their own
    assert set(ALL) == set(exercises.available()) - elsewhere


def known_slips(name: str) -> Iterator[str]:
    """Keys of dicts in the functions that name causes and slips, read from the source."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(exercises.find(name).judge)))  # type: ignore[arg-type]
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and re.match("slips|causes", function.name):
            for node in ast.walk(function):
                if isinstance(node, ast.Dict):
                    yield from (key.value for key in node.keys if isinstance(key, ast.Constant))  # type: ignore[misc]


@pytest.mark.parametrize("name", ALL)
def test_every_slip_that_an_exercise_knows_is_made_here(name: str) -> None:
    answers = [answer for answer, _ in ALL[name].values()]
    answers += [answer for table in TABLES.values() for at, answer, _ in table.values() if at == name]
    said = " ".join(str(exercises.check(name, answer)) for answer in answers)
    slips = list(known_slips(name))
    assert len(slips) > 3
    assert not [slip for slip in slips if slip not in said]


def test_the_solutions_are_what_the_package_computes() -> None:
    """Against the rooms that the exercises are about."""
    from minikfac import fisher, mlp, optim, outputs, reparam
    from minikfac.fisher.damping import factored_damping, pi_ratio

    rng = np.random.default_rng(3)
    net = mlp([4, 3, 2], "tanh", "bernoulli")
    theta, x = rng.standard_normal(net.n_params), rng.standard_normal((30, 4))
    signals = fisher.signals(net, theta, x)
    layer = signals[0]

    K = fisher.kfac(signals).blocks[0]
    share, A, G = of("factored-damping")(K.A, K.G, 0.3)
    assert share == pytest.approx(pi_ratio(K.A, K.G), rel=1e-12)
    for factor, right in zip((A, G), factored_damping(K.A, K.G, 0.3), strict=True):
        np.testing.assert_allclose(factor, right, rtol=1e-12)

    E = fisher.ekfac(signals).blocks[0]
    s = of("ekfac-scales")(E.U_A, E.U_G, layer.abar[:, 0], layer.g[:, :, 0])
    np.testing.assert_allclose(s, E.s, rtol=1e-10)

    F = fisher.block_tridiagonal(signals)
    ((A11, G11), (A22, G22)), ((A12, G12),) = F.factors, F.cross
    PsiA, PsiG, Sigma = of("tridiagonal")(A11, A12, A22, G11, G12, G22)
    inverse = F.inverse().to_dense()
    np.testing.assert_allclose(inverse[:15, :15] @ Sigma, np.eye(15), atol=1e-8)
    np.testing.assert_allclose(inverse[:15, 15:], -inverse[:15, :15] @ kron(PsiA, PsiG), rtol=1e-7, atol=1e-9)

    U, c, V, d = rng.standard_normal((3, 3)), rng.standard_normal(3), rng.standard_normal((4, 4)), x[0]
    r = reparam.affine(net, 0, U=U, c=c, V=V, d=d)
    pushed = of("reparameterize")(net.unpack(theta)[0], U, c, V, d)
    np.testing.assert_allclose(pushed, r.net.unpack(r.push(theta))[0], rtol=1e-9)

    soft = mlp([4, 3, 2])
    y = rng.integers(0, 2, 30)
    W1, W2 = soft.unpack(theta)
    g1, g2, DW1, DW2 = of("backward")(x, y, W1, W2)
    np.testing.assert_allclose(np.r_[DW1.ravel(), DW2.ravel()], soft.gradient(theta, x, y), rtol=1e-10)
    given = fisher.signals(soft, theta, x, y, targets="data")
    for g, expected in zip((g1, g2), (given[0].g, given[1].g), strict=True):
        np.testing.assert_allclose(g, expected[0, :, 0], rtol=1e-10, atol=1e-14)

    exact = fisher.exact(signals).to_dense()
    gradient, delta0 = rng.standard_normal((2, net.n_params))
    Delta = -fisher.kfac(signals).solve(gradient, damping=0.1)
    model = optim.quadratic.QuadraticModel.along(net, theta, x, gradient, [Delta, delta0], 0.1)
    minimum = of("rescale-and-momentum")(exact, gradient, Delta, delta0, 0.1)
    np.testing.assert_allclose(minimum, model.minimum(), rtol=1e-9)
    assert isinstance(net.output, outputs.Bernoulli)


def test_arrays_without_symmetry_and_numbers_are_told_apart() -> None:
    M = np.arange(9.0).reshape(3, 3)
    part = judging.Part("M", M)
    assert part.diagnose(M.T) == "M is transposed"
    assert part.diagnose(M) is None
    assert "most at [0, 0], where it is 1 and should be 0" in str(part.diagnose(M + np.diag([1, 0, 0])))
    assert judging.Part("c", 2.0).diagnose(2.0) is None
