"""Convolutions: what is assumed of them, and what it costs, in a small net.

How a gradient comes about (:mod:`.shifts`), what each assumption costs each layer (:mod:`.assumptions`) and
what its block looks like under it (:mod:`.ladder`), what is correlated in space and between maps, below
max-pooling and below averages (:mod:`.maps`), walks away from exact cases (:mod:`.exactness`), and batch
normalization (:mod:`.batchnorm`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..parts import Chapter, Finding, Section, count, two_digits
from ..studied import Run
from ..words import finding, words
from . import assumptions, batchnorm, exactness, ladder, maps, shifts
from .assumptions import layer_ledgers
from .ledger import ALL, IAD, SUD
from .net import layers, trained


def compute(run: Run) -> Chapter | None:
    """Study the convolutions of the run's net, or of the one beside it."""
    conv = run.convolutional
    if conv is None:
        return None
    ledgers, picture = layer_ledgers(conv.study), ladder.block_picture(conv.study)
    every: dict[str, Chapter | None] = {
        "shifts": shifts.compute(conv),
        "assumptions": assumptions.chapter(ledgers) if ledgers else None,
        "ladder": ladder.chapter(picture) if picture is not None else None,
        "maps": maps.compute(conv),
        "exactness": exactness.compute(conv),
        "batchnorm": batchnorm.compute(conv),
    }
    parts = {name: part for name, part in every.items() if part is not None}
    paragraphs = words("convolutions")
    if conv is not run:
        paragraphs.append(
            f"The second net that is studied has convolutions: {conv.settings.net_name}, "
            f"<b>{count(conv.net.n_params)} parameters</b>. Its layers are {layers(conv.net)}. "
            + trained(conv)
        )
    head = Section("conv", "Convolutions", paragraphs)
    numbers = [part.record.get("convolutions", {}) for part in parts.values()]
    return Chapter(
        [head, *(section for part in parts.values() for section in part.sections)],
        {name: draw for part in parts.values() for name, draw in part.figures.items()},
        {"convolutions": {key: value for record in numbers for key, value in record.items()}},
        list(_findings(ledgers, picture)) if conv is run else [],
        results=parts,
    )


def _findings(
    ledgers: Mapping[str, Sequence[Mapping[str, Any]]], picture: ladder.BlockPicture | None
) -> Iterator[Finding]:
    """KFC's block, and what its assumptions cost; for a page whose net is the one with convolutions."""
    if picture is not None:
        (row,) = (row for row in ledgers[picture.name] if row["label"] == ALL)
        yield finding("kfc", two_digits(row["error"]), layer=picture.name)
    for name, rows in list(ledgers.items())[:1]:
        errors = {row["label"]: two_digits(row["error"]) for row in rows}
        yield finding("assumptions", f"{errors[SUD]} and {errors[IAD]}", layer=name)
