"""How an error depends on the size of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from .spectra import positive
from .style import COLORS, GREY, MARKERS, axes_for, checked, short, some, style


@style()
def error_against_batch(
    batch_sizes: Any,
    errors: Mapping[str, Any],
    *,
    title: str = "Statistics of the batch held constant, against the joint Fisher matrix",
    ax: Any | None = None,
) -> Any:
    """Draw relative errors against the batch size, as median and range over batches.

    Args:
        batch_sizes: (m,).
        errors: (m, batches) each, relative Frobenius errors by name.
        title: of the axes.
        ax: axes to draw into.

    Raises:
        ValueError: on negative errors.
    """
    x = positive(batch_sizes, "batch_sizes")
    ax = axes_for(ax)
    highest = 1.0
    for number, (name, given) in enumerate(some(dict(errors), "curve").items()):
        found = checked(given, (len(x), "batches"), f"errors of {name}", finite=True)
        if found.min() < 0:
            raise ValueError(f"expected errors of {name} >= 0, got {float(found.min()):.3g}")
        color = COLORS[number % len(COLORS)]
        ax.plot(x, np.median(found, axis=1), color=color, marker=MARKERS[number % len(MARKERS)], label=name)
        ax.fill_between(x, found.min(axis=1), found.max(axis=1), color=color, alpha=0.25, linewidth=0)
        highest = max(highest, float(found.max()))
    ax.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    ax.set(xscale="log", ylim=(0, 1.12 * highest), title=title)
    ax.set_xticks(x, [short(float(size)) for size in x])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("examples in the batch")
    ax.set_ylabel("relative error (Frobenius)")
    ax.grid(True)
    ax.legend()
    return ax
