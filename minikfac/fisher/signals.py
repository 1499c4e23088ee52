"""The two signals from which every curvature matrix is computed.

    abar (N, T, I)     the input of a layer's weights, with a constant 1 appended
    g    (K, N, T, O)  derivative of the negative log-likelihood with respect to the layer's pre-activations

T is 1 for a dense layer. K is the number of terms in the expectation over targets (:mod:`.targets`). Each g
includes the square root of its term's weight, so every expectation is (1/N) sum_n sum_k.

The gradient of one example for one term is sum_t abar[n, t] g[k, n, t]^T. The scale and shift of a
normalization, W (2, C), are applied at every location, s = scale * xhat + shift; their abar (N, T, 2, C)
consists of xhat and 1, and the gradient is sum_t abar[n, t] * g[k, n, t].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..backend import Array, all_finite, array_module, check_memory, on_host, to_host, whole_number
from ..display import Display, Shown, ShownByFields, by
from ..distributed import SERIAL, Communicator
from ..linalg import consecutive
from ..network import Network
from ..network.network import Stats, as_batch, layer_index
from .targets import Targets

Arrays = tuple[Array, ...]
"""A layer's contributions to sums."""
_GRADIENTS = 2**24
"""Approximate size of the per-example gradients formed at once."""
_MANY = 1000
"""Least number of examples for which memory is checked with a single one first."""


@dataclass(frozen=True, repr=False)
class LayerSignals(ShownByFields):
    """The signals of one parameter layer.

    Attributes:
        abar: (N, T, I); (N, T, 2, C) for scale and shift, (N, T, 1, C) for a scale alone.
        g: (K, N, T, O), per example, never divided by N.
        grid: (H, W) with H W = T if locations are those of an image, in row-major order.
    """

    abar: Array
    g: Array
    grid: tuple[int, int] | None = None

    @property
    def scale_and_shift(self) -> bool:
        """Whether the weights are a normalization's, (2, C) or (1, C)."""
        return self.abar.ndim == 4

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(I, O), or (2, C) or (1, C)."""
        return self.abar.shape[2], self.g.shape[-1]

    def gradients(self) -> Array:
        """Per-example gradients of the negative log-likelihood, (K, N, I O), one per term."""
        k, n, t = self.g.shape[:3]
        xp = array_module(self.g)
        if self.scale_and_shift:
            return xp.einsum("ntic,kntc->knic", self.abar, self.g).reshape(k, n, -1)
        if t == 1:
            return (self.abar[:, 0, :, None] * self.g[:, :, 0, None, :]).reshape(k, n, -1)
        return (self.abar.transpose(0, 2, 1) @ self.g).reshape(k, n, -1)

    def pieces(self) -> Iterator[LayerSignals]:
        """Split the examples so that the per-example gradients of each piece have about 2**24 numbers."""
        step = max(1, _GRADIENTS // (len(self.g) * math.prod(self.weight_shape)))
        for start in range(0, len(self.abar), step):
            rows = slice(start, start + step)
            yield LayerSignals(self.abar[rows], self.g[:, rows], self.grid)

    def second_moment(self) -> Array:
        """Sum over examples and terms of D D^T for the gradients D: N times the exact block, (P, P)."""
        total: Any = 0
        for piece in self.pieces():
            D = piece.gradients().reshape(-1, math.prod(self.weight_shape))
            total = total + D.T @ D
        return total

    def along(self, V: Array) -> Array:
        """Inner products of the examples' gradients with a direction V of the weights, (K, N)."""
        ds = (self.abar * V).sum(-2) if self.scale_and_shift else self.abar @ V
        return (ds[None] * self.g).sum((2, 3))

    def summed_gradients(self, weights: Array) -> Array:
        """Sum over examples and terms of weights (K, N) times gradients, in the shape of W."""
        xp = array_module(self.g)
        g = (self.g * weights[:, :, None, None]).sum(0)
        if self.scale_and_shift:
            return xp.einsum("ntic,ntc->ic", self.abar, g)
        return xp.tensordot(self.abar, g, ((0, 1), (0, 1)))


