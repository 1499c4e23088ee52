"""Which methods depend on the parameters: the tour's chapter on equivalent nets, and a page of its own.

The study is in :mod:`minikfac.invariance`; the tour has its brief form, ``minikfac invariance`` the whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ... import plots
from ...invariance.methods import METHODS
from ...invariance.study import TOLERANCE, Application, GapMatrix, Invariance, brief_study
from ...writing import write_text
from ..page import page
from ..parts import Chapter, Drawings, Finding, Head, Section, number
from ..studied import Run
from ..words import finding, words

SLOPES = {"exact natural gradient": 1.0, "K-FAC, (A ⊗ G + λI)⁻¹": 1.0, "K-FAC, factored damping": 0.5}
"""Powers of lambda by which gaps vanish."""
TITLE = "Which methods depend on the parametrization?"


def compute(run: Run) -> Chapter:
    """Try all methods in brief, on nets of their own."""
    return chapter(brief_study(run.settings.seed))


def chapter(study: Invariance) -> Chapter:
    """Which methods are invariant, gaps by steps and by damping, and the applications."""
    options: dict[str, Any] = {"slopes": SLOPES, "tolerance": TOLERANCE}
    drawings: Drawings = {
        "invariance": partial(_draw_matrix, study.matrix),
        "gap-by-damping": partial(plots.gap_against_damping, study.dampings, study.damped, **options),
    }
    sections = [
        Section("invariance", TITLE, words("invariance")),
        Section("gapdamping", "What damping does", words("invariance-damping"), 3),
    ]
    for one in study.applications:
        drawn = application_figures(one)
        drawings |= drawn
        text = words("invariance-application", key=one.key)
        sections += [Section(one.key, one.title, text, 3)] * len(drawn)
    return Chapter(sections, drawings, {"invariance": study.record()}, [_finding(study)], results=study)


# figures --------------------------------------------------------------


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


def application_figures(one: Application) -> Drawings:
    """What draws the two trainings of one application; nothing where one failed."""
    losses = {cell.method: cell.losses for cell in one.cells}
    draw = partial(plots.equivalent_training, losses, one.nets, gaps=one.gaps, title=one.title)
    return {} if any(cell.failure for cell in one.cells) else {one.key: draw}


def _finding(study: Invariance) -> Finding:
    """How many pairs of nets are as theory says, and the gaps on either side."""
    kept, broken = _extremes(study)
    right = sum(cell.as_predicted for cell in study.all_cells)
    return finding(
        "invariance",
        f"{right} of {len(study.all_cells)}",
        pictured=len(study.matrix.cells),
        kept=number(kept),
        broken=number(broken),
    )


def _extremes(study: Invariance) -> tuple[float, float]:
    """The largest gap where theory says that it is rounding, and the smallest where it is not."""
    cells = [cell for cell in study.all_cells if not cell.failure]
    return (
        max((cell.gap for cell in cells if cell.expected), default=math.nan),
        min((cell.gap for cell in cells if not cell.expected), default=math.nan),
    )


# the page of `minikfac invariance` --------------------------------------------------------------


def write_page(made: Chapter, pictures: Mapping[str, Path], path: Path) -> None:
    """Write one self-contained page: the finding, and the chapter."""
    write_text(path, page(Head(TITLE, [], made.findings), made.sections, pictures))
