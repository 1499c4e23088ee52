"""How every figure of the package looks.

A figure made here is 1280 pixels wide, its letters are legible at that size, and its colours can be told
apart by colour-blind readers (the palette of Okabe and Ito); lines differ in dash or marker as well.
Magnitudes are drawn in greys, white for 0; signed values in purple to orange, white for 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler

from ..backend import Array
from .ticks import short

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, YELLOW, GREY = "#E69F00", "#56B4E9", "#000000", "#F0E442", "#767676"
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
MAGNITUDE = "Greys"
SIGNED = "PuOr_r"

WIDTH = 10.0
"""Inches; times 128 dots per inch this is 1280 pixels."""

RC: dict[str, Any] = {
    "figure.dpi": 128,
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "lines.linewidth": 2.0,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "lines.markersize": 6.0,
    "axes.prop_cycle": cycler(color=COLORS),
}

_in_force: ContextVar[bool] = ContextVar("minikfac plots style in force", default=False)


@contextmanager
def style(changes: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw in the style of the package; figures of your own too.

    The functions of this part use it by themselves, unless one is in force already.

    Args:
        changes: matplotlib settings on top, such as ``{"font.size": 16}``.

    >>> with style({"figure.dpi": 200}):
    ...     matplotlib.rcParams["figure.dpi"]
    200.0
    """
    if _in_force.get() and not changes:
        yield
        return
    token = _in_force.set(True)
    try:
        with matplotlib.rc_context({**RC, **(changes or {})}):
            yield
            interactive = matplotlib.is_interactive()
        # A notebook switches it on with its first figure; restored settings would show no further one.
        matplotlib.interactive(interactive)
    finally:
        _in_force.reset(token)


def pen(number: int) -> dict[str, Any]:
    """Colour and dash of the curve of this number; both differ once there are more curves than colours."""
    dash = number + number // len(COLORS)
    return {"color": COLORS[number % len(COLORS)], "linestyle": DASHES[dash % len(DASHES)]}


def marked_pen(number: int) -> dict[str, Any]:
    """Colour and marker of the curve of this number, where points are few."""
    return {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)]}


def new_figure(height: float, width: float = WIDTH) -> Any:
    """A new figure of this size in inches."""
    return plt.figure(figsize=(width, height), layout="constrained")


def panels(count: int, columns: int, row_height: float, margin: float) -> list[Any]:
    """Axes of a new figure, row by row; heights in inches, of a row and of what is around all of them."""
    rows = -(-count // columns)
    axes = new_figure(rows * row_height + margin).subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.remove()
    return list(axes[:count])


def axes_for(ax: Any | None, height: float = 5.4, width: float = WIDTH) -> Any:
    """The axes that were given, or those of a new figure of this size in inches."""
    return new_figure(height, width).add_subplot() if ax is None else ax


def labelled(ax: Any, title: str, xlabel: str, ylabel: str, **legend: Any) -> Any:
    """Set title and labels, draw a grid and a legend where curves have names, and return the axes."""
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.grid(True)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(**legend)
    return ax


def signed_image(ax: Any, values: Array, limit: float | None = None, **options: Any) -> float:
    """Draw signed values on a scale symmetric about 0, which is written below; return its limit."""
    limit = limit or float(np.abs(values).max()) or 1.0
    ax.imshow(values, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest", **options)
    ax.set(xticks=[], yticks=[], xlabel=f"±{short(limit)}")
    ax.spines[:].set_visible(True)
    return limit


def write_numbers(
    ax: Any, values: Array, form: Callable[[float], str], dark: float, size: int | None = None
) -> None:
    """Write each value of an image into its square, in white where its magnitude is above ``dark``."""
    for (row, column), value in np.ndenumerate(values):
        color = "white" if abs(value) > dark else "black"
        text = form(value).replace("-", "−")
        ax.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
