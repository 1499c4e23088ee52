"""Natural gradient with the last sampled gradients."""

import itertools

import numpy as np
import pytest

from minikfac import fisher, optim
from minikfac.optim.low_rank import group_gradients
from oracles import EXACT, SOLVE, error
from oracles.fisher import Case, make_case
from oracles.optim import drawn, exact_fisher, gradient, run

LR, MU, LAM, L2, DECAY = 0.05, 0.7, 0.1, 0.02, 0.6
N = 9


@pytest.fixture(params=["categorical", "bernoulli", "gaussian"])
def case(request: pytest.FixtureRequest) -> Case:
    return make_case((3, 4, 3), "tanh", request.param, n=N)


def test_the_step_is_its_formula(case: Case) -> None:
    theta, v, rank = case.theta, 0.0, 7
    columns: list[np.ndarray] = []
    for k in range(4):
        D, eps = drawn(case, theta, k), min(1 - 1 / (k + 1), DECAY)
        columns = [eps**0.5 * column for column in columns]
        for rows in (slice(0, 3), slice(3, 6), slice(6, 9)):
            columns.append((1 - eps) ** 0.5 * D[rows].sum(0) / N**0.5)
        columns = columns[-rank:]
        C = sum(np.outer(column, column) for column in columns)
        direction = np.linalg.solve(C + (LAM + L2) * np.eye(len(theta)), gradient(case, theta) + L2 * theta)
        v = MU * v - LR * direction
        theta = theta + v
    opt = optim.LowRank(case.net, LR, MU, LAM, rank, columns=3, l2=L2, decay=DECAY)
    moved, state, _ = run(opt, case, 4)[-1]
    assert error(moved, theta) < SOLVE
    assert state["U"].shape == (len(theta), rank)


@pytest.mark.parametrize("columns", [N, 50])
def test_one_example_a_group_is_the_sampled_fisher_matrix(case: Case, columns: int) -> None:
    opt = optim.LowRank(case.net, LR, damping=LAM, columns=columns)
    theta, state, _ = run(opt, case, 1)[0]
    D = drawn(case, case.theta, 0)
    F = D.T @ D / N
    assert error(state["U"] @ state["U"].T, F) < EXACT
    step = np.linalg.solve(F + LAM * np.eye(len(F)), gradient(case, case.theta))
    assert error(case.theta - theta, LR * step) < SOLVE


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_mean_over_draws_is_the_exact_matrix(case: Case, groups: int) -> None:
    """Monte Carlo in standard errors; with labels in place of drawn targets it is another matrix."""
    w = np.random.default_rng(1).standard_normal(len(case.theta))
    F = exact_fisher(case, case.theta)
    expected = w @ F @ w
    squares = []
    for seed in range(600):
        signals = case.signals(targets="sampled", rng=np.random.default_rng(seed))
        squares.append(((group_gradients(case.net, case.theta, signals, groups).T @ w) ** 2).sum())
    assert abs(np.mean(squares) - expected) < 5 * np.std(squares) / len(squares) ** 0.5
    labels = group_gradients(case.net, case.theta, case.empirical(), groups)
    assert error(labels @ labels.T, F) > 0.5


def test_unseen_directions_have_gain_one_over_damping(case: Case) -> None:
    state = run(optim.LowRank(case.net, LR, damping=LAM, columns=2), case, 1)[0][1]
    U = state["U"]
    inverse = fisher.LowRank(U).inverse(LAM)
    v = np.random.default_rng(2).standard_normal(len(U))
    outside = v - U @ np.linalg.lstsq(U, v, rcond=None)[0]
    assert error(inverse @ outside, outside / LAM) < SOLVE
    assert error(inverse @ U[:, 0], U[:, 0] / LAM) > 0.1


def test_a_convolution_sums_over_its_locations() -> None:
    from oracles.optim import images

    net, theta, x, _ = images()
    signals = fisher.signals(net, theta, x, targets="sampled", rng=np.random.default_rng(0))
    D = np.concatenate([layer.gradients()[0] for layer in next(iter(signals))], axis=1)
    columns = group_gradients(net, theta, signals, 5)
    ends = [0, 4, 9, 14, 19, 24]
    expected = [D[a:b].sum(0) / 24**0.5 for a, b in itertools.pairwise(ends)]
    assert error(columns.T, np.array(expected)) < EXACT
