"""Networks whose backprop is written by hand, so that every activation and derivative can be seen."""

from . import layers, outputs, presets
from .network import Network, Tape
from .presets import mlp
from .torch_import import from_torch, stats_from_torch

__all__ = ["Network", "Tape", "from_torch", "layers", "mlp", "outputs", "presets", "stats_from_torch"]
