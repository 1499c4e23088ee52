"""Races between optimizers: losses by seconds, steps and examples."""

from __future__ import annotations

import math
import textwrap
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

AXES = ("seconds", "step", "examples")
GRID = 300
"""Points at which a median of runs is taken."""

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
    handles = panels[0].get_legend_handles_labels()[0]
    fig.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), title=note)
    stated = _headline(named, y)
    if len(stated) > 88:  # two lines of about the same length
        stated = textwrap.fill(stated, len(stated) // 2 + 8)
    fig.suptitle(f"{stated}\n{title or label(y).split(' (')[0].capitalize()}")
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
    shown = f"{short(100 * low)}%" if _is_share(y) else short(low)
    if best == first or not 0 < to_level(best, "step") < math.inf:
        return f"{first}: {shown} at the least" + ", which no other reaches" * math.isinf(
            to_level(best, "step")
        )
    steps, seconds = (to_level(first, x) / to_level(best, x) for x in ("step", "seconds"))
    fewer = f"{steps:.2g} times fewer steps, {seconds:.2g} times fewer seconds"
    return f"{best} reaches the lowest of {first}, {shown}, in {fewer}"


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


def label(column: str) -> str:
    """What an axis says of a column; ``best_`` stands before what is of the iterate or the average.

    >>> label("best_test_error")
    'best test error (% of examples)'
    """
    plain = column.removeprefix("best_")
    return ("" if plain == column else "best ") + LABELS.get(plain, plain.replace("_", " "))


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
