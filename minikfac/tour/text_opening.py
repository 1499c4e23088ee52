"""The first chapter, the talk's opening: maps of a globe, ascent on them, a Gaussian in three charts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import plots
from .chapters.charts import apart, order
from .chapters.gaussian_family import GaussianFlows, fisher_distance
from .chapters.globe import Ascents
from .chapters.opening import Opening
from .chapters.projections import Tissot
from .run import Findings
from .words import Figure, Section, listing, number

METHODS = ("gradient", "natural gradient")


def pictures(found: Opening) -> dict[str, Callable[[], Any]]:
    """What draws the figures, by file name, in the order of the talk."""
    drawn: dict[str, Callable[[], Any]] = {}
    if found.maps is not None:
        drawn["map-projections"] = partial(map_projections, found.maps)
    if found.ascents is not None:
        drawn["map-ascent"] = partial(map_ascent, found.ascents)
    if found.gaussian is not None:
        drawn["gaussian-charts"] = partial(gaussian_charts, found.gaussian)
    return drawn


def map_projections(found: Tissot) -> Any:
    """Tissot's ellipses on the globe and on maps."""
    return plots.projections([vars(own) for own in found.maps], found.circles, found.graticule)


def map_ascent(found: Ascents) -> Any:
    """Gradient ascent on three maps, and the natural gradient on the globe."""
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


def gaussian_charts(found: GaussianFlows) -> Any:
    """Flows that fit a Gaussian in three charts, pulled back to one."""
    distances = {
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
        distances,
    )


# in words ------------------------------------------------------------------------------------------------


def chapter(findings: Findings) -> list[Section]:
    """The sections, as far as their pictures were made."""
    found = findings.opening
    if found is None:
        return []
    made = []
    if found.maps is not None:
        made.append(Section("globe", "Before any net: the map and the globe", [*_maps(found.maps)]))
    if found.ascents is not None:
        made.append(
            Section("ascent", "Uphill on the map, uphill on the globe", [*_ascents(found.ascents)], 3)
        )
    if found.gaussian is not None:
        made.append(
            Section("gaussian", "A family of distributions is a globe too", [*_gaussian(found.gaussian)], 3)
        )
    return made


def _maps(found: Tissot) -> list[str | Figure]:
    angles = [own for own in found.maps if own.shapes.max() < 1 + 1e-9]
    areas = [own for own in found.maps if np.ptp(own.areas) < 1e-9]
    neither = [own for own in found.maps if own not in angles and own not in areas]
    text = (
        "A net computes a function; its weights are one way to write that function down, as a map is one way "
        f"to draw the globe. Every map distorts. Here are circles of one size, on the globe and on "
        f"{len(found.maps)} maps."
    )
    if angles:
        worst = max(angles, key=lambda own: float(own.areas.max()))
        text += (
            f" {_and(angles)} keep{'s' * (len(angles) == 1)} angles, and so circles: but their sizes grow, "
            f"up to {number(float(worst.areas.max()))} times the area ({worst.name}, of the circles shown)."
        )
    if areas:
        worst = max(areas, key=lambda own: float(own.shapes.max()))
        text += (
            f" {_and(areas)} keep{'s' * (len(areas) == 1)} areas: but circles become ellipses, up to "
            f"{number(float(worst.shapes.max()))} times as long as wide ({worst.name})."
        )
    if neither:
        text += f" {_and(neither)} keep{'s' * (len(neither) == 1)} neither."
    if not any(own in areas for own in angles):
        text += " None keeps both."
    text += (
        " A map that also says how long things are at each place, by such an ellipse, has lost nothing: "
        "that is a <b>metric</b>."
    )
    caption = "Tissot's ellipses: what becomes of small circles of one size, on the globe and on maps of it."
    return [text, Figure("map-projections", caption)]


def _and(maps: list[Any]) -> str:
    names = listing([own.name for own in maps])
    return names[0].upper() + names[1:]


def _ascents(found: Ascents) -> list[str | Figure]:
    largest, smallest = int(found.steps.argmax()), int(found.steps.argmin())
    plain, natural = (found.apart[method] for method in METHODS)
    text = (
        "The gradient is the steepest way up for a given length of the step, and so asks: length on the "
        f"map, or on the globe? Climb from one place with the coordinates of {len(found.maps)} maps. With "
        "steps along the gradient of each map's coordinates the paths are up to "
        f"{number(float(plain[largest]))} radii of the globe apart, and with steps of h&nbsp;= "
        f"{number(float(found.steps[smallest]))} in place of {number(float(found.steps[largest]))} they are "
        f"still, by {number(float(plain[smallest]))}. The <b>natural gradient</b> divides by the metric: its "
        f"paths are {number(float(natural[largest]))} apart, and {number(float(natural[smallest]))} with the "
        f"small steps. That falls like h<sup>{order(found.steps, natural):.2f}</sup>: as a flow it is one "
        "path, on every map."
    )
    caption = (
        "Above: the paths on their maps. Below: the same paths on the globe, and how far those of different "
        "maps are apart, against the size of the steps."
    )
    return [text, Figure("map-ascent", caption)]


def _gaussian(found: GaussianFlows) -> list[str | Figure]:
    plain, natural = (apart(list(found.pulled[method].values()), fisher_distance) for method in METHODS)
    one_step, walked = (order(found.steps, own["natural gradient"]) for own in (found.one_step, found.walked))
    text = (
        "What is the globe, where predictions are learned? The distributions themselves, with the KL "
        "divergence for small distances; to second order it is ½ <i>d</i><sup>T</sup><i>F d</i>, and the "
        "<b>Fisher matrix</b> <i>F</i> is the metric. Here a Gaussian is fitted to data in "
        f"{len(found.axes)} charts: {listing(list(found.axes))}. Seen in one chart, flows of the gradient "
        f"are up to {number(plain)} of Fisher length apart; those of the natural gradient {number(natural)}, "
        "which is the error of the solver. Finite steps are straight in their own chart and bent in another, "
        f"so they agree only up to h<sup>{one_step:.2f}</sup> (one step) and h<sup>{walked:.2f}</sup> (1/h "
        "steps): the natural gradient is exact as a flow, and as a step where a linear map connects the "
        "charts, as it does between equivalent nets."
    )
    caption = (
        "Above: flows in three charts; ellipses are steps of equal KL divergence. Below: the same flows in "
        "the first chart, and how far finite steps in different charts are apart."
    )
    return [text, Figure("gaussian-charts", caption)]
