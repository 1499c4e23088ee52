"""Which methods depend on the parametrization: the study of gaps between equivalent nets."""

from .methods import METHODS, Data, Preconditioned, digits_problem
from .study import (
    APPLICATIONS,
    GapMatrix,
    Invariance,
    compared,
    follow,
    full_study,
    gap_against_damping,
    invariance_matrix,
    logistic_for_tanh,
)

__all__ = [
    "APPLICATIONS",
    "METHODS",
    "Data",
    "GapMatrix",
    "Invariance",
    "Preconditioned",
    "compared",
    "digits_problem",
    "follow",
    "full_study",
    "gap_against_damping",
    "invariance_matrix",
    "logistic_for_tanh",
]
