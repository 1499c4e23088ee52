"""The exact Fisher matrix, in full or block by block.

    F = E[ D D^T ],   D = d log p / d theta,   one row and one column per parameter.

Between two dense layers an entry is

    F[i o, j p] = E[ q_ij c_op ],   q_ij = abar_i abar'_j,   c_op = sum_k g_ko g'_kp,

so a block is one matrix product over the examples. The sum over targets is taken *inside* each example,
before any array of size P is formed, so the cost is N P^2 rather than K N P^2. F is symmetric, and its
diagonal blocks are also symmetric in (i, j) and in (o, p) separately; little more than the distinct entries
is computed.

With shared weights, an example's gradient is a sum over T locations, and its square a sum over pairs of
locations. Summing over pairs, each like a dense layer, costs T^2 N P^2; forming per-example gradients and
multiplying them costs K N P^2. Both are exact, and the smaller of T^2 and K decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType

from ..backend import Array, array_module, check_memory
from ..parallel import for_each
from .block_diagonal import BlockDiagonal
from .dense import DenseMatrix
from .matrix import FisherMatrix
from .signals import LayerSignals, Signals

_SCRATCH = 2**20
"""Size of a scratch array: large enough for fast matrix products, small enough for the cache."""
_EXAMPLES = 1024
"""Examples per matrix product, for the same reason."""
_TILE = 8
"""Most inputs at once in a diagonal block, of which only the part right of the diagonal is needed."""
_ROWS = 32
"""Inputs whose rows of a block form one thread's task."""
_GRADIENTS = 2**24
"""Size of the per-example gradients held in memory at once, for layers with shared weights."""
_MIRROR = 128
"""Side of the tiles that are mirrored."""


def exact(signals: Signals) -> DenseMatrix:
    """The exact Fisher matrix of all parameters, (P, P).

    Raises:
        MemoryError: before any work, with the size in GiB, if it does not fit.
    """
    slices = signals.slices
    like = next(iter(signals))[0].abar
    instead = "fisher.kfac, block_diagonal or product"
    F = _allocate(slices[-1].stop, like, "the exact Fisher matrix", instead)
    for number, chunk in enumerate(signals):
        pairs = [
            (first, second, F[slices[a], slices[b]])
            for a, first in enumerate(chunk)
            for b, second in enumerate(chunk)
            if a <= b
        ]
        _add_blocks(pairs, signals.n, fresh=number == 0)
    (F,) = signals.comm.sum([F])
    _mirror(F)
    return DenseMatrix(F, signals.names, slices, "the exact Fisher matrix")


def block_diagonal(signals: Signals) -> BlockDiagonal:
    """The exact diagonal blocks, one per layer, without correlations between layers.

    Raises:
        MemoryError: before any work, with the size in GiB, if a block does not fit.
    """
    like = next(iter(signals))[0].abar  # read only once, as a recipe recomputes the chunk each time
    blocks = [
        _allocate(math.prod(shape), like, f"the exact Fisher block of {name}", "fisher.kfac")
        for shape, name in zip(signals.shapes, signals.names, strict=True)
    ]
    for number, chunk in enumerate(signals):
        pairs = [(layer, layer, block) for layer, block in zip(chunk, blocks, strict=True)]
        _add_blocks(pairs, signals.n, fresh=number == 0)
    blocks = signals.comm.sum(blocks)
    for block in blocks:
        _mirror(block)
    return BlockDiagonal(
        [DenseMatrix(F, name=f"the block of {name}") for F, name in zip(blocks, signals.names, strict=True)]
    )


def beside_whole_blocks(
    signals: Signals, build: Callable[[Signals], Sequence[FisherMatrix]]
) -> BlockDiagonal:
    """Blocks from ``build`` for layers with weight matrices, and full blocks for scale and shift."""
    whole = signals.scale_and_shift
    if not any(whole):
        return BlockDiagonal(build(signals))
    scales, products = ([l for l, is_whole in enumerate(whole) if is_whole == kind] for kind in (True, False))
    whole_blocks = iter(block_diagonal(signals.select(scales)).blocks)
    others = iter(build(signals.select(products)) if products else ())
    return BlockDiagonal([next(whole_blocks if is_whole else others) for is_whole in whole])


def _allocate(size: int, like: Array, what: str, instead: str) -> Array:
    xp = array_module(like)
    check_memory((size, size), like.dtype, what, instead, xp)
    return xp.empty((size, size), dtype=like.dtype)


def _add_blocks(pairs: Sequence[tuple[LayerSignals, LayerSignals, Array]], n: int, fresh: bool) -> None:
    """Add 1/n of the block between two layers to its part of F (I O, J P), for every pair.

    If F is fresh, i.e. uninitialized, it is overwritten. In diagonal blocks only the upper triangle is
    guaranteed to be set; ``_mirror`` does the rest.
    """
    tasks: list[Callable[[], None]] = []
    for first, second, out in pairs:
        if not _by_pairs_of_locations(first, second):
            _add_gradient_products(first, second, out, n, fresh)
            continue
        for inputs in _slices(0, first.abar.shape[2], _ROWS):
            tasks.append(partial(_add_rows, first, second, out, n, fresh, inputs))
    if tasks:
        for_each(tasks, pairs[0][2])


