"""IDX, the file format of MNIST and similar data sets: arrays of unsigned bytes.

Big-endian: the magic number `00 00 08 d` (08 = unsigned bytes, d = number of dimensions), d sizes of 4
bytes each, then the bytes in row-major order. Images have d = 3 (count, rows, columns), labels d = 1.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..reading import first_bytes, opened

KINDS = {1: "labels", 3: "images"}
MOST_DIMENSIONS = 64
"""Limit of NumPy arrays."""


def read_idx(
    path: str | Path, ndim: int | None = None, item_shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Read an IDX file, plain or gzip; never reads more bytes than the header states.

    Args:
        path: The file.
        ndim: Required number of dimensions (3: images, 1: labels); None for any.
        item_shape: Required shape of each example; None for any.

    Returns:
        uint8 array of the shape stated in the file.

    Raises:
        ValueError: If packed data are damaged, the magic number, the number of dimensions or the shape is
            wrong, there are no examples, or the number of bytes does not match the shape.
    """
    path = Path(path)
    head = first_bytes(path, 4 + 4 * MOST_DIMENSIONS)
    if len(head) < 4 or head[:3] != b"\x00\x00\x08" or not 0 < head[3] <= MOST_DIMENSIONS:
        raise ValueError(
            f"{path}: expected an IDX file of unsigned bytes, plain or gzip (magic number 00 00 08 "
            f"and the number of dimensions), got {head[:4].hex(' ') or 'an empty file'}"
        )
    stated = head[3]
    if ndim is not None and stated != ndim:
        raise ValueError(
            f"{path}: expected {_kind(ndim)} (magic number 00 00 08 {ndim:02x}), got {_kind(stated)} "
            f"(00 00 08 {stated:02x}); are the files of images and labels swapped?"
        )
    start = 4 + 4 * stated
    if len(head) < start:
        raise ValueError(
            f"{path}: expected a header of {start} bytes, got {len(head)} bytes: the file is truncated"
        )
    shape = tuple(int(size) for size in np.frombuffer(head, dtype=">u4", count=stated, offset=4))
    if 0 in shape:
        raise ValueError(f"{path}: expected at least one example, got shape {shape}")
    if item_shape is not None and shape[1:] != item_shape:
        wanted, got = ("x".join(map(str, sizes)) for sizes in (item_shape, shape[1:]))
        raise ValueError(f"{path}: expected images of {wanted} pixels, got {got}")
    expected = start + math.prod(shape)
    with opened(path, expected) as (stream, size):
        if size != expected:
            got = f"{size}: the file is truncated" if size < expected else "more: the file has trailing bytes"
            raise ValueError(f"{path}: expected {expected} bytes for shape {shape}, got {got}")
        data = stream.read(size)
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _kind(ndim: int) -> str:
    return f"{KINDS.get(ndim, 'an array')} with {ndim} dimension{'s' * (ndim > 1)}"
