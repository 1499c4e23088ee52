"""Gradients one outer product at a time, drawn targets, and runs of an optimizer."""

from typing import Any

import numpy as np
from fisher_oracles import Case, fisher_matrix, signals_of, terms

from minikfac import fisher


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
    theta, state, found = case.theta, opt.init(case.theta), []
    for k in range(steps):
        theta, state, info = opt.step(theta, state, (case.x, case.y), np.random.default_rng(k))
        found.append((theta, state, info))
    return found