@dataclass(frozen=True, repr=False)
class Signals(Shown):
    """The signals of a batch, stored or as a recipe that computes them chunk by chunk.

    Iterating, repeatedly if needed, yields chunks, each a list of :class:`LayerSignals`. :meth:`total` sums
    the chunks' contributions to means over all :attr:`n` examples. With several ranks, each has chunks of its
    own examples, and means are over all ranks.

    Attributes:
        names: names of the layers.
        shapes: shapes of their weights, (I, O) each.
        n: number of examples N, over all chunks and ranks.
        n_chunks: number of chunks.
        make_chunks: recomputes the chunks.
        dense_chain: whether the layers are dense and each feeds the next.
        comm: the ranks.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    n: int
    n_chunks: int
    make_chunks: Callable[[], Iterator[list[LayerSignals]]]
    dense_chain: bool = False
    comm: Communicator = SERIAL

    @classmethod
    def from_layers(cls, layers: Sequence[LayerSignals], names: Sequence[str] | None = None) -> Signals:
        """Wrap existing arrays as one chunk.

        Raises:
            ValueError: on no layers, or on shapes or names that do not match.
        """
        layers = list(layers)
        if not layers or not all(isinstance(layer, LayerSignals) for layer in layers):
            raise ValueError(f"expected at least one LayerSignals, got {layers}")
        names = tuple(names) if names else tuple(f"layer{number}" for number in range(len(layers)))
        if len(names) != len(layers):
            raise ValueError(f"expected {len(layers)} names, one per layer, got {len(names)}")
        k, n = layers[0].g.shape[0], layers[0].abar.shape[0]
        for layer, name in zip(layers, names, strict=True):
            abar, g = layer.abar.shape, layer.g.shape
            t = abar[1] if len(abar) in (3, 4) else "T"
            i, o = ("2, C", "C") if layer.scale_and_shift else ("I", "O")
            fits = not layer.scale_and_shift or abar[2:] in ((1, g[-1]), (2, g[-1]))
            if (*abar[:1], *g[:-1]) != (n, k, n, t) or not fits:
                raise ValueError(
                    f"expected abar ({n}, {t}, {i}) and g ({k}, {n}, {t}, {o}) for {name}, got {abar} and {g}"
                )
        dense = all(layer.abar.shape[1] == 1 and not layer.scale_and_shift for layer in layers)
        shapes = tuple(layer.weight_shape for layer in layers)
        _check_finite(layers, names)
        return cls(names, shapes, len(layers[0].abar), 1, [layers].__iter__, dense)

    def _display(self) -> Display:
        chunks = f" in {self.n_chunks} chunks" if self.n_chunks > 1 else ""
        size = self.slices[-1].stop
        title = f"Signals({len(self)} layers, {size:,} parameters, {self.n:,} examples{chunks})"
        header, note = ["layer", "weights", "parameters"], ""
        rows = [
            [name, by(shape), f"{math.prod(shape):,}"]
            for name, shape in zip(self.names, self.shapes, strict=True)
        ]
        if not chunks:  # otherwise a pass would be needed
            header += ["abar", "g"]
            note = "abar: examples x locations x inputs; g: target terms x examples x locations x outputs"
            for row, layer in zip(rows, next(iter(self)), strict=True):
                row += [by(layer.abar.shape), by(layer.g.shape)]
        return Display(title, header, rows, note)

    def plot(self, layer: int | str = 0) -> Any:
        """Plot a layer's exact block, A and G, their Kronecker product and its error.

        Returns:
            The axes.

        Raises:
            ValueError: on the scale and shift of a normalization, which have no such factors.
        """
        from .. import plots

        alone, name = self.select([layer]), self.names[self.index(layer)]
        if alone.scale_and_shift[0]:
            raise ValueError(f"expected a layer with factors A and G, got scale and shift in {name}")

        def moments(part: LayerSignals, n: int) -> Arrays:
            abar, g = (x.reshape(-1, x.shape[-1]) for x in (part.abar, part.g))
            return part.second_moment() / n, abar.T @ abar / n, g.T @ g / (n * part.abar.shape[1])

        ((block, A, G),) = alone.total(moments)
        return plots.kronecker_factors(to_host(block), to_host(A), to_host(G), name=name)

    def __iter__(self) -> Iterator[list[LayerSignals]]:
        return self.make_chunks()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def scale_and_shift(self) -> tuple[bool, ...]:
        """For each layer, whether it is a normalization's scale and shift."""
        return tuple(layer.scale_and_shift for layer in next(iter(self)))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices of the layers' parameters in the flat vector."""
        return consecutive(math.prod(shape) for shape in self.shapes)

    def __getitem__(self, layer: int | str) -> LayerSignals:
        """Return one layer's signals, by index or name.

        Raises:
            ValueError: if the signals come in several chunks.
        """
        position = self.index(layer)
        if self.n_chunks > 1:
            part = next(iter(self))[position]
            whole = (part.abar.nbytes + part.g.nbytes) * self.n / len(part.abar) / 2**30
            raise ValueError(
                f"expected one chunk, got {self.n_chunks}: the signals of {self.names[position]} would take "
                f"{whole:.2f} GiB at once; iterate over the chunks, or make signals without batch_size"
            )
        return next(iter(self))[position]

    def index(self, layer: int | str) -> int:
        """Position of a layer given by index or name."""
        return layer_index(self.names, layer)

    def select(self, layers: Sequence[int | str]) -> Signals:
        """Signals of a subset of the layers, such as the four middle ones in [MG15, sec. 3.1]."""
        chosen = [self.index(layer) for layer in layers]
        if not chosen:
            raise ValueError("expected at least one layer, got none")
        chain = self.dense_chain and chosen == list(range(chosen[0], chosen[0] + len(chosen)))
        return replace(
            self,
            names=tuple(self.names[layer] for layer in chosen),
            shapes=tuple(self.shapes[layer] for layer in chosen),
            make_chunks=partial(_some_layers, self.make_chunks, chosen),
            dense_chain=chain,
        )

    def total(self, contribution: Callable[[LayerSignals, int], Arrays]) -> list[Arrays]:
        """Sum the contributions of each layer over all chunks and ranks.

        Args:
            contribution: given the signals of a layer in one chunk, and N, returns the chunk's contributions
                to means over all N examples.

        Returns:
            The means for each layer.
        """
        sums: list[Arrays] = []
        for chunk in self:
            sums = _added(sums, [contribution(layer, self.n) for layer in chunk])
        return self._over_ranks(sums)

    def total_of_chunks(
        self, contribution: Callable[[list[LayerSignals], int], Sequence[Arrays]]
    ) -> list[Arrays]:
        """Like :meth:`total`, for contributions that need several layers of a chunk at once."""
        sums: list[Arrays] = []
        for chunk in self:
            sums = _added(sums, contribution(chunk, self.n))
        return self._over_ranks(sums)

    def _over_ranks(self, sums: list[Arrays]) -> list[Arrays]:
        totals = iter(self.comm.sum([array for arrays in sums for array in arrays]))
        means = [tuple(next(totals) for _ in arrays) for arrays in sums]
        if not all(all_finite(array) for arrays in means for array in arrays if on_host(array)):
            raise ValueError(f"expected means that {means[0][0].dtype} can hold, got NaN or infinity")
        return means


