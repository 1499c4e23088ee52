"""Parameter layers between fixed affine maps: [Affine(V, d), layer, Affine(U, c)]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..backend import Array, array_module
from ..linalg import SingularMatrixError, invert
from ..network import Network
from ..network.layers import Affine, Conv2d, Dense, Layer, Parallel, ParameterLayer, Residual
from ..network.layers.composite import in_a_row
from ..network.network import layer_index
from .reparameterization import LayerMap, Reparameterization

Change = Callable[[list[Layer], int], list[Layer]]
"""Maps a sequence of layers, and the number of parameter layers before it, to its replacement."""


def affine(
    net: Network, layer: int | str, U: Any = None, c: Any = None, V: Any = None, d: Any = None
) -> Reparameterization:
    """Put x -> x V + d before a parameter layer and s' -> s' U + c after it [GM16, sec. 4.1].

    For a convolution the maps act on channels, the same way at every location. The net's inputs x do not
    change, since a map before the first layer is part of the net.

    Args:
        net: the network.
        layer: index or name of a parameter layer.
        U: (O, O) invertible, (O,) for a diagonal one, or a number.
        c: (O,) or a number.
        V: (C, C), (C,) or a number, with C inputs or input channels.
        d: (C,) or a number.

    Raises:
        ValueError: on wrong shapes, a singular U or V, or maps without an equivalent: c and d without a
            bias to absorb them, or for a normalization an input map or an output map that mixes
            channels.
    """
    return wrap(net, {layer_index(net.names, layer): Wrap(U, c, V, d)})


@dataclass(frozen=True)
class Wrap:
    """The maps around one layer, as in :func:`affine`."""

    U: Any = None
    c: Any = None
    V: Any = None
    d: Any = None


def wrap(net: Network, wraps: Mapping[int, Wrap]) -> Reparameterization:
    """Put maps around several layers, by index."""
    maps = [LayerMap() for _ in net.names]
    wrapped: dict[int, list[Layer]] = {}
    for l, constants in wraps.items():
        before, behind = _read_maps(net, l, constants)
        maps[l], layer = mapped(net.parameter_layers[l], net.names[l], before, behind)
        wrapped[l] = [before, layer, behind]

    def change(items: list[Layer], number: int) -> list[Layer]:
        after: list[Layer] = []
        for item in items:
            after += wrapped.get(number, [item]) if isinstance(item, ParameterLayer) else [item]
            number += len(item.weight_shapes)
        return after

    return Reparameterization(net, Network(rebuilt(net.layers, change), net.output), tuple(maps))


def _read_maps(net: Network, l: int, constants: Wrap) -> tuple[Affine, Affine]:
    """The input and output maps with the right sizes."""
    layer, name = net.parameter_layers[l], net.names[l]
    sizes = {"V": features_in(layer), "U": layer.weight_shape[1]}
    maps = []
    for linear, shift in (("V", "d"), ("U", "c")):
        U, c = getattr(constants, linear), getattr(constants, shift)
        made = Affine(1.0 if U is None else U, 0.0 if c is None else c)
        if sizes[linear] and made.features not in (None, sizes[linear]):
            raise ValueError(
                f"expected {linear} and {shift} of {name} for {sizes[linear]} features or channels, "
                f"got {made.U.shape} and {made.c.shape}"
            )
        maps.append(made)
    return maps[0], maps[1]


def features_in(layer: Layer) -> int | None:
    """The number of features or channels of a layer's input map; None if it cannot have one."""
    return layer.n_in if isinstance(layer, Dense) else layer.c_in if isinstance(layer, Conv2d) else None


