"""Races between optimizers: losses by seconds, steps and examples, and when each level was reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .style import MARKERS, figure_for, pen, plain_log_ticks, short, some, style
from .training import LABELS, PERCENT

AXES = {"seconds": "seconds", "step": "steps", "examples": "examples"}


@style()
def race(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    y: str = "loss",
    *,
    title: str | None = None,
    fig: Any | None = None,
) -> list[Any]:
    """Draw a column of several runs against time, steps and examples side by side.

    All on log axes, where a factor is a distance: first-order methods take a hundred steps where others take
    one. The start is left out.

    Args:
        runs: records by name; ``Race.records`` are such.
        y: the column drawn.
        title: of the figure.
        fig: figure to draw into.

    Raises:
        ValueError: on no runs, or one without the column.
    """
    names = list(some(dict(runs), "run"))
    for name in names:
        if not any(y in row for row in runs[name]):
            raise ValueError(f"expected records of {name} with {y}, got none")
    fig = figure_for(fig, 5.0)
    panels = list(fig.subplots(1, 3, sharey=True))
    for ax, x in zip(panels, AXES, strict=True):
        for number, name in enumerate(names):
            rows = [row for row in runs[name] if y in row and row["step"] > 0]
            scale = 100 if y in PERCENT else 1
            ax.plot([row[x] for row in rows], [scale * row[y] for row in rows], label=name, **pen(number))
        ax.set_xlabel(LABELS[x])
        _log_x(ax)
        ax.grid(True)
    if y.endswith("loss") or "squared_error" in y:
        panels[0].set_yscale("log")
        plain_log_ticks(panels[0].yaxis)
        low, high = panels[0].get_ylim()
        if high < 10 * low:
            panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    label = LABELS.get(y, y.replace("_", " "))
    panels[0].set_ylabel(label)
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(5, len(names)))
    fig.suptitle(title or label.split(" (")[0].capitalize())
    return panels


@style()
def race_targets(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str | None = None,
    fig: Any | None = None,
) -> list[Any]:
    """Draw when each contender of a race reached each level, and how many times sooner than the baseline.

    Examples are left out where all batches were equal: they would repeat the steps.

    Args:
        rows: of ``Race.targets``, of one column; the contender named first is the baseline.
        title: of the figure.
        fig: figure to draw into.

    Raises:
        ValueError: on no rows.
    """
    some(rows, "row of a race's targets")
    levels = list(dict.fromkeys(row["level"] for row in rows))
    names = list(dict.fromkeys(row["contender"] for row in rows))
    ratios = {x: [row["ratio"] for row in rows if row["along"] == x] for x in AXES}
    along = [x for x in AXES if ratios[x] and not (x == "examples" and _same(ratios[x], ratios["step"]))]
    fig = figure_for(fig, 1.6 + 0.32 * len(levels) * len(names))
    panels = list(fig.subplots(1, len(along), sharey=True, squeeze=False)[0])
    for ax, x in zip(panels, along, strict=True):
        for row in (row for row in rows if row["along"] == x):
            number = names.index(row["contender"])
            place = levels.index(row["level"]) + 0.8 * ((number + 0.5) / len(names) - 0.5)
            color = pen(number)["color"]
            beside: dict[str, Any] = {"va": "center", "fontsize": 10, "textcoords": "offset points"}
            if not math.isfinite(row["at"]):
                where = ((1, place), (-4, 0))
                ax.annotate(
                    "not reached", *where, ("axes fraction", "data"), color=color, ha="right", **beside
                )
            elif row["at"] > 0:
                ax.plot(row["at"], place, MARKERS[number % len(MARKERS)], color=color)
                if number:
                    text = f"{'> ' if row['bound'] else ''}{float(format(row['ratio'], '.2g')):g}x"
                    ax.annotate(text, (row["at"], place), (7, 0), **beside)
        ax.margins(x=0.25)
        _log_x(ax)
        ax.set(xlabel=f"{AXES[x]} to reach the level")
        ax.grid(True, axis="x")
        for between in range(1, len(levels)):
            ax.axhline(between - 0.5, color="#dddddd", linewidth=1)
    what = LABELS.get(rows[0]["column"], rows[0]["column"].replace("_", " "))
    panels[0].set_yticks(range(len(levels)), [short(level) for level in levels])
    panels[0].set_ylim(len(levels) - 0.5, -0.5)
    panels[0].set_ylabel(what)
    handles = [
        panels[0].plot([], [], MARKERS[n % len(MARKERS)], color=pen(n)["color"], label=name)[0]
        for n, name in enumerate(names)
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=min(5, len(names)))
    fig.suptitle(title or f"Reaching a level: times sooner than {names[0]}")
    return panels


def _log_x(ax: Any) -> None:
    """A log axis with ticks at powers of ten, or 1, 2, 5, ... where there are few of these."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if high < 50 * low:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:g}" if value < 1e4 else f"{value / 1e3:g}k")
        )
    ax.xaxis.set_minor_formatter(NullFormatter())


def _same(values: Sequence[float], others: Sequence[float]) -> bool:
    return len(values) == len(others) and all(
        math.isclose(a, b, rel_tol=1e-9) or (math.isnan(a) and math.isnan(b))
        for a, b in zip(values, others, strict=True)
    )
