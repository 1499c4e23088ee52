"""The spectral density: how the eigenvalues of a large matrix are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .checks import some
from .style import GREY, VERMILLION, axes_for, labelled, pens, style
from .ticks import short

SMALLEST = 1e-5
"""Relative to the largest: nearer to 0 the axis is linear."""
PER_DECADE = 6
"""Intervals per decade of eigenvalues."""


@style()
def spectral_density(densities: Mapping[str, Any], *, ax: Any | None = None) -> Any:
    """Draw the share of eigenvalues in intervals of the same ratio, on axes that are logarithmic.

    Negative eigenvalues are to the left of 0, filled.

    Args:
        densities: by name, of :func:`minikfac.fisher.spectral_density`: ``nodes`` and ``weights``
            (vectors, steps) each.
        ax: axes to draw into.

    Raises:
        ValueError: on no densities.
    """
    ax = axes_for(ax)
    largest = max(float(abs(each.nodes).max()) for each in some(densities, "density").values()) or 1.0
    decades = np.geomspace(SMALLEST, 1.01, round(-np.log10(SMALLEST)) * PER_DECADE + 1) * largest
    edges = np.concatenate([-decades[::-1], decades])
    clearly, negative = -1e-3 * largest, 0.0
    for (name, density), look in zip(densities.items(), pens(densities).values(), strict=True):
        weights = density.weights / len(density.weights)
        shares = np.histogram(density.nodes, edges, weights=weights)[0]
        shares[shares <= 0] = np.nan  # nothing, on a log axis
        ax.stairs(shares, edges, label=name, color=look["color"], linestyle=look["linestyle"], baseline=None)
        below = edges[1:] < 0
        ax.stairs(np.where(below, shares, np.nan), edges, fill=True, color=VERMILLION, alpha=0.25)
        negative = max(negative, float(weights[density.nodes < clearly].sum()))
    ax.axvline(0, color=GREY, linestyle=":", linewidth=1)
    ax.set_xscale("symlog", linthresh=SMALLEST * largest)
    ax.set(yscale="log", xlim=(None if negative else -SMALLEST * largest, 1.5 * largest))
    title = f"The largest eigenvalue is {short(largest)}"
    if negative:
        title += f"; {negative:.1%} of the eigenvalues are under {short(clearly)}"
    return labelled(ax, title, "eigenvalue", "share of eigenvalues")
