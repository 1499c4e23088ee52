"""Networks whose backprop is written by hand, so that every activation and derivative can be seen."""

from . import layers, outputs, presets
from .network import Network, Tape
from .presets import mlp

__all__ = ["Network", "Tape", "layers", "mlp", "outputs", "presets"]
