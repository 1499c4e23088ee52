"""FOOF: K-FAC with the derivatives left out, A (x) I [Benzing22].

Its step is DW -> (A + lambda I)^{-1} DW: one small matrix per layer, and no expectation over targets. It is
gradient descent on a layer's outputs s = W^T abar in place of its weights: the change of W whose outputs
differ least, in the mean square over examples, from s moved along their gradient. As a Fisher matrix it is
exact where E[ g g^T ] = I, as in the last layer under squared error.
"""

from __future__ import annotations

from ..backend import array_module
from .block_diagonal import BlockDiagonal
from .kronecker import factors
from .kronecker_block import kronecker_blocks
from .signals import Signals


def foof(signals: Signals) -> BlockDiagonal:
    """Blocks A (x) I, with A of K-FAC; scale and shift of a normalization keep their full block."""
    blocks = signals.total(factors)
    for l, (A, *others) in enumerate(blocks):
        for G in others:
            blocks[l] = (A, array_module(G).eye(len(G), dtype=G.dtype))
    return kronecker_blocks(blocks, signals.names)
