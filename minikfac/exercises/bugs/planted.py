"""Implementations of K-FAC, a right one and nine with a bug each. Those who mean to find the bugs stop here.

K-FAC is three parts in a row: derivatives of the output by ``targets``, Kronecker ``factors`` of each layer
from abar and g, and the ``matrix`` of all factors. Each bug is one of these parts done wrong, of the
kinds that published code has had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import fisher
from ...network import Network

Factors = tuple[np.ndarray, ...]


# what is right ------------------------------------------------------------------------------------


def model_targets(net: Network, z: np.ndarray, y: Any, n_samples: int | None, rng: Any) -> np.ndarray:
    """dz (K, N, C) with root weights: of all targets, or of n_samples that the model draws."""
    if n_samples is None:
        return net.output.fisher_root(z)
    return drawn(net, z, n_samples, rng) / n_samples**0.5


def drawn(net: Network, z: np.ndarray, n_samples: int, rng: Any) -> np.ndarray:
    """Derivatives (M, N, C) at targets that the model draws, without weights."""
    return np.stack([net.output.gradient(z, net.output.sample(z, rng)) for _ in range(n_samples)])


def kfc(abar: np.ndarray, g: np.ndarray) -> Factors:
    """A and G of abar (N, T, I) and g (K, N, T, O)."""
    n, t, _ = abar.shape
    return second_moment(abar) / n, second_moment(g) / (n * t)


def second_moment(v: np.ndarray) -> np.ndarray:
    """Sum of v v^T over all axes but the last."""
    rows = v.reshape(-1, v.shape[-1])
    return rows.T @ rows


def implementation(
    targets: Callable[..., np.ndarray] = model_targets,
    factors: Callable[..., Factors] = kfc,
    matrix: Callable[[Sequence[Factors]], fisher.FisherMatrix] = fisher.Kronecker,
) -> Callable[..., fisher.FisherMatrix]:
    """Put the three parts together: a function of (net, theta, x, y, n_samples=None, rng=None)."""

    def make(
        net: Network, theta: np.ndarray, x: np.ndarray, y: Any, n_samples: int | None = None, rng: Any = None
    ) -> fisher.FisherMatrix:
        tape = net.forward(theta, x)
        g = net.backward(theta, tape, targets(net, tape.z, y, n_samples, rng))
        return matrix(list(map(factors, tape.abar, g)))

    return make


# what is wrong ------------------------------------------------------------------------------------


def targets_over_m(net: Network, z: np.ndarray, y: Any, n_samples: int | None, rng: Any) -> np.ndarray:
    """Derivatives of the output."""
    if n_samples is None:
        return net.output.fisher_root(z)
    return drawn(net, z, n_samples, rng) / n_samples  # bug: their squares are summed, so 1 / sqrt(M)


def label_targets(net: Network, z: np.ndarray, y: Any, n_samples: int | None, rng: Any) -> np.ndarray:
    """Derivatives of the output."""
    return net.output.gradient(z, y)[None]  # bug: the labels of the data, and not those of the model


def targets_of_mean_loss(net: Network, z: np.ndarray, y: Any, n_samples: int | None, rng: Any) -> np.ndarray:
    """Derivatives of the output."""
    return model_targets(net, z, y, n_samples, rng) / len(z)  # bug: those of the mean loss, N times too small


def factors_mean_over_locations(abar: np.ndarray, g: np.ndarray) -> Factors:
    """A and G of one layer."""
    n, t, _ = abar.shape
    return second_moment(abar) / (n * t), second_moment(g) / (n * t)  # bug: A is a sum over locations


def factors_summed_first(abar: np.ndarray, g: np.ndarray) -> Factors:
    """A and G of one layer."""
    n, t, _ = abar.shape
    return second_moment(abar) / n, second_moment(g.sum(2)) / (n * t)  # bug: outer product first, then sum


def factors_without_bias(abar: np.ndarray, g: np.ndarray) -> Factors:
    """A and G of one layer."""
    A, G = kfc(abar, g)
    if (abar[..., -1] == 1).all():
        A[-1] = A[:, -1] = 0  # bug: the constant 1 is an input like the others
    return A, G


def factors_centred(abar: np.ndarray, g: np.ndarray) -> Factors:
    """A and G of one layer."""
    A, G = kfc(abar, g)
    mean = abar.mean((0, 1))
    return A - abar.shape[1] * np.outer(mean, mean), G  # bug: a covariance, and a second moment is meant


def matrix_swapped(factors: Sequence[Factors]) -> fisher.FisherMatrix:
    """The matrix of all layers."""
    return fisher.Kronecker([(G, A) for A, G in factors])  # bug: weights are (I, O), so A comes first


def squared_mean_gradient(abar: np.ndarray, g: np.ndarray) -> Factors:
    """A diagonal Fisher block of one layer."""
    gradient = np.einsum("nti,knto->kio", abar, g) / len(abar)
    return ((gradient**2).sum(0).reshape(-1),)  # bug: square each example's gradient, then average


def diagonal_matrix(factors: Sequence[Factors]) -> fisher.FisherMatrix:
    """The diagonal matrix of all layers."""
    return fisher.BlockDiagonal([fisher.DiagonalBlock(diagonal) for (diagonal,) in factors])
