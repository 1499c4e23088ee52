"""Which methods depend on the parametrization: the study of gaps between equivalent nets."""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
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

__all__ = on_demand(__name__)
