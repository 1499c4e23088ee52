"""Figures, page and chapter of the invariance study, with words made from the numbers of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from .. import __version__, plots
from ..invariance.study import DAMPING, METHODS, TOLERANCE, Application, Invariance
from ..plots.invariance import tiny
from .chapters.charts import order
from .page import page
from .run import Findings
from .words import Figure, Section, Table, listing, number

FOLLOWED = "general affine"
"""The column whose gaps are drawn step by step."""
DRAWN = ("exact natural gradient", "block-exact", "K-FAC", "K-FAC, damped", "EKFAC", "diagonal Fisher", "SGD")
"""Methods among them."""
SLOPES = {"exact natural gradient": 1.0, "K-FAC, (A ⊗ G + λI)⁻¹": 1.0, "K-FAC, factored damping": 0.5}
"""Powers of lambda by which gaps vanish."""


def draw(found: Invariance, folder: Path) -> dict[str, Path]:
    """Draw all figures as PNG files, by name."""
    drawn = matrix_pictures(found) | training_pictures(found)
    paths = {name: _saved(make(), folder / f"{name}.png") for name, make in drawn.items()}
    for own in found.applications:
        paths |= draw_application(own, folder)
    return paths


def matrix_pictures(found: Invariance) -> dict[str, Callable[[], Any]]:
    """What draws the matrix, gaps against steps and gaps against damping, by name."""
    drawn: dict[str, Callable[[], Any]] = {"invariance": lambda: _matrix(found)}
    curves = {
        cell.method: (cell.steps, cell.gaps)
        for cell in found.cells
        if cell.change == FOLLOWED and cell.method in DRAWN and len(cell.steps) > 1
    }
    if curves:
        title = f"Gap between equivalent nets ({FOLLOWED} maps)"
        drawn["gap-by-steps"] = lambda: (
            plots.gap_against_steps(curves, tolerance=TOLERANCE, title=title).figure
        )
    if found.damped:
        drawn["gap-by-damping"] = lambda: (
            plots.gap_against_damping(found.dampings, found.damped, slopes=SLOPES, tolerance=TOLERANCE).figure
        )
    return drawn


def _matrix(found: Invariance) -> Any:
    groups = {method.name: method.group for method in METHODS}
    rows = found.methods
    cells = [[found.cell(method, change) for change in found.changes] for method in rows]
    return plots.invariance_matrix(
        [[cell.gap for cell in row] for row in cells],
        [[cell.expected for cell in row] for row in cells],
        rows,
        found.changes,
        tolerance=TOLERANCE,
        rules=[n for n in range(1, len(rows)) if groups.get(rows[n]) != groups.get(rows[n - 1])],
    ).figure


def training_pictures(found: Invariance) -> dict[str, Callable[[], Any]]:
    """What draws the losses of two columns of the matrix, by name."""
    drawn: dict[str, Callable[[], Any]] = {}
    for change, nets in (("logistic to tanh", ("logistic", "tanh")), ("normalize", ("raw", "normalized"))):
        pairs = {
            cell.method: cell
            for cell in found.cells
            if cell.change == change and cell.method in ("SGD", "K-FAC") and not cell.failure
        }
        if pairs:
            drawn[change.replace(" ", "-")] = partial(
                _training,
                {name: cell.losses for name, cell in pairs.items()},
                nets,
                {name: cell.gap for name, cell in pairs.items()},
                f"{nets[0].capitalize()} and {nets[1]}: two nets that begin as the same function",
            )
    return drawn


def _training(pairs: Any, nets: tuple[str, str], gaps: Mapping[str, float], title: str) -> Any:
    return plots.equivalent_training(pairs, nets, gaps=gaps, title=title)[0].figure


def application_pictures(own: Application) -> dict[str, Callable[[], Any]]:
    """What draws the two trainings of one application; nothing where a loss is not finite."""
    if any(not np.isfinite(losses).all() for cell in own.cells for losses in cell.losses):
        return {}
    pairs = {cell.method: cell.losses for cell in own.cells}
    return {own.key: partial(_training, pairs, own.nets, own.gaps, own.title)}


def draw_application(own: Application, folder: Path) -> dict[str, Path]:
    """Draw the two trainings of one application as a PNG file."""
    return {name: _saved(make(), folder / f"{name}.png") for name, make in application_pictures(own).items()}


def pictures(found: Invariance) -> dict[str, Callable[[], Any]]:
    """What draws the figures of the tour, by name."""
    drawn = matrix_pictures(found)
    for own in found.applications:
        drawn |= application_pictures(own)
    return drawn


def _saved(fig: Any, path: Path) -> Path:
    fig.savefig(path)
    plt.close(fig)
    return path


def write_page(found: Invariance, pictures: Mapping[str, Path], path: Path) -> None:
    """Write one self-contained page."""
    title = "Who sees the net, and who its parameters"
    path.write_text(page(title, summary(found), sections(found), pictures, __version__), encoding="utf-8")


INTRODUCTION = (
    "Two nets compute the same function of <i>x</i>, in other parameters: rotated, rescaled, centred, "
    "tanh units for logistic ones. Both are trained by the same method, on the same examples, with the "
    "same random numbers. The gap is how far apart their outputs then are, over how far the first has "
    "moved. A method that follows the function alone cannot tell them apart; one that follows the "
    "parameters can."
)


def summary(found: Invariance) -> tuple[list[str], list[tuple[str, str]], Figure]:
    """What was done, three numbers, and the matrix."""
    kept = [cell.gap for cell in found.all_cells if cell.expected and not cell.failure]
    broken = [cell.gap for cell in found.all_cells if not cell.expected and not cell.failure]
    numbers = [(_right(found), "pairs of nets behave as theory says")]
    if kept:
        numbers.append((tiny(max(kept)), "largest gap of a method that is invariant"))
    if broken:
        numbers.append((tiny(min(broken)), "smallest gap of one that is not"))
    return [INTRODUCTION], numbers, MATRIX


MATRIX = Figure("invariance", "Methods down, reparameterizations across; damped ones below.")


def sections(found: Invariance) -> list[Section]:
    """Who is invariant, steps, damping, and the applications."""
    return [
        Section("who", "Who is invariant", [who(found)]),
        *_steps_and_damping(found, level=2),
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


def chapter(findings: Findings) -> list[Section]:
    """The tour's sections on invariance, as far as it was tried."""
    found = findings.invariance
    if found is None:
        return []
    parts: list[str | Figure | Table] = [
        "Many matrices are as easy to invert as K-FAC's. What is there to choose by, other than errors? "
        f"Whether steps depend on how the net is written down. {INTRODUCTION}",
        who(found),
        MATRIX,
        table(found),
    ]
    made = [Section("invariance", "Who sees the net, and who its parameters", parts)]
    made += _steps_and_damping(found, level=3)
    told = [(own, text) for own in found.applications if (text := application(own))]
    for own, text in told:
        caption = f"{own.title}: losses of two nets that begin as the same function."
        made.append(Section("equivalent", own.title, [text, Figure(own.key, caption)], 3))
    return made


