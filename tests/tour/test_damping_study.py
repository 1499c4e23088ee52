"""What one step improves by damping, against dense formulas; and its picture."""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher
from minikfac.plots import progress
from minikfac.tour.chapters.damping_study import MATRICES, damping_study
from oracles import close, random_net

SOLVED = 1e-9
"""Differences of objectives after dense solves."""


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def dense_matrices(net, theta, x, gamma) -> dict[str, np.ndarray]:
    """Damped matrices (P, P) by name, from Kronecker factors and Kronecker products written out."""
    signals = fisher.signals(net, theta, x)
    factors = [(block.A, block.G) for block in fisher.kfac(signals).blocks]
    exact = fisher.exact(signals).to_dense() + gamma**2 * np.eye(net.n_params)
    plain, factored = np.zeros_like(exact), np.zeros_like(exact)
    for (A, G), rows in zip(factors, net.slices, strict=True):
        plain[rows, rows] = np.kron(A, G)
        pi = math.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G)))
        damped = A + pi * gamma * np.eye(len(A)), G + gamma / pi * np.eye(len(G))
        factored[rows, rows] = np.kron(*damped)
    return {
        "exact Fisher": exact,
        "K-FAC, exact damping": plain + gamma**2 * np.eye(net.n_params),
        "K-FAC, factored damping": factored,
        "block-tridiagonal, factored damping": fisher.block_tridiagonal(signals).damped(gamma**2).to_dense(),
    }


@pytest.mark.parametrize("output", ["bernoulli", "gaussian"])
def test_improvements_are_those_of_dense_solves(output: str) -> None:
    net, theta, x, y = random_net(np.random.default_rng(0), (4, 5, 3), "logistic", output)
    last = np.random.default_rng(1).standard_normal(net.n_params) / 5
    gammas, lam, l2 = [0.3, 2.0], 0.1, 0.02
    study = damping_study(net, theta, x, y, gammas, lam, l2, last, progress=False)

    def h(at: np.ndarray) -> float:
        return net.loss(at, x, y) + l2 / 2 * at @ at

    grad = net.gradient(theta, x, y) + l2 * theta
    F = fisher.exact(fisher.signals(net, theta, x)).to_dense() + (lam + l2) * np.eye(net.n_params)
    close(study.objective, h(theta))
    for number, gamma in enumerate(gammas):
        for name, M in dense_matrices(net, theta, x, gamma).items():
            proposal = -np.linalg.solve(M, grad)
            both = np.stack([proposal, last])
            c = -np.linalg.solve(both @ F @ both.T, both @ grad)
            alpha = -(grad @ proposal) / (proposal @ F @ proposal)
            steps = {"as it is": proposal, "re-scaled": alpha * proposal, "with momentum": c @ both}
            for kind, delta in steps.items():
                close(study.improvements[name, kind][number], h(theta) - h(theta + delta), SOLVED)
            close(study.scales[name][number], alpha, SOLVED)
    assert len(study.improvements) == 3 * len(MATRICES)


def test_on_a_quadratic_rescaling_never_harms_and_little_damping_solves_it() -> None:
    rng = np.random.default_rng(2)
    net = mk.mlp([5, 3], output="gaussian")
    theta, x, y = net.init(rng), rng.standard_normal((40, 5)), rng.standard_normal((40, 3))
    study = damping_study(net, theta, x, y, [1e-4, 0.3, 1, 10], l2=0.0, progress=False)
    design = np.c_[x, np.ones(40)]
    best = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    to_gain = study.objective - 0.5 * ((y - best) ** 2).sum() / 40
    for name in MATRICES:  # the last layer under squared error: all of them are exact
        raw, scaled = (study.improvements[name, kind] for kind in ("as it is", "re-scaled"))
        assert (scaled >= raw - 1e-12).all() and (scaled <= to_gain + 1e-12).all()
        np.testing.assert_allclose(scaled[0], to_gain, rtol=1e-6, atol=0)
        np.testing.assert_allclose(raw[0], to_gain, rtol=1e-6, atol=0)
        assert raw[-1] < 0.05 * to_gain
    exact, plain, factored, _ = (study.improvements[name, "as it is"] for name in MATRICES)
    close(plain, exact, SOLVED)
    assert abs(factored - exact).max() > 1e-3 * to_gain  # factored damping is not exact damping
    deep, theta, x, y = random_net(np.random.default_rng(3), (4, 5, 3), "tanh", "gaussian")
    other = damping_study(deep, theta, x, y, [0.3], progress=False).improvements
    assert abs(other["K-FAC, exact damping", "re-scaled"] - other["exact Fisher", "re-scaled"]) > 1e-3


def test_a_step_into_the_void_counts_as_minus_infinity(monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta, x, y = random_net(np.random.default_rng(0))
    loss = net.loss
    monkeypatch.setattr(net, "loss", lambda at, *data: loss(at, *data) if at is theta else np.exp(1e5))
    study = damping_study(net, theta, x, y, [1.0], progress=False)
    assert np.isfinite(study.objective) and all(np.isneginf(v).all() for v in study.improvements.values())
    monkeypatch.setattr(net, "loss", lambda at, *data: loss(at, *data) if at is theta else math.nan)
    study = damping_study(net, theta, x, y, [1.0], progress=False)
    assert all(np.isneginf(v).all() for v in study.improvements.values())


def test_without_a_last_update_there_is_no_momentum() -> None:
    net, theta, x, y = random_net(np.random.default_rng(0))
    study = damping_study(net, theta, x, y, [1.0], progress=False)
    assert {kind for _, kind in study.improvements} == {"as it is", "re-scaled"}


@pytest.mark.parametrize(("gammas", "message"), [([1.0, 0.0], r"got \[1.0, 0.0\]"), ([], r"got \[\]")])
def test_strengths_that_are_not_positive(gammas, message) -> None:
    net, theta, x, y = random_net(np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"expected positive strengths of damping, {message}"):
        damping_study(net, theta, x, y, gammas)


def test_the_picture_of_damping_has_a_panel_for_each_kind() -> None:
    gammas = np.array([0.1, 1, 10])
    curves = {("F", "as it is"): [-np.inf, -3, 0.1], ("F", "re-scaled"): [0.2, 0.4, 0.1]}
    curves |= {("K", kind): [0.0, 0.1, 0.1] for _, kind in list(curves)}
    raw, scaled = progress.improvement_against_damping(gammas, curves, chosen=2.0)
    assert (raw.get_title(), scaled.get_title()) == ("As it is", "Re-scaled")
    close(scaled.lines[0].get_ydata(), [0.2, 0.4, 0.1])
    close(raw.lines[0].get_ydata(), [-4, -3, 0.1])  # below what is shown
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
