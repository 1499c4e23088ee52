"""Networks that come by name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .layers import ACTIVATIONS, Dense, Layer
from .network import Network
from .outputs import OUTPUTS


def mlp(
    sizes: Sequence[int], activation: str = "tanh", output: str = "categorical", bias: bool = True
) -> Network:
    """Make a multi-layer perceptron.

    Args:
        sizes: units per layer, inputs first, outputs last, as in ``[64, 20, 20, 10]``.
        activation: of the hidden layers: "tanh", "logistic", "relu", "softplus" or "identity".
        output: "categorical", "bernoulli" or "gaussian".
        bias: whether the dense layers have one.

    Raises:
        ValueError: on fewer than two sizes or an unknown name.

    >>> mlp([64, 20, 10]).n_params
    1510
    """
    if len(sizes) < 2:
        raise ValueError(f"expected at least two sizes, inputs and outputs, got {list(sizes)}")
    for name, known in ((activation, ACTIVATIONS), (output, OUTPUTS)):
        if name not in known:
            raise ValueError(f"expected one of {', '.join(sorted(known))}, got {name!r}")
    layers: list[Layer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out, bias), ACTIVATIONS[activation]()]
    return Network(layers[:-1], OUTPUTS[output]())
