"""Races between optimizers: losses by seconds, steps and examples, and when each level was reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from ..races.race import reached
from ..training import History
from .checks import some
from .style import new_figure, pens, style
from .ticks import log_ticks, plain_log_ticks, short
from .training import LABELS, PERCENT

AXES = {"seconds": "seconds", "step": "steps", "examples": "examples"}
GRID = 300
"""Points at which a median of runs is taken."""

ARROW = 20
"""Points of length of what stands for the runs that never got there."""

Records = Sequence[Mapping[str, Any]]


@style()
def race(
    runs: Mapping[str, Records | Sequence[Records]], y: str = "loss", *, title: str | None = None
) -> list[Any]:
    """Draw a column of several runs against time, steps and examples side by side.

    All on log axes, where a factor is a distance: first-order methods take a hundred steps where others take
    one. The start is left out. Where a contender ran from several seeds each run is a thin line, and their
    median a thick one, as far as more than half of them go; one that ended before stays at its last value.

    Args:
        runs: records by name, or for several seeds a list of such; ``Race.records`` are.
        y: the column drawn.
        title: second line of the figure's title, such as the name of the problem.

    Raises:
        ValueError: on no runs, one without the column, or no step in any of them.
    """
    named = {name: _runs(records) for name, records in some(dict(runs), "run").items()}
    _check_measured(named, y)
    log = y.endswith("loss") or "squared_error" in y
    fig, looks = new_figure(5.0), pens(named)
    panels = list(fig.subplots(1, 3, sharey=True))
    for ax, x in zip(panels, AXES, strict=True):
        for name, several in named.items():
            curves = [curve for rows in several if (curve := _curve(rows, x, y)).size]
            for curve in curves if len(curves) > 1 else []:
                ax.plot(*curve, color=looks[name]["color"], linewidth=0.9, alpha=0.45)
            ax.plot(*(_median(curves, log) if curves else ([], [])), label=name, **looks[name])
        ax.set_xlabel(LABELS[x])
        _log_x(ax)
        ax.grid(True)
    if log:
        panels[0].set_yscale("log")
        plain_log_ticks(panels[0].yaxis)
        low, high = panels[0].get_ylim()
        if high < 10 * low:
            panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    panels[0].set_ylabel(label(y))
    seeds = max(len(several) for several in named.values())
    note = f"thick: median, thin: each of {seeds} seeds" if seeds > 1 else None
    _legend(fig, panels[0].get_legend_handles_labels()[0], note)
    fig.suptitle(f"{_headline(named, y)}\n{title or label(y).split(' (')[0].capitalize()}")
    return panels


def _headline(named: Mapping[str, Sequence[Records]], y: str) -> str:
    """How much sooner another contender has the lowest value of the first; medians of runs."""
    first, *others = named
    runs = {name: [[dict(row) for row in rows if y in row] for rows in named[name]] for name in named}
    low = float(np.median([min(row[y] for row in rows) for rows in runs[first] if rows]))

    def to_level(name: str, x: str) -> float:
        at = [reached(History(rows), y, low, x) if rows else math.nan for rows in runs[name]]
        return float(np.median(np.nan_to_num(at, nan=math.inf)))

    best = min(others, key=lambda name: to_level(name, "step"), default=first)
    shown = short(low * (100 if _is_share(y) else 1))
    if best == first or not 0 < to_level(best, "step") < math.inf:
        return f"{first}: {shown} at the least" + ", which no other reaches" * math.isinf(
            to_level(best, "step")
        )
    steps, seconds = (to_level(first, x) / to_level(best, x) for x in ("step", "seconds"))
    fewer = f"{steps:.2g} times fewer steps, {seconds:.2g} times fewer seconds"
    return f"{best} has {first}'s lowest, {shown}, in {fewer}"


def _check_measured(named: Mapping[str, Sequence[Records]], y: str) -> None:
    """Reject runs without the column, and a race in which it was measured at the start only."""
    for name, several in named.items():
        if not any(y in row for rows in several for row in rows):
            raise ValueError(f"expected records of {name} with {y}, got none")
    everything = [row for several in named.values() for rows in several for row in rows]
    if not any(y in row and row["step"] > 0 for row in everything):
        raise ValueError(f"expected {y} measured after a step, got it at the start only")


def _curve(rows: Records, x: str, y: str) -> np.ndarray:
    """A column of one run against another, (2, m), without the start."""
    scale = 100 if _is_share(y) else 1
    return np.array([(row[x], scale * row[y]) for row in rows if y in row and row[x] > 0]).T


@style()
def race_targets(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Draw when each contender of a race reached each level, and how many times sooner than the baseline.

    Of several runs the median, and a bar from the lowest to the highest; it ends in an arrow where some runs
    never got there. Examples are left out where all batches were equal: they would repeat the steps.

    Args:
        rows: of ``Race.targets``, of one column; the contender named first is the baseline.

    Raises:
        ValueError: on no rows.
    """
    some(rows, "row of a race's targets")
    levels = list(dict.fromkeys(row["level"] for row in rows))
    names = list(dict.fromkeys(row["contender"] for row in rows))
    ratios = {x: [row["ratio"] for row in rows if row["along"] == x] for x in AXES}
    along = [x for x in AXES if ratios[x] and not (x == "examples" and _same(ratios[x], ratios["step"]))]
    fig = new_figure(1.6 + 0.32 * len(levels) * len(names))
    panels = list(fig.subplots(1, len(along), sharey=True, squeeze=False)[0])
    for ax, x in zip(panels, along, strict=True):
        _levels(ax, [row for row in rows if row["along"] == x], levels, names)
        ax.set(xlabel=f"{AXES[x]} to reach the level")
    what = rows[0]["column"]
    shown = [100 * level if _is_share(what) else level for level in levels]
    panels[0].set_yticks(range(len(levels)), [short(level) for level in shown])
    panels[0].set_ylim(len(levels) - 0.5, -0.5)
    panels[0].set_ylabel(label(what))
    looks = pens(names, marked=True).items()
    handles = [panels[0].plot([], [], **look | {"linestyle": ""}, label=name)[0] for name, look in looks]
    _legend(fig, handles, _of_seeds(max(row["runs"] for row in rows)))
    fig.suptitle(_sooner([row for row in rows if row["along"] == along[0]], levels, names[0]))
    return panels


