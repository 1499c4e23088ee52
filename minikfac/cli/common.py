"""What commands share: options, lists with commas, what is printed, and outputs that can be written."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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


def width(elsewhere: int = 100) -> int:
    """Letters in a line: the terminal's, or COLUMNS; ``elsewhere`` where the output is no terminal."""
    return shutil.get_terminal_size((elsewhere, 24)).columns


def say(text: str) -> None:
    """Print lines at once; on a terminal a long one goes on below, indented."""
    for line in text.split("\n"):
        indent = " " * (4 + len(line) - len(line.lstrip()))
        look: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
        print(textwrap.fill(line, width(elsewhere=10**6), subsequent_indent=indent, **look), flush=True)
