"""Figures: arrays or records in, matplotlib axes out. No network is run in this room.

Functions of one picture take ``ax`` and return axes; functions of several take ``fig`` (a figure or
subfigure) and return a list of axes. Without it a new figure is made, 1280 pixels wide.
"""

from typing import TYPE_CHECKING

from ..on_demand import on_demand

if TYPE_CHECKING:
    from .charts import disagreement_against_step, gaussian_flows, globe_ascent, projections
    from .coupling import error_against_batch
    from .exactness import exactness
    from .gradients import gradient_scatter, kl_against_quadratic, mean_derivatives, monte_carlo_error
    from .invariance import equivalent_training, gap_against_damping, gap_against_steps, invariance_matrix
    from .ladder import ladder_blocks
    from .ledger import layer_ledger, ledger, quality_bars
    from .maps import (
        autocorrelation,
        between_maps,
        correlation_against_offset,
        shifted_products,
        variance_maps,
    )
    from .matrices import block_means, matrices
    from .memory import count_floats, memory
    from .models import graphical_models
    from .progress import conditioning, improvement_against_damping
    from .races import race, race_targets
    from .scaling import (
        batch_scaling,
        gantt,
        loss_against_examples,
        measured_scaling,
        predicted_against_measured,
        predicted_scaling,
        step_shares,
    )
    from .signals import forward_backward
    from .spectra import cosine_against_damping, preconditioned_spectra, spectra
    from .style import COLORS, style
    from .training import quality_along_training, training_curve

__all__ = [
    "COLORS",
    "autocorrelation",
    "batch_scaling",
    "between_maps",
    "block_means",
    "conditioning",
    "correlation_against_offset",
    "cosine_against_damping",
    "count_floats",
    "disagreement_against_step",
    "equivalent_training",
    "error_against_batch",
    "exactness",
    "forward_backward",
    "gap_against_damping",
    "gap_against_steps",
    "gaussian_flows",
    "gantt",
    "globe_ascent",
    "gradient_scatter",
    "graphical_models",
    "improvement_against_damping",
    "invariance_matrix",
    "kl_against_quadratic",
    "ladder_blocks",
    "layer_ledger",
    "ledger",
    "loss_against_examples",
    "matrices",
    "mean_derivatives",
    "measured_scaling",
    "memory",
    "monte_carlo_error",
    "preconditioned_spectra",
    "predicted_against_measured",
    "predicted_scaling",
    "projections",
    "quality_along_training",
    "quality_bars",
    "race",
    "race_targets",
    "shifted_products",
    "spectra",
    "step_shares",
    "style",
    "training_curve",
    "variance_maps",
]

on_demand(__name__)
