"""Pictures of progress: conditioning, damping and batch size, against exact statements and dense formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, optim
from minikfac.plots import progress
from minikfac.tour.chapters.conditioning import METHODS, conditioning, descend, quadratic
from minikfac.tour.chapters.damping_study import MATRICES, damping_study
from oracles import EXACT, close, random_net

SOLVED = dict(rtol=1e-7, atol=1e-9)
"""Differences of objectives after dense solves."""
GRADIENT, MOMENTUM, NATURAL = list(METHODS)[1:]


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


# conditioning --------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0])
def test_the_quadratic_has_the_curvatures_that_were_asked_for(angle: float) -> None:
    net, x, y = quadratic(100, (1.0, -2.0), angle)
    H = fisher.exact(fisher.signals(net, np.zeros(2), x)).to_dense()
    close(np.linalg.eigvalsh(H), [1, 100], **EXACT)
    across = np.array([-math.sin(angle), math.cos(angle)])
    close(H @ across, 100 * across, **EXACT)
    theta = np.array([0.3, 0.4])
    d = theta - [1.0, -2.0]
    close(net.loss(theta, x, y), 0.5 * d @ H @ d, **EXACT)


def test_the_numbers_are_exact() -> None:
    found = conditioning(100, steps=10, condition_numbers=[1, 3, 100])
    rate = 99 / 101
    losses = found.losses[GRADIENT]
    close(losses, losses[0] * rate ** (2 * np.arange(11)), **EXACT)
    U = np.linalg.eigh(found.hessian)[1]
    path = found.paths[GRADIENT] @ U
    close(path[1:, 0] / path[:-1, 0], rate, **EXACT)  # crawls
    close(path[1:, 1] / path[:-1, 1], -rate, **EXACT)  # oscillates
    small = found.paths["gradient, a small step"] @ U
    close(small[1:, 0] / small[:-1, 0], 1 - 0.2 / 100, **EXACT)
    close(small[1:, 1] / small[:-1, 1], 1 - 0.2, **EXACT)
    expected = [1, *(math.ceil(math.log(1e-6) / (2 * math.log((k - 1) / (k + 1)))) for k in (3, 100))]
    assert found.steps[GRADIENT].tolist() == expected == [1, 10, 346]


def test_one_natural_step_ends_it() -> None:
    found = conditioning(400, condition_numbers=[1, 400], minimum=(3.0, -1.0))
    assert len(found.losses[NATURAL]) == 2 and found.steps[NATURAL].tolist() == [1, 1]
    close(found.paths[NATURAL][-1], [3, -1], **EXACT)
    assert found.losses[NATURAL][-1] < 1e-18 * found.losses[NATURAL][0]
    assert found.steps[GRADIENT][1] > 3 * 400 and 3 * 20 < found.steps[MOMENTUM][1] < 10 * 20


def test_larger_steps_than_the_limit_diverge() -> None:
    net, x, y = quadratic(100)
    for share, falls in ((1.99, True), (2.01, False)):
        _, losses = descend(optim.SGD(net, share / 100), net, x, y, np.array([1.0, 1.0]), 500, 0.0)
        assert (losses[-1] < losses[0]) == falls


def test_turning_the_valley_changes_nothing() -> None:
    straight, turned = (conditioning(30, condition_numbers=[30], angle=angle) for angle in (0.0, 1.1))
    for name in METHODS:
        close(turned.losses[name], straight.losses[name], rtol=1e-8, atol=1e-20)
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
    found = conditioning(100, steps=5, condition_numbers=[1, 10], angle=2.5)
    paths = {name: found.paths[name] for name in (GRADIENT, NATURAL)}
    args = (found.hessian, found.minimum, paths, found.losses, found.condition_numbers, found.steps)
    valley, losses, steps = progress.conditioning(*args)
    drawn = [line.get_xydata() for line in valley.lines[:2]]
    close(drawn[0][0], [-1, 0.3], **EXACT)
    close(drawn[0][1], [-99 / 101, -0.3 * 99 / 101], **EXACT)
    close(drawn[1][-1], [0, 0], **EXACT)
    assert valley.lines[0].get_color() == losses.lines[1].get_color() == steps.lines[0].get_color()
    close(losses.lines[1].get_ydata(), found.losses[GRADIENT], **EXACT)
    assert steps.lines[0].get_ydata().tolist() == found.steps[GRADIENT].tolist()
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


# damping --------------------------------------------------------------


def dense_matrices(net, theta, x, gamma) -> dict[str, np.ndarray]:
    """Damped matrices (P, P) by name, from Kronecker factors and Kronecker products written out."""
    signals = fisher.signals(net, theta, x)
    own = [(block.A, block.G) for block in fisher.kfac(signals).blocks]
    exact = fisher.exact(signals).to_dense() + gamma**2 * np.eye(net.n_params)
    plain, factored = np.zeros_like(exact), np.zeros_like(exact)
    for (A, G), rows in zip(own, net.slices, strict=True):
        plain[rows, rows] = np.kron(A, G)
        pi = math.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G)))
        damped = A + pi * gamma * np.eye(len(A)), G + gamma / pi * np.eye(len(G))
        factored[rows, rows] = np.kron(*damped)
    found = {"exact Fisher": exact, "K-FAC, exact damping": plain + gamma**2 * np.eye(net.n_params)}
    found["K-FAC, factored damping"] = factored
    chain = fisher.block_tridiagonal(signals).damped(gamma**2).to_dense()
    return found | {"block-tridiagonal, factored damping": chain}


@pytest.mark.parametrize("output", ["bernoulli", "gaussian"])
def test_improvements_are_those_of_dense_solves(output: str) -> None:
    net, theta, x, y = random_net(np.random.default_rng(0), (4, 5, 3), "logistic", output)
    last = np.random.default_rng(1).standard_normal(net.n_params) / 5
    gammas, lam, l2 = [0.3, 2.0], 0.1, 0.02
    found = damping_study(net, theta, x, y, gammas, lam, l2, last, progress=False)

    def h(at: np.ndarray) -> float:
        return net.loss(at, x, y) + l2 / 2 * at @ at

    grad = net.gradient(theta, x, y) + l2 * theta
    F = fisher.exact(fisher.signals(net, theta, x)).to_dense() + (lam + l2) * np.eye(net.n_params)
    close(found.objective, h(theta), **EXACT)
    for number, gamma in enumerate(gammas):
        for name, M in dense_matrices(net, theta, x, gamma).items():
            proposal = -np.linalg.solve(M, grad)
            both = np.stack([proposal, last])
            c = -np.linalg.solve(both @ F @ both.T, both @ grad)
            alpha = -(grad @ proposal) / (proposal @ F @ proposal)
            steps = {"as it is": proposal, "re-scaled": alpha * proposal, "with momentum": c @ both}
            for way, delta in steps.items():
                close(found.improvements[name, way][number], h(theta) - h(theta + delta), **SOLVED)
            close(found.scales[name][number], alpha, **SOLVED)
    assert len(found.improvements) == 3 * len(MATRICES)


def test_on_a_quadratic_rescaling_never_harms_and_little_damping_solves_it() -> None:
    rng = np.random.default_rng(2)
    net = mk.mlp([5, 3], output="gaussian")
    theta, x, y = net.init(rng), rng.standard_normal((40, 5)), rng.standard_normal((40, 3))
    found = damping_study(net, theta, x, y, [1e-4, 0.3, 1, 10], l2=0.0, progress=False)
    design = np.c_[x, np.ones(40)]
    best = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    to_gain = found.objective - 0.5 * ((y - best) ** 2).sum() / 40
    for name in MATRICES:  # the last layer under squared error: all of them are exact
        raw, scaled = (found.improvements[name, way] for way in ("as it is", "re-scaled"))
        assert (scaled >= raw - 1e-12).all() and (scaled <= to_gain + 1e-12).all()
        close(scaled[0], to_gain, rtol=1e-6, atol=0)
        close(raw[0], to_gain, rtol=1e-6, atol=0)
        assert raw[-1] < 0.05 * to_gain
    exact, plain, factored, _ = (found.improvements[name, "as it is"] for name in MATRICES)
    close(plain, exact, **SOLVED)
    assert abs(factored - exact).max() > 1e-3 * to_gain  # factored damping is not exact damping
    deep, theta, x, y = random_net(np.random.default_rng(3), (4, 5, 3), "tanh", "gaussian")
    other = damping_study(deep, theta, x, y, [0.3], progress=False).improvements
    assert abs(other["K-FAC, exact damping", "re-scaled"] - other["exact Fisher", "re-scaled"]) > 1e-3


def test_a_step_into_the_void_counts_as_minus_infinity(monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta, x, y = random_net(np.random.default_rng(0))
    loss = net.loss
    monkeypatch.setattr(net, "loss", lambda at, *data: loss(at, *data) if at is theta else np.exp(1e5))
    found = damping_study(net, theta, x, y, [1.0], progress=False)
    assert np.isfinite(found.objective) and all(np.isneginf(v).all() for v in found.improvements.values())
    monkeypatch.setattr(net, "loss", lambda at, *data: loss(at, *data) if at is theta else math.nan)
    found = damping_study(net, theta, x, y, [1.0], progress=False)
    assert all(np.isneginf(v).all() for v in found.improvements.values())


def test_without_a_last_update_there_is_no_momentum() -> None:
    net, theta, x, y = random_net(np.random.default_rng(0))
    found = damping_study(net, theta, x, y, [1.0], matrices=["K-FAC, exact damping"], progress=False)
    assert list(found.improvements) == [
        ("K-FAC, exact damping", "as it is"),
        ("K-FAC, exact damping", "re-scaled"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(matrices=["K-FAC"]), r"expected matrices among exact Fisher, .*; got \['K-FAC'\]"),
        (dict(matrices=[]), "got none"),
        (dict(gammas=[1.0, 0.0]), r"expected positive strengths of damping, got \[1.0, 0.0\]"),
        (dict(gammas=[]), "expected positive strengths"),
    ],
)
def test_wrong_choices_for_damping_are_refused(options, message) -> None:
    net, theta, x, y = random_net(np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        damping_study(net, theta, x, y, **options)


def test_the_picture_of_damping_has_a_panel_for_each_way() -> None:
    gammas = np.array([0.1, 1, 10])
    curves = {("F", "as it is"): [-np.inf, -3, 0.1], ("F", "re-scaled"): [0.2, 0.4, 0.1]}
    curves |= {("K", way): [0.0, 0.1, 0.1] for _, way in list(curves)}
    raw, scaled = progress.improvement_against_damping(gammas, curves, chosen=2.0)
    assert (raw.get_title(), scaled.get_title()) == ("As it is", "Re-scaled")
    close(scaled.lines[0].get_ydata(), [0.2, 0.4, 0.1], **EXACT)
    close(raw.lines[0].get_ydata(), [-4, -3, 0.1], **EXACT)  # below what is shown
    low, high = raw.get_ylim()
    assert -0.1 < low < 0 < 0.4 < high and raw.get_ylim() == scaled.get_ylim()
    assert raw.lines[0].get_color() == scaled.lines[0].get_color() != scaled.lines[1].get_color()
    (legend,) = raw.figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["F", "K"]
    with pytest.raises(ValueError, match="expected an improvement above 0 somewhere, got -1 at most"):
        progress.improvement_against_damping(gammas, {("F", "as it is"): [-1, -2, -3]})
    with pytest.raises(ValueError, match=r"expected improvements of F, as it is of shape \(3,\), got \(2,\)"):
        progress.improvement_against_damping(gammas, {("F", "as it is"): [1, 2]})
    with pytest.raises(ValueError, match="expected at least one curve, got none"):
        progress.improvement_against_damping(gammas, {})
