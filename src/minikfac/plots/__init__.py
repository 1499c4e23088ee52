"""Figures: arrays or records in, matplotlib axes out. No network is run in this room.

Functions of one picture take ``ax`` and return axes; functions of several take ``fig`` (a figure or
subfigure) and return a list of axes. Without it a new figure is made, 1280 pixels wide.
"""

from .gradients import gradient_scatter, kl_against_quadratic, mean_derivatives, monte_carlo_error
from .ledger import ledger
from .matrices import block_means, matrices
from .spectra import cosine_against_damping, preconditioned_spectra, spectra
from .style import COLORS, style

__all__ = [
    "COLORS",
    "block_means",
    "cosine_against_damping",
    "gradient_scatter",
    "kl_against_quadratic",
    "ledger",
    "matrices",
    "mean_derivatives",
    "monte_carlo_error",
    "preconditioned_spectra",
    "spectra",
    "style",
]
