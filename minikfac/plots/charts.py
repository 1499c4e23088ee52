"""Charts of a sphere and of a family of distributions, and which paths depend on the chart.

Each chart has a colour and a dash. What does not depend on the chart is black.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from ..backend import Array
from .spectra import positive
from .style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    MAGNITUDE,
    MARKERS,
    PURPLE,
    SKY,
    VERMILLION,
    axes_for,
    checked,
    figure_for,
    short,
    some,
    style,
)

CENTRE = (0.0, 30.0)
"""Longitude and latitude, in degrees, that face the viewer of a globe."""
CHART_COLORS = (BLUE, VERMILLION, GREEN)
CHART_DASHES = ("-", (0, (4, 1.2)), (0, (1.3, 0.9)))
NATURAL: dict[str, Any] = {"color": BLACK, "linewidth": 1.3}
ELLIPSE: dict[str, Any] = {"facecolor": SKY, "edgecolor": "none", "alpha": 0.8}
METHODS = ("gradient", "natural gradient")
EMPTY: Mapping[str, Any] = MappingProxyType({})


@style()
def projections(
    maps: Sequence[Mapping[str, Any]],
    circles: Any,
    graticule: Sequence[Any],
    *,
    centre: tuple[float, float] = CENTRE,
    title: str = "Circles of one size, on the globe and on maps: none keeps both angles and areas",
    fig: Any | None = None,
) -> list[Any]:
    """Draw Tissot's ellipses on a globe and on maps of it, each as large as its panel allows.

    Args:
        maps: per map a dictionary of ``name``, ``keeps`` (what is the same as on the globe), ``graticule``
            (lines (k, 2)), ``ellipses`` (n, m, 2), ``areas`` (n,) and ``shapes`` (n,), the longer axis of
            each over the shorter.
        circles: (n, m, 3), on the unit sphere.
        graticule: lines (k, 3) on it.
        centre: longitude and latitude, in degrees, that face the viewer.
        title: of the figure.
        fig: a figure or subfigure to draw into.

    Returns:
        The axes: the globe, then the maps.

    Raises:
        ValueError: on shapes that do not fit.
    """
    rows = -(-(len(some(maps, "map")) + 1) // 3)
    fig = figure_for(fig, 0.5 + 2.9 * rows)
    axes = list(fig.subplots(rows, 3, squeeze=False).ravel())
    for empty in axes[len(maps) + 1 :]:
        empty.remove()
    axes = axes[: len(maps) + 1]
    lines = [checked(line, ("k", 3), "graticule") for line in graticule]
    _globe(axes[0], lines, centre)
    for circle in checked(circles, ("n", "m", 3), "circles", finite=True):
        seen, visible = orthographic(circle, centre)
        if visible.all():
            axes[0].fill(*seen.T, facecolor=BLUE, alpha=0.55, edgecolor=BLUE, linewidth=1)
    axes[0].set_title("the globe")
    for ax, one in zip(axes[1:], maps, strict=True):
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
        ax.set_xlabel(
            f"{grown}, " + ("circles kept" if worst < 1 + 1e-9 else f"axes up to {short(worst)} : 1")
        )
        _bare(ax)
    fig.suptitle(title)
    return axes


def _bare(ax: Any) -> None:
    """No frame and no ticks: the graticule says where one is."""
    ax.set(aspect="equal", anchor="N", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


# the globe ----------------------------------------------------------------------------------------------


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


def _seen(path: Array, centre: tuple[float, float]) -> Array:
    """A line on the globe (k, 3) as drawn (k, 2); nan where it is on the other side."""
    seen, visible = orthographic(path, centre)
    return np.where(visible[:, None], seen, np.nan)


def _globe(ax: Any, graticule: Sequence[Array], centre: tuple[float, float]) -> None:
    for line in graticule:
        ax.plot(*_seen(line, centre).T, color="#bbbbbb", linewidth=0.8)
    ax.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor=GREY, linewidth=1.5, zorder=5))
    ax.set(xlim=(-1.03, 1.03), ylim=(-1.03, 1.03))
    _bare(ax)


# ascent -------------------------------------------------------------------------------------------------


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
    graticules: Mapping[str, Sequence[Any]] = EMPTY,
    keeps: Mapping[str, str] = EMPTY,
    step: float | None = None,
    centre: tuple[float, float] = CENTRE,
    fig: Any | None = None,
) -> list[Any]:
    """Draw gradient ascent on maps, the same paths on the globe, and how far those of maps are apart.

    Methods are "gradient" and "natural gradient" throughout.

    Args:
        heights: (n, m), the function on a grid of the globe.
        sphere: (n, m, 3), that grid.
        map_heights: (p, q), the function on the grid of the maps.
        maps: by name, where each of at most three maps has that grid (p, q, 2).
        on_map: by method and map, paths (k, 2).
        on_globe: by method and map, the same paths (k, 3).
        limit: (k, 3), the path for steps of length 0 on the globe.
        steps: (s,), several step sizes.
        apart: by method, (s,) largest distances between the paths of different maps, in radii of the globe.
        graticules: meridians and parallels by map, (k, 2) each, and "globe", (k, 3) each.
        keeps: what is the same on a map as on the globe, by its name.
        step: of the paths that are drawn.
        centre: longitude and latitude, in degrees, that face the viewer.
        fig: a figure or subfigure to draw into.

    Returns:
        The axes: the maps, the globe with gradient paths, that with natural paths, distances.

    Raises:
        ValueError: on shapes that do not fit, or more maps than there are colours.
    """
    names = _names(maps)
    fig = figure_for(fig, 7.4)
    grid = fig.add_gridspec(2, 3, height_ratios=(1, 1.35))
    f = checked(map_heights, ("p", "q"), "map_heights", finite=True)
    axes = []
    for number, name in enumerate(names):
        ax = fig.add_subplot(grid[0, number])
        places = checked(maps[name], (*f.shape, 2), f"grid of {name}", finite=True)
        _hills(ax, places, f)
        _thin(ax, [checked(line, ("k", 2), f"graticule of {name}") for line in graticules.get(name, ())])
        own, natural = (
            checked(on_map[method][name], ("k", 2), f"{method} path on {name}", finite=True)
            for method in METHODS
        )
        ax.plot(*own.T, **_chart_pen(number))
        ax.plot(*natural.T, **NATURAL)
        _start(ax, own[0])
        ax.set_title(f"{name}\nkeeps {keeps[name]}" if name in keeps else name)
        ax.set(xlim=_ends(places[..., 0]), ylim=_ends(places[..., 1]))
        _bare(ax)
        axes.append(ax)
    points = checked(sphere, (*np.shape(heights), 3), "sphere", finite=True)
    flow = checked(limit, ("k", 3), "limit", finite=True)
    seen, visible = orthographic(points, centre)
    hidden = np.ma.masked_where(~visible, checked(heights, ("n", "m"), "heights", finite=True))
    for column, method in enumerate(METHODS):
        ax = fig.add_subplot(grid[1, column])
        _hills(ax, seen, hidden)
        _globe(ax, [checked(line, ("k", 3), "graticule") for line in graticules.get("globe", ())], centre)
        paths = [
            _seen(checked(on_globe[method][name], ("k", 3), f"{method} path of {name}"), centre)
            for name in names
        ]
        for number, path in enumerate(paths):
            ax.plot(*path.T, **_chart_pen(number, nested=column == 1))
        if method == "gradient":
            ax.plot(*_seen(flow, centre).T, **NATURAL)
        _start(ax, paths[0][0])
        ax.set_title(("gradient: a path per map", "natural gradient: one path")[column])
        axes.append(ax)
    axes.append(fig.add_subplot(grid[1, 2]))
    disagreement_against_step(
        steps,
        {method: apart[method] for method in METHODS},
        ylabel="largest distance (radii of the globe)",
        title="natural steps agree as h → 0",
        ax=axes[-1],
    )
    fig.legend(handles=_legend(names, "higher"), loc="outside lower center", ncols=5)
    of = "" if step is None else f" (steps of h = {short(step)})"
    fig.suptitle(f"The gradient goes uphill on the map, the natural gradient on the globe{of}")
    return axes


def _names(charts: Mapping[str, Any]) -> list[str]:
    names = list(some(dict(charts), "chart"))
    if len(names) > len(CHART_COLORS):
        raise ValueError(f"expected at most {len(CHART_COLORS)} charts, got {len(names)}")
    return names


def _ends(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _hills(ax: Any, grid: Array, f: Array) -> None:
    """Levels of a function on a grid (n, m, 2), light enough for paths on top."""
    x, y = np.moveaxis(grid, -1, 0)
    low, high = _ends(f)
    levels = np.linspace(low, high, 12)
    ax.contourf(x, y, f, levels=levels, cmap=MAGNITUDE, vmin=low, vmax=low + 2.2 * (high - low))
    ax.contour(x, y, f, levels=levels[1:], colors="white", linewidths=0.8, linestyles="solid")


def _start(ax: Any, place: Array) -> None:
    ax.plot(*place, "o", color="white", markeredgecolor=BLACK, markersize=7, zorder=6)


def _chart_pen(number: int, nested: bool = False) -> dict[str, Any]:
    """Colour and dash of a chart; or lines one within the other, where they are to coincide."""
    color = CHART_COLORS[number]
    if nested:
        return {"color": color, "linewidth": (6.5, 3.8, 1.6)[number], "solid_capstyle": "round"}
    return {"color": color, "linewidth": 2.6, "linestyle": CHART_DASHES[number]}


def _legend(names: Sequence[str], dark: str) -> list[Any]:
    charts = [Line2D([], [], label=name, **_chart_pen(number)) for number, name in enumerate(names)]
    return [
        *charts,
        Line2D([], [], label="natural gradient", **NATURAL),
        Patch(facecolor="#ababab", label=dark),
    ]


def _thin(ax: Any, lines: Sequence[Array]) -> None:
    for line in lines:
        ax.plot(*line.T, color="#999999", linewidth=0.5)


# a family of distributions ------------------------------------------------------------------------------


@style()
def gaussian_flows(
    losses: Any,
    grids: Mapping[str, Any],
    labels: Mapping[str, Sequence[str]],
    ellipses: Mapping[str, Any],
    in_chart: Mapping[str, Mapping[str, Any]],
    pulled: Mapping[str, Mapping[str, Any]],
    fit: Sequence[float],
    steps: Any,
    apart: Mapping[str, Any],
    *,
    fig: Any | None = None,
) -> list[Any]:
    """Draw flows that fit a Gaussian in several charts, all of them in the first, and what finite steps do.

    Methods are "gradient" and "natural gradient" throughout.

    Args:
        losses: (n, m) on a grid of Gaussians, in nats.
        grids: by name, where each of at most three charts has that grid (n, m, 2).
        labels: by chart, of its two coordinates.
        ellipses: by chart, (e, k, 2), {d : d^T F d constant} around some points.
        in_chart: by method and chart, flows (starts, k, 2).
        pulled: by method and chart, the same flows in the coordinates of the first chart.
        fit: the minimum, in the first chart.
        steps: (s,), several step sizes.
        apart: by name, (s,) largest distances between charts.
        fig: a figure or subfigure to draw into.

    Returns:
        The axes: the charts, gradient flows in the first, natural flows in the first, distances.

    Raises:
        ValueError: on shapes that do not fit, or more charts than there are colours.
    """
    names = _names(grids)
    fig = figure_for(fig, 7.9)
    grid = fig.add_gridspec(2, 3, height_ratios=(1, 1.1), width_ratios=(1, 1, 1.15))
    f = checked(losses, ("n", "m"), "losses", finite=True)
    places = {name: checked(grids[name], (*f.shape, 2), f"grid of {name}", finite=True) for name in names}
    flows = {
        method: {
            name: checked(
                in_chart[method][name], ("starts", "k", 2), f"{method} flows in {name}", finite=True
            )
            for name in names
        }
        for method in METHODS
    }
    views = {name: _view([flows[method][name] for method in METHODS]) for name in names}
    shown = ((places[names[0]] >= views[names[0]][0]) & (places[names[0]] <= views[names[0]][1])).all(-1)
    depth = np.sqrt(f - f.min())  # levels at equal distances from the minimum, not crowded far from it
    depth = depth.clip(max=depth[shown].max())
    axes = []
    for number, name in enumerate(names):
        ax = fig.add_subplot(grid[0, number])
        _hills(ax, places[name], -depth)
        for ellipse in checked(ellipses[name], ("e", "k", 2), f"ellipses of {name}", finite=True):
            ax.fill(*ellipse.T, **ELLIPSE)
        for path, natural in zip(*(flows[method][name] for method in METHODS), strict=True):
            ax.plot(*path.T, **_chart_pen(number))
            ax.plot(*natural.T, **NATURAL)
            _start(ax, path[0])
        _coordinates(ax, name, labels[name], views[name])
        axes.append(ax)
    minimum = checked(fit, (2,), "fit", finite=True)
    for column, method in enumerate(METHODS):
        ax = fig.add_subplot(grid[1, column])
        _hills(ax, places[names[0]], -depth)
        for number, name in enumerate(names):
            for path in checked(pulled[method][name], ("starts", "k", 2), f"{method} flows of {name}"):
                ax.plot(*path.T, **_chart_pen(number, nested=column == 1))
                _start(ax, path[0])
        ax.plot(*minimum, marker="*", color=BLACK, markersize=13, linestyle="", zorder=6)
        title = ("gradient: a flow per chart", "natural gradient: one flow")[column]
        _coordinates(ax, title, labels[names[0]], views[names[0]])
        axes.append(ax)
    axes.append(fig.add_subplot(grid[1, 2]))
    disagreement_against_step(
        steps,
        apart,
        ylabel="largest distance (Fisher length)",
        title="natural steps agree as h → 0",
        ax=axes[-1],
    )
    handles = [
        *_legend(names, "smaller loss"),
        Patch(label="steps of equal KL divergence", **ELLIPSE),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    fig.suptitle("Fitting a Gaussian: the gradient follows the chart, the natural gradient the family")
    return axes


def _view(paths: Sequence[Array]) -> tuple[Array, Array]:
    """The lower left and upper right of a picture with room around all paths (..., 2)."""
    points = np.concatenate([path.reshape(-1, 2) for path in paths])
    low, high = points.min(axis=0), points.max(axis=0)
    return low - 0.14 * (high - low), high + 0.14 * (high - low)


def _coordinates(ax: Any, title: str, labels: Sequence[str], view: tuple[Array, Array]) -> None:
    ax.set(title=title, xlabel=labels[0], xlim=(view[0][0], view[1][0]), ylim=(view[0][1], view[1][1]))
    ax.set_ylabel(labels[1], labelpad=1)


# distances against steps --------------------------------------------------------------------------------


@style()
def disagreement_against_step(
    steps: Any,
    apart: Mapping[str, Any],
    *,
    ylabel: str = "largest distance between charts",
    title: str = "Paths of different charts, by size of the step",
    ax: Any | None = None,
) -> Any:
    """Draw how far apart the paths of different charts are, against the step size h, with slopes.

    Slopes are fitted to the smaller half of the steps, where higher powers of h have died out.

    Args:
        steps: (s,), at least two.
        apart: (s,) each, positive, by name.
        ylabel: of the axes, with the unit of the distances.
        title: of the axes.
        ax: axes to draw into.

    Raises:
        ValueError: on shapes that do not fit, or distances that are not positive.
    """
    h = positive(steps, "steps")
    if len(h) < 2:
        raise ValueError("expected at least two steps, got one")
    order = np.argsort(h)
    fitted = order[: max(2, (len(h) + 1) // 2)]
    ax, ends = axes_for(ax), list[float]()
    for number, (name, given) in enumerate(some(dict(apart), "curve").items()):
        y = positive(checked(given, (len(h),), f"distances of {name}"), f"distances of {name}")
        slope = np.polyfit(np.log(h[fitted]), np.log(y[fitted]), 1)[0]
        label = f"{name}: slope {slope + 0.0:.2f}".replace("-0.00", "0.00")
        color, later = (PURPLE, BLACK)[number % 2], number % 4 > 1
        ax.plot(
            h[order],
            y[order],
            color=color,
            marker=MARKERS[number % len(MARKERS)],
            linestyle="--" if later else "-",
            markerfacecolor="white" if later else color,
            label=label,
        )
        ends += _ends(y)
    ax.legend(loc="lower right", fontsize=10, handlelength=1.5, handletextpad=0.5, borderaxespad=0.2)
    low, high = min(ends), max(ends)
    # room for the legend
    ax.set_ylim(low / (high / low) ** (0.12 * (1 + len(apart))), 2 * high)
    ax.set(xscale="log", yscale="log", xlabel="step size h", ylabel=ylabel, title=title)
    ax.grid(True)
    return ax
