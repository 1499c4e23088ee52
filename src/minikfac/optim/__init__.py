"""Optimizers: pure functions of parameters, state and batch; nothing is changed in place.

state = opt.init(theta)
theta, state, info = opt.step(theta, state, (x, y), rng)
"""

from .kfac import KFAC
from .kfc_pre import KFCPre
from .natural_gradient import NaturalGradient
from .quadratic import QuadraticModel
from .sgd import SGD

__all__ = ["KFAC", "SGD", "KFCPre", "NaturalGradient", "QuadraticModel"]
