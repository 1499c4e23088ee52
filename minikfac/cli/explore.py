"""The command that writes the explorer: ``minikfac explore``."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path
from typing import Annotated

from typer import Option

from .common import make_folder, say

EXAMPLE = "minikfac explore --open"


def explore(
    out: Annotated[Path, Option(help="The page, one HTML file.")] = Path("explorer.html"),
    show: Annotated[bool, Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write a page on which a net's Fisher matrix, K-FAC and their steps can be explored by hand.

    One file for any browser, without a server or a network. It shows the net of
    the tutorials at seven moments of training: choose a layer and a damping,
    and see the exact block, A, G, their product and the difference; two
    equivalent nets under SGD, Adam, K-FAC and the natural gradient; and
    gradients on maps of the globe. Half a minute at most.
    """
    from .. import explorer

    started = time.perf_counter()
    if out.suffix not in (".html", ".htm"):
        raise ValueError(f"expected --out to end in .html, got {out}")
    make_folder(out.parent)
    page = explorer.write_example(out).resolve()
    size, seconds = page.stat().st_size / 2**20, time.perf_counter() - started
    say(f"Explorer: {page.as_uri()}  ({size:.1f} MB, {seconds:.0f} s)")
    if show:
        webbrowser.open(page.as_uri())
