"""How good approximations are: the ledger of assumptions and the quality table in bars, and across nets."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from .checks import complete, some
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, marked_pen, new_figure, panels, pens, style
from .ticks import short

TITLES = {
    "error": "relative error\nof the matrix\n(0 is best)",
    "spectral_error": "relative error,\nspectral norm\n(0 is best)",
    "inverse_error": "relative error\nof the inverse\n(0 is best)",
    "c_star": "best scalar\nfor the matrix\n(1: right scale)",
    "step_cosine": "cosine with\nthe exact step\n(1 is best)",
    "step_length": "length relative to\nthe exact step\n(1 is best)",
    "share": "share of the exact\nstep's progress\n(1 is best)",
    "kl": "KL of the\nGaussians, nats\n(0 is best)",
    "condition": "condition after\npreconditioning\n(1 is best)",
    "cg_iterations": "CG iterations\nto 1e-6\n(fewer is better)",
    "floats": "numbers\nstored\n(fewer is better)",
}
BEST = {"step_cosine": 1.0, "share": 1.0, "c_star": 1.0, "step_length": 1.0}
HUES = (BLUE, GREEN, PURPLE, ORANGE)


@style()
def ledger(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Draw the error after each assumption as bars, first row on top, and the step's quality beside it.

    Args:
        rows: of :func:`minikfac.quality.ledger`: ``label`` (what is assumed), ``error`` (relative Frobenius
            distance from the exact matrix) and, in all rows or none, ``cost`` (distance from the row above),
            ``step_cosine``, ``share`` (of the exact step's decrease).

    Returns:
        The axes: errors, then one per further measure.

    Raises:
        ValueError: on no rows, or rows that lack a key the others have.
    """
    optional = [key for key in ("cost", "step_cosine", "share") if any(key in row for row in rows)]
    complete(rows, ("label", "error", *optional), "row")
    measures = [key for key in optional if key != "cost"]
    fig = new_figure(1.8 + 0.75 * len(rows))
    widths = [1.5, *(1 for _ in measures)]
    axes = fig.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    places = np.arange(len(rows))
    _errors(axes[0], places, rows, "cost" in optional)
    axes[0].set_xlabel("relative error of the matrix\n(Frobenius norm, 0 is best)")
    axes[0].set_yticks(places, _labels(rows))
    axes[0].invert_yaxis()
    for ax, key, hue in zip(axes[1:], measures, HUES[1:], strict=False):
        values = [float(row[key]) for row in rows]
        _mark_best(ax, key)
        _bars(ax, places, values, hue)
        _leave_room(ax, values, least=1.0)
        ax.set_xlabel(TITLES[key].rsplit("\n", 1)[0] + "\n(1 is best)")
    label, error = str(rows[-1]["label"]).split(":")[0], float(rows[-1]["error"])
    fig.suptitle(f"What each assumption costs: relative error {error:.2f} with {label}")
    return list(axes)


def _errors(ax: Any, places: Any, rows: Sequence[Mapping[str, Any]], with_costs: bool) -> None:
    """Bars of the error after each assumption and, if there are costs, of what it adds by itself."""
    errors = [float(row["error"]) for row in rows]
    costs = [float(row["cost"]) for row in rows] if with_costs else []
    longest = _longest_bar(errors + costs)
    notes = [short(value) + (" (cut off)" if value > longest else "") for value in errors]
    drawn = [min(value, longest) for value in errors + costs]
    if with_costs:
        half = len(errors)
        _bars(
            ax,
            places - 0.2,
            drawn[:half],
            BLUE,
            height=0.36,
            label="after all assumptions so far",
            notes=notes,
        )
        notes = [short(value) for value in costs]
        look: dict[str, Any] = {"height": 0.36, "label": "by this assumption", "hatch": "//"}
        _bars(ax, places + 0.2, drawn[half:], ORANGE, notes=notes, **look)
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1))
    else:
        _bars(ax, places, drawn, BLUE, notes=notes)
    _leave_room(ax, drawn, 0.45 if longest < max(errors + costs) else 0.3)


