"""The quality table: each approximation against the exact Fisher matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import plots, quality
from ...linalg import SingularMatrixError
from ..parts import Drawings, Figure, Finding, Part, Section, Table, listing, percent, two_digits

if TYPE_CHECKING:
    from ..run import Run

MEASURED = ("error spectral_error c_star inverse_error".split(), "kl condition cg_iterations".split())
"""Columns of the two tables: what the figure does not show, few enough for a phone."""
_EXACT_STEPS = 4000
"""Most parameters for which steps are taken for each of several dampings."""


@dataclass(frozen=True)
class Quality:
    """The run, whose study has the table."""

    run: Run

    @property
    def comparison(self) -> quality.Comparison:
        """The table."""
        return self.run.study.table

    def figures(self) -> Drawings:
        """Progress against numbers stored and damping; over seeds, bars with whiskers."""
        return {"quality": self._progress if self.comparison.spread is None else self.comparison.plot}

    def _progress(self) -> Any:
        study = self.run.study
        dampings, curves = (None, None) if study.F.shape[0] > _EXACT_STEPS else self._damped()
        return plots.progress_against_storage(
            self.comparison.whole(), study.F.floats, dampings=dampings, curves=curves, damping=study.damping
        )

    def _damped(self) -> tuple[list[float], dict[str, dict[str, list[float]]]]:
        """Progress and cosine of every approximation for dampings around the study's."""
        study = self.run.study
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

    @property
    def caption(self) -> str:
        """Of the figure."""
        if self.comparison.spread is not None:
            return "Measures of each approximation: means over seeds; whiskers are standard deviations."
        return (
            "Above: progress of each approximation's step. Below: its cosine with the exact step. Left: "
            "against the numbers that it stores. Right: against damping; dotted: that of the left side."
        )

    def findings(self, run: Run) -> Iterator[Finding]:
        """Progress of the step with K-FAC or, without it, of the first approximation."""
        name = "K-FAC" if "K-FAC" in run.study.matrices else next(iter(run.study.matrices))
        row = self.comparison[name]
        yield Finding(
            "Approximations give up progress of the step to store fewer numbers.",
            percent(row["share"]),
            "of the progress that the exact step makes on the quadratic model is left to the step with "
            f"{name}. The two steps have a cosine of {two_digits(row['step_cosine'])}.",
            Figure("quality", self.caption),
            ["quality", "memory"],
            "11, Relatives",
        )

    def sections(self) -> list[Section]:
        """The figure, what was left out or drawn, and the other measures as a table."""
        captions = (
            "Relative errors of the matrix and of its inverse, and the scalar that fits it best.",
            "KL divergence of Gaussians with these covariances, in nats; condition number and CG iterations "
            "of the damped exact matrix that remain with this one as preconditioner. Seconds, and the "
            "measures of each layer, are in quality.csv.",
        )
        text = (
            "A matrix can be close to <i>F</i> and its step poor, or the reverse: error and best scale are "
            "about the matrix, the rest about its inverse. “No curvature” is the plain gradient, and as a "
            "preconditioner none."
        )
        tables = [
            Table(*table, caption)
            for columns, caption in zip(MEASURED, captions, strict=True)
            if len((table := self.comparison.table(columns=columns))[0]) > 1
        ]
        parts: list[Part] = [text, *self._notes(), Figure("quality", self.caption), *tables]
        return [Section("quality", "How good each approximation is", parts)]

    def _notes(self) -> list[str]:
        """What was left out, drawn or averaged."""
        run, settings = self.run, self.run.settings
        notes = []
        if run.study.left_out:
            columns = listing([column for name in run.study.left_out for column in quality.MEASURES[name]])
            notes.append(f"Left out, as it takes long for so many parameters: {columns.replace('_', ' ')}.")
        notes += [f"Left out is {name}: {why}." for name, why in run.study.not_built.items()]
        if settings.targets != "model":
            source = "the labels (empirical Fisher)"
            if settings.targets == "sampled":
                source = f"drawn targets, {settings.n_samples} per example"
            notes.append(f"The approximations are built from {source}; the exact matrix is not.")
        if self.comparison.spread is not None:
            drawn = settings.targets == "sampled"
            what = "drawn targets" if drawn else "initializations and orders of training"
            notes.append(f"Numbers are means over {settings.seeds} seeds of {what}.")
        return notes

    def record(self) -> dict[str, Any]:
        """The table, layer by layer, and its spread over seeds."""
        return {"quality": self.comparison.to_dicts(), "quality_spread": self.comparison.spread}


def compute(run: Run) -> Quality:
    """The study has made it."""
    return Quality(run)
