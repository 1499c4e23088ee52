"""Data: the bundled digits, curves drawn here, readers and checksummed downloads, and your own arrays.

Images are made alike by `global_contrast_normalization` and `color_whitening`, which can be undone.

>>> from minikfac import datasets
>>> datasets.load("digits", components=16).x_train.shape
(1500, 16)
"""

from minikfac.datasets.catalogue import available, check, fetch, load
from minikfac.datasets.cifar10 import cifar10
from minikfac.datasets.colors import ColorWhitening, color_whitening
from minikfac.datasets.contrast import ContrastNormalization, global_contrast_normalization
from minikfac.datasets.curves import curves
from minikfac.datasets.dataset import Dataset
from minikfac.datasets.digits import digits
from minikfac.datasets.idx import read_idx
from minikfac.datasets.mnist import mnist
from minikfac.datasets.npz import from_npz
from minikfac.datasets.svhn import svhn
from minikfac.datasets.usps import read_usps, usps

__all__ = [
    "ColorWhitening",
    "ContrastNormalization",
    "Dataset",
    "available",
    "check",
    "cifar10",
    "color_whitening",
    "curves",
    "digits",
    "fetch",
    "from_npz",
    "global_contrast_normalization",
    "load",
    "mnist",
    "read_idx",
    "read_usps",
    "svhn",
    "usps",
]
