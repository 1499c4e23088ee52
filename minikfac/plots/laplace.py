"""The uncertainty of a posterior over weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backend import Array
from .checks import some
from .style import BLACK, BLUE, labelled, panels, style


@style()
def regression_bands(x: Array, y: Array, grid: Array, bands: Mapping[str, tuple[Array, Array]]) -> list[Any]:
    """Draw data, mean and two standard deviations of a regression with one input, a panel for each posterior.

    The titles have the largest standard deviation within the range of the data over the mean at the data.

    Args:
        x, y: the data, (N,) each.
        grid: inputs of the curves in increasing order, (M,).
        bands: by name, mean and standard deviation at the grid, (M,) each.

    Raises:
        ValueError: on no bands.
    """
    axes = panels(len(some(bands, "band")), 2, 3.0, 0.3)
    inside = (grid > x.min()) & (grid < x.max())
    for ax, (name, (mean, sd)) in zip(axes, bands.items(), strict=True):
        ax.fill_between(grid, mean - 2 * sd, mean + 2 * sd, color=BLUE, alpha=0.25, linewidth=0)
        ax.plot(grid, mean, color=BLUE)
        ax.plot(x, y, ".", color=BLACK, markersize=4)
        ratio = float(sd[inside].max()) / float(np.interp(x, grid, sd).mean())
        labelled(ax, f"{name}: {ratio:.1f} times as wide in the gap", "x", "y")
        ax.set_ylim(y.min() - 2, y.max() + 2)
    return axes
