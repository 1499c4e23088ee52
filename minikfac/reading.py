"""Files from outside: what they hold, or one error with the file's name.

A file may be cut off, damaged or of another kind, and what it says about its size may be wrong. So nothing
but a regular file is opened; whatever a library raises on its content becomes one ValueError; and where a
format has checksums they are compared to the end, in little memory, before any of it is used.
"""

from __future__ import annotations

import errno
import gzip
import io
import math
import os
import stat
import textwrap
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 2**16
"""Bytes that are unpacked at a time."""
LONGEST_HEADER = 2048
"""Bytes of the header of an array, which has 128 as a rule."""
ARCHIVE = ("an archive of arrays of numbers, as numpy.savez makes", "another kind of file or a damaged one")


@contextmanager
def one_error(path: str | Path, expected: str, got: str = "a truncated or damaged one") -> Iterator[None]:
    """Turn whatever a damaged file can raise in this block into one ValueError with the file's name.

    Lack of memory, an interrupt and errors of the system (no such file, no permission, a full disk) pass.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a seek before 0
            raise
        reason = one_line(str(error) or type(error).__name__)
        raise ValueError(f"{path}: expected {expected}, got {got} ({reason})") from error


def one_line(text: str) -> str:
    """Return a text from a file as one line of a message: shortened, and without what a terminal obeys."""
    printable = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
    return textwrap.shorten(printable, 160, placeholder=" ...")


def size_of(path: str | Path) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is a folder, or a pipe or device, which could keep a reader waiting for ever.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise ValueError(f"{path}: expected a regular file, got {what}")
    return status.st_size


@contextmanager
def opened(path: str | Path, most: int | None = None) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file, through gzip where its content is packed; yield it and the number of its bytes, unpacked.

    The content tells, not the name: some browsers unpack a file and keep its `.gz`. Packed bytes are
    counted and their checksum compared first.

    Args:
        path: The file.
        most: Bytes to be counted at most: more are not unpacked, and the number is then greater than this.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a regular file, or packed data are truncated or damaged.
    """
    with _regular(path) as (file, size):
        stream = _unpacking(file)
        if isinstance(stream, gzip.GzipFile):
            with one_error(path, "a complete gzip file"):
                size = _count(stream, math.inf if most is None else most)
                stream.seek(0)
        yield stream, size


def first_bytes(path: str | Path, count: int) -> bytes:
    """Return the first `count` bytes of a file, unpacked if they are gzip's; fewer if there are fewer."""
    with _regular(path) as (file, _), one_error(path, "a complete gzip file"):
        return _unpacking(file).read(count)


def read_bytes(path: str | Path, most: int | None = None) -> bytes:
    """Return the bytes of a file, unpacked if they are gzip's.

    Raises:
        ValueError: If there are more than `most`; as `opened`.
    """
    with opened(path, most) as (stream, size):
        if most is not None and size > most:
            raise ValueError(f"{path}: expected at most {most:,} bytes, got more")
        return stream.read(size)


def read_lines(path: str | Path, longest: int, most: int | None = None) -> Iterator[bytes]:
    """Yield the lines of a file, unpacked if they are gzip's, with their ends.

    Raises:
        ValueError: If a line has more than `longest` bytes, or the file more than `most`; as `opened`.
    """
    with opened(path, most) as (stream, size):
        if most is not None and size > most:
            raise ValueError(f"{path}: expected at most {most:,} bytes, got more")
        while line := stream.readline(longest + 1):
            if len(line) > longest:
                raise ValueError(f"{path}: expected lines of at most {longest:,} bytes, got a longer one")
            yield line


def npz_names(path: str | Path) -> list[str]:
    """Return the names of the arrays in a NumPy archive.

    Raises:
        ValueError: If it is not an archive, or two have one name.
    """
    with _regular(path) as (file, _), one_error(path, *ARCHIVE), zipfile.ZipFile(file) as archive:
        return list(_members(archive))


def read_npz(path: str | Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays from a NumPy archive; every member is read to its end first, and its checksum compared.

    NumPy stops where the header says so: where a damaged header states fewer bytes than there are, it
    never comes to the checksum.

    Args:
        path: The file.
        names: Of the arrays; all of them by default.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If anything in it is damaged, an array is missing or holds objects, or a header does not
            state as many bytes as there are.
    """
    with _regular(path) as (file, size), one_error(path, *ARCHIVE), zipfile.ZipFile(file) as archive:
        members = _members(archive)
        if sum(member.compress_size for member in members.values()) > size:
            raise ValueError("members that overlap")
        for member in members.values():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{member.filename} in a compression that NumPy does not write")
            with archive.open(member) as stream:
                _count(stream)
        return {name: _array(archive, members[name]) for name in (members if names is None else names)}


@contextmanager
def _regular(path: str | Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a regular file; its size is that of what was opened, also where another takes its place."""
    size_of(path)  # a pipe would be waited for
    with open(path, "rb") as file:
        yield file, os.fstat(file.fileno()).st_size


def _unpacking(file: IO[bytes]) -> IO[bytes]:
    packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    file.seek(0)
    return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file


def _count(stream: IO[bytes], most: float = math.inf) -> int:
    """Read a stream to its end, where checksums are compared, or a little beyond `most` bytes."""
    count = 0
    while count <= most and (chunk := stream.read(CHUNK)):
        count += len(chunk)
    return count


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("two members of one name")
    return members


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        header = io.BytesIO(stream.read(LONGEST_HEADER))
    version = np.lib.format.read_magic(header)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, in_columns, dtype = read(header, max_header_size=LONGEST_HEADER)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} with objects, which only pickle could load")
    stated = header.tell() + math.prod(shape) * dtype.itemsize
    if dtype.kind not in "biufcSU" or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise ValueError(f"{member.filename} with entries of {dtype} and shape {shape}")
    if stated != member.file_size:
        raise ValueError(
            f"{member.filename} of {member.file_size:,} bytes, where its header states {stated:,}"
        )
    array = np.empty(shape, dtype, order="F" if in_columns else "C")
    content = array.ravel(order="K").view(np.uint8)  # the same memory
    with archive.open(member) as stream:
        stream.read(header.tell())
        for start in range(0, len(content), CHUNK):
            part = content[start : start + CHUNK]
            part[:] = np.frombuffer(stream.read(len(part)), np.uint8)
    return array
