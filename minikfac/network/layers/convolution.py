"""The convolution: a dense layer on every patch of an image, with the same weights everywhere.

    s_t = abar_t W,    abar_t = [patch at location t, 1]          T = Ho Wo locations

A patch consists of kh rows of kw pixels, and its rows are those of the patches above and below: so a pass
keeps every row once (``Windows.lines``, kw times the image), and W is kh matrices, one per row:

    s = sum_i row_i W_i,    dW_i = row_i^T g,    dx: the same with the kernel turned round, where stride = 1

Whole patches, kh kw times the image, are made where ``abar`` is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar

from ...backend import Array, array_module, check_array, on_host
from .base import (
    Derivatives,
    Differentials,
    ParameterLayer,
    Record,
    Shape,
    Weights,
    check_flag,
    check_images,
    check_positive,
    sum_of_products,
)
from .dense import check_weight_and_bias, initial_weights
from .windows import Windows, pair, sides

_ROWS = 2048
"""Locations in a product: its result, of few columns, stays in the cache while kh of them are added."""


@dataclass(frozen=True)
class Conv2d(ParameterLayer):
    """Cross-correlation of images (N, H, W, c_in) with c_out kernels, as in PyTorch.

    W is (kh kw c_in + 1, c_out): a patch is ordered (row, column, channel), and the bias is the last row.

    Attributes:
        c_in, c_out: channels.
        kernel_size: kh = kw, or (kh, kw).
        stride: likewise.
        padding: pixels on each side, likewise; ((top, bottom), (left, right)); "valid" for none; "same" for
            as many outputs as inputs, for stride 1 (an odd pixel goes below and to the right).
        bias: whether there is one.
        pad_value: what the padding holds, a number or one per channel.
        dilation: pixels from one to the next of a kernel, a number or a pair.
    """

    c_in: int
    c_out: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | str = 0
    bias: bool = True
    pad_value: float | tuple[float, ...] = 0.0
    dilation: int | tuple[int, int] = 1
    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        check_positive("Conv2d", c_in=self.c_in, c_out=self.c_out)
        if isinstance(self.padding, str) and self.padding not in ("valid", "same"):
            raise ValueError(f"expected Conv2d padding 'valid', 'same' or numbers, got {self.padding!r}")
        if self.windows.stride != (1, 1) and self.padding == "same":
            raise ValueError(f"expected stride 1 with padding 'same', got {self.stride}; give numbers")
        check_flag("Conv2d", bias=self.bias)
        # plain numbers, so that the layer holds no arrays
        object.__setattr__(self, "pad_value", _pad_values(self.pad_value, self.c_in))

    @cached_property
    def windows(self) -> Windows:
        """How the kernel slides."""
        kernel = pair("Conv2d", "kernel_size", self.kernel_size, 1)
        stride = pair("Conv2d", "stride", self.stride, 1)
        dilation = pair("Conv2d", "dilation", self.dilation, 1)
        if self.padding == "valid":
            before = after = (0, 0)
        elif self.padding == "same":
            h, w = Windows(kernel, stride, (0, 0), (0, 0), dilation).span
            before, after = ((h - 1) // 2, (w - 1) // 2), (h // 2, w // 2)
        else:
            before, after = sides("Conv2d", self.padding)
        return Windows(kernel, stride, before, after, dilation)

    @property
    def patch_size(self) -> int:
        """kh kw c_in."""
        kh, kw = self.windows.kernel
        return kh * kw * self.c_in

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(I, O), the bias row counted."""
        return (self.patch_size + self.bias, self.c_out)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        check_images(self, shape, self.c_in)
        return (*self.windows.output_extents(shape or (None, None)), self.c_out)

    def example_size(self, shape: Shape) -> int:
        wo, (top, bottom) = (
            (self.output_shape(shape) or (1, 1))[1],
            (self.windows.before[0], self.windows.after[0]),
        )
        lines = ((shape[0] or 1) + top + bottom) * (wo or 1) * self.patch_size // self.windows.kernel[0]
        return max(super().example_size(shape), lines)

    def example_work(self, shape: Shape) -> int:
        ho, wo, _ = self.output_shape(shape) or (1, 1, 1)
        return (ho or 1) * (wo or 1) * math.prod(self.weight_shape)

    def initial_weights(self, rng: Any, scheme: str) -> Array:
        """Draw W (I, O) in float64; the schemes are those of :meth:`minikfac.Network.init`."""
        kh, kw = self.windows.kernel
        return initial_weights(rng, scheme, self.weight_shape, self.patch_size, kh * kw * self.c_out)

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        check_images(self, x.shape[1:], self.c_in, len(x))
        lines = self.windows.lines(x, self.pad_value)
        s = _correlate(self.windows, lines, Ws[0], self.windows.grid(x.shape[1:3])[0])
        return s, (lines, s, x.shape[1:])

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        return (self._to_pixels(Ws[0], record[2], dy) if need_dx else None), [dy]

    def weight_gradient(self, record: Record, g: Array, out: Array) -> None:
        xp, (lines, s, _), width = array_module(g), record, record[0].shape[-1]
        g = xp.ascontiguousarray(g.reshape(s.shape).swapaxes(0, 1))  # heights first, as in lines
        out[: self.patch_size] = 0
        part = xp.empty((width, self.c_out), dtype=g.dtype)
        for some in _blocks(lines, len(g)):
            for i in range(self.windows.kernel[0]):
                sum_of_products(self.windows.row(lines, i, some), g[some], part)
                out[i * width : (i + 1) * width] += part
        g = g.reshape(-1, self.c_out)
        out[self.patch_size :] = xp.ones(len(g), dtype=g.dtype) @ g  # faster than a sum

    def _to_pixels(self, W: Array, shape: tuple[int, ...], dy: Array) -> Array:
        """Derivatives of the pixels from dy (..., N, Ho, Wo, O), those of the patches that hold them."""
        back = self._turned_round
        if back is None:
            return self._col2im(W, shape, dy)
        kernels = W[: self.patch_size].reshape(*self.windows.kernel, self.c_in, self.c_out)
        turned = kernels[::-1, ::-1].swapaxes(2, 3).reshape(-1, self.c_in)  # (kh kw O, C)
        lines = back.lines(dy.reshape(-1, *dy.shape[-3:]))
        return _correlate(back, lines, turned, shape[0]).reshape(*dy.shape[:-3], *shape)

    @cached_property
    def _turned_round(self) -> Windows | None:
        """Windows over the derivatives, whose correlation with turned kernels leads to the pixels."""
        span, before, after = self.windows.span, self.windows.before, self.windows.after
        top, left = (k - 1 - p for k, p in zip(span, before, strict=True))
        bottom, right = (k - 1 - p for k, p in zip(span, after, strict=True))
        if self.windows.stride != (1, 1) or min(top, left, bottom, right) < 0:
            return None
        return replace(self.windows, before=(top, left), after=(bottom, right))

    def _col2im(self, W: Array, shape: tuple[int, ...], dy: Array) -> Array:
        """Add g_t W^T to the pixels of patch t, one kernel offset after the other."""
        xp, windows = array_module(dy), self.windows
        dx = windows.zeros(shape, dy)
        g = dy.reshape(-1, self.c_out)
        part = xp.empty((len(g), self.c_in), dtype=dy.dtype)
        for place, index in enumerate(windows.pixels(dy.shape[-3:-1])):
            xp.matmul(g, W[place * self.c_in : (place + 1) * self.c_in].T, out=part)
            dx[index] += part.reshape(*dy.shape[:-1], self.c_in)
        return windows.inside(dx)

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        lines, s, _ = record
        ds = _correlate(self.windows, lines, Vs[0], s.shape[1])
        if dx is None:
            return ds, None
        moving = self.windows.lines(dx)  # the padding and the constant 1 do not move
        return ds + _correlate(self.windows, moving, Ws[0][: self.patch_size], s.shape[1]), moving

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        shape, abar = record[2], self._patches(record, record[0], 1)
        rabar = array_module(dy).zeros_like(abar) if tangent is None else self._patches(record, tangent, 0)
        dx = self._to_pixels(Ws[0], shape, dy)
        rdx = self._to_pixels(Ws[0], shape, rdy) + self._to_pixels(Vs[0], shape, dy)
        g, rg = (d.reshape(*abar.shape[:2], self.c_out) for d in (dy, rdy))
        return dx, rdx, [(abar, rabar, g, rg)]

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        abar = self._patches(record, record[0], 1)
        return [(abar, record[1].reshape(*abar.shape[:2], self.c_out))]

    def _patches(self, record: Record, lines: Array, constant: float) -> Array:
        """Patches (N, T, I), and a constant beside them if there is a bias."""
        shape = (*record[1].shape[:3], self.weight_shape[0])
        abar = array_module(lines).empty(shape, dtype=lines.dtype)
        self.windows.patches(lines, abar[..., : self.patch_size])
        abar[..., self.patch_size :] = constant
        return abar.reshape(len(abar), -1, shape[-1])

    def grids(self, record: Record) -> list[tuple[int, int]]:
        return [record[1].shape[1:3]]

    @staticmethod
    def join(weight: Array, bias: Array | None) -> Array:
        """Make W (I, O) of PyTorch's weight (c_out, c_in, kh, kw) and bias (c_out,), or None.

        Raises:
            ValueError: on shapes that do not belong together.
            TypeError: on lists, tensors and the like.
        """
        check_weight_and_bias(weight, bias, ("c_out", "c_in", "kh", "kw"))
        W = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
        if bias is None:
            return W.copy()
        return array_module(weight, bias).concatenate([W, bias[None]])

    def split(self, W: Array) -> tuple[Array, Array | None]:
        """Take W apart into PyTorch's weight (c_out, c_in, kh, kw) and bias (c_out,), None without one.

        Raises:
            ValueError: on another shape than ``weight_shape``.
        """
        check_array(W, "W")
        if W.shape != self.weight_shape:
            raise ValueError(f"expected W of shape {self.weight_shape}, got {W.shape}")
        weight = W[: self.patch_size].reshape(*self.windows.kernel, self.c_in, self.c_out)
        return weight.transpose(3, 2, 0, 1).copy(), W[-1].copy() if self.bias else None


