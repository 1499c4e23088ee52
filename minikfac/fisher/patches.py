"""The second moment of overlapping patches, A = sum_t abar_t abar_t^T, in about half the work.

A patch consists of kh rows of pixels. Kernel row i of a patch is kernel row i - s of the patch s pixels (one
window step) below, except at the first and last heights. Let A_ij be the block for kernel rows i and j, F_ij
the contribution of the patches at the first height, and L_ij that of those at the last. Then

    A_ij = A_{i-s,j-s} - F_{i-s,j-s} + L_ij        for i, j >= s

and only the first s rows of blocks need a sum over all patches. kfac-jax uses convolutions to sum over all
shifts at once; this simpler version is faster on a CPU, where products of long rows are efficient.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from ..backend import Array, array_module
from ..linalg import Sums
from ..linalg.sums import GRAM_SHARE
from ..network import layers


@dataclass(frozen=True)
class PatchMoment:
    """The second moment of a convolution's vertically overlapping patches.

    Attributes:
        layer: the convolution.
        heights: number of vertical window positions.
    """

    layer: layers.Conv2d
    heights: int

    @property
    def rows(self) -> int:
        """kh, the rows of a patch."""
        return self.layer.windows.kernel[0]

    @property
    def width(self) -> int:
        """kw c_in, the numbers in a row."""
        return self.layer.patch_size // self.rows

    @property
    def stride(self) -> int:
        """s, the vertical stride in pixels."""
        return self.layer.windows.stride[0]

    @classmethod
    def of(cls, layer: layers.Layer, grid: tuple[int, int]) -> PatchMoment | None:
        """Return the object for this layer; None if it would not save time."""
        if not isinstance(layer, layers.Conv2d) or layer.windows.dilation[0] > 1:
            return None
        (kh, _), (stride, _) = layer.windows.kernel, layer.windows.stride
        work = stride / kh + 2 * GRAM_SHARE / grid[0]  # relative to a full product; a Gram matrix costs less
        return cls(layer, grid[0]) if work < GRAM_SHARE else None

    def add(self, sums: Sums, name: Hashable, lines: Array) -> None:
        """Add the contributions of some examples' patches, given their lines (H, N, Wo, kw c_in)."""
        xp, bias = array_module(lines), self.layer.bias
        rows = [self._rows(lines, i, slice(0, self.heights)) for i in range(self.rows)]
        sums.add((name, "top"), xp.stack([[row.T @ other for other in rows] for row in rows[: self.stride]]))
        ones = xp.ones_like(rows[0][:, :bias])  # the bias's input
        sums.add((name, "sum"), xp.concatenate([row.sum(0) for row in (*rows, ones)]))
        for place, height in (("first", 0), ("last", self.heights - 1)):
            here = [self._rows(lines, i, slice(height, height + 1)) for i in range(self.rows)]
            sums.add_gram((name, place), xp.concatenate([*here, ones[: len(here[0])]], axis=1))

    def _rows(self, lines: Array, i: int, heights: slice) -> Array:
        return self.layer.windows.row(lines, i, heights).reshape(-1, self.width)

    def total(self, sums: Sums, name: Hashable) -> Array:
        """A (I, I), summed over everything added."""
        first, last = sums[name, "first"], sums[name, "last"]
        A, end = array_module(first).empty_like(first), self.rows * self.width
        top = sums[name, "top"].swapaxes(1, 2).reshape(self.stride * self.width, end)
        A[: self.stride * self.width, :end] = top
        for i in range(self.stride, self.rows):
            here = slice(i * self.width, (i + 1) * self.width)
            above = slice(here.start - self.stride * self.width, here.stop - self.stride * self.width)
            right, before = slice(here.start, end), slice(above.start, end - self.stride * self.width)
            A[here, right] = A[above, before] - first[above, before] + last[here, right]
        A[end:] = A[:, end:] = 0
        xp = array_module(A)
        if end < len(A):  # products with the bias's constant 1 are the patches themselves
            A[:, end] = sums[name, "sum"]
        return xp.triu(A) + xp.triu(A, 1).T
