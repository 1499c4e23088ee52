"""Images: CIFAR-10 and SVHN, shapes that all sets share, contrast normalization and colour whitening.

Small files are written by `dataset_files`; tests of the real files are skipped where there are none.
Downloads are in `test_datasets`.
"""

from __future__ import annotations

import ast
import dataclasses
import gzip
import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from minikfac import cli, datasets
from minikfac.cli import nets
from minikfac.cli.fisher import settings_for
from minikfac.datasets import ColorWhitening, ContrastNormalization, Dataset
from minikfac.datasets.svhn import read_svhn
from oracles import EXACT, FLOAT32, close
from oracles.dataset_files import (
    CIFAR_FILES,
    DAMAGES,
    NAMES,
    cifar_bytes,
    cifar_contents,
    damaged,
    real,
    small_cifar,
    small_mnist,
    small_usps,
    usps_lines,
    write,
    write_lines,
    write_mnist,
    write_svhn,
)

SOURCE = Path(datasets.__file__).parents[1]


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Path:
    for name, content in cifar_contents().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def svhn_folder(tmp_path: Path) -> Path:
    for seed, (part, n) in enumerate((("train", 6), ("test", 3))):
        images, labels = small_cifar(n, seed)
        write_svhn(tmp_path / f"{part}_32x32.mat", images, labels + 1)
    return tmp_path


# --- CIFAR-10 ---


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_cifar10_from_a_folder(tmp_path: Path, suffix: str) -> None:
    for name, content in cifar_contents().items():
        write(tmp_path / (name + suffix * name.endswith("bin")), content)
    data = datasets.cifar10(tmp_path)
    assert (data.name, data.image_shape, data.n_classes) == ("cifar10", (32, 32, 3), 10)
    assert data.class_names == tuple(NAMES.split())
    written = [small_cifar(n, seed) for seed, n in enumerate(CIFAR_FILES.values())]
    close(data.x_train, np.concatenate([images for images, _ in written[:5]]) / 255)
    close(data.x_test, written[5][0] / 255)
    np.testing.assert_array_equal(data.y_train, np.concatenate([labels for _, labels in written[:5]]))
    np.testing.assert_array_equal(data.y_test, written[5][1])
    assert data.y_train.dtype == np.int64
    assert data.x_train.flags.c_contiguous


