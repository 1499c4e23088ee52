"""Files from outside: checksums first, sizes before contents, one error with the file's name."""

import gzip
import io
import os
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from minikfac import datasets
from minikfac import reading as files
from minikfac.datasets.mat import mat_shapes, read_mat
from minikfac.datasets.svhn import read_svhn
from minikfac.scaling import sweep
from minikfac.training import checkpoint, records
from oracles.dataset_files import idx_bytes

READERS: dict[str, Callable[[Path], Any]] = {
    "mine.npz": datasets.from_npz,
    "run.npz": checkpoint.load,
    "run.jsonl": records.read,
    "scaling.jsonl": sweep.read,
    "train-images": datasets.read_idx,
    "train_32x32.mat": read_svhn,
}


# one error ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        *(
            zlib.error("x"),
            zipfile.BadZipFile("x"),
            NotImplementedError("x"),
            RuntimeError("x"),
            EOFError("x"),
        ),
        *(
            RecursionError("x"),
            OverflowError("x"),
            TypeError("x"),
            AttributeError("x"),
            IndentationError("x"),
        ),
        *(OSError("x"), OSError(22, "x"), KeyError("x"), AssertionError("x"), UserWarning("x")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_error_becomes_one_with_the_name(error: Exception) -> None:
    with (
        pytest.raises(ValueError, match=r"^a\.b: expected a list, got a truncated .*x.*\)$") as raised,
        files.one_error("a.b", "a list"),
    ):
        raise error
    assert raised.value.__cause__ is error  # so that a fault of ours leaves its trace


@pytest.mark.parametrize(
    "error",
    [MemoryError(), KeyboardInterrupt(), SystemExit(1), FileNotFoundError(2, "no"), OSError(28, "no space")],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_are_not_the_files_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, files.one_error("a.b", "a list"):
        raise error
    assert raised.value is error


def test_an_error_is_one_printable_line() -> None:
    with pytest.raises(ValueError, match=r"\(red \?\[31m text x+ \.\.\.\)$"), files.one_error("a", "b"):
        raise ValueError("red\n\x1b[31m text " + "x" * 100 + " " + "y" * 100)


# what is not a file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
def test_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"{name}: expected a regular file, got a folder"):
        READERS[name](tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name}: expected a regular file, got a pipe, socket or device"):
        READERS[name](tmp_path / name)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device")
@pytest.mark.parametrize("name", READERS)
def test_a_device_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=f"{name}: expected a regular file, got a pipe, socket or device"):
        READERS[name](tmp_path / name)


# sizes before contents ------------------------------------------------------------------------------------


def peak(read: Callable[[], Any]) -> int:
    """Bytes at most while something is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expected"):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zeros_gz(path: Path, start: bytes, size: int) -> Path:
    """Many zeros in a little file."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    return path


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("train-images-idx3-ubyte.gz", b""),
        ("train-images-idx3-ubyte.gz", bytes([0, 0, 8, 3, 0, 0, 0, 7, 0, 0, 0, 28, 0, 0, 0, 28])),
        ("train-images-idx3-ubyte.gz", bytes([0, 0, 8, 3, 0, 0, 0, 7, 0, 0, 28, 28, 0, 0, 28, 28])),
        ("zip.train.gz", b"1 0.5"),
        ("zip.train.gz", b"\n"),
        ("data_batch_1.bin.gz", b""),
        ("train_32x32.mat.gz", b"MATLAB"),
    ],
)
def test_a_little_file_of_many_bytes_is_refused_in_little_memory(
    tmp_path: Path, name: str, start: bytes
) -> None:
    zeros_gz(tmp_path / name, start, 200 * 2**20)
    loads = {"train-": datasets.mnist, "zip.tr": datasets.usps, "data_b": datasets.cifar10}
    load: Callable[..., Any] = loads.get(name[:6], datasets.svhn)
    idx_bytes_of_labels = idx_bytes(np.zeros(7))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes_of_labels)
    began = time.monotonic()
    assert peak(lambda: load(tmp_path)) < 2 * 2**20
    assert time.monotonic() - began < 20


