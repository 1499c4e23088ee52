"""Maps of the globe: Jacobians, what each map keeps, and ascent that depends on the map or does not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from minikfac import tour
from minikfac.tour.chapters.ascents import HILLS, START, Ascents, Hills, fields, great_circle
from minikfac.tour.chapters.charts import apart, flow, walk
from minikfac.tour.chapters.globe import PROJECTIONS, Projection, on_sphere
from oracles import FINITE_DIFFERENCE, close, derivative

NAMES = [projection.name for projection in PROJECTIONS]
CONFORMAL, EQUAL_AREA = ("Mercator", "stereographic"), ("Lambert", "sinusoidal")
angle = st.tuples(st.floats(-3, 3), st.floats(-1.3, 1.3)).map(np.array)


@pytest.fixture(params=PROJECTIONS, ids=NAMES, scope="module")
def projection(request: pytest.FixtureRequest) -> Projection:
    return request.param


@pytest.fixture(scope="module")
def climb() -> Ascents:
    return tour.ascents(step=0.1, duration=6.0, halvings=2)


def sphere(lon: float, lat: float) -> np.ndarray:
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


# maps ----------------------------------------------------------------------------------------------


@given(p=angle)
def test_there_and_back(projection: Projection, p: np.ndarray) -> None:
    np.testing.assert_allclose(projection.inverse(projection.forward(p)), p, rtol=1e-10, atol=1e-12)


@given(p=angle)
def test_jacobians_are_those_of_the_maps(projection: Projection, p: np.ndarray) -> None:
    J = projection.jacobian(p)
    h = 1e-3 * np.cos(p[1]) / 4  # the maps change faster near the poles
    for column, direction in enumerate(np.eye(2)):
        expected = derivative(projection.forward, p, direction, h)
        assert np.abs(J[:, column] - expected).max() <= 1e-7 * max(1, np.abs(expected).max())


@given(p=angle)
def test_the_metric_measures_lengths_on_the_globe(projection: Projection, p: np.ndarray) -> None:
    """Of a small move on the map, seen on the sphere."""
    u, G = projection.forward(p), projection.metric(p)
    scale = np.abs(projection.jacobian(p)).max()
    for v in (np.array([1.0, 0.0]), np.array([0.6, -0.8])):
        moved = derivative(lambda at: sphere(*projection.inverse(at)), u, v, 1e-4 * np.cos(p[1]) ** 2)
        np.testing.assert_allclose(v @ G @ v, moved @ moved, rtol=1e-5, atol=1e-7 / scale)


@given(p=angle)
def test_what_a_map_keeps(projection: Projection, p: np.ndarray) -> None:
    G, name = projection.metric(p), projection.name
    np.testing.assert_allclose(
        np.linalg.inv(G), projection.stretch(p) @ projection.stretch(p).T, rtol=1e-9, atol=1e-9
    )
    conformal = np.allclose(G, G[0, 0] * np.eye(2), rtol=1e-9, atol=1e-12)
    equal_area = np.isclose(np.linalg.det(G), 1, rtol=1e-9)
    if np.abs(p).min() > 0.2:  # away from equator and central meridian, nothing that it does not keep
        assert (conformal, equal_area) == (name in CONFORMAL, name in EQUAL_AREA)
    else:
        assert conformal >= (name in CONFORMAL) and equal_area >= (name in EQUAL_AREA)


def test_whole_arrays_are_mapped_at_once(projection: Projection) -> None:
    p = np.random.default_rng(0).uniform(-1, 1, (3, 4, 2))
    for f in (projection.forward, projection.jacobian, projection.metric, projection.stretch):
        close(f(p)[1, 2], f(p[1, 2]))


@pytest.mark.parametrize("name", ["equirectangular", "Lambert", "sinusoidal"])
def test_outside_the_map(name: str) -> None:
    with pytest.raises(ValueError, match=rf"expected \|y\| <= 1\S* on the map {name}, got 1.6"):
        PROJECTIONS[NAMES.index(name)].inverse(np.array([[0, 0.5], [0, -1.6]]))


def test_ellipses_are_small_circles() -> None:
    """What lies on the ellipse of a radius, goes back to points at that distance from its centre."""
    radius = 1e-5
    for projection, drawn in zip(PROJECTIONS, tour.tissot(radius=radius).maps, strict=True):
        centres = drawn.ellipses[:, :-1].mean(axis=1)  # (n, 2)
        there = on_sphere(projection.inverse(drawn.ellipses))
        distance = great_circle(there, on_sphere(projection.inverse(centres))[:, None])
        np.testing.assert_allclose(distance, radius, rtol=1e-3)
        kept = (np.ptp(drawn.areas) < 1e-9, drawn.shapes.max() < 1 + 1e-9)
        assert kept == (drawn.name in EQUAL_AREA, drawn.name in CONFORMAL)
        assert drawn.areas.min() > 0 and drawn.shapes.min() > 1 - 1e-12


def test_mercator_at_sixty_degrees() -> None:
    """Lengths are doubled, areas quadrupled; Lambert's ellipses are 4 : 1."""
    maps = {one.name: one for one in tour.tissot().maps}
    close(maps["Mercator"].areas.max(), 4)
    close(maps["Lambert"].shapes.max(), 4)
    close(maps["equirectangular"].areas.max(), 2)


