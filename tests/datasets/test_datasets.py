"""Data sets: the bundled digits, readers and every way in which a file can be wrong, cache, catalogue.

Small files are written by `dataset_files`. Tests of the real files use the folder that MINIKFAC_DATA names
(with mnist/, mnist-small/, usps/), or shared/data beside the repository. Photographs are in `test_images`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from minikfac import datasets
from minikfac.datasets.cache import extract
from minikfac.datasets.dataset import Dataset
from minikfac.datasets.mnist import area_weights, shrink
from minikfac.datasets.usps import digest as usps_digest
from oracles import close
from oracles.dataset_files import (
    CIFAR_FILES,
    DAMAGES,
    cifar_contents,
    damaged,
    idx_bytes,
    real,
    small_cifar,
    small_mnist,
    small_usps,
    tar_bytes,
    usps_lines,
    write,
    write_lines,
    write_mnist,
    write_svhn,
)


@pytest.fixture
def mnist_folder(tmp_path: Path) -> Path:
    return write_mnist(tmp_path, small_mnist())


@pytest.fixture
def usps_folder(tmp_path: Path) -> Path:
    write_lines(tmp_path / "zip.train.gz", usps_lines(*small_usps(6, 0)))
    write_lines(tmp_path / "zip.test.gz", usps_lines(*small_usps(4, 1)))
    return tmp_path


# --- Dataset ---


def arrays(**changes: object) -> dict[str, object]:
    rng = np.random.default_rng(0)
    made: dict[str, object] = dict(
        x_train=rng.normal(size=(12, 4)),
        y_train=np.arange(12) % 3,
        x_test=rng.normal(size=(5, 4)),
        y_test=np.arange(5) % 3,
        name="mine",
    )
    return made | changes


def test_dataset_fills_in_classes_and_image_shape() -> None:
    data = Dataset(**arrays())
    assert (data.n_classes, data.image_shape) == (3, None)
    assert repr(data) == "Dataset(mine: 12 train, 5 test, inputs 4 float64, 3 classes)"
    images = Dataset(**arrays(x_train=np.zeros((12, 2, 3, 1)), x_test=np.zeros((5, 2, 3, 1))))
    assert images.image_shape == (2, 3, 1)
    assert repr(images) == "Dataset(mine: 12 train, 5 test, inputs 2x3x1 float64, 3 classes)"
    targets = Dataset(**arrays(y_train=np.zeros((12, 2)), y_test=np.zeros((5, 2))))
    assert targets.n_classes is None
    assert repr(targets).endswith("2 targets)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(x_train=np.zeros(12)), r"mine: x_train: expected \(N, features\), images .*, got \(12,\)"),
        (dict(x_train=np.zeros((0, 4))), r"x_train: expected at least one example .*, got \(0, 4\)"),
        (
            dict(x_test=np.zeros((5, 0))),
            r"x_test: expected at least one example with one feature, got \(5, 0\)",
        ),
        (
            dict(x_train=np.zeros((12, 4), np.uint8)),
            r"expected floats, got uint8; divide images by 255 first",
        ),
        (dict(x_train=np.zeros((12, 4), bool)), r"x_train: expected floats, got bool$"),
        (
            dict(x_test=np.zeros((5, 3))),
            r"expected x_test like x_train \(12, 4\) float64, got \(5, 3\) float64",
        ),
        (dict(x_test=np.zeros((5, 4), np.float32)), r"expected x_test like x_train .*, got \(5, 4\) float32"),
        (
            dict(y_train=np.arange(11)),
            r"y_train: expected 12 labels \(N,\) or targets .* \(12, 4\), got \(11,\)",
        ),
        (dict(y_test=np.zeros((5, 1, 1))), r"y_test: expected 5 labels .*, got \(5, 1, 1\)"),
        (
            dict(y_train=np.zeros(12)),
            r"expected labels \(N,\) of an integer type .*, got \(12,\) float64; use y.astype",
        ),
        (
            dict(y_train=np.zeros((12, 2), int)),
            r"y_train: expected targets \(N, C\) of floats, got \(12, 2\) int64",
        ),
        (
            dict(y_train=np.full((12, 2), np.inf)),
            r"y_train: expected finite numbers, got NaN or infinity in 12 of 12",
        ),
        (dict(y_test=np.array([0, 1, -2, 1, 0])), r"y_test: expected labels from 0, got -2 in example 2"),
        (dict(n_classes=2), r"y_train: expected labels 0..1, got 2 in example 2"),
        (
            dict(y_test=np.array([0, 7, 0, 0, 0]), n_classes=3),
            r"y_test: expected labels 0..2, got 7 in example 1",
        ),
        (
            dict(y_train=np.zeros((12, 2)), y_test=np.zeros((5, 2)), n_classes=2),
            r"expected labels \(N,\) with n_classes=2, got targets \(12, 2\)",
        ),
        (dict(image_shape=(2, 3, 1)), r"expected inputs of image shape \(2, 3, 1\), got \(12, 4\)"),
    ],
)
def test_dataset_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset(**arrays(**changes))


def test_sequences_have_labels_for_each_position_or_for_the_whole() -> None:
    x, labels = np.zeros((4, 3, 2)), np.array([[0, 1, 2], [2, 0, 1], [1, 1, 1], [0, 0, 0]])
    data = Dataset(x, labels, x[:2], labels[:2], "sequences")
    assert data.n_classes == 3 and data.image_shape is None
    assert data.subset(2, 1).y_train.shape == (2, 3)
    assert Dataset(x, labels[:, 0], x[:2], labels[:2, 0], "sequences").n_classes == 3
    with pytest.raises(ValueError, match=r"y_train: expected labels 0\.\.1, got 2 in example 0, position 2"):
        Dataset(x, labels, x[:2], labels[:2], "sequences", n_classes=2)
    with pytest.raises(ValueError, match=r"expected one label for each vector, got \(4, 3\)"):
        data.as_vectors()
    with pytest.raises(ValueError, match=r"labels of positions \(N, T\) or targets .*, got \(4, 3, 1\)"):
        Dataset(x, labels[..., None], x[:2], labels[:2], "sequences")
    with pytest.raises(ValueError, match=r"got \(4, 3\) bool; use .*, y\.astype\(int\) for labels"):
        Dataset(x, labels > 0, x[:2], labels[:2] > 0, "sequences")
    grey = (((3, 2, 1), r"add the axis of channels: x\[\.\.\., None\]"), ((3, 2), r"image_shape \(H, W, C\)"))
    for shape, hint in grey:
        with pytest.raises(ValueError, match=hint):
            Dataset(x, labels[:, 0], x[:2], labels[:2, 0], "grey", image_shape=shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_dataset_refuses_numbers_that_are_not_finite(value: float) -> None:
    x = np.zeros((12, 4))
    x[5, 2] = x[9, 0] = value
    with pytest.raises(
        ValueError, match=r"x_train: expected finite .* in 2 of 12 examples, first in example 5"
    ):
        Dataset(**arrays(x_train=x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(y_train=1 + np.arange(12) % 3, y_test=1 + np.arange(5) % 3),
            r"mine: expected labels from 0, got 1\.\.3; subtract 1, or give n_classes=4 if no example",
        ),
        (
            dict(y_train=1 + np.arange(12) % 3, y_test=1 + np.arange(5) % 3, n_classes=3),
            r"expected labels 0\.\.2, got 3 in example 2; if they begin at 1, subtract 1$",
        ),
        (dict(n_classes=2), r"labels 0\.\.1, got 2 in example 2; 3 classes need as many outputs"),
        (
            dict(y_train=np.arange(12) % 2 * 2 - 1, n_classes=2),
            r"labels from 0, got -1 in example 0; leave out examples without a label, and write",
        ),
        (
            dict(y_train=np.zeros(12, int), y_test=np.zeros(5, int)),
            "expected at least two classes, got one for all",
        ),
        (
            dict(y_train=np.zeros(12, int), y_test=np.zeros(5, int), n_classes=1),
            "expected at least two classes",
        ),
        (
            dict(y_train=np.zeros((12, 1), int)),
            r"got \(12, 1\) int64; use y\.astype\(float\) for targets, y\[:, 0\] for labels",
        ),
        (
            dict(y_train=np.eye(3, dtype=int)[np.arange(12) % 3]),
            r"\(12, 3\) int64; use y\.astype\(float\) for targets, y\.argmax\(1\) for labels",
        ),
        (
            dict(x_test=None, y_test=None),
            r"expected training and test examples, got x_test=None; keep some back .* x\[9::10\]",
        ),
        (dict(y_test=None), "expected training and test examples, got y_test=None"),
        (
            dict(x_train=np.ma.masked_array(np.zeros((12, 4)), np.eye(12, 4))),
            "expected x_train of mine without masked entries, got 4 of 48 masked",
        ),
        (
            dict(y_train=np.ma.masked_array(np.arange(12) % 3, np.arange(12) == 5)),
            "expected y_train of mine without masked entries, got 1 of 12 masked",
        ),
    ],
)
def test_dataset_says_what_to_do(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset(**arrays(**changes))


@pytest.mark.parametrize("y", [["cat"] * 12, np.array(["cat"] * 12), np.array(["cat"] * 12, object)])
def test_dataset_says_how_words_become_labels(y: object) -> None:
    message = r"expected y_train of mine to be an array of numbers, .*; number classes from 0 by np\.unique"
    with pytest.raises(TypeError, match=message):
        Dataset(**arrays(y_train=y))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("make", [np.ndarray.tolist, list, np.asmatrix, csr_array, np.ma.masked_array])
def test_dataset_of_other_libraries_arrays(make: Callable[[np.ndarray], object]) -> None:
    plain = arrays()
    x, x_test = plain["x_train"], plain["x_test"]
    assert isinstance(x, np.ndarray) and isinstance(x_test, np.ndarray)
    data = Dataset(**arrays(x_train=make(x), x_test=make(x_test), y_train=[0, 1, 2] * 4))
    for part in ("x_train", "y_train", "x_test", "y_test"):
        assert type(getattr(data, part)) is np.ndarray
        close(getattr(data, part), plain[part], 0)


def test_dataset_keeps_arrays_and_counts_classes_that_are_given() -> None:
    made = arrays(y_train=1 + np.arange(12) % 2, y_test=1 + np.arange(5) % 2, n_classes=3)
    data = Dataset(**made)
    assert data.x_train is made["x_train"] and data.n_classes == 3
    assert data.subset(1, 1).n_classes == 3


@pytest.mark.parametrize("seed", [None, -1, 0.5, True, "x", 2**64 + 1])
def test_seeds_are_whole_numbers(seed: object) -> None:
    with pytest.raises(ValueError, match=r"expected seed to be a whole number from 0 to .*, got "):
        Dataset(**arrays()).subset(3, seed=seed)  # type: ignore[arg-type]


def test_subset_is_random_fixed_and_nested() -> None:
    data = datasets.digits()
    some, fewer = data.subset(100, 50), data.subset(30)
    assert (len(some.x_train), len(some.y_train), len(some.x_test)) == (100, 100, 50)
    np.testing.assert_array_equal(fewer.x_train, some.x_train[:30])
    assert len(fewer.x_test) == 297
    assert some.n_classes == 10
    assert len(np.unique(some.y_train)) == 10
    assert not np.array_equal(some.x_train, data.subset(100, seed=1).x_train)
    rows = {(x.tobytes(), y) for x, y in zip(data.x_train, data.y_train, strict=True)}
    assert all((x.tobytes(), y) in rows for x, y in zip(some.x_train, some.y_train, strict=True))
    with pytest.raises(ValueError, match=r"expected n_train to be a whole number from 1 to 1500, got 1501"):
        data.subset(1501)
    with pytest.raises(ValueError, match="expected n_test to be a whole number from 1 to 297, got 0"):
        data.subset(5, 0)


# --- the bundled digits ---


def test_digits_shapes_counts_and_range() -> None:
    data = datasets.digits()
    assert data.x_train.shape == (1500, 64)
    assert data.x_test.shape == (297, 64)
    assert data.x_train.dtype == np.float64
    assert data.y_train.dtype == np.int64
    assert (data.name, data.image_shape, data.n_classes) == ("digits", (8, 8, 1), 10)
    train, test = np.bincount(data.y_train), np.bincount(data.y_test)
    np.testing.assert_array_equal(train + test, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    assert set(test) <= {29, 30}
    x = np.concatenate([data.x_train, data.x_test])
    assert (x.min(), x.max()) == (0, 1)
    np.testing.assert_array_equal(x * 16, np.rint(x * 16))
    assert (
        x.reshape(-1, 8, 8)[:, :, 0].mean() < 0.01 < 0.4 < x.reshape(-1, 8, 8)[:, 2:6, 3].mean()
    )  # ink is 1


def test_digits_split_is_disjoint_and_fixed() -> None:
    data = datasets.digits()
    rows = {x.tobytes() for x in np.concatenate([data.x_train, data.x_test])}
    assert len(rows) == 1797
    content = b"".join(
        np.rint(a * scale).astype(np.uint8).tobytes()
        for a, scale in ((data.x_train, 16), (data.y_train, 1), (data.x_test, 16), (data.y_test, 1))
    )
    assert (
        hashlib.sha256(content).hexdigest()
        == "d4da056ec4ae53451b4da417eafb6d202b001549afc8315e585df013ae0817d8"
    )


def test_digits_as_images_and_in_float32() -> None:
    flat, images = datasets.digits(), datasets.digits(images=True, dtype="float32")
    assert images.x_train.shape == (1500, 8, 8, 1)
    assert images.x_train.dtype == images.x_test.dtype == np.float32
    np.testing.assert_array_equal(
        images.x_test.reshape(297, 64), flat.x_test
    )  # sixteenths are exact in float32


def test_principal_components_of_the_digits() -> None:
    pixels, data = datasets.digits(), datasets.digits(components=16)
    assert data.x_train.shape == (1500, 16)
    assert data.image_shape is None
    close(data.x_train.mean(axis=0), 0)
    assert np.abs(data.x_test.mean(axis=0)).max() > 1e-3  # the mean is the training set's
    covariance = data.x_train.T @ data.x_train / 1500
    variances = np.diag(covariance)
    close(covariance, np.diag(variances))
    assert (np.diff(variances) < 0).all()
    assert variances[0] > 2 * variances[4] > 0  # not whitened
    # the oracle: eigenvalues of the covariance
    largest = np.linalg.eigvalsh(np.cov(pixels.x_train.T, bias=True))[::-1][:16]
    close(variances, largest)
    np.testing.assert_array_equal(data.y_train, pixels.y_train)


def test_all_principal_components_are_a_rotation() -> None:
    pixels = datasets.digits()
    mean = pixels.x_train.mean(axis=0)
    rank = int(np.linalg.matrix_rank(pixels.x_train - mean))
    data = datasets.digits(components=rank)
    V = np.linalg.lstsq(pixels.x_train - mean, data.x_train, rcond=None)[0]  # the map, found from outside
    close(V.T @ V, np.eye(rank))
    close((pixels.x_test - mean) @ V, data.x_test)  # the same map and mean
    assert (V[np.abs(V).argmax(axis=0), np.arange(rank)] > 0).all()  # signs
    close(datasets.digits(components=3).x_test, data.x_test[:, :3])
    close(datasets.digits(3, dtype=np.float32).x_test, data.x_test[:, :3], 1e-6)


@pytest.mark.parametrize("components", [0, -1, 64, 65, 2.5, "16", True])
def test_digits_refuse_wrong_components(components: object) -> None:
    with pytest.raises(
        ValueError, match=rf"expected components .* whole number from 1 to \d\d, got {components!r}"
    ):
        datasets.digits(components=components)


def test_digits_refuse_images_of_components_and_other_types() -> None:
    with pytest.raises(
        ValueError, match="expected images=False with components, got images=True with components=4"
    ):
        datasets.digits(components=4, images=True)
    for dtype in ("int64", "float16"):
        with pytest.raises(ValueError, match=f"expected dtype float32 or float64, got {dtype}"):
            datasets.digits(dtype=dtype)


# --- IDX ---


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_reads_what_was_written(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape)
    read = datasets.read_idx(write(tmp_path / f"array{suffix}", idx_bytes(array)), ndim=len(shape))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


def test_idx_goes_by_content_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "unpacked-by-a-browser.gz"
    path.write_bytes(idx_bytes(np.arange(5)))
    np.testing.assert_array_equal(datasets.read_idx(path), np.arange(5))


IMAGES = idx_bytes(np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"file: expected an IDX file .* plain or gzip .*, got an empty file"),
        (b"\0\0", r"expected an IDX file .*, got 00 00"),
        (b"\0\0\x0d\x03" + IMAGES[4:], r"expected an IDX file of unsigned bytes.*, got 00 00 0d 03"),
        (b"\0\0\x08\0", r"expected an IDX file .*, got 00 00 08 00"),
        (b"\x89PNG" + IMAGES, r"expected an IDX file .*, got 89 50 4e 47"),
        (IMAGES[:10], r"file: expected a header of 16 bytes, got 10 bytes: the file is truncated"),
        (IMAGES[:-3], r"file: expected 40 bytes for shape \(2, 3, 4\), got 37: the file is truncated"),
        (IMAGES + b"xy", r"expected 40 bytes for shape \(2, 3, 4\), got more: the file has trailing bytes"),
        (idx_bytes(np.zeros((0, 3, 4))), r"expected at least one example, got shape \(0, 3, 4\)"),
        (
            idx_bytes(np.zeros(5)),
            r"expected images with 3 dimensions \(magic number 00 00 08 03\), got labels with 1 ",
        ),
        (idx_bytes(np.zeros((5, 2))), r"got an array with 2 dimensions \(00 00 08 02\)"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_refuses(tmp_path: Path, content: bytes, message: str, suffix: str) -> None:
    path = write(tmp_path / f"file{suffix}", content)
    with pytest.raises(ValueError, match=message.replace("file:", f"file{suffix}:")):
        datasets.read_idx(path, ndim=3)


@pytest.mark.parametrize("how", DAMAGES)
def test_idx_refuses_damaged_gzip(tmp_path: Path, how: str) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(damaged(idx_bytes(np.random.default_rng(0).integers(0, 256, (9, 9, 9))), how))
    with pytest.raises(
        ValueError, match=r"images.gz: expected a complete gzip file, got a truncated or damaged one"
    ):
        datasets.read_idx(path)


# --- MNIST ---


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_from_a_folder(tmp_path: Path, suffix: str) -> None:
    written = small_mnist()
    data = datasets.mnist(write_mnist(tmp_path, written, suffix))
    assert (data.name, data.image_shape, data.n_classes) == ("mnist", (28, 28, 1), 10)
    assert data.x_train.shape == (7, 784)
    np.testing.assert_allclose(data.x_train.reshape(7, 28, 28), written["train-images-idx3-ubyte"] / 255)
    np.testing.assert_array_equal(data.y_train, written["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(data.y_test, written["t10k-labels-idx1-ubyte"])
    assert data.y_train.dtype == np.int64
    images = datasets.mnist(str(tmp_path), images=True, dtype=np.float32)
    assert images.x_test.shape == (3, 28, 28, 1)
    assert images.x_test.dtype == np.float32
    close(images.x_test.reshape(3, 784), data.x_test, 1e-6)


@pytest.mark.parametrize("size", [1, 7, 14, 16, 27])
def test_area_averaging_is_exact(size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28))
    # the oracle: repeat each pixel `size` times, then average whole blocks of 28
    big = pixels.repeat(size, axis=1).repeat(size, axis=2)
    expected = big.reshape(3, size, 28, size, 28).mean(axis=(2, 4)) / 255
    small = shrink(pixels.astype(np.uint8), size)
    np.testing.assert_allclose(small, expected)
    close(small.mean(axis=(1, 2)), pixels.mean(axis=(1, 2)) / 255)  # mean ink
    R = area_weights(28, size)
    close(R.sum(axis=1), 1)
    close(R.sum(axis=0), size / 28)


def test_mnist_in_small(mnist_folder: Path) -> None:
    data = datasets.mnist(mnist_folder, size=16, images=True)
    assert data.x_train.shape == (7, 16, 16, 1)
    assert (data.name, data.image_shape) == ("mnist-16x16", (16, 16, 1))
    ink = datasets.mnist(mnist_folder).x_train.mean(axis=1)
    close(data.x_train.mean(axis=(1, 2, 3)), ink)
    rough = datasets.mnist(mnist_folder, size=16, images=True, dtype="float32").x_train
    assert rough.dtype == np.float32
    close(rough, data.x_train, 1e-6)
    for size in (0, 29, 16.0, None):
        with pytest.raises(ValueError, match=rf"expected size to be a whole number from 1 to 28, got {size}"):
            datasets.mnist(mnist_folder, size=size)


def test_many_images_are_shrunk_in_blocks() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4100, 4, 4)).astype(np.uint8)
    expected = pixels.reshape(4100, 2, 2, 2, 2).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(shrink(pixels, 2), expected)


def test_mnist_refuses_swapped_files(mnist_folder: Path) -> None:
    images, labels = (mnist_folder / f"train-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    content = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"train-images.*expected images .*are the files of images and labels swapped"
    ):
        datasets.mnist(mnist_folder)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "train-labels-idx1-ubyte",
            np.zeros(6),
            r"train-labels.*expected 7 labels, one for each image of train-images-idx3-ubyte.gz, got 6",
        ),
        (
            "t10k-labels-idx1-ubyte",
            np.array([1, 10, 2]),
            r"t10k-labels.*: expected labels 0..9, got 10 in example 1",
        ),
        (
            "t10k-images-idx3-ubyte",
            np.zeros((3, 27, 28)),
            r"t10k-images.*expected images of 28x28 pixels, got 27x28",
        ),
    ],
)
def test_mnist_refuses(mnist_folder: Path, name: str, array: np.ndarray, message: str) -> None:
    write(mnist_folder / f"{name}.gz", idx_bytes(array))
    with pytest.raises(ValueError, match=message):
        datasets.mnist(mnist_folder)


def test_mnist_names_what_is_missing(mnist_folder: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"expected folder= to name an existing folder, got .*nowhere"
    ):
        datasets.mnist(mnist_folder / "nowhere")
    (mnist_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"expected t10k-labels-idx1-ubyte.gz or t10k-labels-idx1-ubyte in "
    ):
        datasets.mnist(mnist_folder)


# --- USPS ---


def test_usps_from_a_folder(usps_folder: Path) -> None:
    values, labels = small_usps(6, 0)
    data = datasets.usps(usps_folder)
    assert (data.name, data.image_shape, data.n_classes) == ("usps", (16, 16, 1), 10)
    assert data.x_test.shape == (4, 256)
    close(data.x_train, (values + 1) / 2)
    np.testing.assert_array_equal(data.y_train, labels)
    assert data.y_train.dtype == np.int64
    images = datasets.usps(usps_folder, images=True, dtype="float32")
    assert images.x_train.shape == (6, 16, 16, 1)
    assert images.x_train.dtype == np.float32
    close(images.x_train.reshape(6, 256), data.x_train, 1e-6)


def test_usps_white_space_and_packing_do_not_matter(tmp_path: Path) -> None:
    values, labels = small_usps(4, 0)
    spread = [f"  {line.replace(' ', '   ')} \r" for line in usps_lines(values, labels)] + [""]
    read = datasets.read_usps(write_lines(tmp_path / "zip.train", spread))
    np.testing.assert_array_equal(read[0], values)
    np.testing.assert_array_equal(read[1], labels)
    assert usps_digest(*read) == usps_digest(values, labels)
    assert usps_digest(values + 0.001, labels) != usps_digest(values, labels)
    assert usps_digest(values, (labels + 1) % 10) != usps_digest(values, labels)
    np.testing.assert_equal(
        usps_digest(np.zeros((1, 256)), labels[:1]), usps_digest(-np.zeros((1, 256)), labels[:1])
    )


def edit_field(column: int, value: str) -> Callable[[str], str]:
    def edit(line: str) -> str:
        fields = line.split()
        fields[column] = value
        return " ".join(fields)

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda line: line.rsplit(" ", 1)[0],
            r"line 3: expected 257 columns \(a label and 256 values\), got 256",
        ),
        (lambda line: line + " 0.5", r"line 3: expected 257 columns .*, got 258"),
        (edit_field(5, "1.0010"), r"line 3: expected values in \[-1, 1\], got 1.0010 in column 6"),
        (edit_field(256, "-7"), r"line 3: expected values in \[-1, 1\], got -7 in column 257"),
        (edit_field(9, "nan"), r"line 3: expected values in \[-1, 1\], got nan in column 10"),
        (edit_field(9, "abc"), r"line 3: expected numbers \(could not convert string to float: 'abc'\)"),
        (edit_field(0, "3.5"), r"line 3: expected a whole number 0..9 as label, got 3.5"),
        (edit_field(0, "10"), r"line 3: expected a whole number 0..9 as label, got 10"),
        (edit_field(0, "-1"), r"line 3: expected a whole number 0..9 as label, got -1"),
        (edit_field(0, "nan"), r"line 3: expected a whole number 0..9 as label, got nan"),
    ],
)
def test_usps_refuses(usps_folder: Path, edit: Callable[[str], str], message: str) -> None:
    lines = usps_lines(*small_usps(6, 0))
    lines[2] = edit(lines[2])
    write_lines(usps_folder / "zip.train.gz", lines)
    with pytest.raises(ValueError, match=rf"zip.train.gz, {message}"):
        datasets.usps(usps_folder)


def test_usps_refuses_what_is_not_text_or_empty(usps_folder: Path) -> None:
    write(usps_folder / "zip.test.gz", b"\n \n")
    with pytest.raises(ValueError, match=r"zip.test.gz: expected at least one line of numbers, got none"):
        datasets.usps(usps_folder)
    write(usps_folder / "zip.test.gz", b"BZh9\xff\xfe")
    with pytest.raises(
        ValueError, match=r"zip.test.gz: expected numbers as text, plain or gzip, got other bytes"
    ):
        datasets.usps(usps_folder)
    (usps_folder / "zip.test.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected zip.test.gz or zip.test in "):
        datasets.usps(usps_folder)


@pytest.mark.parametrize("how", DAMAGES)
def test_usps_refuses_damaged_gzip(usps_folder: Path, how: str) -> None:
    content = "\n".join(usps_lines(*small_usps(6, 0))).encode()
    (usps_folder / "zip.train.gz").write_bytes(damaged(content, how))
    with pytest.raises(
        ValueError, match=r"zip.train.gz: expected a complete gzip file, got a truncated or damaged"
    ):
        datasets.usps(usps_folder)


# --- FILE.npz ---


def mine(**changes: object) -> dict[str, np.ndarray]:
    made = arrays(**changes)
    del made["name"]
    return {key: value for key, value in made.items() if value is not None}


def test_npz_in_four_arrays(tmp_path: Path) -> None:
    made = mine(y_train=(np.arange(12) % 3).astype(np.uint8), y_test=(np.arange(5) % 3).astype(np.uint8))
    np.savez(tmp_path / "mine.npz", **made, comment="other arrays are left alone")
    data = datasets.from_npz(tmp_path / "mine.npz")
    assert (data.name, data.n_classes, data.image_shape) == ("mine", 3, None)
    for key, array in made.items():
        np.testing.assert_array_equal(getattr(data, key), array)
    assert data.y_test.dtype == np.int64
    assert datasets.from_npz(str(tmp_path / "mine.npz"), dtype="float32").x_test.dtype == np.float32


@pytest.mark.parametrize("names", [("x", "y"), ("x_train", "y_train")])
def test_npz_in_two_arrays_is_split_for_good(tmp_path: Path, names: tuple[str, str]) -> None:
    x = np.arange(60.0).reshape(30, 2)
    np.savez_compressed(tmp_path / "all.npz", **{names[0]: x, names[1]: np.arange(30)})
    data, again = (datasets.from_npz(tmp_path / "all.npz") for _ in range(2))
    assert (len(data.x_train), len(data.x_test)) == (25, 5)
    np.testing.assert_array_equal(data.x_test, again.x_test)
    np.testing.assert_array_equal(np.sort(np.concatenate([data.y_train, data.y_test])), np.arange(30))
    np.testing.assert_array_equal(data.x_train, x[data.y_train])
    np.savez(tmp_path / "two.npz", x=x[:2], y=[0, 1])
    assert len(datasets.from_npz(tmp_path / "two.npz").x_test) == 1
    np.savez(tmp_path / "one.npz", x=x[:1], y=[0])
    with pytest.raises(ValueError, match=r"expected at least 2 examples to split .*, got 1"):
        datasets.from_npz(tmp_path / "one.npz")


@pytest.mark.parametrize("shape", [(20, 4, 3), (20, 4, 3, 2)])
def test_npz_of_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x, y = np.random.default_rng(0).random(shape), np.random.default_rng(1).random((20, 2))
    np.savez(tmp_path / "images.npz", x=x, y=y)
    flat = datasets.from_npz(tmp_path / "images.npz")
    images = datasets.from_npz(tmp_path / "images.npz", images=True)
    channels = x.size // 240
    assert flat.image_shape == images.image_shape == (4, 3, channels)
    assert images.x_train.shape == (17, 4, 3, channels)
    np.testing.assert_array_equal(flat.x_train, images.x_train.reshape(17, -1))
    assert flat.y_train.shape == (17, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(y_test=None), r"expected the arrays x_train and y_train .*, got x_test, x_train, y_train"),
        (dict(x_train=None, y_train=None), r"expected the arrays .*, or x and y, got x_test, y_test"),
        (dict(x=np.zeros((3, 4)), y=np.arange(3)), r"got x, x_test, x_train, y, y_test, y_train"),
        (
            dict(x_train=np.full((12, 4), np.nan)),
            r"x_train: expected finite numbers, got NaN or infinity in 12 of 12",
        ),
        (dict(x_test=np.full((5, 4), np.inf)), r"x_test: expected finite numbers"),
        (dict(x_test=np.zeros((4, 4))), r"y_test: expected 4 labels .* x_test \(4, 4\), got \(5,\)"),
        (
            dict(x_train=np.zeros((12, 8, 8), np.uint8)),
            r"x_train: expected floats, got uint8; divide images by 255",
        ),
        (
            dict(x_train=np.zeros((0, 4)), y_train=np.zeros(0, int)),
            r"expected at least one example .*, got \(0, 4\)",
        ),
        (
            dict(x_train=np.array(3.0)),
            r"x_train: expected \(N, features\), images .*, got \(\)",
        ),
        (dict(x_train=np.array([["a"] * 4] * 12)), r"x_train: expected floats, got <U1"),
        (
            dict(x_test=np.zeros((5, 3))),
            r"expected x_test like x_train \(12, 4\) float64, got \(5, 3\) float64",
        ),
        (dict(y_train=np.arange(12.0)), r"y_train: expected labels \(N,\) of an integer type"),
        (dict(y_train=-np.arange(12)), r"y_train: expected labels from 0, got -1 in example 1"),
        (
            dict(y_train=np.array([{}] * 12)),
            r"expected an archive of arrays of numbers, .*y_train.npy with objects, which only pickle could",
        ),
    ],
)
def test_npz_refuses(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    np.savez(tmp_path / "mine.npz", **mine(**changes))
    with pytest.raises(ValueError, match=rf"mine(.npz)?: .*{message}|mine.npz: {message}"):
        datasets.from_npz(tmp_path / "mine.npz")


def test_npz_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with pytest.raises(FileNotFoundError, match=r"expected an .npz file, got no file .*mine.npz"):
        datasets.from_npz(path)
    np.savez(path)
    with pytest.raises(ValueError, match=r"mine.npz: expected the arrays .*, got none"):
        datasets.from_npz(path)
    np.savez(path, **mine())
    with pytest.raises(ValueError, match=r"expected images .* with images=True, got inputs \(12, 4\)"):
        datasets.from_npz(path, images=True)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(
        ValueError,
        match=r"mine.npz: expected an archive of arrays of numbers, .*, got another kind of file",
    ):
        datasets.from_npz(path)
    altered = bytearray(content)
    altered[300] ^= 0xFF  # inside the first array
    path.write_bytes(bytes(altered))
    with pytest.raises(ValueError, match=r"mine.npz: expected an archive .*a damaged one \(Bad CRC-32"):
        datasets.from_npz(path)


# --- the cache ---


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("pooch")
    monkeypatch.setenv("MINIKFAC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the web: what pooch would download is copied from there by its name."""
    import pooch.core

    folder = tmp_path / "server"
    folder.mkdir()

    def copy(url: str, output_file: str, pooch: object) -> None:
        source = folder / url.rsplit("/", 1)[1]
        if not source.exists():
            raise OSError(f"404 Client Error: Not Found for url: {url}")
        shutil.copy(source, output_file)

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, progressbar=False: copy)
    return folder


