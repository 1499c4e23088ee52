"""Optimizers: pure functions of parameters, state and batch; nothing is changed in place.

state = opt.init(theta)
theta, state, info = opt.step(theta, state, (x, y), rng)
"""

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

__all__ = [
    "EKFAC",
    "KFAC",
    "SGD",
    "Adam",
    "DiagonalNaturalGradient",
    "HessianFree",
    "KFCPre",
    "KrylovSubspace",
    "LowRank",
    "NaturalGradient",
    "QuadraticModel",
    "schedules",
]
