"""Colour whitening: an affine map, the same at every pixel, that makes the colours uncorrelated.

With the mean m (C,) and the covariance S (C, C) of the colours x over all pixels of the training images,

    y = x V + d,    V = S^(-1/2),    d = -m V,    x = (y - d) V^(-1)

so the colours y have mean 0 and covariance V S V = I. V times any rotation would also whiten; the symmetric V
changes colours least. This is the input map of the invariance theorem for convolutional layers [GM16, sec.
4.1]: a network absorbs it if it pads y with d instead of padding x with 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..display import ShownByFields
from .dataset import check_images

SMALLEST_SHARE = 1e-10
"""Least variance of a colour direction relative to the largest; rounding to bytes alone exceeds it."""


@dataclass(frozen=True, eq=False, repr=False)
class ColorWhitening(ShownByFields):
    """Hold the map y = x V + d of colours.

    Attributes:
        V: (C, C), symmetric and invertible, in the dtype of the images.
        d: (C,).
    """

    V: np.ndarray
    d: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return y = x V + d at every pixel of the images x (N, H, W, C), training images or others.

        Raises:
            ValueError: If `x` are not images in C colours.
        """
        return self._checked(x) @ self.V + self.d

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """Return the images x that `apply` maps to y (N, H, W, C).

        Raises:
            ValueError: If `y` are not images in C colours.
        """
        return (self._checked(y) - self.d) @ np.linalg.inv(self.V)

    def _checked(self, x: np.ndarray) -> np.ndarray:
        if x.ndim != 4 or x.shape[3] != len(self.d):
            raise ValueError(f"expected images (N, H, W, {len(self.d)}), got {x.shape}")
        return x


def color_whitening(images: np.ndarray) -> ColorWhitening:
    """Compute the map that whitens the colours of the training images.

    Args:
        images: (N, H, W, C), floats.

    Returns:
        V and d in the dtype of the images, computed in float64.

    Raises:
        ValueError: If `images` are not finite floats (N, H, W, C), or their colours do not vary in all C
            directions, as with grey images stored in three colours.
    """
    check_images(images, "images")
    colors = images.reshape(-1, images.shape[3])
    m = colors.mean(axis=0, dtype=np.float64)
    S = np.zeros((len(m), len(m)))
    block = 1 << 20
    for start in range(0, len(colors), block):  # no copy of all images in float64
        centred = colors[start : start + block] - m
        S += centred.T @ centred / len(colors)
    variances, directions = np.linalg.eigh(S)
    rank = int((variances > SMALLEST_SHARE * variances[-1]).sum())
    if (colors == colors[0]).all():
        rank = 0
    if rank < len(m):
        raise ValueError(
            f"images: expected colours that vary in all {len(m)} directions, got {rank}: are they grey, "
            f"or of one colour? (variances {', '.join(f'{value:.1e}' for value in variances)})"
        )
    V = directions / np.sqrt(variances) @ directions.T
    return ColorWhitening(V.astype(images.dtype), (-m @ V).astype(images.dtype))