def test_cifar10_planes_are_red_green_blue_row_by_row(tmp_path: Path) -> None:
    """The pixel in row 1, column 2 of each colour, by its place in the record."""
    record = bytearray(3073)
    record[0] = 7
    for plane, value in enumerate((10, 20, 30)):
        record[1 + 1024 * plane + 32 * 1 + 2] = value
    for name in ("data_batch_4.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(bytes(record))
    data = datasets.cifar10(tmp_path)
    close(data.x_train[0, 1, 2] * 255, [10, 20, 30])
    assert np.count_nonzero(data.x_train) == 3
    assert data.y_train.tolist() == data.y_test.tolist() == [7]
    assert data.class_names is not None and data.class_names[7] == "horse"  # without batches.meta.txt too


def test_cifar10_flat_and_in_float32(cifar_folder: Path) -> None:
    images, flat = datasets.cifar10(cifar_folder), datasets.cifar10(cifar_folder, images=False)
    assert (flat.x_train.shape, flat.image_shape) == ((10, 3072), (32, 32, 3))
    np.testing.assert_array_equal(flat.as_images().x_test, images.x_test)
    rough = datasets.load("cifar10", cifar_folder, dtype="float32")
    assert rough.x_train.dtype == rough.x_test.dtype == np.float32
    close(rough.x_train, images.x_train, FLOAT32)


def test_cifar10_reads_the_batches_that_are_there_in_order(cifar_folder: Path) -> None:
    for name in ("data_batch_1.bin", "data_batch_3.bin", "data_batch_4.bin"):
        (cifar_folder / name).unlink()
    content = (cifar_folder / "data_batch_2.bin").read_bytes()
    write(cifar_folder / "data_batch_2.bin.gz", content)  # preferred, as of all sets
    (cifar_folder / "data_batch_2.bin").write_bytes(b"")
    data = datasets.cifar10(cifar_folder)
    np.testing.assert_array_equal(data.y_train, [*small_cifar(2, 1)[1], *small_cifar(2, 4)[1]])


def test_cifar10_in_pieces(tmp_path: Path) -> None:
    images, labels = small_cifar(17, 0)
    write(tmp_path / "data_batch_1.bin", cifar_bytes(images[:1], labels[:1]))
    # ordered by number, not by name: 10-11 comes before 2-9 in an alphabet; 12-13 is left out
    for name, rows in (
        ("10-11.bin.gz", slice(10, 12)),
        ("2-9.bin.gz", slice(2, 10)),
        ("0-1.bin", slice(0, 2)),
        ("14-16.bin", slice(14, 17)),
    ):
        write(tmp_path / f"test_batch.{name}", cifar_bytes(images[rows], labels[rows]))
    (tmp_path / "test_batch.notes.bin.txt").write_text("no piece")
    data = datasets.cifar10(tmp_path)
    rows = [*range(12), 14, 15, 16]
    close(data.x_test, images[rows] / 255)
    np.testing.assert_array_equal(data.y_test, labels[rows])
    write(tmp_path / "test_batch.bin.gz", cifar_bytes(images[3:4], labels[3:4]))
    np.testing.assert_array_equal(datasets.cifar10(tmp_path).y_test, labels[3:4])  # the whole before pieces


def test_cifar10_refuses_pieces_that_overlap_or_have_other_records(tmp_path: Path) -> None:
    images, labels = small_cifar(6, 0)
    write(tmp_path / "data_batch_1.bin", cifar_bytes(images, labels))
    write(tmp_path / "test_batch.0-3.bin", cifar_bytes(images[:4], labels[:4]))
    write(tmp_path / "test_batch.3-5.bin.gz", cifar_bytes(images[3:], labels[3:]))
    with pytest.raises(ValueError, match=r"3-5.bin.gz: expected pieces .* overlap, got .*0-3.bin too"):
        datasets.cifar10(tmp_path)
    (tmp_path / "test_batch.3-5.bin.gz").unlink()
    write(tmp_path / "test_batch.0-3.bin", cifar_bytes(images[:3], labels[:3]))
    with pytest.raises(ValueError, match=r"0-3.bin: expected records 0 to 3, as its name says, got 3"):
        datasets.cifar10(tmp_path)


WHOLE = cifar_bytes(*small_cifar(2, 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"expected records of 3,073 bytes .*, got 0 bytes: the file is truncated or of another kind"),
        (WHOLE[:-1], r"expected records of 3,073 bytes .*, got 6,145 bytes: the file is truncated"),
        (WHOLE + b"\0", r"expected records of 3,073 bytes .*, got 6,147 bytes"),
        (b"\0" * 2 * 3074, r"expected records of 3,073 bytes .*, got 6,148 bytes"),  # CIFAR-100
        (b"<html>404</html>", r"expected records of 3,073 bytes .*, got 16 bytes"),
        (WHOLE[:3073] + b"\x0a" + WHOLE[3074:], r"expected labels 0..9, got 10 in example 1"),
        (b"\xff" + WHOLE[1:], r"expected labels 0..9, got 255 in example 0"),
    ],
)
@pytest.mark.parametrize("name", ["data_batch_5.bin", "test_batch.bin"])
@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_cifar10_refuses(cifar_folder: Path, name: str, content: bytes, message: str, packed: bool) -> None:
    """Under the name of a gzip file, plain bytes are read as what they are."""
    (cifar_folder / f"{name}.gz").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=rf"{name}.gz: {message}"):
        datasets.cifar10(cifar_folder)


@pytest.mark.parametrize("how", DAMAGES)
def test_cifar10_refuses_damaged_gzip(cifar_folder: Path, how: str) -> None:
    (cifar_folder / "data_batch_1.bin.gz").write_bytes(damaged(WHOLE, how))
    with pytest.raises(ValueError, match=r"data_batch_1.bin.gz: expected a complete gzip file, got a trunc"):
        datasets.cifar10(cifar_folder)


