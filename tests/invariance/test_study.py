"""The invariance study: each cell of its matrix in the sign that theory gives it, and what does not count."""

from __future__ import annotations

import json
import math
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minikfac import optim
from minikfac.invariance import methods, study
from minikfac.invariance.methods import Data
from minikfac.invariance.study import Cell, GapMatrix, Run, compared, follow
from oracles.reparam import colors

ROUNDING = 1e-8
"""Largest gap of an invariant method after a few steps; the study itself allows 1e-6 after a hundred."""
BROKEN = 1e-3
"""Least gap of one that is not."""
COLUMNS = (
    "orthogonal",
    "diagonal",
    "general affine",
    "logistic to tanh",
    "center",
    "normalize",
    "whiten",
)
# by the theory, and not by the table in the package: = invariant, x not
SIGNS = {
    "exact natural gradient": "=======",
    "block-exact": "=======",
    "K-FAC": "=======",
    "block-tridiagonal": "=======",
    "EKFAC": "=xxxxxx",
    "nearest Kronecker": "=xxxxxx",
    "diagonal Fisher": "x=xxxxx",
    "SGD": "=xxxxxx",
    "SGD, momentum": "=xxxxxx",
    "Adam": "xxxxxxx",
    "truncated CG": "=xxxxxx",
    "Hessian-free (diag. prec.)": "xxxxxxx",
    "Krylov subspace": "=xxxxxx",
    "exact, damped": "=xxxxxx",
    "block-exact, damped": "=xxxxxx",
    "K-FAC, damped": "=xxxxxx",
    "K-FAC, whole algorithm": "=xxxxxx",
}


@cache
def matrix() -> GapMatrix:
    return study.invariance_matrix(most=3, progress=False)


@cache
def columns() -> dict[str, methods.Change]:
    return {change.name: change for change in methods.changes()}


# the matrix --------------------------------------------------------------


@pytest.mark.parametrize("change", COLUMNS)
@pytest.mark.parametrize("method", SIGNS)
def test_each_cell_has_the_sign_that_theory_gives_it(method: str, change: str) -> None:
    cell = matrix().cell(method, change)
    assert cell.failure == ""
    invariant = SIGNS[method][COLUMNS.index(change)] == "="
    assert cell.expected == invariant and cell.as_predicted
    assert cell.gap < ROUNDING if invariant else cell.gap > BROKEN


def test_the_matrix_is_whole() -> None:
    assert matrix().methods == list(SIGNS) and matrix().changes == list(COLUMNS)
    assert len(matrix().cells) == len(SIGNS) * len(COLUMNS)
    assert [cell.change for cell in matrix().row("K-FAC")] == list(COLUMNS)
    steps = {cell.method: cell.steps.tolist() for cell in matrix().cells}
    assert steps["block-tridiagonal"] == [1] and steps["K-FAC"] == [1, 2, 3]
    with pytest.raises(KeyError, match="rotate"):
        matrix().cell("K-FAC", "rotate")


@pytest.mark.parametrize("change", COLUMNS)
def test_what_a_jacobian_is_called(change: str) -> None:
    J = columns()[change].r.jacobian()
    orthogonal = np.allclose(J.T @ J, np.eye(len(J)), atol=1e-12)
    diagonal = not (J - np.diag(J.diagonal())).any()
    expected = {"orthogonal": (True, False), "diagonal": (False, True)}
    assert (orthogonal, diagonal) == expected.get(columns()[change].kind, (False, False))
    assert np.linalg.cond(J) < 1e3


@pytest.mark.parametrize("change", COLUMNS)
def test_nets_begin_as_the_same_function(change: str) -> None:
    r, theta = columns()[change].r, columns()[change].theta
    data = methods.digits_problem()[2]
    z, other = (
        r.source.natural_parameters(theta, data.x_test),
        r.net.natural_parameters(r.push(theta), data.x_test),
    )
    assert np.abs(z - other).max() < 1e-12
    assert np.linalg.norm(r.push(theta) - theta) > 0.1


def test_a_hundred_steps_of_kfac_leave_rounding_and_of_sgd_do_not() -> None:
    chosen = study.invariance_matrix([named("K-FAC"), named("SGD")], progress=False)
    for change in COLUMNS:
        kfac, sgd = (chosen.cell(name, change) for name in ("K-FAC", "SGD"))
        assert kfac.steps.tolist() == [1, 2, 5, 10, 20, 50, 100]
        assert kfac.gap < 1e-7 and kfac.losses[0][-1] < 0.1 * kfac.losses[0][0]
        assert sgd.gap < 1e-10 if change == "orthogonal" else sgd.gap > 5e-3


# gaps --------------------------------------------------------------


def named(method: str) -> methods.Method:
    return next(row for row in methods.METHODS if row.name == method)


def run(z: Any, losses: Any = (2.0, 1.0), failure: str = "") -> Run:
    return Run(np.array(losses), np.arange(len(z)), np.array(z, dtype=float)[:, None], failure)


