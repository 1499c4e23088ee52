"""The layers of a network, each forward, backward and in the R-operator by hand.

===========================  ======================================================================
parameters                   ``Dense``, ``Conv2d``; scale and shift of ``LayerNorm``, ``GroupNorm``,
                             ``BatchNorm``, ``RMSNorm``
none                         activations: ``Tanh``, ``Logistic``, ``LogSigmoid``, ``Softplus``, ``ReLU``,
                             ``LeakyReLU``, ``ELU``, ``SELU``, ``SiLU``, ``GELU``, ``TanhGELU``,
                             ``Identity``; ``MaxPool2d``, ``AvgPool2d``, ``AdaptiveAvgPool2d``,
                             ``GlobalAvgPool``, ``Flatten``; ``ZeroPad2d``, ``ChannelsLast``, ``AsImages``,
                             ``AsSequences``; ``LocalResponseNorm``; ``Affine``, a fixed map; ``Unscaled``, a
                             normalization without scale and shift
of layers                    ``Sequential``, ``Residual``, ``Parallel``, ``Grouped``, ``OnSequences``;
                             ``Conv1d``, a ``Conv2d`` on sequences
===========================  ======================================================================

Pooling has no parameters, so it needs no curvature: derivatives flow through it.
"""

from typing import TYPE_CHECKING

from ..._on_demand import on_demand

if TYPE_CHECKING:
    from .affine import Affine
    from .base import Layer, ParameterLayer, Record, Shape
    from .composite import Composite, Conv1d, Grouped, OnSequences, Parallel, Residual, Sequential
    from .convolution import Conv2d
    from .dense import Dense
    from .layout import AsImages, AsSequences, ChannelsLast, Flatten
    from .normalization import (
        BatchNorm,
        GroupNorm,
        LayerNorm,
        LocalResponseNorm,
        Normalization,
        RMSNorm,
        Unscaled,
    )
    from .pointwise import (
        ACTIVATIONS,
        ELU,
        GELU,
        SELU,
        Identity,
        LeakyReLU,
        Logistic,
        LogSigmoid,
        Pointwise,
        ReLU,
        SiLU,
        Softplus,
        Tanh,
        TanhGELU,
    )
    from .pooling import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool, MaxPool2d, ZeroPad2d

__all__ = on_demand(__name__)
