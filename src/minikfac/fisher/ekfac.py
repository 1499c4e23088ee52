"""EKFAC: keep the eigenvectors of K-FAC's factors, and put in the best eigenvalues.

    F ~ (U_A (x) U_G) diag(s) (U_A (x) U_G)^T,    s_io = E[ (U_A^T DW U_G)_io^2 ]

with A = U_A diag(a) U_A^T and G = U_G diag(g) U_G^T of K-FAC, whose own choice is s_io = a_i g_o
[GLBBV18, sec. 3.1]. s is the diagonal of F in that basis, so no other s is nearer to F in the Frobenius
norm; K-FAC never is. It reads the signals twice.
"""

from __future__ import annotations

from ..backend import Array
from ..linalg import eigh
from .block_diagonal import BlockDiagonal
from .dense import beside_whole_blocks
from .eigenblock import EigenBlock
from .kronecker import factors
from .signals import LayerSignals, Signals


def _squared_gradients(layer: LayerSignals, U_A: Array, U_G: Array) -> Array:
    """Sum over examples and terms of (U_A^T DW U_G)^2, (I, O)."""
    abar, g = layer.abar @ U_A, layer.g @ U_G
    if abar.shape[1] == 1:  # DW = abar g^T: the square of the product is the product of squares
        return (abar[:, 0] ** 2).T @ (g[:, :, 0] ** 2).sum(0)
    squares = sum((piece.gradients() ** 2).sum((0, 1)) for piece in LayerSignals(abar, g).pieces())
    return squares.reshape(layer.weight_shape)  # type: ignore[union-attr]


def ekfac(signals: Signals) -> BlockDiagonal:
    """Fisher matrix that is diagonal in K-FAC's eigenbasis, block by block.

    The scale and shift of a normalization have their whole block, as in K-FAC.
    """
    return beside_whole_blocks(signals, _eigen_blocks)


def _eigen_blocks(signals: Signals) -> list[EigenBlock]:
    bases = [(eigh(A)[1], eigh(G)[1]) for A, G in signals.mean(factors)]

    def scales(chunk: list[LayerSignals]) -> list[tuple[Array]]:
        return [(_squared_gradients(layer, *basis),) for layer, basis in zip(chunk, bases, strict=True)]

    return [
        EigenBlock(U_A, U_G, s, name)
        for (U_A, U_G), (s,), name in zip(bases, signals.mean_over_chunks(scales), signals.names, strict=True)
    ]
