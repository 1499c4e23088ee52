"""Layers of images by their definitions, pixel by pixel, and a pass through any layer at random.

The loops compute nothing with the package: they are what it is compared with.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minikfac import layers
from oracles import unit_vector

Pair = tuple[int, int]
NO_PADDING = ((0, 0), (0, 0))
"""Pixels (above, below), (left, right)."""


# windows --------------------------------------------------------------


def windows(
    extent: int, size: int, stride: int, before: int, after: int, apart: int = 1, ceil: bool = False
) -> list[list[int | None]]:
    """Rows, or columns, of an image that each window sees; None for those of the padding.

    With ``ceil``, one window more if pixels are left behind the last and it begins in the image or in front
    of it; what lies beyond the padding is left out.
    """
    windows, start, end = [], -before, extent + after
    while (stop := start + (size - 1) * apart + 1) <= end or (
        ceil and stop - stride < end and start < extent
    ):
        seen = (place for place in range(start, start + size * apart, apart) if place < end)
        windows.append([place if 0 <= place < extent else None for place in seen])
        start += stride
    return windows


def places(
    shape: Sequence[int],
    kernel: Pair,
    stride: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair = (1, 1),
    ceil: bool = False,
) -> list[list]:
    """Per row of windows, per window, the (row, column) that it sees, line by line; None outside."""
    rows, columns = (
        windows(shape[a], kernel[a], stride[a], *padding[a], dilation[a], ceil) for a in range(2)
    )
    return [
        [
            [None if h is None or w is None else (h, w) for h, w in itertools.product(places, others)]
            for others in columns
        ]
        for places in rows
    ]


def loop_conv(
    x: np.ndarray,
    W: np.ndarray,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = NO_PADDING,
    pad_value: Sequence[float] | None = None,
    bias: bool = True,
    dilation: Pair = (1, 1),
) -> tuple[np.ndarray, np.ndarray]:
    """Patches (N, T, I) in the order (row, column, channel, 1), and what the kernels make of them."""
    outside = [0.0] * x.shape[3] if pad_value is None else list(pad_value)
    grid = places(x.shape[1:3], kernel, stride, padding, dilation)
    patches = [
        [
            [float(v) for place in seen for v in (outside if place is None else image[place])] + [1.0] * bias
            for line in grid
            for seen in line
        ]
        for image in x
    ]
    s = [
        [[sum(a * float(W[i, o]) for i, a in enumerate(patch)) for o in range(W.shape[1])] for patch in rows]
        for rows in patches
    ]
    return np.array(patches), np.array(s).reshape(len(x), len(grid), len(grid[0]), W.shape[1])


def loop_pool(
    x: np.ndarray,
    kind: str,
    kernel: Pair,
    stride: Pair,
    padding: tuple[Pair, Pair] = NO_PADDING,
    dilation: Pair = (1, 1),
    ceil: bool = False,
    padding_counts: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """y (N, Ho, Wo, C), and its derivative (N, Ho, Wo, H, W, C) by the pixels of the same channel.

    Among equal largest values the first, line by line, moves y.
    """
    n, h, w, c = x.shape
    grid = places((h, w), kernel, stride, padding, dilation, ceil)
    y = np.zeros((n, len(grid), len(grid[0]), c))
    D = np.zeros((n, len(grid), len(grid[0]), h, w, c))
    for e, p, q, o in np.ndindex(y.shape):
        seen = [place for place in grid[p][q] if place is not None]
        if kind == "avg":
            count = len(grid[p][q]) if padding_counts else len(seen)
            y[e, p, q, o] = sum(x[(e, *place, o)] for place in seen) / count
            for place in seen:
                D[(e, p, q, *place, o)] = 1 / count
        else:
            winner = seen[0]
            for place in seen:
                if x[(e, *place, o)] > x[(e, *winner, o)]:
                    winner = place
            y[e, p, q, o] = x[(e, *winner, o)]
            D[(e, p, q, *winner, o)] = 1
    return y, D


# normalization --------------------------------------------------------------

Together = Callable[[tuple[int, ...], tuple[int, ...]], bool]


def layer_together(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """One example, one location."""
    return a[:-1] == b[:-1]


def batch_together(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """One channel."""
    return a[-1] == b[-1]


def group_together(size: int) -> Together:
    """One example, one group of ``size`` channels."""
    return lambda a, b: a[0] == b[0] and a[-1] // size == b[-1] // size


def loop_normalize(x: np.ndarray, together: Together, eps: float) -> np.ndarray:
    """(x - mean) / sqrt(var + eps), each value among those that it is together with."""
    xhat = np.zeros(x.shape)
    for here in np.ndindex(x.shape):
        others = [float(x[there]) for there in np.ndindex(x.shape) if together(here, there)]
        mean = sum(others) / len(others)
        variance = sum((v - mean) ** 2 for v in others) / len(others)
        xhat[here] = (x[here] - mean) / math.sqrt(variance + eps)
    return xhat


def loop_response(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    """Local response normalization, channel by channel."""
    y = np.zeros(x.shape)
    for here in np.ndindex(x.shape):
        window = range(here[-1] - size // 2, here[-1] + (size - 1) // 2 + 1)
        squares = sum(float(x[(*here[:-1], c)]) ** 2 for c in window if 0 <= c < x.shape[-1])
        y[here] = x[here] / (k + alpha / size * squares) ** beta
    return y


# passes --------------------------------------------------------------


def weight_product(abar: np.ndarray, g: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Each example's weight gradient times a direction V, (..., N) for g (..., N, T, O)."""
    letters = "ntic,...ntc,ic->...n" if abar.ndim == 4 else "nti,...nto,io->...n"
    return np.einsum(letters, abar, g, V)


