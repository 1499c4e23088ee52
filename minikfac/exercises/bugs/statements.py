"""Statements that a K-FAC matrix must obey, as checks: where it is exact, and how it scales.

    S1  one example of a dense net: K-FAC is the exact block
    S2  all inputs equal, a dense net: likewise
    S3  squared error above linear layers: likewise, for any number of examples
    S4  a convolution with squared error at every location: likewise, KFC
    S5  constant images below average pooling: the exact block is T times KFC
    S6  S1 without biases
    L1  one example: the trace is that of the exact block
    L2  the same batch twice: the same matrix
    L3  other labels: the same matrix
    L4  M sampled targets for the expectation: the same trace on average, for every M

The exact block is that of :func:`minikfac.fisher.block_diagonal`. A diagonal Fisher matrix is compared with
its diagonal, and must be exact everywhere. An implementation is a function of (net, theta, x, y, n_samples,
rng) that returns a Fisher matrix; with n_samples=None, by the exact expectation over the model's targets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import fisher, layers
from ...linalg import best_scalar, relative_error
from ...network import Network, mlp, outputs
from ..judging import times

Implementation = Callable[..., fisher.FisherMatrix]

TOLERANCE = 1e-9
"""Relative error up to which a statement holds."""
STANDARD_ERRORS = 5
"""How far off a mean over samples may be; seeds are fixed."""
SAMPLES = (1, 4, 16)
REPEATS = 150


@dataclass(frozen=True)
class Finding:
    """What a statement finds.

    Attributes:
        holds: whether it does.
        measured: in words.
        c_star: the best scalar in c K for what K should be, <K, F> / <K, K>; None where there is none.
    """

    holds: bool
    measured: str
    c_star: float | None = None


@dataclass(frozen=True)
class Statement:
    """One statement.

    Attributes:
        says: in words.
        check: tries an implementation.
    """

    says: str
    check: Callable[[Implementation], Finding]


def compared(K: np.ndarray, F: np.ndarray) -> Finding:
    """Whether two matrices are the same; if not, whether up to a scalar."""
    size = np.linalg.norm(F)
    error = relative_error(K, F)
    if error <= TOLERANCE:
        return Finding(True, "exact up to rounding", 1.0)
    if np.linalg.norm(K) <= TOLERANCE * size:
        return Finding(False, "all of it is missing, the matrix is zero")
    c = best_scalar(K, F)
    rest = relative_error(c * K, F)
    scale = f"it is {times(1 / c)} what it should be" if abs(c - 1) > TOLERANCE else "no scalar helps"
    if rest <= TOLERANCE:
        return Finding(False, f"{scale}, and right up to that factor", c)
    return Finding(False, f"relative error {error:.2g}, and {rest:.2g} with the best scalar c* = {c:.3g}", c)


def exactness(
    make: Implementation, net: Network, x: np.ndarray, y: np.ndarray, locations: int = 1
) -> Finding:
    """Compare with the exact blocks at random parameters, K-FAC's times a number of locations."""
    theta = np.random.default_rng(1).standard_normal(net.n_params)
    K = make(net, theta, x, y)
    F = fisher.block_diagonal(fisher.signals(net, theta, x)).to_dense()
    if all(isinstance(block, fisher.DiagonalBlock) for block in K.blocks):
        return compared(K.to_dense(), np.diag(F.diagonal()))
    return compared(locations * K.to_dense(), F)


def one_example(make: Implementation) -> Finding:
    """A net of 3-4-3 units, tanh, three classes."""
    return exactness(make, mlp([3, 4, 3]), numbers(1, 3), np.array([2]))


def equal_inputs(make: Implementation) -> Finding:
    """The same net, five times the same input, with different labels."""
    return exactness(make, mlp([3, 4, 3]), np.repeat(numbers(1, 3), 5, axis=0), np.array([2, 0, 0, 1, 2]))


def squared_error(make: Implementation) -> Finding:
    """Linear layers 3-4-2 under squared error, seven examples."""
    net = mlp([3, 4, 2], "identity", "gaussian")
    return exactness(make, net, numbers(7, 3), numbers(7, 2, seed=1))


