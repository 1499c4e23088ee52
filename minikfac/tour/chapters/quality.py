"""The quality table: each approximation against the exact Fisher matrix, and what its columns mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import plots, quality
from ...quality import format_cell
from ..parts import Drawings, Figure, Part, Section, Table, count, listing, percent

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


@dataclass(frozen=True)
class Quality:
    """The run, whose study has the table."""

    run: Run

    @property
    def comparison(self) -> quality.Comparison:
        """The table."""
        return self.run.study.comparison

    def figures(self) -> Drawings:
        """Four columns of the table as bars."""
        return {"quality": self._bars}

    def _bars(self) -> Any:
        rows, spread = self.comparison.whole(), self.comparison.spread
        columns = ("error", "step_cosine", "share", "cg_iterations")
        if spread is not None:
            spread = [row for row in spread if row["layer"] == rows[0]["layer"]]
        shown = [key for key in columns if rows[0].get(key) is not None]
        return plots.quality_bars(rows, shown, spread=spread)

    def sections(self) -> list[Section]:
        """The best approximations in words, the whole table, and errors layer by layer."""
        seeds = self.run.settings.seeds
        bars = f" Bars are means over {seeds} seeds, whiskers standard deviations." if seeds > 1 else ""
        parts: list[Part] = [
            self._best() + self._against_no_curvature(),
            *self._notes(),
            Figure("quality", f"Four columns of the table.{bars}"),
            *self._tables(),
        ]
        return [Section("quality", "How good each approximation is", parts)]

    @property
    def _rows(self) -> list[dict[str, Any]]:
        return [row for row in self.comparison.whole() if row["approximation"] != "no curvature"]

    def _best(self) -> str:
        rows, n_params = self._rows, self.run.study.F.shape[0]
        by_share = max(rows, key=lambda row: row["share"])
        by_error = min(rows, key=lambda row: row["error"])
        text = (
            "Each approximation against the exact Fisher matrix of "
            f"{'all' if self.run.settings.layers is None else 'the chosen'} {count(n_params)} parameters. "
            f"Closest as a matrix is {by_error['approximation']} ({percent(by_error['error'])} wrong, "
            f"{count(by_error['floats'])} numbers); the most useful step is that of "
            f"{by_share['approximation']}, with {percent(by_share['share'])} of the exact step's progress "
            f"and {count(by_share['floats'])} numbers."
        )
        small = [row for row in rows if row["floats"] <= 10 * n_params]
        if small and by_share not in small:
            best = max(small, key=lambda row: row["share"])
            text += (
                " Among those that store no more than ten numbers per parameter it is "
                f"{best['approximation']}, with {percent(best['share'])} of the progress and "
                f"{count(best['floats'])} numbers."
            )
        return text

    def _against_no_curvature(self) -> str:
        if "no curvature" not in self.run.study.matrices:
            return ""
        plain = self.comparison["no curvature"]
        worse = [row["approximation"] for row in self._rows if row["share"] <= plain["share"]]
        verdict = ", less than any of them."
        if worse:
            verdict = f"; {listing(worse)} make{'s' if len(worse) == 1 else ''} no more than that."
        return (
            f" “No curvature” is the plain gradient, for comparison: {percent(plain['share'])} of the "
            f"progress{verdict}"
        )

    def _notes(self) -> list[str]:
        """What preconditioners do, and what was left out or drawn."""
        run, settings = self.run, self.run.settings
        notes = []
        measured = {row["approximation"]: row.get("cg_iterations") for row in self.comparison.whole()}
        iterations = {name: n for name, n in measured.items() if n is not None}
        plain = iterations.get("no curvature", math.inf)
        slower = [name for name, n in iterations.items() if n > plain]
        if slower:
            notes.append(
                f"As a preconditioner, {listing(slower)} take{'s' if len(slower) == 1 else ''} more "
                f"iterations than none at all ({format_cell(plain)}).{self._few_large_eigenvalues()}"
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

    def _few_large_eigenvalues(self) -> str:
        """Why conjugate gradients may do well by themselves, if that is so."""
        values = self.run.eigenvalues
        above = int((values > self.run.settings.damping).sum())
        if not len(values) or above > len(values) / 5:
            return ""
        return (
            f" At this damping that is no wonder: only {count(above)} of the {count(len(values))} "
            "eigenvalues of the layers in the pictures lie above it, and conjugate gradients deal with few "
            "large eigenvalues by themselves."
        )

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
