"""Gradient ascent on the map and on the globe: which way is steepest depends on the metric.

Two steps uphill in the coordinates u of a map with metric G (:mod:`.globe`):

    u <- u + h grad_u f             steepest for lengths on the map: another path on every map
    u <- u + h G^{-1} grad_u f      steepest for lengths on the globe: the natural gradient [Amari98]

As h -> 0 the second is the flow of the gradient on the sphere, on every map. Steps agree only up to O(h), as
each is straight on its own map. On a map that keeps angles, G = c(u) I, the first goes the right way too, but
at another pace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ... import plots
from ...backend import Array
from ..parts import Chapter, Section
from ..studied import Run
from ..words import words
from . import charts
from .charts import METHODS, Field, distances, flow, walk
from .globe import PROJECTIONS, Projection, east_and_north, graticule, on_sphere, squared_lengths


def great_circle(a: Array, b: Array) -> Array:
    """Distance of points (..., 3) on the globe, in its radii; precise for small distances too."""
    return 2 * np.arcsin(np.minimum(1, np.linalg.norm(a - b, axis=-1) / 2))


@dataclass(frozen=True)
class Hills:
    """A smooth function on the sphere: f(x) = sum_b height_b exp(sharpness_b (x . top_b - 1)).

    Attributes:
        tops: (b, 2), longitude and latitude in radians.
        heights: (b,).
        sharpness: (b,).
    """

    tops: Array
    heights: Array
    sharpness: Array

    def each(self, x: Array) -> Array:
        """Height of each hill at x (..., 3): (..., b)."""
        return self.heights * np.exp(self.sharpness * (x @ on_sphere(self.tops).T - 1))

    def value(self, x: Array) -> Array:
        """f at x (..., 3)."""
        return self.each(x).sum(-1)

    def gradient(self, x: Array) -> Array:
        """The gradient on the sphere (..., 3), tangent to it."""
        steep = (self.each(x) * self.sharpness) @ on_sphere(self.tops)
        return steep - (steep * x).sum(-1, keepdims=True) * x


def fields(projection: Projection, hills: Hills) -> dict[str, Field]:
    """The gradient and the natural gradient of f in the coordinates u of a map."""

    def gradient(u: Array) -> Array:
        p = projection.inverse(u)
        by_p = np.sqrt(squared_lengths(p)) * (east_and_north(p).T @ hills.gradient(on_sphere(p)))
        return np.linalg.solve(projection.jacobian(p).T, by_p)

    return charts.fields(gradient, lambda u: projection.metric(projection.inverse(u)))


@dataclass(frozen=True)
class Ascents:
    """Paths uphill on several maps. Methods are "gradient" and "natural gradient".

    Attributes:
        step: h of the paths below.
        duration: number of steps times h, of all paths.
        sphere: (n, m, 3), a grid of points of the globe.
        heights: (n, m), f there.
        map_heights: (p, q), f on a grid of a part of the globe.
        maps: by name of the map, that grid in its coordinates (p, q, 2).
        keeps: by name of the map, the quantity that it preserves.
        graticules: meridians and parallels by name of the map, (k, 2) each, and on the "globe", (k, 3).
        on_map: by method and map, the path in the map's own coordinates (k + 1, 2).
        on_globe: by method and map, the same path (k + 1, 3).
        limit: (k + 1, 3), the flow of the gradient on the sphere, without any map.
        steps: (s,), several h.
        apart: by method, (s,) largest distances on the globe between the paths of different maps.
    """

    step: float
    duration: float
    sphere: Array
    heights: Array
    map_heights: Array
    maps: Mapping[str, Array]
    keeps: Mapping[str, str]
    graticules: Mapping[str, Sequence[Array]]
    on_map: Mapping[str, Mapping[str, Array]]
    on_globe: Mapping[str, Mapping[str, Array]]
    limit: Array
    steps: Array
    apart: Mapping[str, Array]


HILLS = Hills(np.radians([[35.0, 10.0], [-50.0, 0.0]]), np.array([1.0, 0.9]), np.array([3.0, 3.0]))
"""A higher one in the east, a lower one in the west."""
START = (-20.0, 60.0)
"""Between them, in the north, where maps distort."""
SOUTH, NORTH = -30, 75
"""Latitudes of the maps that are drawn, in degrees."""


def ascents(
    hills: Hills = HILLS,
    start: tuple[float, float] = START,
    projections: Sequence[Projection] = PROJECTIONS[:3],
    step: float = 0.1,
    duration: float = 6.0,
    halvings: int = 4,
) -> Ascents:
    """Climb the hills from one place, by the gradient and by the natural gradient, on several maps.

    Args:
        hills: f.
        start: longitude and latitude in degrees.
        projections: at least two maps.
        step: h of the paths shown.
        duration: of all paths; the number of steps is its ratio to h.
        halvings: of the step, for distances against h.

    Raises:
        ValueError: if a path leaves a map.
    """
    p = np.radians(np.array(start, dtype=float))
    steps = step / 2.0 ** np.arange(halvings + 1)
    on_map: dict[str, dict[str, Array]] = {method: {} for method in METHODS}
    on_globe: dict[str, dict[str, list[Array]]] = {method: {} for method in METHODS}
    for projection in projections:
        for method, field in fields(projection, hills).items():
            paths = [walk(field, projection.forward(p), h, round(duration / h)) for h in steps]
            on_map[method][projection.name] = paths[0]
            on_globe[method][projection.name] = [on_sphere(projection.inverse(path)) for path in paths]
    grid = np.meshgrid(np.linspace(-95, 80, 111), np.linspace(SOUTH, NORTH, 71))
    points = np.radians(np.stack(grid, axis=-1))
    whole = np.radians(np.stack(np.meshgrid(np.linspace(-180, 180, 181), np.linspace(-90, 90, 91)), -1))
    return Ascents(
        step,
        duration,
        on_sphere(whole),
        hills.value(on_sphere(whole)),
        hills.value(on_sphere(points)),
        {projection.name: projection.forward(points) for projection in projections},
        {projection.name: projection.keeps for projection in projections},
        {"globe": [on_sphere(line) for line in graticule((-90, 90))]}
        | {one.name: [one.forward(line) for line in graticule((SOUTH, NORTH))] for one in projections},
        on_map,
        {method: {name: paths[0] for name, paths in on_globe[method].items()} for method in METHODS},
        flow(hills.gradient, on_sphere(p), step * np.arange(round(duration / step) + 1)),
        steps,
        distances(on_globe, great_circle),
    )


def compute(run: Run) -> Chapter:
    """Why paths depend on the map, and those of the natural gradient do not; no net is needed."""
    climb = ascents()
    paths = climb.maps, climb.on_map, climb.on_globe, climb.limit, climb.steps, climb.apart
    options: dict[str, Any] = {"graticules": climb.graticules, "keeps": climb.keeps, "step": climb.step}
    draw = partial(plots.globe_ascent, climb.heights, climb.sphere, climb.map_heights, *paths, **options)
    record = {key: getattr(climb, key) for key in ("duration", "steps", "apart")}  # no paths
    text = words("ascents", maps=len(climb.maps))
    section = Section("ascent", "Uphill on the map, uphill on the globe", text, 3)
    return Chapter([section], {"map-ascent": draw}, {"opening": {"ascents": record}}, results=climb)
