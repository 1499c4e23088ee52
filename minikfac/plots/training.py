"""Curves along training: losses, errors, and the quality of an approximation as the net changes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from .checks import by_name, checked, some
from .style import (
    GREY,
    axes_for,
    labelled,
    marked_pen,
    name_points,
    new_figure,
    pens,
    signed_image,
    style,
)
from .ticks import plain_log_ticks, short

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
TOP = 1.15
"""Where axes of errors and cosines end."""


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
    ax, scale = axes_for(ax), 100 if y in PERCENT else 1
    for (name, records), look in zip(some(named, "run").items(), pens(named).values(), strict=True):
        points = [(row[x], row[y]) for row in records if x in row and y in row]
        if not points:
            raise ValueError(f"expected records of {name or 'the run'} with {x} and {y}, got none")
        places, values = np.array(points, dtype=float).T
        ax.plot(places, scale * values, label=name or None, **look)
    if y.endswith("loss"):
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    elif y in PERCENT:
        ax.set_ylim(bottom=0)
    ylabel = LABELS.get(y, y.replace("_", " "))
    title = ylabel.split(" (")[0].capitalize() if y in LABELS and y != "damping" else "Training"
    if len(named) == 1:
        title += f": from {short(values[0] * scale)} to {short(values[-1] * scale)}"
    return labelled(ax, title, LABELS.get(x, x.replace("_", " ")), ylabel)


@style()
def curvature_along_training(records: Sequence[Mapping[str, Any]], *, ax: Any | None = None) -> Any:
    """Draw how much more curved the loss is along the steps than the approximation says, layer by layer.

    Args:
        records: of a run of K-FAC or KFC-pre with ``curvature=True``.
        ax: axes to draw into.

    Raises:
        ValueError: on records without ``curvature``.
    """
    rows = [row for row in records if "curvature" in row]
    if not rows:
        raise ValueError("expected records of a run with curvature=True, got none with curvature")
    ax, steps = axes_for(ax), [row["step"] for row in rows]
    layers = [name for name in rows[0] if name.startswith("curvature/")]
    for number, name in enumerate(layers):
        values = [row[name] for row in rows]
        ax.plot(steps, values, label=name.removeprefix("curvature/"), **marked_pen(number))
    whole = [row["curvature"] for row in rows]
    ax.plot(steps, whole, label="all layers", color="black", linestyle="--", linewidth=3)
    ax.axhline(1.0, color=GREY, linestyle=":")
    ax.set_yscale("log")
    plain_log_ticks(ax.yaxis)
    title = f"Curvature along the step over what K-FAC says: {short(whole[0])} to {short(whole[-1])}"
    return labelled(ax, title, "step", r"$v^T F v \,/\, v^T \tilde{F} v$, by layer", ncols=2)


@style()
def approximations_along_training(
    steps: Any, errors: Mapping[str, Any], cosines: Mapping[str, Any], *, now: float | None = None
) -> list[Any]:
    """Draw error and step cosine of each approximation as the net is trained, each curve with its name.

    Args:
        steps: (m,), when it was measured; the axis is linear up to the first of them above 0, then log.
        errors: (m,) each, relative Frobenius errors of the whole matrix by name.
        cosines: (m,) each, with the exact step.
        now: a step to mark.

    Returns:
        The axes: errors, cosines.
    """
    x = checked(steps, ("m",), "steps", finite=True)
    columns = (
        ("relative error of the matrix (0 is best)", by_name(errors, x.shape, "errors", "curve")),
        ("cosine with the exact step (1 is best)", by_name(cosines, x.shape, "cosines", "curve")),
    )
    fig = new_figure(5.2)
    places = fig.add_gridspec(1, 4, width_ratios=[1, 0.45, 1, 0.45])  # names stand in the gaps
    axes = [fig.add_subplot(places[0, column]) for column in (0, 2)]
    fig.add_subplot(places[0, 3]).axis("off")  # a notebook cuts off what is empty, and names stand there
    for ax, (ylabel, curves) in zip(axes, columns, strict=True):
        for y, look in zip(curves.values(), pens(curves, marked=True).values(), strict=True):
            ax.plot(x, y, **{"linewidth": 1.8, "markersize": 5} | look)
        if now is not None:
            ax.axvline(now, color=GREY, linestyle=":", linewidth=1.2)
        first = float(min(x[x > 0], default=1.0))
        ax.set_xscale("symlog", linthresh=first, linscale=0.4)
        ax.set_xticks(x, [f"{step:g}" for step in x], fontsize="small")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xlabel="steps of training", ylabel=ylabel, xlim=(-0.1 * first, None), ylim=(0, TOP))
        ax.grid(True)
    name = "K-FAC" if "K-FAC" in cosines else next(iter(cosines))
    bold = columns[1][1][name]
    fig.suptitle(
        f"{name}'s step: cosine {bold[0]:.2f} at first, {bold.min():.2f} at the least, {bold[-1]:.2f} at last"
    )
    for ax, (_, curves) in zip(axes, columns, strict=True):
        ends = {name: float(y[-1]) for name, y in curves.items()}
        names = [name if end <= TOP else f"{name} ↑ {end:.2f}" for name, end in ends.items()]
        name_points(ax, [(x[-1], min(end, TOP)) for end in ends.values()], names, ends=True, size=10)
    return axes


@style()
def steps_as_pictures(steps: Mapping[str, Any], units: int = 8) -> list[Any]:
    """Draw the first layer's part of several steps as pictures, a row per step and a column per unit.

    The title has the cosines of the first with all others, over all units.

    Args:
        steps: (all units, H, W) each, by name; each row has a scale of its own.
        units: how many to draw.

    Returns:
        The axes, row by row.
    """
    named = by_name(
        steps, np.shape(next(iter(some(dict(steps), "step").values()))), "steps", "step", finite=True
    )
    (first, reference), *others = named.items()
    units = min(units, len(reference))
    fig = new_figure(0.9 + 1.22 * len(named))
    axes = fig.subplots(len(named), units, squeeze=False)
    for row, (name, pictures) in zip(axes, named.items(), strict=True):
        limit = float(np.abs(pictures[:units]).max()) or 1.0
        for ax, picture in zip(row, pictures, strict=False):
            signed_image(ax, picture, limit)
            ax.set_xlabel("")
        row[0].set_ylabel(textwrap.fill(name, 12), rotation=0, ha="right", va="center")
    for number, ax in enumerate(axes[0], start=1):
        ax.set_title(f"unit {number}", fontsize="medium")
    cosines = [
        f"{name} {(reference * other).sum() / np.linalg.norm(reference) / np.linalg.norm(other):.2f}"
        for name, other in others
    ]
    fig.suptitle(f"Steps of the first layer; cosine with the {first}: {', '.join(cosines)}")
    return list(axes.ravel())
