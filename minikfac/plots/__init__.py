"""Figures: arrays or records in, matplotlib axes out. No network is run here.

Functions of one picture take ``ax``, and without it make a figure, 1280 pixels wide; they return the axes.
Functions of several pictures make a figure of their own, and return a list of axes.
"""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from .density import spectral_density
    from .errors import error_against_batch, monte_carlo_error
    from .exactness import exactness
    from .feature_maps import autocorrelation, correlation_against_offset, variance_maps
    from .gaussians import gaussian_flows
    from .globe import globe_ascent, projections
    from .gradients import gradient_scatter, kl_against_quadratic, mean_derivatives
    from .graphical_models import graphical_models
    from .invariance import equivalent_training, gap_against_damping, invariance_matrix
    from .kronecker import kfac_picture, kronecker_factors
    from .ladder import ladder_blocks
    from .laplace import regression_bands
    from .matrices import block_means, matrices, matrix_rows
    from .memory import memory
    from .progress import conditioning, improvement_against_damping
    from .quality import layer_ledger, ledger, quality_across_nets, quality_bars
    from .races import race
    from .scaling import batch_scaling, loss_against_examples, predicted_scaling
    from .shifts import shifted_products
    from .signals import forward_backward
    from .spectra import spectra
    from .style import COLORS, style
    from .tradeoff import likelihood_against_storage, progress_against_storage
    from .training import (
        approximations_along_training,
        curvature_along_training,
        steps_as_pictures,
        training_curve,
    )

__all__ = on_demand(__name__)
