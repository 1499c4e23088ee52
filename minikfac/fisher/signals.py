"""The two signals that every curvature matrix here is made of.

    abar (N, T, I)     what goes into a layer's weights, with a constant 1 appended
    g    (K, N, T, O)  derivative of the negative log-likelihood by what comes out of them

T is 1 for a dense layer. K runs over the terms of the expectation over targets, each with its
square-root weight folded in, so that every expectation is (1/N) sum_n sum_k:

    targets="model"    K = C columns of the root of the output's Fisher matrix: the exact expectation
    targets="sampled"  K = n_samples targets drawn from the model, weight 1 / sqrt(n_samples)
    targets="data"     K = 1, the labels themselves: the empirical Fisher [KBH19]

The gradient of one example for one term is sum_t abar[n, t] g[k, n, t]^T. Scale and shift of a
normalization, W (2, C), enter every location as s = scale * xhat + shift; there abar is (N, T, 2, C), xhat
and 1, and the gradient is sum_t abar[n, t] * g[k, n, t].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from numbers import Integral
from typing import Any

from ..backend import Array, array_module
from ..distributed import SERIAL, Communicator
from ..network import Network
from ..network.outputs import Output


@dataclass(frozen=True)
class LayerSignals:
    """What one parameter layer contributes.

    Attributes:
        abar: (N, T, I); (N, T, 2, C) for scale and shift.
        g: (K, N, T, O), per example and never divided by N.
        grid: (H, W) with H W = T where locations are those of an image, row by row.
    """

    abar: Array
    g: Array
    grid: tuple[int, int] | None = None

    @property
    def scale_and_shift(self) -> bool:
        """Whether the weights are those of a normalization, (2, C)."""
        return self.abar.ndim == 4

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(I, O), or (2, C)."""
        return (2 if self.scale_and_shift else self.abar.shape[-1]), self.g.shape[-1]

    def gradients(self) -> Array:
        """Per-example gradients of the negative log-likelihood, (K, N, I O), one per term."""
        k, n, t = self.g.shape[:3]
        xp = array_module(self.g)
        if self.scale_and_shift:
            return xp.einsum("ntic,kntc->knic", self.abar, self.g).reshape(k, n, -1)
        if t == 1:
            return (self.abar[:, 0, :, None] * self.g[:, :, 0, None, :]).reshape(k, n, -1)
        return (self.abar.transpose(0, 2, 1) @ self.g).reshape(k, n, -1)

    def pieces(self, most: int = 2**24) -> Iterator[LayerSignals]:
        """Divide the examples so that the per-example gradients of a piece are about ``most`` numbers."""
        step = max(1, most // (len(self.g) * math.prod(self.weight_shape)))
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
        """Each example's gradient times a direction V in weights, (K, N)."""
        ds = (self.abar * V).sum(-2) if self.scale_and_shift else self.abar @ V
        return (ds[None] * self.g).sum((2, 3))

    def summed_gradients(self, weights: Array) -> Array:
        """Sum over examples and terms of weights (K, N) times gradients, in the shape of W."""
        xp = array_module(self.g)
        g = (self.g * weights[:, :, None, None]).sum(0)
        if self.scale_and_shift:
            return xp.einsum("ntic,ntc->ic", self.abar, g)
        return xp.tensordot(self.abar, g, ((0, 1), (0, 1)))


@dataclass(frozen=True)
class Signals:
    """The signals of a batch, whole or as a recipe that makes them chunk by chunk.

    Iterating yields chunks, each a list of :class:`LayerSignals`; it can be repeated. What a function
    sums over the chunks it divides by :attr:`n`. On several ranks each has chunks of its own examples, and
    means are over those of all.

    Attributes:
        names: of the layers.
        shapes: of their weights, (I, O) each.
        n: number of examples N, over all chunks and ranks.
        n_chunks: how many chunks.
        make_chunks: makes them anew.
        dense_chain: whether the layers are dense ones, each feeding the next.
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
        """Wrap arrays that are there already, as one chunk.

        Raises:
            ValueError: on no layers, or shapes or a number of names that do not belong together.
        """
        held = list(layers)
        if not held:
            raise ValueError("expected at least one layer, got none")
        names = tuple(names) if names else tuple(f"layer{number}" for number in range(len(held)))
        if len(names) != len(held):
            raise ValueError(f"expected {len(held)} names, one per layer, got {len(names)}")
        k, n = held[0].g.shape[0], held[0].abar.shape[0]
        for layer, name in zip(held, names, strict=True):
            t = layer.abar.shape[1] if layer.abar.ndim in (3, 4) else "T"
            if layer.scale_and_shift and layer.abar.shape[2:] != (2, layer.g.shape[-1]):
                raise ValueError(
                    f"expected abar ({n}, {t}, 2, C) and g ({k}, {n}, {t}, C) for scale and shift of {name}, "
                    f"got {layer.abar.shape} and {layer.g.shape}"
                )
            if (
                layer.abar.ndim not in (3, 4)
                or layer.g.ndim != 4
                or (len(layer.abar), *layer.g.shape[:3]) != (n, k, n, t)
            ):
                raise ValueError(
                    f"expected abar ({n}, {t}, I) and g ({k}, {n}, {t}, O) for {name}, "
                    f"got {layer.abar.shape} and {layer.g.shape}"
                )
        dense = all(layer.abar.shape[1] == 1 and not layer.scale_and_shift for layer in held)
        shapes = tuple(layer.weight_shape for layer in held)
        return cls(names, shapes, len(held[0].abar), 1, lambda: iter([held]), dense)

    def __iter__(self) -> Iterator[list[LayerSignals]]:
        return self.make_chunks()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def scale_and_shift(self) -> tuple[bool, ...]:
        """Which layers are those of a normalization."""
        return tuple(layer.scale_and_shift for layer in next(iter(self)))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each layer's parameters lie among those of all."""
        ends = accumulate((math.prod(shape) for shape in self.shapes), initial=0)
        return tuple(slice(a, b) for a, b in pairwise(ends))

    def __getitem__(self, layer: int | str) -> LayerSignals:
        """Return one layer's signals, by index or name.

        Raises:
            ValueError: if they come in several chunks and so never exist as a whole.
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
        if isinstance(layer, str):
            if layer not in self.names:
                raise KeyError(f"expected one of the layers {', '.join(self.names)}, got {layer!r}")
            return self.names.index(layer)
        if not -len(self) <= layer < len(self):
            raise IndexError(f"expected a layer from 0 to {len(self) - 1}, got {layer}")
        return layer % len(self)

    def select(self, layers: Sequence[int | str]) -> Signals:
        """Signals of some of the layers only, as for the four middle layers of [MG15, sec. 3.1]."""
        chosen = [self.index(layer) for layer in layers]
        if not chosen:
            raise ValueError("expected at least one layer, got none")
        chain = self.dense_chain and chosen == list(range(chosen[0], chosen[0] + len(chosen)))
        return replace(
            self,
            names=tuple(self.names[layer] for layer in chosen),
            shapes=tuple(self.shapes[layer] for layer in chosen),
            make_chunks=lambda: ([chunk[layer] for layer in chosen] for chunk in self),
            dense_chain=chain,
        )

    def mean(self, statistic: Callable[[LayerSignals], tuple[Array, ...]]) -> list[tuple[Array, ...]]:
        """Average a statistic of each layer over examples.

        Args:
            statistic: takes the signals of one layer and one chunk, returns sums over its examples.

        Returns:
            Per layer, the sums over all chunks divided by N.
        """
        return self.mean_over_chunks(lambda chunk: [statistic(layer) for layer in chunk])

    def mean_over_chunks(
        self, statistic: Callable[[list[LayerSignals]], Sequence[tuple[Array, ...]]]
    ) -> list[tuple[Array, ...]]:
        """Average statistics that need several layers of a chunk at once; else as :meth:`mean`."""
        total: list[tuple[Array, ...]] = []
        for chunk in self:
            found = statistic(chunk)
            total = (
                [tuple(a + b for a, b in zip(*pair, strict=True)) for pair in zip(total, found, strict=True)]
                if total
                else list(found)
            )
        summed = iter(self.comm.sum([array for arrays in total for array in arrays]))
        return [tuple(next(summed) / self.n for _ in arrays) for arrays in total]


def signals(
    net: Network,
    theta: Array,
    x: Array,
    y: Array | None = None,
    targets: str = "model",
    n_samples: int = 1,
    rng: Any = None,
    batch_size: int | None = None,
    stats: Sequence[Array] | None = None,
    train: bool = False,
) -> Signals:
    """Run a net forward and backward and keep abar and g of every parameter layer.

    Batch normalization in training couples the examples of a batch, and then no example has a gradient of
    its own. Here its statistics are constants, as in every library; what that leaves out is in
    :func:`minikfac.fisher.joint`.

    Where the net is on several ranks, each keeps the signals of its own examples. Each draws the targets of
    all of them, so that an example has the same ones on any number of ranks.

    Args:
        net: the network.
        theta: (P,).
        x: inputs, (N, features) or images (N, H, W, C).
        y: targets, for ``targets="data"`` only.
        targets: "model" (exact expectation over the model's targets, K = C), "sampled" (Monte Carlo,
            K = n_samples) or "data" (the labels: empirical Fisher, K = 1).
        n_samples: targets drawn per example, for ``targets="sampled"``.
        rng: a ``numpy.random.Generator``, for ``targets="sampled"``.
        batch_size: examples per chunk. With it the result is a recipe that recomputes the chunks each
            time it is read, and only one chunk is in memory; without it there is one chunk, kept.
        stats: running statistics of batch normalization; those of ``net.init_stats()`` by default.
        train: use the statistics of this batch instead.

    Raises:
        ValueError: on arguments that do not go together, or what ``Network.forward`` refuses.
        TypeError: if rng is no generator, such as a seed.
    """
    if batch_size is not None and not (isinstance(batch_size, Integral) and batch_size >= 1):
        raise ValueError(f"expected batch_size to be a whole number >= 1, got {batch_size!r}")
    terms = Terms.of(net, theta, x, y, targets, n_samples, rng)
    if train:
        stats = net.batch_stats(theta, x)

    def chunk(rows: slice) -> list[LayerSignals]:
        tape = net.forward(theta, x[rows], stats)
        g = net.backward(theta, tape, terms(tape.z, rows))
        return [LayerSignals(*own) for own in zip(tape.abar, g, tape.grids, strict=True)]

    n, own = len(x), net.comm.rows(len(x))
    if own.start == own.stop:  # a rank without examples has one that adds nothing
        held = [LayerSignals(0 * layer.abar, 0 * layer.g, layer.grid) for layer in chunk(slice(0, 1))]
    elif batch_size is None or batch_size >= own.stop - own.start:
        held = chunk(own)
    else:
        starts = range(own.start, own.stop, batch_size)
        return Signals(
            net.names,
            net.shapes,
            n,
            len(starts),
            lambda: (chunk(slice(start, min(start + batch_size, own.stop))) for start in starts),
            net.is_dense_chain,
            net.comm,
        )
    return replace(Signals.from_layers(held, net.names), n=n, dense_chain=net.is_dense_chain, comm=net.comm)


TARGETS = ("model", "sampled", "data")
"""Where targets can come from."""


@dataclass(frozen=True)
class Terms:
    """The terms of the expectation over targets: derivatives dz (K, N, C) with their root weights.

    Attributes:
        output: the output distribution.
        targets: among :data:`TARGETS`.
        n_samples: targets drawn per example.
        y: labels, for "data".
        noise: drawn for the whole batch at once, of which chunks take their rows, for "sampled".
    """

    output: Output
    targets: str
    n_samples: int
    y: Array | None
    noise: Array | None

    @classmethod
    def of(
        cls, net: Network, theta: Array, x: Array, y: Array | None, targets: str, n_samples: int, rng: Any
    ) -> Terms:
        """Check what was asked for, and draw.

        Raises:
            ValueError: on arguments that do not go together.
            TypeError: if rng is no generator, such as a seed.
        """
        if targets not in TARGETS:
            raise ValueError(f"expected targets 'model', 'sampled' or 'data', got {targets!r}")
        if (y is None) == (targets == "data"):
            raise ValueError(f"expected targets y exactly where targets='data', got targets={targets!r}")
        if (rng is None) == (targets == "sampled"):
            raise ValueError(
                f"expected a generator rng exactly where targets='sampled', got targets={targets!r}"
            )
        if rng is not None and not hasattr(rng, "standard_normal"):
            raise TypeError(f"expected rng = numpy.random.default_rng(seed), got {rng!r}")
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"expected n_samples to be a whole number >= 1, got {n_samples!r}")
        if targets != "sampled" and n_samples != 1:
            raise ValueError(f"expected n_samples other than 1 only where targets='sampled', got {n_samples}")
        noise = None
        if y is not None or targets == "sampled":
            units = net.n_outputs(x)
            if y is not None:
                net.output.check(y, len(x), units)
            else:
                noise = array_module(theta).asarray(net.output.noise(rng, len(x), n_samples, units))
        return cls(net.output, targets, n_samples, y, noise)

    def __call__(self, z: Array, rows: slice) -> Array:
        """Derivatives (K, n, C) for the examples of a chunk."""
        if self.targets == "model":
            return self.output.fisher_root(z)
        if self.y is not None:
            return self.output.gradient(z, self.y[rows])[None]
        assert self.noise is not None
        drawn = self.output.transform_noise(z, self.noise[rows])
        return (self.output.mean(z) - self.output.encode(drawn, z)) / self.n_samples**0.5