def _right(found: Invariance) -> str:
    return f"{sum(cell.as_predicted for cell in found.all_cells)} of {len(found.all_cells)}"


def who(found: Invariance) -> str:
    """Which methods are invariant to what, by the gaps of the matrix."""
    kept = {
        name: tuple(cell.change for cell in found.cells if cell.method == name and cell.invariant)
        for name in found.methods
    }
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, changes in kept.items():
        groups.setdefault(changes, []).append(name)
    text = []
    for changes, names in sorted(groups.items(), key=lambda group: -len(group[0])):
        if changes == tuple(found.changes):
            worst = max(cell.gap for cell in found.cells if cell.method in names)
            text.append(
                f"The two nets remain one function under every change that was tried with "
                f"<b>{_named(names)}</b>: what parts them is rounding, {number(worst)} of the distance moved "
                "at most."
            )
        elif changes:
            text.append(f"Only under “{listing(changes)}” they do with {_named(names)}.")
        else:
            text.append(f"Under none they do with {_named(names)}.")
    apart = [
        cell.gap for cell in found.cells if cell.method == "SGD" and not cell.invariant and not cell.failure
    ]
    if apart:
        text.append(
            f"Where SGD sees the change, its two nets are {number(min(apart))} to {number(max(apart))} of "
            "the distance moved apart."
        )
    wrong = [cell for cell in found.all_cells if not cell.as_predicted]
    text.append(f"{_right(found)} pairs of nets are as theory says [MG15, sec. 10; GM16, sec. 4.1]")
    if wrong:
        text[-1] += f"; not so {listing([f'{own.method} under {own.change}' for own in wrong])}"
    return " ".join([*text[:-1], f"{text[-1]}."])