@style()
def layer_ledger(
    ledgers: Mapping[str, Sequence[Mapping[str, Any]]],
    columns: Sequence[str] = ("error", "c_star", "step_cosine"),
) -> list[Any]:
    """Draw the ledgers of several layers as dots, one row per set of assumptions, one colour per layer.

    What is not finite has no dot; one that is far larger than all others is an arrow with its number.

    Args:
        ledgers: rows of :func:`minikfac.quality.layer_ledger` by layer, the same labels in all of them.
        columns: which to draw.

    Returns:
        The axes, one per column.

    Raises:
        ValueError: on no layers or columns, labels that differ, or rows that lack a column.
    """
    some(columns, "column")
    named = {name: list(rows) for name, rows in some(dict(ledgers), "layer").items()}
    labels = [str(row.get("label")) for row in next(iter(named.values()))]
    for name, rows in named.items():
        complete(rows, ("label", *columns), "row")
        if [str(row["label"]) for row in rows] != labels:
            raise ValueError(f"expected the same labels for every layer, got others for {name}")
    shown = [place for place, label in enumerate(labels) if place or "exact" not in label]
    fig = new_figure(1.9 + 0.55 * len(shown))
    axes = list(fig.subplots(1, len(columns), sharey=True, squeeze=False)[0])
    for ax, key in zip(axes, columns, strict=True):
        _dots(ax, key, {name: [float(rows[place][key]) for place in shown] for name, rows in named.items()})
    axes[0].set_yticks(np.arange(len(shown)), [textwrap.fill(labels[place], 26) for place in shown])
    axes[0].set_ylim(len(shown) - 0.5, -0.5)
    handles, names = axes[0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=len(names))
    key = columns[0]
    means = {labels[place]: np.mean([float(rows[place][key]) for rows in named.values()]) for place in shown}
    least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    what = " ".join(TITLES.get(key, key).split("\n(")[0].split())
    stated = " to ".join(f"{means[label]:.2g} ({label.split(':')[0]})" for label in (least, most))
    fig.suptitle(f"Mean of the layers' {what}: from {stated}")
    return axes


def _dots(ax: Any, key: str, layers: Mapping[str, Sequence[float]]) -> None:
    """One column of several layers' ledgers; an outlier is an arrow with its number."""
    _mark_best(ax, key)
    columns = {name: np.array(column) for name, column in layers.items()}
    finite = [abs(float(value)) for column in columns.values() for value in column if np.isfinite(value)]
    limit = _longest_bar(finite or [1.0])
    for number, (name, values) in enumerate(columns.items()):
        seen = np.isfinite(values)
        places = np.arange(len(values)) + 0.16 * (number - (len(layers) - 1) / 2)
        look = {**marked_pen(number), "linestyle": "", "markersize": 8}
        ax.plot(values[seen].clip(-limit, limit), places[seen], label=name, **look)
        for value, place in zip(values[seen], places[seen], strict=True):
            if abs(value) > limit:
                up = "bottom" if number < len(layers) / 2 else "top"
                beside = {"textcoords": "offset points", "ha": "right", "va": up}
                ax.annotate(f"{short(value)} →", (limit, place), (-8, 0), **beside)
    ax.set_xlim(min(0.0, ax.get_xlim()[0]), max(1.05, ax.get_xlim()[1]))
    ax.set_title(TITLES.get(key, key.replace("_", " ")), fontsize=11)
    ax.grid(True)
    ax.tick_params(axis="y", length=0)


