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
from itertools import accumulate, pairwise
from typing import Any

from ...backend import Array, array_module
from .base import Layer, ParameterLayer, Record, Shape


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

    def _deal(self, Ws: Sequence[Array]) -> list[Sequence[Array]]:
        """Deal the weights out to the parts."""
        ends = accumulate((len(part.weight_shapes) for part in self.parts), initial=0)
        return [Ws[start:stop] for start, stop in pairwise(ends)]

    def _deal_statistics(self, stats: Sequence[Array] | None) -> Sequence[Sequence[Array] | None]:
        if stats is None:
            return [None] * len(self.parts)
        ends = accumulate((len(part.statistics_shapes) for part in self.parts), initial=0)
        return [stats[start:stop] for start, stop in pairwise(ends)]

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
        TypeError: on what is no layer.
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

    def forward(
        self, Ws: Sequence[Array], x: Array, stats: Sequence[Array] | None = None
    ) -> tuple[Array, Record]:
        records = []
        for layer, own, known in zip(self.layers, self._deal(Ws), self._deal_statistics(stats), strict=True):
            x, record = layer.forward(own, x, known)
            records.append(record)
        return x, records

    def backward(
        self, Ws: Sequence[Array], record: Record, dy: Array, need_dx: bool = True
    ) -> tuple[Array | None, list[Array]]:
        # below the first parameter layer nobody asks for derivatives
        first = 0 if need_dx else next((n for n, layer in enumerate(self.layers) if layer.weight_shapes), 0)
        shares = self._deal(Ws)
        gs: list[Array] = []
        dx: Array | None = dy
        for n in reversed(range(first, len(self.layers))):
            assert dx is not None
            dx, inner = self.layers[n].backward(shares[n], record[n], dx, need_dx or n > first)
            gs = inner + gs
        return dx, gs

    def jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, dx: Array | None
    ) -> tuple[Array | None, Record]:
        tangents = []
        for layer, own, directions, memo in zip(
            self.layers, self._deal(Ws), self._deal(Vs), record, strict=True
        ):
            dx, tangent = layer.jvp(own, directions, memo, dx)
            tangents.append(tangent)
        return dx, tangents

    def backward_jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> tuple[Array, Array, list[tuple[Array, Array, Array, Array]]]:
        shares, directions = self._deal(Ws), self._deal(Vs)
        found: list[tuple[Array, Array, Array, Array]] = []
        for n in reversed(range(len(self.layers))):
            layer = self.layers[n]
            dy, rdy, inner = layer.backward_jvp(shares[n], directions[n], record[n], tangent[n], dy, rdy)
            found = inner + found
        return dy, rdy, found


class Residual(Composite):
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

    def forward(
        self, Ws: Sequence[Array], x: Array, stats: Sequence[Array] | None = None
    ) -> tuple[Array, Record]:
        (body, shortcut), (known, other) = self._deal(Ws), self._deal_statistics(stats)
        y, record = self.body.forward(body, x, known)
        short, memo = self.shortcut.forward(shortcut, x, other)
        if y.shape != short.shape:
            raise ValueError(
                f"expected one shape from body and shortcut of Residual, got {y.shape} and {short.shape}"
            )
        return y + short, [record, memo]

    def backward(
        self, Ws: Sequence[Array], record: Record, dy: Array, need_dx: bool = True
    ) -> tuple[Array | None, list[Array]]:
        dxs, gs = zip(
            *(
                part.backward(own, memo, dy, need_dx)
                for part, own, memo in zip(self.parts, self._deal(Ws), record, strict=True)
            ),
            strict=True,
        )
        return (dxs[0] + dxs[1] if need_dx else None), [g for inner in gs for g in inner]

    def jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, dx: Array | None
    ) -> tuple[Array | None, Record]:
        dys, tangents = _jvps(self, Ws, Vs, record, dx)
        moving = [dy for dy in dys if dy is not None]
        return (sum(moving[1:], start=moving[0]) if moving else None), tangents

    def backward_jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> tuple[Array, Array, list[tuple[Array, Array, Array, Array]]]:
        return _add_backward_jvps(self, Ws, Vs, record, tangent, [dy, dy], [rdy, rdy])


