"""Which methods depend on the parameters: the tour's chapter on equivalent nets, and a page of its own.

The study is in :mod:`minikfac.invariance`; the tour has its brief form, ``minikfac invariance`` the whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import plots
from ...invariance.methods import DAMPING, METHODS
from ...invariance.study import TOLERANCE, Application, Cell, GapMatrix, Invariance, brief_study
from ...plots.invariance import tiny
from ..page import page
from ..parts import Drawings, Figure, Head, Part, Section, Table, listing, number
from .charts import order

if TYPE_CHECKING:
    from ..run import Run

FOLLOWED = "general affine"
"""The column whose gaps are drawn step by step."""
DRAWN = ("exact natural gradient", "block-exact", "K-FAC", "K-FAC, damped", "EKFAC", "diagonal Fisher", "SGD")
"""Methods among them."""
SLOPES = {"exact natural gradient": 1.0, "K-FAC, (A ⊗ G + λI)⁻¹": 1.0, "K-FAC, factored damping": 0.5}
"""Powers of lambda by which gaps vanish."""
TITLE = "Who sees the net, and who its parameters"
MATRIX = Figure("invariance", "Methods down, reparameterizations across; damped ones below.")
INTRODUCTION = (
    "Two nets compute the same function of <i>x</i>, in other parameters: rotated, rescaled, centred, tanh "
    "units for logistic ones. Both are trained by the same method, on the same examples, with the same "
    "random numbers. The gap is how far apart their outputs then are, over how far the first has moved. A "
    "method that follows the function alone cannot tell them apart; one that follows the parameters can."
)


@dataclass(frozen=True)
class EquivalentNets:
    """The gaps of the invariance study, as a chapter of the tour."""

    study: Invariance

    def figures(self) -> Drawings:
        """What draws each picture, by file name."""
        pictures = study_figures(self.study)
        for one in self.study.applications:
            pictures |= application_figures(one)
        return pictures

    def sections(self) -> list[Section]:
        """Which methods are invariant, gaps by steps and by damping, and the applications."""
        opening = (
            "Many matrices are as easy to invert as K-FAC's. What is there to choose by, other than errors? "
            f"Whether steps depend on how the net is written down. {INTRODUCTION}"
        )
        sections = [
            Section("invariance", TITLE, [opening, verdict(self.study), MATRIX, table(self.study.matrix)]),
            *steps_and_damping(self.study, level=3),
        ]
        for one in self.study.applications:
            caption = f"{one.title}: losses of two nets that begin as the same function."
            parts: list[Part] = [application_table(one), Figure(one.key, caption)]
            sections.append(Section("equivalent", one.title, parts, 3))
        return sections

    def record(self) -> dict[str, Any]:
        """Every gap and loss."""
        return {"invariance": self.study.record()}


def compute(run: Run) -> EquivalentNets:
    """Try all methods in brief, on nets of their own."""
    return EquivalentNets(brief_study(run.settings.seed))


# figures --------------------------------------------------------------


def study_figures(study: Invariance) -> Drawings:
    """What draws the matrix, gaps against steps and gaps against damping, by file name."""
    drawings: Drawings = {"invariance": partial(_draw_matrix, study.matrix)}
    if curves := {method: (cell.steps, cell.gaps) for method, cell in _followed(study.matrix).items()}:
        title = f"Gap between equivalent nets ({FOLLOWED} maps)"
        drawings["gap-by-steps"] = partial(plots.gap_against_steps, curves, tolerance=TOLERANCE, title=title)
    drawings["gap-by-damping"] = partial(
        plots.gap_against_damping, study.dampings, study.damped, slopes=SLOPES, tolerance=TOLERANCE
    )
    return drawings


def _draw_matrix(matrix: GapMatrix) -> Any:
    groups = {method.name: method.group for method in METHODS}
    rows = matrix.methods
    return plots.invariance_matrix(
        [[cell.gap for cell in matrix.row(method)] for method in rows],
        [[cell.expected for cell in matrix.row(method)] for method in rows],
        rows,
        matrix.changes,
        tolerance=TOLERANCE,
        rules=[n for n in range(1, len(rows)) if groups.get(rows[n]) != groups.get(rows[n - 1])],
    )


def training_figures(matrix: GapMatrix) -> Drawings:
    """What draws the losses under SGD and K-FAC of two columns of the matrix, by file name."""
    pictures: Drawings = {}
    for change, nets in (("logistic to tanh", ("logistic", "tanh")), ("normalize", ("raw", "normalized"))):
        title = f"{nets[0].capitalize()} and {nets[1]}: two nets that begin as the same function"
        cells = matrix.cell("SGD", change), matrix.cell("K-FAC", change)
        pictures |= application_figures(Application(change.replace(" ", "-"), title, nets, cells))
    return pictures


def application_figures(one: Application) -> Drawings:
    """What draws the trainings of one application that did not fail; nothing where all did."""
    cells = [cell for cell in one.cells if not cell.failure]
    losses, gaps = {cell.method: cell.losses for cell in cells}, {cell.method: cell.gap for cell in cells}
    draw = partial(plots.equivalent_training, losses, one.nets, gaps=gaps, title=one.title)
    return {one.key: draw} if cells else {}


# words --------------------------------------------------------------


def measures(study: Invariance) -> list[tuple[str, str]]:
    """How many pairs are as theory says, and two gaps; each with what it is."""
    cells, right = study.all_cells, sum(cell.as_predicted for cell in study.all_cells)
    kept, broken = (
        [cell.gap for cell in cells if cell.expected == invariant and not cell.failure]
        for invariant in (True, False)
    )
    return [
        (f"{right} of {len(cells)}", "pairs of nets behave as theory says"),
        (tiny(max(kept, default=math.nan)), "largest gap of a method that is invariant"),
        (tiny(min(broken, default=math.nan)), "smallest gap of one that is not"),
    ]


def verdict(study: Invariance) -> str:
    """How the gaps compare with theory."""
    (right, _), (kept, _), (broken, _) = measures(study)
    return (
        f"{right} pairs of nets behave as theory says [MG15, sec. 10; GM16, sec. 4.1]; crosses in the matrix "
        "mark those that do not. Where theory says that a method is invariant, the gap is rounding, at most "
        f"{kept} of the distance moved; where it says that the method is not, it is at least {broken}."
    )


def table(matrix: GapMatrix) -> Table:
    """The matrix as a table."""
    rows = []
    for method in matrix.methods:
        cells = matrix.row(method)
        steps = max((int(cell.steps[-1]) for cell in cells if len(cell.steps)), default=0)
        gaps = [
            "failed" if cell.failure else tiny(cell.gap) + (" =" if cell.invariant else "") for cell in cells
        ]
        rows.append([method, str(steps), *gaps])
    caption = f"The same as numbers, after so many steps. = is invariant: a gap below {TOLERANCE:g}."
    return Table(["method", "steps", *matrix.changes], rows, caption)


def _followed(matrix: GapMatrix) -> dict[str, Cell]:
    """Cells of the general affine map with more than one step, by method."""
    return {
        cell.method: cell
        for cell in matrix.cells
        if cell.change == FOLLOWED and cell.method in DRAWN and len(cell.steps) > 1
    }


def steps_and_damping(study: Invariance, level: int) -> list[Section]:
    """How gaps grow with steps, where methods took some, and how they vanish with damping."""
    sections = []
    cells = [cell for cell in _followed(study.matrix).values() if not cell.failure]
    if cells:
        figure = Figure("gap-by-steps", "Gaps under a general affine map around every layer.")
        gaps = [f"{number(one.gaps[0])} and {number(one.gap)} with {_quoted(one.method)}" for one in cells]
        words = (
            f"Gaps under general affine maps, after one step and after the last, are {listing(gaps)} of the "
            "distance moved. A method that is not invariant has its gap after one step; that of an invariant "
            "one is rounding, which steps without damping amplify."
        )
        sections.append(Section("gapsteps", "Step by step", [words, figure], level))
    figure = Figure("gap-by-damping", "Gap after one step against damping.")
    words = by_damping(study.dampings, study.damped)
    sections.append(Section("gapdamping", "What damping does", [words, figure], level))
    return sections


def by_damping(dampings: np.ndarray, damped: Mapping[str, np.ndarray]) -> str:
    """With which power of lambda gaps vanish, fitted where they are small and no rounding."""
    at = int(np.abs(np.log(dampings / DAMPING)).argmin())
    ends, powers = [], []
    for name, gaps in damped.items():
        ends.append(f"{number(gaps[at])} with {_quoted(name)}")
        fitted = (gaps > 1e-11) & (gaps < 1e-2)
        if fitted.sum() > 1:
            powers.append(f"λ<sup>{order(dampings[fitted], gaps[fitted]):.2f}</sup> with {_quoted(name)}")
    return (
        "Damping adds a multiple of the identity, which does not map along with the Fisher matrix: it is "
        f"the metric of one set of parameters. With λ&nbsp;= {number(dampings[at])} the gap after one step "
        f"is {listing(ends)}. Towards small λ it falls like {listing(powers)}: factored damping adds √λ, and "
        "not λ, to each factor."
    )


def _quoted(name: str) -> str:
    return f"“{name}”" if "," in name else name


def application_table(one: Application) -> Table:
    """What one reparameterization does to SGD and to K-FAC, in numbers."""
    header = ["method", "steps", "gap", "loss at the start", *(f"at the end, {net}" for net in one.nets)]
    rows = [
        [cell.method, str(cell.steps[-1]), tiny(cell.gap), *(f"{loss:.4g}" for loss in losses)]
        for cell in one.cells
        if not cell.failure
        for losses in [(cell.losses[0][0], *(losses[-1] for losses in cell.losses))]
    ]
    return Table(header, rows, "Losses are in nats per example.")


# the page of `minikfac invariance` --------------------------------------------------------------


def page_figures(study: Invariance) -> Drawings:
    """What draws each picture of the page, by file name."""
    return training_figures(study.matrix) | EquivalentNets(study).figures()


def write_page(study: Invariance, pictures: Mapping[str, Path], path: Path) -> None:
    """Write one self-contained page: what was done, three numbers, the matrix, and what else was tried."""
    applications: list[Part] = [
        "Logistic units or tanh, raw inputs or centred and normalized ones, colours or whitened colours: "
        "for gradient descent these are choices that matter; for K-FAC it is one net.",
        Figure("logistic-to-tanh", "Logistic units, and tanh units from an equivalent start."),
        Figure("normalize", "Raw activations, and activations of mean 0 and variance 1."),
        *(Figure(one.key, f"{one.title}: a convolutional net.") for one in study.applications),
    ]
    sections = [
        Section("who", "Who is invariant", [verdict(study)]),
        *steps_and_damping(study, level=2),
        Section("applications", "Three applications, and one more", applications),
    ]
    head = Head(TITLE, [INTRODUCTION], measures(study), [MATRIX])
    path.write_text(page(head, sections, pictures), encoding="utf-8")
