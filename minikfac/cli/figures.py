"""The command that draws the tour's figures for slides: ``minikfac figures``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from .. import datasets
from ..training.progress import progress_bar
from .common import make_folder, say

EXAMPLE = "minikfac figures --out slides --slide dark"


def figures(
    out: Annotated[Path, Option(help="Folder for the files; created if needed.")] = Path("minikfac-figures"),
    image_format: Annotated[str, Option("--format", help="png, svg or pdf.")] = "png",
    everything: Annotated[
        bool,
        Option("--all/--net-only", help="All figures, or only those of the dense net, which is faster."),
    ] = True,
    animations: Annotated[
        bool,
        Option("--animations", help="GIF files too: valley, two nets, a block in training."),
    ] = False,
    slide: Annotated[str | None, Option(help="light or dark: 16:9, in large type.")] = None,
    seed: Annotated[int, Option(help="Seed of the tour whose figures are drawn.", min=0)] = 0,
) -> None:
    """Draw the tour's figures as files for slides: each shows one statement. A PNG is 2560 pixels wide."""
    from .. import tour as tours  # matplotlib takes a second
    from ..tour.animations import animate
    from ..tour.page import FORMATS, SLIDES, save_all

    if image_format not in FORMATS:
        raise ValueError(f"expected --format among {', '.join(FORMATS)}, got {image_format!r}")
    if slide not in (None, *SLIDES):
        raise ValueError(f"expected --slide light or dark, got {slide!r}")
    make_folder(out)
    chapters = tuple(tours.CHAPTERS) if everything else None
    drawings = tours.tour(datasets.digits(), tours.Settings(seed=seed, chapters=chapters)).figures()
    with progress_bar("figures", len(drawings) + 3 * animations) as bar:
        for name, _ in save_all(drawings, out, image_format, slide, scale=2):
            bar.advance(name)
        for name, _ in animate(drawings, out) if animations else ():
            bar.advance(name)
    say(f"Figures: {out}")
