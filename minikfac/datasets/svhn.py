"""SVHN: 73,257 + 26,032 house-number digits from street photographs, 32x32 colour pixels [NWCBWN11].

Made by Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng. This module reads the second format,
cropped digits: MATLAB files with bytes `X` (32, 32, 3, N) and labels `y` (N, 1) from 1 to 10, where 10 is the
digit 0. Here the digit 0 has the label 0, and pixels are divided by 255.

The set is for non-commercial use only, so it is not in the package.
"""

from __future__ import annotations

import hashlib
import math
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from ..reading import read_bytes
from .cache import cache_folder, download, file_status, find_file
from .dataset import Dataset, existing_folder, float_dtype, from_bytes, labelled_images
from .mat import mat_shapes, read_mat

PARTS = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
ADDRESS = "http://ufldl.stanford.edu/housenumbers/"
MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
FILES = tuple(MD5)
SHAPE = (32, 32, 3)


def svhn(
    folder: str | Path | None = None,
    images: bool = True,
    dtype: DTypeLike = np.float64,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Dataset:
    """Load the cropped digits of SVHN [NWCBWN11].

    Args:
        folder: Folder with train_32x32.mat and test_32x32.mat. Their content must be consistent, but need not
            be official (see `check`), so a part of the set can be read too. None downloads the official
            files to the cache once.
        images: Whether inputs are (N, 32, 32, 3), red, green, blue, rather than (N, 3072).
        dtype: float64 or float32; the full set takes 2.4 GB in float64.
        n_train: Number of training images, drawn as `Dataset.subset` does; None for all.
        n_test: Number of test images.

    Returns:
        Pixels in [0, 1], labels 0..9.

    Raises:
        FileNotFoundError: If `folder` or a file in it is missing.
        ValueError: If a file is truncated, damaged or has the wrong arrays, or there are too few images.
        ConnectionError: If a download failed.
    """
    dtype = float_dtype(dtype)
    source = fetch() if folder is None else existing_folder(folder)

    def read(part: str) -> tuple[np.ndarray, np.ndarray]:
        return read_svhn(find_file(source, PARTS[part]))

    scale = partial(from_bytes, dtype=dtype)
    return labelled_images("svhn", read, scale, SHAPE, images, n_train, n_test)


def fetch() -> Path:
    """Download the missing files of SVHN (246 MB), verify the md5 of each and return their folder."""
    for file, md5 in MD5.items():
        download("svhn", file, [ADDRESS + file], md5)
    return cache_folder("svhn")


def read_svhn(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one MATLAB file.

    Returns:
        Images (N, 32, 32, 3), uint8, and labels (N,) 0..9, int64.

    Raises:
        ValueError: If it is not a MATLAB file, is truncated or damaged, lacks `X` or `y` or has them in the
            wrong shape or type, or if a label is not 1..10.
    """
    path = Path(path)

    heads = mat_shapes(path)  # before the numbers are read
    missing = [key for key in ("X", "y") if key not in heads]
    if missing:
        raise ValueError(f"{path}: expected the arrays X and y, got no {' and no '.join(missing)}")
    (shape, dtype), (y_shape, y_dtype) = heads["X"], heads["y"]
    if dtype != np.uint8 or shape[:-1] != SHAPE or shape[-1] < 1:
        raise ValueError(f"{path}: expected X of bytes (32, 32, 3, N), got {shape} {dtype or 'not numbers'}")
    if y_dtype is None or math.prod(y_shape) != shape[-1]:
        raise ValueError(
            f"{path}: expected y of {shape[-1]} labels, one for each image of X, got {y_shape} "
            f"{y_dtype or 'not numbers'}"
        )
    arrays = read_mat(path, ("X", "y"))
    labels = arrays["y"].ravel()
    official = np.isin(labels, np.arange(1, 11))
    if not official.all():
        first = int(np.argmin(official))
        raise ValueError(
            f"{path}: expected labels 1..10, where 10 is the digit 0, got {labels[first]} in example {first}"
        )
    return arrays["X"].transpose(3, 0, 1, 2), labels.astype(np.int64) % 10


def check(folder: Path) -> list[tuple[str, str]]:
    """Return one pair (file, status) for each file in `folder` without downloading anything.

    A status begins with "ok", "altered" (readable, but not the official content), "broken" or "missing".
    """

    def describe(path: Path) -> tuple[str, str]:
        what = f"{len(read_svhn(path)[1])} images of 32x32"
        return what, hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest()

    return [file_status(folder, file, describe, f"md5 {md5}") for file, md5 in MD5.items()]
