"""From ``--net`` and ``--data`` to a net's sizes and a data set that fits it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .. import datasets
from ..datasets import Dataset

PHOTOGRAPHS = ("cifar10", "svhn")
FEW = (5000, 1000)
"""Most training and test images for a convolutional net, which is trained for a moment only."""


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read units per layer.

    >>> parse_sizes("64-20-10")
    (64, 20, 10)
    """
    if not re.fullmatch(r"\d+(-\d+)+", text):
        raise ValueError(f"expected --net as units per layer, such as 64-20-10, got {text!r}")
    sizes = tuple(map(int, text.split("-")))
    if min(sizes) < 1:
        raise ValueError(f"expected --net with at least one unit per layer, got {text!r}")
    return sizes


def parse_channels(text: str | None) -> tuple[int, ...] | None:
    """Read the maps of a convolutional net's convolutions; () for its own choice, None for another net.

    >>> parse_channels("conv-4-8"), parse_channels("conv"), parse_channels("64-20-10"), parse_channels(None)
    ((4, 8), (), None, None)
    """
    if text is None or not text.startswith("conv"):
        return None
    if not re.fullmatch(r"conv(-\d+)*", text):
        raise ValueError(f"expected --net conv, or maps per convolution as in conv-4-8, got {text!r}")
    return tuple(map(int, text.split("-")[1:]))


def load(data: str, folder: Path | None, components: int | None, net: str | None, dtype: str) -> Dataset:
    """Load the data, as images for a convolutional net.

    MNIST comes at the size that a net of dense layers takes, 16 x 16 otherwise.
    """
    convolutional = parse_channels(net) is not None
    options: dict[str, Any] = {"dtype": dtype, "images": convolutional}
    if dtype not in ("float64", "float32"):
        raise ValueError(f"expected --dtype float64 or float32, got {dtype!r}")
    if components is not None:
        if data != "digits" or convolutional:
            other = f"--net {net}" if convolutional else f"--data {data}"
            raise ValueError(f"expected --components only with --data digits and dense layers, got {other}")
        options["components"] = components
    if data == "mnist":
        inputs = parse_sizes(net)[0] if net is not None and not convolutional else 256
        side = round(inputs**0.5)
        options["size"] = side if side**2 == inputs and side <= 28 else 28
    if convolutional and data in PHOTOGRAPHS:
        options |= {"n_train": FEW[0], "n_test": FEW[1]}
    dataset = datasets.load(data, folder, **options)
    if not convolutional:
        return dataset
    counts = len(dataset.x_train), len(dataset.x_test)
    few = min(counts[0], FEW[0]), min(counts[1], FEW[1])
    return dataset if few == counts else dataset.subset(*few)