def test_cifar10_says_what_is_missing(cifar_folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected folder= to name an existing .*nowhere"):
        datasets.cifar10(cifar_folder / "nowhere")
    (cifar_folder / "test_batch.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected test_batch.bin.gz .*binary.* in .*, got none"):
        datasets.cifar10(cifar_folder)
    for path in cifar_folder.glob("data_batch_*"):
        path.rename(path.with_suffix(""))
    with pytest.raises(
        FileNotFoundError,
        match=r"expected at least one of data_batch_1.bin.gz .*, got the pickles of",
    ):
        datasets.cifar10(cifar_folder)


def test_cifar10_class_names_come_from_the_file(cifar_folder: Path) -> None:
    names = [f"kind-{i}" for i in range(10)]
    (cifar_folder / "batches.meta.txt").write_text("\n".join(names))
    assert datasets.cifar10(cifar_folder).class_names == tuple(names)
    assert dict(datasets.check("cifar10", cifar_folder))["batches.meta.txt"] == "altered: other class names"
    (cifar_folder / "batches.meta.txt").write_bytes(b"airplane\n\xff\n")
    with pytest.raises(ValueError, match=r"batches.meta.txt: expected 10 class names, .*, got other bytes"):
        datasets.cifar10(cifar_folder)
    assert dict(datasets.check("cifar10", cifar_folder))["batches.meta.txt"].startswith("broken: ")


def test_check_of_cifar10(cifar_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = {name: hashlib.sha256(cifar_contents()[name]).hexdigest() for name in CIFAR_FILES}
    write(cifar_folder / "data_batch_1.bin.gz", cifar_contents()["data_batch_1.bin"])
    (cifar_folder / "data_batch_3.bin").unlink()
    (cifar_folder / "data_batch_4.bin").write_bytes(WHOLE[:100])
    report = dict(datasets.check("cifar10", cifar_folder))
    assert report["data_batch_2.bin"].startswith(
        "altered: 2 images of 32x32, but expected sha256 a591ca11fa1708a91ee40f54b3da4784"
    )
    assert report["data_batch_3.bin"].startswith(
        "missing: expected data_batch_3.bin.gz or data_batch_3.bin in "
    )
    assert "expected records of 3,073 bytes" in report["data_batch_4.bin"]
    monkeypatch.setattr(sys.modules["minikfac.datasets.cifar10"], "SHA256", sums)
    report = dict(datasets.check("cifar10", cifar_folder))
    ok = "ok: 2 images of 32x32, the official content"
    assert report["data_batch_1.bin.gz"] == report["data_batch_2.bin"] == ok  # packed or not
    assert report["batches.meta.txt"] == "ok: 10 class names"
    assert [status.split(":")[0] for status in report.values()] == "ok ok missing broken ok ok ok".split()
    (cifar_folder / "test_batch.bin").rename(cifar_folder / "test_batch.0-2.bin")
    report = dict(datasets.check("cifar10", cifar_folder))
    assert report["test_batch.0-2.bin"].startswith("altered: 3 images of 32x32, a piece")
    assert "test_batch.bin" not in report


# --- SVHN ---


def test_svhn_from_a_folder(svhn_folder: Path) -> None:
    data = datasets.svhn(svhn_folder)
    assert (data.name, data.image_shape, data.n_classes) == ("svhn", (32, 32, 3), 10)
    for seed, (x, y) in enumerate(((data.x_train, data.y_train), (data.x_test, data.y_test))):
        images, labels = small_cifar(len(x), seed)
        close(x, images / 255)
        np.testing.assert_array_equal(y, (labels + 1) % 10)
        assert y.dtype == np.int64 and x.flags.c_contiguous
    flat = datasets.load("svhn", svhn_folder, images=False, dtype="float32")
    assert (flat.x_train.shape, flat.x_train.dtype) == ((6, 3072), np.float32)
    close(flat.as_images().x_train, data.x_train, FLOAT32)


def test_svhn_label_10_is_the_digit_0(tmp_path: Path) -> None:
    images = small_cifar(10, 0)[0]
    read = read_svhn(write_svhn(tmp_path / "train_32x32.mat", images, np.arange(10, 0, -1)))
    assert read[1].tolist() == [0, 9, 8, 7, 6, 5, 4, 3, 2, 1]


def mat(**arrays: object) -> Callable[[Path], None]:
    return lambda path: scipy.io.savemat(path, arrays)


X = np.zeros((32, 32, 3, 2), np.uint8)
Y = np.array([[1], [2]], np.uint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (mat(y=Y), r"expected the arrays X and y, got no X$"),
        (mat(X=X), r"expected the arrays X and y, got no y$"),
        (mat(x=X), r"expected the arrays X and y, got no X and no y$"),
        (mat(X=X / 255, y=Y), r"expected X of bytes \(32, 32, 3, N\), got \(32, 32, 3, 2\) float64"),
        (mat(X=X.transpose(3, 0, 1, 2), y=Y), r"expected X of bytes .*, got \(2, 32, 32, 3\) uint8"),
        (mat(X=X[..., 0], y=Y), r"expected X of bytes .*, got \(32, 32, 3\) uint8"),
        (mat(X=X[:31], y=Y), r"expected X of bytes .*, got \(31, 32, 3, 2\)"),
        (mat(X=X[..., :0], y=Y[:0]), r"expected X of bytes .*, got \(32, 32, 3, 0\) uint8"),
        (mat(X=X, y=Y[:1]), r"expected y of 2 labels, one for each image of X, got \(1, 1\) uint8"),
        (mat(X=X, y="ab"), r"expected y of 2 labels, .*, got \(1, 2\) not numbers"),
        (mat(X=X, y=Y * 0), r"expected labels 1..10, where 10 is the digit 0, got 0 in example 0"),
        (mat(X=X, y=Y + 9), r"expected labels 1..10, .*, got 11 in example 1"),
        (mat(X=X, y=Y + 0.5), r"expected labels 1..10, .*, got 1.5 in example 0"),
        (mat(X=X, y=np.array([1, np.nan])), r"expected labels 1..10, .*, got nan in example 1"),
        (
            lambda path: path.write_bytes(b""),
            r"expected a MATLAB file .*, got another kind of file or a trunc",
        ),
        (lambda path: path.write_bytes(b"<html>404</html>"), r"expected a MATLAB file .*, got another kind"),
        (lambda path: write(path, b"PK\3\4" + bytes(500)), r"expected a MATLAB file .*, got another kind"),
        (
            lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"),
            r"expected a MATLAB file",
        ),
    ],
)
def test_svhn_refuses(svhn_folder: Path, make: Callable[[Path], None], message: str) -> None:
    make(svhn_folder / "test_32x32.mat")
    with pytest.raises(ValueError, match=rf"test_32x32.mat: {message}"):
        datasets.svhn(svhn_folder)
    assert dict(datasets.check("svhn", svhn_folder))["test_32x32.mat"].startswith("broken: ")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_svhn_refuses_truncated_files(svhn_folder: Path, share: float) -> None:
    path = svhn_folder / "train_32x32.mat"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"train_32x32.mat: expected (a MATLAB file|the arrays X and y)"):
        datasets.svhn(svhn_folder)