def _named(names: Sequence[str]) -> str:
    """Names in a row, in quotes where they have commas of their own."""
    return listing([f"“{name}”" if "," in name else name for name in names])


def table(found: Invariance) -> Table:
    """The matrix as a table."""
    rows = []
    for name in found.methods:
        cells = [found.cell(name, change) for change in found.changes]
        steps = max((int(cell.steps[-1]) for cell in cells if len(cell.steps)), default=0)
        entries = [
            "failed" if own.failure else tiny(own.gap) + (" =" if own.invariant else "") for own in cells
        ]
        rows.append([name, str(steps), *entries])
    caption = f"The same as numbers, after so many steps. = is invariant: a gap below {TOLERANCE:g}."
    return Table(["method", "steps", *found.changes], rows, caption)


def _steps_and_damping(found: Invariance, level: int) -> list[Section]:
    made = []
    if (text := by_steps(found)) is not None:
        figure = Figure("gap-by-steps", "Gaps under a general affine map around every layer.")
        made.append(Section("gapsteps", "Step by step", [text, figure], level))
    if (text := by_damping(found)) is not None:
        figure = Figure("gap-by-damping", "Gap after one step against damping.")
        made.append(Section("gapdamping", "What damping does", [text, figure], level))
    return made


def by_steps(found: Invariance) -> str | None:
    """How gaps grow with steps, where K-FAC and SGD took some."""
    followed = {
        cell.method: cell
        for cell in found.cells
        if cell.change == FOLLOWED and not cell.failure and len(cell.steps) > 1
    }
    if not {"K-FAC", "SGD"} <= set(followed):
        return None
    kfac, sgd = followed["K-FAC"], followed["SGD"]
    return (
        "With SGD the gap under general affine maps is there after one step, "
        f"{number(float(sgd.gaps[0]))} of the distance moved, and "
        f"{number(sgd.gap)} after {int(sgd.steps[-1])}. With K-FAC it is "
        f"{number(float(kfac.gaps[0]))} after one step and {number(kfac.gap)} after {int(kfac.steps[-1])}: "
        "rounding, which steps without damping amplify."
    )


def by_damping(found: Invariance) -> str | None:
    """With which power of lambda gaps vanish, fitted where they are small and no rounding."""
    if not found.damped:
        return None
    powers = []
    for name, gaps in found.damped.items():
        fitted = (gaps > 1e-11) & (gaps < 1e-2)
        if fitted.sum() > 1:
            powers.append(
                f"λ<sup>{order(found.dampings[fitted], gaps[fitted]):.2f}</sup> with {_named([name])}"
            )
    text = (
        "Damping adds a multiple of the identity, which does not map along with the Fisher matrix: it is the "
        "metric of one set of parameters. "
    )
    at = int(np.abs(np.log(found.dampings / DAMPING)).argmin())
    ends = [number(float(own[at])) for own in found.damped.values()]
    text += (
        f"With λ&nbsp;= {number(float(found.dampings[at]))} the gap after one step is "
        f"{listing(ends)} ({_named(list(found.damped))}). "
    )
    if powers:
        text += (
            f"Towards small λ it falls like {listing(powers)}: factored damping adds √λ, and not λ, to each "
            "factor."
        )
    return text


def application(own: Application) -> str | None:
    """What one reparameterization does to SGD and to K-FAC; None where a run failed."""
    if any(cell.failure for cell in own.cells):
        return None
    parts = []
    for cell in own.cells:
        ours, theirs = (float(losses[-1]) for losses in cell.losses)
        ends = (
            f"{number(ours)} nats with both"
            if abs(ours - theirs) < 1e-3 * ours
            else f"{number(ours)} nats ({own.nets[0]}) and {number(theirs)} ({own.nets[1]})"
        )
        parts.append(
            f"After {int(cell.steps[-1])} steps of {cell.method} the gap is {number(cell.gap)}, and the "
            f"loss has gone from {number(float(cell.losses[0][0]))} to {ends}."
        )
    return " ".join(parts)