def serve_small_mnist(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["minikfac.datasets.mnist"]
    write_mnist(server, small_mnist())
    packed, content = {}, {}
    for name, array in small_mnist().items():
        packed[name] = hashlib.md5((server / f"{name}.gz").read_bytes()).hexdigest()
        content[name] = hashlib.md5(idx_bytes(array)).hexdigest()
    monkeypatch.setattr(module, "GZIP_MD5", packed)
    monkeypatch.setattr(module, "CONTENT_MD5", content)


def where(name: str) -> str:
    return {row.name: row.where for row in datasets.available()}[name]


def test_mnist_is_fetched_once(server: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_small_mnist(server, monkeypatch)
    assert where("mnist") == "not fetched"
    assert datasets.fetch("mnist") == cache / "mnist"
    assert where("mnist") == "cached"
    assert all(status.startswith("ok: ") for _, status in datasets.check("mnist"))
    shutil.rmtree(server)
    assert len(datasets.mnist().x_train) == 7  # from the cache alone


def test_mnist_altered_in_the_cache_is_fetched_anew(
    server: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_small_mnist(server, monkeypatch)
    datasets.fetch("mnist")
    file = cache / "mnist" / "t10k-labels-idx1-ubyte.gz"
    write(file, idx_bytes(np.zeros(3)))
    np.testing.assert_array_equal(datasets.mnist().y_test, [6, 5, 0])


def test_a_download_with_another_checksum_is_refused(server: Path, cache: Path) -> None:
    write_mnist(server, small_mnist())  # not the official files
    with pytest.raises(
        ValueError, match=r"mnist: could not fetch train-images-idx3-ubyte.gz from .* \(.*hash.*folder="
    ):
        datasets.mnist()
    assert list((cache / "mnist").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("usps", "zip.train.gz"),
        ("cifar10", "cifar-10-binary.tar.gz"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_a_failed_download_says_what_to_do(server: Path, name: str, file: str) -> None:
    with pytest.raises(ConnectionError) as caught:
        datasets.load(name)
    message = str(caught.value)
    assert message.startswith(f"{name}: could not fetch {file} from http")
    assert "404 Client Error" in message
    assert message.endswith("if you have the files, pass folder= with the folder that holds them")
    assert "\n" not in message


def test_usps_download_is_judged_by_its_values(
    server: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["minikfac.datasets.usps"]
    parts = {"zip.train": small_usps(6, 0), "zip.test": small_usps(4, 1)}
    for name, part in parts.items():
        write_lines(server / f"{name}.gz", usps_lines(*part))
    with pytest.raises(
        ValueError, match=r"zip.train.gz: expected sha256 .*; removed it from the cache: try again"
    ):
        datasets.usps()
    assert not (cache / "usps" / "zip.train.gz").exists()
    monkeypatch.setattr(module, "SHA256", {name: usps_digest(*part) for name, part in parts.items()})
    assert len(datasets.usps().x_test) == 4
    assert where("usps") == "cached"
    assert [status[:3] for _, status in datasets.check("usps")] == ["ok:", "ok:"]
    assert datasets.fetch("usps") == cache / "usps"
    (cache / "usps" / "zip.test.gz").write_bytes(b"\x1f\x8b cut")
    with pytest.raises(
        ValueError, match=r"zip.test.gz: expected a complete gzip file.*removed it from the cache"
    ):
        datasets.usps()
    assert len(datasets.usps().x_test) == 4  # fetched anew


def serve_small_cifar(server: Path, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    """Serve an archive with a folder, a link and a file that nobody asked for besides the wanted ones."""
    module = sys.modules["minikfac.datasets.cifar10"]
    folder, link = tarfile.TarInfo("cifar-10-batches-bin"), tarfile.TarInfo("cifar-10-batches-bin/link.bin")
    folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "/etc/passwd"
    named = {f"cifar-10-batches-bin/{name}": content for name, content in contents.items()}
    archive = tar_bytes(named | {"../outside.bin": b"outside", "readme.html": b"<html>"}, folder, link)
    (server / "cifar-10-binary.tar.gz").write_bytes(archive)
    monkeypatch.setattr(module, "MD5", hashlib.md5(archive).hexdigest())
    sums = {name: hashlib.sha256(cifar_contents()[name]).hexdigest() for name in CIFAR_FILES}
    monkeypatch.setattr(module, "SHA256", sums)


def test_cifar10_is_fetched_once_and_unpacked(
    server: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_small_cifar(server, monkeypatch, cifar_contents())
    assert where("cifar10") == "not fetched"
    assert datasets.fetch("cifar10") == cache / "cifar10"
    assert where("cifar10") == "cached"
    assert {path.name for path in cache.rglob("*")} == {
        "cifar10",
        *cifar_contents(),
    }  # nothing else, anywhere
    assert not (cache.parent / "outside.bin").exists()
    assert {status[:3] for _, status in datasets.check("cifar10")} == {"ok:"}
    shutil.rmtree(server)
    data = datasets.cifar10()  # from the cache alone
    assert data.x_train.shape == (10, 32, 32, 3)
    np.testing.assert_array_equal(data.y_test, small_cifar(3, 5)[1])


@pytest.mark.parametrize("name", ["data_batch_3.bin", "batches.meta.txt"])
def test_cifar10_altered_in_the_cache_is_fetched_anew(
    server: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    serve_small_cifar(server, monkeypatch, cifar_contents())
    path = datasets.fetch("cifar10") / name
    if name.endswith(".bin"):
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(bytes(content))
    else:
        path.unlink()
    datasets.cifar10()
    assert path.read_bytes() == cifar_contents()[name]


def test_cifar10_refuses_another_archive(server: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (server / "cifar-10-binary.tar.gz").write_bytes(tar_bytes({}))
    with pytest.raises(ValueError, match=r"cifar10: could not fetch cifar-10-binary.tar.gz from .* \(.*hash"):
        datasets.cifar10()
    assert list((cache / "cifar10").iterdir()) == []
    serve_small_cifar(server, monkeypatch, {**cifar_contents(), "data_batch_2.bin": b"\0" * 3073})
    with pytest.raises(ValueError, match=r"cifar10: expected files with the checksums of CIFAR-10"):
        datasets.cifar10()


def test_unpacking_writes_what_was_asked_for_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    path = folder / "archive.tar.gz"
    path.write_bytes(tar_bytes({"a/b": b"inside", "../c": b"climbs", "a/d": b"unwanted"}))
    extract(path, {"a/b": "b", "../c": "c"}, 6)
    assert {file.name for file in folder.iterdir()} == {"archive.tar.gz", "b", "c"}
    assert ((folder / "b").read_bytes(), (folder / "c").read_bytes()) == (b"inside", b"climbs")
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(ValueError, match=r"archive.tar.gz: expected the files a/b, a/x, got no a/x"):
        extract(path, {"a/b": "b", "a/x": "x"}, 6)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_unpacking_refuses_what_is_not_a_file(tmp_path: Path, kind: bytes) -> None:
    secret, info = tmp_path / "secret", tarfile.TarInfo("wanted")
    secret.write_text("secret")
    info.type, info.linkname = kind, str(secret)
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(tar_bytes({}, info))
    with pytest.raises(ValueError, match=r"expected the files wanted, got no wanted"):
        extract(path, {"wanted": "wanted"}, 50_000)
    assert not (tmp_path / "wanted").exists()


@pytest.mark.parametrize("how", ["truncated", "cut in the header", "not packed"])
def test_unpacking_refuses_damaged_archives(tmp_path: Path, how: str) -> None:
    path, content = tmp_path / "archive.tar.gz", np.random.default_rng(0).bytes(50_000)
    archive = tar_bytes({"first": b"1", "wanted": content})
    cut = {"truncated": archive[:20_000], "cut in the header": archive[:5], "not packed": b"x" * 2000}
    path.write_bytes(cut[how])
    with pytest.raises(
        ValueError, match=r"archive.tar.gz: expected a complete (.tar.gz|gzip file), got a truncated or"
    ):
        extract(path, {"wanted": "wanted"}, 50_000)
    assert not (tmp_path / "wanted").exists()  # half a file is no file


def test_svhn_is_fetched_once(server: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("train_32x32.mat", "test_32x32.mat")):
        images, labels = small_cifar(4, seed)
        write_svhn(server / name, images, labels + 1)
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in server.iterdir()}
    with pytest.raises(ValueError, match=r"svhn: could not fetch train_32x32.mat from http.* \(.*hash"):
        datasets.fetch("svhn")
    monkeypatch.setattr(sys.modules["minikfac.datasets.svhn"], "MD5", sums)
    assert datasets.fetch("svhn") == cache / "svhn"
    assert where("svhn") == "cached"
    assert [status[:3] for _, status in datasets.check("svhn")] == ["ok:", "ok:"]
    shutil.rmtree(server)
    assert datasets.svhn().x_test.shape == (4, 32, 32, 3)


def test_without_pooch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIKFAC_CACHE", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert where("digits") == "bundled"
    assert where("mnist") == "not fetched"
    with pytest.raises(
        ImportError, match=r"expected pooch, which downloads and caches files, got none: pip install"
    ):
        datasets.mnist()


def test_import_needs_no_library_for_files_and_bars() -> None:
    code = "import sys, minikfac.datasets as d, minikfac.training; d.digits(); "
    code += "exit(len({'pooch', 'tqdm', 'filelock'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the catalogue ---


def test_load_by_name_and_path(tmp_path: Path, mnist_folder: Path) -> None:
    assert datasets.load("digits", components=5).x_train.shape == (1500, 5)
    assert datasets.load("mnist", folder=mnist_folder, size=8, images=True).x_train.shape == (7, 8, 8, 1)
    np.savez(tmp_path / "own.npz", **mine())
    assert datasets.load(tmp_path / "own.npz", dtype="float32").x_train.dtype == np.float32
    assert datasets.load(str(tmp_path / "own.npz")).name == "own"


def test_load_usps(usps_folder: Path) -> None:
    assert datasets.load("usps", folder=usps_folder).x_train.shape == (6, 256)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mnits",
            {},
            r"expected one of digits, mnist, usps, cifar10, svhn, curves or .*, got 'mnits'; .*mean mnist\?",
        ),
        ("MNIST", {}, r"got 'MNIST'; did you mean mnist\?"),
        ("cifar-10", {}, r"got 'cifar-10'; did you mean cifar10\?"),
        ("imagenet", {}, r"expected one of digits, mnist, usps, .*, got 'imagenet'$"),
        ("mine.npy", {}, r"or the path of an .npz file, got 'mine.npy'$"),
        ("digits", {"size": 8}, r"digits: expected options among components, images, dtype, .*, got size"),
        ("digits", {"folder": "."}, r"digits: expected options among components, images, .*, got folder"),
        (
            "mnist",
            {"components": 3},
            r"mnist: expected options among folder, size, images, dtype, n_train, n_test, got components",
        ),
        (
            "svhn",
            {"size": 3},
            r"svhn: expected options among folder, images, dtype, n_train, .*, got size",
        ),
        ("mine.npz", {"size": 3}, r"an .npz file: expected options among images, dtype, .*, got size"),
    ],
)
def test_load_refuses(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.load(name, **options)


def test_available_lists_all_sets(cache: Path) -> None:
    rows = datasets.available()
    assert [row.name for row in rows] == ["digits", "mnist", "usps", "cifar10", "svhn", "curves"]
    assert [row.where for row in rows] == ["bundled", *["not fetched"] * 4, "made here"]
    assert "CC BY 4.0" in rows[0].licence
    assert all(row.what and row.images and row.size and row.licence and row.source for row in rows)
    assert not cache.exists()


def test_digits_need_no_fetching() -> None:
    assert (datasets.fetch("digits") / "digits.npz").is_file()
    with pytest.raises(ValueError, match="expected one of digits, mnist, usps"):
        datasets.fetch("nothing")


def test_check_of_mnist(mnist_folder: Path) -> None:
    (mnist_folder / "train-labels-idx1-ubyte.gz").unlink()
    write(mnist_folder / "t10k-images-idx3-ubyte.gz", idx_bytes(np.zeros((4, 28, 28))))
    report = dict(datasets.check("mnist", mnist_folder))
    assert report["train-images-idx3-ubyte.gz"].startswith(
        "altered: 7 images of 28x28, but expected md5 6bbc9ace898e"
    )
    assert report["train-labels-idx1-ubyte.gz"].startswith("missing: expected train-labels-idx1-ubyte.gz or ")
    assert report["t10k-labels-idx1-ubyte.gz"] == "broken: expected 4 labels, one for each image, got 3"
    (mnist_folder / "t10k-images-idx3-ubyte.gz").write_bytes(
        damaged(idx_bytes(small_mnist()["t10k-images-idx3-ubyte"]), "truncated")
    )
    report = dict(datasets.check("mnist", mnist_folder))
    assert "expected a complete gzip file" in report["t10k-images-idx3-ubyte.gz"]
    assert report["t10k-images-idx3-ubyte.gz"].startswith("broken: ")
    assert report["t10k-labels-idx1-ubyte.gz"].startswith("altered: 3 labels")


def test_check_of_usps(usps_folder: Path) -> None:
    report = dict(datasets.check("usps", usps_folder))
    assert report["zip.train.gz"].startswith("altered: 6 images of 16x16, but expected sha256 bb8c5577af28")
    write_lines(usps_folder / "zip.train.gz", ["1 2 3"])
    (usps_folder / "zip.test.gz").unlink()
    report = dict(datasets.check("usps", usps_folder))
    assert report["zip.train.gz"].startswith("broken: ")
    assert "line 1: expected 257 columns" in report["zip.train.gz"]
    assert report["zip.test.gz"].startswith("missing: expected zip.test.gz")


def test_check_of_an_empty_cache(cache: Path) -> None:
    for name, count in (("mnist", 4), ("usps", 2), ("cifar10", 6), ("svhn", 2)):
        statuses = [status for _, status in datasets.check(name)]
        assert len(statuses) == count
        assert all(status.startswith("missing: ") for status in statuses)


def test_check_of_digits_and_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok = "ok: 1500 training and 297 test images of 8x8, the bundled content"
    assert datasets.check("digits") == [("digits.npz", ok)]
    monkeypatch.setattr(sys.modules["minikfac.datasets.digits"], "SHA256", "0" * 64)
    assert datasets.check("digits")[0][1].startswith("altered: expected sha256 0000")
    path = tmp_path / "own.npz"
    assert datasets.check(path)[0][1].startswith("missing: ")
    np.savez(path, **mine())
    assert datasets.check(path) == [
        ("own.npz", "ok: Dataset(own: 12 train, 5 test, inputs 4 float64, 3 classes)")
    ]
    np.savez(path, x=np.zeros(3))
    assert datasets.check(str(path))[0][1].startswith("broken: ")
    for name in ("digits", path):
        with pytest.raises(
            ValueError, match=r"expected no folder \(it needs none, or is one file\), got folder="
        ):
            datasets.check(name, folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="expected folder= to name an existing folder"):
        datasets.check("mnist", folder=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="did you mean usps"):
        datasets.check("usp")


# --- the real files ---


def test_real_mnist() -> None:
    folder = real("mnist")
    assert [status.split(":")[0] for _, status in datasets.check("mnist", folder)] == ["ok"] * 4
    data = datasets.mnist(folder, dtype=np.float32)
    assert (data.x_train.shape, data.x_test.shape) == ((60000, 784), (10000, 784))
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(data.y_train), train)
    np.testing.assert_array_equal(
        np.bincount(data.y_test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    )
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert (
        abs(data.x_train.mean(dtype=np.float64) - 0.1307) < 1e-4
    )  # the mean that every tutorial normalizes by
    np.testing.assert_array_equal(data.y_train[:5], [5, 0, 4, 1, 9])


def test_real_small_mnist() -> None:
    folder = real("mnist-small")
    assert [status.split(":")[0] for _, status in datasets.check("mnist", folder)] == ["altered"] * 4
    data, small = datasets.mnist(folder), datasets.mnist(folder, size=16)
    assert small.x_train.shape == (10000, 256)
    np.testing.assert_allclose(small.x_test.mean(axis=1), data.x_test.mean(axis=1))
    np.testing.assert_array_equal(
        np.bincount(data.y_test), [189, 222, 212, 242, 196, 186, 158, 215, 193, 187]
    )


def test_real_usps() -> None:
    folder = real("usps")
    assert [status.split(":")[0] for _, status in datasets.check("usps", folder)] == ["ok"] * 2
    data = datasets.usps(folder)
    np.testing.assert_array_equal(
        np.bincount(data.y_train), [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    )
    np.testing.assert_array_equal(
        np.bincount(data.y_test), [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    )
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert data.x_train.reshape(-1, 16, 16)[:, 0, 0].mean() < 0.1  # corners are background