def test_check_of_svhn(svhn_folder: Path) -> None:
    report = dict(datasets.check("svhn", svhn_folder))
    assert report["train_32x32.mat"].startswith(
        "altered: 6 images of 32x32, but expected md5 e26dedcc434d2e4c"
    )
    (svhn_folder / "train_32x32.mat").unlink()
    report = dict(datasets.check("svhn", svhn_folder))
    assert report["train_32x32.mat"].startswith("missing: expected train_32x32.mat.gz or train_32x32.mat in ")
    with pytest.raises(FileNotFoundError, match=r"expected train_32x32.mat.gz or train_32x32.mat in "):
        datasets.svhn(svhn_folder)


# --- what all sets share ---


def idx_folder(folder: Path) -> Path:
    return write_mnist(folder, small_mnist())


def usps_folder(folder: Path) -> Path:
    write_lines(folder / "zip.train.gz", usps_lines(*small_usps(6, 0)))
    write_lines(folder / "zip.test.gz", usps_lines(*small_usps(4, 1)))
    return folder


def colors_folder(folder: Path) -> Path:
    for name, content in cifar_contents().items():
        (folder / name).write_bytes(content)
    for seed, part in enumerate(("train", "test")):
        images, labels = small_cifar(4, seed)
        write_svhn(folder / f"{part}_32x32.mat", images, labels + 1)
    return folder


