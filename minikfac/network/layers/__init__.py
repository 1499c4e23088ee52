"""The layers of a network, each forward, backward and in the R-operator by hand.

===========================  ======================================================================
parameters                   ``Dense``, ``Conv2d``; scale and shift of ``LayerNorm``, ``GroupNorm``,
                             ``BatchNorm``, ``RMSNorm``
none                         activations: ``Tanh``, ``Logistic``, ``LogSigmoid``, ``Softplus``, ``ReLU``,
                             ``LeakyReLU``, ``ELU``, ``SELU``, ``SiLU``, ``GELU``, ``TanhGELU``,
                             ``Identity``; ``MaxPool2d``, ``AvgPool2d``, ``GlobalAvgPool``, ``Flatten``;
                             ``ChannelsLast``; ``LocalResponseNorm``; ``Affine``, a fixed map;
                             ``Unscaled``, a normalization without scale and shift
of layers                    ``Sequential``, ``Residual``, ``Parallel``
===========================  ======================================================================

Pooling has no parameters, so it needs no curvature: derivatives flow through it.
"""

from .affine import Affine
from .base import Layer, ParameterLayer, Record, Shape
from .composite import Composite, Parallel, Residual, Sequential
from .convolution import Conv2d
from .dense import Dense
from .normalization import BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm, RMSNorm, Unscaled
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
from .pooling import AvgPool2d, ChannelsLast, Flatten, GlobalAvgPool, MaxPool2d

__all__ = [
    "ACTIVATIONS",
    "Affine",
    "AvgPool2d",
    "BatchNorm",
    "ChannelsLast",
    "Composite",
    "Conv2d",
    "Dense",
    "ELU",
    "Flatten",
    "GELU",
    "GlobalAvgPool",
    "GroupNorm",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LocalResponseNorm",
    "LogSigmoid",
    "Logistic",
    "MaxPool2d",
    "Parallel",
    "ParameterLayer",
    "Pointwise",
    "RMSNorm",
    "ReLU",
    "Record",
    "Residual",
    "SELU",
    "Sequential",
    "Shape",
    "SiLU",
    "Softplus",
    "Tanh",
    "TanhGELU",
    "Unscaled",
]
