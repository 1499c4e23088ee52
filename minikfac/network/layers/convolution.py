"""The convolution: a dense layer on every patch of an image, with the same weights everywhere.

    s_t = abar_t W,    abar_t = [patch at location t, 1]          T = Ho Wo locations

so s, the weight gradient sum_t abar_t g_t^T and KFC's sum_t abar_t abar_t^T all read the same patches
(im2col), made once per pass. On the way back each patch adds its derivatives to the pixels that it came
from (col2im), one kernel offset after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar

from ...backend import Array, array_module, check_array
from .base import (
    Derivatives,
    Differentials,
    ParameterLayer,
    Record,
    Shape,
    Weights,
    check_bias,
    check_images,
    check_positive,
)
from .dense import check_weight_and_bias, initial_weights
from .windows import Windows, pair


@dataclass(frozen=True)
class Conv2d(ParameterLayer):
    """Cross-correlation of images (N, H, W, c_in) with c_out kernels, as in PyTorch.

    W is (kh kw c_in + 1, c_out): a patch is ordered (row, column, channel), and the bias is the last row.

    Attributes:
        c_in, c_out: channels.
        kernel_size: kh = kw, or (kh, kw).
        stride: likewise.
        padding: pixels on each side, likewise; "valid" for none; "same" for as many outputs as inputs, for
            stride 1 (an odd pixel goes below and to the right).
        bias: whether there is one.
        pad_value: what the padding holds, a number or one per channel.
    """

    c_in: int
    c_out: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    bias: bool = True
    pad_value: float | tuple[float, ...] = 0.0
    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        check_positive("Conv2d", c_in=self.c_in, c_out=self.c_out)
        if isinstance(self.padding, str) and self.padding not in ("valid", "same"):
            raise ValueError(f"expected Conv2d padding 'valid', 'same' or numbers, got {self.padding!r}")
        if self.windows.stride != (1, 1) and self.padding == "same":
            raise ValueError(f"expected stride 1 with padding 'same', got {self.stride}; give numbers")
        check_bias("Conv2d", self.bias)
        # plain numbers, so that the layer holds no arrays
        object.__setattr__(self, "pad_value", _pad_values(self.pad_value, self.c_in))

    @cached_property
    def windows(self) -> Windows:
        """How the kernel slides."""
        kernel = pair("Conv2d", "kernel_size", self.kernel_size, 1)
        stride = pair("Conv2d", "stride", self.stride, 1)
        if self.padding == "valid":
            before = after = (0, 0)
        elif self.padding == "same":
            before = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
            after = (kernel[0] // 2, kernel[1] // 2)
        else:
            before = after = pair("Conv2d", "padding", self.padding, 0)
        return Windows(kernel, stride, before, after)

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
        ho, wo, _ = self.output_shape(shape) or (1, 1, 1)
        return max(super().example_size(shape), (ho or 1) * (wo or 1) * self.weight_shape[0])

    def initial_weights(self, rng: Any, scheme: str) -> Array:
        """Draw W (I, O) in float64; the schemes are those of :meth:`minikfac.Network.init`."""
        kh, kw = self.windows.kernel
        return initial_weights(rng, scheme, self.weight_shape, self.patch_size, kh * kw * self.c_out)

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        check_images(self, x.shape[1:], self.c_in, len(x))
        ho, wo = self.windows.grid(x.shape[1:3])
        abar = array_module(x).empty((len(x), ho, wo, self.weight_shape[0]), dtype=x.dtype)
        self.windows.patches(x, abar[..., : self.patch_size], self.pad_value)
        abar[..., self.patch_size :] = 1
        abar = abar.reshape(len(x), ho * wo, -1)
        s = (abar.reshape(-1, abar.shape[2]) @ Ws[0]).reshape(len(x), ho, wo, self.c_out)
        return s, (abar, s, x.shape[1:])

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        g = dy.reshape(*dy.shape[:-3], -1, self.c_out)
        return (self._to_pixels(Ws[0], record[2], dy) if need_dx else None), [g]

    def _to_pixels(self, W: Array, shape: tuple[int, ...], dy: Array) -> Array:
        """Add g_t W^T to the pixels of patch t, for dy (..., N, Ho, Wo, O): col2im."""
        xp, windows = array_module(dy), self.windows
        h, w = (shape[axis] + windows.before[axis] + windows.after[axis] for axis in range(2))
        dx = xp.zeros((*dy.shape[:-3], h, w, self.c_in), dtype=dy.dtype)
        g = dy.reshape(-1, self.c_out)
        part = xp.empty((len(g), self.c_in), dtype=dy.dtype)
        for place, index in enumerate(windows.pixels(dy.shape[-3:-1])):
            xp.matmul(g, W[place * self.c_in : (place + 1) * self.c_in].T, out=part)
            dx[index] += part.reshape(*dy.shape[:-1], self.c_in)
        return windows.inside(dx)

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        abar, s, _ = record
        ds = abar @ Vs[0]
        rabar = None
        if dx is not None:  # the padding and the constant 1 do not move
            rabar = array_module(dx).zeros((*s.shape[:3], abar.shape[2]), dtype=abar.dtype)
            self.windows.patches(dx, rabar[..., : self.patch_size])
            rabar = rabar.reshape(abar.shape)
            ds = ds + rabar @ Ws[0]
        return ds.reshape(s.shape), rabar

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        abar, _, shape = record
        rabar = array_module(dy).zeros_like(abar) if tangent is None else tangent
        dx = self._to_pixels(Ws[0], shape, dy)
        rdx = self._to_pixels(Ws[0], shape, rdy) + self._to_pixels(Vs[0], shape, dy)
        g, rg = (d.reshape(*abar.shape[:2], self.c_out) for d in (dy, rdy))
        return dx, rdx, [(abar, rabar, g, rg)]

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        abar, s, _ = record
        return [(abar, s.reshape(*abar.shape[:2], self.c_out))]

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
