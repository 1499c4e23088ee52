"""Curves along training: losses, errors, and the quality of an approximation as the net changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .checks import by_name, checked, some
from .style import axes_for, labelled, marked_pen, pen, style
from .ticks import plain_log_ticks

LABELS = {
    "step": "step",
    "examples": "examples seen",
    "seconds": "time (s)",
    "loss": "training loss (nats per example)",
    "test_loss": "test loss (nats per example)",
    "test_error": "test error (% of examples)",
    "train_error": "training error (% of examples)",
    "squared_error": "training error (squared, per example)",
    "test_squared_error": "test error (squared, per example)",
    "damping": r"damping $\lambda$",
}
PERCENT = ("test_error", "train_error")


@style()
def training_curve(
    runs: Mapping[str, Sequence[Mapping[str, Any]]] | Sequence[Mapping[str, Any]],
    y: str = "loss",
    x: str = "step",
    *,
    ax: Any | None = None,
) -> Any:
    """Draw a column of the records of one or several runs.

    Args:
        runs: records by name of the run, or those of a single one; ``History.records`` are records.
        y: the column drawn; losses on a log axis, shares ("test_error", "train_error") in per cent.
        x: the column along which.
        ax: axes to draw into.

    Raises:
        ValueError: on a run without records that hold both columns.
    """
    named = dict(runs) if isinstance(runs, Mapping) else {"": runs}
    ax = axes_for(ax)
    for number, (name, records) in enumerate(some(named, "run").items()):
        points = [(row[x], row[y]) for row in records if x in row and y in row]
        if not points:
            raise ValueError(f"expected records of {name or 'the run'} with {x} and {y}, got none")
        places, values = np.array(points, dtype=float).T
        ax.plot(places, (100 if y in PERCENT else 1) * values, label=name or None, **pen(number))
    if y.endswith("loss"):
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    elif y in PERCENT:
        ax.set_ylim(bottom=0)
    ylabel = LABELS.get(y, y.replace("_", " "))
    title = ylabel.split(" (")[0].capitalize() if y in LABELS and y != "damping" else "Training"
    return labelled(ax, title, LABELS.get(x, x.replace("_", " ")), ylabel)


@style()
def quality_along_training(
    steps: Any,
    errors: Mapping[str, Any],
    *,
    title: str = "Quality of the approximation along training",
    ax: Any | None = None,
) -> Any:
    """Draw how an approximation's error changes as the net is trained, per layer or approximation.

    Args:
        steps: (m,), when it was measured.
        errors: (m,) each, by name.
        title: of the picture.
        ax: axes to draw into.
    """
    x = checked(steps, ("m",), "steps")
    ax = axes_for(ax)
    for number, (name, y) in enumerate(by_name(errors, (len(x),), "errors", "curve").items()):
        ax.plot(x, y, label=name, **marked_pen(number))
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    return labelled(ax, title, "step", "relative error of the block (Frobenius)", ncols=2)
