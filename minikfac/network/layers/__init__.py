"""The layers of a network, each forward, backward and in the R-operator by hand.

===========================  ======================================================================
parameters                   ``Dense``, ``Conv2d``; scale and shift of ``LayerNorm``, ``GroupNorm``,
                             ``BatchNorm``
none                         ``Tanh``, ``Logistic``, ``ReLU``, ``Softplus``, ``Identity``; ``MaxPool2d``,
                             ``AvgPool2d``, ``GlobalAvgPool``, ``Flatten``; ``LocalResponseNorm``;
                             ``Affine``, a fixed map
of layers                    ``Sequential``, ``Residual``, ``Parallel``
===========================  ======================================================================

Pooling has no parameters, so it needs no curvature: derivatives flow through it.
"""

from typing import TYPE_CHECKING

from ..._on_demand import on_demand

if TYPE_CHECKING:
    from .affine import Affine
    from .base import Layer, ParameterLayer, Record, Shape
    from .composite import Composite, Parallel, Residual, Sequential
    from .convolution import Conv2d
    from .dense import Dense
    from .normalization import BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm
    from .pointwise import ACTIVATIONS, Identity, Logistic, Pointwise, ReLU, Softplus, Tanh
    from .pooling import AvgPool2d, Flatten, GlobalAvgPool, MaxPool2d

__all__ = on_demand(__name__)