def npz_file(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    parts = {f"x_{part}": rng.random((5, 4, 3, 2)) for part in ("train", "test")}
    np.savez(folder / "own.npz", **parts, y_train=np.arange(5), y_test=np.arange(5))
    return folder / "own.npz"


LOADERS: dict[str, tuple[Callable[..., Dataset], tuple[int, int, int]]] = {
    "digits": (lambda folder, **options: datasets.digits(**options), (8, 8, 1)),
    "mnist": (lambda folder, **options: datasets.mnist(idx_folder(folder), **options), (28, 28, 1)),
    "mnist-7x7": (lambda folder, **options: datasets.mnist(idx_folder(folder), size=7, **options), (7, 7, 1)),
    "usps": (lambda folder, **options: datasets.usps(usps_folder(folder), **options), (16, 16, 1)),
    "cifar10": (lambda folder, **options: datasets.cifar10(colors_folder(folder), **options), (32, 32, 3)),
    "svhn": (lambda folder, **options: datasets.svhn(colors_folder(folder), **options), (32, 32, 3)),
    "npz": (lambda folder, **options: datasets.from_npz(npz_file(folder), **options), (4, 3, 2)),
}


@pytest.mark.parametrize("name", LOADERS)
def test_flat_and_images_are_the_same_pixels(tmp_path: Path, name: str) -> None:
    load, shape = LOADERS[name]
    images, flat = load(tmp_path, images=True), load(tmp_path, images=False)
    assert images.image_shape == flat.image_shape == shape
    assert images.x_train.shape == (len(images.y_train), *shape)
    assert flat.x_test.shape == (len(flat.y_test), int(np.prod(shape)))
    for part in ("x_train", "x_test"):
        for there, here in ((images, flat.as_images()), (flat, images.as_vectors())):
            np.testing.assert_array_equal(getattr(here, part), getattr(there, part))
            assert (here.image_shape, here.class_names) == (shape, there.class_names)
    np.testing.assert_array_equal(images.as_images().x_train, images.x_train)  # each does nothing twice
    np.testing.assert_array_equal(flat.as_vectors().as_vectors().x_train, flat.x_train)
    # rows of an image are rows of the array: row 1 begins where row 0 ends
    width = shape[1] * shape[2]
    np.testing.assert_array_equal(images.x_test[0, 1].ravel(), flat.x_test[0, width : 2 * width])


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("images", [True, False])
def test_a_reader_draws_what_subset_draws(tmp_path: Path, name: str, images: bool) -> None:
    load, _ = LOADERS[name]
    drawn = load(tmp_path, images=images, n_train=3, n_test=2)
    subset = load(tmp_path, images=images).subset(3, 2)
    for field in dataclasses.fields(Dataset):
        np.testing.assert_array_equal(getattr(drawn, field.name), getattr(subset, field.name))
    assert (len(drawn.x_train), len(drawn.x_test)) == (3, 2)
    for key in ("n_train", "n_test"):
        for n in (0, 10**6, 2.5):
            with pytest.raises(ValueError, match=rf"expected {key} to be a whole .* 1 to \d+, got {n}"):
                load(tmp_path, **{key: n})


def test_components_are_those_of_all_digits() -> None:
    np.testing.assert_array_equal(
        datasets.digits(5, n_test=7).x_test, datasets.digits(5).subset(None, 7).x_test
    )


def test_what_is_no_image_has_no_images() -> None:
    data = datasets.digits(components=4)
    assert data.as_vectors().x_train.shape == (1500, 4)
    with pytest.raises(
        ValueError,
        match=r"digits: expected images, .*, with image_shape .*, got inputs \(1500, 4\) w",
    ):
        data.as_images()


def test_class_names_are_one_for_each_class() -> None:
    x, y = np.zeros((3, 2)), np.array([0, 1, 2])
    data = Dataset(x, y, x, y, "mine", class_names=("a", "b", "c"))
    assert data.subset(1).class_names == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"mine: expected one class name for each of 3 classes, got 2"):
        Dataset(x, y, x, y, "mine", class_names=("a", "b"))
    with pytest.raises(ValueError, match=r"mine: expected one class name for each of no classes, got 1"):
        Dataset(x, x, x, x, "mine", class_names=("a",))


# --- the command line ---


def test_the_command_line_takes_photographs_flat(cifar_folder: Path) -> None:
    """Its nets are of dense layers."""
    data = nets.load("cifar10", cifar_folder, None, None, "float32")
    assert (data.x_train.shape, data.x_train.dtype) == ((10, 3072), np.float32)
    assert settings_for(data).sizes[0] == 3072


@pytest.mark.parametrize(("name", "bad"), [("cifar10", "6 of 7"), ("svhn", "2 of 2")])
def test_the_command_line_checks_photographs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, bad: str
) -> None:
    folder = str(colors_folder(tmp_path))
    assert cli.run(["data", "check", name, "--folder", folder]) == 2
    out, err = capsys.readouterr()
    assert out.count(": altered: ") == int(bad[0])
    assert err == f"minikfac: {bad} files of {name} are not in order\n"


# --- pickles ---


class Bomb:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_pickles_are_not_loaded(tmp_path: Path, cifar_folder: Path) -> None:
    bomb = np.array([Bomb(tmp_path / "exploded")], dtype=object)
    np.savez(tmp_path / "own.npz", x=np.zeros((1, 2)), y=bomb)
    with pytest.raises(ValueError, match=r"y.npy with objects, which only pickle could load"):
        datasets.from_npz(tmp_path / "own.npz")
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (cifar_folder / name).write_bytes(pickle.dumps({b"data": bomb}))
    with pytest.raises(ValueError, match="expected records of 3,073 bytes"):
        datasets.cifar10(cifar_folder)
    write(tmp_path / "train_32x32.mat", pickle.dumps(bomb))
    with pytest.raises(ValueError, match="expected a MATLAB file"):
        datasets.svhn(tmp_path)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(bomb))  # the control: it does go off
    assert (tmp_path / "exploded").exists()