# ascent --------------------------------------------------------------------------------------------


@given(p=angle)
def test_the_gradient_on_the_sphere(p: np.ndarray) -> None:
    x = sphere(*p)
    gradient = HILLS.gradient(x)
    assert abs(gradient @ x) < 1e-12
    for column in range(2):
        along = derivative(lambda q: sphere(*q), p, np.eye(2)[column])
        slope = derivative(lambda q: HILLS.value(sphere(*q)), p, np.eye(2)[column])
        close(gradient @ along, slope, FINITE_DIFFERENCE)


def test_gradients_in_the_coordinates_of_a_map(projection: Projection) -> None:
    u = projection.forward(np.array([-0.4, 0.9]))
    gradient = fields(projection, HILLS)["gradient"](u)
    for direction in np.eye(2):
        slope = derivative(lambda at: HILLS.value(sphere(*projection.inverse(at))), u, direction)
        close(gradient @ direction, slope, FINITE_DIFFERENCE)


def test_the_natural_gradient_is_one_vector_on_the_globe(projection: Projection) -> None:
    """Seen from any map, it moves along the gradient on the sphere; the gradient does so on none."""
    p = np.array([-0.4, 0.9])
    u, both = projection.forward(p), fields(projection, HILLS)
    moves = {
        method: derivative(lambda at: sphere(*projection.inverse(at)), u, field(u))
        for method, field in both.items()
    }
    expected = HILLS.gradient(sphere(*p))
    close(moves["natural gradient"], expected, FINITE_DIFFERENCE)
    assert np.linalg.norm(moves["gradient"] - expected) > 0.1 * np.linalg.norm(expected)
    parallel = np.linalg.norm(np.cross(moves["gradient"], expected)) < 1e-7
    assert parallel == (projection.name in CONFORMAL)


def test_natural_paths_agree_to_first_order(climb: Ascents) -> None:
    natural, gradient = climb.apart["natural gradient"], climb.apart["gradient"]
    for near, far in pairwise(natural[::-1]):
        assert far / near == pytest.approx(2, abs=0.1)  # slope 1
    assert gradient.min() > 1 and gradient[-1] == pytest.approx(gradient[0], rel=1e-2)  # slope 0
    assert natural[0] < 0.05


