"""The main command: ``minikfac tour``."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path
from typing import Annotated

from typer import Option

from .. import datasets
from . import common
from .common import make_folder, say
from .tables import Wide, print_tour

EXAMPLE = "minikfac tour --out minikfac-tour --open"
NEXT = "minikfac fisher --net 64-20-20-10 --save my-net"


def tour(
    out: Annotated[Path, Option(help="Folder for the report; created if needed.")] = Path("minikfac-tour"),
    seed: common.Seed = 0,
    show: Annotated[bool, Option("--open", help="Open the report in a browser.")] = False,
    wide: Wide = False,
) -> None:
    """Train a small net on handwritten digits and show how well each matrix approximates its Fisher matrix.

    The Fisher matrix says how much a net's predictions change when its weights do. The tour builds it
    exactly, builds K-FAC and other approximations of it from the same two signals of backpropagation, and
    writes a report that explains the assumptions of each and what they cost; a chapter on convolutions
    studies a second, convolutional net, and one on invariance trains pairs of nets that start as the same
    function. A minute in all.
    """
    from .. import tour as tours  # matplotlib takes a second

    started = time.perf_counter()
    make_folder(out)
    made = tours.tour(datasets.digits(), tours.Settings(seed=seed, chapters=tuple(tours.CHAPTERS)))
    print_tour(made, wide)
    if made.convnet is not None:
        print_tour(made.convnet, wide)
    written = tours.write_report(made, out)
    page, row = written.page.resolve().as_uri(), made.run.study.table["K-FAC"]
    say(
        f"K-FAC: relative error {row['error']:.2f}, step's cosine {row['step_cosine']:.2f}, "
        f"{row['share']:.0%} of the exact step's progress"
    )
    say(f"Report: {page}  ({time.perf_counter() - started:.0f} s)")
    say(f"Next, a net of your own: {NEXT}")
    if show:
        webbrowser.open(page)
