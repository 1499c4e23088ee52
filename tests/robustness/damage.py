"""Damaged files, and what readers make of them: values that are right, or one error with the file's name.

A worker reads them in a process of its own, so that a crash of Python is an outcome, too. Each file is made
from the name of its case and its number. To read file 17 of one case again:

python tests/robustness/damage.py '["svhn"]' 18 17
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from minikfac import datasets
from minikfac.cli.plot import contenders
from minikfac.datasets.cache import extract
from minikfac.datasets.cifar10 import NAMES_FILE
from minikfac.datasets.svhn import read_svhn
from minikfac.scaling import sweep
from minikfac.training import checkpoint, records
from minikfac.training.checkpoint import Checkpoint
from oracles import dataset_files as files

GOOD = ("refused", "same", "lines of it", "other values")
"""Outcomes. Records alone may give "lines of it", since they end early where a run was killed, and formats
without checksums alone "other values", in the right structure and range."""
SECONDS = 10.0
"""Longer than that is a hang."""
MORE = 2**20
"""Bytes that reading may take beyond twice those of the intact file."""
MOST_MEMORY = 4 * 2**30

Harm = Callable[[bytes, random.Random], tuple[str, bytes]]
"""From a file's content to the kind of a damage and the damaged content."""


@dataclass(frozen=True)
class Case:
    """A kind of file and its reader.

    Attributes:
        make: writes the intact files into a folder, and returns the one that is damaged.
        read: what it holds, from its path.
        otherwise: outcome of a file that is neither refused nor read as it was; none where checksums tell of
            every change.
        allowed: whether values are that outcome.
        harms: besides those of any bytes.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    otherwise: str = ""
    allowed: Callable[[Any, Any], bool] = lambda value, intact: False
    harms: tuple[Harm, ...] = ()


# damages of any bytes -------------------------------------------------------------------------------------


def flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_many(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randrange(2, 20)):
        content = flip(content, rng)
    return content


def flip_in_front(content: bytes, rng: random.Random) -> bytes:
    return flip(content[:300], rng) + content[300:]


def flip_at_the_end(content: bytes, rng: random.Random) -> bytes:
    return content[:-200] + flip(content[-200:], rng)


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def shorten(content: bytes, rng: random.Random) -> bytes:
    return content[: -rng.randrange(1, 40)]


def extend(content: bytes, rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.randrange(1, 100))


def begin_again(content: bytes, rng: random.Random) -> bytes:
    return content + content[: rng.randrange(1, len(content))]


def overwrite(content: bytes, rng: random.Random) -> bytes:
    start, size = rng.randrange(len(content)), rng.randrange(1, 64)
    return content[:start] + rng.randbytes(size) + content[start + size :]


def zeros(content: bytes, rng: random.Random) -> bytes:
    start, size = rng.randrange(len(content)), rng.randrange(1, 600)
    return content[:start] + bytes(min(size, len(content) - start)) + content[start + size :]


def splice(content: bytes, rng: random.Random) -> bytes:
    there, here, size = rng.randrange(len(content)), rng.randrange(len(content)), rng.randrange(1, 600)
    return content[:here] + content[there : there + size] + content[here + size :]


def insert(content: bytes, rng: random.Random) -> bytes:
    here, there, size = rng.randrange(len(content)), rng.randrange(len(content)), rng.randrange(1, 40)
    return content[:here] + content[there : there + size] + content[here:]


def delete(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randrange(1, 40) :]


def extreme_number(content: bytes, rng: random.Random) -> bytes:
    """A number of 2, 4 or 8 bytes becomes zero, its largest, or one of these with the other sign."""
    size = rng.choice((2, 4, 8))
    start = rng.randrange(max(1, min(len(content), rng.choice((64, 600, len(content)))) - size))
    if rng.random() < 0.7:
        start -= start % 4
    bits = 8 * size
    number = rng.choice((0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1, 2 ** (bits // 2)))
    return content[:start] + number.to_bytes(size, rng.choice(("little", "big"))) + content[start + size :]


def another_file(content: bytes, rng: random.Random) -> bytes:
    others = (b"", b"\n", b"\0" * 4000, b"<html>404</html>", b"\x1f\x8b", b"PK\x05\x06" + bytes(18), b"{}\n")
    return rng.choice((*others, gzip.compress(bytes(2000)), rng.randbytes(2000), content[::-1]))


ANY = (
    *(flip, flip, flip, flip_in_front, flip_in_front, flip_at_the_end, flip_many, truncate, shorten, extend),
    *(begin_again, overwrite, zeros, splice, insert, delete, extreme_number, extreme_number, another_file),
)
"""Single flipped bits are the most frequent, and the hardest to notice."""


def harmed(case: Case, content: bytes, rng: random.Random) -> tuple[str, bytes]:
    if case.harms and rng.random() < 0.4:
        return rng.choice(case.harms)(content, rng)
    harm = rng.choice(ANY)
    return harm.__name__, harm(content, rng)


# damages under right checksums ----------------------------------------------------------------------------


def repacked(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """What gzip packed is damaged, and packed again."""
    harm = rng.choice(ANY)
    return f"{harm.__name__}, packed again", gzip.compress(harm(gzip.decompress(content), rng), 1)


def bomb(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A little file of many bytes, which begins as the intact one does."""
    start = gzip.decompress(content)[: rng.randrange(200)]
    return "a bomb", gzip.compress(start + bytes(rng.choice((2**22, 2**24))), 1)


