"""The ledger of assumptions: what each step from the exact matrix to K-FAC costs."""

from __future__ import annotations

from ... import plots
from ...fisher import LADDER
from ..parts import Chapter, Section
from ..studied import Run
from ..words import words

_, SUD, IAD, _, _, ALL = LADDER.values()


def compute(run: Run) -> Chapter:
    """From the exact matrix to K-FAC; the study has made the rows."""
    rows = run.study.ledger
    section = Section("ledger", "What each assumption costs", words("ledger"))
    return Chapter([section], {"ledger": lambda: plots.ledger(rows)}, {"ledger": rows})