def test_a_member_of_many_bytes_is_refused_in_little_memory(tmp_path: Path) -> None:
    """Its header states few."""
    path = tmp_path / "mine.npz"
    out = io.BytesIO()
    np.save(out, np.zeros((3, 2)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(out.getvalue())
        for _ in range(64):
            member.write(bytes(2**20))
    assert peak(lambda: files.read_npz(path)) < 2**20


def test_reading_takes_the_memory_of_the_arrays(tmp_path: Path) -> None:
    path, x = tmp_path / "mine.npz", np.random.default_rng(0).standard_normal((500, 2000))
    np.savez_compressed(path, x=x, columns=np.asfortranarray(x))
    tracemalloc.start()
    arrays = files.read_npz(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1.1 * 2 * x.nbytes
    np.testing.assert_array_equal(arrays["x"], x)
    np.testing.assert_array_equal(arrays["columns"], x)
    assert arrays["columns"].flags.fnc and arrays["x"].flags.c_contiguous


# archives of arrays ---------------------------------------------------------------------------------------


def test_a_header_of_fewer_bytes_is_not_taken_for_whole(tmp_path: Path) -> None:
    """NumPy reads on where it says so, not to the end, and never compares the checksum."""
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((300, 7)), y=np.arange(300) % 3)
    for old, new in ((b"(300, 7)", b"(300, 6)"), (b"v\x00{'descr'", b"f\x00{'descr'"), (b"<f8", b"<f4")):
        content = path.read_bytes()
        assert old in content
        (tmp_path / "altered.npz").write_bytes(content.replace(old, new, 1))
        with pytest.raises(ValueError, match=r"altered\.npz: expected an archive .*Bad CRC-32"):
            datasets.from_npz(tmp_path / "altered.npz")
        status = datasets.check(tmp_path / "altered.npz")[0][1]
        assert status.startswith("broken: ")


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members.items():
            out.writestr(f"{name}.npy", content)
    return path


def npy(header: str, content: bytes, version: bytes = b"\x01\x00") -> bytes:
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header.encode() + content


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "EOF: reading magic string"),
        (b"text and more", "the magic string is not correct"),
        (
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(9)),
            "74 bytes, .* states 73",
        ),
        (
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(8)),
            "73 bytes, .* states 81",
        ),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", b""), r"shape \(-1,\)"),
        (npy("{'descr': '<U0', 'fortran_order': False, 'shape': (10000000000,)}", b""), "entries of <U0"),
        (npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", bytes(8)), "entries of "),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)), "x.npy with objects"),
        (npy("-" * 1800 + "1", b""), "maximum recursion depth|Header is not a dictionary|too many|malformed"),
        (npy(" " * 2100 + "{}", b""), "EOF: reading array header|is large"),
        (npy("  x\n y", b""), "indent|Cannot parse header"),
        (npy("{}", b"", b"\x03\x00"), r"\(3, 0\)"),
    ],
)
def test_headers_are_not_believed(tmp_path: Path, content: bytes, named: str) -> None:
    path = archive(tmp_path / "mine.npz", x=content)
    with pytest.raises(ValueError, match=rf"mine\.npz: expected an archive of arrays .*({named})"):
        files.read_npz(path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w", kind) as out:
        out.writestr("x.npy", b"x")
    with pytest.raises(ValueError, match=r"x\.npy in a compression that NumPy does not write"):
        files.read_npz(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "mine.npz", x=b"1")
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("x.npy", b"2")
    for read in (files.read_npz, files.npz_names):
        with pytest.raises(ValueError, match=r"mine\.npz: .*two members of one name"):
            read(path)


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """Many names for the same packed bytes: a little file that never ends."""
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x=np.zeros((1000, 100)))
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entry = content[start:end]
    entries = [entry.replace(b"x.npy", b"%c.npy" % letter) for letter in range(97, 117)]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 20, 20, 20 * len(entry), start, 0)
    path.write_bytes(content[:start] + b"".join(entries) + tail)
    with pytest.raises(ValueError, match=r"mine\.npz: .*(members that overlap|Overlapped entries)"):
        files.read_npz(path)


def test_a_lost_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"mine\.npz: expected an archive .*'z'"):
        files.read_npz(tmp_path / "mine.npz", ("x", "z"))


def test_names_are_printed_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    archive(tmp_path / "mine.npz", **{"\x1b[31mx": b""})
    with pytest.raises(ValueError, match=r"expected the arrays x_train .*, got \?\[31mx$"):
        datasets.from_npz(tmp_path / "mine.npz")


# MATLAB files ---------------------------------------------------------------------------------------------


TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