def _by_pairs_of_locations(first: LayerSignals, second: LayerSignals) -> bool:
    """Whether to sum over pairs of locations rather than targets, i.e. whether there are fewer pairs."""
    if first.scale_and_shift or second.scale_and_shift:
        return False
    pairs = first.abar.shape[1] * second.abar.shape[1]
    return pairs == 1 or pairs <= len(first.g)


def _add_rows(
    first: LayerSignals, second: LayerSignals, out: Array, n: int, fresh: bool, inputs: slice
) -> None:
    """Add 1/n of the block between two layers to out (I O, J P), for some of its inputs."""
    places = [(t, u) for t in range(first.abar.shape[1]) for u in range(second.abar.shape[1])]
    for t, u in places:
        signals = first.abar[:, t], first.g[:, :, t], second.abar[:, u], second.g[:, :, u]
        diagonal = first is second and len(places) == 1
        _add_location_rows(signals, out, n, fresh and (t, u) == (0, 0), inputs, diagonal)


def _add_location_rows(
    signals: tuple[Array, ...], out: Array, n: int, fresh: bool, inputs: slice, diagonal: bool
) -> None:
    """Like ``_add_rows`` for one location per layer: abar (N, I), g (K, N, O), abar2 (N, J), h (K, N, P)."""
    abar, g, abar2, h = signals
    O, J, P = g.shape[2], abar2.shape[1], h.shape[2]
    F = out.reshape(abar.shape[1], O, J, P)
    tile = min(_TILE, _step(J)) if diagonal else _step(J)
    for part in _slices(0, len(abar), _EXAMPLES):
        for o in _slices(0, O, _step(P)):
            p = slice(o.start if diagonal else 0, P)
            c = g[:, part, o].transpose(1, 2, 0) @ h[:, part, p].transpose(1, 0, 2)  # (n, o, p)
            columns = c.reshape(len(c), -1)
            if diagonal:
                different, place = _up_to_symmetry(c.shape[1], c.shape[2], array_module(c))
                columns = columns[:, different]
            for i in _slices(inputs.start, inputs.stop, tile):
                j = slice(i.start if diagonal else 0, J)
                q = (abar[part, i, None] / n) * abar2[part, None, j]  # (n, i, j)
                block = q.reshape(len(q), -1).T @ columns
                if diagonal:
                    block = block.take(place, axis=1)
                block = block.reshape(q.shape[1:] + c.shape[1:])  # (i, j, o, p)
                _add(F[i, o, j, p], block.transpose(0, 2, 1, 3), fresh and part.start == 0)
                if diagonal and o.stop < O:  # symmetry in (o, p) beyond this slice of the outputs
                    beyond = block[..., o.stop - o.start :].transpose(0, 3, 1, 2)
                    _add(F[i, o.stop :, j, o], beyond, fresh and part.start == 0)


def _add(out: Array, block: Array, fresh: bool) -> None:
    """Add block to out, or overwrite out if it is fresh, which halves the memory traffic."""
    if fresh:
        out[...] = block
    else:
        out += block


def _step(width: int) -> int:
    """Number of inputs (outputs) at a time if each is combined with ``width`` others per example."""
    return max(1, _SCRATCH // (_EXAMPLES * width))


def _slices(start: int, stop: int, step: int) -> list[slice]:
    return [slice(begin, min(begin + step, stop)) for begin in range(start, stop, step)]


def _up_to_symmetry(rows: int, columns: int, xp: ModuleType) -> tuple[Array, Array]:
    """Indices of the distinct entries (o, p) of a raveled c, p >= o, and each entry's place among them."""
    o, p = xp.triu_indices(rows, m=columns)
    place = xp.zeros((rows, columns), dtype=int)
    place[o, p] = xp.arange(len(o))
    square = place[:, :rows]
    place[:, :rows] = xp.maximum(square, square.T)
    return o * columns + p, place.reshape(-1)


def _add_gradient_products(
    first: LayerSignals, second: LayerSignals, out: Array, n: int, fresh: bool
) -> None:
    """Add blocks for shared weights from per-example gradients, in K N P P' multiplications."""
    step = max(1, _GRADIENTS // (len(first.g) * max(out.shape)))
    tile = max(1, _SCRATCH // out.shape[1])
    for start in range(0, len(first.abar), step):
        rows = slice(start, start + step)
        left, right = (
            LayerSignals(layer.abar[rows], layer.g[:, rows]).gradients().reshape(-1, size)
            for layer, size in zip((first, second), out.shape, strict=True)
        )
        for i in range(0, len(out), tile):
            j = i if first is second else 0
            _add(out[i : i + tile, j:], (left[:, i : i + tile] / n).T @ right[:, j:], fresh and start == 0)


def _mirror(F: Array) -> None:
    """Copy the upper triangle to the lower one, tile by tile, since a large transpose misses the cache."""
    xp = array_module(F)

    def fill(columns: slice) -> None:
        F[columns, columns] = xp.triu(F[columns, columns]) + xp.triu(F[columns, columns], 1).T
        for rows in _slices(columns.stop, len(F), _MIRROR):
            F[rows, columns] = F[columns, rows].T

    for_each([partial(fill, columns) for columns in _slices(0, len(F), _MIRROR)], F)