def test_the_limit_is_the_flow_on_the_sphere(climb: Ascents) -> None:
    """By another method, without maps; paths approach it in proportion to h."""
    solved = solve_ivp(
        lambda _, x: HILLS.gradient(x / np.linalg.norm(x)),
        (0, climb.duration),
        sphere(*np.radians(START)),
        "Radau",
        t_eval=[0, 3, climb.duration],
        rtol=1e-8,
        atol=1e-10,
    )
    np.testing.assert_allclose(climb.limit[[0, 30, 60]], solved.y.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(climb.limit, axis=1), 1, rtol=1e-8)
    for projection in PROJECTIONS:  # also where the picture does not go
        field, start = fields(projection, HILLS)["natural gradient"], projection.forward(np.radians(START))
        errors = []
        for halved in (1, 2):
            path = walk(field, start, 0.1 / halved, 15 * halved)[::halved]
            errors.append(great_circle(on_sphere(projection.inverse(path)), climb.limit[:16]).max())
        assert errors[0] / errors[1] == pytest.approx(2, abs=0.25)
        smooth = flow(field, start, 0.1 * np.arange(16))
        np.testing.assert_allclose(
            on_sphere(projection.inverse(smooth)), climb.limit[:16], rtol=1e-6, atol=1e-7
        )


def test_which_hill_is_climbed_depends_on_the_map(climb: Ascents) -> None:
    """By the gradient; by the natural gradient it is the higher one on each map."""
    tops = on_sphere(HILLS.tops)
    ends = {
        method: [int(great_circle(path[-1], tops).argmin()) for path in paths.values()]
        for method, paths in climb.on_globe.items()
    }
    assert ends == {"gradient": [1, 0, 1], "natural gradient": [0, 0, 0]}
    for method, paths in climb.on_globe.items():
        for projection in PROJECTIONS[:3]:
            path = climb.on_map[method][projection.name]
            close(on_sphere(projection.inverse(path)), paths[projection.name])
            values = HILLS.value(paths[projection.name])
            assert values[-1] > values[0] + 0.5


def test_grids_hold_the_function(climb: Ascents) -> None:
    close(HILLS.value(climb.sphere), climb.heights)
    for projection in PROJECTIONS[:3]:
        grid = on_sphere(projection.inverse(climb.maps[projection.name]))
        np.testing.assert_allclose(HILLS.value(grid), climb.map_heights, rtol=1e-9)


def test_a_path_that_leaves_the_map() -> None:
    north = Hills(np.array([[0.0, 1.5]]), np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match=r"expected \|y\| <= 1 on the map Lambert"):
        tour.ascents(north, (0, 60), step=1, duration=2, halvings=0)


# paths ---------------------------------------------------------------------------------------------


def test_great_circles() -> None:
    a = sphere(0.3, 0.2)
    np.testing.assert_allclose(great_circle(a, sphere(0.3, 0.2 + 1e-9)), 1e-9, rtol=1e-6)
    close(great_circle(a, -a), np.pi)
    close(great_circle(sphere(0, 0), sphere(2.0, 0)), 2.0)


def test_walks_and_flows_of_a_linear_field() -> None:
    M, start = np.array([[-1.0, 2.0], [-2.0, -1.0]]), np.array([1.0, 0.5])
    close(walk(lambda x: M @ x, start, 0.1, 3)[3], np.linalg.matrix_power(np.eye(2) + 0.1 * M, 3) @ start)
    path = flow(lambda x: M @ x, start, np.array([0.0, 1.0, 2.0]))
    z = (start[0] + 1j * start[1]) * np.exp((-1 - 2j) * np.arange(3))  # M turns and shrinks
    np.testing.assert_allclose(path, np.stack([z.real, z.imag], axis=1), rtol=1e-8)


def test_a_flow_that_ends_in_no_time() -> None:
    with pytest.raises(ArithmeticError, match=r"expected a flow up to time 2\.0, got: "):
        flow(lambda x: x**2, np.array([1.0]), np.array([0.0, 2.0]))


def test_apart_is_the_worst_pair_and_time() -> None:
    paths = [np.zeros((3, 1)), np.ones((3, 1)), np.array([[0.0], [-2.0], [0.0]])]
    assert apart(paths, lambda a, b: np.abs(a - b)[..., 0]) == 3
    with pytest.raises(ValueError, match="expected at least two paths, got 1"):
        apart(paths[:1], great_circle)
