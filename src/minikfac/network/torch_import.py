"""Take a trained PyTorch net over: its layers become ours, its weights one flat theta.

PyTorch is not imported here: a module that is handed in has brought it along.
"""

from __future__ import annotations

from typing import Any

from ..backend import Array, to_host
from .layers import Dense, Identity, Layer, Logistic, ReLU, Softplus, Tanh
from .network import Network
from .outputs import OUTPUTS

_POINTWISE: dict[str, type[Layer]] = {"Tanh": Tanh, "Sigmoid": Logistic, "ReLU": ReLU, "Identity": Identity}
_HINTS = {
    "Softmax": "leave it out: the categorical output applies the softmax itself",
    "LogSoftmax": "leave it out: the categorical output applies the softmax itself",
    "Dropout": "leave it out: curvature is studied without dropout",
}


def from_torch(module: Any, output: str = "categorical") -> tuple[Network, Array]:
    """Convert a ``torch.nn.Sequential`` of dense layers and pointwise activations.

    Args:
        module: of Linear, Tanh, Sigmoid, ReLU, Softplus (beta 1), Identity, Flatten in front, and
            Sequential nested in it.
        output: the distribution that the loss stood for: "categorical" (cross-entropy), "bernoulli"
            (BCE with logits) or "gaussian" (squared error). A PyTorch module does not say.

    Returns:
        The network and theta (P,), in the dtype of the weights.

    Raises:
        ValueError: naming a layer that has no counterpart here, and what to do.
    """
    if output not in OUTPUTS:
        raise ValueError(f"expected output one of {', '.join(sorted(OUTPUTS))}, got {output!r}")
    if type(module).__name__ != "Sequential":
        raise ValueError(f"expected a torch.nn.Sequential, got {type(module).__name__}")
    layers: list[Layer] = []
    Ws: list[Array] = []
    for position, part in enumerate(_flatten(module)):
        name = type(part).__name__
        if name == "Linear":
            weight = to_host(part.weight.detach().cpu().numpy())
            bias = None if part.bias is None else to_host(part.bias.detach().cpu().numpy())
            layers.append(Dense(part.in_features, part.out_features, bias is not None))
            Ws.append(Dense.join(weight, bias))
        elif name in _POINTWISE:
            layers.append(_POINTWISE[name]())
        elif name == "Softplus" and part.beta == 1:
            layers.append(Softplus())  # PyTorch's threshold only saves an exponential above 20
        elif name == "Flatten" and position == 0 and part.start_dim == 1 and part.end_dim == -1:
            continue  # inputs are flat here
        else:
            hint = _HINTS.get(name, f"known are Linear, Softplus (beta 1), {', '.join(sorted(_POINTWISE))}")
            raise ValueError(f"no counterpart for layer {position}, {part}: {hint}")
    net = Network(layers, OUTPUTS[output]())
    return net, net.pack(Ws)


def _flatten(module: Any) -> list[Any]:
    parts: list[Any] = []
    for part in module:
        parts += _flatten(part) if type(part).__name__ == "Sequential" else [part]
    return parts
