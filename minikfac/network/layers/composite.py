"""Layers made of layers: one after the other, around a shortcut, side by side.

    Sequential   y = f_m( ... f_2(f_1(x)))
    Residual     y = body(x) + shortcut(x)                  the shortcut is x itself by default [HZRS16]
    Parallel     y = [f_1(x), f_2(x), ...]                  joined along the last axis [SLJS15]

Weights are dealt out depth first, in the order in which the parts are named.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ...backend import Array, array_module
from ...linalg import consecutive
from .base import Derivatives, Differentials, Layer, ParameterLayer, Record, Shape, Weights
from .normalization import BatchNorm, Unscaled


class Composite(Layer):
    """Layers inside a layer; the record is a list with one record per part."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Layer, ...]:
        """The layers inside, in the order in which weights are dealt out."""

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(shape for part in self.parts for shape in part.weight_shapes)

    @property
    def parameter_layers(self) -> tuple[ParameterLayer, ...]:
        return tuple(inner for part in self.parts for inner in part.parameter_layers)

    @property
    def statistics_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(shape for part in self.parts for shape in part.statistics_shapes)

    def example_size(self, shape: Shape) -> int:
        return max(super().example_size(shape), *(part.example_size(shape) for part in self.parts))

    def example_work(self, shape: Shape) -> int:
        return sum(part.example_work(shape) for part in self.parts)

    def _deal(self, Ws: Weights) -> list[Weights]:
        """Deal the weights out to the parts."""
        return [Ws[share] for share in consecutive(len(part.weight_shapes) for part in self.parts)]

    def _deal_statistics(self, stats: Weights | None) -> Sequence[Weights | None]:
        if stats is None:
            return [None] * len(self.parts)
        return [stats[share] for share in consecutive(len(part.statistics_shapes) for part in self.parts)]

    def records(self, record: Record) -> list[Record]:
        return [inner for part, memo in zip(self.parts, record, strict=True) for inner in part.records(memo)]

    def signals(self, record: Record) -> list[tuple[Array, Array]]:
        return [pair for part, memo in zip(self.parts, record, strict=True) for pair in part.signals(memo)]

    def grids(self, record: Record) -> list[tuple[int, int]]:
        return [grid for part, memo in zip(self.parts, record, strict=True) for grid in part.grids(memo)]

    def statistics(self, record: Record) -> list[Array]:
        return [used for part, memo in zip(self.parts, record, strict=True) for used in part.statistics(memo)]


