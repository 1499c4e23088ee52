"""What large batches and many workers bring: sweeps over batch sizes, their prediction, and a cost model."""

from .noise import noise_scale
from .sweep import Budget, Scaling, batch_sweep

__all__ = ["Budget", "Scaling", "batch_sweep", "noise_scale"]
