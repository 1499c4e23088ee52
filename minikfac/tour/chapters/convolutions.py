"""A small convolutional net, and every number behind the pictures of its convolutions.

    conv 3x3 - activation - pool 2   once per number of channels, and a dense layer on top

On 8 x 8 digits this is :func:`minikfac.presets.tiny_convnet`. Images of more than 16 pixels a side are
averaged over 2 x 2 first: the second moments of all pairs of locations grow with the fourth power of the
side. The pictures: how a gradient comes about
(:mod:`.shifts`), what is correlated in space and between maps, below max-pooling and below averages
(:mod:`.maps`), what each assumption costs each layer and what its block looks like under it, walks away from
exact cases (:mod:`.exactness`), and batch normalization (:mod:`.coupling`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ... import fisher, quality
from ...backend import Array, to_host
from ...network import Network
from ...network.layers import ACTIVATIONS, AvgPool2d, Conv2d, Dense, Flatten, Layer, MaxPool2d
from ...network.outputs import OUTPUTS
from ..study import Study
from .coupling import Coupling, coupling
from .exactness import Walk, exactness
from .maps import LayerMaps, conv_layers, layer_maps
from .shifts import ShiftedProducts, shifted_products

LARGE = 16
"""Pixels a side, above which images are averaged first."""
POOLS = {"max": MaxPool2d, "avg": AvgPool2d}
_DRAWN = 256
"""Most locations of the layer whose block is drawn under every assumption: pairs of them are summed."""


def default_channels(image_shape: Sequence[int]) -> tuple[int, ...]:
    """Channels of the convolutions for images (H, W, C): two convolutions for grey ones, three in colour.

    >>> default_channels((8, 8, 1)), default_channels((32, 32, 3))
    ((4, 8), (6, 8, 8))
    """
    return (4, 8) if image_shape[2] == 1 else (6, 8, 8)


def convnet(
    image_shape: Sequence[int],
    n_outputs: int,
    channels: Sequence[int] | None = None,
    activation: str = "tanh",
    output: str = "categorical",
    pool: str = "max",
) -> Network:
    """Make a small convolutional net.

    Args:
        image_shape: (H, W, C).
        n_outputs: C of the output.
        channels: of the convolutions, each followed by pooling; :func:`default_channels` by default.
        activation, output: as of :func:`minikfac.mlp`.
        pool: "max" or "avg".

    Raises:
        ValueError: on unknown names, no channels, or images too small for so much pooling.

    >>> convnet((8, 8, 1), 10).n_params
    666
    """
    for name, known in ((activation, ACTIVATIONS), (output, OUTPUTS), (pool, POOLS)):
        if name not in known:
            raise ValueError(f"expected one of {', '.join(sorted(known))}, got {name!r}")
    channels = default_channels(image_shape) if channels is None else list(channels)
    h, w, c_in = image_shape
    layers: list[Layer] = []
    if max(h, w) > LARGE:
        layers, h, w = [AvgPool2d(2)], h // 2, w // 2
    if not channels or min(channels) < 1 or min(h, w) < 2 ** len(channels):
        raise ValueError(
            f"expected channels of one convolution or more, each with images of at least 2 x 2 pixels to "
            f"pool, got {list(channels)} for images of {h} x {w}"
        )
    for c_out in channels:
        layers += [Conv2d(c_in, c_out, 3, padding=1), ACTIVATIONS[activation](), POOLS[pool](2)]
        h, w, c_in = h // 2, w // 2, c_out
    return Network([*layers, Flatten(), Dense(h * w * c_in, n_outputs)], OUTPUTS[output]())


@dataclass(frozen=True)
class BlockPicture:
    """One convolution's Fisher block under all sets of assumptions.

    Attributes:
        name: of the layer.
        blocks: by label, (P, P) each, in the order of :data:`minikfac.fisher.LADDER`.
        parts: names of parts of the rows, kernel place by kernel place, and "b" for the biases.
        sizes: of the parts.
    """

    name: str
    blocks: dict[str, Array]
    parts: tuple[str, ...]
    sizes: tuple[int, ...]


@dataclass
class Convolutions:
    """What the pictures of convolutions show; parts that were not computed are empty.

    Attributes:
        maps: per pooling, "max" and "avg", the maps of each convolution of a net trained alike.
        records: the last record of each of these trainings.
        shifts: how one gradient comes about.
        ledgers: per convolution, the rows of :func:`minikfac.quality.layer_ledger`.
        block: one block under all assumptions.
        walks: away from exact cases.
        coupling: batch normalization, joint and with constant statistics.
    """

    maps: dict[str, list[LayerMaps]] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    shifts: ShiftedProducts | None = None
    ledgers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    block: BlockPicture | None = None
    walks: list[Walk] = field(default_factory=list)
    coupling: Coupling | None = None


def stages(
    found: Convolutions,
    study: Study,
    images: Array,
    pool: str,
    train_other: Callable[[str], tuple[Network, Array, dict[str, Any]]],
    record: dict[str, Any],
    seed: int = 0,
    n_maps: int = 300,
) -> dict[str, Callable[[], None]]:
    """Name the pieces of work that fill ``found``; they do not depend on each other.

    Args:
        found: to be filled.
        study: of a convolutional net.
        images: (N, H, W, C), from which batches of the batch-normalized net are drawn.
        pool: the net's pooling, "max" or "avg".
        train_other: trains a net alike with another pooling: net, theta and its last record.
        record: the last record of this net's training.
        seed: of what is drawn.
        n_maps: most examples whose maps are measured.
    """
    net, theta, x = study.net, study.theta, study.x
    few = x[:n_maps]

    def spatial() -> None:
        other = "avg" if pool == "max" else "max"
        other_net, other_theta, other_record = train_other(other)
        found.records = {pool: record, other: other_record}
        found.maps = {
            pool: layer_maps(net, theta, few),
            other: layer_maps(other_net, other_theta, few),
        }

    def gradient() -> None:
        found.shifts = shifted_products(net, theta, few, seed=seed)

    def ledgers() -> None:
        found.ledgers = {
            name: quality.layer_ledger(study.signals, name, study.gradient, study.damping)
            for name in _studied(study)
        }

    def block() -> None:
        found.block = block_picture(study)

    def walks() -> None:
        found.walks = exactness(seed)

    def batches() -> None:
        sizes = [size for size in (4, 8, 16, 32, 64) if size <= len(images)]
        if len(sizes) > 1 and min(images.shape[1:3]) <= 16:
            found.coupling = coupling(images, sizes, shown=sizes[len(sizes) // 2], seed=seed)

    return {
        "maps": spatial,
        "layer by layer": ledgers,
        "shifts": gradient,
        "blocks": block,
        "exact cases": walks,
        "batch normalization": batches,
    }


def _studied(study: Study) -> dict[str, Conv2d]:
    """The convolutions among the layers that were studied, by name."""
    named = {study.net.names[layer]: conv for layer, conv in conv_layers(study.net).items()}
    return {name: conv for name, conv in named.items() if name in study.signals.names}


def block_picture(study: Study) -> BlockPicture | None:
    """Build the block with the fewest parameters, of layers with at most 256 locations, on every rung."""
    small = {
        name: conv for name, conv in _studied(study).items() if study.signals[name].abar.shape[1] <= _DRAWN
    }
    if not small:
        return None
    name = min(small, key=lambda own: math.prod(small[own].weight_shape))
    signals, conv = study.signals.select([name]), small[name]
    kh, kw = conv.windows.kernel
    places = [f"{row},{column}" for row in range(kh) for column in range(kw)]
    if (kh, kw) == (3, 3):
        places = list("↖↑↗←·→↙↓↘")
    sizes = [conv.c_in * conv.c_out] * len(places)
    return BlockPicture(
        name,
        {
            label: to_host(fisher.ladder(signals, assumed).to_dense())
            for assumed, label in fisher.LADDER.items()
        },
        (*places, *["b"] * conv.bias),
        (*sizes, *[conv.c_out] * conv.bias),
    )
