"""Charts of a family of distributions: flows that fit a Gaussian, in each chart and in one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from ..backend import Array
from .charts import METHODS, NATURAL, chart_legend, chart_names, chart_pen, disagreement, hills, start
from .checks import by_name, checked
from .style import BLACK, SKY, new_figure, style

ELLIPSE: dict[str, Any] = {"facecolor": SKY, "edgecolor": "none", "alpha": 0.8}


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

    Returns:
        The axes: the charts, gradient flows in the first, natural flows in the first, distances.

    Raises:
        ValueError: on shapes that do not fit, or more charts than there are colours.
    """
    names = chart_names(grids)
    fig = new_figure(7.9)
    grid = fig.add_gridspec(2, 3, height_ratios=(1, 1.1), width_ratios=(1, 1, 1.15))
    f = checked(losses, ("n", "m"), "losses", finite=True)
    places = {name: checked(grids[name], (*f.shape, 2), f"grid of {name}", finite=True) for name in names}
    flows = {name: _flows(in_chart, name) for name in names}
    views = {name: _view(flows[name]) for name in names}
    first = names[0]
    heights = _heights(f, places[first], views[first])
    axes = [fig.add_subplot(grid[0, number]) for number in range(len(names))]
    for number, (ax, name) in enumerate(zip(axes, names, strict=True)):
        hills(ax, places[name], heights)
        circles = checked(ellipses[name], ("e", "k", 2), f"ellipses of {name}", finite=True)
        _flows_in_chart(ax, number, _inside(circles, views[name]), flows[name])
        _coordinates(ax, name, labels[name], views[name])
    titles = ("gradient: a flow per chart", "natural gradient: one flow")
    for column, (method, title) in enumerate(zip(METHODS, titles, strict=True)):
        axes.append(fig.add_subplot(grid[1, column]))
        hills(axes[-1], places[first], heights)
        starts = by_name(pulled[method], ("starts", "k", 2), f"{method} flows", "chart")
        _pulled_flows(axes[-1], [starts[name] for name in names], fit, column == 1)
        _coordinates(axes[-1], title, labels[first], views[first])
    axes.append(fig.add_subplot(grid[1, 2]))
    disagreement(axes[-1], steps, apart, "largest distance (Fisher length)")
    handles = [*chart_legend(names, "smaller loss"), Patch(label="steps of equal KL divergence", **ELLIPSE)]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    fig.suptitle(f"Fitting a Gaussian in {len(names)} charts: {_apart(steps, apart)}")
    return axes


def _flows(in_chart: Mapping[str, Mapping[str, Any]], name: str) -> list[Array]:
    return [
        checked(in_chart[method][name], ("starts", "k", 2), f"{method} flows in {name}", finite=True)
        for method in METHODS
    ]


def _apart(steps: Any, apart: Mapping[str, Any]) -> str:
    """The last distance of each method, at the smallest step."""
    last = {name.split(",")[0]: np.asarray(y)[np.argmin(steps)] for name, y in apart.items()}
    stated = " and ".join(f"{distance:.2g} ({method})" for method, distance in last.items())
    return f"their paths end up to {stated} apart"


def _inside(ellipses: Array, view: tuple[Array, Array]) -> Array:
    """Those that the frame does not cut off."""
    low, high = view
    return ellipses[((ellipses >= low) & (ellipses <= high)).all((1, 2))]


def _flows_in_chart(ax: Any, number: int, ellipses: Array, flows: Sequence[Array]) -> None:
    """The gradient's flows and the natural ones in one chart, with steps of equal divergence."""
    for ellipse in ellipses:
        ax.fill(*ellipse.T, **ELLIPSE)
    for path, natural in zip(*flows, strict=True):
        ax.plot(*path.T, **chart_pen(number))
        ax.plot(*natural.T, **NATURAL)
        start(ax, path[0])


def _pulled_flows(ax: Any, flows: Sequence[Array], fit: Any, nested: bool) -> None:
    """The flows of all charts in the coordinates of the first, and where they end."""
    minimum = checked(fit, (2,), "fit", finite=True)
    for number, paths in enumerate(flows):
        for path in paths:
            ax.plot(*path.T, **chart_pen(number, nested))
            start(ax, path[0])
    ax.plot(*minimum, marker="*", color=BLACK, markersize=13, linestyle="", zorder=6)


def _heights(losses: Array, places: Array, view: tuple[Array, Array]) -> Array:
    """Minus the root of the loss, cut off where the view ends: its levels are equally far from each other."""
    shown = ((places >= view[0]) & (places <= view[1])).all(-1)
    depth = np.sqrt(losses - losses.min())
    return -depth.clip(max=depth[shown].max())


def _view(paths: Sequence[Array]) -> tuple[Array, Array]:
    """The lower left and upper right of a picture with room around all paths (..., 2)."""
    points = np.concatenate([path.reshape(-1, 2) for path in paths])
    low, high = points.min(axis=0), points.max(axis=0)
    return low - 0.14 * (high - low), high + 0.14 * (high - low)


def _coordinates(ax: Any, title: str, labels: Sequence[str], view: tuple[Array, Array]) -> None:
    ax.set(title=title, xlabel=labels[0], xlim=(view[0][0], view[1][0]), ylim=(view[0][1], view[1][1]))
    ax.set_ylabel(labels[1], labelpad=1)
