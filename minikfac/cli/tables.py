"""What ``minikfac tour`` and ``fisher`` print of a study: the tables of its approximations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..quality import COLUMNS, Comparison
from .common import print_table, say

if TYPE_CHECKING:
    from ..tour import Tour

NOT_BUILT = {
    "block-tridiagonal": "it exists for chains of dense layers only",
    "low rank": "it takes long for shared weights; --approximations has it",
}


def print_tour(tour: Tour) -> None:
    """Print what was studied, how well each matrix approximates, and what each assumption costs."""
    from ..tour.chapters.convolutions import Convolutions

    run, study = tour.run, tour.run.study
    first, last = run.history.records[0], run.history.records[-1]
    error = f", test error {last['test_error']:.1%}" if "test_error" in last else ""
    say(
        f"\n{run.dataset.name}, net {run.settings.net_name}, "
        f"{study.F.shape[0]:,} parameters, {len(run.x):,} examples, damping {study.damping:g}; "
        f"after {run.settings.steps} steps loss {last['loss']:.3g}{error}\n"
    )
    if last["loss"] > first["loss"]:
        say("Training made the loss larger than it was: a smaller --lr may help.\n")
    _print_comparison(study.comparison)
    _print_ledger("The ledger of assumptions", study.ledger)
    for name, reason in NOT_BUILT.items() if run.settings.approximations is None else ():
        if name not in study.matrices:
            say(f"Not built: {name}; {reason}.\n")
    convolutions = tour.chapters.get("convolutions")
    if isinstance(convolutions, Convolutions) and not convolutions.beside:
        for name, rows in convolutions.ledgers.items():
            _print_ledger(f"The block of {name} alone", rows)
    if study.left_out:
        say(
            f"Left out at this size: {', '.join(study.left_out)} (--measures all computes everything, "
            "--layers middle studies a part)\n"
        )


def _print_ledger(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ["error", "cost", "c_star", "step_cosine", "share"]
    branching = any(row["above"] != above["label"] for above, row in pairwise(rows))
    header = ["assumption", *(["added to"] if branching else []), *(key.replace("_", " ") for key in columns)]
    cells = [
        [
            str(row["label"]),
            *([str(row["above"] or "").split(":")[0]] if branching else []),
            *("-" if math.isnan(row[key]) else f"{row[key]:.3g}" for key in columns),
        ]
        for row in rows
    ]
    print_table(title, header, cells)


def _print_comparison(comparison: Comparison) -> None:
    columns = list(COLUMNS)
    cut = columns.index("kl")
    print_table("As a matrix and as a step", *comparison.table(columns=columns[:cut]))
    print_table("As a model and as a preconditioner", *comparison.table(columns=columns[cut:]))
