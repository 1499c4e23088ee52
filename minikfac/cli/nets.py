"""From ``--net`` and ``--data`` to a net's sizes, a data set that fits it, and a problem of both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from .. import datasets
from ..datasets import Dataset
from ..network import mlp
from ..races import Problem, problem

Net = Annotated[
    str | None, Option(help="A net of your own on --data instead: units per layer, as in 64-20-10, or conv.")
]
Data = Annotated[
    str | None,
    Option(help="With --net: digits (the default), mnist, usps, cifar10, svhn, curves or FILE.npz."),
]
Activation = Annotated[str | None, Option(help="With --net: of hidden units, tanh by default.")]
Output = Annotated[str | None, Option(help="With --net: categorical (the default), bernoulli or gaussian.")]

PHOTOGRAPHS = ("cifar10", "svhn")
FEW = (5000, 1000)
"""Most training and test images for a convolutional net, whose training is short."""


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
    """Read the maps of a convolutional net; () for the default ones, None for another net.

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

    MNIST has the size that fits the inputs of a dense net, 16 x 16 otherwise.
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


def problem_of(
    name: str,
    net: str | None,
    data: str | None,
    activation: str | None,
    output: str | None,
    folder: Path | None,
    width: float,
    dtype: str | None,
    device: str,
    n_train: int | None = None,
) -> Problem:
    """Make a problem by name or, if a net is given, from it and data, with targets that fit."""
    if net is None:
        for option, value in {"data": data, "activation": activation, "output": output}.items():
            if value is not None:
                raise ValueError(f"expected --{option} only with --net, got --{option} {value}")
        return problem(name, folder, n_train=n_train, width=width, dtype=dtype, device=device)
    from ..network.presets import convnet
    from ..tour.settings import with_targets

    activation, output = activation or "tanh", output or "categorical"
    if width != 1.0:
        raise ValueError(f"expected --width only with a problem by name, got --net {net} --width {width:g}")
    dataset = load(data or "digits", folder, None, net, dtype or "float64")
    if n_train is not None:
        dataset = dataset.subset(n_train)
    channels = parse_channels(net)
    if channels is None:
        made = mlp(parse_sizes(net), activation, output)
    else:
        n_outputs = dataset.n_classes or dataset.y_train.shape[1]
        made = convnet(dataset.x_train.shape[1:], n_outputs, channels or None, activation, output)
    dataset = with_targets(dataset, made)
    return Problem(
        f"{dataset.name}, net {net}", made, dataset, "glorot", min(100, len(dataset.x_train)), device
    )


def parse_names(text: str | None, names: Sequence[str], option: str) -> tuple[str, ...] | None:
    """Read names with commas between them, whatever their case and hyphens; None stays None.

    >>> parse_names("kfac,Diagonal", ["K-FAC", "diagonal"], "--approximations")
    ('K-FAC', 'diagonal')
    """
    if text is None:
        return None
    if text == "all":
        return tuple(names)
    spellings = {_letters(name): name for name in names}
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in chosen if _letters(part) not in spellings]
    if unknown or not chosen:
        raise ValueError(f"expected {option} among {', '.join(names)}; got {', '.join(unknown) or 'none'}")
    return tuple(dict.fromkeys(spellings[_letters(part)] for part in chosen))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
