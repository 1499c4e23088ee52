"""A Gaussian in three charts: Fisher matrices by quadrature, flows that agree or do not, orders of steps."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikfac import tour
from minikfac.tour.chapters.gaussian import (
    CHARTS,
    STARTS,
    Chart,
    GaussianFlows,
    fields,
    fisher_distance,
    loss,
)
from oracles import close, derivative

gaussian = st.tuples(st.floats(-2, 2), st.floats(0.5, 2)).map(np.array)
M, V = 0.7, 1.3


JACOBIANS = {
    "(μ, σ)": lambda mu, sigma: np.eye(2),
    "(μ, log σ)": lambda mu, sigma: np.diag([1, 1 / sigma]),
    "natural parameters": lambda mu, sigma: [[sigma**-2, -2 * mu * sigma**-3], [0, -2 * sigma**-3]],
}
"""d xi / d (mu, sigma), by hand."""


def jacobian(chart: Chart, q: np.ndarray) -> np.ndarray:
    return np.array(JACOBIANS[chart.name](*q))


@pytest.fixture(params=CHARTS, ids=["deviation", "log", "natural"], scope="module")
def chart(request: pytest.FixtureRequest) -> Chart:
    return request.param


@pytest.fixture(scope="module")
def flows() -> GaussianFlows:
    return tour.gaussian_flows()


def log_density(chart: Chart, xi: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of N(mu, sigma^2), with each chart's definition written down again."""
    if chart.name == "natural parameters":
        a, b = xi
        return -b * y**2 / 2 + a * y - a**2 / (2 * b) + 0.5 * math.log(b / (2 * math.pi))
    mu, sigma = xi[0], math.exp(xi[1]) if "log" in chart.name else xi[1]
    return -((y - mu) ** 2) / (2 * sigma**2) - math.log(sigma) - 0.5 * math.log(2 * math.pi)


