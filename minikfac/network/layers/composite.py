"""Layers made of layers: one after the other, around a shortcut, side by side.

    Sequential   y = f_m( ... f_2(f_1(x)))
    Residual     y = body(x) + shortcut(x)                  the shortcut is x itself by default [HZRS16]
    Parallel     y = [f_1(x), f_2(x), ...]                  joined along the last axis [SLJS15]
    Grouped      y = [f_1(x_1), f_2(x_2), ...]              x_i: group i of the channels of x
    OnSequences  y = layer(x)                               x (N, T, C) as images of one column; Conv1d

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
from .base import Derivatives, Differentials, Layer, ParameterLayer, Record, Shape, Weights, check_positive
from .convolution import Conv2d
from .dense import check_weight_and_bias
from .layout import AsImages, AsSequences
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

    def _shapes(self, shape: Shape | None) -> list[Any]:
        """The shape of what comes into each part."""
        return [shape for _ in self.parts]

    def example_size(self, shape: Shape) -> int:
        sizes = (part.example_size(s) for part, s in zip(self.parts, self._shapes(shape), strict=True))
        return max(super().example_size(shape), *sizes)

    def example_work(self, shape: Shape) -> int:
        return sum(part.example_work(s) for part, s in zip(self.parts, self._shapes(shape), strict=True))

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

    def _inputs(self, x: Array) -> list[Array]:
        """What comes into each part."""
        return [x for _ in self.parts]

    def _total(self, dxs: Sequence[Any]) -> Any:
        """dL/dx from that of what comes into each part."""
        return sum(dxs[1:], start=dxs[0])

    @abstractmethod
    def _split(self, record: Record, dy: Array) -> list[Array]:
        """dL/dy of each part, from that of what they make together."""

    def _forwards(self, Ws: Weights, x: Array, stats: Weights | None) -> tuple[list[Array], list[Record]]:
        shares = zip(self._deal(Ws), self._inputs(x), self._deal_statistics(stats), strict=True)
        passes = [part.forward(*share) for part, share in zip(self.parts, shares, strict=True)]
        return [y for y, _ in passes], [record for _, record in passes]

    def backward(self, Ws: Weights, record: Record, dy: Array, need_dx: bool = True) -> Derivatives:
        shares = zip(self.parts, self._deal(Ws), record, self._split(record, dy), strict=True)
        passes = [part.backward(weights, memo, share, need_dx) for part, weights, memo, share in shares]
        dx = self._total([dx for dx, _ in passes]) if need_dx else None
        return dx, [g for _, gs in passes for g in gs]

    def _jvps(
        self, Ws: Weights, Vs: Weights, record: Record, dx: Array | None
    ) -> tuple[list[Array | None], list[Record]]:
        dxs = [None for _ in self.parts] if dx is None else self._inputs(dx)
        shares = zip(self._deal(Ws), self._deal(Vs), record, dxs, strict=True)
        passes = [part.jvp(*share) for part, share in zip(self.parts, shares, strict=True)]
        return [dy for dy, _ in passes], [tangent for _, tangent in passes]

    def backward_jvp(
        self, Ws: Weights, Vs: Weights, record: Record, tangent: Record, dy: Array, rdy: Array
    ) -> Differentials:
        dys, rdys = self._split(record, dy), self._split(record, rdy)
        shares = zip(self._deal(Ws), self._deal(Vs), record, tangent, dys, rdys, strict=True)
        dxs, rdxs, signals = zip(
            *(part.backward_jvp(*share) for part, share in zip(self.parts, shares, strict=True)), strict=True
        )
        return self._total(dxs), self._total(rdxs), [four for inner in signals for four in inner]


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
        return (self._total(moving) if moving else None), tangents


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
        return f"{type(self).__name__}({', '.join(map(repr, self.branches))})"

    @property
    def parts(self) -> tuple[Layer, ...]:
        return self.branches

    def output_shape(self, shape: Shape | None) -> Shape | None:
        entering = zip(self.branches, self._shapes(shape), strict=True)
        shapes = [branch.output_shape(part) for branch, part in entering]
        given = [inner for inner in shapes if inner is not None]
        places: list[set[Any]] = [{s[axis] for s in given if len(s) > axis + 1} - {None} for axis in range(2)]
        if len({len(inner) for inner in given}) > 1 or any(len(extents) > 1 for extents in places):
            raise ValueError(f"expected branches of Parallel with one height and width, got {given}")
        if len(given) < len(shapes):
            return None
        channels: list[Any] = [inner[-1] for inner in given]
        where = [next(iter(extents), None) for extents in places[: len(given[0]) - 1]]
        return (*where, None if None in channels else sum(channels))

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


class Grouped(Parallel):
    """y = [branch_1(x_1), branch_2(x_2), ...], x_i group i of the channels of x; as many groups as branches.

    ``Grouped(*[Conv2d(2, 3, 5)] * 4)`` is PyTorch's ``Conv2d(8, 12, 5, groups=4)``; of ``Conv2d(1, 1, 5)`` it
    is depthwise. Each group has weights of its own, hence its own A and G: the structure of the exact blocks,
    not one more approximation.

    Raises:
        ValueError: on channels that are not as many for each branch.
    """

    def _shapes(self, shape: Shape | None) -> list[Any]:
        groups = len(self.branches)
        if shape is None or shape[-1] is None:
            return [shape] * groups
        if shape[-1] % groups:
            raise ValueError(f"expected channels in {groups} equal groups into Grouped, got {shape[-1]}")
        return [(*shape[:-1], shape[-1] // groups)] * groups

    def _inputs(self, x: Array) -> list[Array]:
        return [x[..., group] for group in consecutive(shape[-1] for shape in self._shapes(x.shape[1:]))]

    def _total(self, dxs: Sequence[Any]) -> Any:
        return array_module(*dxs).concatenate(dxs, -1)

    def join(self, weight: Array, bias: Array | None) -> list[Array]:
        """Make each convolution's W of PyTorch's weight (c_out, c_in / groups, kh, kw) and bias, or None.

        Raises:
            ValueError: on shapes that do not belong together, or kernels that do not fall into equal groups.
            TypeError: on lists, tensors and the like.
        """
        check_weight_and_bias(weight, bias, ("c_out", "c_in / groups", "kh", "kw"))
        groups = len(self.branches)
        if len(weight) % groups:
            raise ValueError(f"expected kernels in {groups} equal groups, got {len(weight)}")
        biases = [None] * groups if bias is None else bias.reshape(groups, -1)
        kernels = weight.reshape(groups, -1, *weight.shape[1:])
        return [Conv2d.join(part, b) for part, b in zip(kernels, biases, strict=True)]

    def split(self, Ws: Weights) -> tuple[Array, Array | None]:
        """Make PyTorch's weight (c_out, c_in / groups, kh, kw) and bias, or None, of the convolutions' W."""
        pairs = zip(self.branches, Ws, strict=True)
        weights, biases = zip(*(conv.split(W) for conv, W in pairs), strict=True)  # type: ignore[attr-defined]
        xp = array_module(*Ws)
        return xp.concatenate(weights), None if biases[0] is None else xp.concatenate(biases)


class OnSequences(Sequential):
    """A layer of images on sequences (N, T, C), as images (N, T, 1, C) of one column.

    ``OnSequences(MaxPool2d((2, 1)))`` is a one-dimensional pool. A convolution's factors are those of KFC,
    with T locations.

    Args:
        layer: of images; its windows are one column wide.
    """

    def __init__(self, layer: Layer) -> None:
        for part in getattr(layer, "branches", (layer,)):
            windows = getattr(part, "windows", None)
            if windows is not None and (windows.kernel[1], windows.before[1], windows.after[1]) != (1, 0, 0):
                raise ValueError(f"expected windows one column wide, as kernel_size=(k, 1), got {part}")
        super().__init__((AsImages(), layer, AsSequences()))


class Conv1d(OnSequences):
    """Cross-correlation of sequences (N, T, c_in) with c_out kernels, as in PyTorch: a ``Conv2d`` inside.

    Dilated it is ``OnSequences(Conv2d(c_in, c_out, (5, 1), dilation=(2, 1)))``; likewise with ``Grouped``.

    Args:
        c_in, c_out: channels.
        kernel_size, stride: positions.
        padding: positions at either end; (before, after), as (kernel_size - 1, 0) of a causal one; "valid" or
            "same" as of ``Conv2d``.
        bias: whether there is one.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, padding: Any = 0, bias: bool = True
    ) -> None:
        check_positive("Conv1d", c_in=c_in, c_out=c_out, kernel_size=kernel_size, stride=stride)
        pad: Any = padding if isinstance(padding, str) else (padding, (0, 0) if type(padding) is tuple else 0)
        super().__init__(Conv2d(c_in, c_out, (kernel_size, 1), (stride, 1), pad, bias))


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