@dataclass(frozen=True)
class Case:
    """A layer and inputs for it.

    Attributes:
        layer: the layer.
        shape: of one example.
        running: whether batch normalization is handed statistics.
    """

    layer: layers.Layer
    shape: tuple[int, ...]
    running: bool = False

    @property
    def coupled(self) -> bool:
        """Whether examples depend on each other."""
        return bool(self.layer.statistics_shapes) and not self.running


class Pass:
    """Random weights, and inputs without ties and kinks; a direction in both; and a forward pass."""

    def __init__(self, case: Case, n: int = 5, seed: int = 0) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.layer = layer = case.layer
        self.Ws = [rng.standard_normal(shape) for shape in layer.weight_shapes]
        self.Vs = [unit_vector(rng, *shape) for shape in layer.weight_shapes]
        shape = (n, *case.shape)
        # equal steps, none at 0, so that nothing that chooses among pixels is near another choice
        values = (np.arange(math.prod(shape)) + 0.5) / math.prod(shape) * 4 - 2
        self.x = rng.permutation(values).reshape(shape)
        self.dx = unit_vector(rng, *shape)
        self.stats = None
        if case.running:
            self.stats = [rng.uniform(0.5, 2, shape) for shape in layer.statistics_shapes]
        self.y, self.record = layer.forward(self.Ws, self.x, self.stats)
        self.u = rng.standard_normal(self.y.shape)

    def moved(self, t: float) -> np.ndarray:
        """y at a distance t along (dx, Vs)."""
        Ws = [W + t * V for W, V in zip(self.Ws, self.Vs, strict=True)]
        return self.layer.forward(Ws, self.x + t * self.dx, self.stats)[0]

    def jvp(self) -> np.ndarray:
        dy = self.layer.jvp(self.Ws, self.Vs, self.record, self.dx)[0]
        assert dy is not None
        return dy

    def along(self, dx: np.ndarray, gs: list[np.ndarray]) -> np.ndarray:
        """What came back times the direction, example by example."""
        examples = dx.shape[: -self.x.ndim + 1]
        total = (self.dx * dx).reshape(*examples, -1).sum(-1)
        for (abar, _), g, V in zip(self.layer.signals(self.record), gs, self.Vs, strict=True):
            total = total + weight_product(abar, g.reshape(*examples, -1, g.shape[-1]), V)
        return total
