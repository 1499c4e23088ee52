"""The nets of the benchmarks, here and in PyTorch with the same weights."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch

import minikfac as mk
from minikfac import layers

SIZES = {
    "256-20-20-20-20-20-10": [256, 20, 20, 20, 20, 20, 10],  # the net of [MG15, fig. 2]
    "64-20-20-20-20-20-10": [64, 20, 20, 20, 20, 20, 10],  # the same for the bundled digits
    "784-36-36-10": [784, 36, 36, 10],  # some 30,000 parameters, for a GPU
    "10-4-3": [10, 4, 3],  # to see whether a benchmark runs
}


def make(name: str, n: int, dtype: Any = np.float32) -> tuple[mk.Network, Any, Any, Any, torch.nn.Module]:
    """Return net, theta, inputs (n, features) and labels (n,), and the same net in PyTorch."""
    torch.manual_seed(0)
    parts: list[torch.nn.Module] = []
    for n_in, n_out in pairwise(SIZES[name]):
        parts += [torch.nn.Linear(n_in, n_out), torch.nn.Tanh()]
    module = torch.nn.Sequential(*parts[:-1]).to(torch.from_numpy(np.zeros(0, dtype)).dtype)
    net, theta = mk.from_torch(module)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, SIZES[name][0])).astype(dtype)
    y = rng.integers(0, SIZES[name][-1], n)
    return net, theta, x, y, module


def make_conv(
    n: int, channels: tuple[int, ...] = (3, 32, 32, 64), side: int = 32
) -> tuple[mk.Network, Any, Any, Any, torch.nn.Module]:
    """Return net, theta, images (n, side, side, 3) and labels, float32, and the net in PyTorch.

    Convolutions of 5 x 5 that keep the size, each with ReLU and 2 x 2 max-pooling, and a dense layer: about
    the net of [GM16, sec. 5] for CIFAR-10, with plainer pools and no response normalization.
    """
    ours: list[layers.Layer] = []
    theirs: list[torch.nn.Module] = []
    torch.manual_seed(0)
    for c_in, c_out in pairwise(channels):
        ours += [layers.Conv2d(c_in, c_out, 5, padding=2), layers.ReLU(), layers.MaxPool2d(2)]
        theirs += [torch.nn.Conv2d(c_in, c_out, 5, padding=2), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    features = channels[-1] * (side >> len(channels) - 1) ** 2
    net = mk.Network([*ours, layers.Flatten(), layers.Dense(features, 10)], mk.outputs.Categorical())
    module = torch.nn.Sequential(*theirs, torch.nn.Flatten(), torch.nn.Linear(features, 10))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, side, side, channels[0])).astype(np.float32)
    y = rng.integers(0, 10, n)
    theta = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()[torch_order(module)]
    return net, theta, x, y, module


def make_autoencoder(
    n: int, width: float = 1.0, output: mk.outputs.Output | None = None
) -> tuple[mk.Network, Any, Any, Any, torch.nn.Module]:
    """Return net, theta, images (n, 784) and again as targets, float32, and the net in PyTorch.

    784-1000-500-250-30 and back [MG15, sec. 13]; ``width`` scales the hidden layers but the code, and
    ``output`` replaces the Bernoulli units.
    """
    net = mk.presets.mnist_autoencoder(width)
    if output is not None:
        net = mk.Network(net.layers, output)
    torch.manual_seed(0)
    theirs: list[torch.nn.Module] = []
    for layer in net.layers:
        if isinstance(layer, layers.Dense):
            theirs.append(torch.nn.Linear(layer.n_in, layer.n_out))
        elif isinstance(layer, layers.Logistic):  # none after the code
            theirs.append(torch.nn.Sigmoid())
    module = torch.nn.Sequential(*theirs)
    x = np.random.default_rng(0).random((n, 784)).astype(np.float32)
    theta = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()[torch_order(module)]
    return net, theta, x, x, module


def torch_places(module: torch.nn.Module) -> list[Any]:
    """Where each entry of our weights (I, O) lies in PyTorch's flat vector, one array per layer."""
    Ws = []
    start, channels = 0, 1
    for part in module.modules():
        if not isinstance(part, torch.nn.Linear | torch.nn.Conv2d):
            continue
        size, o = part.weight.numel(), len(part.weight)
        weight = np.arange(start, start + size).reshape(part.weight.shape)
        bias = np.arange(start + size, start + size + o)
        start += size + o
        if isinstance(part, torch.nn.Conv2d):
            channels = o
            Ws.append(layers.Conv2d.join(weight, bias))
        else:  # where images were flattened, theirs have the channels first, ours last
            weight = weight.reshape(o, channels, -1).swapaxes(1, 2).reshape(o, -1)
            channels = 1
            Ws.append(layers.Dense.join(weight, bias))
    return Ws


def torch_order(module: torch.nn.Module) -> Any:
    """Where each of our parameters lies in PyTorch's flat vector, weight and bias by layer.

    theta = theta_torch[order], and F = F_torch[order][:, order].
    """
    return np.concatenate([places.reshape(-1) for places in torch_places(module)])


def torch_inputs(module: torch.nn.Module) -> list[Any]:
    """Where each input of a layer, the bias last, lies in PyTorch's order: A = A_torch[order][:, order]."""
    order = []
    for places in torch_places(module):
        first = places[:, 0] - places.min()  # output 0: its weights come first
        first[-1] = len(first) - 1
        order.append(first)
    return order
