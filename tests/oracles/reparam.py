"""Nets and batches for equivalent networks: by architecture, and the digits on which steps are taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

import minikfac as mk
from minikfac import outputs
from minikfac.network.layers import (
    AvgPool2d,
    BatchNorm,
    Conv1d,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    Grouped,
    GroupNorm,
    Layer,
    LayerNorm,
    LocalResponseNorm,
    MaxPool2d,
    Parallel,
    Residual,
    Sequential,
)

Units = Callable[[], Layer]


def colors(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Images in which every patch coordinate varies; neighbouring pixels and colours are correlated."""
    x = rng.standard_normal(shape)
    return x + 0.7 * np.roll(x, 1, 1) + 0.5 * np.roll(x, 1, 2) + 0.4 * np.roll(x, 1, 3) + 0.3


@dataclass
class Case:
    """A net of hidden units phi, with random theta, inputs and Bernoulli targets."""

    layers: Sequence[Layer]
    shape: tuple[int, ...]
    n: int = 40
    stats: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.net = mk.Network(self.layers, outputs.Bernoulli())
        self.theta = self.net.init(rng) + 0.1 * rng.standard_normal(self.net.n_params)
        images = len(self.shape) == 3
        self.x = colors(rng, self.n, *self.shape) if images else rng.standard_normal((self.n, *self.shape))
        self.stats = [
            np.stack([rng.standard_normal(s[1]), rng.uniform(0.5, 2, s[1])]) for s in _statistics(self.net)
        ]
        z = self.z(self.net, self.theta)
        self.y = (rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(float)

    def z(self, net: mk.Network, theta: np.ndarray) -> np.ndarray:
        return net.forward(theta, self.x, self.stats).z


def _statistics(net: mk.Network) -> list[tuple[int, ...]]:
    return [stats.shape for stats in net.init_stats()]


ARCHITECTURES: dict[str, Callable[[Units], Case]] = {
    "dense": lambda phi: Case([Dense(4, 5), phi(), Dense(5, 4), phi(), Dense(4, 3)], (4,), 150),
    "valid": lambda phi: Case([Conv2d(3, 4, 2), phi(), Flatten(), Dense(16, 2)], (3, 3, 3)),
    "same": lambda phi: Case(
        [
            Conv2d(3, 4, 3, padding="same"),
            phi(),
            Conv2d(4, 2, (2, 3), 2, (1, 2)),
            phi(),
            Flatten(),
            Dense(18, 2),
        ],
        (4, 3, 3),
    ),
    "padded with numbers": lambda phi: Case(
        [Conv2d(3, 2, 3, padding=1, pad_value=(0.3, -0.2, 0.5)), phi(), Flatten(), Dense(18, 2)], (3, 3, 3)
    ),
    "pooled": lambda phi: Case(
        [
            Conv2d(3, 4, 3, padding=1),
            MaxPool2d(2, padding=1),
            phi(),
            Conv2d(4, 3, 2),
            phi(),
            AvgPool2d(2),
            Flatten(),
            Dense(3, 2),
        ],
        (4, 4, 3),
    ),
    "pooled to nothing": lambda phi: Case(
        [Conv2d(3, 4, 3, padding=1), phi(), MaxPool2d(2), GlobalAvgPool(), Dense(4, 2)], (4, 4, 3)
    ),
    "residual": lambda phi: Case(
        [
            Conv2d(3, 3, 1),
            phi(),
            Residual([Conv2d(3, 4, 3, padding=1), phi(), Conv2d(4, 3, 1)]),
            phi(),
            Residual([Conv2d(3, 2, 2), phi()], [AvgPool2d(2, 1), Conv2d(3, 2, 1)]),
            Flatten(),
            Dense(8, 2),
        ],
        (3, 3, 3),
    ),
    "parallel": lambda phi: Case(
        [
            Conv2d(3, 3, 1),
            phi(),
            Parallel(Conv2d(3, 2, 1), [Conv2d(3, 2, 3, padding="same"), phi()], MaxPool2d(1)),
            Sequential((MaxPool2d(3, 1), Flatten())),
            Dense(7, 2),
        ],
        (3, 3, 3),
    ),
    "grouped": lambda phi: Case(
        [
            Conv2d(3, 4, 1),
            phi(),
            Grouped(*[Conv2d(2, 2, 3, padding=((1, 0), (2, 0)))] * 2),
            phi(),
            MaxPool2d(2, ceil_mode=True),
            Flatten(),
            Dense(8, 2),
        ],
        (3, 3, 3),
    ),
    "sequences": lambda phi: Case(
        [Conv1d(3, 4, 3, padding=(2, 0)), phi(), Conv1d(4, 2, 2), GlobalAvgPool(), Dense(2, 2)], (4, 3)
    ),
    "normalized": lambda phi: Case(
        [
            Conv2d(3, 4, 2),
            BatchNorm(4),
            phi(),
            Conv2d(4, 4, 2, padding=1),
            GroupNorm(2, 4),
            phi(),
            Flatten(),
            Dense(36, 3),
            LayerNorm(3),
        ],
        (3, 3, 3),
    ),
    "response": lambda phi: Case(
        [Conv2d(3, 4, 2), LocalResponseNorm(3, 0.5), phi(), Flatten(), Dense(16, 2)], (3, 3, 3)
    ),
}


# the problem of steps --------------------------------------------------------------


@cache
def digits(n: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digits on 16 principal components, targets for Bernoulli outputs, and test inputs."""
    data = mk.datasets.digits(components=16)
    return data.x_train[:n], np.eye(10)[data.y_train[:n]], data.x_test


def distance(net: mk.Network, theta: np.ndarray, z: np.ndarray, x: np.ndarray) -> float:
    return float(np.linalg.norm(net.natural_parameters(theta, x) - z))


def gap(r: mk.reparam.Reparameterization, start, theta, theta2, x) -> float:
    """How far apart the functions of the two nets are, over how far the first has moved."""
    z = r.source.natural_parameters(theta, x)
    return distance(r.net, theta2, z, x) / distance(r.source, start, z, x)
