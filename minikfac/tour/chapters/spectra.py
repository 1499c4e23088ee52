"""What is assumed about the gradient, and eigenvalues: as they are, and as preconditioned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import plots, quality
from ...backend import Array, to_host
from ..parts import Drawings, Figure, Part, Section, count, listing, number, percent
from .matrices import in_words, pictured

if TYPE_CHECKING:
    from ..run import Run


@dataclass(frozen=True)
class Spectra:
    """Eigenvalues of the matrices of some layers.

    Attributes:
        where: the layers in words.
        damping: lambda.
        eigenvalues: all, by name of the matrix.
        preconditioned: eigenvalues of (F~ + lambda I)^{-1} (F + lambda I), by name; F~ is 0 for "none".
    """

    where: str
    damping: float
    eigenvalues: dict[str, Array]
    preconditioned: dict[str, Array]

    def figures(self) -> Drawings:
        """Three graphical models of a gradient, eigenvalues, and those that each inverse leaves."""
        return {
            "graphical-models": lambda: plots.graphical_models(3),
            "spectra": lambda: plots.spectra(self.eigenvalues, self.damping),
            "preconditioned-spectra": lambda: plots.preconditioned_spectra(self.preconditioned),
        }

    def sections(self) -> list[Section]:
        """Models, and the two spectra in words."""
        models: list[Part] = [
            "The Fisher matrix is the covariance of a random vector: the gradient for a drawn target. To "
            "approximate <i>F</i> is to fit a simpler probability distribution to it. The upper graph shows "
            "how the gradient is computed; the three below it, which layers' gradients are taken to be tied "
            "directly. Where there is no edge, the inverse covariance has a block of zeros.",
            Figure(
                "graphical-models",
                "The computation of a gradient, for three layers, and three models of the outcome: the exact "
                "Fisher matrix, K-FAC, and the chain of the block-tridiagonal version [MG15, fig. 4].",
            ),
        ]
        spectra: list[Part] = [
            self._few_directions(),
            Figure("spectra", "Eigenvalues of the exact matrix and of approximations, largest first."),
            self._conditions(),
            Figure(
                "preconditioned-spectra",
                "Eigenvalues after division by an approximation; a flat line at 1 is perfect.",
            ),
        ]
        return [
            Section("models", "What is assumed about the gradient", models),
            Section("spectra", "Eigenvalues", spectra),
        ]

    def _few_directions(self) -> str:
        values = np.sort(self.eigenvalues["exact"])[::-1].clip(0)
        above, n = int((values > self.damping).sum()), len(values)
        what = f"eigenvalues of the exact matrix of {self.where}"
        damping = f"the damping λ = {number(self.damping)}"
        if above >= n / 2:
            return f"Of the {count(n)} {what}, {count(above)} lie above {damping}."
        few = max(1, n // 100)
        share = float(values[:few].sum()) / (float(values.sum()) or 1.0)
        return (
            f"A few directions in weight space decide nearly everything: of the {count(n)} {what}, the "
            f"largest {count(few)} hold {percent(share)} of the sum, and {count(above)} lie above {damping}. "
            "In all other directions the damping decides how long a step is."
        )

    def _conditions(self) -> str:
        conditions = {name: float(v.max() / v.min()) for name, v in self.preconditioned.items()}
        plain = conditions.pop("none")
        smaller = [name for name, condition in conditions.items() if condition < plain]
        larger = [name for name in conditions if name not in smaller]
        verdict = listing(
            [
                f"{how} with {listing(names)}"
                for how, names in (("smaller", smaller), ("larger", larger))
                if names
            ]
        )
        numbers = ", ".join(f"{number(condition)} with {name}" for name, condition in conditions.items())
        return (
            "Divide the exact damped matrix by an approximation, and all eigenvalues should be 1. Their "
            f"ratio of largest to smallest, the condition number, is {numbers}, and {number(plain)} with "
            f"none: it is {verdict} than with damping alone."
        )

    def record(self) -> dict[str, Any]:
        """Both kinds of eigenvalues."""
        return {
            "middle_layers": {
                "eigenvalues": self.eigenvalues,
                "preconditioned_eigenvalues": self.preconditioned,
            }
        }


def compute(run: Run) -> Spectra | None:
    """Eigenvalues of the layers that are drawn."""
    if not run.drawn or run.settings.channels is not None:
        return None
    part, damping = pictured(run), run.settings.damping
    eigenvalues = {"exact": run.eigenvalues} | {
        name: np.concatenate(
            [np.linalg.eigvalsh(to_host(block.to_dense())) for block in part.matrices[name].blocks]
        )
        for name in ("block-diagonal", "K-FAC", "EKFAC")
    }
    eigenvalues["diagonal"] = to_host(part.matrices["diagonal"].diagonal())
    preconditioned = {"none": (run.eigenvalues.clip(0) + damping) / damping}
    for name in ("diagonal", "K-FAC", "block-tridiagonal"):
        if name in part.matrices:
            spectrum = quality.preconditioned_spectrum(part.F, part.matrices[name], damping)
            preconditioned[name] = to_host(spectrum)
    return Spectra(in_words(run), damping, eigenvalues, preconditioned)
