"""How an error depends on the size of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.ticker import NullLocator

from .style import GREY, axes_for, by_name, median_and_range, positive, short, style


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
    highest = 1.0
    named = by_name(errors, (len(x), "batches"), "errors", "curve", finite=True)
    for number, (name, error) in enumerate(named.items()):
        if error.min() < 0:
            raise ValueError(f"expected errors of {name} >= 0, got {float(error.min()):.3g}")
        median_and_range(ax, x, error, number, name)
        highest = max(highest, float(error.max()))
    ax.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    ax.set(xscale="log", ylim=(0, 1.12 * highest))
    ax.set_title("Statistics of the batch held constant, against the joint Fisher matrix")
    ax.set_xticks(x, [short(float(size)) for size in x])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("examples in the batch")
    ax.set_ylabel("relative error (Frobenius)")
    ax.grid(True)
    ax.legend()
    return ax
