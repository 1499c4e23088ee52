"""The ledger of assumptions: what each step from the exact matrix to K-FAC costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import plots
from ...fisher import LADDER
from ..parts import Drawings, Figure, Section

if TYPE_CHECKING:
    from ..run import Run

EXACT, SUD, IAD, IAD_SUD, IAD_SH, ALL = LADDER.values()


@dataclass(frozen=True)
class Ledger:
    """The rows of :func:`minikfac.quality.ledger`, from the study."""

    rows: list[dict[str, Any]]

    def figures(self) -> Drawings:
        """What each assumption costs."""
        return {"ledger": lambda: plots.ledger(self.rows)}

    def sections(self) -> list[Section]:
        """From the exact matrix to K-FAC."""
        text = (
            "From the exact matrix to K-FAC as it is used, one assumption after the other. Each row adds its "
            "assumption to the row above it, or to the one that it names. The last columns are the cosine of "
            "its step with the exact natural gradient step, and its share of that step's progress; a matrix "
            "with negative eigenvalues beyond the damping gives no step (a dash)."
        )
        caption = "Error of the matrix after each assumption and by it alone, and the step with this matrix."
        return [Section("ledger", "What each assumption costs", [text, Figure("ledger", caption)])]

    def record(self) -> dict[str, Any]:
        """The rows."""
        return {"ledger": self.rows}


def compute(run: Run) -> Ledger:
    """The study has made it."""
    return Ledger(run.study.ledger)
