"""Errors of estimates, by the number of samples and by the size of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from ..backend import Array
from .checks import by_name, checked, positive, some
from .style import COLORS, GREY, axes_for, labelled, marked_pen, style
from .ticks import plain_log_ticks, short


def median_and_range(ax: Any, x: Array, values: Array, number: int, label: str) -> Array:
    """Draw medians of values (m, k) at x (m,), shaded from the lowest to the highest; return the medians."""
    color, middle = COLORS[number % len(COLORS)], np.median(values, axis=1)
    ax.plot(x, middle, label=label, **marked_pen(number))
    ax.fill_between(x, values.min(axis=1), values.max(axis=1), color=color, alpha=0.25, linewidth=0)
    return middle


@style()
def error_against_batch(batch_sizes: Any, errors: Mapping[str, Any], *, ax: Any | None = None) -> Any:
    """Draw relative errors against the batch size, as median and range over batches.

    Args:
        batch_sizes: (m,).
        errors: (m, batches) each, relative Frobenius errors by name.
        ax: axes to draw into.

    Raises:
        ValueError: on negative errors.
    """
    x = positive(batch_sizes, "batch_sizes")
    ax = axes_for(ax)
    named = by_name(errors, (len(x), "batches"), "errors", "curve", finite=True, low=0)
    for number, (name, error) in enumerate(named.items()):
        median_and_range(ax, x, error, number, name)
    highest = max(1.0, *(float(error.max()) for error in named.values()))
    ax.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    ax.set(xscale="log", ylim=(0, 1.12 * highest))
    ax.set_xticks(x, [short(float(size)) for size in x])
    ax.xaxis.set_minor_locator(NullLocator())
    title = "Statistics of the batch held constant, against the joint Fisher matrix"
    return labelled(ax, title, "examples in the batch", "relative error (Frobenius)")


@style()
def monte_carlo_error(
    n_samples: Any, errors: Mapping[str, Any], *, xlabel: str = "sampled targets", ax: Any | None = None
) -> Any:
    """Draw relative errors of estimates of the Fisher matrix against the number of samples.

    Estimates that converge follow the line of slope -1/2; the empirical Fisher matrix, which uses the
    labels, stays where it is.

    Args:
        n_samples: (m,).
        errors: by name, (m, seeds) relative errors, drawn as median and range; or one number, drawn as a
            level.
        xlabel: what is counted.
        ax: axes to draw into.
    """
    x = positive(n_samples, "n_samples")
    ax = axes_for(ax)
    anchor, seeds = None, set[int]()
    for number, (name, given) in enumerate(some(dict(errors), "estimate").items()):
        if np.ndim(given) == 0:
            look = {"color": marked_pen(number)["color"], "linestyle": "-."}
            ax.axhline(float(given), label=f"{name}: {short(float(given))}", **look)
            continue
        estimates = checked(given, (len(x), "seeds"), f"errors of {name}")
        seeds.add(estimates.shape[1])
        middle = median_and_range(ax, x, estimates, number, name)
        anchor = middle[0] if anchor is None else anchor
    if anchor is not None:
        guide = 0.6 * anchor * np.sqrt(x[0] / x)
        ax.plot(x, guide, "--", color=GREY, linewidth=1.5, label="slope -1/2")
    of = f"\n(median and range of {', '.join(map(str, sorted(seeds)))} seeds)" if seeds else ""
    ax.set(xscale="log", yscale="log")
    if len(x) <= 12:
        ax.set_xticks(x, [short(count) for count in x])
        ax.xaxis.set_minor_locator(NullLocator())
    plain_log_ticks(ax.yaxis)
    return labelled(ax, f"Error of estimated Fisher matrices{of}", xlabel, "relative error (Frobenius)")
