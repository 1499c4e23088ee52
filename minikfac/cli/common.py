"""What commands share: options, lists with commas, what is printed, and outputs that can be written."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from typer import Option
from typer.core import TyperCommand

from ..writing import check_writable, replaced_at_once, sole_writer

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


class Command(TyperCommand):
    """A command that refuses, of any option, what no setting can be; a path may begin with ~."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options.

        Raises:
            ValueError: on a number that is not finite, or an unknown user's folder.
        """
        rest = super().parse_args(ctx, args)
        for option in self.params:
            value = ctx.params.get(option.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"expected a finite number for {option.opts[0]}, got {value}")
            if isinstance(value, Path):
                ctx.params[option.name] = _expanded(value)
        return rest


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"expected a path, got {path}: {error}") from error


# what is written ------------------------------------------------------------------------------------------

FOLDERS = ExitStack()
"""Locks on the folders that the command writes; released when it ends."""
FIGURES = (".png", ".svg", ".pdf")
RECORDS = "file of records"
"""From these alone no run goes on."""
WRITTEN = (*FIGURES, ".npz", ".json", ".jsonl", ".csv", ".html")
"""How files end that commands write."""


def make_folder(folder: Path) -> None:
    """Make the folder and lock it: not to be able to write is better known before the work than after it.

    Raises:
        FileExistsError: where another command writes there, or something is in the way.
        OSError: where nothing can be written.
    """
    FOLDERS.enter_context(sole_writer(folder))
    for path in folder.iterdir():
        if path.suffix in WRITTEN and not path.is_file():
            raise FileExistsError(f"expected no folder or device in the place of a file, got {path}")


def check_figure(path: Path) -> None:
    """Refuse a figure that cannot be written there.

    Raises:
        ValueError: on a name that ends in no format of figures.
        OSError: where no file can be written.
    """
    if path.suffix not in FIGURES:
        raise ValueError(f"expected --out to end in .png, .svg or .pdf, got {path}")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"expected a file in {path}, or none yet, got a folder or a device")
    check_writable(path.parent)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure in the format that its name ends in, whole or not at all."""
    with replaced_at_once(path) as file:
        figure.savefig(file, format=path.suffix[1:])


def in_figures(text: str) -> str:
    r"""A name as figures show it: dollar signs begin no formula, a first underscore hides nothing.

    >>> print(in_figures("a$b$"), in_figures("K-FAC"))
    a\$b\$ K-FAC
    """
    shown = text.encode(errors="replace").decode().replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


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
            advice = "" if what == RECORDS else "--resume goes on from it, "
            raise FileExistsError(
                f"expected no {what} in {path} yet, got one; {advice}--overwrite replaces it, --out names "
                "another folder"
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
