"""The ledger of assumptions: what each step from the exact matrix to K-FAC costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import plots
from ...fisher import LADDER
from ...quality import format_cell
from ..parts import Drawings, Figure, Section, Table, percent, wrong_by

if TYPE_CHECKING:
    from ..run import Run

Row = Mapping[str, Any]
EXACT, SUD, IAD, IAD_SUD, IAD_SH, ALL = LADDER.values()
COLUMNS = {
    "label": "assumed",
    "error": "error so far",
    "cost": "this step's",
    "c_star": "c*",
    "step_cosine": "cosine",
    "step_length": "length",
    "share": "share",
}


@dataclass(frozen=True)
class Ledger:
    """The rows of :func:`minikfac.quality.ledger`, from the study."""

    rows: list[dict[str, Any]]

    def figures(self) -> Drawings:
        """What each assumption costs."""
        return {"ledger": lambda: plots.ledger(self.rows)}

    def sections(self) -> list[Section]:
        """The costliest assumption as a matrix and as a step; all as numbers."""
        by_label = {row["label"]: row for row in self.rows}
        # alternatives are no steps on the way
        steps = [row for row in self.rows[1:] if not row["label"].startswith(("KFAC-reduce", "T x KFC"))]
        worst = max(steps, key=lambda row: row["cost"])
        drops = [(by_label[row["above"]]["share"] - row["share"], row["label"]) for row in steps]
        drop, where = max(pair for pair in drops if math.isfinite(pair[0]))
        text = (
            "From the exact matrix to K-FAC as it is used, one assumption after the other, and what each "
            f"costs. As a matrix, the costliest is “{worst['label']}” ({percent(worst['cost'])}). As a step, "
            f"it is “{where}”: the share of the exact step's progress falls by {100 * drop:.0f} percentage "
            f"points there, and is {percent(self.rows[-1]['share'])} in the end." + branches(self.rows)
        )
        figure = Figure(
            "ledger",
            "Error of the matrix after each assumption and by it alone; the step that follows from it.",
        )
        caption = "The same as numbers. c* is the scalar that would mend the matrix best."
        return [
            Section("ledger", "The ledger of assumptions", [text, figure, table(self.rows, COLUMNS, caption)])
        ]

    def record(self) -> dict[str, Any]:
        """The rows."""
        return {"ledger": self.rows}


def compute(run: Run) -> Ledger:
    """The study has made it."""
    return Ledger(run.study.ledger)


def table(rows: Sequence[Row], columns: Mapping[str, str], caption: str) -> Table:
    """Rows of a ledger as numbers; the first column is the label."""
    numbers = list(columns)[1:]
    cells = [[str(row["label"]), *(format_cell(row[key]) for key in numbers)] for row in rows]
    return Table(list(columns.values()), cells, caption)


def branches(rows: Sequence[Row]) -> str:
    """What is to be said of a ledger whose rows do not all follow the row over them."""
    by_label = {row["label"]: row for row in rows}
    alternatives = [row for row in rows if row["label"].startswith(("KFAC-reduce", "T x KFC"))]
    if len(alternatives) < 2:
        return ""
    reduce, full = alternatives
    text = (
        " Not every row follows from the one over it: KFAC-reduce and T × KFC are alternatives to the last "
        f"steps of KFC. They are wrong by {wrong_by(reduce['error'])} and {wrong_by(full['error'])}, where "
        f"KFC is wrong by {wrong_by(by_label[ALL]['error'])}; their steps make {percent(reduce['share'])} "
        f"and {percent(full['share'])} of the exact step's progress, KFC's {percent(by_label[ALL]['share'])}."
    )
    if not math.isfinite(by_label[IAD_SH]["share"]):
        text += (
            " With IAD + SH alone the matrix has negative eigenvalues beyond the damping, and so gives no "
            "step (a dash)."
        )
    return text