@dataclass(frozen=True)
class Sequential(Composite):
    """One layer after the other.

    Raises:
        TypeError: on anything but a layer.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"expected layers of minikfac.layers, got {layer!r}")

    @property
    def parts(self) -> tuple[Layer, ...]:
        return self.layers

    def output_shape(self, shape: Shape | None) -> Shape | None:
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def example_size(self, shape: Shape) -> int:
        size, now = math.prod(extent or 1 for extent in shape), shape
        for layer in self.layers:
            size = max(size, layer.example_size(now))
            now = layer.output_shape(now) or now
        return size

    def example_work(self, shape: Shape) -> int:
        work = 0
        for layer in self.layers:
            work += layer.example_work(shape)
            shape = layer.output_shape(shape) or shape
        return work

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        records = []
        shares = zip(self.layers, self._deal(Ws), self._deal_statistics(stats), strict=True)
        for layer, weights, statistics in shares:
            x, record = layer.forward(weights, x, statistics)
            records.append(record)
        return x, records

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        # below the first parameter layer no derivatives are needed
        first = 0 if need_dx else next((n for n, layer in enumerate(self.layers) if layer.weight_shapes), 0)
        shares = self._deal(Ws)
        gs: list[Array] = []
        dx: Array | None = dy
        for n in reversed(range(first, len(self.layers))):
            assert dx is not None
            dx, inner = self.layers[n].backward(shares[n], record[n], dx, need_dx or n > first)
            gs = inner + gs
        return dx, gs

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        tangents = []
        shares = zip(self.layers, self._deal(Ws), self._deal(Vs), record, strict=True)
        for layer, weights, directions, memo in shares:
            dx, tangent = layer.jvp(weights, directions, memo, dx)
            tangents.append(tangent)
        return dx, tangents

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        shares, directions = self._deal(Ws), self._deal(Vs)
        signals: list[tuple[Array, Array, Array, Array]] = []
        for n in reversed(range(len(self.layers))):
            layer = self.layers[n]
            dy, rdy, inner = layer.backward_jvp(shares[n], directions[n], record[n], tangent[n], dy, rdy)
            signals = inner + signals
        return dy, rdy, signals


class _SideBySide(Composite):
    """Parts that read the same x, so that their derivatives with respect to it add up."""

    @abstractmethod
    def _split(self, record: Record, dy: Array) -> list[Array]:
        """dL/dy of each part, from that of what they make together."""

    def _forwards(self, Ws: Weights, x: Array, stats: Weights | None) -> tuple[list[Array], list[Record]]:
        shares = zip(self.parts, self._deal(Ws), self._deal_statistics(stats), strict=True)
        passes = [part.forward(weights, x, statistics) for part, weights, statistics in shares]
        return [y for y, _ in passes], [record for _, record in passes]

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        shares = zip(self.parts, self._deal(Ws), record, self._split(record, dy), strict=True)
        passes = [part.backward(weights, memo, share, need_dx) for part, weights, memo, share in shares]
        return (_total([dx for dx, _ in passes]) if need_dx else None), [g for _, gs in passes for g in gs]

    def _jvps(
        self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None
    ) -> tuple[list[Array | None], list[Record]]:
        shares = zip(self.parts, self._deal(Ws), self._deal(Vs), record, strict=True)
        passes = [part.jvp(weights, directions, memo, dx) for part, weights, directions, memo in shares]
        return [dy for dy, _ in passes], [tangent for _, tangent in passes]

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        dys, rdys = self._split(record, dy), self._split(record, rdy)
        shares = zip(self._deal(Ws), self._deal(Vs), record, tangent, dys, rdys, strict=True)
        dxs, rdxs, signals = zip(
            *(part.backward_jvp(*share) for part, share in zip(self.parts, shares, strict=True)), strict=True
        )
        return _total(dxs), _total(rdxs), [four for inner in signals for four in inner]


def _total(derivatives: Sequence[Any]) -> Any:
    return sum(derivatives[1:], start=derivatives[0])


class Residual(_SideBySide):
    """y = body(x) + shortcut(x).

    Args:
        body: a layer, or several to be run one after the other.
        shortcut: likewise, for what changes the shape, as a 1 x 1 convolution; x itself by default.

    Raises:
        ValueError: if the two give different shapes, where that can be known before an input is.
    """

    def __init__(self, body: Layer | Sequence[Layer], shortcut: Layer | Sequence[Layer] = ()) -> None:
        self.body, self.shortcut = as_layer(body), as_layer(shortcut)
        self.output_shape(None)

    def __repr__(self) -> str:
        return f"Residual({self.body!r}, shortcut={self.shortcut!r})"

    @property
    def parts(self) -> tuple[Layer, ...]:
        return (self.body, self.shortcut)

    def output_shape(self, shape: Shape | None) -> Shape | None:
        ours, other = self.body.output_shape(shape), self.shortcut.output_shape(shape)
        if ours is None or other is None:
            return ours or other
        fits = len(ours) == len(other) and all(
            a == b for a, b in zip(ours, other, strict=True) if None not in (a, b)
        )
        if not fits:
            raise ValueError(f"expected one shape from body and shortcut of Residual, got {ours} and {other}")
        return ours

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        (y, short), records = self._forwards(Ws, x, stats)
        if y.shape != short.shape:
            raise ValueError(
                f"expected one shape from body and shortcut of Residual, got {y.shape} and {short.shape}"
            )
        return y + short, records

    def _split(self, record: Record, dy: Array) -> list[Array]:
        return [dy, dy]

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        dys, tangents = self._jvps(Ws, Vs, record, dx)
        moving = [dy for dy in dys if dy is not None]
        return (_total(moving) if moving else None), tangents


class Parallel(_SideBySide):
    """y = [branch_1(x), branch_2(x), ...], joined along the last axis: features, or channels of images.

    Args:
        branches: each a layer, or several to be run one after the other.

    Raises:
        ValueError: without branches, or where their images differ in height or width.
    """

    def __init__(self, *branches: Layer | Sequence[Layer]) -> None:
        if not branches:
            raise ValueError("expected at least one branch in Parallel, got none")
        self.branches = tuple(as_layer(branch) for branch in branches)
        self.output_shape(None)

    def __repr__(self) -> str:
        return f"Parallel({', '.join(map(repr, self.branches))})"

    @property
    def parts(self) -> tuple[Layer, ...]:
        return self.branches

    def output_shape(self, shape: Shape | None) -> Shape | None:
        shapes = [branch.output_shape(shape) for branch in self.branches]
        given = [inner for inner in shapes if inner is not None]
        places: list[set[int]] = [
            {extent for inner in given if len(inner) > axis + 1 and (extent := inner[axis]) is not None}
            for axis in range(2)
        ]
        if len({len(inner) for inner in given}) > 1 or any(len(extents) > 1 for extents in places):
            raise ValueError(f"expected branches of Parallel with one height and width, got {given}")
        if len(given) < len(shapes):
            return None
        channels = [inner[-1] for inner in given]
        where = tuple(next(iter(extents), None) for extents in places) if len(given[0]) == 3 else ()
        return (*where, None if None in channels else sum(c for c in channels if c is not None))

    def forward(self, Ws: Weights, x: Array, stats: Weights | None = None) -> tuple[Array, Record]:
        ys, records = self._forwards(Ws, x, stats)
        if len({y.shape[:-1] for y in ys}) > 1:
            shapes = ", ".join(str(y.shape) for y in ys)
            raise ValueError(f"expected branches of Parallel with one height and width, got {shapes}")
        return array_module(x).concatenate(ys, axis=-1), _BranchRecords(records, [y.shape for y in ys])

    def _split(self, record: Record, dy: Array) -> list[Array]:
        return [dy[..., channels] for channels in consecutive(shape[-1] for shape in record.shapes)]

    def jvp(self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None) -> tuple[Array | None, Record]:
        dys, tangents = self._jvps(Ws, Vs, record, dx)
        like = next((dy for dy in dys if dy is not None), None)
        if like is None:
            return None, tangents
        xp = array_module(like)
        whole = [
            xp.zeros(shape, dtype=like.dtype) if dy is None else dy
            for dy, shape in zip(dys, record.shapes, strict=True)
        ]
        return xp.concatenate(whole, axis=-1), tangents


class _BranchRecords(list[Record]):
    """The records of parallel branches, and the shapes of what came out of them."""

    def __init__(self, records: Sequence[Record], shapes: list[tuple[int, ...]]) -> None:
        super().__init__(records)
        self.shapes = shapes


def batch_norms(layer: Layer) -> list[BatchNorm]:
    """Those inside a layer, in the order of their statistics."""
    if isinstance(layer, Composite):
        return [norm for part in layer.parts for norm in batch_norms(part)]
    norm = layer.norm if isinstance(layer, Unscaled) else layer
    return [norm] if isinstance(norm, BatchNorm) else []


def in_a_row(layers: Sequence[Layer]) -> list[Layer]:
    """Layers one after the other, those of a Sequential among them."""
    nested = ([layer] if not isinstance(layer, Sequential) else in_a_row(layer.layers) for layer in layers)
    return list(chain.from_iterable(nested))


def as_layer(layers: Layer | Sequence[Layer]) -> Layer:
    """Return a layer as it is, and several as one after the other.

    Raises:
        TypeError: on anything but a layer.
    """
    if isinstance(layers, Layer):
        return layers
    if not isinstance(layers, Sequence):
        raise TypeError(f"expected a layer of minikfac.layers, or several, got {layers!r}")
    row = Sequential(tuple(layers))
    return row.layers[0] if len(layers) == 1 else row
