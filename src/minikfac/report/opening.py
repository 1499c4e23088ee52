"""The talk's opening as figures: maps of a globe, ascent on them, a Gaussian in three charts. No net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import plots
from ..experiments.gaussian_family import gaussian_flows
from ..experiments.globe import ascents
from ..experiments.projections import tissot


def map_projections() -> Any:
    """Tissot's ellipses on the globe and on five maps."""
    found = tissot()
    return plots.projections([vars(own) for own in found.maps], found.circles, found.graticule)


def map_ascent() -> Any:
    """Gradient ascent on three maps, and the natural gradient on the globe."""
    found = ascents()
    return plots.globe_ascent(
        found.heights,
        found.sphere,
        found.map_heights,
        found.maps,
        found.on_map,
        found.on_globe,
        found.limit,
        found.steps,
        found.apart,
        graticules=found.graticules,
        keeps=found.keeps,
        step=found.step,
    )


def gaussian_charts() -> Any:
    """Flows that fit a Gaussian in three charts, pulled back to one."""
    found = gaussian_flows()
    apart = {
        "gradient, one step": found.one_step["gradient"],
        "natural, one step": found.one_step["natural gradient"],
        "gradient, 1/h steps": found.walked["gradient"],
        "natural, 1/h steps": found.walked["natural gradient"],
    }
    return plots.gaussian_flows(
        found.losses,
        found.grids,
        found.axes,
        found.ellipses,
        found.in_chart,
        found.pulled,
        (found.mean, found.variance**0.5),
        found.steps,
        apart,
    )


OPENING: dict[str, Callable[[], Any]] = {
    "map-projections": map_projections,
    "map-ascent": map_ascent,
    "gaussian-charts": gaussian_charts,
}
"""By file name, in the order of the talk."""
