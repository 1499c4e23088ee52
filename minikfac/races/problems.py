"""Problems by name: a net, its data, how its weights are drawn, and a batch size to begin with.

p = problem("digits-autoencoder")
train(p.net, p.theta(), optim.KFAC(p.net), p.dataset, steps=50, batch_size=p.batch_size)

The first three run on the bundled digits. The papers' problems want larger data, from the cache or a folder,
and take float32. An autoencoder's targets are its inputs; its error in the papers is the squared error of the
reconstruction per image, ``squared_error`` in the records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .. import datasets
from ..backend import Array, to_device
from ..datasets import Dataset
from ..display import ShownByFields
from ..network import Network, mlp, presets


@dataclass(frozen=True, eq=False, repr=False)
class Problem(ShownByFields):
    """A learning problem.

    Attributes:
        name: in :data:`PROBLEMS`.
        net: the network.
        dataset: inputs and targets as the net takes them.
        scheme: how :meth:`theta` draws weights.
        batch_size: examples per step, to begin with.
        device: where :meth:`theta` is, "cpu", "cuda" or "cuda:1"; training moves the data there.
    """

    name: str
    net: Network
    dataset: Dataset
    scheme: str
    batch_size: int
    device: str = "cpu"

    def theta(self, seed: int = 0) -> Array:
        """Draw initial parameters (P,) in the dtype of the data; the same for each device."""
        drawn = self.net.init(np.random.default_rng(seed), self.scheme, self.dataset.x_train.dtype)
        return to_device(drawn, self.device)


def reconstruction(data: Dataset) -> Dataset:
    """Return flat inputs that are their own targets; labels are left out."""
    flat = data.as_vectors()
    return replace(flat, y_train=flat.x_train, y_test=flat.x_test, n_classes=None, class_names=None)


def standardized(data: Dataset) -> Dataset:
    """Return images (N, H, W, C) whose channels have mean 0 and standard deviation 1 over the training set.

    Raises:
        ValueError: On a channel that does not vary.
    """
    data = data.as_images()
    x = data.x_train
    mean = x.mean((0, 1, 2), dtype=np.float64).astype(x.dtype)
    sd = x.std((0, 1, 2), dtype=np.float64).astype(x.dtype)
    if not (sd > 0).all():
        raise ValueError(
            f"{data.name}: expected channels that vary, got standard deviations {sd.round(3).tolist()}"
        )
    return replace(data, x_train=(x - mean) / sd, x_test=(data.x_test - mean) / sd)


def grey_patches(data: Dataset, side: int = 25) -> Dataset:
    """Return the grey middle of each image (N, side * side), with mean 0 and contrast 1, to be reconstructed.

    They are real-valued, as the papers' faces were, and of their size.

    Raises:
        ValueError: On images smaller than that.
    """
    images = data.as_images()
    if min(images.x_train.shape[1:3]) < side:
        raise ValueError(f"{data.name}: expected images of at least {side}x{side}, got {data.image_shape}")
    parts = []
    for x in (images.x_train, images.x_test):
        top, left = ((length - side) // 2 for length in x.shape[1:3])
        grey = x[:, top : top + side, left : left + side].mean(3, keepdims=True)
        # a hundredth of full contrast: patches of clear sky shall not become noise
        parts.append(datasets.global_contrast_normalization(grey, regularizer=1e-4).apply(grey))
    made = replace(images, x_train=parts[0], x_test=parts[1], name=f"{data.name}, grey", image_shape=None)
    return reconstruction(made)


class Entry(NamedTuple):
    """One problem: its net for a ``width``, its data, and how to begin."""

    name: str
    what: str
    net: Callable[[float], Network]
    data: str
    prepare: Callable[[Dataset], Dataset]
    scheme: str
    batch_size: int

    @property
    def dtype(self) -> str:
        """That of the data and so of the parameters, unless another one is chosen."""
        return "float64" if self.data == "digits" else "float32"


def _digits(
    name: str, what: str, net: Callable[[float], Network], prepare: Callable[[Dataset], Dataset]
) -> Entry:
    return Entry(name, what, net, "digits", prepare, "glorot", 250)


def _autoencoder(
    what: str,
    net: Callable[[float], Network],
    data: str,
    images: str | None = None,
    prepare: Callable[[Dataset], Dataset] = reconstruction,
) -> Entry:
    """As in the K-FAC paper, from sparse weights; that its batches held 500 is as we remember it."""
    batch_size = 250 if data == "digits" else 500
    return Entry(f"{images or data}-autoencoder", what, net, data, prepare, "sparse", batch_size)


def _kfc(what: str, net: Callable[..., Network], data: str) -> Entry:
    return Entry(f"{data}-kfc", what, lambda width: net(width=width), data, standardized, "he", 128)


def _deep_and_narrow(n_in: int) -> Callable[[float], Network]:
    """The net of the paper's pictures: five hidden layers of 20 tanh units [MG15, sec. 3]."""
    return lambda width: mlp([n_in, *5 * [_scaled(20, width)], 10])


