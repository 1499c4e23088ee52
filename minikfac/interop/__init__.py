"""Other libraries: weights from PyTorch, conventions for matrices, and causes of a wrong scale."""

from .conventions import LIBRARIES, ForeignBlock, convert, convert_from, flat_order, loss_scale
from .scale import scale_causes
from .torch import from_torch, stats_from_torch

__all__ = [
    "LIBRARIES",
    "ForeignBlock",
    "convert",
    "convert_from",
    "flat_order",
    "from_torch",
    "loss_scale",
    "scale_causes",
    "stats_from_torch",
]