def test_the_package_never_unpickles() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                assert not names & {"pickle", "cPickle", "joblib", "dill", "shelve"}, path
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "load"
            ):
                if isinstance(node.func.value, ast.Name) and node.func.value.id in ("np", "numpy"):
                    allowed = {key.arg: ast.unparse(key.value) for key in node.keywords}
                    assert allowed.get("allow_pickle") == "False", path


# --- contrast normalization ---


def images_of(
    n: int = 6, height: int = 5, width: int = 4, colors: int = 3, seed: int = 0, dtype: str = "float64"
) -> np.ndarray:
    """Images of different brightness and contrast, of colours that are correlated."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(colors) + 0.3 * rng.random((colors, colors))
    x = rng.random((n, height, width, colors)) @ mixing * rng.uniform(0.2, 2, (n, 1, 1, 1))
    return (x + rng.random((n, 1, 1, 1))).astype(dtype)


def loop_contrast(image: np.ndarray, scale: float, regularizer: float) -> np.ndarray:
    numbers = [float(value) for value in image.ravel()]
    mean = sum(numbers) / len(numbers)
    square = sum((value - mean) ** 2 for value in numbers) / len(numbers)
    divisor = (regularizer + square) ** 0.5
    return np.array([scale * (value - mean) / divisor for value in numbers]).reshape(image.shape)


@given(
    n=st.integers(1, 4),
    side=st.integers(2, 5),
    colors=st.integers(1, 4),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1.0, 0.5, 55.0]),
    regularizer=st.sampled_from([0.0, 0.01, 10.0]),
)
def test_contrast_normalization_is_its_formula(
    n: int, side: int, colors: int, seed: int, scale: float, regularizer: float
) -> None:
    x = images_of(n, side, side + 1, colors, seed)
    transform = datasets.global_contrast_normalization(x, scale, regularizer)
    y = transform.apply(x)
    close(y, [loop_contrast(image, scale, regularizer) for image in x])
    close(transform.inverse(y), x)


@pytest.mark.parametrize("colors", [1, 3])
def test_normalized_images_have_one_mean_and_one_contrast(colors: int) -> None:
    x = images_of(colors=colors)
    y = datasets.global_contrast_normalization(x, scale=2).apply(x)
    close(y.mean(axis=(1, 2, 3)), 0)
    close(np.linalg.norm(y.reshape(len(x), -1), axis=1), 2 * np.sqrt(20 * colors))
    # the controls: raw images have neither, one mean and contrast for all images do not make them so, and a
    # regularizer leaves the order of contrasts
    other = (x - x.mean()) / x.std()
    assert np.ptp(other.std(axis=(1, 2, 3))) > 0.1 < np.ptp(other.mean(axis=(1, 2, 3)))
    softened = datasets.global_contrast_normalization(x, regularizer=0.1).apply(x).std(axis=(1, 2, 3))
    np.testing.assert_array_equal(np.argsort(softened), np.argsort(x.std(axis=(1, 2, 3))))
    assert softened.max() < 1


def test_contrast_normalization_does_not_see_brightness_and_contrast() -> None:
    x = images_of()
    a, b = np.random.default_rng(1).uniform(0.5, 2, (2, len(x), 1, 1, 1))
    y, same = (datasets.global_contrast_normalization(z).apply(z) for z in (x, a * x + b))
    close(same, y)


def test_contrast_normalization_in_float32() -> None:
    x = images_of(dtype="float32")
    transform = datasets.global_contrast_normalization(x, scale=np.float64(2), regularizer=np.float64(0.1))
    y = transform.apply(x)
    assert {a.dtype for a in (transform.mean, transform.contrast, y, transform.inverse(y))} == {
        np.dtype("f4")
    }
    close(transform.inverse(y), x, FLOAT32)
    fine = datasets.global_contrast_normalization(x.astype(float), scale=2, regularizer=0.1)
    close(y, fine.apply(x.astype(float)), FLOAT32)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_constant_images_have_no_contrast(dtype: str, value: float) -> None:
    x = np.random.default_rng(0).random((4, 9, 9, 3)).astype(dtype)
    x[2] = value
    with pytest.raises(
        ValueError, match=r"expected images with contrast, got 1 constant of 4, first image 2"
    ):
        datasets.global_contrast_normalization(x)
    transform = datasets.global_contrast_normalization(x, regularizer=0.01)
    y = transform.apply(x)
    close(y[2], 0, 1e-5)
    close(transform.inverse(y), x, EXACT if dtype == "float64" else FLOAT32)
    x[2] += 1e-9 * (np.arange(9) % 2)[:, None]
    with pytest.raises(ValueError, match=r"got 1 constant of 4"):  # noise below eps is no contrast
        datasets.global_contrast_normalization(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(images=np.zeros((2, 3, 4))), r"images: expected images \(N, H, W, C\), got \(2, 3, 4\)"),
        (dict(images=np.zeros((0, 3, 4, 1))), r"images: expected images \(N, H, W, C\), got \(0, 3, 4, 1\)"),
        (
            dict(images=np.zeros((2, 3, 4, 1), np.uint8)),
            r"images: expected floats, got uint8; divide",
        ),
        (
            dict(images=np.full((2, 3, 4, 1), np.nan)),
            r"images: expected finite numbers, got NaN .* in 2 of 2",
        ),
        (dict(images=images_of(), scale=0.0), r"expected scale > 0, got 0.0"),
        (dict(images=images_of(), scale=np.nan), r"expected scale > 0, got nan"),
        (dict(images=images_of(), regularizer=-1.0), r"expected regularizer >= 0, got -1.0"),
    ],
)
def test_contrast_normalization_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.global_contrast_normalization(**options)


def test_contrast_belongs_to_the_images_that_were_measured() -> None:
    transform = datasets.global_contrast_normalization(images_of(6))
    for change in (transform.apply, transform.inverse):
        for x in (images_of(5), images_of(1), images_of(6)[..., 0]):
            with pytest.raises(ValueError, match=r"expected the 6 images .* that were measured, got \("):
                change(x)
    with pytest.raises(dataclasses.FrozenInstanceError):
        transform.mean = np.zeros(1)  # type: ignore[misc]


# --- colour whitening ---


def loop_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of colours, pixel by pixel."""
    pixels = [x[n, i, j] for n in range(x.shape[0]) for i in range(x.shape[1]) for j in range(x.shape[2])]
    mean = sum(pixels) / len(pixels)
    return mean, sum(np.outer(pixel - mean, pixel - mean) for pixel in pixels) / len(pixels)