def _some_layers(
    make_chunks: Callable[[], Iterator[list[LayerSignals]]], chosen: Sequence[int]
) -> Iterator[list[LayerSignals]]:
    return ([chunk[layer] for layer in chosen] for chunk in make_chunks())


def _added(sums: list[Arrays], more: Sequence[Arrays]) -> list[Arrays]:
    """The sums with one more term each, or just the terms if there are no sums yet."""
    if not sums:
        return list(more)
    return [tuple(a + b for a, b in zip(*pair, strict=True)) for pair in zip(sums, more, strict=True)]


def signals(
    net: Network,
    theta: Array,
    x: Array,
    y: Array | None = None,
    targets: str = "model",
    n_samples: int = 1,
    rng: Any = None,
    batch_size: int | None = None,
    stats: Stats = None,
    train: bool = False,
    weights: Any = None,
) -> Signals:
    """Run a net forward and backward and keep abar and g of every parameter layer.

    Batch normalization in training couples the examples of a batch, so individual examples have no gradients.
    Here its statistics are held constant, as in every library; :func:`minikfac.fisher.joint` accounts for the
    coupling.

    With several ranks, each keeps the signals of its own examples. Every rank draws the targets of all
    examples, so that targets do not depend on the number of ranks.

    Args:
        net: the network.
        theta: (P,).
        x: inputs, (N, features), sequences (N, T, C) or images (N, H, W, C).
        y: targets, for ``targets="data"`` only.
        targets: "model" (exact expectation over the model's targets, K = C), "sampled" (Monte Carlo,
            K = n_samples) or "data" (the labels: empirical Fisher, K = 1).
        n_samples: targets drawn per example, for ``targets="sampled"``.
        rng: a ``numpy.random.Generator``, for ``targets="sampled"``.
        batch_size: examples per chunk. If given, the result is a recipe that recomputes the chunks each
            time it is read and holds one at a time in memory; otherwise there is a single, stored chunk.
        stats: running statistics of batch normalization; those of ``net.init_stats()`` by default.
        train: use the statistics of this batch instead.
        weights: of the examples, (N,), or of the independent terms of their targets, (N, terms), as in
            :meth:`minikfac.Network.loss`; g includes their square roots, and K-FAC's A counts all alike.
            With ``targets="data"`` and weights of terms it is the derivative of the terms so weighted.

    Raises:
        ValueError: on contradictory arguments, arguments that ``Network.forward`` rejects, or signals that
            overflow (on the host).
        MemoryError: with the size in GiB, if the signals of a chunk do not fit.
        TypeError: if rng is not a generator but, for example, a seed.
    """
    if batch_size is not None:
        batch_size = whole_number(batch_size, "batch_size")
    x = as_batch(x)
    expectation = Targets.of(net, theta, x, y, targets, n_samples, rng, weights)
    if train:
        stats = net.batch_stats(theta, x)

    chunk = partial(_chunk, net, theta, x, expectation, stats)
    rows = net.comm.rows(len(x))
    _check_size(chunk, rows, batch_size)
    n_chunks, make_chunks = _recipe(chunk, rows, batch_size)
    return Signals(
        net.names, net.shapes, len(x), n_chunks, make_chunks, net.is_dense_chain and x.ndim == 2, net.comm
    )


