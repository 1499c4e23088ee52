"""The blocks of a layer under more and more assumptions, next to each other on one scale."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..linalg import relative_error
from .checks import checked, some
from .matrices import pool_magnitudes
from .style import MAGNITUDE, WIDTH, panels, style

CELLS = 120
"""At most so many squares of entries per side of a matrix."""


@style()
def ladder_blocks(
    blocks: Mapping[str, Any],
    *,
    title: str | None = None,
    columns: int = 6,
) -> list[Any]:
    """Draw absolute values of several matrices in greys on one scale, with the error of each.

    Args:
        blocks: (P, P) each, by name; the first is the one that errors are relative to.
        title: of the figure; by default the errors that are the least and the last.
        columns: pictures beside each other.

    Returns:
        The axes, one per matrix.

    Raises:
        ValueError: on shapes that do not fit.
    """
    named = dict(some(dict(blocks), "block"))
    F = checked(next(iter(named.values())), ("P", "P"), "the first block", finite=True)
    matrices = {name: checked(M, F.shape, name, finite=True) for name, M in named.items()}
    if F.shape[0] != F.shape[1]:
        raise ValueError(f"expected square blocks, got shape {F.shape}")
    side = -(-len(F) // CELLS)
    exact = pool_magnitudes(F, side)
    limit = float(np.percentile(exact, 99)) or float(exact.max()) or 1.0
    columns = min(columns, len(matrices))
    width = WIDTH / columns
    axes = panels(len(matrices), columns, width + 0.5, 0.7)
    extent = (0, side * len(exact), side * len(exact), 0)
    errors = {name: relative_error(M, F) for name, M in matrices.items()}
    for number, (ax, (name, M)) in enumerate(zip(axes, matrices.items(), strict=True)):
        ax.imshow(pool_magnitudes(M, side), cmap=MAGNITUDE, vmin=0, vmax=limit, extent=extent)
        ax.set(xticks=[], yticks=[], xlim=(0, len(F)), ylim=(len(F), 0))
        ax.spines[:].set_visible(True)
        ax.set_title(textwrap.fill(name, max(12, int(9.5 * width))), fontsize="small")
        ax.set_xlabel(f"error {errors[name]:.2g}" if number else f"{len(F)} × {len(F)}", fontsize="small")
    square = f"mean of {side}×{side} entries" if side > 1 else "one entry"
    note = f"absolute values, white: 0, black: from {limit:.2g} nats per squared weight; a square: {square}"
    axes[0].figure.supxlabel(note, fontsize="small")
    *others, last = list(errors)[1:] or list(errors)
    least = min(others, key=errors.__getitem__, default=last)
    stated = ", ".join(f"{errors[name]:.2g} with {name}" for name in dict.fromkeys((last, least)))
    axes[0].figure.suptitle(title or f"Relative error of the block: {stated}")
    return axes
