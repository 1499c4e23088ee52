"""Windows that slide over images: what convolution and pooling have in common.

A window of kh x kw pixels moves in steps of (sh, sw) over an image padded by ph pixels above and below
and pw left and right; it stops at Ho x Wo locations, numbered row by row. Dilated, its pixels lie (dh, dw)
apart, so that it spans (kh - 1) dh + 1 rows. Pixel (i, j) of all windows together is one strided slice of the
padded image: work goes by such slices, kh kw of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from ...backend import Array, array_module
from .base import Shape

Pair = tuple[int, int]
Index = tuple[Any, ...]


@dataclass(frozen=True)
class Windows:
    """How windows slide.

    Attributes:
        kernel: (kh, kw).
        stride: (sh, sw).
        before, after: padding above and left, below and right.
        dilation: (dh, dw).
    """

    kernel: Pair
    stride: Pair
    before: Pair
    after: Pair
    dilation: Pair = (1, 1)

    @property
    def span(self) -> Pair:
        """Rows and columns from the first pixel to the last."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    @property
    def padded(self) -> bool:
        return any(self.before + self.after)

    def grid(self, extents: Pair) -> Pair:
        """(Ho, Wo) on images of H x W pixels.

        Raises:
            ValueError: if an image, padded, is smaller than a window.
        """
        ho, wo = (self._stops(extents[axis], axis) for axis in range(2))
        if min(ho, wo) < 1:
            h, w = (extents[axis] + self.before[axis] + self.after[axis] for axis in range(2))
            kh, kw = self.span
            raise ValueError(f"expected images of at least {kh} x {kw} pixels with padding, got {h} x {w}")
        return ho, wo

    def covering(self, shape: Shape) -> Windows:
        """These windows, with one stop more on an axis of images (H, W, ...) where they leave pixels out.

        It begins in the image or the padding in front, as in PyTorch; what it lacks is more padding behind.
        """
        after = list(self.after)
        for axis, extent in enumerate(shape[:2]):
            if extent is not None:
                end, stride, span = self.before[axis] + extent, self.stride[axis], self.span[axis]
                steps = -(-(end + after[axis] - span) // stride)
                steps -= steps * stride >= end
                if steps >= 0:
                    after[axis] = max(after[axis], steps * stride + span - end)
        return replace(self, after=(after[0], after[1]))

    def output_extents(self, shape: Shape) -> Shape:
        """(Ho, Wo) of one example (H, W, ...), None where an extent is."""
        height, width = (1 << 30 if extent is None else extent for extent in shape[:2])
        grid = self.grid((height, width))
        return tuple(None if extent is None else stops for extent, stops in zip(shape[:2], grid, strict=True))

    def _stops(self, extent: int, axis: int) -> int:
        room = extent + self.before[axis] + self.after[axis] - self.span[axis]
        return room // self.stride[axis] + 1 if room >= 0 else 0

    def pad(self, x: Array, value: Any = 0.0) -> Array:
        """Pad images (N, H, W, C) with a number, or one per channel; in memory heights come first."""
        if not self.padded:
            return x
        (top, left), (h, w) = self.before, x.shape[1:3]
        xp, shape = array_module(x), (top + h + self.after[0], len(x), left + w + self.after[1], x.shape[3])
        wide = xp.empty(shape, dtype=x.dtype).swapaxes(0, 1)
        frame = (  # what lies around the image
            wide[:, :top],
            wide[:, top + h :],
            wide[:, top : top + h, :left],
            wide[:, top : top + h, left + w :],
        )
        for part in frame:
            part[...] = xp.asarray(value, dtype=x.dtype)
        self.inside(wide)[...] = x
        return wide

    def zeros(self, shape: tuple[int, ...], like: Array) -> Array:
        """Padded images (H, W, C) of zeros, with the leading axes of ``like`` (..., Ho, Wo, O)."""
        h, w = (shape[axis] + self.before[axis] + self.after[axis] for axis in range(2))
        return array_module(like).zeros((*like.shape[:-3], h, w, shape[2]), dtype=like.dtype)

    def inside(self, wide: Array) -> Array:
        """The image without its padding, a view; leading axes are free."""
        h, w = wide.shape[-3:-1]
        return wide[..., self.before[0] : h - self.after[0], self.before[1] : w - self.after[1], :]

    def pixels(self, grid: Pair) -> Iterator[Index]:
        """Where pixel (0, 0), (0, 1), ... of all windows lies in the padded images (..., H, W, C)."""
        (kh, kw), (dh, dw), (sh, sw), (ho, wo) = self.kernel, self.dilation, self.stride, grid
        for i in range(0, kh * dh, dh):
            for j in range(0, kw * dw, dw):
                rows, columns = slice(i, i + sh * (ho - 1) + 1, sh), slice(j, j + sw * (wo - 1) + 1, sw)
                yield ..., rows, columns, slice(None)

    def lines(self, x: Array, value: Any = 0.0) -> Array:
        """What a window sees of each row of pixels of the padded images: (H, N, Wo, kw C).

        Row i of the windows at height t is line t sh + i dh. Since heights come first in memory, row i of all
        windows is one block of it where sh = 1.
        """
        xp, wide = array_module(x), self.pad(x, value).swapaxes(0, 1)
        h, n, w, c = wide.shape
        flat = xp.ascontiguousarray(wide).reshape(h, n, w * c)
        views = xp.lib.stride_tricks.sliding_window_view(flat, self.span[1] * c, 2)
        views = views[:, :, :: self.stride[1] * c]
        if self.dilation[1] > 1:
            views = views.reshape(*views.shape[:3], -1, c)[..., :: self.dilation[1], :]
        return xp.ascontiguousarray(views).reshape(*views.shape[:3], -1)

    def row(self, lines: Array, i: int, heights: slice) -> Array:
        """Row i of the windows at some heights, (heights, N, Wo, kw C)."""
        s, i = self.stride[0], i * self.dilation[0]
        return lines[heights.start * s + i : (heights.stop - 1) * s + i + 1 : s]

    def patches(self, lines: Array, out: Array) -> None:
        """Write what each window sees, in the order (kh, kw, C), into out (N, Ho, Wo, kh kw C)."""
        width = lines.shape[-1]
        for i in range(self.kernel[0]):
            row = self.row(lines, i, slice(0, out.shape[1]))
            out[..., i * width : (i + 1) * width] = row.swapaxes(0, 1)


def pair(layer: str, name: str, value: Any, least: int) -> Pair:
    """Read a number, or one for the height and one for the width.

    Raises:
        ValueError: on anything else, or less than ``least``.
    """
    both = (value, value) if isinstance(value, Integral) else value
    fits = isinstance(both, tuple | list) and len(both) == 2
    if not fits or any(isinstance(v, bool) or not isinstance(v, Integral) or v < least for v in both):
        raise ValueError(
            f"expected {layer} {name} to be a whole number >= {least} or a pair of them, got {value!r}"
        )
    return int(both[0]), int(both[1])


def sides(layer: str, padding: Any) -> tuple[Pair, Pair]:
    """Read padding, as a pair or as ((top, bottom), (left, right)): (top, left) and (bottom, right).

    Raises:
        ValueError: as :func:`pair`.
    """
    if isinstance(padding, tuple | list) and [type(each) in (tuple, list) for each in padding] == [
        True,
        True,
    ]:
        (top, bottom), (left, right) = (pair(layer, "padding", each, 0) for each in padding)
        return (top, left), (bottom, right)
    both = pair(layer, "padding", padding, 0)
    return both, both
