"""USPS: 7,291 + 2,007 handwritten digits of 16x16 grey pixels from envelopes, the zip code data.

The files are those of the book "The Elements of Statistical Learning" (T. Hastie, R. Tibshirani, J.
Friedman); the data came from the AT&T research labs (Y. LeCun and others) without a licence, so they are not
in the package. The test set is harder than the training set.

Each line is one image: the digit, then 256 values from -1 (background) to 1 (ink), row by row, separated by
spaces. Values v become (v + 1) / 2 in [0, 1], the range of all data sets here.

Copies of the files differ in white space and compression, so we verify a digest of the numbers: the sha256 of
the labels as bytes followed by the values in thousandths (they have three decimals) as little-endian 16-bit
integers.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from ..reading import read_lines
from .cache import cache_folder, download, file_status, find_file
from .dataset import Dataset, existing_folder, float_dtype, labelled_images

PARTS = {"train": "zip.train", "test": "zip.test"}
ADDRESS = "https://hastie.su.domains/ElemStatLearn/datasets/"
SHA256 = {
    "zip.train": "bb8c5577af2800d9a092a9516d927235e3eb00a05bf99fe8b76b432f12f748ae",
    "zip.test": "ea677dd5aa43643ea8a81f2fd0f1e24ea2a8bfdd4613a16fc075ae9cf2b4760b",
}
FILES = tuple(f"{file}.gz" for file in SHA256)
SIDE = 16
LONGEST, MOST = 2**14, 2**26
"""Largest permitted sizes of a line and of a file in bytes, four times those of the official files."""


def usps(
    folder: str | Path | None = None,
    images: bool = False,
    dtype: DTypeLike = np.float64,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Dataset:
    """Load the USPS digits.

    Args:
        folder: Folder with zip.train.gz and zip.test.gz, packed or not. Their content must be consistent, but
            need not be official (see `check`), so a part of the set can be read too. None downloads the
            files to the cache once.
        images: Whether inputs are (N, 16, 16, 1) rather than (N, 256).
        dtype: float64 or float32.
        n_train: Number of training examples, drawn as `Dataset.subset` does; None for all.
        n_test: Number of test examples.

    Returns:
        Pixels in [0, 1] (1 = ink; the files have -1..1), labels 0..9.

    Raises:
        FileNotFoundError: If `folder` or a file in it is missing.
        ValueError: If a file is truncated, damaged or has a line that is not a label 0..9 and 256 values in
            [-1, 1]; if there are fewer examples than requested.
        ConnectionError: If a download failed.
    """
    dtype = float_dtype(dtype)
    parts = _fetch_parts() if folder is None else _read_parts(existing_folder(folder))

    def scale(values: np.ndarray) -> np.ndarray:
        return ((values + 1) / 2).astype(dtype, copy=False)

    return labelled_images("usps", parts.__getitem__, scale, (SIDE, SIDE, 1), images, n_train, n_test)


def fetch() -> Path:
    """Download the missing USPS files (2 MB), verify their digests and return their folder."""
    _fetch_parts()
    return cache_folder("usps")


def read_usps(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one file, plain or gzip.

    Returns:
        Values (N, 256) in -1..1, float64, and labels (N,), int64.

    Raises:
        ValueError: If a line is not a label 0..9 and 256 values in [-1, 1] (the message has its number),
            packed data are damaged, or there are no lines.
    """
    path = Path(path)
    rows = []
    for number, line in enumerate(read_lines(path, LONGEST, MOST), 1):
        if not line.isascii():
            raise ValueError(
                f"{path}: expected numbers as text, plain or gzip, got other bytes in line {number}"
            )
        if not line.isspace():
            rows.append(_parse(line.decode("ascii"), f"{path}, line {number}"))
    if not rows:
        raise ValueError(f"{path}: expected at least one line of numbers, got none")
    table = np.array(rows)
    return table[:, 1:], table[:, 0].astype(np.int64)


def digest(values: np.ndarray, labels: np.ndarray) -> str:
    """Return the sha256 of labels (N,) and values (N, 256), the latter in whole thousandths."""
    thousandths = np.rint(1000 * values).astype("<i2")
    return hashlib.sha256(labels.astype(np.uint8).tobytes() + thousandths.tobytes()).hexdigest()


def check(folder: Path) -> list[tuple[str, str]]:
    """Return one pair (file, status) for each file in `folder` without downloading anything.

    A status begins with "ok", "altered" (readable, but not the official values), "broken" or "missing".
    """

    def describe(path: Path) -> tuple[str, str]:
        values, labels = read_usps(path)
        return f"{len(labels)} images of {SIDE}x{SIDE}", digest(values, labels)

    return [
        file_status(folder, f"{file}.gz", describe, f"sha256 {sha256}", "values")
        for file, sha256 in SHA256.items()
    ]


def _read_parts(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {part: read_usps(find_file(folder, file)) for part, file in PARTS.items()}


def _fetch_parts() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    parts = {}
    for part, file in PARTS.items():
        path = download("usps", f"{file}.gz", [f"{ADDRESS}{file}.gz"])
        try:
            parts[part] = read_usps(path)
            sha256 = digest(*parts[part])
            if sha256 != SHA256[file]:
                raise ValueError(f"{path}: expected sha256 {SHA256[file]} of the values, got {sha256}")
        except ValueError as error:
            path.unlink()  # so that the next attempt fetches it anew
            raise ValueError(f"{error}; removed it from the cache: try again, or pass folder=") from error
    return parts


def _parse(line: str, where: str) -> np.ndarray:
    fields = line.split()
    if len(fields) != 1 + SIDE * SIDE:
        raise ValueError(
            f"{where}: expected {1 + SIDE * SIDE} columns (a label and 256 values), got {len(fields)}"
        )
    try:
        row = np.array([float(field) for field in fields])
    except ValueError as error:
        raise ValueError(f"{where}: expected numbers ({error})") from error
    if row[0] not in range(10):
        raise ValueError(f"{where}: expected a whole number 0..9 as label, got {fields[0]}")
    inside = np.abs(row[1:]) <= 1  # False for NaN
    if not inside.all():
        column = 1 + int(np.argmin(inside))
        raise ValueError(f"{where}: expected values in [-1, 1], got {fields[column]} in column {column + 1}")
    return row
