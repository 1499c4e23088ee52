"""The command that draws the tour's figures for slides: ``minikfac figures``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from .. import datasets
from ..training.progress import progress_bar
from .common import make_folder, say

EXAMPLE = "minikfac figures --out slides --format svg"


def figures(
    out: Annotated[Path, Option(help="Folder for the files; made if need be.")] = Path("minikfac-figures"),
    image_format: Annotated[str, Option("--format", help="png, svg or pdf.")] = "png",
    everything: Annotated[
        bool,
        Option("--all/--net-only", help="All figures, or those of the dense net, which are drawn sooner."),
    ] = True,
    seed: Annotated[int, Option(help="Of the tour that is drawn.", min=0)] = 0,
) -> None:
    """Draw the tour's figures as files for slides: each shows one statement."""
    from .. import tour as tours  # matplotlib takes a second
    from ..tour.page import FORMATS, save_all

    if image_format not in FORMATS:
        raise ValueError(f"expected --format among {', '.join(FORMATS)}, got {image_format!r}")
    make_folder(out)
    chapters = tuple(tours.CHAPTERS) if everything else None
    drawings = tours.tour(datasets.digits(), tours.Settings(seed=seed, chapters=chapters)).figures()
    with progress_bar("figures", len(drawings)) as bar:
        for name, _ in save_all(drawings, out, image_format):
            bar.advance(name)
    say(f"Figures: {out}")
