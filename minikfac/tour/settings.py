"""The settings of a tour, and the net and the targets that follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..backend import check_memory
from ..datasets import Dataset
from ..exploration import positions
from ..fisher.targets import TARGETS
from ..network import Network, mlp
from ..network.outputs import Categorical
from ..network.presets import convnet
from ..optim import checks
from ..training.example import BATCH_SIZE, LR, MOMENTUM, N_EXAMPLES, STEPS

TOUR_SIZES = (64, 16, 16, 16, 16, 16, 10)
"""Of :func:`minikfac.presets.digits_mlp`, the net of README and tutorials."""
_COPIES = 8
"""F, F + lambda I, its factor and inverse; an approximation and its inverse, on two threads."""


@dataclass(frozen=True)
class Settings:
    """What to study.

    Attributes:
        sizes: units per layer; ignored if ``channels`` are given.
        channels: of the convolutions of :func:`minikfac.presets.convnet`; None for a perceptron.
        pool: "max" or "avg", its pooling.
        activation, output: of :func:`minikfac.mlp`.
        steps: of training before the study; 0 studies the net as it was initialized.
        batch_size, lr, momentum: of that training.
        n_examples: N, the batch over which the Fisher matrices are means.
        damping: lambda > 0.
        approximations: names among :data:`minikfac.tour.APPROXIMATIONS`; None for all that exist for
            the net.
        targets, n_samples: where the approximations take their targets from.
        layers: indices of the layers to study; None for all.
        seed: of initialization, order, and everything drawn.
        seeds: how many, for error bars of the table; each draws its own targets, or its own net.
        measures: names among :data:`minikfac.quality.MEASURES`; None for what is quick at this size.
        dtype: "float64" or "float32".
        device: where the matrices are built and measured; training and pictures stay on the host.
        chapters: names among :data:`minikfac.tour.CHAPTERS`, beside those that say what was studied; None
            for all about the net itself. "convolutions" studies a small convolutional net too.
    """

    sizes: tuple[int, ...] = TOUR_SIZES
    channels: tuple[int, ...] | None = None
    pool: str = "max"
    activation: str = "tanh"
    output: str = "categorical"
    steps: int = STEPS
    batch_size: int = BATCH_SIZE
    lr: float = LR
    momentum: float = MOMENTUM
    n_examples: int = N_EXAMPLES
    damping: float = 1e-2
    approximations: tuple[str, ...] | None = None
    targets: str = "model"
    n_samples: int = 1
    layers: tuple[int, ...] | None = None
    seed: int = 0
    seeds: int = 1
    measures: tuple[str, ...] | None = None
    dtype: str = "float64"
    device: str = "cpu"
    chapters: tuple[str, ...] | None = None

    @property
    def net_name(self) -> str:
        """The net in a few words.

        >>> Settings().net_name, Settings(channels=(4, 8)).net_name
        ('64-16-16-16-16-16-10', 'conv 4-8, max-pooling')
        """
        if self.channels is None:
            return "-".join(map(str, self.sizes))
        return f"conv {'-'.join(map(str, self.channels))}, {self.pool}-pooling"

    @property
    def of_study(self) -> dict[str, Any]:
        """Arguments of :func:`minikfac.tour.fisher_study`."""
        names = ("approximations", "damping", "targets", "n_samples", "seed", "layers", "measures")
        return {name: getattr(self, name) for name in names}


def with_targets(dataset: Dataset, net: Network) -> Dataset:
    """Fit the targets of a data set to the outputs of a net.

    Labels stay labels for categorical outputs. For others they become rows of 0 and 1, unless the net has
    as many outputs as inputs: then it is an autoencoder and the inputs are its targets.

    Raises:
        ValueError: if inputs or targets do not fit the net.
    """
    n_in, n_out, name = net.shapes[0][0] - 1, net.shapes[-1][1], dataset.name
    images = dataset.x_train.ndim == 4
    features = math.prod(dataset.x_train.shape[1:])
    classes = dataset.n_classes
    if images:
        n_out = net.n_outputs(dataset.x_train[:1])
    elif features != n_in:
        raise ValueError(
            f"expected a net with {features} inputs, as {name} has, got one with {n_in}; "
            f"begin it with {features}-"
        )
    outputs_expected = f"expected a net with {classes} outputs, one per class of {name}"
    if isinstance(net.output, Categorical):
        if classes is None:
            raise ValueError(
                f"expected labels for a categorical output, got targets {dataset.y_train.shape} in {name}; "
                "use the output gaussian or bernoulli"
            )
        if n_out < classes:
            raise ValueError(f"{outputs_expected}, got {n_out}; end it with -{classes}")
        return dataset
    if n_out == features and n_out != classes and not images:
        return replace(dataset, y_train=dataset.x_train, y_test=dataset.x_test, n_classes=None)
    if classes is None:
        width = dataset.y_train.shape[1]
        if width != n_out:
            raise ValueError(f"expected a net with {width} outputs, as {name} has targets, got {n_out}")
        return dataset
    if n_out != classes:
        raise ValueError(f"{outputs_expected}, or {features}, its inputs again (an autoencoder); got {n_out}")
    rows = np.eye(classes, dtype=dataset.x_train.dtype)
    return replace(dataset, y_train=rows[dataset.y_train], y_test=rows[dataset.y_test], n_classes=None)


def make_net(settings: Settings, dataset: Dataset) -> Network:
    """Make the net; reject settings that cannot be studied before any work is done.

    Raises:
        ValueError: if the net does not fit the data, or a setting is out of range.
        MemoryError: if the exact Fisher matrix and its approximations do not fit in memory.
    """
    if settings.channels is None:
        net = mlp(settings.sizes, settings.activation, settings.output)
    else:
        net = _make_convnet(settings, settings.channels, dataset)
    with_targets(dataset, net)
    n_train = len(dataset.x_train)
    checks.count(0, steps=settings.steps)
    checks.positive(damping=settings.damping)
    checks.choice(TARGETS, targets=settings.targets)
    if not 1 <= settings.n_examples <= n_train:
        raise ValueError(
            f"expected examples from 1 to {n_train}, the training part of {dataset.name}, "
            f"got {settings.n_examples}"
        )
    if settings.n_samples < 1 or (settings.n_samples > 1 and settings.targets != "sampled"):
        raise ValueError(
            "expected samples >= 1, and other than 1 only with targets 'sampled', got "
            f"{settings.n_samples} with targets {settings.targets!r}"
        )
    n_params = sum(math.prod(net.shapes[layer]) for layer in positions(net, settings.layers))
    check_memory(
        (_COPIES, n_params, n_params),
        settings.dtype,
        f"the study of {n_params:,} parameters, with {_COPIES} matrices of that size at a time,",
        "fewer parameters (a part of the layers, a smaller net), or fisher.kfac and fisher.product, which "
        "need no such matrix",
    )
    return net


def _make_convnet(settings: Settings, channels: Sequence[int], dataset: Dataset) -> Network:
    shape, n_outputs = dataset.x_train.shape, dataset.n_classes or dataset.y_train.shape[1]
    if len(shape) != 4:
        raise ValueError(
            f"expected images (N, H, W, C) for a convolutional net, got inputs {shape} of {dataset.name}"
        )
    if "block-tridiagonal" in (settings.approximations or ()):
        raise ValueError(
            "expected approximations of a convolutional net, got block-tridiagonal, which exists for chains "
            "of dense layers only"
        )
    return convnet(shape[1:], n_outputs, channels, settings.activation, settings.output, settings.pool)
