"""The blocks of a layer under more and more assumptions, next to each other on one scale."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from .matrices import pool_magnitudes
from .style import MAGNITUDE, WIDTH, checked, new_figure, some, style


@style()
def ladder_blocks(
    blocks: Mapping[str, Any],
    *,
    title: str = "The block of a convolution under more and more assumptions",
    columns: int = 6,
    cells: int = 120,
) -> list[Any]:
    """Draw absolute values of several matrices in greys on one scale, with the error of each.

    Args:
        blocks: (P, P) each, by name; the first is the one that errors are relative to.
        title: of the figure.
        columns: pictures beside each other.
        cells: at most so many squares per side.

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
    side = -(-len(F) // cells)
    exact = pool_magnitudes(F, side)
    limit = float(np.percentile(exact, 99)) or float(exact.max()) or 1.0
    columns = min(columns, len(matrices))
    rows = -(-len(matrices) // columns)
    width = WIDTH / columns
    fig = new_figure(rows * (width + 0.5) + 0.7)
    axes = list(fig.subplots(rows, columns, squeeze=False).ravel())
    norm = float(np.linalg.norm(F)) or 1.0
    extent = (0, side * len(exact), side * len(exact), 0)
    for number, (ax, (name, M)) in enumerate(zip(axes, matrices.items(), strict=False)):
        ax.imshow(pool_magnitudes(M, side), cmap=MAGNITUDE, vmin=0, vmax=limit, extent=extent)
        ax.set(xticks=[], yticks=[], xlim=(0, len(F)), ylim=(len(F), 0))
        ax.spines[:].set_visible(True)
        ax.set_title(textwrap.fill(name, max(12, int(9.5 * width))), fontsize=11)
        wrong = np.linalg.norm(F - M) / norm
        ax.set_xlabel(f"wrong by {wrong:.0%}" if number else f"{len(F)} × {len(F)}", fontsize=11)
    for ax in axes[len(matrices) :]:
        ax.remove()
    square = f"mean of {side}×{side} entries" if side > 1 else "one entry"
    note = f"absolute values, white: 0, black: from {limit:.2g} nats per squared weight; a square: {square}"
    fig.supxlabel(note, fontsize=10)
    fig.suptitle(title)
    return axes[: len(matrices)]
