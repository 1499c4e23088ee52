"""MATLAB files of versions 5 to 7.2: named arrays of real numbers.

We do not use SciPy's reader because it trusts the file: one flipped bit can crash the process.

    128 bytes of text and version, then elements: 4 bytes of kind, 4 of size, and that many bytes of data
    kind 15: compressed by zlib, with a checksum; decompressed it is an element of kind 14
    kind 14: an array, made of elements padded to multiples of 8 bytes: flags, sizes, name, numbers

An element of at most 4 bytes has its size in the upper half of its kind. Numbers are in Fortran order and may
be stored in a smaller type than that of the array: integer-valued doubles as bytes, for example.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ..reading import CHUNK, first_bytes, one_error, opened

HEADER, MAGIC = 128, b"\x00\x01IM"
"""Size of the header, and its last bytes: version 1.0, little-endian."""
ARRAY, PACKED = 14, 15
FLAGS, SIZES, NAME = 6, 5, 1
STORED = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
"""Storage types by number."""
CLASSES = dict(enumerate("f8 f4 i1 u1 i2 u2 i4 u4 i8 u8".split(), 6))
"""Array types by number."""
IS_COMPLEX = 0x8
"""Bit in the second byte of the flags; the first byte is the number of the class."""
LONGEST = 256
"""Most bytes of flags, sizes or name."""
WANTED, GOT = "a MATLAB file (version 5 to 7.2)", "another kind of file or a truncated or damaged one"


def mat_shapes(path: str | Path) -> dict[str, tuple[tuple[int, ...], np.dtype | None]]:
    """Return the shapes and types of a MATLAB file's arrays by name; the type is None unless real numbers.

    Raises:
        ValueError: If the file is of another kind, truncated or damaged; the numbers are not read.
    """
    with _opened(path) as (stream, size):
        heads: dict[str, tuple[tuple[int, ...], np.dtype | None]] = {}
        for element in _elements(stream, size):
            if element.name in heads:
                raise ValueError(f"two arrays of the name {element.name}")
            heads[element.name] = element.shape, element.dtype
        return heads


def read_mat(path: str | Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read the named arrays, as far as they exist, from a MATLAB file, plain or gzip, in Fortran order.

    Raises:
        ValueError: If the file is of another kind, truncated or damaged, or a named array is not real.
    """
    with _opened(path) as (stream, size):
        return {item.name: item.numbers() for item in _elements(stream, size) if item.name in names}


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[IO[bytes], int]]:
    start = first_bytes(path, HEADER)  # checked before the whole file is unpacked
    with one_error(path, WANTED, GOT):
        if start[-len(MAGIC) :] != MAGIC:
            raise ValueError("it begins with other bytes")
        with opened(path) as (stream, size):
            yield stream, size


def _elements(stream: IO[bytes], size: int) -> Iterator[_Element]:
    start = HEADER
    while start < size:
        stream.seek(start)
        kind, length = struct.unpack("<II", stream.read(8))
        start += 8
        if kind not in (ARRAY, PACKED) or length > size - start:
            raise ValueError(f"an element of kind {kind} and {length:,} bytes at {start:,} of {size:,}")
        yield _Element(stream, start, length, kind == PACKED)
        start += length


class _Element:
    """An array in the file, of which only the header has been read.

    Attributes:
        name: the array's name.
        shape: the array's shape.
        dtype: the array's type; None unless real numbers.
    """

    def __init__(self, stream: IO[bytes], start: int, length: int, packed: bool) -> None:
        self.stream, self.start, self.length, self.packed = stream, start, length, packed
        self.size = length
        self._read_head()

    def _begin(self) -> None:
        self.stream.seek(self.start)
        self.left, self.inflate = self.length, zlib.decompressobj() if self.packed else None

    def _some(self, most: int) -> bytes:
        """Return between 1 and `most` of the next bytes, or none at the end."""
        if self.inflate is None:
            return self._stored(most)
        while not self.inflate.eof:
            packed = self.inflate.unconsumed_tail or self._stored(CHUNK)
            part = self.inflate.decompress(packed, most)
            if part or not packed:
                return part
        return b""

    def _stored(self, most: int) -> bytes:
        part = self.stream.read(min(most, self.left))
        self.left -= len(part)
        return part

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            part = self._some(count - len(taken))
            if not part:
                raise ValueError("an array that ends early")
            taken += part
        return taken

    def _tag(self) -> tuple[int, int, bytes]:
        """Return the kind and size of an element, and its content if that is small."""
        kind, length = struct.unpack("<II", self._take(8))
        if kind < 2**16:
            return kind, length, b""
        return kind % 2**16, kind >> 16, struct.pack("<I", length)[: kind >> 16]

    def _part(self, expected: int) -> bytes:
        kind, length, content = self._tag()
        if kind != expected or length > LONGEST:
            raise ValueError(f"kind {kind} and {length:,} bytes where an array has its part {expected}")
        return content or self._take(length + -length % 8)[:length]

    def _read_head(self) -> None:
        self._begin()
        if self.packed:
            kind, self.size = struct.unpack("<II", self._take(8))
            if kind != ARRAY:
                raise ValueError(f"a packed element of kind {kind}")
        flags, sizes, name = (self._part(kind) for kind in (FLAGS, SIZES, NAME))
        self.name = name.decode("ascii")
        self.shape = struct.unpack(f"<{len(sizes) // 4}i", sizes)
        real = flags[0] in CLASSES and not flags[1] & IS_COMPLEX
        self.dtype = np.dtype(CLASSES[flags[0]]) if real else None

    def _verify(self) -> None:
        """Decompress everything, which compares the checksum, then return to the end of the header."""
        self._begin()
        for start in range(0, 8 + self.size, CHUNK):
            self._take(min(CHUNK, 8 + self.size - start))
        assert self.inflate is not None
        if self._some(1) or not self.inflate.eof or self.inflate.unused_data or self.left:
            raise ValueError(f"{self.name} does not end where it should")
        self._read_head()

    def numbers(self) -> np.ndarray:
        """Return the array in Fortran order."""
        if self.dtype is None:
            raise ValueError(f"{self.name} is not of real numbers")
        if self.packed:
            self._verify()
        kind, length, content = self._tag()
        stored = np.dtype(STORED[kind])
        if length != math.prod(self.shape) * stored.itemsize or min(self.shape) < 0 or length > self.size:
            raise ValueError(f"{length:,} bytes of {stored} for {self.name} {self.shape}")
        if not np.can_cast(stored, self.dtype, "same_kind"):
            raise ValueError(f"{self.name} of {self.dtype} stored as {stored}")
        numbers = np.empty(self.shape, stored, order="F")
        flat = numbers.ravel(order="K").view(np.uint8)
        for start in range(0, length, CHUNK):
            part = flat[start : start + CHUNK]
            part[:] = np.frombuffer(content or self._take(len(part)), np.uint8)
        return numbers.astype(self.dtype, copy=False)