def mat_repacked(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One packed element of a MATLAB file is damaged inside, and packed again."""
    parts, at = [content[:128]], 128
    while at < len(content):
        (size,) = struct.unpack("<I", content[at + 4 : at + 8])
        parts.append(content[at + 8 : at + 8 + size])
        at += 8 + size
    number = rng.randrange(1, len(parts))
    harm = rng.choice(ANY)
    inside = zlib.decompress(parts[number])
    parts[number] = zlib.compress(
        harm(inside[:80], rng) + inside[80:] if rng.random() < 0.6 else harm(inside, rng)
    )
    elements = [struct.pack("<II", 15, len(part)) + part for part in parts[1:]]
    if rng.random() < 0.1:
        elements = rng.choices(elements, k=rng.randrange(4))
    return f"{harm.__name__}, packed again", parts[0] + b"".join(elements)


def members(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def zipped(parts: list[tuple[str, bytes]], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", kind) as archive:
        warnings.simplefilter("ignore")  # of two members of one name
        for name, part in parts:
            archive.writestr(name, part)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def archive_members(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Members missing, twice, in another order, under another name or each other's, or of another kind."""
    parts = members(content)
    number = rng.randrange(len(parts))
    name, part = parts[number]
    what = rng.choice(("drop", "double", "order", "rename", "swap", "kind", "folder", "not an array", "lock"))
    if what == "drop":
        del parts[number]
    elif what == "double":
        parts.append((name, parts[rng.randrange(len(parts))][1]))
    elif what == "order":
        rng.shuffle(parts)
    elif what == "rename":
        parts[number] = (
            rng.choice((name[:-4], name.upper(), f"../{name}", f"{name}.npy", "x.npy", "é")),
            part,
        )
    elif what == "swap":
        other = rng.randrange(len(parts))
        parts[number], parts[other] = (name, parts[other][1]), (parts[other][0], part)
    elif what == "kind":
        return what, zipped(parts, rng.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    elif what == "folder":
        parts.append((f"{name}/", b""))
    elif what == "not an array":
        parts[number] = (name, rng.choice((b"", b"text", part[6:], rng.randbytes(100))))
    else:  # the bit that says that a member is encrypted
        packed = bytearray(zipped(parts))
        packed[packed.rindex(b"PK\x01\x02") + 8] |= 1
        return what, bytes(packed)
    return f"members: {what}", zipped(parts)


HEADERS = (
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (7,), }",
    "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (6,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (True,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 0), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
    "{'descr': '<f8', 'fortran_order': 1, 'shape': (6,), }",
    "{'descr': 7, 'fortran_order': False, 'shape': (6,), }",
    "{'descr': '<q7', 'fortran_order': False, 'shape': (6,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (6L,), }",
    "-" * 1800 + "1",
    "[" * 1800,
    "{" * 90 + "'a': '" + "\\",
    "  \n\t x",
    "'''",
)


def array_header(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """The header of an array is another, under the right checksum."""
    parts = members(content)
    number = rng.randrange(len(parts))
    name, part = parts[number]
    size = int.from_bytes(part[8:10], "little")
    what = rng.choice(("length", "bits", "text", "number"))
    if what == "length":  # NumPy would read on where it says so, and take other bytes
        part = part[:8] + max(0, size + rng.choice((-16, -8, -1, 1, 8, 64))).to_bytes(2, "little") + part[10:]
    elif what == "bits":
        part = part[:8] + flip(part[8 : 10 + size], rng) + part[10 + size :]
    elif what == "text":
        header = rng.choice(HEADERS).encode()
        part = part[:8] + len(header).to_bytes(2, "little") + header + part[10 + size :]
    else:
        header = part[10 : 10 + size].decode()
        digits = [at for at, letter in enumerate(header) if letter.isdigit()]
        at = rng.choice(digits)
        header = header[:at] + rng.choice("0123456789") + header[at + 1 :]
        part = part[:10] + header.encode() + part[10 + size :]
    parts[number] = (name, part)
    return f"header of an array: {what}", zipped(parts)


def other_array(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One array is of other numbers, another type or another shape."""
    parts = members(content)
    number = rng.randrange(len(parts))
    array = np.load(io.BytesIO(parts[number][1]))
    changes: tuple[Callable[[], np.ndarray], ...] = (
        lambda: array.astype(rng.choice(("<f4", "<i8", "<u1", "?", "<c16", "<U8", "O"))),
        lambda: array[None],
        lambda: array.reshape(-1),
        lambda: array[:-1] if array.ndim else array,
        lambda: array + np.array(1, array.dtype) if array.dtype.kind in "fiu" else array,
        lambda: array.T,
        lambda: np.datetime64("2000-01-01") + np.arange(6),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts[number] = (parts[number][0], npy(rng.choice(changes)()))
    return "another array", zipped(parts)


TREES = (
    "[" * 100_000,
    '{"a":' * 50_000,
    "7" * 5_000,
    "[]",
    "null",
    "7",
    "{}",
    '"',
    "\\",
    '{"format": 3}',
    "NaN",
)


def json_member(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """An edited text of JSON in a checkpoint."""
    parts = dict(members(content))
    text = np.load(io.BytesIO(parts["json.npy"])).tobytes().decode()
    tree = json.loads(text)
    key = rng.choice(sorted(tree))
    what = rng.choice(("bits", "text", "entry", "drop", "number"))
    if what == "bits":
        changed = flip(text.encode(), rng)
    elif what == "text":
        changed = rng.choice(TREES).encode()
    elif what == "entry":
        changed = json.dumps(tree | {key: rng.choice((None, 7, "x", [], {}, {"set": []}, 1e300))}).encode()
    elif what == "drop":
        changed = json.dumps({name: entry for name, entry in tree.items() if name != key}).encode()
    else:
        changed = json.dumps(tree | {"step": tree["step"] + 1}).encode()
    parts["json.npy"] = npy(np.frombuffer(changed, np.uint8))
    return f"JSON: {what}", zipped(list(parts.items()))


def lines_of_records(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Lines missing, twice, in another order, joined, or of other JSON."""
    lines = content.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    what = rng.choice(("drop", "double", "order", "join", "JSON", "no checksum", "deep"))
    if what == "drop":
        del lines[number]
    elif what == "double":
        lines.insert(number, lines[number])
    elif what == "order":
        lines[1:] = rng.sample(lines[1:], len(lines) - 1)
    elif what == "join":
        lines[number] = lines[number].rstrip()
    elif what == "JSON":
        lines[number] = rng.choice(TREES).encode() + b"\n"
    elif what == "no checksum":
        row = json.loads(lines[number])
        row.pop("crc32", None)
        lines[number] = json.dumps(row).encode() + b"\n"
    else:
        lines[number] = b'{"about": ' + b"[" * 3000 + b"]" * 3000 + b"}\n"
    return f"lines: {what}", b"".join(lines)


# the files ------------------------------------------------------------------------------------------------


def mnist(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        files.write_mnist(folder, files.small_mnist(), suffix)
        return folder / f"train-images-idx3-ubyte{suffix}"

    return make


def mnist_labels(folder: Path) -> Path:
    files.write_mnist(folder, files.small_mnist(), "")
    return folder / "train-labels-idx1-ubyte"


def usps(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        files.write_lines(folder / f"zip.test{suffix}", files.usps_lines(*files.small_usps(3, 1)))
        return files.write_lines(folder / f"zip.train{suffix}", files.usps_lines(*files.small_usps(4, 0)))

    return make


def cifar(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for file, content in files.cifar_contents().items():
            suffix = ".gz" if f"{file}.gz" == name else ""
            files.write(folder / f"{file}{suffix}", content)
        return folder / name

    return make


def tar(folder: Path) -> Path:
    path = folder / "archive.tar.gz"
    path.write_bytes(files.tar_bytes({"a/one": bytes(range(256)) * 8, "a/two": b"2" * 700, "b": b"3"}))
    return path


def unpack(path: Path) -> Any:
    extract(path, {"a/one": "one", "b": "three"}, 4096)
    return [(path.parent / name).read_bytes() for name in ("one", "three")]


def svhn(packed: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        images, labels = files.small_cifar(3, 0)
        path = folder / "train_32x32.mat"
        X, y = np.stack(list(images), axis=-1), (labels[:, None] + 1).astype(np.uint8)
        scipy.io.savemat(path, {"y": y, "X": X}, do_compression=packed)
        return path

    return make


def npz(save: Callable[..., None], *parts: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        arrays = {f"x{part}": rng.standard_normal((9, 7)) for part in parts}
        arrays |= {f"y{part}": rng.integers(0, 3, 9) for part in parts}
        save(folder / "mine.npz", **arrays)
        return folder / "mine.npz"

    return make


def bundled_digits(folder: Path) -> Path:
    path = folder / "digits.npz"
    path.write_bytes((Path(datasets.__file__).parent / "digits.npz").read_bytes())
    return path


def read_digits(path: Path) -> Any:
    digits = import_module("minikfac.datasets.digits")
    digits.FILE = path
    return digits._arrays()


STATE = {
    "step": 3,
    "lam": 0.1,
    "factors": [(np.eye(3), np.asfortranarray(np.arange(6.0).reshape(2, 3)))],
    "velocity": np.linspace(0, 1, 21, dtype=np.float32),
    "rho": -np.inf,
    "nothing": None,
}
ROWS = [
    {"step": step, "examples": 10 * step, "seconds": 0.125 * step, "loss": 1 / (1 + step)}
    for step in range(6)
]


def stored(folder: Path) -> Path:
    theta = np.random.default_rng(0).standard_normal(21)
    at = Checkpoint(
        theta, STATE, 7, 70, 0.25, {"rho": np.nan}, ROWS, {"seed": 1, "net": ["Dense"]}, theta + 1
    )
    checkpoint.save(folder / "run.npz", at)
    return folder / "run.npz"


def recorded(folder: Path) -> Path:
    records.write(folder / "run.jsonl", {"seed": 1, "net": ["Dense", "µ"]}, ROWS)
    return folder / "run.jsonl"


def recorded_before(folder: Path) -> Path:
    """As lines were before they had checksums."""
    rows = [{"about": {"seed": 1}, "machine": {"cores": 2}}, *ROWS]
    path = folder / "run.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def swept(folder: Path) -> Path:
    rows = [
        {
            "kind": kind, "method": "K-FAC", "batch_size": m, "trial": 0, "seed": seed, "arguments": {},
            "steps": 100.0 / m, "ended": "target", "made": 3, "lowest": 0.1, "seconds": 1.0,
        }
        for m in (8, 16)
        for seed, kind in enumerate(("trial", "final"))
    ]  # fmt: skip
    records.write(folder / "scaling.jsonl", {"sweep": "digits", "target": {"loss": 0.1}, "methods": {}}, rows)
    return folder / "scaling.jsonl"


# what may come of them ------------------------------------------------------------------------------------


def image_set(value: datasets.Dataset, intact: datasets.Dataset) -> bool:
    """Labels 0..9 and pixels in [0, 1], of the right shape."""
    names = value.class_names or tuple("0123456789")
    return (
        value.x_train.shape[1:] == intact.x_train.shape[1:]
        and value.x_train.min() >= 0
        and value.x_train.max() <= 1
        and set(np.unique(value.y_train)) <= set(range(10))
        and len(value.y_train) == len(value.x_train)
        and len(names) == 10
    )


def labelled_bytes(value: Any, intact: Any) -> bool:
    X, y = value
    return X.dtype == np.uint8 and X.shape == (len(y), 32, 32, 3) and set(np.unique(y)) <= set(range(10))


def finite_set(value: datasets.Dataset, intact: datasets.Dataset) -> bool:
    return value.x_train.ndim == 2 and bool(np.isfinite(value.x_train).all()) and value.y_train.min() >= 0


def lines_of_it(value: Any, intact: Any) -> bool:
    """Lines of the intact file and none besides; a file may end early, as that of a run that goes on."""
    return value.about == intact.about and all(row in intact.records for row in value.records)


def rows_of_it(value: Any, intact: Any) -> bool:
    return value.about == intact.about and all(row in intact.rows for row in value.rows)


def any_records(value: Any, intact: Any) -> bool:
    steps = [row["step"] for row in value.records if "step" in row]
    return isinstance(value.about, dict) and all(isinstance(step, int | float) for step in steps)


def folder_of(read: Callable[..., Any]) -> Callable[[Path], Any]:
    return lambda path: read(path.parent)


def dataset_npz(path: Path) -> Any:
    status = datasets.check(path)[0][1]
    value = datasets.from_npz(path)
    assert status.startswith("ok"), status
    return value


def plotted(path: Path) -> Any:
    (runs,) = contenders([path]).values()
    return runs[0]


ARCHIVE = (archive_members, array_header)
LINES, OTHER = GOOD[2:]
CASES = {
    "idx": Case(mnist(""), folder_of(datasets.mnist), OTHER, image_set),
    "idx labels": Case(mnist_labels, folder_of(datasets.mnist), OTHER, image_set),
    "idx.gz": Case(mnist(".gz"), folder_of(datasets.mnist)),
    "idx.gz packed again": Case(
        mnist(".gz"), folder_of(datasets.mnist), OTHER, image_set, (repacked, repacked, bomb)
    ),
    "usps": Case(usps(""), folder_of(datasets.usps), OTHER, image_set),
    "usps.gz": Case(usps(".gz"), folder_of(datasets.usps)),
    "usps.gz packed again": Case(
        usps(".gz"), folder_of(datasets.usps), OTHER, image_set, (repacked, repacked, bomb)
    ),
    "cifar10": Case(cifar("data_batch_2.bin"), folder_of(datasets.cifar10), OTHER, image_set),
    "cifar10.gz": Case(cifar("data_batch_2.bin.gz"), folder_of(datasets.cifar10)),
    "cifar10 names": Case(cifar(NAMES_FILE), folder_of(datasets.cifar10), OTHER, image_set),
    "cifar10.tar.gz": Case(tar, unpack),
    "svhn": Case(svhn(True), read_svhn),
    "svhn packed again": Case(svhn(True), read_svhn, OTHER, labelled_bytes, (mat_repacked, mat_repacked)),
    "svhn unpacked": Case(svhn(False), read_svhn, OTHER, labelled_bytes),
    "npz": Case(npz(np.savez, "_train", "_test"), dataset_npz),
    "npz packed": Case(npz(np.savez_compressed, ""), dataset_npz),
    "npz of other members": Case(
        npz(np.savez, "_train", "_test"), dataset_npz, OTHER, finite_set, (*ARCHIVE, other_array)
    ),
    "digits": Case(bundled_digits, read_digits),
    "checkpoint": Case(stored, checkpoint.load, harms=(*ARCHIVE, json_member, other_array)),
    "records": Case(recorded, records.read, LINES, lines_of_it, (lines_of_records,)),
    "records without checksums": Case(recorded_before, records.read, OTHER, any_records, (lines_of_records,)),
    "records, plotted": Case(recorded, plotted, LINES, lines_of_it, (lines_of_records,)),
    "sweep": Case(swept, sweep.read, LINES, rows_of_it, (lines_of_records,)),
}


# the controls: what must be noticed -----------------------------------------------------------------------


def take_long(path: Path) -> Any:
    intact = path.read_bytes() == b"\x01" * 600
    time.sleep(0 if intact else 3600)


def end_the_process(path: Path) -> Any:
    if path.read_bytes() != b"\x01" * 600:
        os.abort()


def take_memory(path: Path) -> Any:
    return len(bytearray(0 if path.read_bytes() == b"\x01" * 600 else 8 * 2**20)) and 0


def bytes_of_ones(folder: Path) -> Path:
    (folder / "ones").write_bytes(b"\x01" * 600)
    return folder / "ones"


CONTROLS = {
    "crash": Case(bytes_of_ones, end_the_process),
    "hang": Case(bytes_of_ones, take_long),
    "taken for whole": Case(bytes_of_ones, Path.read_bytes),
    "memory": Case(bytes_of_ones, take_memory),
    "ZeroDivisionError": Case(bytes_of_ones, lambda path: 1 / (path.read_bytes() == b"\x01" * 600)),
    "no name": Case(bytes_of_ones, lambda path: int(path.read_bytes() == b"\x01" * 600 or "x")),
}


# the worker -----------------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """Of a value and all arrays in it, with types and memory orders."""
    if isinstance(value, np.ndarray):
        host = np.ascontiguousarray(value)
        return f"{value.dtype} {value.shape} {value.flags.fnc} {hashlib.sha256(host).hexdigest()}"
    if dataclasses.is_dataclass(value):
        return digest([getattr(value, field.name) for field in dataclasses.fields(value)])
    if isinstance(value, dict):
        return str({key: digest(entry) for key, entry in value.items()})
    if isinstance(value, list | tuple):
        return str([digest(entry) for entry in value])
    return repr(value)


def outcome(case: Case, path: Path, intact: Any, most: int) -> str:
    started = time.monotonic()
    made, peak = tried(case, path, intact)
    if peak > most:  # now and then a table of Python's own grows; a reader takes as much each time
        made, peak = tried(case, path, intact)
    if peak > most:
        return f"memory: {peak:,} bytes, {made}"
    return made if time.monotonic() - started < SECONDS else f"slow: {made}"


def tried(case: Case, path: Path, intact: Any) -> tuple[str, int]:
    """What came of a file, and the peak of memory."""
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    try:
        value = case.read(path)
    except (ValueError, FileNotFoundError) as error:
        named = path.name.removesuffix(".gz") in str(error) and str(error).isprintable()
        made = "refused" if named else f"no name: {error}"
    except BaseException as error:
        made = f"{type(error).__name__}: {error}"
    else:
        peak = tracemalloc.get_traced_memory()[1] - before
        if digest(value) == digest(intact):
            return "same", peak
        allowed = case.otherwise and case.allowed(value, intact)
        return case.otherwise if allowed else "taken for whole", peak
    return made, tracemalloc.get_traced_memory()[1] - before


def work(names: list[str], count: int, first: int) -> None:
    """Print case and number of each damaged file, and then the kind of the damage and the outcome."""
    import resource  # where there are limits of memory

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    warnings.simplefilter("error")
    for name in names:
        case = (CASES | CONTROLS)[name]
        with tempfile.TemporaryDirectory() as folder:
            path = case.make(Path(folder))
            content = path.read_bytes()
            intact = case.read(path)
            tracemalloc.start()
            case.read(path)
            most = 2 * tracemalloc.get_traced_memory()[1] + MORE
            for number in range(first, count):
                kind, damaged = harmed(case, content, random.Random(f"{name} {number}"))
                path.write_bytes(damaged)
                print(name, number, sep="\t", end="\t", flush=True)
                made = outcome(case, path, intact, most)
                print(kind, " ".join(made.split()), sep="\t", flush=True)
            tracemalloc.stop()
        first = 0


def listen(process: subprocess.Popen[bytes], patience: float) -> tuple[str, bool]:
    """What a process prints until it ends or is silent for too long, and whether it was that.

    How long it takes to begin depends on what else is at work.
    """
    assert process.stdout is not None
    text = b""
    while select.select([process.stdout], [], [], patience if text else 300)[0]:
        part = os.read(process.stdout.fileno(), 2**16)
        text += part
        if not part:
            return text.decode(), False
    return text.decode(), True


def counts(
    names: Iterable[str], count: int, patience: float = 60.0
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Read so many damaged files of each case in another process, and in one more after each that it ended.

    Returns:
        How often each outcome was, by case, and a line for each that is not in order.
    """
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    bad: list[str] = []
    left, first = list(outcomes), 0
    while left:
        command = [sys.executable, __file__, json.dumps(left), str(count), str(first)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        text, silent = listen(process, patience)
        ended = process.wait() if not silent else None
        process.kill()
        process.communicate()
        if ended and ended > 0:
            raise RuntimeError(
                f"expected a worker without faults of its own, got exit code {ended}: {command}"
            )
        lines = text.splitlines()
        for line in lines:
            name, number, *made = line.split("\t")
            if len(made) < 2:
                made = ["", f"{'hang' if silent else 'crash'}: exit code {process.returncode}"]
            outcomes[name][made[1] if made[1] in GOOD else made[1].partition(":")[0]] += 1
            if made[1] not in GOOD:
                bad.append(f"{name} {number}: {': '.join(made)}")
        if not lines:
            raise RuntimeError(f"expected a worker that begins, got one that ended: {' '.join(command)}")
        left, first = left[left.index(name) :], int(number) + 1
        if first == count:
            left, first = left[1:], 0
    return outcomes, bad


if __name__ == "__main__":
    work(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
