"""How every figure of the package looks, and the checks of the arrays that come in.

A figure made here is 1280 pixels wide, its letters are legible at that size, and its colours can be told
apart by colour-blind readers (the palette of Okabe and Ito); lines differ in dash or marker as well.
Magnitudes are drawn in greys, white for 0; signed values in purple to orange, white for 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..backend import Array, to_host

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


def median_and_range(ax: Any, x: Array, values: Array, number: int, label: str) -> Array:
    """Draw medians of values (m, k) at x (m,), shaded from the lowest to the highest; return the medians."""
    color, middle = COLORS[number % len(COLORS)], np.median(values, axis=1)
    ax.plot(x, middle, label=label, **marked_pen(number))
    ax.fill_between(x, values.min(axis=1), values.max(axis=1), color=color, alpha=0.25, linewidth=0)
    return middle


def new_figure(height: float, width: float = WIDTH) -> Any:
    """A new figure of this size in inches."""
    return plt.figure(figsize=(width, height), layout="constrained")


def axes_for(ax: Any | None, height: float = 5.4, width: float = WIDTH) -> Any:
    """The axes that were given, or those of a new figure of this size in inches."""
    return new_figure(height, width).add_subplot() if ax is None else ax


def checked(array: Any, shape: tuple[int | str, ...], what: str, finite: bool = False) -> Array:
    """Copy to the host and check the shape.

    Args:
        array: NumPy, CuPy or a list of numbers.
        shape: per axis a length, or a letter for any length.
        what: names the array in the error.
        finite: whether NaN and infinite values are refused too.

    Raises:
        ValueError: on another shape, or on values that are not finite.

    >>> checked([[1, 2, 3]], ("n", 2), "samples")
    Traceback (most recent call last):
    ValueError: expected samples of shape (n, 2), got (1, 3)
    """
    values = to_host(array)
    values = values if values.dtype.kind == "f" else values.astype(float)
    if values.ndim != len(shape) or any(
        isinstance(extent, int) and extent != length
        for extent, length in zip(shape, values.shape, strict=True)
    ):
        expected = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"expected {what} of shape ({expected}), got {values.shape}")
    if 0 in values.shape:
        raise ValueError(f"expected {what} with at least one entry, got shape {values.shape}")
    if finite and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"expected finite {what}, got NaN or infinite values in {bad} entries")
    return values


def positive(values: Any, what: str) -> Array:
    """Check a vector (m,) of positive numbers, for a log axis."""
    vector = checked(values, ("m",), what, finite=True)
    if vector.min() <= 0:
        raise ValueError(f"expected {what} > 0, got {float(vector.min()):.3g}")
    return vector


def by_name(
    arrays: Mapping[str, Any], shape: tuple[int | str, ...], what: str, entry: str, finite: bool = False
) -> dict[str, Array]:
    """Check arrays by name, of which there is at least one, as :func:`checked` does.

    >>> by_name({}, ("k",), "losses", "run")
    Traceback (most recent call last):
    ValueError: expected at least one run, got none
    """
    return {
        name: checked(array, shape, f"{what} of {name}", finite)
        for name, array in some(dict(arrays), entry).items()
    }


def some(entries: Any, what: str) -> Any:
    """Return entries; ValueError if there are none."""
    if not entries:
        raise ValueError(f"expected at least one {what}, got none")
    return entries


def short(value: float) -> str:
    """A number for a label, three digits at most.

    >>> short(0.12345), short(1234.5), short(0.000123), short(7.0)
    ('0.123', '1230', '1.2e-04', '7')
    """
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e4:
        digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
        text = f"{round(value, 2 - int(np.floor(np.log10(abs(value))))):.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.1e}"


def plain_log_ticks(axis: Any) -> None:
    """Ticks 1, 2, 5, 10, ... with plain numbers on a log axis that spans few decades."""
    low, high = axis.get_view_interval()
    if high / low < 10**3:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.set_minor_formatter(NullFormatter())


def whole_log_ticks(axis: Any) -> None:
    """Ticks with whole numbers on a log axis, closer ones where it spans less than a decade."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7) if high < 10 * low else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else short(value)))
    axis.set_minor_formatter(NullFormatter())
