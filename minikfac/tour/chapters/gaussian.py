"""A Gaussian fitted to data in three charts: gradients follow the chart, natural gradients the family.

N(mu, sigma^2) fitted to numbers of mean m and variance v, by their mean negative log-likelihood in nats

    loss = log sigma + (v + (m - mu)^2) / (2 sigma^2) + log(2 pi) / 2

in the charts (mu, sigma), (mu, log sigma) and (a, b) = (mu, 1) / sigma^2, the natural parameters. Gradient
and Fisher matrix F of each are written down by hand. Two flows in every chart, d xi / dt = -grad and
-F^{-1} grad [Amari98]: pulled back to (mu, sigma), natural flows are one curve, gradient flows are three.

Exact for the flow, not for steps: one natural step of h agrees between the charts up to O(h^2), as they bend
against each other, and a walk of fixed duration up to O(h).

In this family the natural flow has a formula: both moments of the Gaussian, mu and mu^2 + sigma^2, approach
those of the data like e^{-t}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from ... import plots
from ...backend import Array
from ..parts import Chapter, Section, listing
from ..studied import Run
from ..words import words
from . import charts
from .charts import METHODS, Field, distances, flow, walk


class Chart(Protocol):
    """Coordinates xi (..., 2) of Gaussians, which are q = (mu, sigma) (..., 2)."""

    name: str
    axes: tuple[str, str]

    def push(self, q: Array) -> Array:
        """Coordinates of Gaussians (mu, sigma)."""

    def pull(self, xi: Array) -> Array:
        """The Gaussians (mu, sigma) at these coordinates. ValueError where there is none."""

    def gradient(self, xi: Array, m: float, v: float) -> Array:
        """Of the loss by xi, at one xi (2,), for data of mean m and variance v."""

    def fisher(self, xi: Array) -> Array:
        """F (2, 2) at one xi (2,), per example."""


class MeanDeviation(Chart):
    """xi = (mu, sigma)."""

    name, axes = "(μ, σ)", ("μ", "σ")

    def push(self, q: Array) -> Array:
        return np.array(q, dtype=float)

    def pull(self, xi: Array) -> Array:
        return np.stack([xi[..., 0], _positive(xi[..., 1], "σ")], axis=-1)

    def gradient(self, xi: Array, m: float, v: float) -> Array:
        mu, sigma = xi
        return np.array([(mu - m) / sigma**2, 1 / sigma - (v + (m - mu) ** 2) / sigma**3])

    def fisher(self, xi: Array) -> Array:
        return np.diag([1 / xi[1] ** 2, 2 / xi[1] ** 2])


class MeanLogDeviation(Chart):
    """xi = (mu, log sigma)."""

    name, axes = "(μ, log σ)", ("μ", "log σ")

    def push(self, q: Array) -> Array:
        return np.stack([q[..., 0], np.log(_positive(q[..., 1], "σ"))], axis=-1)

    def pull(self, xi: Array) -> Array:
        return np.stack([xi[..., 0], np.exp(xi[..., 1])], axis=-1)

    def gradient(self, xi: Array, m: float, v: float) -> Array:
        mu, precision = xi[0], math.exp(-2 * xi[1])
        return np.array([(mu - m) * precision, 1 - (v + (m - mu) ** 2) * precision])

    def fisher(self, xi: Array) -> Array:
        return np.diag([math.exp(-2 * xi[1]), 2])


class NaturalParameters(Chart):
    """xi = (a, b) = (mu, 1) / sigma^2: the loss is (b (v + m^2) + a^2 / b - log b + log(2 pi)) / 2 - a m."""

    name, axes = "natural parameters", ("a = μ / σ²", "b = 1 / σ²")

    def push(self, q: Array) -> Array:
        precision = 1 / _positive(q[..., 1], "σ") ** 2
        return np.stack([q[..., 0] * precision, precision], axis=-1)

    def pull(self, xi: Array) -> Array:
        b = _positive(xi[..., 1], "b")
        return np.stack([xi[..., 0] / b, 1 / np.sqrt(b)], axis=-1)

    def gradient(self, xi: Array, m: float, v: float) -> Array:
        a, b = xi
        return np.array([a / b - m, (v + m**2 - a**2 / b**2 - 1 / b) / 2])

    def fisher(self, xi: Array) -> Array:
        a, b = xi
        return np.array([[1 / b, -a / b**2], [-a / b**2, a**2 / b**3 + 1 / (2 * b**2)]])


def _positive(values: Array, name: str) -> Array:
    least = float(np.min(values))
    if not least > 0:
        raise ValueError(f"expected {name} > 0, got {least:.4g}")
    return values


CHARTS: tuple[Chart, ...] = (MeanDeviation(), MeanLogDeviation(), NaturalParameters())


def loss(q: Array, m: float, v: float) -> Array:
    """Mean negative log-likelihood in nats of Gaussians q (..., 2) on data of mean m and variance v."""
    mu, sigma = q[..., 0], q[..., 1]
    return np.log(sigma) + (v + (m - mu) ** 2) / (2 * sigma**2) + math.log(2 * math.pi) / 2


def fisher_distance(a: Array, b: Array) -> Array:
    """Distance of Gaussians (..., 2) along the shortest way; its length ds^2 = d^T F d knows no chart.

    The family is a hyperbolic plane: with mu / sqrt(2) and sigma as coordinates, the upper half-plane, times
    sqrt(2).
    """
    near = ((a[..., 0] - b[..., 0]) ** 2 / 2 + (a[..., 1] - b[..., 1]) ** 2) / (4 * a[..., 1] * b[..., 1])
    return math.sqrt(8) * np.arcsinh(np.sqrt(near))


def fields(chart: Chart, m: float, v: float) -> dict[str, Field]:
    """Downhill in a chart: minus the gradient, and minus the natural gradient."""
    return charts.fields(lambda xi: -chart.gradient(xi, m, v), chart.fisher)


@dataclass(frozen=True)
class GaussianFlows:
    """Fits of a Gaussian in several charts. Methods are "gradient" and "natural gradient".

    Attributes:
        mean: m of the data.
        variance: v of the data.
        axes: names of the coordinates, by chart.
        grids: by chart, (n, m, 2), where it has a grid of Gaussians.
        losses: (n, m) of these, in nats.
        ellipses: by chart, (e, k, 2), Gaussians at one Fisher length from e others, to first order.
        in_chart: by method and chart, flows (starts, k, 2) in its coordinates.
        pulled: by method and chart, the same flows as (mu, sigma).
        times: (k,).
        steps: (s,), several h.
        one_step: by method, (s,) largest distance between charts after one step of h, in Fisher length.
        walked: by method, the same along walks of duration 1.
    """

    mean: float
    variance: float
    axes: Mapping[str, tuple[str, str]]
    grids: Mapping[str, Array]
    losses: Array
    ellipses: Mapping[str, Array]
    in_chart: Mapping[str, Mapping[str, Array]]
    pulled: Mapping[str, Mapping[str, Array]]
    times: Array
    steps: Array
    one_step: Mapping[str, Array]
    walked: Mapping[str, Array]


STARTS = ((-1.0, 0.7), (0.2, 2.0), (3.0, 1.7))


def gaussian_flows(
    data: Array | None = None,
    starts: Sequence[tuple[float, float]] = STARTS,
    duration: float = 6.0,
    largest_step: float = 0.05,
    halvings: int = 6,
    radius: float = 0.13,
) -> GaussianFlows:
    """Fit a Gaussian by gradient and natural-gradient flows in three charts, and by steps.

    Args:
        data: (n,), not all equal. Only their mean and variance matter; 1 and 1 by default.
        starts: (mu, sigma) where flows begin; steps begin at the first.
        duration: of the flows.
        largest_step: h of the longest steps.
        halvings: of it.
        radius: of the ellipses, in Fisher length: sqrt(2 KL) nats to first order.

    Raises:
        ValueError: on data that no Gaussian fits, or steps that leave the family.
    """
    y = np.array([0.0, 2.0]) if data is None else np.asarray(data, dtype=float)
    if y.ndim != 1 or not (np.isfinite(y).all() and y.size and y.var() > 0):
        raise ValueError(f"expected finite data (n,) that are not all equal, got shape {y.shape}")
    m, v = float(y.mean()), float(y.var())
    times = np.linspace(0, duration, 121)
    steps = largest_step / 2.0 ** np.arange(halvings + 1)
    in_chart: dict[str, dict[str, Array]] = {method: {} for method in METHODS}
    pulled: dict[str, dict[str, Array]] = {method: {} for method in METHODS}
    walks: dict[str, dict[str, list[Array]]] = {method: {} for method in METHODS}
    for chart in CHARTS:
        for method, field in fields(chart, m, v).items():
            paths = np.array([flow(field, chart.push(np.array(q)), times) for q in starts])
            in_chart[method][chart.name], pulled[method][chart.name] = paths, chart.pull(paths)
            first = chart.push(np.array(starts[0]))
            walks[method][chart.name] = [
                chart.pull(walk(field, first, h, max(1, round(1 / h)))) for h in steps
            ]
    grid, centres = _around(m, math.sqrt(v))

    return GaussianFlows(
        m,
        v,
        {chart.name: chart.axes for chart in CHARTS},
        {chart.name: chart.push(grid) for chart in CHARTS},
        loss(grid, m, v),
        {chart.name: _ellipses(chart, centres, radius) for chart in CHARTS},
        in_chart,
        pulled,
        times,
        steps,
        distances(walks, fisher_distance, 2),
        distances(walks, fisher_distance),
    )


def _around(m: float, spread: float) -> tuple[Array, Array]:
    """A fine grid of Gaussians (111, 161, 2) around the fit, and a coarse one (20, 2)."""
    mus = m + spread * np.sinh(np.linspace(-5, 5, 161))  # close to each other near the fit
    sigmas = spread * 2.0 ** np.arange(-0.5, 1.1, 0.5)
    fine = np.stack(np.meshgrid(mus, spread * np.geomspace(0.3, 12, 111)), axis=-1)
    return fine, np.stack(np.meshgrid(m + spread * np.arange(-2, 3), sigmas), -1).reshape(-1, 2)


def _ellipses(chart: Chart, centres: Array, radius: float) -> Array:
    """{xi + d : d^T F d = radius^2} around each Gaussian (e, 2), as (e, 73, 2)."""
    circle = np.array([np.cos(angles := np.linspace(0, 2 * np.pi, 73)), np.sin(angles)])
    ellipses = []
    for xi in chart.push(centres):
        half = np.linalg.cholesky(chart.fisher(xi))  # d^T F d = |half^T d|^2
        ellipses.append(xi + radius * np.linalg.solve(half.T, circle).T)
    return np.array(ellipses)


def compute(run: Run) -> Chapter:
    """Flows of different charts, and finite steps; no net is needed."""
    flows = gaussian_flows()
    text = words("gaussian", charts=len(flows.axes), names=listing(list(flows.axes)))
    apart = {
        f"{method.split()[0]}, {length}": each[method]
        for length, each in {"one step": flows.one_step, "1/h steps": flows.walked}.items()
        for method in METHODS
    }
    places = flows.losses, flows.grids, flows.axes, flows.ellipses, flows.in_chart, flows.pulled
    fit = (flows.mean, flows.variance**0.5)
    draw = partial(plots.gaussian_flows, *places, fit, flows.steps, apart)
    keys = ("mean", "variance", "steps", "one_step", "walked")  # no paths
    record = {"opening": {"gaussian": {key: getattr(flows, key) for key in keys}}}
    section = Section("gaussian", "A family of distributions is a globe too", text, 3)
    return Chapter([section], {"gaussian-charts": draw}, record, results=flows)
