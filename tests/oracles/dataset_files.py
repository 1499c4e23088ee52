"""Small files of data sets, right and wrong, by writers that share no code with the package."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io

ROOT = Path(__file__).parents[2]


def real(name: str) -> Path:
    """The folder of a real data set, or a skipped test."""
    base = Path(os.environ.get("MINIKFAC_DATA") or ROOT.parent / "shared" / "data")
    if not (base / name).is_dir():
        pytest.skip(
            f"no real files: MINIKFAC_DATA (or shared/data beside the repository) has no folder {name}/"
        )
    return base / name


def idx_bytes(array: np.ndarray, magic: bytes | None = None) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) if magic is None else magic
    return head + b"".join(struct.pack(">I", n) for n in array.shape) + array.astype(np.uint8).tobytes()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def small_mnist() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": rng.integers(0, 256, (7, 28, 28)),
        "train-labels-idx1-ubyte": np.array([3, 1, 4, 1, 5, 9, 2]),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (3, 28, 28)),
        "t10k-labels-idx1-ubyte": np.array([6, 5, 0]),
    }


def write_mnist(folder: Path, arrays: dict[str, np.ndarray], suffix: str = ".gz") -> Path:
    for name, array in arrays.items():
        write(folder / (name + suffix), idx_bytes(array))
    return folder


def small_usps(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(-1000, 1001, (n, 256)) / 1000, rng.integers(0, 10, n)


def usps_lines(values: np.ndarray, labels: np.ndarray) -> list[str]:
    return [
        " ".join([f"{label:.4f}", *(f"{value:.4f}" for value in row)])
        for label, row in zip(labels, values, strict=True)
    ]


def write_lines(path: Path, lines: list[str]) -> Path:
    return write(path, ("\n".join(lines) + "\n").encode())


def damaged(content: bytes, how: str) -> bytes:
    packed = bytearray(gzip.compress(content))
    if how == "truncated":
        return bytes(packed[: len(packed) // 2])
    if how == "cut in the header":
        return bytes(packed[:5])
    if how == "altered":
        packed[len(packed) // 2] ^= 0xFF
    elif how == "wrong checksum":
        packed[-6] ^= 0xFF
    elif how == "followed by other bytes":
        packed += b"more"
    return bytes(packed)


DAMAGES = ["truncated", "cut in the header", "altered", "wrong checksum", "followed by other bytes"]


def small_cifar(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) and labels, as bytes."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, n)


def cifar_bytes(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Records of a label and three planes of colour."""
    return b"".join(
        bytes([label]) + b"".join(image[:, :, color].tobytes() for color in range(3))
        for image, label in zip(images, labels.tolist(), strict=True)
    )


NAMES = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"
CIFAR_FILES = {f"data_batch_{i}.bin": 2 for i in range(1, 6)} | {"test_batch.bin": 3}


def cifar_contents() -> dict[str, bytes]:
    """All files of the binary version, with 2 images per training batch and 3 test images."""
    made = {name: cifar_bytes(*small_cifar(n, seed)) for seed, (name, n) in enumerate(CIFAR_FILES.items())}
    return made | {"batches.meta.txt": NAMES.encode()}


def tar_bytes(contents: dict[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """A .tar.gz of files, after `others` without content: links, folders."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for info in others:
            tar.addfile(info)
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def write_svhn(path: Path, images: np.ndarray, labels: np.ndarray, **others: np.ndarray) -> Path:
    """A MATLAB file of X (32, 32, 3, N) and y (N, 1), compressed as the official ones are."""
    X = np.stack(list(images), axis=-1)
    scipy.io.savemat(path, {"X": X, "y": labels[:, None].astype(np.uint8), **others}, do_compression=True)
    return path