def test_the_gap_is_relative_to_the_distance_moved() -> None:
    ours, theirs = run([[0, 0], [3, 4], [6, 8]]), run([[0, 0], [3, 4.5], [6, 8]])
    cell = compared("m", "c", False, ours, theirs)
    np.testing.assert_allclose(cell.gaps, [0.1, 0])
    assert cell.steps.tolist() == [1, 2] and cell.gap == 0 and cell.invariant and not cell.as_predicted


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (run([[0, 0], [1, 1]], (1.0, 2.0)), "the other net: loss rose from 1 to 2"),
        (run([[0, 0], [1, 1]], (1.0, math.inf), "loss not finite after 1 steps"), "loss not finite after 1"),
        (run([[0, 0]], (1.0,), "expected a positive definite matrix"), "expected a positive definite"),
        (run([[0, 0], [1, math.nan]]), "the other net: "),
    ],
)
def test_what_does_not_count_says_why(other: Run, why: str) -> None:
    cell = compared("m", "c", True, run([[0, 0], [1, 1]]), other)
    assert why in cell.failure and math.isnan(cell.gap)
    assert not cell.invariant and not cell.as_predicted
    assert not compared("m", "c", False, other, run([[0, 0], [1, 1]])).as_predicted


def test_runs_that_end_early() -> None:
    net, theta, data = methods.digits_problem()
    few = Data(data.x[:8], data.y[:8], data.x_test)
    singular = follow(net, theta, named("K-FAC").make, few, 3)
    assert "numerical rank" in singular.failure and not singular.counts and len(singular.z) == 1
    with np.errstate(all="ignore"):
        diverged = follow(net, theta, lambda net: optim.SGD(net, 1e306), data, 5)
    assert "loss not finite after" in diverged.failure and not diverged.counts
    sound = follow(net, theta, lambda net: optim.SGD(net, 0.1), data, 3)
    assert sound.counts and sound.marks.tolist() == [0, 1, 2, 3] and len(sound.losses) == 4


def test_drawn_targets_must_be_the_same() -> None:
    """Negative control: with other random numbers even K-FAC's nets part."""
    r, theta = columns()["general affine"].r, columns()["general affine"].theta
    data, kfac = methods.digits_problem()[2], named("K-FAC").make
    ours = follow(r.source, theta, kfac, data, 2, seed=0)
    theirs = follow(r.net, r.push(theta), kfac, data, 2, seed=1)
    assert compared("K-FAC", "general affine", True, ours, theirs).gap > 0.01


# damping --------------------------------------------------------------


def test_gaps_vanish_with_damping() -> None:
    dampings, gaps = study.gap_against_damping([1e-12, 1e-10, 1e-9, 1e-2])
    exact, eigen, factored = gaps.values()
    for proportional in (exact, eigen):
        assert proportional[2] / proportional[1] == pytest.approx(10, rel=0.05)
    assert factored[2] / factored[1] == pytest.approx(10**0.5, rel=0.05)  # to the root
    for curve in gaps.values():
        assert curve[-1] > 0.05 and (np.diff(curve) > 0).all()
    assert dampings.tolist() == [1e-12, 1e-10, 1e-9, 1e-2]
    none = study.gap_against_damping([0.0])[1]
    assert max(float(curve[0]) for curve in none.values()) < ROUNDING


# applications --------------------------------------------------------------


@pytest.mark.parametrize("key", study.APPLICATIONS)
def test_applications_part_sgd_and_not_kfac(key: str) -> None:
    one = study.APPLICATIONS[key](5)
    assert one.key == key and set(one.gaps) == {"SGD", "K-FAC"}
    assert one.gaps["K-FAC"] < ROUNDING and one.gaps["SGD"] > 0.02
    assert all(cell.as_predicted for cell in one.cells)
    ours, theirs = one.cells[1].losses
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_photographs_in_place_of_generated_images(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, calls = np.random.default_rng(0), {}

    def load(name: str, folder: str, **options: Any) -> SimpleNamespace:
        calls.update(options, name=name, folder=folder)
        x, x_test = (colors(rng, options[key], 32, 32, 3) for key in ("n_train", "n_test"))
        return SimpleNamespace(x_train=4 * x, x_test=4 * x_test, y_train=rng.integers(0, 10, len(x)))

    monkeypatch.setattr(methods.datasets, "load", load)
    one = study.colour_whitened(2, folder="there")
    assert calls["name"] == "cifar10" and calls["folder"] == "there" and "CIFAR-10" in one.title
    assert one.gaps["K-FAC"] < ROUNDING and one.gaps["SGD"] > BROKEN


def test_no_steps_are_no_application() -> None:
    with pytest.raises(ValueError, match="expected at least one step, got 0"):
        study.logistic_for_tanh(0)


def test_a_record_holds_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "invariance_matrix", lambda **_: matrix())
    gaps = study.brief_study()
    assert [one.key for one in gaps.applications] == ["logistic-to-tanh"] and set(gaps.damped) == set(
        study.DAMPED
    )
    record = json.loads(json.dumps(gaps.record()))
    assert len(record["cells"]) == len(matrix().cells) and record["tolerance"] == study.TOLERANCE
    assert set(record["cells"][0]) == set(Cell.__dataclass_fields__) | {"gap", "invariant", "as_predicted"}
    assert len(record["applications"][0]["cells"][1]["losses"][0]) == 101
