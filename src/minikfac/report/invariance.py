"""The page and the figures of the invariance study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from .. import __version__, plots
from ..experiments.invariance import METHODS, TOLERANCE, Application, Invariance
from .html import page
from .words import Figure, Section

FOLLOWED = "general affine"
"""The column whose gaps are drawn step by step."""
DRAWN = ("exact natural gradient", "block-exact", "K-FAC", "K-FAC, damped", "EKFAC", "diagonal Fisher", "SGD")
"""Methods among them."""
SLOPES = {"exact natural gradient": 1.0, "K-FAC, (A ⊗ G + λI)⁻¹": 1.0, "K-FAC, factored damping": 0.5}
"""Powers of lambda by which gaps vanish."""


def draw(found: Invariance, folder: Path, image_format: str = "png") -> dict[str, Path]:
    """Draw all figures as files, by name."""
    groups = {method.name: method.group for method in METHODS}
    rows = found.methods
    cells = [[found.cell(method, change) for change in found.changes] for method in rows]
    breaks = [n for n in range(1, len(rows)) if groups.get(rows[n]) != groups.get(rows[n - 1])]
    curves = {
        cell.method: (cell.steps, cell.gaps)
        for cell in found.cells
        if cell.change == FOLLOWED and cell.method in DRAWN and len(cell.steps) > 1
    }
    drawn: dict[str, Any] = {
        "invariance": plots.invariance_matrix(
            [[cell.gap for cell in row] for row in cells],
            [[cell.expected for cell in row] for row in cells],
            rows,
            found.changes,
            tolerance=TOLERANCE,
            rules=breaks,
        ).figure
    }
    if curves:
        title = f"Gap between equivalent nets ({FOLLOWED} maps)"
        drawn["gap-by-steps"] = plots.gap_against_steps(curves, tolerance=TOLERANCE, title=title).figure
    if found.damped:
        drawn["gap-by-damping"] = plots.gap_against_damping(
            found.dampings, found.damped, slopes=SLOPES, tolerance=TOLERANCE
        ).figure
    for change, nets in (("logistic to tanh", ("logistic", "tanh")), ("normalize", ("raw", "normalized"))):
        pairs = {
            cell.method: cell
            for cell in found.cells
            if cell.change == change and cell.method in ("SGD", "K-FAC") and not cell.failure
        }
        if pairs:
            drawn[change.replace(" ", "-")] = plots.equivalent_training(
                {name: cell.losses for name, cell in pairs.items()},
                nets,
                gaps={name: cell.gap for name, cell in pairs.items()},
                title=f"{nets[0].capitalize()} and {nets[1]}: two nets that begin as the same function",
            )[0].figure
    paths = {name: _saved(fig, folder / f"{name}.{image_format}") for name, fig in drawn.items()}
    for own in found.applications:
        paths |= draw_application(own, folder, image_format)
    return paths


def draw_application(own: Application, folder: Path, image_format: str = "png") -> dict[str, Path]:
    """Draw the two trainings of one application; nothing where a loss is not finite."""
    if any(not np.isfinite(losses).all() for cell in own.cells for losses in cell.losses):
        return {}
    axes = plots.equivalent_training(
        {cell.method: cell.losses for cell in own.cells}, own.nets, gaps=own.gaps, title=own.title
    )
    return {own.key: _saved(axes[0].figure, folder / f"{own.key}.{image_format}")}


def _saved(fig: Any, path: Path) -> Path:
    fig.savefig(path)
    plt.close(fig)
    return path


def write_page(found: Invariance, pictures: Mapping[str, Path], path: Path) -> None:
    """Write one self-contained page."""
    title = "Who sees the net, and who its parameters"
    path.write_text(page(title, summary(found), sections(found), pictures, __version__), encoding="utf-8")


def summary(found: Invariance) -> tuple[list[str], list[tuple[str, str]], Figure]:
    """What was done, three numbers, and the matrix."""
    kept = [cell.gap for cell in found.all_cells if cell.expected and not cell.failure]
    broken = [cell.gap for cell in found.all_cells if not cell.expected and not cell.failure]
    right = sum(cell.as_predicted for cell in found.all_cells)
    text = [
        "Two nets compute the same function of <i>x</i>, in other parameters: rotated, rescaled, centred, "
        "tanh units for logistic ones. Both are trained by the same method, on the same examples, with the "
        "same random numbers. The gap is how far apart their outputs then are, over how far the first has "
        "moved. A method that follows the function alone cannot tell them apart; one that follows the "
        "parameters can."
    ]
    numbers = [(f"{right} of {len(found.all_cells)}", "pairs of nets behave as theory says")]
    if kept:
        numbers.append((f"{max(kept):.0e}", "largest gap of a method that is invariant"))
    if broken:
        numbers.append((f"{min(broken):.0e}", "smallest gap of one that is not"))
    return text, numbers, Figure("invariance", "Methods down, reparameterizations across; damped ones below.")


def sections(found: Invariance) -> list[Section]:
    """Steps, damping, and the applications."""
    made = [
        Section(
            "steps",
            "Step by step",
            [
                "Rounding is amplified by training, slowly; the gap of a method that is not invariant is "
                "there after one step.",
                Figure("gap-by-steps", "Gaps under a general affine map around every layer."),
            ],
        ),
        Section(
            "damping",
            "What damping does",
            [
                "Damping adds a multiple of the identity, which does not map along with the Fisher matrix: "
                "it is the metric of one set of parameters. The gap vanishes with λ where λ is added to the "
                "matrix, and only with its root where √λ is added to each factor.",
                Figure("gap-by-damping", "Gap after one step against damping."),
            ],
        ),
        Section(
            "applications",
            "Three applications, and one more",
            [
                "Logistic units or tanh, raw inputs or centred and normalized ones, colours or whitened "
                "colours: for gradient descent these are choices that matter; for K-FAC it is one net.",
                Figure("logistic-to-tanh", "Logistic units, and tanh units from an equivalent start."),
                Figure("normalize", "Raw activations, and activations of mean 0 and variance 1."),
                *(Figure(own.key, f"{own.title}: a convolutional net.") for own in found.applications),
            ],
        ),
    ]
    return made
