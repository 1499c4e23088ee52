"""What commands share: options, lists with commas, what is printed, and outputs that can be written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from rich import box
from rich.console import Console
from rich.table import Table
from typer import Option

ProblemName = Annotated[
    str,
    Option(
        "--problem",
        help="digits, digits-autoencoder, digits-convnet, usps, mnist-autoencoder, curves-autoencoder, "
        "patches-autoencoder, cifar10-kfc or svhn-kfc.",
    ),
]
Folder = Annotated[Path | None, Option(help="Where the files of its data are, if not in the cache.")]
Examples = Annotated[int | None, Option(help="Training examples; all by default.", min=1)]
Width = Annotated[float, Option(help="Scales the hidden units of the problem's net.")]
Dtype = Annotated[str | None, Option(help="float64 or float32; the problem's own by default.")]
BatchSizes = Annotated[
    str | None,
    Option(
        help="Examples per step, the problem's own by default; 100:1500:200 grows exponentially from 100 to "
        "1500 at step 200."
    ),
]
Device = Annotated[
    str, Option(help="Where to compute: cpu, cuda (a GPU, with CuPy) or cuda:1 (the second one).")
]
Seed = Annotated[int, Option(help="Of initialization, order and drawn targets.", min=0)]
Resume = Annotated[
    bool, Option("--resume", help="Go on from the last checkpoint, or begin if there is none.")
]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace the run that is in the folder.")]
Levels = Annotated[
    str | None, Option(help="To be reached, as in 20,18.5; by default what the baseline reached on its way.")
]
Figure = Annotated[Path, Option(help="The figure: a .png, .svg or .pdf.")]


# what is written ------------------------------------------------------------------------------------------


def make_folder(folder: Path) -> None:
    """Make the folder now: not to be able to write is better known before the work than after it."""
    folder.expanduser().mkdir(parents=True, exist_ok=True)


def check_figure(path: Path) -> None:
    """Refuse a name of a figure that ends in no format of figures."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"expected --out to end in .png, .svg or .pdf, got {path}")


def on_existing(resume: bool, overwrite: bool, paths: Sequence[Path], what: str = "checkpoint") -> str:
    """What becomes of a run that is there: "resume", "replace", or "refuse" where there is none.

    Raises:
        ValueError: on both options.
        FileExistsError: where one of the paths exists and neither option says what becomes of it.
    """
    if resume and overwrite:
        raise ValueError("expected --resume or --overwrite, got both")
    for path in paths:
        if path.exists() and not (resume or overwrite):
            raise FileExistsError(
                f"expected no {what} in {path} yet, got one; --resume goes on from it, --overwrite "
                "replaces it, --out names another folder"
            )
    return "resume" if resume else "replace" if overwrite else "refuse"


# what is printed ------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def print_table(title: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a table as wide as the terminal; what is piped is not cut off at 80 columns."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", no_wrap=number == 0)
    for row in cells:
        table.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(table)
