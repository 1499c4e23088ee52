"""How every figure of the package looks.

A figure made here is 1280 pixels wide, its letters are legible at that size, and its colours can be told
apart by colour-blind readers (the palette of Okabe and Ito); lines differ in dash or marker as well.
Magnitudes are drawn in greys, white for 0; signed values in purple to orange, white for 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
INK = "#333333"
"""Of names beside points and curves."""
MAGNITUDE = "Greys"
SIGNED = "PuOr_r"

LOOKS: dict[tuple[str, Any, str], tuple[str, ...]] = {
    (BLACK, ":", "*"): ("exact", "exact Fisher", "exact natural gradient", "natural gradient"),
    (BLACK, "--", "*"): ("sampled Fisher matrix",),
    (BLUE, "-", "o"): ("K-FAC", "K-FAC, exact damping", "sampled K-FAC", "K-FAC, (A ⊗ G + λI)⁻¹"),
    (BLUE, "--", "P"): ("K-FAC (factored damping)", "K-FAC, factored damping", "K-FAC, damped"),
    (BLUE, "-.", "p"): ("KFC-pre",),
    (SKY, "-.", "X"): ("EKFAC",),
    (SKY, ":", "<"): ("nearest Kronecker",),
    (GREEN, "--", "s"): ("block-diagonal", "block-exact"),
    (GREEN, "-.", "D"): ("block-tridiagonal", "K-FAC tridiagonal", "block-tridiagonal, factored damping"),
    (ORANGE, "--", "^"): ("low rank",),
    (ORANGE, "-.", "^"): ("Nesterov", "gradient with the best momentum"),
    (PURPLE, "--", "v"): ("diagonal", "diagonal Fisher"),
    (PURPLE, ":", "v"): ("Adam",),
    (VERMILLION, ":", "d"): ("no curvature", "gradient"),
    (VERMILLION, "--", "d"): ("SGD",),
    (VERMILLION, "--", "s"): ("gradient, the best step",),
    (GREY, "-", "d"): ("gradient, a small step",),
}
"""Colour, dash and marker, and the methods that have them in every figure; families share a colour."""
METHODS = {name: look for look, names in LOOKS.items() for name in names}
_PLAIN = {name.lower().replace("-", " "): look for name, look in METHODS.items()}

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
    "legend.edgecolor": "none",
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


def pens(names: Iterable[str], marked: bool = False) -> dict[str, dict[str, Any]]:
    """Return the look of each curve: methods as in :data:`METHODS`, K-FAC bold; other names in turn.

    A variant, as "SGD, constant rate", has its method's colour, and a dash and a marker of its own.

    Args:
        names: of the curves of one figure.
        marked: with markers too, where points are few.

    >>> pens(["K-FAC", "mine"], marked=True)["mine"]
    {'color': '#D55E00', 'marker': 's', 'zorder': 2}
    """
    names = list(names)
    bases = {name: _look_of_method(name) for name in names}
    used = {base[0] for base in bases.values() if base}
    free = sorted(range(len(COLORS)), key=lambda number: COLORS[number] in used)
    free += range(len(COLORS), len(COLORS) + len(names))
    looks: dict[str, dict[str, Any]] = {}
    for name, base in bases.items():
        if base:
            color, dash, marker = base
            taken = [look for look in looks.values() if look["color"] == color]
            if dash in [look["linestyle"] for look in taken]:
                dash, marker = DASHES[-len(taken)], MARKERS[-len(taken)]
            look = {"color": color, "linestyle": dash} | ({"marker": marker} if marked else {})
        else:
            look = (marked_pen if marked else pen)(free.pop(0))
        bold = {"linewidth": 3.2, "zorder": 3} if name.lower() == "k-fac" else {"zorder": 2}
        looks[name] = look | bold
    return looks


def _look_of_method(name: str) -> tuple[str, Any, str] | None:
    """That of "SGD" for "SGD, constant rate" and, as files are named, for "sgd-constant-rate"."""
    plain = name.lower().replace("-", " ")
    words = plain.split() if " " not in name else []
    names = [plain, plain.split(", ")[0], *(" ".join(words[:count]) for count in range(len(words), 0, -1))]
    return next((_PLAIN[name] for name in names if name in _PLAIN), None)


def name_points(
    ax: Any,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    ends: bool = False,
    size: float = 11,
) -> None:
    """Write a name beside each point, so that no two names overlap; the axes must have their limits.

    Args:
        ax: the axes.
        points: in data coordinates.
        names: of each; K-FAC's is bold.
        ends: the points are right ends of curves: names lie to the right, outside the axes, in their order.
        size: of the letters.
    """
    ax.figure.draw_without_rendering()  # where things are is known once the layout is
    scale = 72 / ax.figure.dpi
    places = ax.transData.transform(np.asarray(points, dtype=float)) * scale  # in points of 1/72 inch
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    frame = ax.get_window_extent().extents * scale
    order = np.argsort([-height for _, height in points], kind="stable") if ends else range(len(points))
    for number in order:
        point, place, name = points[number], places[number], names[number]
        width, height = 0.58 * size * len(name), 1.25 * size
        best: Any = None
        for dx, dy in _ENDS if ends else _AROUND:
            x = place[0] + dx - (width if dx < 0 else width / 2 if dx == 0 else 0)
            box = (x, place[1] + dy - height / 2, x + width, place[1] + dy + height / 2)
            inside = frame[0] < box[0] and box[2] < frame[2] and frame[1] < box[1] and box[3] < frame[3]
            clashes = sum(_overlap(box, other) for other in taken) + 5 * (not (ends or inside))
            if best is None or clashes < best[0]:
                best = (clashes, dx, dy, box)
        _, dx, dy, box = best
        taken.append(box)
        line = {
            "arrowstyle": "-",
            "color": INK,
            "linewidth": 0.8,
            "shrinkA": 0,
            "shrinkB": 3,
            "relpos": (0.5 - 0.5 * np.sign(dx), 0.5),
        }
        text = ax.annotate(
            name, point, (dx, dy), textcoords="offset points", color=INK, fontsize=size, va="center",
            ha="left" if dx > 0 else "right" if dx < 0 else "center", annotation_clip=False,
            arrowprops=line if abs(dy) > height else None, weight="bold" if name == "K-FAC" else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )  # fmt: skip
        text.set_in_layout(False)


_AROUND = [(9, 0), (-9, 0), (0, 13), (0, -13)]
_AROUND += [(side * 12, up * 13 * far) for far in range(1, 6) for side in (1, -1) for up in (1, -1)]
_ENDS = [(8 if far < 4 else 16, -far) for far in range(0, 120, 3)]


def _overlap(box: Sequence[float], other: Sequence[float]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


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
    """Return the given axes, or those of a new figure of this size in inches."""
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
    ax: Any, values: Array, form: Callable[[float], str], dark: float, size: float | str | None = None
) -> None:
    """Write each value of an image into its square, in white where its magnitude is above ``dark``."""
    for (row, column), value in np.ndenumerate(values):
        color = "white" if abs(value) > dark else "black"
        text = form(value).replace("-", "−")
        ax.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
