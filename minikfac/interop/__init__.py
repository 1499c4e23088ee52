"""Other libraries: weights from PyTorch, conventions for matrices, and causes of a wrong scale."""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from .conventions import LIBRARIES, ForeignBlock, convert, convert_from, flat_order, loss_scale
    from .scale import scale_causes
    from .torch import from_torch, stats_from_torch

__all__ = on_demand(__name__)
