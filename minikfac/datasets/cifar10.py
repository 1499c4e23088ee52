"""CIFAR-10: 50,000 + 10,000 colour photographs of ten classes, 32x32 pixels [Krizhevsky09].

Made by A. Krizhevsky, V. Nair and G. Hinton. This module reads the binary version: each record has 3,073
bytes, a label 0..9 followed by 1,024 red, 1,024 green and 1,024 blue bytes, each in row-major order. Pixels
are divided by 255.

The set has no formal licence, so it is not in the package; its authors ask users to cite the report. The
pickles of the Python version are never loaded, since a pickle can run arbitrary code.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from ..reading import read_bytes
from .cache import cache_folder, download, extract, file_status, find_file
from .dataset import Dataset, check_labels, existing_folder, float_dtype, from_bytes, labelled_images

ARCHIVE = "cifar-10-binary.tar.gz"
ADDRESSES = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "https://cave.cs.toronto.edu/kriz/cifar-10-binary.tar.gz",
)
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
NAMES_FILE = "batches.meta.txt"
FILES = (*SHA256, NAMES_FILE)
CLASS_NAMES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
PIECE = re.compile(r"test_batch\.(\d+)-(\d+)\.bin(\.gz)?")
SIDE, CHANNELS = 32, 3
RECORD = 1 + CHANNELS * SIDE * SIDE
MOST = 60_000 * RECORD
"""Largest permitted size of a file in bytes: all images of the set."""


def cifar10(
    folder: str | Path | None = None,
    images: bool = True,
    dtype: DTypeLike = np.float64,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Dataset:
    """Load CIFAR-10 [Krizhevsky09].

    Args:
        folder: Folder with files of the binary version, packed or not: one or more of data_batch_1.bin to
            data_batch_5.bin, and test_batch.bin or pieces of it named after their records, such as
            test_batch.0-1999.bin. Their content must be consistent, but need not be official (see `check`).
            None downloads the official files to the cache once.
        images: Whether inputs are (N, 32, 32, 3), red, green, blue, rather than (N, 3072).
        dtype: float64 or float32; the full set takes 1.5 GB in float64.
        n_train: Number of training images, drawn as `Dataset.subset` does; None for all.
        n_test: Number of test images.

    Returns:
        Pixels in [0, 1], labels 0..9, and `class_names` from batches.meta.txt if the folder contains it.

    Raises:
        FileNotFoundError: If `folder`, all training files or all test files are missing.
        ValueError: If a file is truncated, damaged or does not match its name, or there are too few images.
        ConnectionError: If a download failed.
    """
    dtype = float_dtype(dtype)
    source = fetch() if folder is None else existing_folder(folder)
    read, scale = partial(read_part, source), partial(from_bytes, dtype=dtype)
    shape = (SIDE, SIDE, CHANNELS)
    return labelled_images("cifar10", read, scale, shape, images, n_train, n_test, read_names(source))


def fetch() -> Path:
    """Download CIFAR-10 (170 MB) if it is missing, verify its checksums and return the folder of its files.

    Only the files that are read are unpacked (184 MB); the archive is then removed.
    """
    folder = cache_folder("cifar10")
    if not _intact(folder):
        archive = download("cifar10", ARCHIVE, ADDRESSES, MD5)
        extract(archive, {f"cifar-10-batches-bin/{file}": file for file in FILES}, MOST)
        archive.unlink()
        if not _intact(folder):
            raise ValueError(
                f"{folder}: expected files with the checksums of CIFAR-10, got others from {ARCHIVE}"
            )
    return folder


def read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, 32, 32, 3) and labels (N,) of the part "train" or "test", both uint8."""
    paths = _train_paths(folder) if part == "train" else _test_paths(folder)
    records = np.concatenate([_read_records(path) for path in paths])
    planes = records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE)
    return planes.transpose(0, 2, 3, 1), records[:, 0]


def read_names(folder: Path) -> tuple[str, ...]:
    """Return the ten class names in batches.meta.txt, or the official ones if there is no such file."""
    path = folder / NAMES_FILE
    if not path.is_file():
        return CLASS_NAMES
    text = read_bytes(path, 2**16).decode("ascii", errors="replace")
    names = tuple(text.split())
    if len(names) != len(CLASS_NAMES) or not "".join(names).isprintable() or not text.isascii():
        got = f"{len(names)}" if text.isascii() else "other bytes than letters"
        raise ValueError(f"{path}: expected {len(CLASS_NAMES)} class names, one a line, got {got}")
    return names


