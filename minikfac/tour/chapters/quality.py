"""The quality table: each approximation against the exact Fisher matrix."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ... import plots, quality
from ...exploration import Study
from ...linalg import SingularMatrixError
from ..parts import Chapter, Finding, Part, Section, Table, listing, percent, two_digits
from ..studied import Run
from ..words import finding, words

MEASURED = {
    "Relative errors of the matrix and of its inverse, and the scalar that fits it best.": "error "
    "spectral_error c_star inverse_error",
    "KL divergence of Gaussians with these covariances, in nats; condition number and CG iterations "
    "of the damped exact matrix that remain with this one as preconditioner. Seconds, and the "
    "measures of each layer, are in quality.csv.": "kl condition cg_iterations",
}
"""Captions and columns of the two tables: what the figure does not show, few enough for a phone."""
_EXACT_STEPS = 4000
"""Most parameters for which steps are taken for each of several dampings."""


def compute(run: Run) -> Chapter:
    """The figure, what was left out or drawn, and the other measures as tables; the study has made them."""
    comparison = run.study.table
    figure = words("quality-figure" if comparison.spread is None else "quality-of-seeds")
    tables = [
        Table(*table, caption)
        for caption, columns in MEASURED.items()
        if len((table := comparison.table(columns=columns.split()))[0]) > 1
    ]
    parts: list[Part] = [*words("quality"), *_notes(run), *figure, *tables]
    return Chapter(
        [Section("quality", "How good each approximation is", parts)],
        {"quality": comparison.plot if comparison.spread is not None else lambda: _progress(run.study)},
        {"quality": comparison.to_dicts(), "quality_spread": comparison.spread},
        [_finding(run.study)],
    )


def _finding(study: Study) -> Finding:
    """Progress of the step with K-FAC or, without it, of the first approximation."""
    name = "K-FAC" if "K-FAC" in study.matrices else next(iter(study.matrices))
    row = study.table[name]
    return finding("quality", percent(row["share"]), name=name, cosine=two_digits(row["step_cosine"]))


def _progress(study: Study) -> Any:
    """Progress against numbers stored and damping."""
    dampings, curves = (None, None) if study.F.shape[0] > _EXACT_STEPS else _damped(study)
    rows, floats = study.table.whole(), study.F.floats
    return plots.progress_against_storage(
        rows, floats, dampings=dampings, curves=curves, damping=study.damping
    )


def _damped(study: Study) -> tuple[list[float], dict[str, dict[str, list[float]]]]:
    """Progress and cosine of every approximation for dampings around the study's."""
    methods = {name: method for name in study.matrices if (method := quality.APPROXIMATIONS[name][1])}
    tables = {}
    for damping in (study.damping * 10.0**power for power in (-2, -1, 0, 1, 2, 3)):
        with suppress(SingularMatrixError):  # too little for the precision at hand
            tables[damping] = quality.compare(
                study.F, study.matrices, study.gradient, damping, methods, ("step",)
            )
    curves = {
        name: {key: [table[name][key] for table in tables.values()] for key in ("share", "step_cosine")}
        for name in study.matrices
    }
    return list(tables), curves


def _notes(run: Run) -> list[str]:
    """What was left out, drawn or averaged."""
    settings, study = run.settings, run.study
    notes = []
    if study.left_out:
        columns = listing([column for name in study.left_out for column in quality.MEASURES[name]])
        notes.append(f"Left out, as it takes long for so many parameters: {columns.replace('_', ' ')}.")
    notes += [f"Left out is {name}: {why}." for name, why in study.not_built.items()]
    if settings.targets != "model":
        source = "the labels (empirical Fisher)"
        if settings.targets == "sampled":
            source = f"drawn targets, {settings.n_samples} per example"
        notes.append(f"The approximations are built from {source}; the exact matrix is not.")
    if study.table.spread is not None:
        drawn = settings.targets == "sampled"
        what = "drawn targets" if drawn else "initializations and orders of training"
        notes.append(f"Numbers are means over {settings.seeds} seeds of {what}.")
    return notes
