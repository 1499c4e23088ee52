"""Walks away from exact cases: errors of KFC and its relatives against a knob."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .checks import by_name, checked, complete
from .style import GREY, axes_for, panels, pens, style
from .ticks import short

FLOOR = 1e-3
"""Errors are drawn on a log axis down to here, and linearly below."""
ROUNDING = 1e-10
"""Errors below this are exact."""


@style()
def walk(values: Any, errors: Mapping[str, Any], knob: str, title: str = "", *, ax: Any | None = None) -> Any:
    """Draw errors along a knob; those that are rounding lie on the line marked "exact", filled.

    Args:
        values: (m,), of the knob, in ascending order; drawn at equal distances.
        errors: (m,) each, relative Frobenius errors by name of the approximation.
        knob: what is turned.
        title: of the axes.
        ax: axes to draw into.

    Raises:
        ValueError: on negative errors.
    """
    x = checked(values, ("m",), "values")
    ax = axes_for(ax)
    places = np.arange(len(x))
    curves = by_name(errors, (len(x),), "errors", "approximation", finite=True, low=0)
    highest = max(1.0, *(float(y.max()) for y in curves.values()))
    for number, (name, pen) in enumerate(pens(curves, marked=True).items()):
        exact = curves[name] < ROUNDING
        drawn = np.where(exact, 0, curves[name])
        pen |= {"linestyle": "-"}
        ax.plot(places, drawn, label=name, markerfacecolor="white", clip_on=False, **pen | {"zorder": 3})
        if exact.any():
            size = max(5, 12 - 3 * number)  # one within the other where they coincide
            dots = pen | {"linestyle": "", "markersize": size, "zorder": 4}
            ax.plot(places[exact], drawn[exact], clip_on=False, **dots)
    ax.set_yscale("symlog", linthresh=FLOOR, linscale=0.6)
    decades = [10.0**power for power in range(-3, int(np.ceil(np.log10(highest))) + 1)]
    ticks = [0.0, *(tick for tick in decades if tick <= 1.01 * highest)]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "exact" if value == 0 else f"{value:g}"))
    ax.set_ylim(0, 1.7 * highest)
    ax.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    ax.set_xticks(places, [short(float(value)) for value in x])
    ax.set(xlabel=knob, ylabel="relative error (Frobenius)")
    ax.set_title(title, fontsize="small")
    ax.grid(True)
    return ax


@style()
def exactness(walks: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Draw several walks, two beside each other.

    Args:
        walks: each with ``values``, ``errors``, ``knob`` and ``title``, as for :func:`walk`.

    Returns:
        The axes, one per walk.

    Raises:
        ValueError: on no walks, or one that lacks a key.
    """
    keys = ("values", "errors", "knob", "title")
    complete(walks, keys, "walk")
    axes = panels(len(walks), min(2, len(walks)), 3.6, 0.9)
    for ax, one in zip(axes, walks, strict=True):
        walk(*(one[key] for key in keys), ax=ax)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    smallest = {name: [np.min(one["errors"].get(name, np.inf)) for one in walks] for name in labels}
    stated = ", ".join(f"{name} in {sum(np.array(errors) < ROUNDING)}" for name, errors in smallest.items())
    axes[0].figure.suptitle(f"Exact somewhere (filled): {stated} of {len(walks)} pictures")
    return axes