def _chunk(
    net: Network, theta: Array, x: Array, expectation: Targets, stats: Stats, rows: slice
) -> list[LayerSignals]:
    """The signals of a chunk of examples."""
    tape = net.forward(theta, x[rows], stats)
    g = net.backward(theta, tape, expectation.terms(tape.z, rows))
    layers = [LayerSignals(*layer) for layer in zip(tape.abar, g, tape.grids, strict=True)]
    _check_finite(layers, net.names)
    return layers


def _check_finite(layers: Sequence[LayerSignals], names: Sequence[str]) -> None:
    """Reject signals that overflowed; does nothing on a device, where a check would stall the queue."""
    for layer, name in zip(layers, names, strict=True):
        if on_host(layer.g) and not (all_finite(layer.abar) and all_finite(layer.g)):
            raise ValueError(f"expected finite signals, got NaN or infinity in abar or g of {name}")


def _check_size(chunk: Callable[[slice], list[LayerSignals]], rows: slice, batch_size: int | None) -> None:
    """Reject signals that do not fit into memory, judging by the size of one example's.

    Raises:
        MemoryError: with the size in GiB.
    """
    at_once = min(rows.stop - rows.start, batch_size or rows.stop - rows.start)
    if at_once >= _MANY:
        layers = chunk(slice(rows.start, rows.start + 1))
        numbers = sum(layer.abar.size + layer.g.size for layer in layers)
        like = layers[0].g
        instead = f"batch_size={_MANY // 10}, which makes them chunk by chunk"
        check_memory((at_once, numbers), like.dtype, "abar and g of all layers", instead, array_module(like))


def _recipe(
    chunk: Callable[[slice], list[LayerSignals]], rows: slice, batch_size: int | None
) -> tuple[int, Callable[[], Iterator[list[LayerSignals]]]]:
    """The number of chunks, and a function that recomputes them; a single chunk is stored."""
    if batch_size is not None and batch_size < rows.stop - rows.start:
        starts = range(rows.start, rows.stop, batch_size)
        parts = [slice(start, min(start + batch_size, rows.stop)) for start in starts]
        return len(parts), partial(map, chunk, parts)
    if rows.start < rows.stop:
        layers = chunk(rows)
    else:  # a rank without examples has one chunk, which adds nothing
        layers = [LayerSignals(0 * layer.abar, 0 * layer.g, layer.grid) for layer in chunk(slice(0, 1))]
    return 1, [layers].__iter__
