"""Gradients one outer product at a time, drawn targets, and runs of an optimizer."""

from typing import Any

import numpy as np

import minikfac as mk
from minikfac import fisher, layers, outputs
from oracles.fisher import Case, fisher_matrix, signals_of, terms

BY_VALUE = 1e-7
"""Relative error of a minimum that is chosen by its value, which is flat there: the root of rounding."""


def moved(case: Case, theta: np.ndarray) -> Case:
    return Case(case.sizes, case.activation, case.output, case.net, theta, case.x, case.y)


def gradient(case: Case, theta: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
    """Mean gradient over the examples, one outer product at a time."""
    at, total = moved(case, theta), np.zeros_like(theta)
    for x, y in zip(case.x[rows], case.y[rows], strict=True):
        total += np.concatenate([np.outer(abar, g).ravel() for abar, g in signals_of(at, x, y)])
    return total / len(case.x[rows])


def exact_fisher(case: Case, theta: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
    """F (P, P) by loops over examples and targets."""
    at = moved(case, theta)
    part = Case(at.sizes, at.activation, at.output, at.net, at.theta, at.x[rows], at.y[rows])
    return fisher_matrix(terms(part))


def drawn(case: Case, theta: np.ndarray, seed: int, rows: slice = slice(None)) -> np.ndarray:
    """Gradients (N, P) of targets that are drawn from the model by the generator of a seed."""
    signals = fisher.signals(
        case.net, theta, case.x[rows], targets="sampled", rng=np.random.default_rng(seed)
    )
    return np.concatenate([layer.gradients()[0] for layer in next(iter(signals))], axis=1)


def run(opt: Any, case: Case, steps: int) -> list[tuple[np.ndarray, dict[str, Any], dict[str, float]]]:
    """What each step returns; step k draws by the generator of seed k."""
    theta, state, path = case.theta, opt.init(case.theta), []
    for k in range(steps):
        theta, state, info = opt.step(theta, state, (case.x, case.y), np.random.default_rng(k))
        path.append((theta, state, info))
    return path


def images() -> tuple[mk.Network, np.ndarray, np.ndarray, np.ndarray]:
    """A small convolutional net with batch normalization, parameters, images of two kinds and labels."""
    body = [
        layers.Conv2d(1, 3, 3, padding=1),
        layers.BatchNorm(3),
        layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Flatten(),
        layers.Dense(12, 2),
    ]
    net = mk.Network(body, outputs.Categorical())
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 4, 4, 1)), np.arange(24) % 2
    x[y == 1, :2] += 1
    return net, net.init(rng), x, y
