"""One convolution's Fisher block, drawn under every set of assumptions that means something [GM16]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from ... import fisher, plots
from ...backend import Array, to_host
from ...exploration import Study
from ..parts import Chapter, Section
from ..words import words
from .assumptions import short, studied_convolutions

_DRAWN = 256
"""Most locations of the layer that is drawn: pairs of them are summed."""


@dataclass(frozen=True)
class BlockPicture:
    """One convolution's Fisher block under all sets of assumptions.

    Attributes:
        name: of the layer.
        blocks: by label, (P, P) each, in the order of :data:`minikfac.fisher.LADDER`.
        maps: that come out of the layer.
    """

    name: str
    blocks: dict[str, Array]
    maps: int


def chapter(picture: BlockPicture) -> Chapter:
    """The block, exact and under every set of assumptions; the errors are in the ledger of the layer."""
    text = words("ladder", layer=picture.name, maps=picture.maps)
    section = Section("convblocks", "One block, assumption by assumption", text, 3)
    draw = partial(plots.ladder_blocks, {short(label): M for label, M in picture.blocks.items()})
    return Chapter([section], {"conv-ladder": draw}, results=picture)


def block_picture(study: Study) -> BlockPicture | None:
    """Build the block with the fewest parameters, of layers with at most 256 locations, on every rung."""
    convolutions = studied_convolutions(study)
    small = [name for name in convolutions if study.signals[name].abar.shape[1] <= _DRAWN]
    if not small:
        return None
    name = min(small, key=lambda layer: math.prod(convolutions[layer].weight_shape))
    signals, ladder = study.signals.select([name]), fisher.LADDER.items()
    blocks = {label: to_host(fisher.ladder(signals, assumed).to_dense()) for assumed, label in ladder}
    return BlockPicture(name, blocks, convolutions[name].c_out)
