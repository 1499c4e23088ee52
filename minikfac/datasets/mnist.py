"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 grey pixels.

Made by Y. LeCun, C. Cortes and C. J. C. Burges.

Pixels are bytes, 0 for background and 255 for ink, here divided by 255. `size=16` shrinks images by exact
area averaging: a new pixel is the mean of the old image over the area that it covers, `small = R @ image @
R.T`, where `R[i, j]` is the share of old row j in new row i. Rows of R sum to 1 and columns to size/28, so
the mean ink is preserved.

The set has no formal licence, so it is not in the package. The files are ordered by groups of writers, so
take subsets with `Dataset.subset`, not by slicing.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from ..reading import read_bytes
from .cache import cache_folder, download, file_status, find_file
from .dataset import Dataset, check_labels, existing_folder, float_dtype, labelled_images, whole_number
from .idx import read_idx

PARTS = {"train": "train", "test": "t10k"}
ADDRESSES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
GZIP_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
CONTENT_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FILES = tuple(f"{file}.gz" for file in GZIP_MD5)
SIDE = 28


def mnist(
    folder: str | Path | None = None,
    size: int = SIDE,
    images: bool = False,
    dtype: DTypeLike = np.float64,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Dataset:
    """Load MNIST, or a data set in the same format, such as Fashion-MNIST.

    Args:
        folder: Folder with the four IDX files, packed or not. Their content must be consistent, but need not
            be official (see `check`), so a part of MNIST can be read too. None downloads the official files
            to the cache once.
        size: Rows and columns of an image, 1..28; images are shrunk by exact area averaging.
        images: Whether inputs are (N, size, size, 1) rather than (N, size * size).
        dtype: float64 or float32; the full set at full size takes 0.44 GB in float64.
        n_train: Number of training images, drawn as `Dataset.subset` does; None for all.
        n_test: Number of test images.

    Returns:
        Pixels in [0, 1] (1 = ink), labels 0..9.

    Raises:
        FileNotFoundError: If `folder` or a file in it is missing.
        ValueError: If a file is truncated, damaged or does not match its name, the numbers of images and
            labels differ, or there are fewer images than requested.
        ConnectionError: If a download failed.
    """
    dtype = float_dtype(dtype)
    size = whole_number(size, 1, SIDE, "size")
    source = fetch() if folder is None else existing_folder(folder)
    name = "mnist" if size == SIDE else f"mnist-{size}x{size}"
    read, scale = partial(read_part, source), partial(shrink, size=size, dtype=dtype)
    return labelled_images(name, read, scale, (size, size, 1), images, n_train, n_test)


def fetch() -> Path:
    """Download the missing files of MNIST (11.6 MB), verify the md5 of each and return their folder."""
    for file, md5 in GZIP_MD5.items():
        download("mnist", f"{file}.gz", [f"{address}{file}.gz" for address in ADDRESSES], md5)
    return cache_folder("mnist")


def read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, 28, 28) and labels (N,) of the part "train" or "test", both uint8."""
    image_path, label_path = (find_file(folder, file) for file in _files(part))
    pixels, labels = _read_images(image_path), _read_labels(label_path)
    if len(pixels) != len(labels):
        raise ValueError(
            f"{label_path}: expected {len(pixels)} labels, one for each image of {image_path.name}, "
            f"got {len(labels)}"
        )
    return pixels, labels


def shrink(pixels: np.ndarray, size: int, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Shrink images (N, H, H) of bytes to (N, size, size) in [0, 1] by area averaging."""
    out = np.empty((len(pixels), size, size), dtype=dtype)
    R = area_weights(pixels.shape[1], size).astype(dtype)
    for start in range(0, len(pixels), 4096):  # in blocks, which avoids a second array of full-size floats
        block = slice(start, start + 4096)
        if size == pixels.shape[1]:
            np.divide(pixels[block], 255, out=out[block], dtype=dtype)
        else:
            out[block] = R @ (pixels[block].astype(dtype) / 255) @ R.T
    return out


def area_weights(n: int, m: int) -> np.ndarray:
    """Return R (m, n), the share of each of n old pixels in each of m new ones along one side.

    In units of 1/m of an old pixel, old pixel j covers [j m, (j + 1) m] and new pixel i covers [i n, (i +
    1) n], so the overlaps are whole numbers.

    >>> area_weights(3, 2) * 3
    array([[2., 1., 0.],
           [0., 1., 2.]])
    """
    i, j = np.arange(m)[:, None], np.arange(n)
    overlap = np.minimum((i + 1) * n, (j + 1) * m) - np.maximum(i * n, j * m)
    return np.maximum(overlap, 0) / n


def check(folder: Path) -> list[tuple[str, str]]:
    """Return one pair (file, status) for each file in `folder` without downloading anything.

    A status begins with "ok", "altered" (readable, but not the official content), "broken" or "missing".
    """
    rows = []
    for part in PARTS:
        counts: list[int] = []

        def describe(path: Path, counts: list[int] = counts) -> tuple[str, str]:
            images = "images" in path.name
            counts.append(len(_read_images(path) if images else _read_labels(path)))
            if len(counts) == 2 and counts[0] != counts[1]:
                raise ValueError(f"expected {counts[0]} labels, one for each image, got {counts[1]}")
            what = f"{counts[-1]} images of {SIDE}x{SIDE}" if images else f"{counts[-1]} labels"
            return what, hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest()

        for file in _files(part):
            md5 = f"md5 {CONTENT_MD5[file]}"
            rows.append(file_status(folder, f"{file}.gz", describe, md5, "unpacked content"))
    return rows


def _files(part: str) -> tuple[str, str]:
    return f"{PARTS[part]}-images-idx3-ubyte", f"{PARTS[part]}-labels-idx1-ubyte"


def _read_images(path: Path) -> np.ndarray:
    return read_idx(path, 3, (SIDE, SIDE))


def _read_labels(path: Path) -> np.ndarray:
    labels = read_idx(path, ndim=1)
    check_labels(labels, 10, str(path))
    return labels
