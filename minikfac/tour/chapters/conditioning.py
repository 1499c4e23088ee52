"""Why first-order methods are slow: a quadratic of two parameters whose curvatures differ by a factor kappa.

    h(theta) = 1/2 (theta - theta*)^T H (theta - theta*),    H = kappa u1 u1^T + u2 u2^T

Gradient descent multiplies the error along u1 by 1 - lr kappa, along u2 by 1 - lr. It diverges above
2 / kappa; the best step, 2 / (kappa + 1), makes the factors -r and r with r = (kappa - 1) / (kappa + 1): it
oscillates along u1, crawls along u2, and needs a number of steps proportional to kappa, with momentum to its
root. One natural step reaches the minimum.

The quadratic is a net: one linear unit of two inputs with squared error, whose Fisher matrix is H. The runs
use the optimizers of the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ... import optim
from ...backend import Array
from ...network import Network, mlp
from ...training.loop import Optimizer

MOST = 100_000
"""Steps after which a run is stopped."""


@dataclass(frozen=True)
class Conditioning:
    """Results of :func:`conditioning`.

    Attributes:
        hessian: H (2, 2).
        minimum: theta* (2,).
        condition_number: kappa of the runs below.
        paths: of each method, theta before and after each step (k + 1, 2).
        losses: h along each path (k + 1,).
        reduction: of h, by which steps are counted.
        condition_numbers: (m,).
        steps: of some methods, (m,), how many take h to ``reduction`` of what it was.
    """

    hessian: Array
    minimum: Array
    condition_number: float
    paths: Mapping[str, Array]
    losses: Mapping[str, Array]
    reduction: float
    condition_numbers: Array
    steps: Mapping[str, Array]


def quadratic(
    condition_number: float, minimum: Sequence[float] = (0.0, 0.0), angle: float = 0.5
) -> tuple[Network, Array, Array]:
    """Make a net of two parameters whose loss is h, and the two examples (2, 2) and targets (2, 1) for it.

    Args:
        condition_number: kappa >= 1; the other curvature is 1.
        minimum: theta*.
        angle: of u1 to the second axis, in radians.

    Raises:
        ValueError: on kappa < 1.
    """
    if not (math.isfinite(condition_number) and condition_number >= 1):
        raise ValueError(f"expected a finite condition number of at least 1, got {condition_number}")
    u = np.array([[-math.sin(angle), math.cos(angle)], [math.cos(angle), math.sin(angle)]])
    x = np.sqrt(2 * np.array([[condition_number], [1.0]])) * u  # (1/2) sum_n x x^T = H
    return mlp([2, 1], output="gaussian", bias=False), x, x @ np.array(minimum, dtype=float)[:, None]


METHODS: dict[str, Callable[[Network, float], Optimizer]] = {
    "gradient, a small step": lambda net, kappa: optim.SGD(net, 0.2 / kappa),
    "gradient, the best step": lambda net, kappa: optim.SGD(net, 2 / (kappa + 1)),
    "gradient with the best momentum": lambda net, kappa: optim.SGD(
        net,
        4 / (math.sqrt(kappa) + 1) ** 2,
        ((math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)) ** 2,
    ),
    "natural gradient": lambda net, kappa: optim.NaturalGradient(net, lr=1.0, damping=0.0, clip=None),
}
"""By name, with their best constants for curvatures kappa and 1."""
COUNTED = tuple(METHODS)[1:]


def descend(
    opt: Optimizer, net: Network, x: Array, y: Array, start: Array, steps: int, until: float
) -> tuple[Array, Array]:
    """Take steps on the whole batch until the loss is at most ``until``.

    Returns:
        theta (k + 1, P) and losses (k + 1,), from the start on.
    """
    theta, state = start, opt.init(start)
    path, losses = [theta], [net.loss(theta, x, y)]
    while len(path) <= steps and losses[-1] > until:
        theta, state, _ = opt.step(theta, state, (x, y), None)
        path.append(theta)
        losses.append(net.loss(theta, x, y))
    return np.array(path), np.array(losses)


def conditioning(
    condition_number: float = 100.0,
    steps: int = 60,
    reduction: float = 1e-6,
    condition_numbers: Sequence[float] = (1, 3, 10, 30, 100, 300, 1000),
    minimum: Sequence[float] = (0.0, 0.0),
    angle: float = 0.5,
) -> Conditioning:
    """Let gradient descent, momentum and the natural gradient run on the quadratic.

    The start is off the minimum by 1 along u2 and by 3 / sqrt(kappa) along u1.

    Args:
        condition_number: kappa of the paths.
        steps: of the paths, at most.
        reduction: of h, which ends a path and by which steps are counted.
        condition_numbers: for which steps are counted.
        minimum: theta*.
        angle: of u1 to the second axis, in radians.

    Raises:
        ValueError: on kappa < 1 or a reduction out of (0, 1).
    """
    if not 0 < reduction < 1:
        raise ValueError(f"expected a reduction between 0 and 1, got {reduction}")

    def run(name: str, kappa: float, most: int) -> tuple[Array, Array]:
        net, x, y = quadratic(kappa, minimum, angle)
        start = _start(x, minimum)
        return descend(METHODS[name](net, kappa), net, x, y, start, most, reduction * net.loss(start, x, y))

    runs = {name: run(name, condition_number, steps) for name in METHODS}
    _, x, _ = quadratic(condition_number, minimum, angle)
    return Conditioning(
        x.T @ x / len(x),
        np.array(minimum, dtype=float),
        condition_number,
        {name: path for name, (path, _) in runs.items()},
        {name: losses for name, (_, losses) in runs.items()},
        reduction,
        np.array(condition_numbers, dtype=float),
        {
            name: np.array([len(run(name, kappa, MOST)[1]) - 1 for kappa in condition_numbers])
            for name in COUNTED
        },
    )


def _start(x: Array, minimum: Sequence[float]) -> Array:
    """Where all methods begin: of both examples' directions, 3 / sqrt(kappa) and 1."""
    kappa = float((x[0] @ x[0]) / (x[1] @ x[1]))
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.array(minimum, dtype=float) + u.T @ np.array([3 / math.sqrt(kappa), 1.0])
