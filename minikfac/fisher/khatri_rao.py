"""Kronecker products for all pairs of layers, including correlations between layers.

    F_lm ~ A_lm (x) G_lm,    A_lm = E[ abar_l abar_m^T ],    G_lm = E[ g_l g_m^T ]

This is the matrix F~ of [MG15, sec. 3], a Khatri-Rao product. K-FAC keeps its diagonal blocks, and the
block-tridiagonal version also its blocks between neighbours. For inspection; dense layers only.
"""

from __future__ import annotations

from ..backend import Array, array_module, check_memory
from ..linalg import kron_dense
from .dense import DenseMatrix
from .signals import LayerSignals, Signals


def cross_factors(layer: LayerSignals, other: LayerSignals, n: int) -> tuple[Array, Array]:
    """Contributions abar abar'^T (I, I') and g g'^T (O, O') of two dense layers to means over n examples."""
    g, h = (signal.reshape(-1, signal.shape[-1]) for signal in (layer.g, other.g))
    return layer.abar[:, 0].T @ other.abar[:, 0] / n, g.T @ h / n


def check_dense(signals: Signals, what: str) -> None:
    """Reject signals with shared weights, for which factors between layers are not defined.

    Raises:
        ValueError: with the name of the layer.
    """
    for layer, name in zip(next(iter(signals)), signals.names, strict=True):
        if layer.abar.shape[1] > 1 or layer.scale_and_shift:
            kind = "scale and shift" if layer.scale_and_shift else "shared weights"
            raise ValueError(f"expected dense layers for {what}, got {kind} in {name}")


def khatri_rao(signals: Signals) -> DenseMatrix:
    """The dense matrix F~ of Kronecker products A_lm (x) G_lm, (P, P).

    Raises:
        ValueError: on layers with shared weights.
        MemoryError: with the size in GiB, if it does not fit.
    """
    check_dense(signals, "khatri_rao")
    pairs = [(a, b) for a in range(len(signals)) for b in range(a, len(signals))]
    means = signals.total_of_chunks(lambda chunk, n: [cross_factors(chunk[a], chunk[b], n) for a, b in pairs])
    slices, like = signals.slices, means[0][0]
    xp = array_module(like)
    shape = (slices[-1].stop, slices[-1].stop)
    check_memory(shape, like.dtype, "the Khatri-Rao matrix", "fisher.kfac or block_tridiagonal", xp)
    F = xp.empty(shape, dtype=like.dtype)
    for (a, b), (A, G) in zip(pairs, means, strict=True):
        block = kron_dense(A, G)
        F[slices[a], slices[b]] = block
        F[slices[b], slices[a]] = block.T
    return DenseMatrix(F, signals.names, slices, "the Khatri-Rao matrix")
