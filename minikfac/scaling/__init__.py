"""What large batches and many workers bring: sweeps over batch sizes, and a cost model of ranks."""

from .batch_study import batch_study
from .sweep import Budget, Scaling, batch_sweep

__all__ = ["Budget", "Scaling", "batch_study", "batch_sweep"]
