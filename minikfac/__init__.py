"""minikfac: natural gradient, the Fisher matrix and its Kronecker-factored approximations, from scratch.

Hand-written backprop holds two things per layer: ``abar``, what goes into the weights, and ``g``, the
derivative by what comes out of them. Every curvature matrix here is an expectation of their products.

    data -> network (theta, x) -> signals (abar, g) -> Fisher matrix -> quality, plots
"""

import sys
from importlib import import_module
from types import ModuleType

from . import fisher
from .backend import array_module, to_device, to_host, use_device
from .interop import from_torch, stats_from_torch
from .network import Network, layers, mlp, outputs, presets

__version__ = "0.1.0"

__all__ = [
    "Network",
    "array_module",
    "fisher",
    "from_torch",
    "layers",
    "mlp",
    "outputs",
    "presets",
    "stats_from_torch",
    "to_device",
    "to_host",
    "use_device",
]

# `from minikfac.layers import Dense` too
sys.modules[f"{__name__}.layers"] = layers
sys.modules[f"{__name__}.outputs"] = outputs

_ON_DEMAND = (
    "datasets",
    "exercises",
    "invariance",
    "optim",
    "plots",
    "quality",
    "races",
    "reparam",
    "scaling",
    "tour",
    "training",
)


def __getattr__(name: str) -> ModuleType:
    """Import the parts that need more than NumPy and SciPy when they are first used."""
    if name in _ON_DEMAND:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'minikfac' has no attribute {name!r}")
