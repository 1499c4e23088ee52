"""K-FAC as a picture: one layer's block of F beside A, G and A (x) G, and the whole matrix below.

All greys are absolute values, white for 0, and their cube roots where layers differ much in size; what is
compared has one scale, whose black is the 99th percentile of the exact matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm

from ..backend import Array
from ..linalg import relative_error
from .checks import checked, some
from .matrices import draw_pooled, mark_layers, pool_magnitudes
from .style import BLUE, MAGNITUDE, new_figure, style

CELLS = 575
"""Most squares per side of the whole matrix."""
TITLES = (
    "exact block\n" + r"$\mathrm{E}[\bar a \bar a^T \otimes g g^T]$",
    r"$A = \mathrm{E}[\bar a \bar a^T]$",
    r"$G = \mathrm{E}[g g^T]$",
    r"$A \otimes G$",
    "difference",
)


@style()
def kronecker_factors(block: Any, A: Any, G: Any, *, name: str = "this layer") -> list[Any]:
    """Draw a layer's block of F, its factors A and G, their Kronecker product, and what differs.

    Args:
        block: (I O, I O), the layer's diagonal block of the exact Fisher matrix.
        A: (I, I), second moments of what goes into the layer.
        G: (O, O), second moments of the derivatives.
        name: of the layer, for the title.

    Returns:
        The axes: block, A, G, product, difference.

    Raises:
        ValueError: on shapes that do not fit, or values that are not finite.
    """
    A, G = checked(A, ("I", "I"), "A", finite=True), checked(G, ("O", "O"), "G", finite=True)
    block = checked(block, (len(A) * len(G),) * 2, "block", finite=True)
    fig = new_figure(3.6)
    title, axes = _layer(fig, fig.add_gridspec(1, 1)[0], block, A, G, name)
    fig.suptitle(title)
    return axes


def _layer(fig: Any, place: Any, block: Array, A: Array, G: Array, name: str) -> tuple[str, list[Any]]:
    """Draw the row of one layer; its title and axes."""
    n_in, n_out = len(A), len(G)
    product = np.kron(A, G)
    grid = place.subgridspec(1, 5, width_ratios=[2.2, 1.15, 0.9, 2.2, 2.2])
    axes = [fig.add_subplot(grid[0, column]) for column in range(5)]
    black = float(np.percentile(np.abs(block), 97)) or 1.0
    error = relative_error(product, block)
    blacks = (black, np.abs(A).max(), np.abs(G).max(), black, black)
    pictures = (block, A, G, product, block - product)
    for ax, M, limit, title in zip(axes, pictures, blacks, TITLES, strict=True):
        ax.imshow(np.abs(M), cmap=MAGNITUDE, vmin=0, vmax=limit or 1.0, interpolation="nearest")
        _frame(ax, title, f"{len(M)} × {len(M)}\n{M.size:,} numbers")
        if M.shape == block.shape:
            _grid(ax, n_in, n_out)
    axes[3].set_xlabel(f"{n_in} × {n_in} copies of G,\ntimes entries of A")
    axes[4].set_xlabel(f"relative error {error:.2f}\n(Frobenius norm)")
    for ax, sign in zip(axes[1:4], "≈⊗=", strict=True):
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 22}
        ax.annotate(sign, (0, 0.5), (-17, 0), "axes fraction", "offset points", **look)
    stored = f"{A.size + G.size:,} numbers in place of {block.size:,}"
    return f"One layer ({name}): {stored}, with a relative error of {error:.2f}", axes


@style()
def kfac_picture(F: Any, factors: Sequence[tuple[Any, Any]], names: Sequence[str], layer: int) -> list[Any]:
    """Draw K-FAC: the factors of one layer, and below the exact matrix beside all of K-FAC.

    Args:
        F: (P, P), the exact Fisher matrix of all layers.
        factors: A (I, I) and G (O, O) of each layer; the products I O add up to P.
        names: of the layers.
        layer: index of the one whose factors are drawn.

    Returns:
        The axes: those of :func:`kronecker_factors`, then F, K-FAC and the difference.

    Raises:
        ValueError: on shapes that do not fit, or values that are not finite.
    """
    pairs = [
        (checked(A, ("I", "I"), "A", finite=True), checked(G, ("O", "O"), "G", finite=True))
        for A, G in some(list(factors), "layer")
    ]
    sizes = [len(A) * len(G) for A, G in pairs]
    F = checked(F, (sum(sizes),) * 2, "F", finite=True)
    kfac = np.zeros_like(F)
    rows = [slice(a, b) for a, b in pairwise(np.cumsum([0, *sizes]))]
    for place, (A, G) in zip(rows, pairs, strict=True):
        kfac[place, place] = np.kron(A, G)
    fig = new_figure(8.1)
    grid = fig.add_gridspec(4, 1, height_ratios=[0.25, 3.2, 0.25, 4])
    title, above = _layer(fig, grid[1], F[rows[layer], rows[layer]], *pairs[layer], names[layer])
    _heading(fig, grid[0], title)
    title, below = _whole(fig, grid[3], F, kfac, names, rows, sum(A.size + G.size for A, G in pairs))
    _heading(fig, grid[2], title)
    return above + below


def _heading(fig: Any, place: Any, title: str) -> None:
    ax = fig.add_subplot(place)
    ax.axis("off")
    ax.text(
        0.5,
        0.5,
        title,
        ha="center",
        va="center",
        fontsize=matplotlib.rcParams["figure.titlesize"],
        transform=ax.transAxes,
    )


def _whole(
    fig: Any, place: Any, F: Array, kfac: Array, names: Sequence[str], rows: Sequence[slice], floats: int
) -> tuple[str, list[Any]]:
    """The exact matrix, K-FAC and the difference, on one scale; their title and axes."""
    norm = np.linalg.norm(F) or 1.0
    error = relative_error(kfac, F)
    blocks = sum((F[layer, layer] ** 2).sum() for layer in rows)
    between = max(0.0, 1 - blocks / norm**2) ** 0.5
    side = -(-len(F) // CELLS)
    limit = float(np.percentile(pool_magnitudes(F, side), 99)) or 1.0
    titles = ("exact Fisher matrix F", "K-FAC: block-diagonal", "difference")
    notes = (
        f"{len(F):,} × {len(F):,}\n{F.size:,} numbers",
        f"one A ⊗ G per layer\n{floats:,} numbers",
        f"relative error {error:.2f};\nbetween layers alone {between:.2f}",
    )
    grid = place.subgridspec(1, 3)
    axes = [fig.add_subplot(grid[0, column]) for column in range(3)]
    sizes = [layer.stop - layer.start for layer in rows]
    for ax, M, title, note in zip(axes, (F, kfac, F - kfac), titles, notes, strict=True):
        draw_pooled(ax, M, side, limit)
        ax.images[0].set_norm(PowerNorm(1 / 3, 0, limit))  # layers differ by factors of hundreds
        mark_layers(ax, ["" for _ in names], sizes, False, False, True)
        _frame(ax, title, note)
    axes[0].set_yticks(np.cumsum(sizes) - np.array(sizes) / 2, names, va="center")
    note = "greys: absolute values (below: their cube roots), white is 0; in a row one scale for each size"
    fig.supxlabel(note, fontsize="small")
    return (
        f"All layers: {floats:,} numbers in place of {F.size:,}, with a relative error of {error:.2f}",
        axes,
    )


def _frame(ax: Any, title: str, note: str) -> None:
    ax.set(xticks=[], yticks=[], title=title, xlabel=note)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(True)


def _grid(ax: Any, n_in: int, n_out: int) -> None:
    """Lines between the I x I blocks of O x O entries."""
    for number in range(1, n_in):
        ax.axhline(number * n_out - 0.5, color=BLUE, linewidth=0.35, alpha=0.5)
        ax.axvline(number * n_out - 0.5, color=BLUE, linewidth=0.35, alpha=0.5)