@given(n=st.integers(2, 4), side=st.integers(3, 5), colors=st.integers(1, 4), seed=st.integers(0, 99))
def test_whitened_colors_have_covariance_one(n: int, side: int, colors: int, seed: int) -> None:
    x = images_of(n, side, side + 1, colors, seed)
    whitening = datasets.color_whitening(x)
    y = whitening.apply(x)
    mean, covariance = loop_moments(y)
    close(mean, 0)
    close(covariance, np.eye(colors))
    close(whitening.inverse(y), x)
    # one map at every pixel, symmetric, so the only one of its kind
    close(y[-1, 1, 2], x[-1, 1, 2] @ whitening.V + whitening.d)
    close(whitening.V, whitening.V.T)
    assert np.linalg.eigvalsh(whitening.V).min() > 0
    m, S = loop_moments(x)
    close(whitening.V @ S @ whitening.V, np.eye(colors))
    close(whitening.apply(np.broadcast_to(m, (1, 1, 1, colors))), np.zeros((1, 1, 1, colors)))


def test_scaling_each_color_does_not_whiten() -> None:
    """The negative control: unit variances alone leave correlations."""
    x = images_of()
    scaled = (x - x.mean(axis=(0, 1, 2))) / x.std(axis=(0, 1, 2))
    covariance = loop_moments(scaled)[1]
    close(np.diag(covariance), 1)
    assert abs(covariance - np.eye(3)).max() > 0.1


def test_whitening_applies_to_other_images() -> None:
    train, test = images_of(seed=0), images_of(seed=1)
    whitening = datasets.color_whitening(train)
    y = whitening.apply(test)
    close(whitening.inverse(y), test)
    assert abs(loop_moments(y)[1] - np.eye(3)).max() > 0.1


def test_white_colors_stay_as_they_are() -> None:
    x = np.array(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0])).T.reshape(2, 2, 2, 3)
    whitening = datasets.color_whitening(x)
    close(whitening.V, np.eye(3))
    close(whitening.d, 0)


def test_many_pixels_are_counted_in_blocks() -> None:
    x = np.random.default_rng(0).random((3, 1024, 512, 2))  # 1.5 blocks of 2 ** 20 pixels
    y = datasets.color_whitening(x).apply(x).reshape(-1, 2)
    close(y.T @ y / len(y), np.eye(2))


def test_whitening_in_float32() -> None:
    x = images_of(n=20, dtype="float32")
    whitening = datasets.color_whitening(x)
    y = whitening.apply(x)
    assert {a.dtype for a in (whitening.V, whitening.d, y, whitening.inverse(y))} == {np.dtype("f4")}
    mean, covariance = loop_moments(y.astype(float))
    close(mean, 0, FLOAT32)
    close(covariance, np.eye(3), FLOAT32)
    close(whitening.inverse(y), x, FLOAT32)