@given(q=gaussian)
def test_fisher_matrices_are_expectations(chart: Chart, q: np.ndarray) -> None:
    """E[D D^T] over y ~ N(mu, sigma^2), by Gauss-Hermite quadrature: exact for polynomials such as these."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)
    y, weights = q[0] + q[1] * nodes, weights / weights.sum()
    xi = chart.push(q)
    D = np.array([derivative(lambda at: log_density(chart, at, y), xi, e, 2e-4) for e in np.eye(2)])
    F = chart.fisher(xi)
    np.testing.assert_allclose(D @ weights, 0, atol=1e-7 * np.sqrt(F.max()))  # the score has mean 0
    np.testing.assert_allclose((D * weights) @ D.T, F, rtol=1e-7, atol=1e-7 * F.max())


@given(q=gaussian)
def test_fisher_matrices_transform(chart: Chart, q: np.ndarray) -> None:
    J, xi = jacobian(chart, q), chart.push(q)
    np.testing.assert_allclose(J.T @ chart.fisher(xi) @ J, np.diag([1, 2]) / q[1] ** 2, rtol=1e-9, atol=1e-9)


@given(q=gaussian)
def test_charts_there_and_back(chart: Chart, q: np.ndarray) -> None:
    close(chart.pull(chart.push(q)), q)
    J = [derivative(chart.push, q, e) for e in np.eye(2)]
    np.testing.assert_allclose(jacobian(chart, q), np.transpose(J), rtol=1e-7, atol=1e-7)


@given(q=gaussian)
def test_gradients_are_those_of_the_loss(chart: Chart, q: np.ndarray) -> None:
    y = M + math.sqrt(V) * np.array([-1.0, 1.0])
    xi = chart.push(q)
    close(loss(q, M, V), -log_density(chart, xi, y).mean())
    gradient = chart.gradient(xi, M, V)
    expected = [derivative(lambda at: -log_density(chart, at, y).mean(), xi, e, 2e-4) for e in np.eye(2)]
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-7 * max(1, np.abs(gradient).max()))


def test_natural_flows_are_one_curve(flows: GaussianFlows) -> None:
    natural, gradient = (list(flows.pulled[method].values()) for method in ("natural gradient", "gradient"))
    for a, b in combinations(natural, 2):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)
    for a, b in combinations(gradient, 2):
        assert (fisher_distance(a, b).max(axis=1) > 0.1).all()  # each start
    for name, paths in flows.in_chart["natural gradient"].items():
        chart = next(chart for chart in CHARTS if chart.name == name)
        close(chart.pull(paths), flows.pulled["natural gradient"][name])


def test_natural_flows_have_a_formula(flows: GaussianFlows) -> None:
    """Moments approach those of the data like e^{-t}."""
    left = np.exp(-flows.times)[:, None]
    moments = np.array([flows.mean, flows.mean**2 + flows.variance])
    for paths in flows.pulled["natural gradient"].values():
        for (mu, sigma), path in zip(STARTS, paths, strict=True):
            start = np.array([mu, mu**2 + sigma**2])
            expected = moments + left * (start - moments)
            np.testing.assert_allclose(
                np.stack([path[:, 0], (path**2).sum(1)], 1), expected, rtol=1e-8, atol=1e-8
            )


def test_all_flows_fall_to_the_fit(flows: GaussianFlows) -> None:
    for by_chart in flows.pulled.values():
        for paths in by_chart.values():
            values = loss(paths, flows.mean, flows.variance)
            assert (np.diff(values, axis=1) < 1e-9).all()
            assert (values[:, -1] - flows.losses.min() < 0.02).all()


def slopes(y: np.ndarray) -> np.ndarray:
    return np.array([math.log2(near / far) for near, far in pairwise(y)])


def test_orders_of_the_steps(flows: GaussianFlows) -> None:
    """One step: 2 and 1; walks of one duration: 1 and 0. h falls by 2 from one to the next."""
    close(flows.steps[:-1] / flows.steps[1:], 2)
    assert slopes(flows.one_step["natural gradient"])[-3:] == pytest.approx(2, abs=0.05)
    assert slopes(flows.one_step["gradient"])[-3:] == pytest.approx(1, abs=0.1)
    assert slopes(flows.walked["natural gradient"])[-3:] == pytest.approx(1, abs=0.1)
    assert slopes(flows.walked["gradient"])[-3:] == pytest.approx(0, abs=0.02)


def test_steps_agree_where_charts_differ_by_a_linear_map() -> None:
    """(mu, log sigma) and twice the first coordinate: natural steps of any length agree, gradients do not."""
    chart, q = CHARTS[1], np.array([-1.0, 0.7])
    A = np.array([[2.0, 1.0], [0.0, -3.0]])
    xi = chart.push(q)
    gradient = chart.gradient(xi, M, V)
    there = np.linalg.solve(A.T, gradient)
    F = np.linalg.inv(A).T @ chart.fisher(xi) @ np.linalg.inv(A)
    natural = fields(chart, M, V)["natural gradient"](xi)
    close(np.linalg.solve(A, -np.linalg.solve(F, there)), natural)
    assert np.linalg.norm(np.linalg.solve(A, -there) + gradient) > 0.5 * np.linalg.norm(gradient)


@given(a=gaussian, b=gaussian)
def test_fisher_distances(a: np.ndarray, b: np.ndarray) -> None:
    """Small ones are d^T F d in every chart; they are twice the KL divergence, and add up along sigma."""
    close(fisher_distance(a, b), fisher_distance(b, a))
    d = 1e-4 * (b - a)
    length = fisher_distance(a, a + d)
    for chart in CHARTS:
        step = jacobian(chart, a) @ d
        np.testing.assert_allclose(
            length**2, step @ chart.fisher(chart.push(a)) @ step, rtol=2e-3, atol=1e-18
        )
    same = np.array([a[0], b[1]])
    np.testing.assert_allclose(
        fisher_distance(a, same), math.sqrt(2) * abs(math.log(a[1] / b[1])), rtol=1e-9, atol=1e-9
    )


def test_ellipses_are_steps_of_equal_divergence() -> None:
    radius = 1e-3
    flows = tour.gaussian_flows(halvings=0, duration=1, radius=radius)
    for chart in CHARTS:
        around = chart.pull(flows.ellipses[chart.name][:, :-1])  # (e, k, 2)
        centre = chart.pull(flows.ellipses[chart.name][:, :-1].mean(axis=1))[:, None]
        np.testing.assert_allclose(fisher_distance(around, centre), radius, rtol=1e-2)


def test_grids_hold_the_loss(flows: GaussianFlows) -> None:
    for chart in CHARTS:
        q = chart.pull(flows.grids[chart.name])
        np.testing.assert_allclose(loss(q, flows.mean, flows.variance), flows.losses, rtol=1e-8)


def test_only_mean_and_variance_of_the_data_matter() -> None:
    y = np.random.default_rng(0).normal(size=50)
    few = np.array([-1.0, 1.0]) * y.std() + y.mean()
    a, b = (tour.gaussian_flows(data, halvings=0, duration=1) for data in (y, few))
    assert (a.mean, a.variance) == pytest.approx((y.mean(), y.var()))
    for method in a.pulled:
        for name, paths in a.pulled[method].items():
            np.testing.assert_allclose(paths, b.pulled[method][name], rtol=1e-7)


@pytest.mark.parametrize("data", [[1.0, 1.0], [1.0, math.nan], [[1.0, 2.0]], []])
def test_data_that_no_gaussian_fits(data: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected finite data \(n,\) that are not all equal"):
        tour.gaussian_flows(np.array(data))


def test_steps_that_leave_the_family() -> None:
    with pytest.raises(ValueError, match=r"expected (σ|b) > 0, got -"):
        tour.gaussian_flows(largest_step=1.0, halvings=0)
    with pytest.raises(ValueError, match="expected σ > 0, got -1"):
        tour.gaussian_flows(starts=[(0.0, -1.0)])
