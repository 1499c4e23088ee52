"""Measures of the quality of Fisher approximations."""

from .approximations import APPROXIMATIONS, applicable
from .comparison import Comparison, compare, compare_by_products, over_seeds
from .ledger import layer_ledger, ledger
from .likelihood import gradients_of, held_out, log_density
from .measures import COLUMNS, MEASURES, preconditioned_spectrum, spectrum, step_cosines
from .reference import ProductReference, Reference
from .tables import format_cell

__all__ = [
    "APPROXIMATIONS",
    "COLUMNS",
    "MEASURES",
    "Comparison",
    "ProductReference",
    "Reference",
    "applicable",
    "compare",
    "compare_by_products",
    "format_cell",
    "gradients_of",
    "held_out",
    "layer_ledger",
    "ledger",
    "log_density",
    "over_seeds",
    "preconditioned_spectrum",
    "spectrum",
    "step_cosines",
]
