"""Convolutions: what is assumed of them, and what it costs, in a small net.

How a gradient comes about (:mod:`.shifts`), what each assumption costs each layer (:mod:`.assumptions`) and
what its block looks like under it (:mod:`.ladder`), what is correlated in space and between maps, below
max-pooling and below averages (:mod:`.maps`), walks away from exact cases (:mod:`.exactness`), and batch
normalization (:mod:`.batchnorm`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..parts import Chapter, Drawings, Finding, Part, Section, count, two_digits
from . import batchnorm, exactness, ladder, maps, shifts
from .assumptions import FIGURE, Assumptions, layer_ledgers
from .ledger import ALL, IAD, SUD
from .net import layers, trained

if TYPE_CHECKING:
    from ..run import Run


@dataclass(frozen=True)
class Convolutions:
    """The chapter's head, and its parts.

    Attributes:
        run: of the net with the convolutions.
        beside: whether it was studied beside another net.
        ledgers: rows of :func:`minikfac.quality.layer_ledger` by convolution.
        parts: chapters by name, in the order of the page.
    """

    run: Run
    beside: bool
    ledgers: dict[str, list[dict[str, Any]]]
    parts: dict[str, Chapter]

    def figures(self) -> Drawings:
        """Those of the parts."""
        return {name: draw for part in self.parts.values() for name, draw in part.figures().items()}

    def findings(self, run: Run) -> Iterator[Finding]:
        """KFC's block, and what its assumptions cost; only where the net is the one that is studied."""
        if self.beside:
            return
        if isinstance(picture := self.parts.get("ladder"), ladder.BlockPicture):
            (row,) = (row for row in self.ledgers[picture.name] if row["label"] == ALL)
            yield Finding(
                "KFC replaces a convolution's block by one Kronecker product.",
                two_digits(row["error"]),
                f"is the relative error (Frobenius norm) of KFC's block of {picture.name}.",
                ladder.FIGURE,
                ["convblocks", "conv"],
                "8, Convolutions",
            )

        for name, rows in list(self.ledgers.items())[:1]:
            errors = {row["label"]: two_digits(row["error"]) for row in rows}
            yield Finding(
                "Each assumption behind KFC has its own cost.",
                f"{errors[SUD]} and {errors[IAD]}",
                f"are the relative errors of the block of {name} under each of two assumptions alone: "
                "derivatives uncorrelated in space (SUD), and activations independent of derivatives (IAD).",
                FIGURE,
                ["convassumptions", "convspace"],
                "8, Convolutions",
            )

    def sections(self) -> list[Section]:
        """What a convolution is, which net is looked at, and the parts."""
        paragraphs: list[Part] = [
            "A dense layer uses every weight once per example. A <b>convolution</b> uses each weight at "
            "every place of an image. "
            "At location <i>t</i> it cuts out the patch around it, <i>ā<sub>t</sub></i> (with a constant 1 "
            "for the bias), and multiplies it by the same weights everywhere: <i>s<sub>t</sub></i> = "
            "<i>ā<sub>t</sub> W</i>. There are <i>T</i> locations, and the gradient of an example is a sum "
            "over them, Σ<sub><i>t</i></sub> <i>ā<sub>t</sub> g<sub>t</sub></i><sup>T</sup>."
        ]
        if self.beside:
            paragraphs.append(
                f"The second net that is studied has convolutions: {self.run.settings.net_name}, "
                f"<b>{count(self.run.net.n_params)} parameters</b>. Its layers are {layers(self.run.net)}. "
                + trained(self.run)
            )
        head = Section("conv", "Convolutions", paragraphs)
        return [head, *(section for part in self.parts.values() for section in part.sections())]

    def record(self) -> dict[str, Any]:
        """Numbers of the parts, under one key."""
        records = [part.record().get("convolutions", {}) for part in self.parts.values()]
        return {"convolutions": {key: value for record in records for key, value in record.items()}}


def compute(run: Run) -> Convolutions | None:
    """Study the convolutions of the run's net, or of the one beside it."""
    conv = run.convolutional
    if conv is None:
        return None
    ledgers, beside = layer_ledgers(conv.study), conv is not run
    parts: dict[str, Chapter | None] = {
        "shifts": shifts.compute(conv),
        "assumptions": Assumptions(ledgers) if ledgers else None,
        "ladder": ladder.block_picture(conv.study),
        "maps": maps.compute(conv),
        "exactness": exactness.compute(conv),
        "batchnorm": batchnorm.compute(conv),
    }
    return Convolutions(
        conv, beside, ledgers, {name: part for name, part in parts.items() if part is not None}
    )
