"""Which methods depend on the parameters: the tour's chapter on equivalent nets, and a page of its own.

The study is in :mod:`minikfac.invariance`; the tour has its brief form, ``minikfac invariance`` the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
            if not any(cell.failure for cell in one.cells):
                caption = f"{one.title}: losses of two nets that begin as the same function."
                figure = Figure(one.key, caption)
                sections.append(Section("equivalent", one.title, [application_words(one), figure], 3))
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
    curves = {method: (cell.steps, cell.gaps) for method, cell in _followed(study.matrix).items()}
    by_steps = {}
    if curves:
        title = f"Gap between equivalent nets ({FOLLOWED} maps)"
        by_steps = {
            "gap-by-steps": partial(plots.gap_against_steps, curves, tolerance=TOLERANCE, title=title)
        }
    return {
        "invariance": partial(_draw_matrix, study.matrix),
        **by_steps,
        "gap-by-damping": partial(
            plots.gap_against_damping, study.dampings, study.damped, slopes=SLOPES, tolerance=TOLERANCE
        ),
    }


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
        cells = [matrix.cell(method, change) for method in ("SGD", "K-FAC")]
        title = f"{nets[0].capitalize()} and {nets[1]}: two nets that begin as the same function"
        pictures |= _losses(
            change.replace(" ", "-"), [cell for cell in cells if not cell.failure], nets, title
        )
    return pictures


def application_figures(one: Application) -> Drawings:
    """What draws the two trainings of one application; nothing where a loss is not finite."""
    finite = all(np.isfinite(losses).all() for cell in one.cells for losses in cell.losses)
    return _losses(one.key, one.cells if finite else (), one.nets, one.title)


def _losses(name: str, cells: Sequence[Cell], nets: tuple[str, str], title: str) -> Drawings:
    losses, gaps = {cell.method: cell.losses for cell in cells}, {cell.method: cell.gap for cell in cells}
    return {name: partial(plots.equivalent_training, losses, nets, gaps=gaps, title=title)} if cells else {}


# words --------------------------------------------------------------


def verdict(study: Invariance) -> str:
    """Which methods are invariant to what, by the gaps of the matrix."""
    matrix, sentences = study.matrix, []
    groups: dict[tuple[str, ...], list[str]] = {}
    for method in matrix.methods:
        invariant = tuple(cell.change for cell in matrix.row(method) if cell.invariant)
        groups.setdefault(invariant, []).append(method)
    for changes, methods in sorted(groups.items(), key=lambda group: -len(group[0])):
        if changes == tuple(matrix.changes):
            worst = max(cell.gap for cell in matrix.cells if cell.method in methods)
            sentences.append(
                "The two nets remain one function under every change that was tried with "
                f"<b>{_named(methods)}</b>: what parts them is rounding, {number(worst)} of the distance "
                "moved at most."
            )
        elif changes:
            sentences.append(f"Only under “{listing(changes)}” they do with {_named(methods)}.")
        else:
            sentences.append(f"Under none they do with {_named(methods)}.")
    apart = [cell.gap for cell in matrix.row("SGD") if not cell.invariant and not cell.failure]
    if apart:
        sentences.append(
            f"Where SGD sees the change, its two nets are {number(min(apart))} to {number(max(apart))} of "
            "the distance moved apart."
        )
    wrong = [f"{cell.method} under {cell.change}" for cell in study.all_cells if not cell.as_predicted]
    exceptions = f"; not so {listing(wrong)}" if wrong else ""
    sentences.append(
        f"{_right(study)} pairs of nets are as theory says [MG15, sec. 10; GM16, sec. 4.1]{exceptions}."
    )
    return " ".join(sentences)


def _right(study: Invariance) -> str:
    return f"{sum(cell.as_predicted for cell in study.all_cells)} of {len(study.all_cells)}"


def _named(names: Sequence[str]) -> str:
    """Names in a row, in quotes where they have commas of their own."""
    return listing([f"“{name}”" if "," in name else name for name in names])


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
    """How gaps grow with steps, where K-FAC and SGD took some, and how they vanish with damping."""
    sections = []
    followed = {method: cell for method, cell in _followed(study.matrix).items() if not cell.failure}
    if {"K-FAC", "SGD"} <= set(followed):
        figure = Figure("gap-by-steps", "Gaps under a general affine map around every layer.")
        words = by_steps(followed["K-FAC"], followed["SGD"])
        sections.append(Section("gapsteps", "Step by step", [words, figure], level))
    figure = Figure("gap-by-damping", "Gap after one step against damping.")
    words = by_damping(study.dampings, study.damped)
    sections.append(Section("gapdamping", "What damping does", [words, figure], level))
    return sections


def by_steps(kfac: Cell, sgd: Cell) -> str:
    """Gaps after one step and after the last."""
    return (
        f"With SGD the gap under general affine maps is there after one step, {number(sgd.gaps[0])} of the "
        f"distance moved, and {number(sgd.gap)} after {int(sgd.steps[-1])}. With K-FAC it is "
        f"{number(kfac.gaps[0])} after one step and {number(kfac.gap)} after {int(kfac.steps[-1])}: "
        "rounding, which steps without damping amplify."
    )


def by_damping(dampings: np.ndarray, damped: Mapping[str, np.ndarray]) -> str:
    """With which power of lambda gaps vanish, fitted where they are small and no rounding."""
    powers = []
    for name, gaps in damped.items():
        fitted = (gaps > 1e-11) & (gaps < 1e-2)
        if fitted.sum() > 1:
            powers.append(f"λ<sup>{order(dampings[fitted], gaps[fitted]):.2f}</sup> with {_named([name])}")
    at = int(np.abs(np.log(dampings / DAMPING)).argmin())
    ends = [number(gaps[at]) for gaps in damped.values()]
    text = (
        "Damping adds a multiple of the identity, which does not map along with the Fisher matrix: it is "
        f"the metric of one set of parameters. With λ&nbsp;= {number(dampings[at])} the gap after one step "
        f"is {listing(ends)} ({_named(list(damped))}). "
    )
    if powers:
        text += (
            f"Towards small λ it falls like {listing(powers)}: factored damping adds √λ, and not λ, to each "
            "factor."
        )
    return text


def application_words(one: Application) -> str:
    """What one reparameterization does to SGD and to K-FAC."""
    sentences = []
    for cell in one.cells:
        ours, theirs = (float(losses[-1]) for losses in cell.losses)
        ends = f"{number(ours)} nats ({one.nets[0]}) and {number(theirs)} ({one.nets[1]})"
        if abs(ours - theirs) < 1e-3 * ours:
            ends = f"{number(ours)} nats with both"
        sentences.append(
            f"After {int(cell.steps[-1])} steps of {cell.method} the gap is {number(cell.gap)}, and the "
            f"loss has gone from {number(cell.losses[0][0])} to {ends}."
        )
    return " ".join(sentences)


# the page of `minikfac invariance` --------------------------------------------------------------


def page_figures(study: Invariance) -> Drawings:
    """What draws each picture of the page, by file name."""
    return training_figures(study.matrix) | EquivalentNets(study).figures()


def write_page(study: Invariance, pictures: Mapping[str, Path], path: Path) -> None:
    """Write one self-contained page: what was done, three numbers, the matrix, and what else was tried."""
    counted = [cell for cell in study.all_cells if not cell.failure]
    numbers = [(_right(study), "pairs of nets behave as theory says")]
    if kept := [cell.gap for cell in counted if cell.expected]:
        numbers.append((tiny(max(kept)), "largest gap of a method that is invariant"))
    if broken := [cell.gap for cell in counted if not cell.expected]:
        numbers.append((tiny(min(broken)), "smallest gap of one that is not"))
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
    head = Head(TITLE, [INTRODUCTION], numbers, [MATRIX])
    path.write_text(page(head, sections, pictures), encoding="utf-8")
