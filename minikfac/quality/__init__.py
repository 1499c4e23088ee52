"""Measures of the quality of Fisher approximations."""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from .approximations import APPROXIMATIONS, applicable
    from .comparison import Comparison, compare, compare_by_products, over_seeds
    from .ledger import layer_ledger, ledger
    from .likelihood import gradients_of, held_out, log_density
    from .measures import COLUMNS, MEASURES, spectrum
    from .reference import ProductReference, Reference
    from .tables import format_cell

__all__ = on_demand(__name__)
