"""The best approximation by a Kronecker product: the A (x) G nearest to each exact block.

Rearrange a block so that entry ((i, j), (o, p)) is in row (i, j) and column (o, p). Kronecker products then
have rank one, and the nearest one in the Frobenius norm is given by the leading singular pair of the block
[VanLoan00]. Power iteration computes it without forming the block:

    G = E[ DW^T A DW ] / ||A||_F^2,        A = E[ DW G DW^T ] / ||G||_F^2,

in turn. Each is the best factor given the other, and both stay positive semi-definite. This error is due to
the form A (x) G; the additional error of K-FAC is due to its choice of A and G.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import Array, array_module
from .block_diagonal import BlockDiagonal
from .exact import beside_whole_blocks
from .kronecker import kfac
from .kronecker_block import kronecker_blocks
from .signals import LayerSignals, Signals

_TOLERANCE = 1e-10
"""Stop when no factor A changes by more, relative to its Frobenius norm. A's error is then of this order, and
the distance to F exceeds its minimum by the order of the square."""
_MAX_ITERATIONS = 500


def _best_G(layer: LayerSignals, A: Array) -> Array:
    """Sum over examples and terms of DW^T A DW, (O, O)."""
    if layer.abar.shape[1] == 1:  # DW = abar g^T
        abar, g = layer.abar[:, 0], layer.g[:, :, 0]
        weights = ((abar @ A) * abar).sum(-1)
        return g.reshape(-1, g.shape[-1]).T @ (g * weights[:, None]).reshape(-1, g.shape[-1])
    total: Any = 0
    for piece in layer.pieces():
        DW = piece.gradients().reshape(-1, *layer.weight_shape)
        total = total + array_module(DW).tensordot(DW, A @ DW, ((0, 1), (0, 1)))
    return total


def _best_A(layer: LayerSignals, G: Array) -> Array:
    """Sum over examples and terms of DW G DW^T, (I, I)."""
    if layer.abar.shape[1] == 1:
        abar, g = layer.abar[:, 0], layer.g[:, :, 0]
        weights = ((g @ G) * g).sum((0, 2))
        return (abar * weights[:, None]).T @ abar
    total: Any = 0
    for piece in layer.pieces():
        DW = piece.gradients().reshape(-1, *layer.weight_shape)
        total = total + array_module(DW).tensordot(DW, DW @ G, ((0, 2), (0, 2)))
    return total


def nearest_kronecker(signals: Signals) -> BlockDiagonal:
    """Block-diagonal matrix of the Kronecker products nearest to the exact blocks.

    A is scaled to the trace of K-FAC's A. The signals are read twice per iteration. The scale and
    shift of a normalization keep their full block.

    Raises:
        ValueError: if the iteration did not converge.
    """
    return beside_whole_blocks(signals, lambda weights: _nearest(weights).blocks)


def _nearest(signals: Signals) -> BlockDiagonal:
    start = [block.A for block in kfac(signals).blocks]  # type: ignore[attr-defined]
    traces = [float(A.trace()) for A in start]
    As = [_unit(A) for A in start]
    tolerance = max(_TOLERANCE, 10 * float(array_module(As[0]).finfo(As[0].dtype).eps))
    for _ in range(_MAX_ITERATIONS):
        Gs = _beside(signals, _best_G, As)
        old = As
        As = [_unit(A) for A in _beside(signals, _best_A, Gs)]
        moved = max(float(((A - before) ** 2).sum()) ** 0.5 for A, before in zip(As, old, strict=True))
        if moved <= tolerance:
            break
    else:
        raise ValueError(
            f"expected convergence in {_MAX_ITERATIONS} iterations, got a last change of {moved:.1e} "
            f"(tolerance {tolerance:.1e})"
        )
    Gs = _beside(signals, _best_G, As)
    units = [float(A.trace()) for A in As]  # 0 for a zero block, as below a dead layer
    scales = [trace / unit if unit > 0 else 1.0 for trace, unit in zip(traces, units, strict=True)]
    return kronecker_blocks(
        [(A * scale, G / scale) for A, G, scale in zip(As, Gs, scales, strict=True)], signals.names
    )


def _beside(
    signals: Signals, best: Callable[[LayerSignals, Array], Array], others: list[Array]
) -> list[Array]:
    """Average one factor of every layer over the examples, given the other factor."""
    means = signals.total_of_chunks(
        lambda chunk, n: [(best(layer, other) / n,) for layer, other in zip(chunk, others, strict=True)]
    )
    return [mean for (mean,) in means]


def _unit(A: Array) -> Array:
    norm = float((A**2).sum()) ** 0.5
    return A / norm if norm > 0 else A
