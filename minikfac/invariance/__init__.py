"""Which methods depend on the parametrization: the study of gaps between equivalent nets."""

from .study import APPLICATIONS, METHODS, Cell, Invariance, gap_against_damping, invariance, invariance_matrix

__all__ = [
    "APPLICATIONS",
    "METHODS",
    "Cell",
    "Invariance",
    "gap_against_damping",
    "invariance",
    "invariance_matrix",
]
