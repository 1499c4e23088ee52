"""Walks away from exact cases: rounding where theory says so, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from minikfac.tour.chapters.exactness import FULL, KFC, NAMES, REDUCE, Walk, exactness

ROUNDING = 1e-10


def exact_places(walk: Walk) -> set[tuple[str, int]]:
    """Where errors are rounding."""
    return {(name, int(place)) for name in NAMES for place in np.flatnonzero(walk.errors[name] < ROUNDING)}


@pytest.fixture(scope="module", params=[0, 1])
def walks(request: pytest.FixtureRequest) -> dict[str, Walk]:
    return {walk.key: walk for walk in exactness(request.param)}


def test_errors_are_rounding_exactly_where_theory_says_so(walks: dict[str, Walk]) -> None:
    assert list(walks) == ["correlation", "inputs", "nonlinearity", "pooled"]
    for walk in walks.values():
        assert exact_places(walk) == set(walk.exact), walk.key
        for name, place in walk.exact:
            assert walk.errors[name][place] < 1e-12
            assert walk.scales[name][place] == pytest.approx(1, abs=1e-12)
    assert set(walks["correlation"].exact) == {(REDUCE, place) for place in range(8)} | {(KFC, 0), (FULL, 7)}
    assert walks["inputs"].exact == ((FULL, 0), (REDUCE, 0))
    assert walks["nonlinearity"].exact == ((KFC, 0),)
    assert walks["pooled"].exact == ((REDUCE, 0),)


def test_far_from_the_exact_case_errors_are_large(walks: dict[str, Walk]) -> None:
    """The negative controls: at the other end of every walk, more than 5 %."""
    assert walks["correlation"].errors[KFC][-1] > 0.05 < walks["correlation"].errors[FULL][0]
    assert walks["inputs"].errors[REDUCE][-1] > 0.05 < walks["inputs"].errors[FULL][-1]
    assert walks["nonlinearity"].errors[KFC][-1] > 0.05 < walks["pooled"].errors[REDUCE][-1]


def test_errors_of_the_wrong_correlation(walks: dict[str, Walk]) -> None:
    """KFC on constant images is 1/T of the block; T x KFC on white noise is T times it."""
    walk = walks["correlation"]
    t = walk.locations
    assert t == 4
    assert walk.errors[KFC][-1] == pytest.approx(1 - 1 / t) and walk.scales[KFC][-1] == pytest.approx(t)
    assert walk.errors[FULL][0] == pytest.approx(t - 1) and walk.scales[FULL][0] == pytest.approx(1 / t)
    assert (np.diff(walk.errors[KFC]) > 0).all() and (np.diff(walk.errors[FULL]) < 0).all()
    assert walks["inputs"].errors[KFC][0] == pytest.approx(1 - 1 / walks["inputs"].locations)


def test_errors_between_white_and_constant_images(walks: dict[str, Walk]) -> None:
    """E[a_t a_u'] = (1 - rho) [t = u] I + rho J on average, J = 1 where two pixels share their channel."""
    walk, t = walks["correlation"], 4
    eye, ones = np.eye(18), np.kron(np.ones((9, 9)), np.eye(2))
    for rho, error in zip(walk.values, walk.errors[KFC], strict=True):
        kfc = t * ((1 - rho) * eye + rho * ones)
        exact = kfc + t * (t - 1) * rho * ones
        expected = np.linalg.norm(exact - kfc) / np.linalg.norm(exact)
        assert error == pytest.approx(expected, abs=0.1)  # colours are drawn, and their mean is not zero


def test_a_linear_net_bends_gently(walks: dict[str, Walk]) -> None:
    """tanh(beta s) / beta is s + O(beta^2): halving beta divides the error by four, about."""
    for key, name in (("nonlinearity", KFC), ("pooled", REDUCE)):
        errors = walks[key].errors[name]
        assert (np.diff(errors) > 0).all()
        assert 3 < errors[2] / errors[1] < 5  # beta 0.2 and 0.1