GREY = np.repeat(np.random.default_rng(0).random((50, 8, 8, 1)), 3, axis=-1)


@pytest.mark.parametrize(
    ("images", "rank"),
    [
        (GREY, 1),
        (GREY.astype("float32"), 1),
        (GREY * [1, 0.5, 0.2] + [0, 0.1, 0.2], 1),
        (np.concatenate([GREY[..., :1], images_of(50, 8, 8, 2)], axis=-1) @ np.diag([0.0, 1.0, 1.0]), 2),
        (np.full((2, 3, 4, 3), 0.1), 0),
        (np.full((2, 3, 4, 1), 0.1), 0),
        (np.full((2, 3, 4, 1), 0.1, np.float32), 0),
        (images_of(1, 1, 2), 1),
    ],
)
def test_colors_that_do_not_vary_are_refused(images: np.ndarray, rank: int) -> None:
    colors = images.shape[-1]
    with pytest.raises(
        ValueError,
        match=rf"images: expected .* that vary in all {colors} directions, got {rank}: are",
    ):
        datasets.color_whitening(images)


def test_grey_images_in_one_color_are_standardized() -> None:
    x = GREY[..., :1]
    whitening = datasets.color_whitening(x)
    close(whitening.apply(x), (x - x.mean()) / x.std())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 12)), r"images: expected images \(N, H, W, C\), got \(2, 12\)"),
        (np.zeros((2, 2, 2, 0)), r"images: expected images \(N, H, W, C\), got \(2, 2, 2, 0\)"),
        (np.zeros((2, 2, 2, 3), int), r"images: expected floats, got int64; divide bytes by 255 first"),
        (np.full((2, 2, 2, 3), np.inf), r"images: expected finite numbers"),
    ],
)
def test_whitening_refuses(images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.color_whitening(images)


def test_whitening_refuses_other_numbers_of_colors() -> None:
    whitening = datasets.color_whitening(images_of())
    for change in (whitening.apply, whitening.inverse):
        for x in (images_of(colors=1), images_of(colors=4), images_of()[0]):
            with pytest.raises(ValueError, match=r"expected images \(N, H, W, 3\), got \("):
                change(x)


def test_transforms_change_no_input_and_compose() -> None:
    x = images_of()
    x.setflags(write=False)
    contrast = datasets.global_contrast_normalization(x)
    y = contrast.apply(x)
    whitening = datasets.color_whitening(y)
    z = whitening.apply(y)
    assert isinstance(contrast, ContrastNormalization) and isinstance(whitening, ColorWhitening)
    close(contrast.inverse(whitening.inverse(z)), x)


# --- the real files ---


def test_real_cifar10() -> None:
    folder = real("cifar10")
    report = dict(datasets.check("cifar10", folder))
    assert report["data_batch_1.bin.gz"] == "ok: 10000 images of 32x32, the official content"
    assert report["data_batch_2.bin.gz"].startswith("ok: ")
    data = datasets.cifar10(folder, dtype="float32")
    assert (data.x_train.shape, data.x_test.shape) == ((20000, 32, 32, 3), (4000, 32, 32, 3))
    first = [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    np.testing.assert_array_equal(np.bincount(data.y_train[:10000]), first)
    second = [984, 1007, 1010, 995, 1010, 988, 1008, 1026, 987, 985]
    np.testing.assert_array_equal(np.bincount(data.y_train[10000:]), second)
    test = [196, 198, 195, 199, 198, 185, 216, 193, 217, 203]
    np.testing.assert_array_equal(np.bincount(data.y_test[:2000]), test)
    np.testing.assert_array_equal(
        np.bincount(data.y_test[2000:]), [193, 194, 231, 190, 202, 203, 180, 204, 191, 212]
    )
    # near the means of the whole training set, by which every tutorial normalizes; red leads, blue trails
    close(data.x_train.mean(axis=(0, 1, 2), dtype=float), [0.4914, 0.4822, 0.4465], 4e-3)
    # neighbouring pixels are alike, and more so than pixels of other images: planes and rows are in place
    x = data.x_train[:500]
    assert abs(np.diff(x, axis=1)).mean() < 0.07 and abs(np.diff(x, axis=2)).mean() < 0.07
    assert abs(np.diff(x, axis=0)).mean() > 0.2
    whitening = datasets.color_whitening(data.x_train)
    colors = whitening.apply(x).reshape(-1, 3)
    assert abs(np.cov(colors.T) - np.eye(3)).max() < 0.2
