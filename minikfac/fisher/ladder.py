"""From a convolution's exact Fisher block down to KFC, one assumption at a time [GM16, sec. 3].

The exact block is a sum over T^2 pairs of locations t, u:

    F = E[ sum_t sum_u  abar_t abar_u^T (x) g_t g_u^T ]

    IAD   activations are independent of derivatives: the expectation of the product factorizes
    SUD   derivatives at different locations are uncorrelated: pairs t != u vanish. With IAD this
    needs E[ g_t g_u^T ] = 0; alone it needs E_y[ g_t g_u^T | x ] = 0 for every example
    SH    derivatives are spatially homogeneous: E[ g_t g_u^T ] = Gamma(u - t), the mean over all pairs
    of grid locations with that displacement

    {}         F itself
    SUD        E[ sum_t abar_t abar_t^T (x) g_t g_t^T ]
    IAD        sum_tu E[ abar_t abar_u^T ] (x) E[ g_t g_u^T ]
    IAD, SUD   sum_t E[ abar_t abar_t^T ] (x) E[ g_t g_t^T ]
    IAD, SH    sum_tu E[ abar_t abar_u^T ] (x) Gamma(u - t)
    all        sum_t E[ abar_t abar_t^T ] (x) Gamma(0):  KFC, one Kronecker product

SH concerns second moments of the derivatives, which enter the block separately only under IAD; without IAD it
is undefined. Activations need no SH: their second moments are those of the actual patches, including padding.
If T = 1, IAD alone is K-FAC, and the other two have no effect.

Errors are not monotone: they can fall when an assumption is added. Moreover, {IAD, SH} can be indefinite,
since means over fewer and fewer pairs at growing distances need not form a covariance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

from ..backend import Array, array_module, check_memory
from ..linalg import SingularMatrixError
from .block_diagonal import BlockDiagonal
from .dense import DenseMatrix
from .exact import beside_whole_blocks, block_diagonal
from .kronecker import factors, kfac
from .kronecker_block import kronecker_blocks
from .signals import LayerSignals, Signals

LADDER: dict[frozenset[str], str] = {
    frozenset(): "exact blocks",
    frozenset({"SUD"}): "SUD: derivatives uncorrelated in space",
    frozenset({"IAD"}): "IAD: activations independent of derivatives",
    frozenset({"IAD", "SUD"}): "IAD + SUD",
    frozenset({"IAD", "SH"}): "IAD + SH: derivatives homogeneous in space",
    frozenset({"IAD", "SH", "SUD"}): "IAD + SH + SUD: KFC",
}
"""The meaningful sets of assumptions, in order, with their labels in tables and figures."""

_ASSUMPTIONS = ("IAD", "SH", "SUD")
_SCRATCH = 2**26
"""Size of the second moments, of some locations with all others, held in memory at once."""


def ladder(signals: Signals, assume: Collection[str]) -> BlockDiagonal:
    """The block-diagonal Fisher matrix under a set of assumptions, in dense blocks, for inspection.

    Dense layers have one location: they are exact under {} and {SUD}, and K-FAC otherwise. The scale and
    shift of a normalization always keep their full block. Signals in chunks are recomputed for
    every layer.

    Args:
        signals: from :func:`minikfac.fisher.signals`.
        assume: a subset of "IAD", "SH" and "SUD" that is in :data:`LADDER`.

    Returns:
        One :class:`DenseMatrix` per layer. Under {IAD, SH} a block can be indefinite: ``solve`` then needs
        damping above minus its smallest eigenvalue, which the error states.

    Raises:
        ValueError: on unknown assumptions, SH without IAD, or SH for locations without a known grid.
        MemoryError: before any work, with the size in GiB, if a block or the second moments do not fit.
    """
    assumed = _check(assume)
    if "IAD" not in assumed:
        return block_diagonal(_locations_as_examples(signals) if assumed else signals)
    label = " + ".join(name for name in _ASSUMPTIONS if name in assumed)

    def blocks(signals: Signals) -> list[DenseMatrix]:
        names = [f"the {label} block of {name}" for name in signals.names]
        like = next(iter(signals))[0].abar  # read only once, as a recipe recomputes the chunk each time
        for shape, name in zip(signals.shapes, names, strict=True):
            # the block, and a second array for permuting its axes
            both = (2, math.prod(shape), math.prod(shape))
            check_memory(both, like.dtype, name, "fisher.kfac", array_module(like))
        arrays = [_BLOCKS[assumed](signals.select([layer])) for layer in range(len(signals))]
        return [_LadderBlock(F, name=name) for F, name in zip(arrays, names, strict=True)]

    return beside_whole_blocks(signals, blocks)


def fully_correlated(signals: Signals) -> BlockDiagonal:
    """T times KFC: assumes equal instead of uncorrelated derivatives at all locations.

    The opposite extreme of SUD: exact if activations and derivatives vary neither in space nor between
    examples. The number of locations is included in G, E[ sum_t g_t g_t^T ].
    """

    def contribution(layer: LayerSignals, n: int) -> tuple[Array, ...]:
        A, *G = factors(layer, n)
        return (A, *(layer.g.shape[2] * M for M in G))  # a full block has no G

    return kronecker_blocks(signals.total(contribution), signals.names)


def _check(assume: Collection[str]) -> frozenset[str]:
    if isinstance(assume, str) or not isinstance(assume, Collection):
        raise ValueError(f"expected a set of assumptions, got {assume!r}")
    assumed = frozenset(assume)
    if unknown := sorted(map(str, assumed - set(_ASSUMPTIONS))):
        raise ValueError(f"expected assumptions among IAD, SH, SUD, got {', '.join(unknown)}")
    if assumed not in LADDER:
        raise ValueError(
            f"expected IAD with SH, got {', '.join(sorted(assumed))}: SH concerns second moments of the "
            "derivatives, which only IAD separates from the activations"
        )
    return assumed


def _locations_as_examples(signals: Signals) -> Signals:
    """Treat each location as a separate example, which drops the pairs t != u; n remains N."""

    def flat(layer: LayerSignals) -> LayerSignals:
        if layer.scale_and_shift:
            return layer
        i, (k, _, _, o) = layer.abar.shape[-1], layer.g.shape
        return LayerSignals(layer.abar.reshape(-1, 1, i), layer.g.reshape(k, -1, 1, o))

    return replace(signals, make_chunks=lambda: ([flat(layer) for layer in chunk] for chunk in signals))


def _independent_uncorrelated(signals: Signals) -> Array:
    """sum_t E[ abar_t abar_t^T ] (x) E[ g_t g_t^T ]: one matrix product over the locations."""

    def contribution(layer: LayerSignals, n: int) -> tuple[Array, Array]:
        abar, g = layer.abar.swapaxes(0, 1), layer.g  # (T, N, I), (K, N, T, O)
        g = g.transpose(2, 0, 1, 3).reshape(g.shape[2], -1, g.shape[3])  # (T, K N, O)
        return abar.swapaxes(1, 2) @ abar / n, g.swapaxes(1, 2) @ g / n

    ((A, G),) = signals.total(contribution)
    return _sum_of_products(A, G)


def _independent(signals: Signals) -> Array:
    """sum_tu E[ abar_t abar_u^T ] (x) E[ g_t g_u^T ], for some t and all u at a time.

    The pair (u, t) gives the transpose of (t, u), so only half of them are summed.
    """
    (layer,) = next(iter(signals))
    (i, o), t = layer.weight_shape, layer.abar.shape[1]
    xp, dtype = array_module(layer.abar), layer.abar.dtype
    step = max(1, min(t, _SCRATCH // (t * (i * i + o * o))))
    moments = (2, step, t, i * i + o * o)  # twice, as the axes are permuted in a copy
    what = f"second moments of {signals.names[0]} at {step} locations with all {t}"
    check_memory(moments, dtype, what, "fisher.kfac", xp)
    half: Any = 0
    for start in range(0, t, step):
        rows = slice(start, start + step)
        ((A, G),) = signals.total(partial(_pairs_of_locations, rows=rows))
        weights = xp.triu(xp.ones(G.shape[:2], dtype=dtype))  # weight 1 for u >= t
        weights -= 0.5 * xp.eye(*G.shape[:2], dtype=dtype)  # and 1/2 for u = t
        G *= weights[:, :, None, None]
        half = half + _sum_of_products(A.reshape(-1, i, i), G.reshape(-1, o, o))
    return half + half.T


def _pairs_of_locations(layer: LayerSignals, n: int, rows: slice) -> tuple[Array, ...]:
    """E[ abar_t abar_u^T ] (t, u, I, I) and E[ g_t g_u^T ] (t, u, O, O), t in ``rows``, u from its start."""

    def moments(signal: Array) -> Array:  # (K, N, T, I)
        i = signal.shape[-1]
        left, right = (
            signal[:, :, some].reshape(signal.shape[0] * signal.shape[1], -1)
            for some in (rows, slice(rows.start, None))
        )
        return (left.T @ right / n).reshape(left.shape[1] // i, i, -1, i).swapaxes(1, 2)

    return moments(layer.abar[None]), moments(layer.g)


def _homogeneous(signals: Signals) -> Array:
    """sum over shifts delta of sum_t E[ abar_t abar_{t + delta}^T ] (x) Gamma(delta).

    The shift -delta gives the transpose of the shift delta, so only half of them are summed.
    """
    (layer,) = next(iter(signals))
    t, i = layer.abar.shape[1:]
    h, w = layer.grid or (1, 1)
    if h * w != t:
        raise ValueError(
            f"expected the grid (H, W) of the {t} locations of {signals.names[0]} for SH, got {layer.grid}"
        )
    xp, dtype = array_module(layer.abar), layer.abar.dtype
    shifts = [(y, x) for y in range(h) for x in range(1 - w if y else 0, w)]
    moments = (2, len(shifts), i * i)
    check_memory(moments, dtype, f"second moments of {signals.names[0]} at all shifts", "fisher.kfac", xp)

    def contribution(layer: LayerSignals, n: int) -> tuple[Array, ...]:
        abar = layer.abar.reshape(-1, h, w, i)
        g = layer.g.reshape(-1, h, w, layer.g.shape[-1])
        return tuple(xp.stack([_shifted(v, *shift) for shift in shifts]) / n for v in (abar, g))

    ((A, G),) = signals.total(contribution)
    pairs = [(h - y) * (w - abs(x)) * (2 if (y, x) == (0, 0) else 1) for y, x in shifts]
    half = _sum_of_products(A, G / xp.asarray(pairs, dtype=dtype)[:, None, None])
    return half + half.T


def _shifted(v: Array, y: int, x: int) -> Array:
    """Sum over images and locations t of v_t v_{t + (y, x)}^T, for v (N, H, W, I) and y >= 0."""
    h, w, i = v.shape[1:]
    first = v[:, : h - y, max(0, -x) : w - max(0, x)].reshape(-1, i)
    second = v[:, y:, max(0, x) : w - max(0, -x)].reshape(-1, i)
    return first.T @ second


def _sum_of_products(A: Array, G: Array) -> Array:
    """Sum over pairs of A (pairs, I, I) (x) G (pairs, O, O), as one matrix product, (I O, I O)."""
    i, o = A.shape[1], G.shape[1]
    F = A.reshape(-1, i * i).T @ G.reshape(-1, o * o)  # (i j, o p)
    return F.reshape(i, i, o, o).swapaxes(1, 2).reshape(i * o, i * o)


_BLOCKS: dict[frozenset[str], Callable[[Signals], Array]] = {
    frozenset({"IAD"}): _independent,
    frozenset({"IAD", "SUD"}): _independent_uncorrelated,
    frozenset({"IAD", "SH"}): _homogeneous,
    frozenset({"IAD", "SH", "SUD"}): lambda signals: kfac(signals).blocks[0].to_dense(),
}
"""The block of a layer from signals that contain only that layer."""


class _LadderBlock(DenseMatrix):
    """A block that may be indefinite, in which case its error says so."""

    def _cholesky(self, damping: float) -> Array:
        try:
            return super()._cholesky(damping)
        except SingularMatrixError as error:
            xp = array_module(self.array)
            values = xp.linalg.eigvalsh(self.array)
            lowest, rounding = float(values[0]), len(values) * float(xp.finfo(values.dtype).eps * values[-1])
            if -lowest <= max(damping, rounding):
                raise
            raise SingularMatrixError(
                f"expected damping above {-lowest:.3g}, minus the smallest eigenvalue of {self.name} "
                f"({self.shape[0]} x {self.shape[0]}), which is indefinite; got {damping:.3g}"
            ) from error
