"""Problems by name: a net, its data, how its weights are drawn, and a batch size to begin with.

found = problem("digits-autoencoder")
train(found.net, found.theta(), optim.KFAC(found.net), found.dataset, steps=50, batch_size=found.batch_size)

The first three run on the bundled digits. The papers' problems want larger data, from the cache or a folder,
and take float32. An autoencoder's targets are its inputs; its error in the papers is the squared error of the
reconstruction per image, ``squared_error`` in the records.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .. import datasets
from ..backend import Array, to_device
from ..datasets import Dataset
from ..network import Network, mlp, presets


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be learned.

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
        """Draw initial parameters (P,) in the dtype of the data; the same ones for each device."""
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
    dtype: str


def _as_vectors(data: Dataset) -> Dataset:
    return data.as_vectors()


def _as_images(data: Dataset) -> Dataset:
    return data.as_images()


def _deep_and_narrow(n_in: int, width: float) -> Network:
    """The net of the paper's pictures: five hidden layers of 20 tanh units [MG15, sec. 3]."""
    return mlp([n_in, *5 * [_scaled(20, width)], 10])


def _scaled(size: int, width: float) -> int:
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"expected a finite width above 0, got {width}")
    return max(1, round(width * size))


PROBLEMS = (
    Entry(
        "digits",
        "digits told apart by a deep and narrow net",
        lambda width: _deep_and_narrow(64, width),
        "digits",
        _as_vectors,
        "glorot",
        250,
        "float64",
    ),
    Entry(
        "digits-autoencoder",
        "digits through a code of 6 numbers",
        presets.digits_autoencoder,
        "digits",
        reconstruction,
        "sparse",
        250,
        "float64",
    ),
    Entry(
        "digits-convnet",
        "digits told apart by two convolutions",
        lambda width: presets.tiny_convnet(channels=(_scaled(4, width), _scaled(8, width))),
        "digits",
        _as_images,
        "glorot",
        250,
        "float64",
    ),
    Entry(
        "usps",
        "USPS digits told apart by the net of the K-FAC paper's pictures",
        lambda width: _deep_and_narrow(256, width),
        "usps",
        _as_vectors,
        "glorot",
        500,
        "float32",
    ),
    Entry(
        "mnist-autoencoder",
        "MNIST through a code of 30 numbers, the K-FAC paper's net",
        presets.mnist_autoencoder,
        "mnist",
        reconstruction,
        "sparse",
        500,
        "float32",
    ),
    Entry(
        "curves-autoencoder",
        "curves of our own recipe through a code of 6 numbers, the K-FAC paper's net",
        presets.curves_autoencoder,
        "curves",
        reconstruction,
        "sparse",
        500,
        "float32",
    ),
    Entry(
        "patches-autoencoder",
        "the K-FAC paper's net for faces, on grey 25x25 pieces of CIFAR-10's images instead",
        presets.faces_autoencoder,
        "cifar10",
        grey_patches,
        "sparse",
        500,
        "float32",
    ),
    Entry(
        "cifar10-kfc",
        "CIFAR-10 told apart by the KFC paper's net",
        lambda width: presets.cifar10_kfc(width=width),
        "cifar10",
        standardized,
        "he",
        128,
        "float32",
    ),
    Entry(
        "svhn-kfc",
        "SVHN told apart by the KFC paper's net, without its dropout",
        lambda width: presets.svhn_kfc(width=width),
        "svhn",
        standardized,
        "he",
        128,
        "float32",
    ),
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
        ValueError: If there is no such problem, or on what its data or net refuse.

    >>> found = problem("digits-autoencoder")
    >>> found.dataset.y_train is found.dataset.x_train, found.net.n_params, found.theta().shape
    (True, 3934, (3934,))
    """
    found = entry(name)
    net = found.net(width)
    options: dict[str, Any] = {"n_train": n_train, "n_test": n_test, "dtype": dtype or found.dtype}
    if folder is not None:
        options["folder"] = folder
    data = found.prepare(datasets.load(found.data, **options))
    size = min(found.batch_size, len(data.x_train))
    return Problem(found.name, net, data, found.scheme, size, device)


def entry(name: str) -> Entry:
    """Find a problem without loading its data.

    Raises:
        ValueError: If there is none of this name; it lists them.
    """
    names = [own.name for own in PROBLEMS]
    if name in names:
        return PROBLEMS[names.index(name)]
    asked = str(name).lower()
    nearest = [own for own in names if asked in own] or difflib.get_close_matches(asked, names, 1, 0.5)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise ValueError(f"expected a problem among {', '.join(names)}, got {name!r}{hint}")
