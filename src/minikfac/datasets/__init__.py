"""Data: the bundled digits, readers and checksummed downloads of larger sets, and your own arrays.

>>> from minikfac import datasets
>>> datasets.load("digits", components=16).x_train.shape
(1500, 16)
"""

from minikfac.datasets.catalogue import available, check, fetch, load
from minikfac.datasets.dataset import Dataset
from minikfac.datasets.digits import digits
from minikfac.datasets.idx import read_idx
from minikfac.datasets.mnist import mnist
from minikfac.datasets.npz import from_npz
from minikfac.datasets.usps import read_usps, usps

__all__ = [
    "Dataset",
    "available",
    "check",
    "digits",
    "fetch",
    "from_npz",
    "load",
    "mnist",
    "read_idx",
    "read_usps",
    "usps",
]
