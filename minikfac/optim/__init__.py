"""Optimizers: pure functions of parameters, state and batch, without in-place changes.

    state = opt.init(theta)
    theta, state, info = opt.step(theta, state, (x, y), rng)

===========================  =====================================================================
``SGD``, ``Adam``            first order
``DiagonalNaturalGradient``  the diagonal of the Fisher matrix
``LowRank``                  a low-rank Fisher matrix from recent sampled gradients
``KrylovSubspace``           the best step in a Krylov subspace of the Fisher matrix
``HessianFree``              conjugate gradients with the Fisher matrix
``KFAC``, ``KFCPre``         Kronecker factors: the full algorithm, and a preconditioner for SGD
``EKFAC``                    K-FAC's eigenvectors with optimal eigenvalues
``NaturalGradient``          the full Fisher matrix, for small nets
===========================  =====================================================================

Learning rates and momenta are numbers or ``schedules``.
"""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from . import schedules
    from .adam import Adam
    from .diagonal import DiagonalNaturalGradient
    from .ekfac import EKFAC
    from .hessian_free import HessianFree
    from .kfac import KFAC
    from .kfc_pre import KFCPre
    from .krylov import KrylovSubspace
    from .low_rank import LowRank
    from .natural_gradient import NaturalGradient
    from .quadratic import QuadraticModel
    from .sgd import SGD

__all__ = on_demand(__name__)