def mapped(layer: ParameterLayer, name: str, before: Affine, behind: Affine) -> tuple[LayerMap, Layer]:
    """The map of weights for an input x' = before(x) and an output s = behind(s'), and the layer itself.

    Raises:
        ValueError: if the weights cannot compensate for the maps.
    """
    xp, n_in, shape = array_module(), features_in(layer), layer.weight_shape
    if n_in is None and not before.is_identity:
        raise ValueError(
            f"expected no input map of {name}, {layer}: scale and shift come after the normalization and "
            "cannot compensate for it"
        )
    if n_in is None and not behind.elementwise:
        if xp.count_nonzero(behind.U - xp.diag(behind.U.diagonal())):
            raise ValueError(f"expected a diagonal U for {name}: scale and shift do not mix channels")
        behind = Affine(behind.U.diagonal(), behind.c)
    bias = getattr(layer, "bias", True)
    for letter, constant in (("d", before.c), ("c", behind.c)):
        if not bias and constant.any():
            raise ValueError(f"expected {letter} = 0 for {name}, which has no bias to absorb {letter}")
    B = B_inverse = U = U_inverse = C = None
    if not (behind.elementwise and (behind.U == 1).all()):
        U, U_inverse = _square(behind.U, shape[1]), _inverse(behind.U, shape[1], f"U of {name}")
    if behind.c.any():
        C = xp.zeros(shape)
        C[-1] = behind.c
    if n_in is not None and not before.is_identity:
        V_inverse = _inverse(before.U, n_in, f"V of {name}")
        d = xp.broadcast_to(before.c, (n_in,))
        B = _input_matrix(shape[0], _square(before.U, n_in), d, bias)
        B_inverse = _input_matrix(shape[0], V_inverse, -d @ V_inverse, bias)
        if isinstance(layer, Conv2d) and layer.windows.padded:
            padding = before.forward([], xp.broadcast_to(xp.asarray(layer.pad_value), (1, n_in)))[0]
            layer = replace(layer, pad_value=tuple(padding[0].tolist()) if padding.any() else 0.0)
    return LayerMap(B, U, C, B_inverse, U_inverse), layer


def _square(U: Array, n: int) -> Array:
    """U (n, n) from a matrix, a diagonal or a number."""
    xp = array_module()
    return U if U.ndim == 2 else xp.diag(xp.broadcast_to(U, (n,)))


def _inverse(U: Array, n: int, name: str) -> Array:
    """The inverse (n, n) of a matrix, a diagonal or a number."""
    if U.ndim == 2:
        return invert(U, name)
    if not U.all():
        raise SingularMatrixError(f"expected {name} without zeros, got {int((U == 0).sum())} of {U.size}")
    return _square(1 / U, n)


def _input_matrix(rows: int, V: Array, d: Array, bias: bool) -> Array:
    """B = [[blockdiag(V, ..., V), 0], [d, ..., d, 1]], (rows, rows)."""
    xp, n = array_module(), len(V)
    B = xp.zeros((rows, rows))
    for start in range(0, rows - bias, n):
        B[start : start + n, start : start + n] = V
        if bias:
            B[-1, start : start + n] = d
    if bias:
        B[-1, -1] = 1
    return B


# the tree of layers


def rebuilt(layers: Sequence[Layer], change: Change, number: int = 0) -> list[Layer]:
    """Change a sequence of layers, then those inside branches; neighbouring affine maps are merged."""
    after: list[Layer] = []
    for item in change(in_a_row(layers), number):
        if isinstance(item, Residual | Parallel):
            branches, inner = [], number
            for part in item.parts:
                branches.append(rebuilt([part], change, inner))
                inner += len(part.weight_shapes)
            after.append(type(item)(*branches))
        else:
            after.append(item)
        number += len(item.weight_shapes)
    return joined(after)


def joined(layers: Sequence[Layer]) -> list[Layer]:
    """Merge neighbouring affine maps, and omit those that do nothing."""
    after: list[Layer] = []
    for layer in layers:
        last = after[-1] if after else None
        if isinstance(layer, Affine) and isinstance(last, Affine):
            after.pop()
            layer = last.then(layer)
        if not (isinstance(layer, Affine) and layer.is_identity):
            after.append(layer)
    return after
