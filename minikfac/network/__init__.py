"""Networks with hand-written backpropagation, which exposes every activation and derivative."""

from . import layers, outputs, presets
from .network import Network, Tape
from .presets import mlp

__all__ = ["Network", "Tape", "layers", "mlp", "outputs", "presets"]