def _of_seeds(seeds: int) -> str | None:
    return f"median of {seeds} seeds, and from the lowest to the highest" if seeds > 1 else None


def _sooner(rows: Sequence[Mapping[str, Any]], levels: Sequence[float], baseline: str) -> str:
    """How many times sooner than the baseline the best contender reached the last level that any did."""
    others = [row for row in rows if row["contender"] != baseline and not row["bound"]]
    reached = [row for row in others if math.isfinite(row["ratio"])]
    if not reached:
        return f"When each level was reached, and how many times sooner than by {baseline}"
    best = max(reached, key=lambda row: (levels.index(row["level"]), row["ratio"]))
    level = short(best["level"] * (100 if _is_share(best["column"]) else 1))
    fewer = f"{best['ratio']:.2g} times fewer {AXES[best['along']]} than {baseline}"
    return f"To a {label(best['column']).split(' (')[0]} of {level}, {best['contender']} takes {fewer}"


def _legend(fig: Any, handles: Sequence[Any], note: str | None) -> None:
    fig.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), title=note)


def _levels(
    ax: Any, rows: Sequence[Mapping[str, Any]], levels: Sequence[float], names: Sequence[str]
) -> None:
    """All contenders at all levels along one axis."""
    looks = pens(names, marked=True)
    for row in rows:
        number = names.index(row["contender"])
        place = levels.index(row["level"]) + 0.8 * ((number + 0.5) / len(names) - 0.5)
        _target(ax, row, number, place, looks[row["contender"]])
    low, high = ax.dataLim.intervalx
    if math.isfinite(low):  # beside what is furthest right there is text
        decades = max(0.5, math.log10(high / low))
        partly = any(row["reached"] < row["runs"] for row in rows if math.isfinite(row["at"]))
        ax.set_xlim(low / 10 ** (0.1 * decades), high * 10 ** ((0.6 if partly else 0.45) * decades))
    _log_x(ax)
    ax.grid(True, axis="x")
    for between in range(1, len(levels)):
        ax.axhline(between - 0.5, color="#dddddd", linewidth=1)


