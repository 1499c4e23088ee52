"""Data: the bundled digits, synthetic curves, checksummed downloads, and readers, also for your own arrays.

`global_contrast_normalization` and `color_whitening` preprocess images; both can be inverted.

>>> from minikfac import datasets
>>> datasets.load("digits", components=16).x_train.shape
(1500, 16)
"""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from .catalogue import available, check, fetch, load
    from .cifar10 import cifar10
    from .colors import ColorWhitening, color_whitening
    from .contrast import ContrastNormalization, global_contrast_normalization
    from .curves import curves
    from .dataset import Dataset
    from .digits import digits
    from .idx import read_idx
    from .mnist import mnist
    from .npz import from_npz
    from .svhn import svhn
    from .usps import read_usps, usps

__all__ = on_demand(__name__)
