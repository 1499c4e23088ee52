"""Charts of a sphere: what a map does to circles, and which paths depend on the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Circle

from ..backend import Array
from .charts import METHODS, NATURAL, chart_legend, chart_names, chart_pen, disagreement, ends, hills, start
from .checks import checked, some
from .style import BLUE, GREY, new_figure, panels, style
from .ticks import short

CENTRE = (0.0, 30.0)
"""Longitude and latitude, in degrees, that face the viewer of a globe."""


@style()
def projections(maps: Sequence[Mapping[str, Any]], circles: Any, graticule: Sequence[Any]) -> list[Any]:
    """Draw Tissot's ellipses on a globe and on maps of it, each as large as its panel allows.

    Args:
        maps: per map a dictionary of ``name``, ``keeps`` (what is the same as on the globe), ``graticule``
            (lines (k, 2)), ``ellipses`` (n, m, 2), ``areas`` (n,) and ``shapes`` (n,), the longer axis of
            each over the shorter.
        circles: (n, m, 3), on the unit sphere.
        graticule: lines (k, 3) on it.

    Returns:
        The axes: the globe, then the maps.

    Raises:
        ValueError: on shapes that do not fit.
    """
    axes = panels(1 + len(some(maps, "map")), 3, 2.9, 0.5)
    _globe(axes[0], graticule)
    for circle in checked(circles, ("n", "m", 3), "circles", finite=True):
        flat, visible = orthographic(circle)
        if visible.all():
            axes[0].fill(*flat.T, facecolor=BLUE, alpha=0.55, edgecolor=BLUE, linewidth=1)
    axes[0].set_title("the globe")
    for ax, one in zip(axes[1:], maps, strict=True):
        _tissot(ax, one)
    axes[0].figure.suptitle("Circles of one size, on the globe and on maps: none keeps both angles and areas")
    return axes


def _tissot(ax: Any, one: Mapping[str, Any]) -> None:
    """A map with its graticule and ellipses, and in words how far areas and shapes are changed."""
    name = one["name"]
    for line in one["graticule"]:
        ax.plot(*checked(line, ("k", 2), f"graticule of {name}").T, color="#bbbbbb", linewidth=0.8)
    for ellipse in checked(one["ellipses"], ("n", "m", 2), f"ellipses of {name}", finite=True):
        ax.fill(*ellipse.T, facecolor=BLUE, alpha=0.55, edgecolor=BLUE, linewidth=1)
    areas, shapes = (
        checked(one[key], ("n",), f"{key} of {name}", finite=True) for key in ("areas", "shapes")
    )
    ax.set_title(f"{name}\nkeeps {one['keeps']}")
    grown = "areas kept" if np.ptp(areas) < 1e-9 else f"areas here up to × {short(float(areas.max()))}"
    worst = float(shapes.max())
    kept = "circles kept" if worst < 1 + 1e-9 else f"axes up to {short(worst)} : 1"
    ax.set_xlabel(f"{grown}, {kept}")
    _bare(ax)


def _bare(ax: Any) -> None:
    """No frame and no ticks: the graticule says where one is."""
    ax.set(aspect="equal", anchor="N", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def orthographic(points: Any, centre: tuple[float, float] = CENTRE) -> tuple[Array, Array]:
    """How points of the unit sphere look from far away.

    Args:
        points: (..., 3).
        centre: longitude and latitude, in degrees, that face the viewer.

    Returns:
        To the right and up (..., 2), and whether they are on the side that is seen (...).

    >>> seen, visible = orthographic(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, -1]]), (0, 30))
    >>> seen.round(2).tolist(), visible.tolist()
    ([[0.0, -0.5], [1.0, 0.0], [0.0, -0.87]], [True, True, False])
    """
    lon, lat = np.radians(centre)
    east = [-np.sin(lon), np.cos(lon), 0]
    north = [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)]
    out = [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]
    return points @ np.array([east, north]).T, points @ np.array(out) >= -1e-12


def _seen(path: Array) -> Array:
    """A line on the globe (k, 3) as drawn (k, 2); nan where it is on the other side."""
    flat, visible = orthographic(path)
    return np.where(visible[:, None], flat, np.nan)


def _globe(ax: Any, graticule: Sequence[Any]) -> None:
    for line in graticule:
        ax.plot(*_seen(checked(line, ("k", 3), "graticule")).T, color="#bbbbbb", linewidth=0.8)
    ax.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor=GREY, linewidth=1.5, zorder=5))
    ax.set(xlim=(-1.03, 1.03), ylim=(-1.03, 1.03))
    _bare(ax)


@style()
def globe_ascent(
    heights: Any,
    sphere: Any,
    map_heights: Any,
    maps: Mapping[str, Any],
    on_map: Mapping[str, Mapping[str, Any]],
    on_globe: Mapping[str, Mapping[str, Any]],
    limit: Any,
    steps: Any,
    apart: Mapping[str, Any],
    *,
    graticules: Mapping[str, Sequence[Any]],
    keeps: Mapping[str, str],
    step: float,
) -> list[Any]:
    """Draw gradient ascent on maps, the same paths on the globe, and how far those of maps are apart.

    Args:
        heights: (n, m), the function on a grid of the globe.
        sphere: (n, m, 3), that grid.
        map_heights: (p, q), the function on the grid of the maps.
        maps: by name, where each of at most three maps has that grid (p, q, 2).
        on_map: by method ("gradient", "natural gradient") and map, paths (k, 2).
        on_globe: by method and map, the same paths (k, 3).
        limit: (k, 3), the path for steps of length 0 on the globe.
        steps: (s,), several step sizes.
        apart: by method, (s,) largest distances between the paths of different maps, in radii of the globe.
        graticules: meridians and parallels by map, (k, 2) each, and "globe", (k, 3) each.
        keeps: what is the same on a map as on the globe, by its name.
        step: of the paths that are drawn.

    Returns:
        The axes: the maps, the globe with gradient paths, that with natural paths, distances.

    Raises:
        ValueError: on shapes that do not fit, or more maps than there are colours.
    """
    names = chart_names(maps)
    fig = new_figure(7.4)
    grid = fig.add_gridspec(2, 3, height_ratios=(1, 1.35))
    f = checked(map_heights, ("p", "q"), "map_heights", finite=True)
    axes = [fig.add_subplot(grid[0, number]) for number in range(len(names))]
    for number, name in enumerate(names):
        paths = [on_map[method][name] for method in METHODS]
        _ascent_on_map(axes[number], number, name, maps[name], f, graticules[name], paths)
        axes[number].set_title(f"{name}\nkeeps {keeps[name]}")
    flow = checked(limit, ("k", 3), "limit", finite=True)
    for column, method in enumerate(METHODS):
        axes.append(fig.add_subplot(grid[1, column]))
        _hilly_globe(axes[-1], sphere, heights, graticules["globe"])
        paths = [checked(on_globe[method][name], ("k", 3), f"{method} path of {name}") for name in names]
        _paths_on_globe(axes[-1], paths, None if column else flow)
    axes.append(fig.add_subplot(grid[1, 2]))
    distances = {method: apart[method] for method in METHODS}
    disagreement(axes[-1], steps, distances, "largest distance (radii of the globe)")
    fig.legend(handles=chart_legend(names, "higher"), loc="outside lower center", ncols=5)
    at = int(np.abs(np.asarray(steps) - step).argmin())
    ends = " and ".join(f"{short(float(apart[m][at]))} ({m.split()[0]})" for m in METHODS)
    fig.suptitle(f"Ascent on {len(names)} maps, steps of h = {short(step)}: paths up to {ends} radii apart")
    return axes


def _ascent_on_map(
    ax: Any, number: int, name: str, places: Any, f: Array, graticule: Sequence[Any], paths: Sequence[Any]
) -> None:
    """A map with hills, its own gradient path and the natural one."""
    places = checked(places, (*f.shape, 2), f"grid of {name}", finite=True)
    hills(ax, places, f)
    for line in graticule:
        ax.plot(*checked(line, ("k", 2), f"graticule of {name}").T, color="#999999", linewidth=0.5)
    gradient, natural = (
        checked(path, ("k", 2), f"{method} path on {name}", finite=True)
        for method, path in zip(METHODS, paths, strict=True)
    )
    ax.plot(*gradient.T, **chart_pen(number))
    ax.plot(*natural.T, **NATURAL)
    start(ax, gradient[0])
    ax.set(xlim=ends(places[..., 0]), ylim=ends(places[..., 1]))
    _bare(ax)


def _hilly_globe(ax: Any, sphere: Any, heights: Any, graticule: Sequence[Any]) -> None:
    f = checked(heights, ("n", "m"), "heights", finite=True)
    flat, visible = orthographic(checked(sphere, (*f.shape, 3), "sphere", finite=True))
    hills(ax, flat, np.ma.masked_where(~visible, f))
    _globe(ax, graticule)


def _paths_on_globe(ax: Any, paths: Sequence[Array], limit: Array | None) -> None:
    """Gradient paths with that for steps of length 0; without it, natural paths, which are to coincide."""
    for number, path in enumerate(paths):
        ax.plot(*_seen(path).T, **chart_pen(number, nested=limit is None))
    if limit is not None:
        ax.plot(*_seen(limit).T, **NATURAL)
    start(ax, _seen(paths[0])[0])
    ax.set_title("natural gradient: one path" if limit is None else "gradient: a path per map")
