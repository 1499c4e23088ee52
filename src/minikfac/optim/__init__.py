"""Optimizers: pure functions of parameters, state and batch; nothing is changed in place.

state = opt.init(theta)
theta, state, info = opt.step(theta, state, (x, y), rng)
"""

from .sgd import SGD

__all__ = ["SGD"]
