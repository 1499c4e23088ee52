"""One convolution's Fisher block, drawn under every set of assumptions that means something [GM16]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ... import fisher, plots
from ...backend import Array, to_host
from ..parts import Drawings, Figure, Section
from .assumptions import short, studied_convolutions
from .ledger import ALL, EXACT

if TYPE_CHECKING:
    from ...exploration import Study

_DRAWN = 256
"""Most locations of the layer that is drawn: pairs of them are summed."""


FIGURE = Figure("conv-block", "Exact block, KFC's Kronecker product, and their difference, on one scale.")


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

    def figures(self) -> Drawings:
        """The block, exact and KFC's, and under every set of assumptions."""
        kfc, blocks = {"KFC": self.blocks[ALL]}, {short(label): M for label, M in self.blocks.items()}
        look: dict[str, Any] = {"reference": f"exact block of {self.name}", "cells": 150, "upright": True}
        compared = partial(plots.matrices, self.blocks[EXACT], kfc, self.parts, self.sizes, **look)
        return {"conv-block": compared, "conv-ladder": partial(plots.ladder_blocks, blocks)}

    def sections(self) -> list[Section]:
        """How to read the two pictures; the errors are in the ledger of the layer."""
        text = (
            f"Entries of the block of {self.name}, by size. Its weights are ordered by their place in the "
            "kernel (arrows), then by input and output map; “b” are the biases. KFC's picture repeats "
            f"<i>G</i>, a matrix of {self.sizes[-1]} × {self.sizes[-1]}, once per entry of <i>A</i>; the "
            "exact block need not repeat anything."
        )
        ladder = "The same block under each set of assumptions."
        figures = FIGURE, Figure("conv-ladder", ladder)
        return [Section("convblocks", "One block, assumption by assumption", [text, *figures], 3)]

    def record(self) -> dict[str, Any]:
        """Nothing: the ledgers have its errors."""
        return {}


def block_picture(study: Study) -> BlockPicture | None:
    """Build the block with the fewest parameters, of layers with at most 256 locations, on every rung."""
    convolutions = studied_convolutions(study)
    small = [name for name in convolutions if study.signals[name].abar.shape[1] <= _DRAWN]
    if not small:
        return None
    name = min(small, key=lambda layer: math.prod(convolutions[layer].weight_shape))
    signals, conv = study.signals.select([name]), convolutions[name]
    kh, kw = conv.windows.kernel
    places = [f"{row},{column}" for row in range(kh) for column in range(kw)]
    if (kh, kw) == (3, 3):
        places = list("↖↑↗←·→↙↓↘")
    sizes = [conv.c_in * conv.c_out] * len(places)
    ladder = fisher.LADDER.items()
    return BlockPicture(
        name,
        {label: to_host(fisher.ladder(signals, assumed).to_dense()) for assumed, label in ladder},
        (*places, *["b"] * conv.bias),
        (*sizes, *[conv.c_out] * conv.bias),
    )
