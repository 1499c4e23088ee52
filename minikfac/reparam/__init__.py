"""Equivalent networks: the same function of x in other parameters [MG15, sec. 10; GM16, sec. 4.1].

Each parameter layer s = abar W can be put between fixed affine maps of its input and its output,

    x -> x V + d -> s' = [x V + d, 1] W' -> s' U + c

With abar = [x, 1] as rows, the layer's input is abar' = abar B with B = [[V, 0], [d, 1]]; a convolution's
patch has every pixel mapped, B = [[blockdiag(V, ..., V), 0], [d, ..., d, 1]], padding included, which then
holds the image of its former value. The same function comes out where, for e = (0, ..., 0, 1)^T,

    abar W = abar B W' U + c        so        W = B W' U + e c        W' = B^-1 (W - e c) U^-1

An affine map with constant Jacobian J = B (x) U^T. Signals become abar' = abar B and g' = g U^T, and so
A' = B^T A B, G' = U G U^T, DW' = B^T DW U^T. A step of K-FAC,

    A'^-1 DW' G'^-1 = B^-1 (A^-1 DW G^-1) U^-1

is the image of the old one: both nets remain the same function. A gradient step is not, unless B and U are
orthogonal. Damping adds an identity to the factors, and the identity does not map to the identity.

=======================  ==================================================================
``affine``               any invertible U, c, V, d around one layer
``random``               around all layers: general, orthogonal or diagonal
``center``               what enters each layer has mean 0
``normalize``            and variance 1
``whiten``               and uncorrelated features
``whiten_derivatives``   G = I
``whiten_colors``        images whose colours are uncorrelated
``logistic_to_tanh``     tanh(s) = 2 logistic(2 s) - 1: other units, no maps left in the net
``rescale``              units and their outgoing weights, through ReLU: the same net
=======================  ==================================================================

Each returns a :class:`Reparameterization`; ``second @ first`` is one after the other. Constants are computed
once and are then part of the other net. What has no equivalent is rejected, with the reason.
"""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from .data import center, normalize, whiten, whiten_colors, whiten_derivatives
    from .draw import random
    from .reparameterization import LayerMap, Reparameterization
    from .units import logistic_to_tanh, rescale
    from .wrap import affine

__all__ = on_demand(__name__)
