"""Krylov subspace descent."""

import numpy as np
import pytest

from minikfac import fisher, optim
from minikfac.optim.krylov import whitening
from oracles import EXACT, SOLVE, error
from oracles.fisher import Case, make_case
from oracles.optim import BY_VALUE, drawn, exact_fisher, gradient, images, run

LAM, L2 = 0.05, 0.02


@pytest.fixture(params=["categorical", "bernoulli", "gaussian"])
def case(request: pytest.FixtureRequest) -> Case:
    return make_case((3, 4, 3), "tanh", request.param, n=9)


def best_in(space: np.ndarray, B: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The minimum of 1/2 d^T B d + g^T d over a space given by columns."""
    Q = np.linalg.qr(space)[0]
    return -Q @ np.linalg.solve(Q.T @ B @ Q, Q.T @ g)


@pytest.mark.parametrize("exponent", [0, 0.75])
def test_the_step_is_the_best_in_its_space(case: Case, exponent: float) -> None:
    theta, last = case.theta, None
    for k in range(3):
        B = exact_fisher(case, theta) + (LAM + L2) * np.eye(len(theta))
        g = gradient(case, theta) + L2 * theta
        C = ((drawn(case, theta, k) ** 2).mean(0) + LAM + L2) ** -exponent
        powers = [C * g]
        for _ in range(2):
            powers.append(C * (B @ powers[-1]))
        space = np.array([power / np.linalg.norm(power) for power in powers] + ([] if k == 0 else [last])).T
        last = best_in(space, B, g)
        theta = theta + last
    opt = optim.KrylovSubspace(case.net, LAM, K=3, search="model", exponent=exponent, l2=L2)
    steps = run(opt, case, 3)
    assert error(steps[-1][0], theta) < SOLVE
    assert [info["dimension"] for _, _, info in steps] == [3, 4, 4]
    assert steps[-1][2]["model"] == pytest.approx(0.5 * last @ B @ last + g @ last, rel=SOLVE)


def test_the_whole_space_gives_the_natural_step(case: Case) -> None:
    F, size = exact_fisher(case, case.theta), len(case.theta)
    expected = np.linalg.solve(F + LAM * np.eye(size), -gradient(case, case.theta))
    whole = run(optim.KrylovSubspace(case.net, LAM, K=size, search="model"), case, 1)[0][0] - case.theta
    part = run(optim.KrylovSubspace(case.net, LAM, K=2, search="model"), case, 1)[0][0] - case.theta
    assert error(whole, expected) < SOLVE
    assert error(part, expected) > 0.01


def test_curvature_may_be_taken_on_a_part(case: Case) -> None:
    F, size = exact_fisher(case, case.theta, slice(5)), len(case.theta)
    opt = optim.KrylovSubspace(case.net, LAM, K=size, search="model", tau2=0.5)
    expected = np.linalg.solve(F + LAM * np.eye(size), -gradient(case, case.theta))
    assert error(run(opt, case, 1)[0][0] - case.theta, expected) < SOLVE


@pytest.mark.parametrize("l2", [0, 0.5])
def test_lbfgs_minimizes_the_objective_of_the_last_examples(l2: float) -> None:
    """In the whole space and by many steps it ends in their least squares, not in those of the batch."""
    case = make_case((4, 3), output="gaussian", n=24)
    opt = optim.KrylovSubspace(case.net, LAM, K=15, search_share=0.5, search_steps=200, l2=l2)
    theta, _, info = run(opt, case, 1)[0]

    def least_squares(rows: slice) -> np.ndarray:
        abar, y = np.hstack([case.x, np.ones((24, 1))])[rows], case.y[rows]
        return np.linalg.solve(abar.T @ abar + l2 * len(y) * np.eye(5), abar.T @ y).ravel()

    last, first, whole = map(least_squares, (slice(12, None), slice(12), slice(None)))
    assert error(theta, last) < 1e-4  # where L-BFGS stops by its own tolerance
    assert error(theta, first) > 0.1
    assert error(theta, whole) > 0.1
    assert info["loss"] == pytest.approx(case.net.loss(case.theta, case.x[:12], case.y[:12]))
    assert info["evaluations"] > 2


def test_lbfgs_never_raises_the_objective_of_the_last_examples(case: Case) -> None:
    opt = optim.KrylovSubspace(case.net, LAM, K=4, search_steps=3)
    theta = case.theta
    for after, _, info in run(opt, case, 4):
        assert case.net.loss(after, case.x[6:], case.y[6:]) < case.net.loss(theta, case.x[6:], case.y[6:])
        assert info["loss"] == pytest.approx(case.net.loss(theta, case.x[:6], case.y[:6]), rel=EXACT)
        theta = after


def test_lbfgs_stays_in_the_space(case: Case) -> None:
    opt = optim.KrylovSubspace(case.net, LAM, K=2, exponent=0)
    step = run(opt, case, 1)[0][0] - case.theta
    rows = slice(6)
    g = gradient(case, case.theta, rows)
    space = np.array([g, exact_fisher(case, case.theta, rows) @ g]).T
    inside = space @ np.linalg.lstsq(space, step, rcond=None)[0]
    assert error(inside, step) < BY_VALUE
    assert error(space[:, :1] @ np.linalg.lstsq(space[:, :1], step, rcond=None)[0], step) > 0.01


def test_coupled_batches_have_the_matrix_of_the_whole_batch() -> None:
    net, theta, x, y = images()
    opt = optim.KrylovSubspace(net, LAM, K=net.n_params, search="model")
    step = opt.step(theta, opt.init(theta), (x, y), np.random.default_rng(0))[0] - theta
    grad = net.gradient_pass(theta, x, y)[1]
    assert error(step, -fisher.joint(net, theta, x).solve(grad, LAM)) < SOLVE
    constant = fisher.exact(fisher.signals(net, theta, x, train=True))
    assert error(step, -constant.solve(grad, LAM)) > 0.01


def test_whitening_leaves_out_what_is_rounding() -> None:
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    T = (Q * np.array([0, 1e-3, 1, 2])) @ Q.T
    S = whitening((T + T.T) / 2)
    assert S.shape == (4, 3)
    assert error(S.T @ T @ S, np.eye(3)) < SOLVE
    assert whitening(T.astype(np.float32)).dtype == float


def test_where_there_is_no_gradient_nothing_moves() -> None:
    case = make_case((2, 2), output="gaussian", n=4)
    theta = 0 * case.theta
    opt = optim.KrylovSubspace(case.net, LAM)
    moved, state, _ = opt.step(theta, opt.init(theta), (case.x, 0 * case.y), np.random.default_rng(0))
    assert not moved.any()
    assert state["step"] == 1


def test_a_batch_needs_examples_for_both_parts() -> None:
    case = make_case((2, 2), n=1)
    with pytest.raises(ValueError, match=r"expected a batch of which .*=0\.333333 leaves .*, got 1"):
        run(optim.KrylovSubspace(case.net), case, 1)
