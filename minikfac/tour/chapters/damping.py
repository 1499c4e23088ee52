"""Steps against damping: cosines of approximate steps with the exact one.

What one step of training improves, against damping, is in :mod:`.progress`; how damping ends invariance, in
:mod:`.invariance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import plots, quality
from ...backend import array_module
from ...linalg import SingularMatrixError
from ..parts import Drawings, Figure, Section, number
from .matrices import pictured

if TYPE_CHECKING:
    from ..run import Run

DAMPINGS = [10.0**power for power in range(-5, 2)]
_EXACT_STEPS = 4000
"""Most parameters for which the exact step is computed for each of many dampings."""


@dataclass(frozen=True)
class Damping:
    """Cosines of steps.

    Attributes:
        dampings: lambdas, the smallest first.
        curves: cosines by name of the approximation.
        where: "all" parameters, or those of the "middle" layers.
    """

    dampings: list[float]
    curves: dict[str, list[float]]
    where: str

    def figures(self) -> Drawings:
        """Directions of the damped steps against damping."""
        return {"step-cosines": lambda: plots.cosine_against_damping(self.dampings, self.curves)}

    def sections(self) -> list[Section]:
        """The least and the most damping."""
        small = {name: values[0] for name, values in self.curves.items()}
        best = max(small, key=lambda name: small[name])
        large = min(values[-1] for values in self.curves.values())
        where = "all parameters" if self.where == "all" else "the layers in the pictures"
        text = (
            "Add more damping, and every step turns towards the plain gradient: for λ = "
            f"{number(self.dampings[-1])} all directions agree with the exact one to a cosine of "
            f"{number(large)} or more{', and the approximation hardly matters' * (large > 0.95)}. For λ = "
            f"{number(self.dampings[0])} the cosines are "
            + ", ".join(f"{number(cosine)} ({name})" for name, cosine in small.items())
            + f"; {best} is the closest. An approximation needs damping not only because data are few, but "
            f"to cover for its own errors. (For {where}.)"
        )
        caption = "Cosine between approximate and exact natural gradient steps, for each damping."
        return [Section("damping", "Steps against damping", [text, Figure("step-cosines", caption)])]

    def record(self) -> dict[str, Any]:
        """All of it."""
        return {"step_cosines": vars(self)}


def compute(run: Run) -> Damping | None:
    """Take steps for all parameters where these are at most 4,000, else for the layers that are drawn."""
    study = run.study
    F, matrices, gradient, where = study.F, study.matrices, study.gradient, "all"
    if F.shape[0] > _EXACT_STEPS:
        if not run.drawn:
            return None
        part, where = pictured(run), "middle"
        F, matrices = part.F, {name: M for name, M in part.matrices.items() if name in study.matrices}
        slices = [study.signals.slices[run.layers.index(layer)] for layer in run.drawn]
        gradient = array_module(gradient).concatenate([gradient[rows] for rows in slices])
    names = ("block-diagonal", "K-FAC", "block-tridiagonal", "diagonal")
    matrices = {name: matrices[name] for name in names if name in matrices}
    curves: dict[str, list[float]] = {name: [] for name in matrices}
    solvable = []
    for damping in DAMPINGS if matrices else []:
        try:
            cosines = quality.step_cosines(F, matrices, gradient, [damping])
        except SingularMatrixError:  # too little for the precision at hand
            continue
        solvable.append(damping)
        for name, values in cosines.items():
            curves[name] += values
    return Damping(solvable, curves, where) if solvable else None