def _scaled(size: int, width: float) -> int:
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"expected a finite width above 0, got {width}")
    return max(1, round(width * size))


def _two_convolutions(width: float) -> Network:
    return presets.tiny_convnet(channels=(_scaled(4, width), _scaled(8, width)))


PROBLEMS = (
    _digits("digits", "digits told apart by a deep and narrow net", _deep_and_narrow(64), Dataset.as_vectors),
    _autoencoder("digits through a code of 6 numbers", presets.digits_autoencoder, "digits"),
    _digits("digits-convnet", "digits told apart by two convolutions", _two_convolutions, Dataset.as_images),
    Entry(
        "usps",
        "USPS digits told apart by the net of the K-FAC paper's pictures",
        _deep_and_narrow(256),
        "usps",
        Dataset.as_vectors,
        "glorot",
        500,
    ),
    _autoencoder(
        "MNIST through a code of 30 numbers, the K-FAC paper's net", presets.mnist_autoencoder, "mnist"
    ),
    _autoencoder(
        "curves of our own recipe through a code of 6 numbers, the K-FAC paper's net",
        presets.curves_autoencoder,
        "curves",
    ),
    _autoencoder(
        "the K-FAC paper's net for faces, on grey 25x25 pieces of CIFAR-10's images instead",
        presets.faces_autoencoder,
        "cifar10",
        "patches",
        grey_patches,
    ),
    _kfc("CIFAR-10 told apart by the KFC paper's net", presets.cifar10_kfc, "cifar10"),
    _kfc("SVHN told apart by the KFC paper's net, without its dropout", presets.svhn_kfc, "svhn"),
)
"""What :func:`problem` knows, by name and data."""


def problem(
    name: str,
    folder: str | Path | None = None,
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    width: float = 1.0,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
) -> Problem:
    """Make a problem: build its net and load its data.

    Args:
        name: among :data:`PROBLEMS`.
        folder: where the files of its data are; None for the cache, to which they are downloaded once.
        n_train: training examples; all of them by default.
        n_test: test examples.
        width: scales the hidden units or channels of the net.
        dtype: of the data and so of the parameters; float64 for the small problems, else float32.
        device: where the parameters are.

    Raises:
        ValueError: If there is no such problem, or on what its data or net reject.

    >>> p = problem("digits-autoencoder")
    >>> p.dataset.y_train is p.dataset.x_train, p.net.n_params, p.theta().shape
    (True, 3934, (3934,))
    """
    row = entry(name)
    net = row.net(width)
    options: dict[str, Any] = {"n_train": n_train, "n_test": n_test, "dtype": dtype or row.dtype}
    if folder is not None:
        options["folder"] = folder
    data = row.prepare(datasets.load(row.data, **options))
    return Problem(row.name, net, data, row.scheme, min(row.batch_size, len(data.x_train)), device)


def entry(name: str) -> Entry:
    """Find a problem without loading its data.

    Raises:
        ValueError: If there is none of this name; it lists them.
    """
    entries = {row.name: row for row in PROBLEMS}
    if name in entries:
        return entries[name]
    word = str(name).lower()
    nearest = [title for title in entries if word in title] or get_close_matches(word, entries, 1, 0.5)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise ValueError(f"expected a problem among {', '.join(entries)}, got {name!r}{hint}")
