"""Tables on the command line, fitted to the width of the terminal.

A table is as wide as the terminal or COLUMNS, and 100 characters without a terminal. Columns that do not fit
follow below, beside the first column again; no cell is cut. Of the many measures of a study, those in BRIEF
are shown and as many others as fit; ``--wide`` shows all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from ..display import beside, stacked
from .common import say, width

if TYPE_CHECKING:
    from ..quality import Comparison
    from ..tour import Tour

Wide = Annotated[bool, Option("--wide", help="Print every measure, in tables one below the other.")]

FEW, ROOMY = 5, 90
"""On a line of fewer than ROOMY characters, at most FEW columns beside the first."""


def print_table(title: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a title and a table; columns for which the terminal is too narrow follow below."""
    say(f"\n{title}\n")
    most = FEW if width() < ROOMY else len(header)
    print("\n".join([*stacked(header, cells, width(), most), ""]), flush=True)


def print_tour(tour: Tour, wide: bool = False) -> None:
    """Print what was studied, how well each matrix approximates, and what each assumption costs."""
    run, study = tour.run, tour.run.study
    first, last = run.history.records[0], run.history.records[-1]
    error = f", test error {last['test_error']:.1%}" if "test_error" in last else ""
    say(
        f"\n{run.dataset.name}, net {run.settings.net_name}, "
        f"{study.F.shape[0]:,} parameters, {len(run.x):,} examples, damping {study.damping:g}; "
        f"after {run.settings.steps} steps loss {last['loss']:.3g}{error}"
    )
    if last["loss"] > first["loss"]:
        say("Training increased the loss: a smaller --lr may help.")
    print_comparison(study.table, wide)
    print_ledger("What each assumption costs: relative error after it, and by it alone (cost)", study.ledger)
    for name, reason in study.not_built.items():
        say(f"Not built: {name}; {reason}.\n")
    if "convolutions" in tour.chapters and tour.convnet is None:
        numbers = tour.chapters["convolutions"].record["convolutions"]
        for name, rows in numbers.get("layer_ledgers", {}).items():
            print_ledger(f"The block of {name} alone", rows)
    if study.left_out:
        say(
            f"Omitted at this size: {', '.join(study.left_out)} (--measures all computes everything, "
            "--layers middle studies a part)\n"
        )


def print_comparison(comparison: Comparison, wide: bool = False) -> None:
    """Print the measures of each approximation: the brief ones and what fits beside them, or all."""
    from ..quality.measures import BRIEF, COLUMNS

    order = [*BRIEF, *(column for column in COLUMNS if column not in BRIEF)]
    header, cells = comparison.table(columns=order)
    few = len(comparison.table(columns=BRIEF)[0])
    fitting = 1 + beside(header, cells, width()) if width() >= ROOMY else few
    shown = len(header) if wide else max(few, fitting)
    title = "How well each matrix approximates the exact Fisher matrix"
    print_table(title, header[:shown], [row[:shown] for row in cells])
    if shown < len(header):
        say(f"{len(header) - shown} more with --wide: {', '.join(header[shown:])}\n")
    if comparison.notes:
        say("\n".join([*comparison.notes, ""]))


def print_ledger(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what each assumption costs."""
    from ..quality.tables import heading

    columns = ["error", "cost", "c_star", "step_cosine", "share"]
    branching = any(row["above"] != above["label"] for above, row in pairwise(rows))
    numbers = {row["label"]: f"({number})" for number, row in enumerate(rows, 1)}
    header = ["assumption", *(["added to"] if branching else []), *map(heading, columns)]
    cells = [
        [
            f"{numbers[row['label']]} {row['label']}" if branching else str(row["label"]),
            *([numbers.get(row["above"], "")] if branching else []),
            *(_cell(row, key) for key in columns),
        ]
        for row in rows
    ]
    print_table(title, header, cells)


def _cell(row: Mapping[str, Any], key: str) -> str:
    """A number, with its standard error if it is an estimate."""
    if math.isnan(row[key]):
        return "-"
    error = row.get(f"{key}_se")
    return f"{row[key]:.3g}" + ("" if error is None else f" ± {error:.1g}")