def check(folder: Path) -> list[tuple[str, str]]:
    """Return one pair (file, status) for each file in `folder` without downloading anything.

    A status begins with "ok", "altered" (readable, but not the official content), "broken" or "missing".
    Pieces of the test file are "altered" at best, since checksums are published for whole files only.
    """
    rows = []
    for file, sha256 in SHA256.items():
        row = file_status(folder, file, _describe, f"sha256 {sha256}", "unpacked content")
        pieces = _pieces(folder) if file == "test_batch.bin" and row[1].startswith("missing") else []
        rows += [_piece_status(path) for path in pieces] or [row]
    if (folder / NAMES_FILE).is_file():
        try:
            same = read_names(folder) == CLASS_NAMES
        except ValueError as error:
            rows.append((NAMES_FILE, f"broken: {error}"))
        else:
            rows.append((NAMES_FILE, "ok: 10 class names" if same else "altered: other class names"))
    return rows


def _describe(path: Path) -> tuple[str, str]:
    what = f"{len(_read_records(path))} images of {SIDE}x{SIDE}"
    return what, hashlib.sha256(read_bytes(path)).hexdigest()


def _piece_status(path: Path) -> tuple[str, str]:
    try:
        return path.name, f"altered: {_describe(path)[0]}, a piece, for which no checksum is published"
    except ValueError as error:
        return path.name, f"broken: {error}"


def _intact(folder: Path) -> bool:
    """Whether the folder has all files, unpacked, with the official content."""
    return (folder / NAMES_FILE).is_file() and all(
        (folder / file).is_file() and hashlib.sha256((folder / file).read_bytes()).hexdigest() == expected
        for file, expected in SHA256.items()
    )


def _read_records(path: Path) -> np.ndarray:
    """Return the records (N, 3073) of a file; raise ValueError unless they are whole and labels are 0..9."""
    data = read_bytes(path, MOST)
    if not data or len(data) % RECORD:
        raise ValueError(
            f"{path}: expected records of {RECORD:,} bytes (a label and 32x32 pixels in 3 colours), "
            f"got {len(data):,} bytes: the file is truncated or of another kind"
        )
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD)
    check_labels(records[:, 0], 10, str(path))
    piece = PIECE.fullmatch(path.name)
    if piece and len(records) != int(piece[2]) - int(piece[1]) + 1:
        raise ValueError(
            f"{path}: expected records {piece[1]} to {piece[2]}, as its name says, got {len(records)}"
        )
    return records


def _train_paths(folder: Path) -> list[Path]:
    paths = []
    for file in SHA256:
        if file.startswith("data_batch"):
            try:
                paths.append(find_file(folder, file))
            except FileNotFoundError:
                continue
    if not paths:
        raise _missing(folder, "at least one of data_batch_1.bin.gz to data_batch_5.bin.gz")
    return paths


def _test_paths(folder: Path) -> list[Path]:
    try:
        return [find_file(folder, "test_batch.bin")]
    except FileNotFoundError:
        paths = _pieces(folder)
    if not paths:
        raise _missing(folder, "test_batch.bin.gz")
    end, previous = -1, ""
    for path in paths:
        first, last = _records_of(path)
        if first <= end:
            raise ValueError(f"{path}: expected pieces that do not overlap, got {previous} too")
        end, previous = last, path.name
    return paths


def _pieces(folder: Path) -> list[Path]:
    """Return the pieces of the test file in the order of their records, the packed one if both exist."""
    names = {
        path.name.removesuffix(".gz") for path in folder.glob("test_batch.*") if PIECE.fullmatch(path.name)
    }
    return sorted((find_file(folder, name) for name in names), key=_records_of)


def _records_of(path: Path) -> tuple[int, int]:
    piece = PIECE.fullmatch(path.name)
    assert piece is not None
    return int(piece[1]), int(piece[2])


def _missing(folder: Path, what: str) -> FileNotFoundError:
    python = (folder / "data_batch_1").is_file() or (folder / "test_batch").is_file()
    got = "the pickles of the Python version, which are never loaded" if python else "none"
    return FileNotFoundError(f"expected {what} (the binary version, packed or not) in {folder}, got {got}")