def label(column: str) -> str:
    """What an axis says of a column; ``best_`` stands before what is of the iterate or the average.

    >>> label("best_test_error")
    'best test error (% of examples)'
    """
    plain = column.removeprefix("best_")
    return ("" if plain == column else "best ") + LABELS.get(plain, plain.replace("_", " "))


def _target(ax: Any, row: Mapping[str, Any], number: int, place: float, look: Mapping[str, Any]) -> None:
    """One contender at one level: a marker, a bar where runs differ, and how many times sooner it is."""
    color = look["color"]
    beside: dict[str, Any] = {"va": "center", "fontsize": 10, "textcoords": "offset points"}
    several = [] if row["reached"] == row["runs"] else [f"{row['reached']} of {row['runs']}"]
    if not math.isfinite(row["at"]):
        text = f"reached by {several[0]}" if row["reached"] else "not reached"
        where = ((1, place), (-4, 0))
        ax.annotate(text, *where, ("axes fraction", "data"), color=color, ha="right", **beside)
    elif row["at"] > 0:
        ax.plot(row["at"], place, **look)
        end = row["at"] if several else row["highest"]
        if 0 < row["lowest"] < end:
            ax.plot([row["lowest"], end], [place, place], color=color, linewidth=1.5)
        if several:
            arrow = {"arrowstyle": "<-", "color": color, "linewidth": 1.5}
            ax.annotate("", (end, place), (ARROW, 0), "data", "offset points", arrowprops=arrow)
        ratio = [f"{'> ' if row['bound'] else ''}{float(format(row['ratio'], '.2g')):g}x"] if number else []
        if ratio or several:
            offset = (ARROW + 4 if several else 7, 0)
            ax.annotate(", ".join(ratio + several), (end, place), offset, **beside)


def _is_share(column: str) -> bool:
    return column.removeprefix("best_") in PERCENT


def _runs(records: Any) -> list[Records]:
    """The runs of a contender, of which there may be one."""
    return [records] if not records or isinstance(records[0], Mapping) else list(records)


def _median(curves: Sequence[np.ndarray], log: bool) -> np.ndarray:
    """The median of curves (2, m) on a grid of its own (2, GRID); between points they are straight."""
    if len(curves) == 1:
        return curves[0]
    ends = sorted(curve[0, -1] for curve in curves)
    end = ends[(len(ends) - 1) // 2]  # more than half of them go so far
    x = np.geomspace(min(max(curve[0, 0] for curve in curves), end), end, GRID)
    log = log and all((curve[1] > 0).all() for curve in curves)
    at = [np.interp(np.log(x), np.log(curve[0]), np.log(curve[1]) if log else curve[1]) for curve in curves]
    return np.array([x, np.median(np.exp(at) if log else at, axis=0)])


def _log_x(ax: Any) -> None:
    """A log axis with ticks at powers of ten, or 1, 2, 5, ... where there are few of these."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if high < 50 * low:
        log_ticks(ax.xaxis, form=lambda value: f"{value:g}" if value < 1e4 else f"{value / 1e3:g}k")
    ax.xaxis.set_minor_formatter(NullFormatter())


def _same(values: Sequence[float], others: Sequence[float]) -> bool:
    alike = len(values) == len(others)
    return alike and np.allclose(values, others, rtol=1e-9, atol=0, equal_nan=True)
