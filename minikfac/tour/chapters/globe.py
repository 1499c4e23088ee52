"""Maps of the globe and Tissot's ellipses: every chart of the sphere distorts.

A point of the unit sphere has longitude and latitude p = (lon, lat), in radians, and coordinates u = (x, y)
on a map, in radii of the globe. With J = du/dp, written down by hand, lengths on the globe are

    ds^2 = dp^T diag(cos^2 lat, 1) dp = du^T G du,        G = J^{-T} diag(cos^2 lat, 1) J^{-1}

Tissot's ellipse {v : v^T G v = eps^2} is how a map draws a small circle. A map keeps angles if its ellipses
are circles, G = c(u) I, and areas if det G = 1; none keeps both. Longitude and latitude fail at the poles,
where J is singular on most maps; pictures stay away from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from ... import plots
from ...backend import Array
from ..parts import Chapter, Section
from ..studied import Run
from ..words import words


class Projection(Protocol):
    """A map of the globe: points p (..., 2) in radians to u (..., 2), back, and J (..., 2, 2)."""

    name: str
    keeps: str
    """What is the same on the map as on the globe."""
    latitudes: tuple[float, float] = (-90, 90)
    """From where to where it is drawn, in degrees."""

    def forward(self, p: Array) -> Array:
        """Where the map has p."""

    def inverse(self, u: Array) -> Array:
        """Which point is at u. ValueError outside the map."""

    def jacobian(self, p: Array) -> Array:
        """J = du/dp."""

    def metric(self, p: Array) -> Array:
        """G (..., 2, 2): squared lengths on the globe of changes of u."""
        back = np.linalg.inv(self.jacobian(p))
        return np.einsum("...ci,...c,...cj->...ij", back, squared_lengths(p), back)

    def stretch(self, p: Array) -> Array:
        """How the map draws the unit vectors to the east and the north, as columns (..., 2, 2).

        G^{-1} is this times its transpose. Its singular values are the semi-axes of Tissot's ellipse, its
        determinant is how much areas grow.
        """
        return self.jacobian(p) / np.sqrt(squared_lengths(p))[..., None, :]


def squared_lengths(p: Array) -> Array:
    """Of a radian of longitude and of latitude."""
    return np.stack([np.cos(p[..., 1]) ** 2, np.ones(p.shape[:-1])], axis=-1)


def _matrix(*entries: Array | float) -> Array:
    """Four entries, row by row, to matrices (..., 2, 2)."""
    arrays = np.broadcast_arrays(*entries)
    return np.stack(arrays, axis=-1).reshape(*arrays[0].shape, 2, 2)


def _within(values: Array, limit: float, name: str) -> Array:
    worst = float(np.max(np.abs(values)))
    if not worst <= limit:
        raise ValueError(f"expected |y| <= {limit:.4g} on the map {name}, got {worst:.4g}")
    return values


def on_sphere(p: Array) -> Array:
    """Points (..., 3) of the unit sphere."""
    lon, lat = p[..., 0], p[..., 1]
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def east_and_north(p: Array) -> Array:
    """The unit vectors to the east and the north as columns (..., 3, 2)."""
    lon, lat = p[..., 0], p[..., 1]
    east = [-np.sin(lon), np.cos(lon), np.zeros_like(lon)]
    north = [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)]
    return np.stack([np.stack(east, axis=-1), np.stack(north, axis=-1)], axis=-1)


class Equirectangular(Projection):
    """x = lon, y = lat."""

    name, keeps = "equirectangular", "distances along meridians"

    def forward(self, p: Array) -> Array:
        return np.array(p, dtype=float)

    def inverse(self, u: Array) -> Array:
        _within(u[..., 1], np.pi / 2, self.name)
        return np.array(u, dtype=float)

    def jacobian(self, p: Array) -> Array:
        return np.broadcast_to(np.eye(2), (*p.shape, 2)).copy()


class Mercator(Projection):
    """x = lon, y = ln tan(pi/4 + lat/2) = artanh(sin lat)."""

    name, keeps, latitudes = "Mercator", "angles", (-75, 75)

    def forward(self, p: Array) -> Array:
        return np.stack([p[..., 0], np.arctanh(np.sin(p[..., 1]))], axis=-1)

    def inverse(self, u: Array) -> Array:
        return np.stack([u[..., 0], np.arctan(np.sinh(u[..., 1]))], axis=-1)

    def jacobian(self, p: Array) -> Array:
        lat = p[..., 1]
        return _matrix(1, 0, 0, 1 / np.cos(lat))


class Lambert(Projection):
    """x = lon, y = sin lat: the equal-area map on a cylinder."""

    name, keeps = "Lambert", "areas"

    def forward(self, p: Array) -> Array:
        return np.stack([p[..., 0], np.sin(p[..., 1])], axis=-1)

    def inverse(self, u: Array) -> Array:
        return np.stack([u[..., 0], np.arcsin(_within(u[..., 1], 1, self.name))], axis=-1)

    def jacobian(self, p: Array) -> Array:
        lat = p[..., 1]
        return _matrix(1, 0, 0, np.cos(lat))


class Sinusoidal(Projection):
    """x = lon cos lat, y = lat."""

    name, keeps = "sinusoidal", "areas"

    def forward(self, p: Array) -> Array:
        lon, lat = p[..., 0], p[..., 1]
        return np.stack([lon * np.cos(lat), lat], axis=-1)

    def inverse(self, u: Array) -> Array:
        lat = _within(u[..., 1], np.pi / 2, self.name)
        return np.stack([u[..., 0] / np.cos(lat), lat], axis=-1)

    def jacobian(self, p: Array) -> Array:
        lon, lat = p[..., 0], p[..., 1]
        return _matrix(np.cos(lat), -lon * np.sin(lat), 0, 1)


class Stereographic(Projection):
    """x = r sin lon, y = -r cos lon, r = 2 tan(pi/4 - lat/2): as seen from the south pole."""

    name, keeps, latitudes = "stereographic", "angles", (-15, 90)

    def forward(self, p: Array) -> Array:
        lon, r = p[..., 0], 2 * np.tan(np.pi / 4 - p[..., 1] / 2)
        return np.stack([r * np.sin(lon), -r * np.cos(lon)], axis=-1)

    def inverse(self, u: Array) -> Array:
        lon = np.arctan2(u[..., 0], -u[..., 1])
        return np.stack([lon, np.pi / 2 - 2 * np.arctan(np.hypot(u[..., 0], u[..., 1]) / 2)], axis=-1)

    def jacobian(self, p: Array) -> Array:
        lon, r = p[..., 0], 2 * np.tan(np.pi / 4 - p[..., 1] / 2)
        dr = -(1 + r**2 / 4)  # by latitude
        return _matrix(r * np.cos(lon), dr * np.sin(lon), r * np.sin(lon), -dr * np.cos(lon))


PROJECTIONS = tuple(make() for make in (Equirectangular, Mercator, Lambert, Sinusoidal, Stereographic))


@dataclass(frozen=True)
class TissotMap:
    """Small circles of the globe on one map.

    Attributes:
        name: of the map.
        keeps: what is the same as on the globe.
        graticule: meridians and parallels, (k, 2) each.
        ellipses: (n, m, 2), points u on each of n ellipses.
        areas: (n,), how much each grew.
        shapes: (n,), the longer axis of each over the shorter.
    """

    name: str
    keeps: str
    graticule: tuple[Array, ...]
    ellipses: Array
    areas: Array
    shapes: Array


@dataclass(frozen=True)
class Tissot:
    """Circles of one size on the globe, and what maps make of them.

    Attributes:
        graticule: meridians and parallels on the globe, (k, 3) each.
        circles: (n, m, 3), small circles on the globe's tangent planes.
        maps: one per projection.
    """

    graticule: tuple[Array, ...]
    circles: Array
    maps: tuple[TissotMap, ...]


SPACING = 30
"""Of the graticule and of the circles on it, in degrees."""


def tissot(projections: Sequence[Projection] = PROJECTIONS, radius: float = 0.11) -> Tissot:
    """Draw circles of one size all over the globe, and what each map makes of them.

    Args:
        projections: the maps.
        radius: eps, in radii of the globe. Ellipses are those of the metric, however large.
    """
    circle = np.array([np.cos(angles := np.linspace(0, 2 * np.pi, 73)), np.sin(angles)]).T
    maps = []
    for projection in projections:
        p = _crossings(projection.latitudes)
        stretch = projection.stretch(p)
        long, short = np.linalg.svd(stretch, compute_uv=False).T
        ellipses = projection.forward(p)[:, None] + radius * np.einsum("nij,mj->nmi", stretch, circle)
        lines = tuple(projection.forward(line) for line in graticule(projection.latitudes))
        maps.append(TissotMap(projection.name, projection.keeps, lines, ellipses, long * short, long / short))
    p = _crossings((-90, 90))
    circles = on_sphere(p)[:, None] + radius * np.einsum("nai,mi->nma", east_and_north(p), circle)
    return Tissot(tuple(on_sphere(line) for line in graticule((-90, 90))), circles, tuple(maps))


def graticule(latitudes: tuple[float, float]) -> list[Array]:
    """Meridians, then parallels and the ends of the map: p (k, 2) each."""
    lat, lon = np.linspace(*latitudes, 91), np.linspace(-180, 180, 181)
    meridians = [np.stack([np.full(91, at), lat], -1) for at in np.arange(-180, 181, SPACING)]
    rows = [latitudes[0], *_parallels(latitudes), latitudes[1]]
    return [np.radians(line) for line in meridians + [np.stack([lon, np.full(181, at)], -1) for at in rows]]


def _parallels(latitudes: tuple[float, float]) -> Array:
    """Between the ends of a map, in degrees."""
    lat = np.arange(-90 + SPACING, 90, SPACING)
    return lat[(lat > latitudes[0]) & (lat < latitudes[1])]


def _crossings(latitudes: tuple[float, float]) -> Array:
    """Where meridians and parallels meet, away from the map's ends: p (n, 2)."""
    lon = np.arange(-180 + SPACING, 180, SPACING)
    return np.radians(np.stack(np.meshgrid(lon, _parallels(latitudes)), -1).reshape(-1, 2))


def compute(run: Run) -> Chapter:
    """What maps keep, and what a metric is; no net is needed."""
    drawn = tissot()
    text = words("globe", maps=len(drawn.maps))
    section = Section("globe", "Before any net: the map and the globe", text)
    draw = partial(plots.projections, [vars(one) for one in drawn.maps], drawn.circles, drawn.graticule)
    maps = {one.name: {"keeps": one.keeps, "areas": one.areas, "shapes": one.shapes} for one in drawn.maps}
    return Chapter([section], {"map-projections": draw}, {"opening": {"maps": maps}}, results=drawn)
