"""The ledger of assumptions: what each step from the exact Fisher matrix to an approximation costs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .style import BLUE, GREEN, GREY, figure_for, short, some, style

MEASURES = {
    "step_cosine": "cosine of the step with the exact\nnatural gradient step (1 is best)",
    "share": "share of the exact step's decrease\nof the objective (1 is best)",
}


@style()
def ledger(
    rows: Sequence[Mapping[str, Any]],
    *,
    cumulative: bool = True,
    title: str = "What each assumption costs",
    fig: Any | None = None,
) -> list[Any]:
    """Draw the error after each assumption as bars, first row on top, and the step's quality beside it.

    Args:
        rows: each with ``label`` (what is assumed), ``error`` (relative Frobenius error against the exact
            Fisher matrix) and, in all rows or none, ``step_cosine`` or ``share`` (of the decrease).
        cumulative: whether each row assumes what the rows above it do and one thing more; the change of
            the error is then written beside it.
        title: of the figure.
        fig: a figure or subfigure to draw into.

    Returns:
        The axes: errors, then one per further measure.

    Raises:
        ValueError: on no rows, or rows that lack a key the others have.
    """
    some(rows, "row")
    measures = [key for key in MEASURES if any(key in row for row in rows)]
    for row in rows:
        missing = [key for key in ("label", "error", *measures) if key not in row]
        if missing:
            raise ValueError(f"expected {', '.join(missing)} in every row, got a row with {', '.join(row)}")
    fig = figure_for(fig, 1.3 + 0.62 * len(rows))
    axes = fig.subplots(1, 1 + len(measures), sharey=True, squeeze=False)[0]
    labels = [textwrap.fill(str(row["label"]), 34) for row in rows]
    places = np.arange(len(rows))
    values = [float(row["error"]) for row in rows]
    notes = [short(value) for value in values]
    xlabel = "relative error of the matrix\n(Frobenius norm, 0 is best)"
    if cumulative:
        changes = [f"  ({b - a:+.2f})".replace("-", "−") for a, b in pairwise(values)]
        notes = [notes[0], *(note + change for note, change in zip(notes[1:], changes, strict=True))]
        xlabel = "relative error of the matrix\n(Frobenius norm; change by this step)"
    _bars(axes[0], places, values, notes, BLUE)
    axes[0].set_xlabel(xlabel)
    axes[0].set_yticks(places, labels)
    axes[0].invert_yaxis()
    for ax, key in zip(axes[1:], measures, strict=True):
        values = [float(row[key]) for row in rows]
        _bars(ax, places, values, [short(value) for value in values], GREEN)
        ax.set_xlabel(MEASURES[key])
        ax.axvline(1, color=GREY, linestyle="--", linewidth=1.2)
    fig.suptitle(title)
    return list(axes)


def _bars(ax: Any, places: Any, values: Sequence[float], notes: Sequence[str], color: str) -> None:
    bars = ax.barh(places, values, color=color, height=0.62)
    for label in ax.bar_label(bars, notes, padding=4, fontsize=11):
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    ax.axvline(0, color="black", linewidth=1)
    ax.tick_params(axis="y", length=0)
    low, high = min(0.0, *values), max(0.0, *values)
    room = (high - low) or 1.0
    ax.set_xticks([tick for tick in ax.get_xticks() if low <= tick <= 1.001 * high])
    ax.set_xlim(low - (0.35 * room if low < 0 else 0), high + 0.45 * room)
