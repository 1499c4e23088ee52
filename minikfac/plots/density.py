"""The spectral density: how the eigenvalues of a large matrix are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .checks import checked, some
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
        ValueError: on no densities, or nodes and weights of different shapes.
    """
    ax = axes_for(ax)
    spectra = {}
    for name, density in some(dict(densities), "density").items():
        nodes = checked(density.nodes, ("vectors", "steps"), f"nodes of {name}", finite=True)
        weights = checked(density.weights, nodes.shape, f"weights of {name}", low=0, high=1)
        spectra[name] = nodes.ravel(), weights.ravel() / len(weights)
    largest = max(float(abs(nodes).max()) for nodes, _ in spectra.values()) or 1.0
    decades = np.geomspace(SMALLEST, 1.01, round(-np.log10(SMALLEST)) * PER_DECADE + 1) * largest
    edges = np.concatenate([-decades[::-1], decades])
    negative = 0.0
    for (name, (nodes, weights)), look in zip(spectra.items(), pens(spectra).values(), strict=True):
        shares = np.histogram(nodes, edges, weights=weights)[0]
        shares[shares <= 0] = np.nan  # nothing, on a log axis
        ax.stairs(shares, edges, label=name, color=look["color"], linestyle=look["linestyle"], baseline=None)
        below = edges[1:] < 0
        ax.stairs(np.where(below, shares, np.nan), edges, fill=True, color=VERMILLION, alpha=0.25)
        negative = max(negative, float(np.nansum(shares[below])))
    ax.axvline(0, color=GREY, linestyle=":", linewidth=1)
    ax.set_xscale("symlog", linthresh=SMALLEST * largest)
    ax.set(yscale="log", xlim=(None if negative else -SMALLEST * largest, 1.5 * largest))
    title = f"The largest eigenvalue is {short(largest)}"
    if negative:
        title += f"; {negative:.0%} of the eigenvalues are clearly negative"
    return labelled(ax, title, "eigenvalue", "share of eigenvalues")