def every_location(make: Implementation) -> Finding:
    """A convolution of 2 x 2 on images of 4 x 3, squared error at its T = 6 locations, five examples."""
    net = Network([layers.Conv2d(2, 3, 2), layers.Flatten()], outputs.Gaussian())
    return exactness(make, net, numbers(5, 4, 3, 2), numbers(5, 18, seed=1))


def constant_images(make: Implementation) -> Finding:
    """The same convolution below average pooling, four times the same constant image, squared error."""
    net = Network([layers.Conv2d(2, 3, 2), layers.GlobalAvgPool()], outputs.Gaussian())
    x = np.tile(numbers(2), (4, 4, 3, 1))
    return exactness(make, net, x, numbers(4, 3, seed=1), locations=6)


def without_biases(make: Implementation) -> Finding:
    """The net of S1 without biases."""
    return exactness(make, mlp([3, 4, 3], bias=False), numbers(1, 3), np.array([2]))


def trace(make: Implementation) -> Finding:
    """Trace at one example over that of the exact block: the mean square of the gradient."""
    net, theta, x, _ = small_net(1)
    exact = fisher.block_diagonal(fisher.signals(net, theta, x)).trace()
    ratio = make(net, theta, x, np.array([2])).trace() / exact
    if math.isclose(ratio, 1, rel_tol=TOLERANCE):
        return Finding(True, "exact up to rounding", 1.0)
    return Finding(False, f"the trace is {times(ratio)} what it should be", 1 / ratio if ratio else None)


def copies(make: Implementation) -> Finding:
    """The matrix of a batch taken twice over that of the batch."""
    net, theta, x, y = small_net(6)
    once, twice = (make(net, theta, np.tile(x, (n, 1)), np.tile(y, n)).to_dense() for n in (1, 2))
    return compared(twice, once)


def labels(make: Implementation) -> Finding:
    """The matrix with other labels over that with the first ones."""
    net, theta, x, y = small_net(6)
    one, other = (make(net, theta, x, (y + shift) % 3).to_dense() for shift in (0, 1))
    return compared(other, one)


def samples(make: Implementation) -> Finding:
    """Traces with M sampled targets over that of the expectation: mean and standard error over seeds."""
    net, theta, x, y = small_net(10)
    exact = make(net, theta, x, y).trace()
    shown, fine, mean = [], True, 1.0
    for m in SAMPLES:
        ratios = [
            make(net, theta, x, y, m, np.random.default_rng(seed)).trace() / exact for seed in range(REPEATS)
        ]
        mean, standard_error = float(np.mean(ratios)), float(np.std(ratios, ddof=1) / REPEATS**0.5)
        shown.append(f"{mean:.3g} ± {standard_error:.1g}")
        fine = fine and abs(mean - 1) <= STANDARD_ERRORS * standard_error + TOLERANCE
    measured = f"trace ratios {', '.join(shown)} at {', '.join(map(str, SAMPLES))} samples"
    return Finding(fine, measured, 1.0 if fine else 1 / mean)


def small_net(n: int) -> tuple[Network, np.ndarray, np.ndarray, np.ndarray]:
    """A net of 3-4-3 units, random parameters, n examples, and labels in turn."""
    net = mlp([3, 4, 3])
    return net, np.random.default_rng(1).standard_normal(net.n_params), numbers(n, 3), np.arange(n) % 3


def numbers(*shape: int, seed: int = 0) -> Any:
    """Random numbers with a mean of 1/2."""
    return 0.5 + np.random.default_rng(seed).standard_normal(shape)


# S1 to S6 are statements of exactness, L1 to L4 laws of scale
STATEMENTS = {
    "S1": Statement("one example of a dense net: exact", one_example),
    "S2": Statement("all inputs equal, a dense net: exact", equal_inputs),
    "S3": Statement("squared error above linear layers: exact", squared_error),
    "S4": Statement("a convolution, squared error at every location: exact", every_location),
    "S5": Statement("constant images below average pooling: exact, KFC times T", constant_images),
    "S6": Statement("one example of a dense net without biases: exact", without_biases),
    "L1": Statement("one example: the trace is that of the exact block", trace),
    "L2": Statement("the same batch twice: the same matrix", copies),
    "L3": Statement("other labels: the same matrix", labels),
    "L4": Statement("M sampled targets: the same trace on average, for every M", samples),
}
