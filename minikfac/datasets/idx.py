"""IDX, the file format of MNIST and its relatives: arrays of unsigned bytes.

Big-endian: the magic number `00 00 08 d` (08 = unsigned bytes, d = number of dimensions), d sizes of 4
bytes each, then the bytes, last index fastest. Images have d = 3 (count, rows, columns), labels d = 1.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .cache import read_bytes

KINDS = {1: "labels", 3: "images"}


def read_idx(path: str | Path, ndim: int | None = None) -> np.ndarray:
    """Read an IDX file, plain or gzip.

    Args:
        path: The file.
        ndim: Number of dimensions that it must have (3: images, 1: labels); None for any.

    Returns:
        uint8 array of the shape that the file states.

    Raises:
        ValueError: If packed data are damaged, the magic number or the number of dimensions is another,
            there are no examples, or there are fewer or more bytes than the shape asks for.
    """
    path = Path(path)
    data = read_bytes(path)
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or data[3] == 0:
        raise ValueError(
            f"{path}: expected an IDX file of unsigned bytes, plain or gzip (magic number 00 00 08 "
            f"and the number of dimensions), got {data[:4].hex(' ') or 'an empty file'}"
        )
    stated = data[3]
    if ndim is not None and stated != ndim:
        raise ValueError(
            f"{path}: expected {_kind(ndim)} (magic number 00 00 08 {ndim:02x}), got {_kind(stated)} "
            f"(00 00 08 {stated:02x}); are the files of images and labels swapped?"
        )
    start = 4 + 4 * stated
    if len(data) < start:
        raise ValueError(
            f"{path}: expected a header of {start} bytes, got {len(data)} bytes: the file is truncated"
        )
    shape = tuple(int(size) for size in np.frombuffer(data, dtype=">u4", count=stated, offset=4))
    if 0 in shape:
        raise ValueError(f"{path}: expected at least one example, got shape {shape}")
    expected = start + math.prod(shape)
    if len(data) != expected:
        problem = "is truncated" if len(data) < expected else f"has {len(data) - expected} trailing bytes"
        raise ValueError(
            f"{path}: expected {expected} bytes for shape {shape}, got {len(data)}: the file {problem}"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _kind(ndim: int) -> str:
    return f"{KINDS.get(ndim, 'an array')} with {ndim} dimension{'s' * (ndim > 1)}"
