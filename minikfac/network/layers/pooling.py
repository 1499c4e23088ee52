"""Pooling: no parameters, so nothing to approximate; derivatives flow through.

MaxPool2d           the largest value in each window; its derivative goes to the first place that has it
AvgPool2d           the mean of each window, padding counted as zeros or not at all
AdaptiveAvgPool2d   the means of a given number of windows
GlobalAvgPool       the mean over all locations, (N, H, W, C) or (N, T, C) -> (N, C)
ZeroPad2d           zeros around images, a number on each side
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...backend import Array, array_module
from .base import Rearrangement, Record, Shape, Weights, check_flag, check_images
from .windows import Windows, pair, sides


@dataclass(frozen=True)
class _Pool2d(Rearrangement):
    """Windows over each channel alone.

    Attributes:
        kernel_size: kh = kw, or (kh, kw).
        stride: likewise; None for the kernel size, so that windows do not overlap.
        padding: pixels on each side, likewise; at most half a window.
        dilation: pixels from one to the next of a window, likewise.
        ceil_mode: whether a last window may extend beyond image and padding, so that no pixel is left out.
    """

    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        windows = self.windows
        if any(2 * p > k for p, k in zip(windows.before, windows.kernel, strict=True)):
            raise ValueError(f"expected padding of at most half a window in {self}")
        check_flag(type(self).__name__, ceil_mode=self.ceil_mode)

    @cached_property
    def windows(self) -> Windows:
        """How they slide, the last ones of ``ceil_mode`` left out."""
        name = type(self).__name__
        kernel = pair(name, "kernel_size", self.kernel_size, 1)
        stride = kernel if self.stride is None else pair(name, "stride", self.stride, 1)
        padding = pair(name, "padding", self.padding, 0)
        return Windows(kernel, stride, padding, padding, pair(name, "dilation", self.dilation, 1))

    @property
    def _tiles(self) -> bool:
        """Whether no pixel is in two windows."""
        return all(s >= k for s, k in zip(self.windows.stride, self.windows.span, strict=True))

    def windows_on(self, shape: Shape) -> Windows:
        """How they slide over images (H, W, C)."""
        return self.windows.covering(shape) if self.ceil_mode else self.windows

    def output_shape(self, shape: Shape | None) -> Shape | None:
        check_images(self, shape)
        return None if shape is None else (*self.windows_on(shape).output_extents(shape), shape[2])


class MaxPool2d(_Pool2d):
    """The largest value in each window; of equal ones the first, row by row, counts.

    A mask ``x == max`` instead would send the derivative to all equal pixels, as on blank paper.
    """

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        self.output_shape(x.shape[1:])
        xp, windows = array_module(x), self.windows_on(x.shape[1:])
        wide, pixels = windows.pad(x, -math.inf), windows.pixels(windows.grid(x.shape[1:3]))
        y = wide[next(pixels)].copy()
        which = xp.zeros(y.shape, dtype=xp.int32 if math.prod(windows.kernel) > 127 else xp.int8)
        for place, index in enumerate(pixels, start=1):
            value = wide[index]
            later = (value > y).astype(which.dtype)  # arithmetic is faster than a masked copy by far
            later *= which.dtype.type(place)
            xp.maximum(which, later, out=which)
            xp.maximum(y, value, out=y)
        return y, (windows, which, x.shape[1:])

    def apply(self, record: Record, x: Array) -> Array:
        windows, which, _ = record
        wide, pixels = windows.pad(x), enumerate(windows.pixels(which.shape[1:3]))
        return sum(wide[index] * (which == place) for place, index in pixels)

    def adjoint(self, record: Record, dy: Array) -> Array:
        windows, which, shape = record
        dx = windows.zeros(shape, dy)
        for place, index in enumerate(windows.pixels(dy.shape[-3:-1])):
            if self._tiles:
                array_module(dy).multiply(dy, which == place, out=dx[index])
            else:
                dx[index] += dy * (which == place)
        return windows.inside(dx)


@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """The mean of each window, as in PyTorch; what lies beyond the padding, in ``ceil_mode``, never counts.

    Attributes:
        count_include_pad: whether padding counts, as zeros.
    """

    count_include_pad: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("AvgPool2d", count_include_pad=self.count_include_pad)

    def record(self, x: Array) -> Record:
        """The windows, the share of each of their pixels in a mean, and the shape of an example."""
        windows, (h, w) = self.windows_on(x.shape[1:]), x.shape[1:3]
        share: Any = 1 / math.prod(windows.kernel)
        if self.ceil_mode or not self.count_include_pad:
            (top, left), (t, l) = windows.before, windows.before if self.count_include_pad else (0, 0)
            counted = windows.zeros((h, w, 1), x[:1])
            counted[:, top - t : top + h + t, left - l : left + w + l] = 1
            # dilated windows may lie in the padding altogether
            share = 1 / array_module(x).maximum(_sums(windows, (h, w), counted), 1)
        return windows, share, x.shape[1:]

    def apply(self, record: Record, x: Array) -> Array:
        windows, share, shape = record
        y = _sums(windows, shape[:2], windows.pad(x))
        y *= share
        return y

    def adjoint(self, record: Record, dy: Array) -> Array:
        windows, share, shape = record
        dx, shared = windows.zeros(shape, dy), dy * share
        for index in windows.pixels(dy.shape[-3:-1]):
            dx[index] += shared
        return windows.inside(dx)


def _sums(windows: Windows, extents: tuple[int, int], wide: Array) -> Array:
    """The sum over each window on images of H x W pixels, given padded."""
    pixels = windows.pixels(windows.grid(extents))
    y = wide[next(pixels)].copy()
    for index in pixels:
        y += wide[index]
    return y


@dataclass(frozen=True)
class AdaptiveAvgPool2d(Rearrangement):
    """The means of Ho x Wo windows that cover images of any size, as in PyTorch.

    Window i of H rows begins at floor(i H / Ho) and ends before ceil((i + 1) H / Ho): windows overlap, and
    differ in size, unless Ho divides H.

    Attributes:
        output_size: Ho = Wo, or (Ho, Wo).
    """

    output_size: int | tuple[int, int]

    def __post_init__(self) -> None:
        size = pair("AdaptiveAvgPool2d", "output_size", self.output_size, 1)
        object.__setattr__(self, "output_size", size)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        check_images(self, shape)
        return None if shape is None else (*self.output_size, shape[2])  # type: ignore[misc]

    def record(self, x: Array) -> Record:
        """The matrices of means along rows and columns, (Ho, H) and (Wo, W)."""
        xp, matrices = array_module(x), []
        for stops, extent in zip(self.output_size, x.shape[1:3], strict=True):  # type: ignore[arg-type]
            i, pixel = xp.arange(stops)[:, None], xp.arange(extent)
            inside = (pixel >= i * extent // stops) & (pixel < -(-(i + 1) * extent // stops))
            matrices.append((inside / inside.sum(1, keepdims=True)).astype(x.dtype))
        return matrices

    def apply(self, record: Record, x: Array) -> Array:
        rows, columns = record
        y = rows @ x.reshape(*x.shape[:-2], -1)  # (..., Ho, W C)
        return columns @ y.reshape(*y.shape[:-1], *x.shape[-2:])

    def adjoint(self, record: Record, dy: Array) -> Array:
        return self.apply([means.T for means in record], dy)


@dataclass(frozen=True)
class GlobalAvgPool(Rearrangement):
    """The mean over all locations, (N, H, W, C) -> (N, C), or of sequences (N, T, C) -> (N, C)."""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        if shape is None or len(shape) != 2:
            check_images(self, shape)
        return None if shape is None else (shape[-1],)

    def apply(self, record: Record, x: Array) -> Array:
        return x.mean(tuple(range(1, x.ndim - 1)))

    def adjoint(self, record: Record, dy: Array) -> Array:
        *extents, c = record
        share = (dy / math.prod(extents)).reshape(*dy.shape[:-1], *(1 for _ in extents), c)
        return array_module(dy).broadcast_to(share, (*dy.shape[:-1], *record))


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
        before, after = sides("ZeroPad2d", (self.padding[2:], self.padding[:2]))
        return Windows((1, 1), (1, 1), before, after)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        check_images(self, shape)
        return None if shape is None else (*self.windows.output_extents(shape), shape[2])

    def apply(self, record: Record, x: Array) -> Array:
        return self.windows.pad(x)

    def adjoint(self, record: Record, dy: Array) -> Array:
        return self.windows.inside(dy)
