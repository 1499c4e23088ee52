"""Errors of estimates, by the number of samples and by the size of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from ..backend import Array
from .checks import by_name, checked, positive, some
from .style import GREY, axes_for, labelled, pens, style
from .ticks import plain_log_ticks, short


def median_and_range(ax: Any, x: Array, values: Array, look: Mapping[str, Any], label: str) -> Array:
    """Draw medians of values (m, k) at x (m,), shaded from the lowest to the highest; return the medians."""
    middle = np.median(values, axis=1)
    ax.plot(x, middle, label=label, **look)
    ax.fill_between(x, values.min(axis=1), values.max(axis=1), color=look["color"], alpha=0.25, linewidth=0)
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
    for name, look in pens(named, marked=True).items():
        median_and_range(ax, x, named[name], look, name)
    highest = max(1.0, *(float(error.max()) for error in named.values()))
    ax.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    ax.set(xscale="log", ylim=(0, 1.12 * highest))
    ax.set_xticks(x, [short(float(size)) for size in x])
    ax.xaxis.set_minor_locator(NullLocator())
    first, last = (np.median(next(iter(named.values()))[place]) for place in (0, -1))
    title = f"Statistics held constant: relative error {first:.2g} in batches of {short(float(x[0]))}, "
    title += f"{last:.2g} in batches of {short(float(x[-1]))}"
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
    anchor, seeds, last = None, set[int](), []
    for name, look in pens(some(dict(errors), "estimate"), marked=True).items():
        given = errors[name]
        if np.ndim(given) == 0:
            level = {"color": look["color"], "linestyle": "-."}
            ax.axhline(float(given), label=f"{name}: {short(float(given))}", **level)
            continue
        estimates = checked(given, (len(x), "seeds"), f"errors of {name}")
        seeds.add(estimates.shape[1])
        middle = median_and_range(ax, x, estimates, look, name)
        last.append(f"{middle[-1]:.2g} ({name.split(',')[0]})")
        anchor = middle[0] if anchor is None else anchor
    if anchor is not None:
        guide = 0.6 * anchor * np.sqrt(x[0] / x)
        ax.plot(x, guide, "--", color=GREY, linewidth=1.5, label="slope −1/2")
    of = f" (median and range of {', '.join(map(str, sorted(seeds)))} seeds)" if seeds else ""
    ax.set(xscale="log", yscale="log")
    if len(x) <= 12:
        ax.set_xticks(x, [short(count) for count in x])
        ax.xaxis.set_minor_locator(NullLocator())
    plain_log_ticks(ax.yaxis)
    title = f"Relative error at {short(float(x[-1]))} {xlabel}{of}:\n{', '.join(last) or 'none'}"
    return labelled(ax, title, xlabel, "relative error (Frobenius)")
