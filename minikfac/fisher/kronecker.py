"""K-FAC: each layer's Fisher block as one Kronecker product of two small matrices.

The exact block of a layer is the expectation, over the examples and the model's targets, of a product of
activations and derivatives,

    F = E[ sum_t sum_u  abar_t abar_u^T (x) g_t g_u^T ].

K-FAC replaces the expectation of the product by the product of the expectations, as if activations and
derivatives were independent. For a dense layer, which has one location (T = 1) [MG15, sec. 3],

    F ~ A (x) G,    A = E[ abar abar^T ] (I, I),    G = E[ g g^T ] (O, O).

For a convolution, KFC also assumes that derivatives at different locations are uncorrelated [GM16, sec. 3]:

    A = E[ sum_t abar_t abar_t^T ],    G = (1/T) E[ sum_t g_t g_t^T ].

The sum over T locations is in both factors, so one of them is divided by T; the papers choose G.

K-FAC is exact if activations or derivatives do not vary: for a dense layer with a single example and, under
squared error, for the last layer and for deep linear nets. In general it is not exact. A training step
computes the same A and G together with the gradient, in one pass: :mod:`.fast`.
"""

from __future__ import annotations

from ..backend import Array
from .block_diagonal import BlockDiagonal
from .kronecker_block import kronecker_blocks
from .signals import LayerSignals, Signals


def factors(layer: LayerSignals, n: int) -> tuple[Array, ...]:
    """Contributions of a layer's examples to A (I, I) and G (O, O), which are means over n.

    Scale and shift of a normalization, with their few parameters, keep their full block: (F,), (2 C, 2 C).
    """
    if layer.scale_and_shift:
        return (layer.second_moment() / n,)
    T = layer.abar.shape[1]
    abar = layer.abar.reshape(-1, layer.abar.shape[-1])  # (N T, I)
    g = layer.g.reshape(-1, layer.g.shape[-1])  # (K N T, O); includes the square root of each term's weight
    A = abar.T @ abar / n
    G = g.T @ g / (n * T)
    return A, G


def reduced_factors(layer: LayerSignals, n: int) -> tuple[Array, ...]:
    """KFAC-reduce: first sums activations and averages derivatives over locations [EIST23, sec. 3.3].

    Exact for linear nets under squared error whose output is a mean over all locations, if every layer in
    between is 1 x 1.
    """
    if layer.scale_and_shift:
        return factors(layer, n)
    abar = layer.abar.sum(1)  # (N, I)
    g = layer.g.mean(2).reshape(-1, layer.g.shape[-1])  # (K N, O)
    A = abar.T @ abar / n
    G = g.T @ g / n
    return A, G


def kfac(signals: Signals, reduce: bool = False) -> BlockDiagonal:
    """Kronecker-factored Fisher matrix, one block A (x) G per layer; KFC for convolutions.

    Args:
        signals: from :func:`minikfac.fisher.signals`.
        reduce: use KFAC-reduce, which is the same if T = 1.
    """
    return kronecker_blocks(signals.total(reduced_factors if reduce else factors), signals.names)
