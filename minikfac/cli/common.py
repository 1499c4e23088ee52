"""Shared by several commands: options, checks of what is written, and printing."""

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
Folder = Annotated[Path | None, Option(help="Folder with its data files, if not the cache.")]
Examples = Annotated[int | None, Option(help="Training examples; all by default.", min=1)]
Width = Annotated[float, Option(help="Scales the hidden units of the problem's net.")]
Dtype = Annotated[str | None, Option(help="float64 or float32; that of the problem by default.")]
BatchSizes = Annotated[
    str | None,
    Option(
        help="Examples per step; the problem's by default. 100:1500:200 grows exponentially from 100 to "
        "1500 at step 200."
    ),
]
Device = Annotated[
    str, Option(help="Where to compute: cpu, cuda (a GPU, with CuPy) or cuda:1 (the second one).")
]
Seed = Annotated[int, Option(help="Seed of initialization, order and drawn targets.", min=0)]
Resume = Annotated[
    bool, Option("--resume", help="Continue from the last checkpoint, or begin if there is none.")
]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace the run in the folder.")]
Levels = Annotated[
    str | None, Option(help="Levels to reach, as in 20,18.5; by default levels that the baseline reached.")
]
Figure = Annotated[Path, Option(help="The figure: a .png, .svg or .pdf.")]


class Command(TyperCommand):
    """A command that rejects numbers that are not finite, and expands ~ in paths."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options.

        Raises:
            ValueError: if a number is not finite, or a path begins with ~ and an unknown user.
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
"""Locks on the folders to which the command writes; released when it ends."""
FIGURES = (".png", ".svg", ".pdf")
RECORDS = "file of records"
"""Not enough to resume a run."""
WRITTEN = (*FIGURES, ".npz", ".json", ".jsonl", ".csv", ".html")
"""Suffixes of the files that commands write."""


def make_folder(folder: Path) -> None:
    """Make and lock the folder, so that a folder that cannot be written is reported before any work.

    Raises:
        FileExistsError: if another command writes there, or a file cannot be replaced.
        OSError: if the folder cannot be written.
    """
    FOLDERS.enter_context(sole_writer(folder))
    for path in folder.iterdir():
        if path.suffix in WRITTEN and not path.is_file():
            raise FileExistsError(f"expected no folder or device in the place of a file, got {path}")


def check_figure(path: Path) -> None:
    """Reject a figure that cannot be written there.

    Raises:
        ValueError: if the suffix is not that of a figure.
        OSError: if the file cannot be written.
    """
    if path.suffix not in FIGURES:
        raise ValueError(f"expected --out to end in .png, .svg or .pdf, got {path}")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"expected a file in {path}, or none yet, got a folder or a device")
    check_writable(path.parent)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure in the format of the suffix, whole or not at all."""
    with replaced_at_once(path) as file:
        figure.savefig(file, format=path.suffix[1:])


def in_figures(text: str) -> str:
    r"""Escape a name for a figure, where $ would begin a formula and a leading underscore hide a label.

    >>> print(in_figures("a$b$"), in_figures("K-FAC"))
    a\$b\$ K-FAC
    """
    shown = text.encode(errors="replace").decode().replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def on_existing(resume: bool, overwrite: bool, paths: Sequence[Path], what: str = "checkpoint") -> str:
    """What to do with an existing run: "resume", "replace", or "refuse".

    Raises:
        ValueError: if both options are given.
        FileExistsError: if one of the paths exists and neither option is given.
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


GLUE = "\N{NO-BREAK SPACE}"
"""Keeps the words of a part of a line together."""

# what is printed ------------------------------------------------------------------------------------------


def width(elsewhere: int = 100) -> int:
    """Characters per line: of the terminal, or COLUMNS; ``elsewhere`` if the output is not a terminal."""
    return shutil.get_terminal_size((elsewhere, 24)).columns


def say(text: str) -> None:
    """Print lines; on a terminal, long ones are wrapped and indented, between their parts if any."""
    for line in text.split("\n"):
        indent = " " * (4 + len(line) - len(line.lstrip()))
        look: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
        parts = line.strip().split("  ")  # which stay whole where there are several
        whole = [part.replace(" ", GLUE) for part in parts] if len(parts) > 1 else parts
        line = indent[4:] + "  ".join(whole)
        filled = textwrap.fill(line, width(elsewhere=10**6), subsequent_indent=indent, **look)
        print(filled.replace(GLUE, " "), flush=True)
