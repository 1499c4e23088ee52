"""The input of all chapters: a net, trained on some data, and the study of its Fisher matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import optim
from ..backend import Array, to_device
from ..datasets import Dataset
from ..display import ShownByFields
from ..exploration import Study, positions
from ..network import Network
from ..training.loop import History, train
from .settings import Settings, make_net, with_targets

LARGEST = 3000
"""Most parameters for pictures and full spectra."""


@dataclass(frozen=True, repr=False)
class Run(ShownByFields):
    """The input of all chapters: a net, the data it was trained on, and the study of its Fisher matrix.

    Attributes:
        settings: of the tour.
        net, theta0, theta: the net before and after training.
        dataset: on which it was trained; ``x, y`` are the N examples of the study.
        history: of the training.
        study: matrices, quality table and ledger.
        beside: the run of a convolutional net that was studied too.
    """

    settings: Settings
    net: Network
    theta0: Array
    theta: Array
    dataset: Dataset
    x: Array
    y: Array
    history: History
    study: Study
    beside: Run | None = None

    @property
    def convolutional(self) -> Run | None:
        """The run whose net has convolutions: this one, or the one beside it."""
        return self if self.settings.channels is not None else self.beside

    @property
    def layers(self) -> tuple[int, ...]:
        """Indices of the layers that were studied."""
        return tuple(positions(self.net, self.settings.layers))

    @property
    def drawn(self) -> tuple[int, ...]:
        """Indices of the layers that are few and small enough for pictures."""
        sizes = [math.prod(self.net.shapes[layer]) for layer in self.layers]
        return tuple(self.layers[place] for place in picture_layers(sizes))

    def alike(self, **changes: Any) -> tuple[Network, Array, History]:
        """Train another net with changed settings; return the net, its parameters and the history."""
        settings = replace(self.settings, **changes)
        net, _, _, history = prepare(settings, self.dataset, progress=False)
        return net, to_device(history.theta, settings.device), history


def picture_layers(n_params: Sequence[int]) -> list[int]:
    """Choose the layers to draw: all but the first and last of a net of four or more, if they are small.

    Otherwise all of them, or as many of the last as have 3,000 parameters together.

    >>> picture_layers([1300, 420, 420, 420, 420, 210]), picture_layers([1300, 420, 210])
    ([1, 2, 3, 4], [0, 1, 2])
    """
    layers = list(range(len(n_params)))
    if len(layers) >= 4 and sum(n_params[1:-1]) <= LARGEST:
        return layers[1:-1]
    while layers and sum(n_params[layer] for layer in layers) > LARGEST:
        layers.pop(0)
    return layers


def prepare(
    settings: Settings, dataset: Dataset, progress: bool = True
) -> tuple[Network, Array, Dataset, History]:
    """Make the net and train it.

    Returns:
        The net, its parameters before training, the data set with targets that fit, and the history, whose
        ``theta`` are the parameters after training.

    Raises:
        ValueError, MemoryError: of :func:`make_net`.
    """
    net = make_net(settings, dataset)
    dataset = with_targets(dataset, net)
    theta0 = net.init(np.random.default_rng(settings.seed), dtype=settings.dtype)
    opt = optim.SGD(net, lr=settings.lr, momentum=settings.momentum)
    steps, size = settings.steps, min(settings.batch_size, len(dataset.x_train))
    history = train(net, theta0, opt, dataset, steps, size, settings.seed, progress=progress)
    first, last = (history.records[place]["loss"] for place in (0, -1))
    if not last < 10 * (1 + first):
        raise ValueError(
            f"expected training to lower the loss, got {first:.3g} before and {last:.3g} after "
            f"{steps} steps with lr={settings.lr:g}; use a smaller lr"
        )
    return net, theta0, dataset, history
