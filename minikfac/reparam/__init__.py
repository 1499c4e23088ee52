"""Equivalent networks: the same function of x in different parameters [MG15, sec. 10; GM16, sec. 4.1].

Each parameter layer s = abar W can be placed between fixed affine maps of its input and output,

    x -> x V + d -> s' = [x V + d, 1] W' -> s' U + c

With rows abar = [x, 1], the layer's input is abar' = abar B with B = [[V, 0], [d, 1]]; in a convolution every
pixel of a patch is mapped, B = [[blockdiag(V, ..., V), 0], [d, ..., d, 1]], including padding, which then
contains the image of its former value. The function is unchanged if, for e = (0, ..., 0, 1)^T,

    abar W = abar B W' U + c        so        W = B W' U + e c        W' = B^-1 (W - e c) U^-1

This is an affine map with constant Jacobian J = B (x) U^T. Signals become abar' = abar B and g' = g U^T, so
A' = B^T A B, G' = U G U^T, DW' = B^T DW U^T. A K-FAC step,

    A'^-1 DW' G'^-1 = B^-1 (A^-1 DW G^-1) U^-1

is the image of the original one, so both nets still compute the same function. A gradient step is not, unless
B and U are orthogonal. Damping breaks the invariance, since the added identity does not map to the identity.

=======================  ==================================================================
``affine``               any invertible U, c, V, d around one layer
``random``               random maps around all layers: general, orthogonal or diagonal
``center``               inputs of each layer with mean 0
``normalize``            and variance 1
``whiten``               and uncorrelated features
``whiten_derivatives``   G = I
``whiten_colors``        images with uncorrelated colours
``logistic_to_tanh``     tanh(s) = 2 logistic(2 s) - 1: different units, no maps left in the net
``rescale``              scales of ReLU units and their outgoing weights in the same net
=======================  ==================================================================

Each returns a :class:`Reparameterization`; ``second @ first`` composes two. Constants are computed once and
are then part of the new net. Nets without an equivalent are rejected with the reason.
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
