"""Training: the loop, batches, checkpoints and records.

>>> import minikfac as mk, numpy as np
>>> from minikfac import datasets, optim, training
>>> data, net = datasets.digits(), mk.mlp([64, 20, 10])
>>> history = training.train(net, net.init(np.random.default_rng(0)), optim.SGD(net, lr=0.1), data, steps=20)
>>> len(history.theta) == net.n_params
True
"""

from .averaging import PerStep
from .batches import ExponentialBatches
from .example import Example, example
from .keep import Keep
from .loop import train
from .records import History

__all__ = ["Example", "ExponentialBatches", "History", "Keep", "PerStep", "example", "train"]