def _blocks(lines: Array, heights: int) -> Iterator[slice]:
    """Heights whose locations go into one product."""
    step = max(1, _ROWS // (lines.shape[1] * lines.shape[2])) if on_host(lines) else heights
    return (slice(first, min(first + step, heights)) for first in range(0, heights, step))


def _correlate(windows: Windows, lines: Array, W: Array, heights: int) -> Array:
    """s (N, Ho, Wo, O) = sum_i row_i W_i, and the bias if W has one; in memory heights come first."""
    xp, (_, n, wo, width) = array_module(lines), lines.shape
    kh, o = windows.kernel[0], W.shape[1]
    s = xp.empty((heights, n, wo, o), dtype=lines.dtype)
    product = None
    for some in _blocks(lines, heights):
        out = s[some].reshape(-1, o)
        if product is None:
            product = xp.empty_like(out)
        for i in range(kh):
            row, W_i = windows.row(lines, i, some).reshape(-1, width), W[i * width : (i + 1) * width]
            if i == 0:
                xp.matmul(row, W_i, out=out)
            else:
                out += xp.matmul(row, W_i, out=product[: len(out)])
        if len(W) > kh * width:
            out += W[-1]
    return s.swapaxes(0, 1)


def _pad_values(value: Any, channels: int) -> float | tuple[float, ...]:
    """Read a finite number, or one per channel."""
    many = not isinstance(value, Real)
    try:
        values = tuple(float(v) for v in (value if many else [value]))
    except (TypeError, ValueError):
        values = (math.nan,)
    if isinstance(value, str) or not all(map(math.isfinite, values)):
        raise ValueError(f"expected pad_value to be a finite number or {channels} of them, got {value!r}")
    if many and len(values) != channels:
        raise ValueError(f"expected one pad_value or {channels}, got {len(values)}")
    return values if many else values[0]
