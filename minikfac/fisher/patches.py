"""The second moment of overlapping patches, A = sum_t abar_t abar_t^T, in about half the work.

A patch consists of kh rows of pixels. What the patches at height h hold in their kernel row i, those s
pixels lower (one step of the window) hold in kernel row i - s: the same numbers, but for the first and the
last height. So with A_ij between kernel rows i and j, F_ij the same of the patches at the first height alone
and L_ij of those at the last,

    A_ij = A_{i-s,j-s} - F_{i-s,j-s} + L_ij        for i, j >= s

and only the first s rows of blocks are summed over all patches. kfac-jax has such sums for all shifts at once
by convolutions; this is the part of the idea that pays on a CPU, where products of long rows are fast.
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
    """How the patches of a convolution overlap from one height to the next.

    Attributes:
        rows: kh, rows of a patch.
        width: kw c_in, numbers in one of them.
        stride: s, pixels from one height to the next.
        heights: of the window.
    """

    rows: int
    width: int
    stride: int
    heights: int

    @classmethod
    def of(cls, layer: layers.Layer, grid: tuple[int, int]) -> PatchMoment | None:
        """Return how patches of this layer overlap; None where using it would not pay."""
        if not isinstance(layer, layers.Conv2d):
            return None
        (kh, _), (stride, _) = layer.windows.kernel, layer.windows.stride
        work = stride / kh + 2 * GRAM_SHARE / grid[0]  # relative to a full product; a Gram matrix is not one
        return cls(kh, layer.patch_size // kh, stride, grid[0]) if work < GRAM_SHARE else None

    def add(self, sums: Sums, name: Hashable, abar: Array) -> None:
        """Add what the patches abar (N, T, I) of some examples contribute."""
        n, _, i = abar.shape
        flat, by_height = abar.reshape(-1, i), abar.reshape(n, self.heights, -1, i)
        sums.add((name, "top"), flat[:, : self.stride * self.width].T @ flat)
        sums.add((name, "sum"), flat.sum(0))
        sums.add_gram((name, "first"), by_height[:, 0].reshape(-1, i))
        sums.add_gram((name, "last"), by_height[:, -1].reshape(-1, i))

    def total(self, sums: Sums, name: Hashable) -> Array:
        """A (I, I), of all that was added."""
        first, last = sums[name, "first"], sums[name, "last"]
        A = array_module(first).empty_like(first)
        A[: self.stride * self.width] = sums[name, "top"]
        end = self.rows * self.width
        for i in range(self.stride, self.rows):
            here = slice(i * self.width, (i + 1) * self.width)
            above = slice(here.start - self.stride * self.width, here.stop - self.stride * self.width)
            right, before = slice(here.start, end), slice(above.start, end - self.stride * self.width)
            A[here, right] = A[above, before] - first[above, before] + last[here, right]
        A[end:] = A[:, end:] = 0
        xp = array_module(A)
        if end < len(A):  # the constant 1 of the bias: its products are the patches themselves
            A[:, end] = sums[name, "sum"]
        return xp.triu(A) + xp.triu(A, 1).T
