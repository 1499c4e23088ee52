"""Write the natural gradient of a Gaussian.

N(mu, sigma^2) is fitted to numbers x by their mean negative log-likelihood

    loss = (1/N) sum_n [ log sigma + (x_n - mu)^2 / (2 sigma^2) ] + constant

in the parameters theta = (mu, log sigma). Write a function that takes

    x          (N,)  the numbers
    mu         a number
    log_sigma  a number

and returns (F, step): F (2, 2) is the Fisher matrix of one number, the expectation of D D^T over numbers
drawn from the model, D = d log p(x) / d theta; step (2,) is the natural step downhill, -F^-1 grad, with grad
the gradient of the loss.
"""

from __future__ import annotations

import numpy as np

from ..backend import Array
from .exercise import Answer, Exercise, Wrong
from .judging import Part, call, in_order, ordered, parts, shaped

HINTS = (
    "D by mu is (x - mu) / sigma^2, and by log sigma it is (x - mu)^2 / sigma^2 - 1. Why by log sigma, where "
    "does the chain rule enter?",
    "F does not depend on the data: under the model u = (x - mu) / sigma is standard normal, E[u^2] = 1, "
    "E[u^3] = 0 and E[u^4] = 3.",
    "F is diagonal, as E[u (u^2 - 1)] = 0. Its entries are E[u^2] / sigma^2 and E[(u^2 - 1)^2].",
    "F = diag(1 / sigma^2, 2). The gradient is minus the mean of D over the data.",
)


def my_natural_step(x: Array, mu: float, log_sigma: float) -> tuple[Array, Array]:
    """Return F (2, 2) and the natural step (2,) in (mu, log sigma)."""
    raise NotImplementedError("write the natural gradient of a Gaussian")


def solution(x: Array, mu: float, log_sigma: float) -> tuple[Array, Array]:
    """Return the Fisher matrix and the step [Amari98]."""
    F = np.diag([np.exp(-2 * log_sigma), 2.0])
    return F, -np.linalg.solve(F, gradient(x, mu, log_sigma))


def gradient(x: Array, mu: float, log_sigma: float) -> Array:
    """Of the mean negative log-likelihood by (mu, log sigma), (2,)."""
    return -derivatives(x, mu, log_sigma).mean(0)


def derivatives(x: Array, mu: float, log_sigma: float) -> Array:
    """D of each number, (N, 2)."""
    u = (x - mu) / np.exp(log_sigma)
    return np.stack([u / np.exp(log_sigma), u**2 - 1], axis=1)


_RNG = np.random.default_rng(0)
CASES = {
    "seven numbers": (1 + 2 * _RNG.standard_normal(7), 0.3, -0.4),
    "five others": (_RNG.standard_normal(5), -0.8, 0.6),
}
CORRECT = (
    "F = diag(1 / sigma^2, 2), whatever the data, and the natural step takes mu to the mean of "
    "the data at once, whatever sigma is."
)


def judge(answer: Answer, x: Array, mu: float, log_sigma: float) -> None:
    """Raise Wrong unless F and step are right."""
    returned = parts(call(answer, x=x, mu=mu, log_sigma=log_sigma), "F", "step")
    n, grad = len(x), gradient(x, mu, log_sigma)
    right_F, right_step = solution(x, mu, log_sigma)
    causes = {
        "it is a sum over the numbers, and should be a mean": float(n),
        "it is divided by N once too often": 1 / n,
    }
    uphill = {"the sign is turned, and it goes uphill": -1.0}
    diagonal = {(2,): "only the diagonal is there, or the mean of D"}
    F = Part("F", right_F, causes, lambda array: slips_F(x, mu, log_sigma, array), diagonal)
    per_number = {(n, 2): "the gradients of the numbers are not averaged"}
    slips = slips_step(grad, right_F, right_step, log_sigma)
    step = Part("step", right_step, causes | uphill, slips, per_number)
    ordered(returned, F, step)
    wrong, moved = F.diagnose(returned["F"]), shaped("step", returned["step"], (2,), per_number)
    if wrong and np.allclose(np.matmul(returned["F"], moved), -grad, rtol=1e-9):
        raise Wrong(f"{wrong}; the step is -F^-1 grad with that F, and will be right when F is.")
    in_order(returned, F, step)


def slips_F(x: Array, mu: float, log_sigma: float, F: Array) -> dict[str, Array]:
    """Matrices that are not F, and their causes."""
    D, variance = derivatives(x, mu, log_sigma), np.exp(2 * log_sigma)
    d = x - mu
    hessian = np.array([[1, 2 * d.mean()], [2 * d.mean(), 2 * (d**2).mean()]]) / variance
    return {
        "it is that of (mu, sigma); by log sigma is asked for": np.diag([1, 2]) / variance,
        "it is that of (mu, log sigma^2), and half of that is log sigma": np.diag([1 / variance, 0.5]),
        "it is the inverse of F": np.diag([variance, 0.5]),
        "sigma is in it where sigma^2 should be": np.diag([variance**-0.5, 2]),
        "log sigma was taken for sigma": np.diag([log_sigma**-2, 2]),
        "sigma was taken for 1": np.diag([1.0, 2.0]),
        "it is the mean of D D^T over the data, the empirical Fisher matrix": D.T @ D / len(x),
        "it is the covariance of D over the data; F expects over the model": np.cov(D.T, ddof=0),
        "it is the Hessian of the loss on these data; F is its expectation under the model": hessian,
        "it is one outer product, of one number or of a mean": np.outer(F[0], F[0]) / (F[0, 0] or 1),
    }


def slips_step(grad: Array, F: Array, step: Array, log_sigma: float) -> dict[str, Array]:
    """Vectors that are not the step, and their causes."""
    sigma = np.exp(log_sigma)
    return {
        "it is the gradient, and F^-1 is missing": -grad,
        "it is F times the gradient, and F^-1 is meant": -F @ grad,
        "the log sigma of the loss was left out of the gradient": step + [0, 0.5],
        "the sign of the step of mu is turned": step * [-1, 1],
        "the sign of the step of log sigma is turned": step * [1, -1],
        "its second entry is a step of sigma, and not of log sigma": step * [1, sigma],
        "its second entry is a step of sigma^2, and not of log sigma": step * [1, 2 * sigma**2],
    }


natural_gradient = Exercise("natural-gradient", my_natural_step, HINTS, solution, judge, CASES, CORRECT)
