"""How good an approximation of the Fisher matrix is."""

from .comparison import (
    COLUMNS,
    MEASURES,
    Comparison,
    Reference,
    compare,
    format_cell,
    layer_ledger,
    ledger,
    over_seeds,
    preconditioned_spectrum,
    spectrum,
    step_cosines,
)

__all__ = [
    "COLUMNS",
    "MEASURES",
    "Comparison",
    "Reference",
    "compare",
    "format_cell",
    "layer_ledger",
    "ledger",
    "over_seeds",
    "preconditioned_spectrum",
    "spectrum",
    "step_cosines",
]
