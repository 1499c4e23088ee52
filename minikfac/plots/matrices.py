"""Matrices of parameters by parameters, as pictures [MG15, figs. 2, 3, 5, 6].

A Fisher matrix of some thousand rows has more entries than a picture has pixels. Squares of entries are
averaged before drawing, so that what is seen is a statement about all entries and not about those that a
pixel happens to hit.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from ..backend import Array
from ..linalg import relative_error
from .checks import checked, some
from .style import BLUE, MAGNITUDE, WIDTH, axes_for, new_figure, style, write_numbers

UNIT = "nats per squared weight"


def pool_magnitudes(F: Any, side: int) -> Array:
    """Mean of |F| over squares of side x side entries.

    Args:
        F: (P, P).
        side: of a square; the last squares are smaller where it does not divide P.

    Returns:
        (ceil(P / side), ceil(P / side)).

    >>> pool_magnitudes(np.diag([1.0, -3.0, 5.0]), 2)
    array([[1., 0.], [0., 5.]])
    """
    starts = np.arange(0, len(F), side)
    extents = np.diff(np.append(starts, len(F)))
    # strip by strip: no second matrix of that size
    rows = [np.abs(F[start : start + side]).sum(axis=0) for start in starts]
    pooled = np.add.reduceat(np.array(rows), starts, axis=1)
    return pooled / np.outer(extents, extents)


@style()
def matrices(
    F: Any,
    approximations: Mapping[str, Any],
    names: Sequence[str],
    sizes: Sequence[int],
    *,
    reference: str = "exact Fisher F",
    cells: int = 350,
    upright: bool = False,
) -> list[Any]:
    """Draw |F|, each approximation and each |difference|, all on one grey scale [MG15, figs. 2, 5, 6].

    With one approximation the three pictures lie side by side; with more, differences lie below their
    approximations; with none F is alone.

    Args:
        F: (P, P), the matrix to compare with: a Fisher matrix or its inverse.
        approximations: (P, P) each, by name.
        names: of the layers.
        sizes: of the layers, in parameters; their sum is P.
        reference: what F is called.
        cells: at most so many squares per side.
        upright: never turn names; for short ones.

    Returns:
        The axes: F, then approximation and difference in turn.

    Raises:
        ValueError: on shapes that do not fit.
    """
    F = checked(F, ("P", "P"), "F", finite=True)
    sizes = _check_sizes(F, sizes, names)
    side = -(-len(F) // cells)
    titled = _with_differences(F, approximations, side, reference)
    exact = titled[0][1]
    limit = float(np.percentile(exact, 99)) or float(exact.max()) or 1.0
    rows, columns = (1, len(titled)) if len(titled) <= 3 else (2, 1 + len(titled) // 2)
    width = WIDTH if columns > 1 else 0.6 * WIDTH
    turned = not upright and _too_long(names, sizes, 0.8 * width / columns)
    # a square per picture, and room for titles and names
    fig = new_figure(rows * (width / columns + (0.7 if turned else 0.35)) + (0.2 if rows == 1 else 0), width)
    grid = fig.add_gridspec(rows, columns)
    extent = (0, side * len(exact), side * len(exact), 0)
    axes = []
    for number, (title, M) in enumerate(titled):
        below = rows == 2 and number > 0 and number % 2 == 0
        ax = fig.add_subplot(grid[int(below), number if rows == 1 else (number + 1) // 2])
        image = ax.imshow(M, cmap=MAGNITUDE, vmin=0, vmax=limit, extent=extent)
        ax.set(xlim=(0, len(F)), ylim=(len(F), 0), title=title)
        mark_layers(ax, names, sizes, turned, number == 0, upright)
        axes.append(ax)
    grey = f"mean of {side}×{side} entries" if side > 1 else "one entry per square"
    notes = [f"grey: {grey}", f"differences: Frobenius norm relative to {reference}"][: len(titled)]
    _scale(fig, grid, axes, image, notes)
    return axes


def _with_differences(
    F: Array, approximations: Mapping[str, Any], side: int, reference: str
) -> list[tuple[str, Array]]:
    """Pooled magnitudes of F, then of each approximation and of its difference, with their titles."""
    titled = [(reference, pool_magnitudes(F, side))]
    norm = float(np.linalg.norm(F)) or 1.0
    for name, matrix in approximations.items():
        M = checked(matrix, F.shape, name, finite=True)
        titled.append((name, pool_magnitudes(M, side)))
        M = F - M
        error = np.linalg.norm(M) / norm
        titled.append((f"difference: relative error {error:.2f}", pool_magnitudes(M, side)))
    return titled


def _scale(fig: Any, grid: Any, axes: Sequence[Any], image: Any, notes: Sequence[str]) -> None:
    """The scale of greys with notes: beside a row of pictures, or in the corner that two rows leave free."""
    limit = image.get_clim()[1]
    power = int(np.floor(np.log10(limit)))
    power = 0 if -1 <= power <= 2 else power
    notes = [notes[0], f"black: from {limit / 10.0**power:.2g} (top 1%)", *notes[1:]]
    label = "absolute value" + (rf", in $10^{{{power}}}$" if power else "") + f"\n({UNIT})"
    if grid.nrows == 1:
        bar = fig.colorbar(image, ax=axes, extend="max", shrink=0.8, label=label)
        fig.supxlabel("; ".join(notes), fontsize="small")
    else:
        corner = fig.add_subplot(grid[1, 0])
        corner.axis("off")
        place = corner.inset_axes((0.03, 0.9, 0.9, 0.07))
        bar = fig.colorbar(image, cax=place, orientation="horizontal", extend="max")
        notes = [textwrap.fill(note, 104 // grid.ncols) for note in notes]
        place.set_xlabel("\n".join([label, *notes]), fontsize="small", loc="left")
    bar.formatter = FuncFormatter(lambda value, _: f"{value / 10.0**power:g}")
    bar.update_ticks()


@style()
def matrix_rows(
    rows: Mapping[str, Mapping[str, Any]], names: Sequence[str], sizes: Sequence[int], *, cells: int = 350
) -> list[Any]:
    """Draw rows of matrices, each beside the first of its row, with relative errors [MG15, figs. 5, 6].

    Args:
        rows: by name of the row, matrices (P, P) by name; the others approximate the first.
        names: of the layers.
        sizes: of the layers, in parameters; their sum is P.
        cells: at most so many squares per side.

    Returns:
        The axes, row by row. Each row has one scale of greys, on which black is the 97th percentile of the
        first matrix.

    Raises:
        ValueError: on shapes that do not fit.
    """
    columns = max(len(row) for row in some(dict(rows), "row").values())
    fig = new_figure(len(rows) * (WIDTH / columns + 0.35) + 0.7)
    grid = fig.subplots(len(rows), columns, squeeze=False)
    errors: list[str] = []
    for place, (what, row) in zip(grid, rows.items(), strict=True):
        first, *_ = row.values()
        F = checked(first, ("P", "P"), what, finite=True)
        _check_sizes(F, sizes, names)
        side = -(-len(F) // cells)
        limit = float(np.percentile(pool_magnitudes(F, side), 97)) or 1.0
        for ax, (name, matrix) in zip(place, row.items(), strict=False):
            M = checked(matrix, F.shape, name, finite=True)
            draw_pooled(ax, M, side, limit)
            error = relative_error(M, F)
            ax.set_title(f"{name}\nerror {error:.2g}" if error else name)
            mark_layers(ax, names, sizes, False, ax is place[0], False)
            errors.append(f"{error:.2g}")
    last = list(next(iter(rows.values())))[-1]
    lasts = zip(rows, errors[columns - 1 :: columns], strict=True)
    stated = ", ".join(f"{error} ({what})" for what, error in lasts)
    fig.suptitle(f"{last[0].upper()}{last[1:]}: relative error {stated}")
    return [ax for row_of_axes in grid for ax in row_of_axes]


def draw_pooled(ax: Any, M: Array, side: int, limit: float) -> None:
    """Draw |M|, a mean over squares of side x side entries; black is the limit."""
    pooled = pool_magnitudes(M, side)
    extent = (0, side * len(pooled), side * len(pooled), 0)
    ax.imshow(pooled, cmap=MAGNITUDE, vmin=0, vmax=limit, extent=extent, interpolation="nearest")
    ax.set(xlim=(0, len(M)), ylim=(len(M), 0))


@style()
def block_means(
    F: Any,
    sizes: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    unit: str = UNIT,
    ax: Any | None = None,
) -> Any:
    """Draw the mean absolute value of each block as one square with its number [MG15, fig. 3, right].

    Args:
        F: (P, P).
        sizes: of the L layers, in parameters; their sum is P.
        names: of the layers.
        unit: of the entries.
        ax: axes to draw into.

    Returns:
        The axes; their image holds the (L, L) means.
    """
    F = checked(F, ("P", "P"), "F", finite=True)
    names = [str(number + 1) for number in range(len(sizes))] if names is None else list(names)
    sizes = _check_sizes(F, sizes, names)
    means = mean_magnitudes(F, sizes)
    power = int(np.floor(np.log10(means.max()))) if means.any() else 0
    ax = axes_for(ax, 5.8, 6.0)
    ax.imshow(means, cmap=MAGNITUDE, vmin=0, vmax=means.max() or 1.0)
    write_numbers(ax, means, lambda mean: f"{mean / 10.0**power:.2f}", 0.55 * means.max())
    ax.set(xticks=range(len(sizes)), yticks=range(len(sizes)), xticklabels=names, yticklabels=names)
    ax.tick_params(length=0)
    scale = rf"in $10^{{{power}}}$ {unit}" if power else f"in {unit}"
    diagonal, total = float(np.trace(means)), float(means.sum())
    outside = (total - diagonal) / max(1, means.size - len(means)) / (diagonal / len(means) or 1.0)
    ax.set_title(f"Mean |entry| off the diagonal blocks: {outside:.2g} of that on them\n({scale})")
    return ax


def mean_magnitudes(F: Array, sizes: Sequence[int]) -> Array:
    """Mean of |F| (P, P) over the blocks of layers of these sizes, (L, L)."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rows = np.array(
        [np.abs(F[a : a + size]).sum(axis=0) for a, size in zip(starts, sizes, strict=True)]
    )  # (L, P)
    return np.add.reduceat(rows, starts, axis=1) / np.outer(sizes, sizes)


