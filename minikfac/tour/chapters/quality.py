"""The quality table: each approximation against the exact Fisher matrix, and what its columns mean."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import plots, quality
from ...linalg import SingularMatrixError
from ...quality import format_cell
from ..parts import Drawings, Figure, Part, Section, Table, count, listing, percent, two_digits

if TYPE_CHECKING:
    from ..run import Run

COLUMN_MEANINGS = {
    "error": "how far the matrix is from the exact one: Frobenius norm of the difference, relative",
    "spectral_error": "the same in the spectral norm: the direction that is worst",
    "c_star": "the number by which to multiply the matrix to come closest; 1 says that the scale is right",
    "inverse_error": "how far the damped inverse is from the exact one",
    "step_cosine": "cosine of the angle between its step and the exact natural gradient step; 1 is best",
    "step_length": "length of its step, relative to the exact one",
    "share": "progress of its step, with the best step size, on the quadratic model: 1 is the exact step's",
    "kl": "Kullback-Leibler divergence, in nats, of the Gaussians that the two matrices are covariances of",
    "eigenvalue_min": "smallest eigenvalue of the exact matrix after division by this one; 1 is best",
    "eigenvalue_max": "largest one",
    "condition": "their ratio, which decides how hard a linear system is that remains",
    "cg_iterations": "iterations of conjugate gradients that remain with it as preconditioner",
    "floats": "numbers to store",
    "build_seconds": "time to build it",
    "solve_seconds": "time to factorize it and solve once",
}
MISSING = {
    "block-tridiagonal": "it exists for chains of dense layers only",
    "low rank": "it takes long for shared weights",
}
"""Approximations that do not always exist or take long, and why."""
STATED = ("K-FAC", "block-diagonal")
"""Approximations whose numbers stand in the text; all are in the table."""
_EXACT_STEPS = 4000
"""Most parameters for which steps are taken for each of several dampings."""


@dataclass(frozen=True)
class Quality:
    """The run, whose study has the table."""

    run: Run

    @property
    def comparison(self) -> quality.Comparison:
        """The table."""
        return self.run.study.comparison

    def figures(self) -> Drawings:
        """Progress against numbers stored and damping; over seeds, bars with whiskers."""
        return {"quality": self._progress if self.comparison.spread is None else self._bars}

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

    def _bars(self) -> Any:
        rows, spread = self.comparison.whole(), self.comparison.spread or []
        spread = [row for row in spread if row["layer"] == rows[0]["layer"]]
        columns = ("error", "step_cosine", "share", "cg_iterations")
        shown = [key for key in columns if rows[0].get(key) is not None]
        return plots.quality_bars(rows, shown, spread=spread)

    def sections(self) -> list[Section]:
        """The numbers of K-FAC, the whole table, and errors layer by layer."""
        seeds = self.run.settings.seeds
        caption = "Above: progress of each approximation's step. Below: its direction. Left: against the "
        caption += "numbers that it stores. Right: against damping."
        if seeds > 1:
            caption = f"Four columns of the table: means over {seeds} seeds, whiskers standard deviations."
        parts: list[Part] = [
            self._stated(),
            *self._notes(),
            Figure("quality", caption),
            *self._tables(),
        ]
        return [Section("quality", "How good each approximation is", parts)]

    @property
    def _rows(self) -> list[dict[str, Any]]:
        return [row for row in self.comparison.whole() if row["approximation"] != "no curvature"]

    def _stated(self) -> str:
        """The first approximations in numbers, and the plain gradient."""
        names = [name for name in STATED if name in self.run.study.matrices]
        names = names or [next(iter(self.run.study.matrices))]
        each = "; ".join(
            f"{name} has a relative error of {two_digits(row['error'])}, its step a cosine of "
            f"{two_digits(row['step_cosine'])} with the exact one and {percent(row['share'])} of its "
            f"progress, and it stores {count(row['floats'])} numbers"
            for name in names
            for row in [self.comparison[name]]
        )
        text = (
            "Each approximation against the exact Fisher matrix of "
            f"{'all' if self.run.settings.layers is None else 'the chosen'} "
            f"{count(self.run.study.F.shape[0])} parameters. {each[0].upper()}{each[1:]}."
        )
        if "no curvature" in self.run.study.matrices:
            share = percent(self.comparison["no curvature"]["share"])
            text += f" “No curvature” is the plain gradient, for comparison: {share} of the progress."
        return text

    def _notes(self) -> list[str]:
        """What preconditioners do, and what was left out or drawn."""
        run, settings = self.run, self.run.settings
        notes = []
        measured = {row["approximation"]: row.get("cg_iterations") for row in self.comparison.whole()}
        iterations = {name: format_cell(n) for name, n in measured.items() if n is not None}
        if iterations:
            listed = ", ".join(f"{n} ({name})" for name, n in iterations.items())
            above = int((run.eigenvalues > settings.damping).sum())
            notes.append(
                f"As preconditioners: conjugate gradients then take so many iterations: {listed}. They deal "
                "with few large eigenvalues by themselves"
                + f"; {count(above)} of {count(len(run.eigenvalues))} eigenvalues of the layers in the "
                "pictures lie above the damping" * (len(run.eigenvalues) > 0) + "."
            )
        if run.study.left_out:
            columns = listing([column for name in run.study.left_out for column in quality.MEASURES[name]])
            notes.append(f"Left out, as it takes long for so many parameters: {columns.replace('_', ' ')}.")
        if settings.approximations is None:
            missing = {name: why for name, why in MISSING.items() if name not in run.study.matrices}
            notes += [f"Left out is {name}: {why}." for name, why in missing.items()]
        if settings.targets != "model":
            source = "the labels (empirical Fisher)"
            if settings.targets == "sampled":
                source = f"{settings.n_samples} drawn target{'s' * (settings.n_samples > 1)} per example"
            notes.append(f"The approximations are built from {source}; the exact matrix is not.")
        return notes

    def _tables(self) -> list[Part]:
        comparison, settings = self.comparison, self.run.settings
        spread = ""
        if comparison.spread is not None:
            drawn = settings.targets == "sampled"
            what = "drawn targets" if drawn else "initializations and orders of training"
            spread = f" Means over {settings.seeds} seeds of {what}."
        columns = list(quality.COLUMNS)
        cut = columns.index("kl")
        shown = [key for key in columns if any(row.get(key) is not None for row in self._rows)]
        halves = {
            "As a matrix, and as a step on the gradient.": columns[:cut],
            "As a model of the gradient, as a preconditioner, and what it takes.": columns[cut:],
        }
        tables: list[Part] = [
            Table(*comparison.table(columns=half), what + spread) for what, half in halves.items()
        ]
        meanings = [[key.replace("_", " "), COLUMN_MEANINGS.get(key, quality.COLUMNS[key])] for key in shown]
        tables.append(Table(["column", "meaning"], meanings, "What the columns mean."))
        names = self.run.study.F.names
        if len(names) > 1:
            errors = {
                name: {r["approximation"]: r["error"] for r in comparison.layer(name)} for name in names
            }
            cells = [
                [row["approximation"], *(format_cell(errors[name][row["approximation"]]) for name in names)]
                for row in comparison.whole()
            ]
            caption = "Relative error of each layer's own block. Further columns by layer are in quality.csv."
            tables.append(Table(["approximation", *names], cells, caption))
        return tables

    def record(self) -> dict[str, Any]:
        """The table, layer by layer, and its spread over seeds."""
        return {"quality": self.comparison.to_dicts(), "quality_spread": self.comparison.spread}


def compute(run: Run) -> Quality:
    """The study has made it."""
    return Quality(run)