class Parallel(Composite):
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
        known = [own for own in shapes if own is not None]
        places: list[set[int]] = [
            {extent for own in known if len(own) > axis + 1 and (extent := own[axis]) is not None}
            for axis in range(2)
        ]
        if len({len(own) for own in known}) > 1 or any(len(extents) > 1 for extents in places):
            raise ValueError(f"expected branches of Parallel with one height and width, got {known}")
        if len(known) < len(shapes):
            return None
        channels = [own[-1] for own in known]
        where = tuple(next(iter(extents), None) for extents in places) if len(known[0]) == 3 else ()
        return (*where, None if None in channels else sum(c for c in channels if c is not None))

    def forward(
        self, Ws: Sequence[Array], x: Array, stats: Sequence[Array] | None = None
    ) -> tuple[Array, Record]:
        ys, records = zip(
            *(
                branch.forward(own, x, known)
                for branch, own, known in zip(
                    self.branches, self._deal(Ws), self._deal_statistics(stats), strict=True
                )
            ),
            strict=True,
        )
        if len({y.shape[:-1] for y in ys}) > 1:
            shapes = ", ".join(str(y.shape) for y in ys)
            raise ValueError(f"expected branches of Parallel with one height and width, got {shapes}")
        return array_module(x).concatenate(ys, axis=-1), _BranchRecords(records, [y.shape for y in ys])

    def _parts_of(self, record: Record, dy: Array) -> list[Array]:
        """Cut what belongs to the joined output into what belongs to each branch."""
        ends = accumulate((shape[-1] for shape in record.shapes), initial=0)
        return [dy[..., start:stop] for start, stop in pairwise(ends)]

    def backward(
        self, Ws: Sequence[Array], record: Record, dy: Array, need_dx: bool = True
    ) -> tuple[Array | None, list[Array]]:
        dxs: list[Any] = []
        gs: list[Array] = []
        for branch, own, memo, part in zip(
            self.branches, self._deal(Ws), record, self._parts_of(record, dy), strict=True
        ):
            dx, inner = branch.backward(own, memo, part, need_dx)
            dxs.append(dx)
            gs += inner
        return (sum(dxs[1:], start=dxs[0]) if need_dx else None), gs

    def jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, dx: Array | None
    ) -> tuple[Array | None, Record]:
        dys, tangents = _jvps(self, Ws, Vs, record, dx)
        like = next((dy for dy in dys if dy is not None), None)
        if like is None:
            return None, tangents
        xp = array_module(like)
        whole = [
            xp.zeros(shape, dtype=like.dtype) if dy is None else dy
            for dy, shape in zip(dys, record.shapes, strict=True)
        ]
        return xp.concatenate(whole, axis=-1), tangents

    def backward_jvp(
        self, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> tuple[Array, Array, list[tuple[Array, Array, Array, Array]]]:
        return _add_backward_jvps(
            self, Ws, Vs, record, tangent, self._parts_of(record, dy), self._parts_of(record, rdy)
        )


class _BranchRecords(list[Record]):
    """The records of parallel branches, and the shapes of what came out of them."""

    def __init__(self, records: Sequence[Record], shapes: list[tuple[int, ...]]) -> None:
        super().__init__(records)
        self.shapes = shapes


def as_layer(layers: Layer | Sequence[Layer]) -> Layer:
    """Return a layer as it is, and several as one after the other.

    Raises:
        TypeError: on what is no layer.
    """
    if isinstance(layers, Layer):
        return layers
    if not isinstance(layers, Sequence):
        raise TypeError(f"expected a layer of minikfac.layers, or several, got {layers!r}")
    chain = Sequential(tuple(layers))
    return chain.layers[0] if len(layers) == 1 else chain


def _jvps(
    whole: Composite, Ws: Sequence[Array], Vs: Sequence[Array], record: Record, dx: Array | None
) -> tuple[tuple[Array | None, ...], tuple[Record, ...]]:
    """Each part's derivative along the same dx, and what it left."""
    dys, tangents = zip(
        *(
            part.jvp(own, directions, memo, dx)
            for part, own, directions, memo in zip(
                whole.parts, whole._deal(Ws), whole._deal(Vs), record, strict=True
            )
        ),
        strict=True,
    )
    return dys, tangents


def _add_backward_jvps(
    whole: Composite,
    Ws: Sequence[Array],
    Vs: Sequence[Array],
    record: Record,
    tangent: Record,
    dys: Sequence[Array],
    rdys: Sequence[Array],
) -> tuple[Array, Array, list[tuple[Array, Array, Array, Array]]]:
    """The parts share their input: derivatives by it add up."""
    dxs, rdxs, found = zip(
        *(
            part.backward_jvp(own, directions, memo, left, dy, rdy)
            for part, own, directions, memo, left, dy, rdy in zip(
                whole.parts, whole._deal(Ws), whole._deal(Vs), record, tangent, dys, rdys, strict=True
            )
        ),
        strict=True,
    )
    return (
        sum(dxs[1:], start=dxs[0]),
        sum(rdxs[1:], start=rdxs[0]),
        [four for inner in found for four in inner],
    )
