"""The nets of the benchmarks, here and in PyTorch with the same weights."""

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch

import minikfac as mk
from minikfac import layers

SIZES = {
    "256-20-20-20-20-20-10": [256, 20, 20, 20, 20, 20, 10],  # the net of [MG15, fig. 2]
    "64-20-20-20-20-20-10": [64, 20, 20, 20, 20, 20, 10],  # the same for the bundled digits
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


def torch_order(module: torch.nn.Module) -> Any:
    """Where each of our parameters lies in PyTorch's flat vector, (weight (O, I), bias (O,)) by layer.

    theta = theta_torch[order], and F = F_torch[order][:, order].
    """
    parameters = list(module.parameters())
    starts = accumulate((p.numel() for p in parameters), initial=0)
    places = [
        np.arange(start, start + p.numel()).reshape(p.shape)
        for p, start in zip(parameters, starts, strict=False)
    ]
    joined = [layers.Dense.join(places[k], places[k + 1]) for k in range(0, len(places), 2)]
    return np.concatenate([W.reshape(-1) for W in joined]).astype(int)