@pytest.mark.parametrize("packed", [True, False])
def test_matlab_files_are_read_as_scipy_reads_them(tmp_path: Path, packed: bool) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"a_{kind}": rng.integers(0, 100, (3, 4, 5)).astype(kind) for kind in TYPES}
    arrays |= {"row": rng.standard_normal((1, 9)), "one": np.array([[7.0]]), "many": rng.random((300, 400))}
    arrays |= {"none": np.zeros((0, 3))}
    others = {
        "text": "abc",
        "cells": np.array([[1, "x"]], object),
        "z": np.ones((2, 2)) * 1j,
        "s": {"a": 1.0},
    }
    scipy.io.savemat(tmp_path / "a.mat", arrays | others, do_compression=packed)
    again = read_mat(tmp_path / "a.mat", arrays)
    expected = scipy.io.loadmat(tmp_path / "a.mat")
    shapes = mat_shapes(tmp_path / "a.mat")
    for name in arrays:
        np.testing.assert_array_equal(again[name], expected[name])
        assert again[name].dtype == expected[name].dtype and again[name].flags.f_contiguous
        assert shapes[name] == (expected[name].shape, expected[name].dtype)
    assert {name for name, (_, dtype) in shapes.items() if dtype is None} == set(others)
    for name in others:
        with pytest.raises(ValueError, match=rf"a\.mat: expected a MATLAB .*{name} is not of real numbers"):
            read_mat(tmp_path / "a.mat", (name,))


def test_numbers_that_matlab_stored_in_a_smaller_type(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.arange(8, dtype=np.uint8)[None]})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    flags = content.index(struct.pack("<II", 6, 8)) + 8
    assert content[flags] == 9
    content[flags] = 6  # double precision
    (tmp_path / "a.mat").write_bytes(content)
    again = read_mat(tmp_path / "a.mat", ("a",))["a"]
    np.testing.assert_array_equal(again, np.arange(8.0)[None])
    assert again.dtype == np.float64


def test_a_sparse_y_is_refused(tmp_path: Path) -> None:
    X = np.zeros((32, 32, 3, 4), np.uint8)
    scipy.io.savemat(tmp_path / "train_32x32.mat", {"X": X, "y": scipy.sparse.eye(4, format="csc")})
    with pytest.raises(ValueError, match=r"train_32x32\.mat: expected y of 4 labels, .*, got .* not numbers"):
        read_svhn(tmp_path / "train_32x32.mat")


def test_no_bit_of_a_matlab_file_ends_the_process(tmp_path: Path) -> None:
    """Among the bits of the heads is the one that says that numbers are complex: at it SciPy crashes."""
    path = tmp_path / "train_32x32.mat"
    X, y = np.arange(2 * 3072, dtype=np.uint8).reshape(32, 32, 3, 2), np.array([[1], [2]], np.uint8)
    scipy.io.savemat(path, {"y": y, "X": X})
    content = path.read_bytes()
    refused = 0
    for place in range(124, 290):
        for bit in range(8):
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            path.write_bytes(altered)
            try:
                images, labels = read_svhn(path)
            except ValueError as error:
                assert "train_32x32.mat: expected" in str(error)
                refused += 1
            else:
                assert images.shape == (2, 32, 32, 3) and set(labels) <= set(range(10))
    assert refused > 800


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda packed: packed[:-3], "a does not end where it should"),
        (lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]), "incorrect data check"),
        (lambda packed: packed + b"more", "a does not end where it should"),
        (lambda packed: zlib.compress(zlib.decompress(packed) + b"more"), "a does not end where it should"),
        (lambda packed: zlib.compress(zlib.decompress(packed)[:-9]), "an array that ends early"),
        (lambda packed: zlib.compress(b"\x0f" + zlib.decompress(packed)[1:]), "a packed element of kind 15"),
    ],
)
def test_packed_arrays_are_checked_to_their_end(
    tmp_path: Path, change: Callable[[bytes], bytes], named: str
) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.arange(50.0)[None]}, do_compression=True)
    content = (tmp_path / "a.mat").read_bytes()
    packed = change(content[136:])
    (tmp_path / "a.mat").write_bytes(content[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(ValueError, match=rf"a\.mat: expected a MATLAB file .*({named})"):
        read_mat(tmp_path / "a.mat", ("a",))


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.ones((2, 2))})
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content + content[128:])
    with pytest.raises(ValueError, match=r"a\.mat: .*two arrays of the name a"):
        mat_shapes(tmp_path / "a.mat")
