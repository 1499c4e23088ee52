"""The running example: one net at one point of training, used by README, docs, tutorials and the report.

    data, net, theta, x, y     bundled digits, presets.digits_mlp() after 200 steps of SGD, 500 images

A single point of training can be misleading, so :func:`example` accepts any number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ..backend import Array
from ..datasets import Dataset, digits
from ..display import ShownByFields
from ..network import Network
from ..network.presets import digits_mlp
from ..optim import SGD
from .loop import train

STEPS = 200
"""Training steps before the Fisher matrix is computed."""
N_EXAMPLES = 500
"""Number of images over which the Fisher matrix is averaged."""
LR, MOMENTUM, BATCH_SIZE = 0.05, 0.9, 100


@dataclass(frozen=True, eq=False, repr=False)
class Example(ShownByFields):
    """A net, before and after training, and the images for its Fisher matrix.

    Attributes:
        data: the bundled digits, 1,500 for training.
        net: 64-16-16-16-16-16-10, categorical, tanh by default; 2,298 parameters.
        theta0, theta: (P,) before and after training.
        x, y: the first 500 training images (500, 64) and their labels.
    """

    data: Dataset
    net: Network
    theta0: Array
    theta: Array
    x: Array
    y: Array


@cache
def example(steps: int = STEPS, activation: str = "tanh") -> Example:
    """Train :func:`minikfac.presets.digits_mlp` on the bundled digits; 200 steps take a tenth of a second.

    The activation of the hidden layers is one of :func:`minikfac.mlp`.

    >>> example().net.n_params, example().x.shape
    (2298, (500, 64))
    """
    data, net = digits(), digits_mlp(activation)
    theta0 = net.init(np.random.default_rng(0))
    opt = SGD(net, lr=LR, momentum=MOMENTUM)
    theta = train(net, theta0, opt, data, steps, BATCH_SIZE, progress=False).theta
    theta0.flags.writeable = theta.flags.writeable = False  # all callers share these arrays
    return Example(data, net, theta0, theta, data.x_train[:N_EXAMPLES], data.y_train[:N_EXAMPLES])
