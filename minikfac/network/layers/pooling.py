"""Pooling and flattening: no parameters, so nothing to approximate; derivatives flow through.

MaxPool2d       the largest value in each window; its derivative goes to the first place that has it
AvgPool2d       the mean of each window, padding counted as zeros
ZeroPad2d       zeros around images, as many as one likes on each side
GlobalAvgPool   the mean over all locations, (N, H, W, C) -> (N, C)
Flatten         (N, H, W, C) -> (N, H W C)
ChannelsLast    (N, C, H, W) -> (N, H, W, C), for images from PyTorch
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from ...backend import Array, array_module
from .base import Derivatives, Rearrangement, Record, Shape, Weights, check_images
from .windows import Windows, pair


@dataclass(frozen=True)
class _Pool2d(Rearrangement):
    """Windows over each channel alone.

    Attributes:
        kernel_size: kh = kw, or (kh, kw).
        stride: likewise; None for the kernel size, so that windows do not overlap.
        padding: pixels on each side, likewise; at most half a window.
        dilation: pixels from one to the next of a window, likewise.
    """

    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1

    def __post_init__(self) -> None:
        windows = self.windows
        if any(2 * p > k for p, k in zip(windows.before, windows.kernel, strict=True)):
            raise ValueError(f"expected padding of at most half a window in {self}")

    @cached_property
    def windows(self) -> Windows:
        """How they slide."""
        name = type(self).__name__
        kernel = pair(name, "kernel_size", self.kernel_size, 1)
        stride = kernel if self.stride is None else pair(name, "stride", self.stride, 1)
        padding = pair(name, "padding", self.padding, 0)
        return Windows(kernel, stride, padding, padding, pair(name, "dilation", self.dilation, 1))

    @property
    def _tiles(self) -> bool:
        """Whether no pixel is in two windows."""
        return all(s >= k for s, k in zip(self.windows.stride, self.windows.span, strict=True))

    def output_shape(self, shape: Shape | None) -> Shape | None:
        check_images(self, shape)
        return None if shape is None else (*self.windows.output_extents(shape), shape[2])

    def _grid(self, x: Array) -> tuple[int, int]:
        check_images(self, x.shape[1:], n=len(x))
        return self.windows.grid(x.shape[1:3])

    def _wide(self, shape: tuple[int, ...], like: Array) -> Array:
        """Zeros for padded images, under the leading axes of ``like`` (..., Ho, Wo, C)."""
        h, w = (shape[axis] + self.windows.before[axis] + self.windows.after[axis] for axis in range(2))
        return array_module(like).zeros((*like.shape[:-3], h, w, shape[2]), dtype=like.dtype)


class MaxPool2d(_Pool2d):
    """The largest value in each window; of equal ones the first, row by row, counts.

    A mask ``x == max`` instead would send the derivative to all equal pixels, as on blank paper.
    """

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        grid = self._grid(x)
        xp, wide = array_module(x), self.windows.pad(x, -math.inf)
        pixels = self.windows.pixels(grid)
        y = wide[next(pixels)].copy()
        which = xp.zeros(y.shape, dtype=xp.int32 if math.prod(self.windows.kernel) > 127 else xp.int8)
        for place, index in enumerate(pixels, start=1):
            value = wide[index]
            later = (value > y).astype(which.dtype)  # arithmetic is faster than a masked copy by far
            later *= which.dtype.type(place)
            xp.maximum(which, later, out=which)
            xp.maximum(y, value, out=y)
        return y, (which, x.shape[1:])

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        if not need_dx:
            return None, []
        which, shape = record
        dx = self._wide(shape, dy)
        for place, index in enumerate(self.windows.pixels(dy.shape[-3:-1])):
            if self._tiles:
                array_module(dy).multiply(dy, which == place, out=dx[index])
            else:
                dx[index] += dy * (which == place)
        return self.windows.inside(dx), []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        if dx is None:
            return None, None
        which, wide = record[0], self.windows.pad(dx)
        pixels = enumerate(self.windows.pixels(which.shape[1:3]))
        return sum(wide[index] * (which == place) for place, index in pixels), None  # type: ignore[return-value]


class AvgPool2d(_Pool2d):
    """The mean of each window; padding counts as zeros, as in PyTorch."""

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        return self._mean(x, self._grid(x)), x.shape[1:]

    def _mean(self, x: Array, grid: tuple[int, int]) -> Array:
        wide, pixels = self.windows.pad(x), self.windows.pixels(grid)
        y = wide[next(pixels)].copy()
        for index in pixels:
            y += wide[index]
        y *= 1 / math.prod(self.windows.kernel)
        return y

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        if not need_dx:
            return None, []
        dx, share = self._wide(record, dy), dy / math.prod(self.windows.kernel)
        for index in self.windows.pixels(dy.shape[-3:-1]):
            dx[index] += share
        return self.windows.inside(dx), []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        return (None if dx is None else self._mean(dx, self.windows.grid(dx.shape[1:3]))), None


@dataclass(frozen=True)
class ZeroPad2d(Rearrangement):
    """Zeros around images.

    Attributes:
        padding: columns on the left and on the right, rows above and below, in PyTorch's order.
    """

    padding: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        if not isinstance(self.padding, tuple) or len(self.padding) != 4:
            raise ValueError(f"expected ZeroPad2d padding (left, right, top, bottom), got {self.padding}")
        self.windows  # noqa: B018  checks the numbers

    @cached_property
    def windows(self) -> Windows:
        """Of single pixels."""
        (left, right), (top, bottom) = (
            pair("ZeroPad2d", "padding", sides, 0) for sides in (self.padding[:2], self.padding[2:])
        )
        return Windows((1, 1), (1, 1), (top, left), (bottom, right))

    def output_shape(self, shape: Shape | None) -> Shape | None:
        check_images(self, shape)
        return None if shape is None else (*self.windows.output_extents(shape), shape[2])

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        check_images(self, x.shape[1:], n=len(x))
        return self.windows.pad(x), None

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        return (self.windows.inside(dy) if need_dx else None), []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        return (None if dx is None else self.windows.pad(dx)), None


@dataclass(frozen=True)
class GlobalAvgPool(Rearrangement):
    """The mean over all locations, (N, H, W, C) -> (N, C), or over a sequence, (N, T, C) -> (N, C)."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        return None if shape is None else shape[-1:]

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        if x.ndim not in (3, 4):
            raise ValueError(f"expected images (N, H, W, C) or (N, T, C) into {self}, got {x.shape}")
        return x.mean(tuple(range(1, x.ndim - 1))), x.shape[1:]

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        if not need_dx:
            return None, []
        share = dy.reshape(*dy.shape[:-1], *(1 for _ in record[1:]), -1) / math.prod(record[:-1])
        return array_module(dy).broadcast_to(share, (*dy.shape[:-1], *record)), []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        return (None if dx is None else dx.mean(tuple(range(1, dx.ndim - 1)))), None


@dataclass(frozen=True)
class Flatten(Rearrangement):
    """(N, H, W, C) -> (N, H W C), channels last; what is flat already stays as it is."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None or None in shape:
            return None if shape is None else (None,)
        return (math.prod(extent for extent in shape if extent is not None),)

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        return x.reshape(len(x), -1), x.shape[1:]

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        return (dy.reshape(*dy.shape[:-1], *record) if need_dx else None), []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        return (None if dx is None else dx.reshape(len(dx), -1)), None


@dataclass(frozen=True)
class ChannelsLast(Rearrangement):
    """(N, C, H, W) -> (N, H, W, C): as the first layer, it takes images as PyTorch has them."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        if len(shape) != 3:
            raise ValueError(f"expected images (N, C, H, W) into {self}, got {('N', *shape)}")
        return (*shape[1:], shape[0])

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        self.output_shape(x.shape[1:])
        return array_module(x).moveaxis(x, 1, 3), None

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        return (array_module(dy).moveaxis(dy, -1, -3) if need_dx else None), []

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        return (None if dx is None else array_module(dx).moveaxis(dx, 1, 3)), None
