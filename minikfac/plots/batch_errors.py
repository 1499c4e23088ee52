"""How an error depends on the size of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.ticker import NullLocator

from .checks import by_name, positive
from .style import GREY, axes_for, labelled, median_and_range, style
from .ticks import short


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
