"""What is assumed about the gradient, and eigenvalues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import plots
from ...backend import Array, to_host
from ..parts import Drawings, Figure, Finding, Part, Section, count, listing, number, percent
from .matrices import pictured

if TYPE_CHECKING:
    from ..run import Run


FIGURE = Figure("spectra", "Eigenvalues of the exact matrix and of approximations, largest first.")


@dataclass(frozen=True)
class Spectra:
    """Eigenvalues of the matrices of some layers.

    Attributes:
        names: of the layers.
        damping: lambda.
        eigenvalues: all, by name of the matrix.
    """

    names: Sequence[str]
    damping: float
    eigenvalues: dict[str, Array]

    def figures(self) -> Drawings:
        """Three graphical models of a gradient, and eigenvalues."""
        return {
            "graphical-models": lambda: plots.graphical_models(3),
            "spectra": lambda: plots.spectra(self.eigenvalues, self.damping),
        }

    def findings(self, run: Run) -> Iterator[Finding]:
        """How many eigenvalues lie above the damping."""
        values = self.eigenvalues["exact"]
        yield Finding(
            "Along eigenvectors with eigenvalues below λ, the damping decides the length of a step.",
            f"{count(int((values > self.damping).sum()))} of {count(len(values))}",
            f"eigenvalues of the exact matrix of {listing(self.names)} lie above λ = {number(self.damping)}.",
            FIGURE,
            ["spectra"],
            "5, Damping",
        )

    def sections(self) -> list[Section]:
        """Models of the gradient, and the spectrum in words."""
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
        values = np.sort(self.eigenvalues["exact"])[::-1].clip(0)
        few = max(1, len(values) // 100)
        share = float(values[:few].sum()) / (float(values.sum()) or 1.0)
        spectrum: list[Part] = [
            f"Of the {count(len(values))} eigenvalues of the exact matrix of {listing(self.names)}, the "
            f"largest {count(few)} hold {percent(share)} of the sum. Conjugate gradients deal with few large "
            "eigenvalues by themselves, and damping makes those below λ alike.",
            FIGURE,
        ]
        return [
            Section("models", "What is assumed about the gradient", models),
            Section("spectra", "Eigenvalues", spectrum),
        ]

    def record(self) -> dict[str, Any]:
        """All eigenvalues."""
        return {"middle_layers": {"eigenvalues": self.eigenvalues}}


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
    return Spectra(part.signals.names, damping, eigenvalues)
