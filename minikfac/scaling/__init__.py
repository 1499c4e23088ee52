"""What large batches and many workers bring: sweeps over batch sizes, and a cost model of ranks."""

from .sweep import Budget, Scaling, batch_sweep

__all__ = ["Budget", "Scaling", "batch_sweep"]