def _check_sizes(F: Array, sizes: Sequence[int], names: Sequence[str]) -> list[int]:
    if F.shape[0] != F.shape[1]:
        raise ValueError(f"expected a square matrix F, got shape {F.shape}")
    if len(names) != len(sizes):
        raise ValueError(f"expected one name per layer, got {len(names)} names and {len(sizes)} sizes")
    if sum(sizes) != len(F) or min(sizes, default=0) < 1:
        raise ValueError(f"expected layer sizes that add up to {len(F)}, got {list(sizes)}: {sum(sizes)}")
    return [int(size) for size in sizes]


def _too_long(names: Sequence[str], sizes: Sequence[int], width: float) -> bool:
    """Whether a layer's name is longer than its share of a picture of this width in inches."""
    letter = 0.6 * 11 / 72
    shares = [width * size / sum(sizes) for size in sizes]
    return any(letter * len(name) > share for name, share in zip(names, shares, strict=True))


def mark_layers(
    ax: Any, names: Sequence[str], sizes: Sequence[int], turned: bool, on_y: bool, upright: bool
) -> None:
    """Lines between layers; names in the middle of each, along x and, if asked, y."""
    ends = np.cumsum(sizes)
    for end in ends[:-1]:
        ax.axhline(end, color=BLUE, linewidth=0.8)
        ax.axvline(end, color=BLUE, linewidth=0.8)
    middles = ends - np.array(sizes) / 2
    ax.set_xticks(middles, names, rotation=90 if turned else 0)
    ax.set_yticks(
        middles, names if on_y else [""] * len(names), rotation=0 if turned or upright else 90, va="center"
    )
    ax.tick_params(length=0)
    ax.spines[:].set_visible(True)
