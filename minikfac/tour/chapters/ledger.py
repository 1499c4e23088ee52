"""The ledger of assumptions: what each step from the exact matrix to K-FAC costs."""

from __future__ import annotations

from ... import plots
from ...fisher import LADDER
from ..parts import Chapter, Figure, Section
from ..studied import Run

_, SUD, IAD, _, _, ALL = LADDER.values()


def compute(run: Run) -> Chapter:
    """From the exact matrix to K-FAC; the study has made the rows."""
    rows = run.study.ledger
    text = (
        "From the exact matrix to K-FAC as it is used, one assumption after the other. Each row adds its "
        "assumption to the row above it, or to the one that it names. The last columns are the cosine of "
        "its step with the exact natural gradient step, and its share of that step's progress; a matrix "
        "with negative eigenvalues beyond the damping gives no step (a dash)."
    )
    caption = "Error of the matrix after each assumption and by it alone, and the step with this matrix."
    section = Section("ledger", "What each assumption costs", [text, Figure("ledger", caption)])
    return Chapter([section], {"ledger": lambda: plots.ledger(rows)}, {"ledger": rows})
