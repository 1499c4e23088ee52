"""EKFAC: the eigenvectors of K-FAC's factors with optimal eigenvalues.

    F ~ (U_A (x) U_G) diag(s) (U_A (x) U_G)^T,    s_io = E[ (U_A^T DW U_G)_io^2 ]

with K-FAC's A = U_A diag(a) U_A^T and G = U_G diag(g) U_G^T, for which K-FAC uses s_io = a_i g_o
[GLBBV18, sec. 3.1]. s is the diagonal of F in that basis, so no other s, including K-FAC's, is nearer to F
in the Frobenius norm. The signals are read twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..backend import Array
from ..distributed import SERIAL, Communicator
from ..linalg import eigh
from .block_diagonal import BlockDiagonal
from .dense import DenseMatrix
from .eigenblock import EigenBlock
from .kronecker import factors
from .matrix import FisherMatrix
from .signals import LayerSignals, Signals


def _squared_gradients(layer: LayerSignals, U_A: Array, U_G: Array) -> Array:
    """Sum over examples and terms of (U_A^T DW U_G)^2, (I, O)."""
    abar, g = layer.abar @ U_A, layer.g @ U_G
    if abar.shape[1] == 1:  # DW = abar g^T, so the square is the product of squares
        return (abar[:, 0] ** 2).T @ (g[:, :, 0] ** 2).sum(0)
    squares = sum((piece.gradients() ** 2).sum((0, 1)) for piece in LayerSignals(abar, g).pieces())
    return squares.reshape(layer.weight_shape)  # type: ignore[union-attr]


def ekfac(signals: Signals) -> BlockDiagonal:
    """Fisher matrix that is diagonal in K-FAC's eigenbasis, block by block.

    The scale and shift of a normalization keep their full block, as in K-FAC.
    """
    bases = eigenbases(signals.total(factors))
    return in_eigenbases(bases, eigenvalues(signals, bases), signals.names)


def eigenbases(factors: Sequence[tuple[Array, ...]], comm: Communicator = SERIAL) -> list[tuple[Array, ...]]:
    """Eigenvectors (U_A, U_G) of each pair of factors (A, G); () for a full block (F,), which needs none.

    The pairs are divided among the ranks, and every rank gets all results.
    """
    pairs = [pair if len(pair) == 2 else () for pair in factors]
    costs = [sum(float(len(M)) ** 3 for M in pair) for pair in pairs]
    return comm.share([partial(_eigenvectors, pair) for pair in pairs], costs)


def _eigenvectors(pair: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(eigh(M)[1] for M in pair)


def eigenvalues(signals: Signals, bases: Sequence[tuple[Array, ...]]) -> list[tuple[Array, ...]]:
    """The optimal eigenvalues (I, O) in each basis; the full block for layers without one."""

    def contribution(chunk: list[LayerSignals], n: int) -> list[tuple[Array, ...]]:
        return [
            ((_squared_gradients(layer, *basis) if basis else layer.second_moment()) / n,)
            for layer, basis in zip(chunk, bases, strict=True)
        ]

    return signals.total_of_chunks(contribution)


def in_eigenbases(
    bases: Sequence[tuple[Array, ...]], values: Sequence[tuple[Array, ...]], names: Sequence[str]
) -> BlockDiagonal:
    """The matrix with given bases and eigenvalues, which may be averages over steps."""
    blocks: list[FisherMatrix] = [
        EigenBlock(basis[0], basis[1], s, name) if basis else DenseMatrix(s, name=f"the block of {name}")
        for basis, (s,), name in zip(bases, values, names, strict=True)
    ]
    return BlockDiagonal(blocks)
