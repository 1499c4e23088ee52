"""Steps of the optimizers against their formulas."""

import numpy as np
import pytest
from fisher_oracles import EXACT, Case, error, make_case, signals_of

from minikfac import optim

LR, MU = 0.3, 0.8


@pytest.fixture(params=["categorical", "bernoulli", "gaussian"])
def case(request: pytest.FixtureRequest) -> Case:
    return make_case((3, 4, 3), "tanh", request.param, n=9)


def gradient(case: Case, theta: np.ndarray) -> np.ndarray:
    """Mean gradient over the examples, one outer product at a time."""
    moved = Case(case.sizes, case.activation, case.output, case.net, theta, case.x, case.y)
    total = np.zeros_like(theta)
    for x, y in zip(case.x, case.y, strict=True):
        total += np.concatenate([np.outer(abar, g).ravel() for abar, g in signals_of(moved, x, y)])
    return total / len(case.x)


def run(opt: optim.SGD, case: Case, steps: int) -> np.ndarray:
    theta, state = case.theta, opt.init(case.theta)
    for _ in range(steps):
        theta, state, _ = opt.step(theta, state, (case.x, case.y))
    return theta


def test_plain_sgd_walks_against_the_gradient(case: Case) -> None:
    theta = case.theta
    for _ in range(3):
        theta = theta - LR * gradient(case, theta)
    assert error(run(optim.SGD(case.net, LR), case, 3), theta) < EXACT


def test_heavy_ball_adds_to_its_velocity(case: Case) -> None:
    theta, v = case.theta, 0.0
    for _ in range(3):
        v = MU * v - LR * gradient(case, theta)
        theta = theta + v
    assert error(run(optim.SGD(case.net, LR, MU), case, 3), theta) < EXACT


def test_nesterov_takes_the_gradient_where_momentum_leads(case: Case) -> None:
    theta, v = case.theta, np.zeros_like(case.theta)
    for _ in range(3):
        v = MU * v - LR * gradient(case, theta + MU * v)
        theta = theta + v
    found = run(optim.SGD(case.net, LR, MU, nesterov=True), case, 3)
    assert error(found, theta) < EXACT
    assert error(found, run(optim.SGD(case.net, LR, MU), case, 3)) > 1e-3


def test_info_holds_the_loss_of_the_batch(case: Case) -> None:
    opt = optim.SGD(case.net, LR)
    _, _, info = opt.step(case.theta, opt.init(case.theta), (case.x[:4], case.y[:4]))
    assert info == {"loss": case.net.loss(case.theta, case.x[:4], case.y[:4])}


def test_nothing_is_changed_in_place(case: Case) -> None:
    opt = optim.SGD(case.net, LR, MU, nesterov=True)
    theta, state, _ = opt.step(case.theta, opt.init(case.theta), (case.x, case.y))
    held = (theta, state["velocity"], case.x, case.y)
    before = [array.copy() for array in held]
    opt.step(theta, state, (case.x, case.y))
    assert all(np.array_equal(array, old) for array, old in zip(held, before, strict=True))


def test_the_first_velocity_is_zero_and_like_theta(case: Case) -> None:
    velocity = optim.SGD(case.net, LR).init(case.theta.astype(np.float32))["velocity"]
    assert (velocity.shape, velocity.dtype) == (case.theta.shape, np.float32)
    assert not velocity.any()


def test_single_precision_stays_single(case: Case) -> None:
    opt, theta = optim.SGD(case.net, LR, MU), case.theta.astype(np.float32)
    theta, state, _ = opt.step(theta, opt.init(theta), (case.x, case.y))
    assert theta.dtype == state["velocity"].dtype == np.float32


@pytest.mark.parametrize("lr", [0, -0.1, float("nan")])
def test_a_learning_rate_must_be_positive(case: Case, lr: float) -> None:
    with pytest.raises(ValueError, match=f"expected lr > 0, got {lr}"):
        optim.SGD(case.net, lr)


@pytest.mark.parametrize("momentum", [-0.1, 1, float("nan")])
def test_momentum_must_be_under_one(case: Case, momentum: float) -> None:
    with pytest.raises(ValueError, match=rf"expected momentum in \[0, 1\), got {momentum}"):
        optim.SGD(case.net, LR, momentum)