@style()
def quality_bars(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] = ("error", "step_cosine", "share", "cg_iterations"),
    *,
    spread: Sequence[Mapping[str, Any]] | None = None,
    title: str | None = None,
) -> list[Any]:
    """Draw columns of the quality table side by side, one bar per approximation.

    Args:
        rows: as those of ``minikfac.quality.Comparison.whole()``: ``approximation`` and the columns. None
            and NaN are drawn as a dash, infinity as a hatched bar (the limit was reached).
        columns: which to draw.
        spread: the same rows with standard deviations over seeds, drawn as error bars.
        title: of the figure; by default which approximation is best in the first column.

    Returns:
        The axes, one per column.

    Raises:
        ValueError: on no rows or columns, or rows that lack one.
    """
    some(columns, "column")
    complete(rows, ("approximation", *columns), "row")
    if spread is not None and len(spread) != len(rows):
        raise ValueError(f"expected {len(rows)} rows of spread, got {len(spread)}")
    fig = new_figure(1.7 + 0.5 * len(rows))
    axes = fig.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for number, (ax, key) in enumerate(zip(axes, columns, strict=True)):
        values = [math.nan if row[key] is None else float(row[key]) for row in rows]
        errors = None if spread is None else [float(row.get(key) or 0) for row in spread]
        _quality_column(ax, key, values, errors, HUES[number % len(HUES)])
    axes[0].set_yticks(range(len(rows)), [textwrap.fill(str(row["approximation"]), 18) for row in rows])
    axes[0].invert_yaxis()
    fig.suptitle(title or _best_row(rows, columns[0]))
    return list(axes)


@style()
def quality_across_nets(
    studies: Mapping[str, Mapping[str, Mapping[float, Mapping[str, float]]]],
    column: str = "share",
    *,
    title: str | None = None,
) -> list[Any]:
    """Draw a column of the quality table against what differs between nets, a row of panels per kind of net.

    Args:
        studies: by kind of net and by what is varied, as many things for each kind: values of the
            approximations at each of its values, which stand at equal distances.
        column: what they are values of.
        title: of the figure; by default the range of K-FAC's values for each kind of net.

    Returns:
        The axes, row by row.

    Raises:
        ValueError: on no studies, or not as many for each kind of net.
    """
    some(studies, "kind of net")
    counts = {kind: len(study) for kind, study in studies.items()}
    across = max(counts.values())
    if min(counts.values()) < max(across, 1):
        raise ValueError(f"expected as many studies of each kind of net, at least one, got {counts}")
    every = [panel for study in studies.values() for panel in study.items()]
    axes = panels(len(every), across, 2.7, 0.9)
    names = dict.fromkeys(name for _, points in every for row in points.values() for name in row)
    looks, drawn = pens(names, marked=True), {}
    for ax, (varied, points) in zip(axes, every, strict=True):
        for name in names:
            values = [row.get(name, math.nan) for row in points.values()]
            (drawn[name],) = ax.plot(values, **{"linewidth": 1.6, "markersize": 5} | looks[name])
        ax.set_xticks(range(len(points)), [f"{value:g}" for value in points])
        ax.set_xlabel(varied)
        ax.grid(True)
    for first, kind in zip(range(0, len(axes), across), studies, strict=True):
        row = axes[first : first + across]
        row[0].set_ylabel(kind)
        for ax in row[1:]:
            ax.sharey(row[0])
        highest = float(np.nanmax(np.concatenate([line.get_ydata() for ax in row for line in ax.lines])))
        row[0].set_ylim(0, 1.08 * highest)
    fig = axes[0].figure
    name = "K-FAC" if "K-FAC" in names else next(iter(names))
    fig.suptitle(title or f"{name}'s {_in_words(column)}:\n{_ranges(name, studies)}")
    fig.legend(drawn.values(), drawn, loc="outside lower center", ncols=3)
    return axes


def _in_words(key: str) -> str:
    """A column's title without line breaks and what is best."""
    return " ".join(TITLES.get(key, key.replace("_", " ")).split(" (")[0].split("\n(")[0].split())


def _ranges(name: str, studies: Mapping[str, Mapping[str, Mapping[float, Mapping[str, float]]]]) -> str:
    """The range of an approximation's values for each kind of net, in words."""
    values = {
        kind: [row[name] for points in study.values() for row in points.values() if name in row]
        for kind, study in studies.items()
    }
    return ", ".join(f"{min(of):.2g} to {max(of):.2g} ({kind})" for kind, of in values.items() if of)


