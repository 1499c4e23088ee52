"""minikfac: natural gradient, the Fisher matrix and its Kronecker-factored approximations, from scratch.

Hand-written backprop stores two arrays per layer: ``abar``, the input of the weights, and ``g``, the
derivative with respect to their output. Every curvature matrix here is an expectation of their products.

    data -> network (theta, x) -> signals (abar, g) -> Fisher matrix -> quality, plots
"""

import sys
from typing import TYPE_CHECKING

from . import _interrupt  # noqa: F401
from ._on_demand import on_demand
from .backend import array_module, to_device, to_host, use_device
from .network import Network, layers, mlp, outputs, presets

if TYPE_CHECKING:
    from . import (  # noqa: F401
        datasets,
        exercises,
        explorer,
        fisher,
        interop,
        invariance,
        laplace,
        optim,
        plots,
        quality,
        races,
        reparam,
        scaling,
        tour,
        training,
    )
    from .exploration import explore
    from .interop import from_torch, stats_from_torch

__version__ = "0.1.0"

__all__ = [
    "Network",
    "array_module",
    "explore",
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

on_demand(__name__)
