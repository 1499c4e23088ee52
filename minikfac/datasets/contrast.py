"""Global contrast normalization: gives every image mean 0 and the same contrast.

For one image x of H x W pixels in C colours, over all its H W C numbers [CNL11; GWMCB13]:

    m = mean(x),    r = sqrt(regularizer + mean((x - m)^2)) / scale,    y = (x - m) / r,    x = y r + m

Without a regularizer the root mean square of y is `scale` and its norm `scale * sqrt(H W C)`. With one,
low-contrast images end up with less contrast, and their noise is not amplified. Since m and r differ between
images, the normalization is not an affine map of the inputs that a network could absorb.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..display import ShownByFields
from .dataset import check_images

LEAST_RANGE = 1e-8
"""An image counts as constant if its largest and smallest numbers differ by no more than this."""


@dataclass(frozen=True, eq=False, repr=False)
class ContrastNormalization(ShownByFields):
    """Hold the means and contrasts of N images, with which they are normalized and restored.

    Attributes:
        mean: m of each image, (N, 1, 1, 1), in the dtype of the images.
        contrast: r of each image, (N, 1, 1, 1), positive.
    """

    mean: np.ndarray
    contrast: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return y = (x - m) / r for the N images x (N, H, W, C), in the order in which they were measured.

        Raises:
            ValueError: If `x` are not N images.
        """
        return (self._checked(x) - self.mean) / self.contrast

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """Return the images x = y r + m that `apply` maps to y (N, H, W, C).

        Raises:
            ValueError: If `y` are not N images.
        """
        return self._checked(y) * self.contrast + self.mean

    def _checked(self, x: np.ndarray) -> np.ndarray:
        if x.ndim != 4 or len(x) != len(self.mean):
            raise ValueError(
                f"expected the {len(self.mean)} images (N, H, W, C) that were measured, got {x.shape}; "
                "measure other images separately"
            )
        return x


def global_contrast_normalization(
    images: np.ndarray, scale: float = 1.0, regularizer: float = 0.0
) -> ContrastNormalization:
    """Measure the mean and contrast of each image.

    Args:
        images: (N, H, W, C), floats.
        scale: Root mean square of a normalized image (with regularizer 0), > 0.
        regularizer: Added to the mean square, >= 0, in squared pixel units: [CNL11] use 10 for pixels in
            0..255, [GWMCB13] none. Without one, every image needs some contrast; otherwise its noise would be
            amplified.

    Returns:
        The transform of these images and its inverse.

    Raises:
        ValueError: If `images` are not finite floats (N, H, W, C), if an image is constant and there is no
            regularizer, or if `scale` or `regularizer` is out of range.

    >>> x = np.array([0.0, 1.0, 2.0, 5.0]).reshape(1, 2, 2, 1)
    >>> transform = global_contrast_normalization(x, scale=2)
    >>> transform.mean.item(), (transform.apply(x) ** 2).mean().item()
    (2.0, 4.0)
    """
    check_images(images, "images")
    if not 0 < scale < np.inf:
        raise ValueError(f"expected scale > 0, got {scale}")
    if not 0 <= regularizer < np.inf:
        raise ValueError(f"expected regularizer >= 0, got {regularizer}")
    flat = images.reshape(len(images), -1)
    mean = flat.mean(axis=1, keepdims=True)
    square = np.square(flat - mean).mean(axis=1, keepdims=True)
    constant = (np.ptp(flat, axis=1) <= LEAST_RANGE) | (square[:, 0] == 0)
    if regularizer == 0 and constant.any():
        raise ValueError(
            f"images: expected images with contrast, got {int(constant.sum())} constant of {len(images)}, "
            f"first image {int(constant.argmax())}; leave them out, or use a regularizer > 0"
        )
    contrast = np.sqrt(regularizer + square) / scale
    shape = (-1, 1, 1, 1)
    return ContrastNormalization(
        mean.reshape(shape), contrast.astype(images.dtype, copy=False).reshape(shape)
    )