def _best_row(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Which approximation is best in a column; the exact matrix is none."""
    what = _in_words(key)
    measured = {str(row["approximation"]): row[key] for row in rows if row[key] is not None}
    values = {name: x for name, x in measured.items() if math.isfinite(x) and not name.startswith("exact")}
    if not values:
        return what.capitalize()
    best = min(values, key=lambda name: abs(values[name] - BEST.get(key, 0.0)))
    return f"Best {what}: {short(values[best])} ({best})"


def _quality_column(
    ax: Any, key: str, values: Sequence[float], errors: Sequence[float] | None, hue: str
) -> None:
    """Bars of one measure; long errors are cut off, and an infinite value is hatched."""
    finite = [value for value in values if math.isfinite(value)] or [1.0]
    longest = _longest_bar(finite) if key == "error" else max(finite)
    drawn = [1.1 * longest if value == math.inf else min(value, longest) for value in values]
    notes = [
        "limit" if value == math.inf else short(value) + " (cut off)" * (value > longest) for value in values
    ]
    _mark_best(ax, key)
    places = np.arange(len(values))
    bars = _bars(ax, places, drawn, hue, notes=notes, xerr=errors, error_kw={"lw": 1.2})
    for bar, value in zip(bars, values, strict=True):
        if value == math.inf:
            bar.set(fill=False, hatch="//", edgecolor=GREY)
    room = 1.0 if longest < max(finite) else 0.6
    _leave_room(ax, [value for value in drawn if math.isfinite(value)] or [1.0], room, BEST.get(key, 0.0))
    ax.set_title(TITLES.get(key, key.replace("_", " ")), fontsize=11)


def _labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Labels of the rows, and what a row is added to where that is not the row over it."""
    labels = []
    for number, row in enumerate(rows):
        label, above = str(row["label"]), row.get("above")
        lines = textwrap.wrap(label, 30)
        if above is not None and number and above != rows[number - 1]["label"]:
            lines += textwrap.wrap(f"(step from: {str(above).split(':')[0]})", 42)
        labels.append("\n".join(lines))
    return labels


def _longest_bar(values: Sequence[float]) -> float:
    """Where bars are cut off, so that one that is far too long does not hide the others."""
    usual = [value for value in values if 0 < value <= 3]
    return 1.15 * max(usual) if usual and max(values) > 3 * max(usual) else max(values)


def _bars(
    ax: Any,
    places: Any,
    values: Sequence[float],
    color: str,
    *,
    height: float = 0.62,
    notes: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """Horizontal bars with their values written at their ends."""
    widths = np.nan_to_num(np.array(values, dtype=float))
    edge = "white" if "hatch" in options else color
    bars = ax.barh(places, widths, color=color, edgecolor=edge, height=height, **options)
    notes = [short(value) for value in values] if notes is None else notes
    notes = ["–" if note == "nan" else note.replace("-", "−") for note in notes]
    for label in ax.bar_label(bars, notes, padding=4, fontsize="small"):
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    ax.axvline(0, color="black", linewidth=1)
    ax.tick_params(axis="y", length=0)
    return bars


def _mark_best(ax: Any, key: str) -> None:
    if key in BEST:
        ax.axvline(BEST[key], color=GREY, linestyle="--", linewidth=1.2, zorder=0)


def _leave_room(ax: Any, values: Sequence[float], room: float = 0.3, least: float = 0.0) -> None:
    """Limits with room for the numbers, and ticks only where there are bars, or up to ``least``."""
    low, high = min(0.0, *values), max(0.0, least, *values)
    extent = (high - low) or 1.0
    ticks = [
        tick
        for tick in MaxNLocator(2, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        if low <= tick <= 1.02 * high
    ]
    ax.set_xlim(low - (room * extent if low < 0 else 0), high + room * extent)
    ax.set_xticks(ticks, [short(tick).replace("-", "−") for tick in ticks])
