"""What is assumed about the gradient, and eigenvalues."""

from __future__ import annotations

import numpy as np

from ... import plots
from ...backend import to_host
from ..parts import Chapter, Section, count, listing, number, percent
from ..studied import Run
from ..words import finding, words
from .matrices import pictured


def compute(run: Run) -> Chapter | None:
    """Models of the gradient, and eigenvalues of the layers that are drawn."""
    if not run.drawn or run.settings.channels is not None:
        return None
    part, damping = pictured(run), run.settings.damping
    names = listing(part.signals.names)
    exact = np.linalg.eigvalsh(to_host(part.F.array))
    eigenvalues = {"exact": exact} | {
        name: np.concatenate(
            [np.linalg.eigvalsh(to_host(block.to_dense())) for block in part.matrices[name].blocks]
        )
        for name in ("block-diagonal", "K-FAC", "EKFAC")
    }
    eigenvalues["diagonal"] = to_host(part.matrices["diagonal"].diagonal())
    values = np.sort(exact)[::-1].clip(0)
    few = max(1, len(values) // 100)
    share = float(values[:few].sum()) / (float(values.sum()) or 1.0)
    sizes = {"all": count(len(values)), "few": count(few)}
    text = words("spectra", layers=names, share=percent(share), **sizes)
    above = f"{count(int((exact > damping).sum()))} of {count(len(exact))}"
    return Chapter(
        [
            Section("models", "What is assumed about the gradient", words("models")),
            Section("spectra", "Eigenvalues", text),
        ],
        {
            "graphical-models": lambda: plots.graphical_models(3),
            "spectra": lambda: plots.spectra(eigenvalues, damping),
        },
        {"middle_layers": {"eigenvalues": eigenvalues}},
        [finding("spectra", above, layers=names, damping=number(damping))],
    )
