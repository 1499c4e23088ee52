"""Gradient descent, momentum and the natural gradient on a quadratic, against exact statements."""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import fisher, optim
from minikfac.plots import progress
from minikfac.tour.chapters.conditioning import METHODS, conditioning, descend, quadratic
from oracles import close

GRADIENT, MOMENTUM, NATURAL = list(METHODS)[1:]


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0])
def test_the_quadratic_has_the_curvatures_that_were_asked_for(angle: float) -> None:
    net, x, y = quadratic(100, (1.0, -2.0), angle)
    H = fisher.exact(fisher.signals(net, np.zeros(2), x)).to_dense()
    close(np.linalg.eigvalsh(H), [1, 100])
    across = np.array([-math.sin(angle), math.cos(angle)])
    close(H @ across, 100 * across)
    theta = np.array([0.3, 0.4])
    d = theta - [1.0, -2.0]
    close(net.loss(theta, x, y), 0.5 * d @ H @ d)


def test_the_numbers_are_exact() -> None:
    run = conditioning(100, steps=10, condition_numbers=[1, 3, 100])
    rate = 99 / 101
    losses = run.losses[GRADIENT]
    close(losses, losses[0] * rate ** (2 * np.arange(11)))
    U = np.linalg.eigh(run.hessian)[1]
    path = run.paths[GRADIENT] @ U
    close(path[1:, 0] / path[:-1, 0], rate)  # crawls
    close(path[1:, 1] / path[:-1, 1], -rate)  # oscillates
    small = run.paths["gradient, a small step"] @ U
    close(small[1:, 0] / small[:-1, 0], 1 - 0.2 / 100)
    close(small[1:, 1] / small[:-1, 1], 1 - 0.2)
    expected = [1, *(math.ceil(math.log(1e-6) / (2 * math.log((k - 1) / (k + 1)))) for k in (3, 100))]
    assert run.steps[GRADIENT].tolist() == expected == [1, 10, 346]


def test_one_natural_step_ends_it() -> None:
    run = conditioning(400, condition_numbers=[1, 400], minimum=(3.0, -1.0))
    assert len(run.losses[NATURAL]) == 2 and run.steps[NATURAL].tolist() == [1, 1]
    close(run.paths[NATURAL][-1], [3, -1])
    assert run.losses[NATURAL][-1] < 1e-18 * run.losses[NATURAL][0]
    assert run.steps[GRADIENT][1] > 3 * 400 and 3 * 20 < run.steps[MOMENTUM][1] < 10 * 20


def test_larger_steps_than_the_limit_diverge() -> None:
    net, x, y = quadratic(100)
    for share, falls in ((1.99, True), (2.01, False)):
        _, losses = descend(optim.SGD(net, share / 100), net, x, y, np.array([1.0, 1.0]), 500, 0.0)
        assert (losses[-1] < losses[0]) == falls


def test_turning_the_valley_changes_nothing() -> None:
    straight, turned = (conditioning(30, condition_numbers=[30], angle=angle) for angle in (0.0, 1.1))
    for name in METHODS:
        np.testing.assert_allclose(turned.losses[name], straight.losses[name], rtol=1e-8, atol=1e-20)
    assert straight.steps == turned.steps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(condition_number=0.5), "expected a finite condition number of at least 1, got 0.5"),
        (dict(condition_number=math.inf), "expected a finite condition number of at least 1, got inf"),
        (dict(reduction=0), "expected a reduction between 0 and 1, got 0"),
    ],
)
def test_what_is_no_valley_is_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        conditioning(**arguments)


def test_the_picture_of_conditioning_shows_the_paths() -> None:
    run = conditioning(100, steps=5, condition_numbers=[1, 10], angle=2.5)
    paths = {name: run.paths[name] for name in (GRADIENT, NATURAL)}
    args = (run.hessian, run.minimum, paths, run.losses, run.condition_numbers, run.steps)
    valley, losses, steps = progress.conditioning(*args)
    drawn = [line.get_xydata() for line in valley.lines[:2]]
    close(drawn[0][0], [-1, 0.3])
    close(drawn[0][1], [-99 / 101, -0.3 * 99 / 101])
    close(drawn[1][-1], [0, 0])
    assert valley.lines[0].get_color() == losses.lines[1].get_color() == steps.lines[0].get_color()
    close(losses.lines[1].get_ydata(), run.losses[GRADIENT])
    assert steps.lines[0].get_ydata().tolist() == run.steps[GRADIENT].tolist()
    assert "condition number 100" in valley.get_title()
    (legend,) = valley.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(METHODS)


def test_wrong_arrays_for_the_picture_of_conditioning() -> None:
    path = {"a": np.ones((3, 2))}
    good = [np.diag([1.0, 9.0]), np.zeros(2), path, {"a": np.ones(3)}, [1, 2], {"a": [1, 2]}]
    progress.conditioning(*good)
    for place, wrong, message in (
        (0, -np.eye(2), "expected a positive definite hessian, got eigenvalues"),
        (0, np.eye(3), r"expected hessian of shape \(2, 2\), got \(3, 3\)"),
        (2, {"b": np.ones((3, 2))}, "expected losses of every path, got none of b"),
        (3, {}, "expected at least one run, got none"),
        (5, {"a": [1, 2, 3]}, r"expected steps of a of shape \(2,\), got \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            progress.conditioning(*good[:place], wrong, *good[place + 1 :])
