"""Definitions written as loops, finite differences, makers of random cases, and named tolerances.

Nothing here computes with the package: it is what the package is compared with.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import minikfac as mk

EXACT = 1e-12
"""Relative error of sums in float64 whose order differs."""
SOLVE = 1e-9
"""Relative error of solves in float64 with the condition numbers met here (up to some 1e4)."""
FINITE_DIFFERENCE = 1e-8
"""Relative error of ``derivative``."""
FLOAT32 = 1e-5
"""Relative error of sums in float32."""


def close(actual: Any, expected: Any, tolerance: float = EXACT) -> None:
    """Assert that no entry is off by more than a share of the largest one expected, or of 1 if all are 0."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    sizes = np.abs(expected[np.isfinite(expected)])
    largest = sizes.max(initial=0) or 1
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Relative error in the Frobenius norm; shapes must agree."""
    assert np.shape(actual) == np.shape(expected), (np.shape(actual), np.shape(expected))
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def derivative(f: Callable[[np.ndarray], Any], x: np.ndarray, direction: np.ndarray, h: float = 1e-3) -> Any:
    """Derivative of f at x along a direction, by central differences of fourth order."""
    near = np.asarray(f(x + h * direction)) - f(x - h * direction)
    far = np.asarray(f(x + 2 * h * direction)) - f(x - 2 * h * direction)
    return (8 * near - far) / (12 * h)


def unit_vector(rng: np.random.Generator, *shape: int) -> np.ndarray:
    v = rng.standard_normal(shape)
    return v / np.linalg.norm(v)


# networks --------------------------------------------------------------

ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "identity": lambda s: s,
    "logistic": lambda s: 1 / (1 + math.exp(-s)),
    "relu": lambda s: max(s, 0.0),
    "softplus": lambda s: math.log(1 + math.exp(s)),
    "tanh": math.tanh,
}
OUTPUTS = ("categorical", "bernoulli", "gaussian")


def cut(theta: np.ndarray, sizes: Sequence[int], bias: bool = True) -> list[np.ndarray]:
    """Weights (I, O) of a perceptron, one after the other out of theta."""
    Ws, start = [], 0
    for n_in, n_out in itertools.pairwise(sizes):
        stop = start + (n_in + bias) * n_out
        Ws.append(theta[start:stop].reshape(n_in + bias, n_out))
        start = stop
    assert start == len(theta)
    return Ws


def loop_z(Ws: Sequence[np.ndarray], activation: str, x: Sequence[float], bias: bool = True) -> list[float]:
    """Outputs of a perceptron for one example, unit by unit."""
    values = [float(value) for value in x]
    for number, W in enumerate(Ws):
        if number:
            values = [ACTIVATIONS[activation](s) for s in values]
        if bias:
            values = [*values, 1.0]
        values = [sum(a * float(W[i, o]) for i, a in enumerate(values)) for o in range(W.shape[1])]
    return values


def random_targets(rng: np.random.Generator, output: str, n: int, n_units: int) -> np.ndarray:
    if output == "categorical":
        return rng.integers(0, n_units, n)
    if output == "bernoulli":
        return rng.integers(0, 2, (n, n_units)).astype(float)
    return rng.standard_normal((n, n_units))


def random_net(
    rng: np.random.Generator,
    sizes: Sequence[int] = (4, 5, 3),
    activation: str = "tanh",
    output: str = "categorical",
    n: int = 6,
    bias: bool = True,
) -> tuple[mk.Network, np.ndarray, np.ndarray, np.ndarray]:
    """A perceptron with random theta (biases too), inputs and targets; no ReLU is near its kink."""
    net = mk.mlp(list(sizes), activation, output, bias)
    for _ in range(1000):
        theta, x = rng.standard_normal(net.n_params) / 2, rng.standard_normal((n, sizes[0]))
        hidden = net.forward(theta, x).s[:-1]
        if activation != "relu" or all(abs(s).min() > 0.03 for s in hidden):
            return net, theta, x, random_targets(rng, output, n, sizes[-1])
    raise AssertionError("no inputs away from the kinks were found")


# output distributions of one example --------------------------------------------------------------


def loop_mean(output: str, z: Sequence[float]) -> list[float]:
    if output == "categorical":
        total = sum(math.exp(value) for value in z)
        return [math.exp(value) / total for value in z]
    return [1 / (1 + math.exp(-value)) for value in z] if output == "bernoulli" else list(z)


def loop_nll(output: str, z: Sequence[float], y: Any) -> float:
    """Negative log-likelihood in nats, without the Gaussian's constant."""
    mean = loop_mean(output, z)
    if output == "categorical":
        return -math.log(mean[int(y)])
    if output == "bernoulli":
        return -sum(t * math.log(p) + (1 - t) * math.log(1 - p) for p, t in zip(mean, y, strict=True))
    return sum((t - m) ** 2 for m, t in zip(mean, y, strict=True)) / 2


def all_targets(output: str, z: Sequence[float]) -> Iterator[tuple[float, Any]]:
    """Every target with its probability; for the Gaussian, nodes and weights exact up to degree 5."""
    mean = loop_mean(output, z)
    if output == "categorical":
        yield from ((p, label) for label, p in enumerate(mean))
    elif output == "bernoulli":
        for y in itertools.product((0.0, 1.0), repeat=len(mean)):
            yield math.prod(p if t else 1 - p for p, t in zip(mean, y, strict=True)), np.array(y)
    else:
        nodes = ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))
        for choice in itertools.product(nodes, repeat=len(mean)):
            weight = math.prod(w for _, w in choice)
            yield weight, np.array([m + node for m, (node, _) in zip(mean, choice, strict=True)])


def loop_kl(output: str, z1: Sequence[float], z2: Sequence[float]) -> float:
    """KL( p(. | z1) || p(. | z2) ) by enumeration of the targets."""
    return sum(p * (loop_nll(output, z2, y) - loop_nll(output, z1, y)) for p, y in all_targets(output, z1))


# matrices --------------------------------------------------------------


def random_psd(rng: np.random.Generator, n: int, rank: int | None = None, low: float = 0.5) -> np.ndarray:
    """A symmetric (n, n) matrix with ``rank`` eigenvalues from ``low`` to 2 and the others 0."""
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    values = rng.uniform(low, 2, n)
    values[n if rank is None else rank :] = 0
    M = (Q * values) @ Q.T
    return (M + M.T) / 2
