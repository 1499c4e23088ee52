"""What pictures of several charts share: a colour and a dash each, hills, and distances between paths.

Curves that do not depend on the chart are black.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..backend import Array
from .checks import by_name, positive, some
from .style import BLACK, BLUE, GREEN, MAGNITUDE, MARKERS, PURPLE, VERMILLION

CHART_COLORS = (BLUE, VERMILLION, GREEN)
CHART_DASHES = ("-", (0, (4, 1.2)), (0, (1.3, 0.9)))
NATURAL: dict[str, Any] = {"color": BLACK, "linewidth": 1.3}
METHODS = ("gradient", "natural gradient")


def chart_names(charts: Mapping[str, Any]) -> list[str]:
    """Names of the charts, of which there are at most as many as colours."""
    names = list(some(dict(charts), "chart"))
    if len(names) > len(CHART_COLORS):
        raise ValueError(f"expected at most {len(CHART_COLORS)} charts, got {len(names)}")
    return names


def chart_pen(number: int, nested: bool = False) -> dict[str, Any]:
    """Colour and dash of a chart; nested, lines of decreasing width, so that coinciding ones all show."""
    color = CHART_COLORS[number]
    if nested:
        return {"color": color, "linewidth": (6.5, 3.8, 1.6)[number], "solid_capstyle": "round"}
    return {"color": color, "linewidth": 2.6, "linestyle": CHART_DASHES[number]}


def chart_legend(names: Sequence[str], dark: str) -> list[Any]:
    """Entries for the charts, for natural paths, and for what is dark."""
    charts = [Line2D([], [], label=name, **chart_pen(number)) for number, name in enumerate(names)]
    return [
        *charts,
        Line2D([], [], label="natural gradient", **NATURAL),
        Patch(facecolor="#ababab", label=dark),
    ]


def hills(ax: Any, grid: Array, f: Array) -> None:
    """Draw levels of a function on a grid (n, m, 2), light enough for paths on top."""
    x, y = np.moveaxis(grid, -1, 0)
    low, high = ends(f)
    levels = np.linspace(low, high, 12)
    ax.contourf(x, y, f, levels=levels, cmap=MAGNITUDE, vmin=low, vmax=low + 2.2 * (high - low))
    ax.contour(x, y, f, levels=levels[1:], colors="white", linewidths=0.8, linestyles="solid")


def start(ax: Any, place: Array) -> None:
    """Mark where paths begin."""
    ax.plot(*place, "o", color="white", markeredgecolor=BLACK, markersize=7, zorder=6)


def ends(values: Array) -> tuple[float, float]:
    """The smallest and the largest value."""
    return float(values.min()), float(values.max())


def disagreement(ax: Any, steps: Any, apart: Mapping[str, Any], ylabel: str) -> None:
    """Draw how far apart the paths of different charts are, against the step size h, with slopes.

    Slopes are fitted to the smaller half of the steps, where higher powers of h have died out.

    Args:
        ax: axes to draw into.
        steps: (s,), at least two.
        apart: (s,) each, positive, by name.
        ylabel: of the axes, with the unit of the distances.

    Raises:
        ValueError: on shapes that do not fit, or distances that are not positive.
    """
    h = positive(steps, "steps")
    if len(h) < 2:
        raise ValueError("expected at least two steps, got one")
    order = np.argsort(h)
    fitted = order[: max(2, (len(h) + 1) // 2)]
    curves = by_name(apart, (len(h),), "distances", "curve")
    for number, (name, distances) in enumerate(curves.items()):
        y = positive(distances, f"distances of {name}")
        slope = np.polyfit(np.log(h[fitted]), np.log(y[fitted]), 1)[0]
        label = f"{name}: slope {slope + 0.0:.2f}".replace("-0.00", "0.00")
        color, later = (PURPLE, BLACK)[number % 2], number % 4 > 1
        ax.plot(
            h[order],
            y[order],
            color=color,
            marker=MARKERS[number % len(MARKERS)],
            linestyle="--" if later else "-",
            markerfacecolor="white" if later else color,
            label=label,
        )
    ax.legend(loc="lower right", fontsize="small", handlelength=1.5, handletextpad=0.5, borderaxespad=0.2)
    low, high = ends(np.array(list(curves.values())))
    # room for the legend
    ax.set_ylim(low / (high / low) ** (0.12 * (1 + len(apart))), 2 * high)
    ax.set(xscale="log", yscale="log", xlabel="step size h", ylabel=ylabel)
    ax.set_title("natural steps agree as h → 0")
    ax.grid(True)
