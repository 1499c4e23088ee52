"""The exact Fisher matrix, all of it or block by block.

    F = E[ D D^T ],   D = d log p / d theta,   one row and one column per parameter.

For dense layers an entry is E[ abar_i abar'_j sum_k g_ko g'_kp ]. The sum over targets is done *inside*
each example, before anything of size P appears, so the cost is N P^2 and not K N P^2. On a diagonal
block the entry is symmetric in (i, j) and in (o, p) separately: about a quarter of it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..backend import Array, array_module, check_memory
from ..linalg import cholesky, cholesky_inverse, cholesky_solve, pseudo_inverse
from .block_diagonal import BlockDiagonal
from .damping import add_to_diagonal
from .matrix import FisherMatrix, Operator, check_damping, check_method
from .signals import LayerSignals, Signals

_TILE = 64
"""Inputs per tile of a diagonal block: enough for a fast product, few enough to skip half of the tiles."""
_SCRATCH = 2**20
"""Entries of one weighted copy of abar, so that it stays in the cache."""


def exact(signals: Signals) -> DenseMatrix:
    """The exact Fisher matrix of all parameters, (P, P).

    Raises:
        MemoryError: before any work, with the size in GiB, if it does not fit.
    """
    slices = signals.slices
    F = _allocate(
        signals, slices[-1].stop, "the exact Fisher matrix", "fisher.kfac, block_diagonal or product"
    )
    # a cross block is computed with the layer of more inputs first, and mirrored
    pairs = [(a, b) for a in range(len(slices)) for b in range(a)]
    pairs = [(a, b) if signals.shapes[a][0] >= signals.shapes[b][0] else (b, a) for a, b in pairs]
    for chunk in signals:
        for layer, own in zip(chunk, slices, strict=True):
            _add_block(layer, F[own, own], signals.n)
        for a, b in pairs:
            _add_cross_block(chunk[a], chunk[b], F[slices[a], slices[b]], signals.n)
    for own, shape in zip(slices, signals.shapes, strict=True):
        _mirror_block(F[own, own], shape)
    for a, b in pairs:
        _transpose_into(F[slices[a], slices[b]], F[slices[b], slices[a]])
    return DenseMatrix(F, signals.names, slices, "the exact Fisher matrix")


def block_diagonal(signals: Signals) -> BlockDiagonal:
    """The exact blocks of the layers; correlations between layers are left out.

    Raises:
        MemoryError: before any work, with the size in GiB, if a block does not fit.
    """
    blocks = [
        _allocate(signals, own.stop - own.start, f"the exact Fisher block of {name}", "fisher.kfac")
        for own, name in zip(signals.slices, signals.names, strict=True)
    ]
    for chunk in signals:
        for layer, block in zip(chunk, blocks, strict=True):
            _add_block(layer, block, signals.n)
    for layer, block, shape in zip(chunk, blocks, signals.shapes, strict=True):
        _mirror_block(block, shape, n_locations=layer.abar.shape[1])
    return BlockDiagonal(
        [DenseMatrix(F, name=f"the block of {name}") for F, name in zip(blocks, signals.names, strict=True)]
    )


def _allocate(signals: Signals, size: int, what: str, instead: str) -> Array:
    like = next(iter(signals))[0].abar
    xp = array_module(like)
    check_memory((size, size), like.dtype, what, instead, xp)
    return xp.zeros((size, size), dtype=like.dtype)


def _target_sums(g: Array, o: int, h: Array) -> Array:
    """c[n, p] = sum_k g[k, n, o] h[k, n, p]: the expectation over targets, example by example."""
    return array_module(g).einsum("kn,knp->np", g[:, :, o], h)


def _add_block(layer: LayerSignals, out: Array, n: int) -> None:
    """Add 1/n of a layer's block to out (I O, I O), for tiles i <= j and outputs o <= p only."""
    if layer.abar.shape[1] > 1:
        _add_gradient_products(layer, layer, out, n)
        return
    abar, g = layer.abar[:, 0], layer.g[:, :, 0]
    examples, inputs = abar.shape
    outputs = g.shape[-1]
    F = out.reshape(inputs, outputs, inputs, outputs)
    for o in range(outputs):
        c = _target_sums(g, o, g[:, :, o:]) / n
        for i in range(0, inputs, _TILE):
            tile = abar[:, i : i + _TILE]
            step = max(1, _SCRATCH // tile.size)
            for p in range(0, c.shape[1], step):
                weighted = c[:, p : p + step, None] * tile[:, None, :]
                found = weighted.reshape(examples, -1).T @ abar[:, i:]  # (p i, j)
                found = found.reshape(-1, tile.shape[1], inputs - i)
                stop = o + p + len(found)
                F[i : i + _TILE, o, i:, o + p : stop] += found.transpose(1, 2, 0)


def _mirror_block(block: Array, shape: tuple[int, ...], n_locations: int = 1) -> None:
    """Fill in what the two symmetries of a diagonal block left out; with shared weights that is nothing."""
    if n_locations > 1:
        return
    inputs, outputs = shape
    F = block.reshape(inputs, outputs, inputs, outputs)
    for i in range(0, inputs, _TILE):
        rows = slice(i, i + _TILE)
        for o in range(outputs):
            F[rows, o + 1 :, i:, o] = F[rows, o, i:, o + 1 :].transpose(0, 2, 1)
        F[i + _TILE :, :, rows] = F[rows, :, i + _TILE :].transpose(2, 1, 0, 3)


def _add_cross_block(first: LayerSignals, second: LayerSignals, out: Array, n: int) -> None:
    """Add 1/n of the block between two layers to out (I O, I' O')."""
    if first.abar.shape[1] > 1 or second.abar.shape[1] > 1:
        _add_gradient_products(first, second, out, n)
        return
    abar, g = first.abar[:, 0], first.g[:, :, 0]
    other, h = second.abar[:, 0], second.g[:, :, 0]
    F = out.reshape(abar.shape[1], g.shape[-1], other.shape[1], h.shape[-1])
    step = max(1, _SCRATCH // (len(abar) * h.shape[-1]))
    for o in range(g.shape[-1]):
        c = _target_sums(g, o, h) / n
        for j in range(0, other.shape[1], step):
            weighted = other[:, j : j + step, None] * c[:, None, :]
            found = abar.T @ weighted.reshape(len(abar), -1)  # (i, j p)
            F[:, o, j : j + step] += found.reshape(len(found), -1, h.shape[-1])


def _add_gradient_products(first: LayerSignals, second: LayerSignals, out: Array, n: int) -> None:
    """The same for shared weights, by per-example gradients: K N P P' multiplications."""
    left, right = (
        layer.gradients().reshape(-1, size) for layer, size in zip((first, second), out.shape, strict=True)
    )
    out += left.T @ right / n


def _transpose_into(source: Array, target: Array, tile: int = 512) -> None:
    """target = source^T, tile by tile: NumPy's own copy of a large transpose misses the cache."""
    for i in range(0, source.shape[0], tile):
        for j in range(0, source.shape[1], tile):
            target[j : j + tile, i : i + tile] = source[i : i + tile, j : j + tile].T


class DenseMatrix(FisherMatrix):
    """A symmetric (P, P) array, and where the parameter layers lie in it."""

    def __init__(
        self,
        array: Array,
        names: Sequence[str] | None = None,
        slices: Sequence[slice] | None = None,
        name: str = "the matrix",
    ) -> None:
        if array.ndim != 2 or array.shape[0] != array.shape[1]:
            raise ValueError(f"expected a square array, got shape {array.shape}")
        self.array = array
        self.slices = tuple(slices) if slices else (slice(0, len(array)),)
        self.names = tuple(names) if names else (name,)
        self.name = name

    def __repr__(self) -> str:
        return f"DenseMatrix({self.name}, shape={self.shape})"

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self.array), len(self.array))

    @property
    def like(self) -> Array:
        return self.array

    @property
    def floats(self) -> int:
        return self.array.size

    @property
    def blocks(self) -> Sequence[DenseMatrix]:
        return [
            DenseMatrix(self.array[own, own], name=f"the block of {name}")
            for own, name in zip(self.slices, self.names, strict=True)
        ]

    def _product(self, v: Array) -> Array:
        return self.array @ v

    def to_dense(self) -> Array:
        return self.array

    def diagonal(self) -> Array:
        return self.array.diagonal()

    def damped(self, lam: float, method: str | None = None) -> DenseMatrix:
        check_method(method)
        return DenseMatrix(
            add_to_diagonal(self.array, check_damping(lam)), self.names, self.slices, self.name
        )

    def inverse(
        self,
        damping: float = 0.0,
        method: str | None = None,
        pseudo_inverse: bool = False,
        explicit: bool = False,
    ) -> Operator:
        check_method(method)
        if check_damping(damping) == 0 and pseudo_inverse:
            return DenseMatrix(_pseudo_inverse(self.array), self.names, self.slices, self.name)
        L = self._cholesky(damping)
        if explicit:
            return DenseMatrix(cholesky_inverse(L), self.names, self.slices, self.name)
        return CholeskySolver(L)

    def _cholesky(self, damping: float) -> Array:
        if damping == 0:
            return cholesky(self.array, self.name)
        return cholesky(add_to_diagonal(self.array, damping), f"{self.name} + damping", overwrite=True)

    def logdet(self, damping: float = 0.0, method: str | None = None) -> float:
        check_method(method)
        return CholeskySolver(self._cholesky(check_damping(damping))).logdet()


_pseudo_inverse = pseudo_inverse  # inside ``inverse`` the name is that of an argument


class CholeskySolver(Operator):
    """M^{-1} by the Cholesky factor L of M = L L^T."""

    def __init__(self, L: Array) -> None:
        self.L = L

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self.L), len(self.L))

    @property
    def like(self) -> Array:
        return self.L

    def _product(self, v: Array) -> Array:
        return cholesky_solve(self.L, v)

    def to_dense(self) -> Array:
        return cholesky_inverse(self.L)

    def logdet(self) -> float:
        """log det M = 2 sum log L_ii."""
        return 2 * float(array_module(self.L).log(self.L.diagonal()).sum())
