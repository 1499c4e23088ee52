"""Replaced or rescaled units, with the maps around them absorbed into weights.

    logistic(s) = (1 + tanh(s / 2)) / 2          relu(s) = relu(r s) / r,    r > 0

An affine map after a parameter layer is absorbed into that layer, and one before a layer into that one, so
that none is left in the net. It may first have to be moved past pooling, flattening, or the start of
branches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..backend import array_module, as_array, check_generator, to_host
from ..network import Network, layers
from ..network.layers import Affine, Conv2d, Dense, Layer, Parallel, ParameterLayer, Residual
from ..network.network import layer_index
from .reparameterization import LayerMap, Reparameterization
from .wrap import features_in, joined, mapped, rebuilt

POOLS = layers.MaxPool2d | layers.AvgPool2d | layers.GlobalAvgPool
NORMALIZATIONS = layers.Normalization | layers.Unscaled | layers.LocalResponseNorm


class _Moving(Affine):
    """A map that is being moved to the weights that absorb it."""


def logistic_to_tanh(net: Network) -> Reparameterization:
    """Replace logistic units by tanh units: tanh(s) = 2 logistic(2 s) - 1 [MG15, sec. 10].

    Incoming and outgoing weights are halved, and biases compensate for the -1; padding by 0 becomes padding
    by -1. If no weights follow (after the last layer, or next to a shortcut), the map remains in the net as
    an ``Affine``, or is merged with an existing one.

    Raises:
        ValueError: if there are no logistic units, if they are followed by a normalization, whose result the
            map would change, or if the next layer has no bias.
    """
    count = 0

    def change(items: list[Layer], number: int) -> list[Layer]:
        nonlocal count
        count += sum(isinstance(item, layers.Logistic) for item in items)
        tanh: tuple[Layer, ...] = (_Moving(0.5), layers.Tanh(), _Moving(0.5, 0.5))
        return [new for item in items for new in (tanh if isinstance(item, layers.Logistic) else (item,))]

    exchanged = rebuilt(net.layers, change)
    if not count:
        raise ValueError(f"expected a net with logistic units, got {net!r}")
    return _taken_up(net, exchanged)


def rescale(
    net: Network, factors: Mapping[int | str, Any] | None = None, rng: Any = None
) -> Reparameterization:
    """Multiply the outputs of ReLU units by positive factors, and compensate in the next layer.

    A unit's incoming weights and bias are multiplied by its factor and its outgoing weights divided by it, so
    the net remains the same with different parameters.

    Args:
        net: the network.
        factors: (O,) or a number per parameter layer, by index or name; units must be ReLUs, possibly after
            pooling, followed by a dense layer or convolution.
        rng: instead, a ``numpy.random.Generator`` to draw factors between 1/3 and 3 for all such layers.

    Raises:
        ValueError: if neither or both are given, factors are not positive, or layers lack such units.
    """
    if (factors is None) == (rng is None):
        raise ValueError("expected either factors or rng")
    suited = _rescalable(net)
    if factors is None:
        check_generator(rng)
        chosen = {l: 9 ** rng.uniform(-0.5, 0.5, net.shapes[l][1]) for l in suited}
    else:
        chosen = {
            layer_index(net.names, l): to_host(as_array(r, f"factors of {l}")).astype(float)
            for l, r in factors.items()
        }
    for l, r in chosen.items():
        if l not in suited:
            raise ValueError(
                f"expected ReLU units after {net.names[l]}, followed by a dense layer or a convolution "
                "that absorbs the factors"
            )
        if r.shape not in ((), net.shapes[l][1:]) or not (r > 0).all():
            raise ValueError(
                f"expected {net.shapes[l][1]} positive factors for {net.names[l]}, got {r.shape}"
                + ("" if (r > 0).all() else f" with minimum {float(r.min()):g}")
            )

    def change(items: list[Layer], number: int) -> list[Layer]:
        after: list[Layer] = []
        for position, item in enumerate(items):
            l = _layer_of_units(items, position, number)
            after += [_Moving(chosen[l]), item, _Moving(1 / chosen[l])] if l in chosen else [item]
        return after

    return _taken_up(net, rebuilt(net.layers, change))


def _layer_of_units(items: list[Layer], position: int, number: int) -> int | None:
    """The parameter layer whose units are the ReLUs at this position, or None."""
    if not isinstance(items[position], layers.ReLU):
        return None
    place = position - 1
    while place >= 0 and isinstance(items[place], POOLS | layers.Identity):
        place -= 1
    if place < 0 or not isinstance(items[place], ParameterLayer):
        return None
    return number + sum(len(item.weight_shapes) for item in items[:place])


def _rescalable(net: Network) -> list[int]:
    """Parameter layers whose units are ReLUs followed by one dense layer or convolution."""
    suited: list[int] = []

    def look(items: list[Layer], number: int) -> list[Layer]:
        for position in range(len(items)):
            l = _layer_of_units(items, position, number)
            place = position + 1
            while place < len(items) and _passes(Affine(2.0), items[place]):
                place += 1
            if l is not None and place < len(items) and isinstance(items[place], Dense | Conv2d):
                suited.append(l)
        return items

    rebuilt(net.layers, look)
    return suited


# absorbing maps


def _taken_up(net: Network, items: list[Layer]) -> Reparameterization:
    """Absorb moving maps into adjacent parameter layers; the parameters are those of ``net``."""
    maps = [LayerMap() for _ in net.names]

    def change(items: list[Layer], number: int) -> list[Layer]:
        items, place = joined(items), 0
        while place < len(items):
            item = items[place]
            if isinstance(item, _Moving) and _absorb(item, items, place, number, maps, net):
                del items[place]
            else:
                place += 1
        return [Affine(item.U, item.c) if isinstance(item, _Moving) else item for item in items]

    equivalent = Network(rebuilt(items, change), net.output)
    return Reparameterization(net, equivalent, tuple(maps))


def _absorb(
    moving: Affine, items: list[Layer], place: int, number: int, maps: list[LayerMap], net: Network
) -> bool:
    """Absorb the map at a position into the layer before or after it; return whether there is one."""

    def take_up(at: int, before: Affine, behind: Affine) -> bool:
        layer, l = items[at], number + sum(len(item.weight_shapes) for item in items[:at])
        assert isinstance(layer, ParameterLayer)
        layer_map, items[at] = mapped(layer, net.names[l], before, behind)
        maps[l] = maps[l].then(layer_map)
        return True

    back = place - 1
    while back >= 0 and _passes(moving, items[back]):
        back -= 1
    if back >= 0 and isinstance(items[back], ParameterLayer):
        return take_up(back, Affine(), _undone(moving))
    ahead = place + 1
    while ahead < len(items) and _passes(moving, items[ahead], back=False):
        ahead += 1
    after = items[ahead] if ahead < len(items) else None
    if isinstance(after, Dense | Conv2d):
        return take_up(ahead, _undone(_tiled(moving, features_in(after))), Affine())
    if isinstance(after, NORMALIZATIONS):
        raise ValueError(
            f"expected no normalization directly after the units, got {after}: it changes its output for "
            "mapped inputs, which no weights can compensate for"
        )
    shared = ahead == place + 1 and not isinstance(after, layers.Grouped)
    if isinstance(after, Residual | Parallel) and (shared or moving.features is None):
        items[ahead] = type(after)(*([moving, part] for part in after.parts))
        return True
    return False


def _passes(moving: Affine, layer: Layer, back: bool = True) -> bool:
    """Whether an elementwise map with positive factors commutes with a layer."""
    if isinstance(layer, layers.AvgPool2d):
        return not (layer.windows.padded and moving.c.any())  # it pads with zeros
    if isinstance(layer, layers.Flatten):
        return not back or moving.features is None
    return isinstance(layer, layers.MaxPool2d | layers.GlobalAvgPool | layers.Identity)


def _undone(affine: Affine) -> Affine:
    """The inverse map: x = (y - c) / U."""
    return Affine(1 / affine.U, -affine.c / affine.U)


def _tiled(affine: Affine, features: int | None) -> Affine:
    """A map of channels converted to one of flattened images, channels last."""
    if features is None or affine.features in (None, features):
        return affine
    xp = array_module()
    U, c = (a if not a.ndim else xp.tile(a, features // len(a)) for a in (affine.U, affine.c))
    return Affine(U, c)
