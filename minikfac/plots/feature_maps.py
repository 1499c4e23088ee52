"""Maps of a convolution: correlations in space, and variances.

Correlations are drawn from purple (-1) over white (0) to orange (1), other signed values in the same
colours on a scale of their own, variances in greys.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ..backend import Array
from .checks import checked, some
from .style import (
    MAGNITUDE,
    SIGNED,
    WIDTH,
    axes_for,
    labelled,
    marked_pen,
    new_figure,
    pen,
    style,
    write_numbers,
)

Tiles = Mapping[str, Mapping[str, Any]]
"""Pictures in rows and columns: row -> column -> array."""


@style()
def autocorrelation(maps: Tiles) -> list[Any]:
    """Draw spatial autocorrelations as tiles [GM16, figs. 1 and 2].

    The middle of a tile is the shift 0, where the correlation is 1. Uncorrelated is a dot on white.

    Args:
        maps: by row (a layer) and column (a signal), (2 ry + 1, 2 rx + 1) each, in [-1, 1]; nan where
            nothing varies.

    Returns:
        The axes, row by row.

    Raises:
        ValueError: on even extents, values that are not correlations, or rows of different columns.
    """
    tiles = _checked_tiles(maps, ("rows", "columns"), "autocorrelation", -1, 1)
    for what, tile in _each(tiles):
        if not all(extent % 2 for extent in tile.shape):
            raise ValueError(
                f"expected an odd number of shifts in autocorrelation of {what}, got shape {tile.shape}"
            )

    def draw(ax: Any, tile: Array) -> Any:
        ry, rx = (extent // 2 for extent in tile.shape)
        extent = (-rx - 0.5, rx + 0.5, ry + 0.5, -ry - 0.5)
        image = ax.imshow(tile, cmap=SIGNED, vmin=-1, vmax=1, extent=extent, interpolation="nearest")
        ax.set(xticks=[-rx, 0, rx], yticks=[-ry, 0, ry])
        return image

    title = "Mean over maps: correlation with the next pixel of size " + _by_column(tiles, _next_pixel)
    return _tiles(tiles, draw, title, "correlation", ("shift to the right (pixels)", "shift down (pixels)"))


@style()
def variance_maps(variances: Tiles) -> list[Any]:
    """Draw how variances change over locations; where everything is homogeneous, all is the grey of 1.

    Args:
        variances: by row (a layer) and column (a signal), (H, W) each, relative to their mean.

    Returns:
        The axes, row by row.

    Raises:
        ValueError: on negative values, or rows of different columns.
    """
    tiles = _checked_tiles(variances, ("H", "W"), "variances", 0)
    largest = max(1.0, *(float(np.nanmax(tile)) for _, tile in _each(tiles)))

    def draw(ax: Any, tile: Array) -> Any:
        image = ax.imshow(tile, cmap=MAGNITUDE, vmin=0, vmax=largest, interpolation="nearest")
        if max(tile.shape) <= 8:
            write_numbers(ax, tile, "{:.1f}".format, 0.55 * largest, 8)
        _whole_ticks(ax)
        return image

    title = "Largest variance over the mean location's: " + _by_column(tiles, lambda tile: tile)
    return _tiles(tiles, draw, title, "relative variance\n(1: the mean)", ("column", "row"))


@style()
def correlation_against_offset(
    curves: Mapping[str, Mapping[str, Any]],
    *,
    title: str | None = None,
    ax: Any | None = None,
) -> Any:
    """Draw the strength of correlations against the distance in pixels.

    Args:
        curves: by group (drawn in one colour) and name within it (one dash and marker each): values at
            offsets 1, 2, ... (m,), nan where maps are too small.
        title: of the axes; by default the mean at the first distance, group by group.
        ax: axes to draw into.

    Raises:
        ValueError: on values outside [0, 1].
    """
    ax = axes_for(ax)
    longest, nearest = 1, []
    for number, (group, members) in enumerate(some(dict(curves), "group").items()):
        for place, (name, values) in enumerate(some(dict(members), f"curve of {group}").items()):
            y = checked(values, ("offsets",), f"strengths of {group}, {name}", low=0, high=1)
            look = {**marked_pen(place), "color": pen(number)["color"], "linestyle": pen(place)["linestyle"]}
            ax.plot(np.arange(1, len(y) + 1), y, label=f"{group}: {name}" if name else group, **look)
            longest = max(longest, len(y))
        nearest.append(f"{group} {np.mean([values[0] for values in members.values()]):.2g}")
    title = title or f"Mean |correlation| with the next pixel: {', '.join(nearest)}"
    ax.set(xticks=range(1, longest + 1), ylim=(0, None))
    ax.set_ylim(top=min(1.02, 1.15 * ax.get_ylim()[1]))
    beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    return labelled(ax, title, "distance (pixels)", "mean |correlation|", **beside)


def _by_column(tiles: Mapping[str, Mapping[str, Array]], values: Callable[[Array], Array]) -> str:
    """A number for each column of pictures, of all its rows: the largest of their numbers."""
    numbers: dict[str, float] = {}
    for columns in tiles.values():
        for column, tile in columns.items():
            largest = float(np.nanmax(values(tile), initial=0.0))
            numbers[column] = max(largest, numbers.get(column, 0.0))
    return ", ".join(f"{number:.2g} ({' '.join(column.split())})" for column, number in numbers.items())


def _next_pixel(tile: Array) -> Array:
    """Mean size of the correlations at a distance of one pixel along an axis, (1,)."""
    ry, rx = (extent // 2 for extent in tile.shape)
    places = [(ry + dy, rx + dx) for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    near = [abs(tile[y, x]) for y, x in places if y < tile.shape[0] and x < tile.shape[1]]
    return np.array([np.mean(near) if near else 0.0])


def _whole_ticks(ax: Any) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))


def _checked_tiles(
    tiles: Tiles, shape: tuple[str, str], what: str, low: float, high: float = np.inf
) -> dict[str, dict[str, Array]]:
    arrays = {
        row: {
            column: checked(tile, shape, f"{what} of {row}, {column}", low=low, high=high)
            for column, tile in columns.items()
        }
        for row, columns in some(dict(tiles), "row of pictures").items()
    }
    first = list(next(iter(arrays.values())))
    for row, columns in arrays.items():
        if not columns or list(columns) != first:
            raise ValueError(
                f"expected the columns {', '.join(first) or 'of pictures'}, got {list(columns)} in {row}"
            )
    return arrays


def _each(tiles: Mapping[str, Mapping[str, Array]]) -> list[tuple[str, Array]]:
    """All pictures with their row and column as words."""
    return [(f"{row}, {column}", tile) for row, line in tiles.items() for column, tile in line.items()]


def _tiles(
    tiles: Mapping[str, Mapping[str, Array]],
    draw: Callable[[Any, Array], Any],
    title: str,
    label: str,
    xy: tuple[str, str],
) -> list[Any]:
    """Pictures in rows and columns with one scale."""
    columns = list(next(iter(tiles.values())))
    side = min(2.7, (WIDTH - 1.8) / len(columns))
    fig = new_figure(len(tiles) * side + 1.0)
    axes = fig.subplots(len(tiles), len(columns), squeeze=False)
    for ax, (_, tile) in zip(axes.ravel(), _each(tiles), strict=True):
        image = draw(ax, tile)
        ax.spines[:].set_visible(True)
    for ax, column in zip(axes[0], columns, strict=True):
        ax.set_title(column, fontsize="medium")
    for ax in axes[-1]:
        ax.set_xlabel(xy[0])
    for ax, row in zip(axes[:, 0], tiles, strict=True):
        ax.set_ylabel(f"{row}\n{xy[1]}")
    fig.colorbar(image, ax=axes, shrink=0.8, label=label)
    fig.suptitle(textwrap.fill(title, 90, break_on_hyphens=False))
    return list(axes.ravel())
