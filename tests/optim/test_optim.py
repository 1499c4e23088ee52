"""SGD and Adam against their formulas, and what all optimizers have in common."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import optim
from minikfac.optim import schedules
from oracles import EXACT, FLOAT32, SOLVE, error, standin
from oracles.fisher import Case, make_case
from oracles.optim import BY_VALUE, gradient, images, run

LR, MU = 0.3, 0.8


@pytest.fixture(params=["categorical", "bernoulli", "gaussian"])
def case(request: pytest.FixtureRequest) -> Case:
    return make_case((3, 4, 3), "tanh", request.param, n=9)


# SGD ------------------------------------------------------------------------------------------------------


def test_plain_sgd_walks_against_the_gradient(case: Case) -> None:
    theta = case.theta
    for _ in range(3):
        theta = theta - LR * gradient(case, theta)
    assert error(run(optim.SGD(case.net, LR), case, 3)[-1][0], theta) < EXACT


def test_heavy_ball_adds_to_its_velocity(case: Case) -> None:
    theta, v = case.theta, 0.0
    for _ in range(3):
        v = MU * v - LR * gradient(case, theta)
        theta = theta + v
    assert error(run(optim.SGD(case.net, LR, MU), case, 3)[-1][0], theta) < EXACT


def test_nesterov_takes_the_gradient_where_momentum_leads(case: Case) -> None:
    theta, v, l2 = case.theta, np.zeros_like(case.theta), 0.05
    for _ in range(3):
        at = theta + MU * v
        v = MU * v - LR * (gradient(case, at) + l2 * at)
        theta = theta + v
    moved = run(optim.SGD(case.net, LR, MU, nesterov=True, l2=l2), case, 3)[-1][0]
    assert error(moved, theta) < EXACT
    assert error(moved, run(optim.SGD(case.net, LR, MU, l2=l2), case, 3)[-1][0]) > 1e-3
    assert error(moved, run(optim.SGD(case.net, LR, MU, nesterov=True), case, 3)[-1][0]) > 1e-3


def test_schedules_count_the_steps_from_zero(case: Case) -> None:
    lr, mu = schedules.Exponential(LR, 0.5), schedules.Steps(0.9, at=(2,), factor=0.5)
    theta, v = case.theta, 0.0
    for own_lr, own_mu in ((0.3, 0.9), (0.15, 0.9), (0.075, 0.45), (0.0375, 0.45)):
        v = own_mu * v - own_lr * gradient(case, theta)
        theta = theta + v
    moved, state, info = run(optim.SGD(case.net, lr, mu), case, 4)[-1]
    assert error(moved, theta) < EXACT
    assert state["step"] == 4
    assert (info["lr"], info["mu"]) == (0.0375, 0.45)


def test_info_holds_the_loss_of_the_batch(case: Case) -> None:
    opt = optim.SGD(case.net, LR)
    _, _, info = opt.step(case.theta, opt.init(case.theta), (case.x[:4], case.y[:4]))
    assert info == {"loss": case.net.loss(case.theta, case.x[:4], case.y[:4]), "lr": LR, "mu": 0.0}


def test_the_first_velocity_is_zero_and_like_theta(case: Case) -> None:
    velocity = optim.SGD(case.net, LR).init(case.theta.astype(np.float32))["velocity"]
    assert (velocity.shape, velocity.dtype) == (case.theta.shape, np.float32)
    assert not velocity.any()


# Adam -----------------------------------------------------------------------------------------------------


def test_adam_is_its_formula(case: Case) -> None:
    lr, beta1, beta2, eps, l2 = 0.1, 0.8, 0.95, 1e-3, 0.05
    theta, m, v = case.theta, 0.0, 0.0
    for k in range(1, 5):
        g = gradient(case, theta) + l2 * theta
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        theta = theta - lr * (m / (1 - beta1**k)) / (np.sqrt(v / (1 - beta2**k)) + eps)
    moved = run(optim.Adam(case.net, lr, beta1, beta2, eps, l2), case, 4)[-1][0]
    assert error(moved, theta) < EXACT


def test_adam_first_moves_every_weight_by_the_learning_rate(case: Case) -> None:
    moved = run(optim.Adam(case.net, 0.01, eps=1e-12), case, 1)[0][0] - case.theta
    assert error(moved, -0.01 * np.sign(gradient(case, case.theta))) < 1e-6


# one natural step on least squares ------------------------------------------------------------------------

NATURAL: dict[str, Callable[[mk.Network], Any]] = {
    "exact": lambda net: optim.NaturalGradient(net, damping=0, clip=None),
    "HessianFree": lambda net: optim.HessianFree(net, lam=0, progress=0),
    "HessianFree without preconditioner": lambda net: optim.HessianFree(net, lam=0, progress=0, exponent=0),
    "KrylovSubspace": lambda net: optim.KrylovSubspace(net, damping=0, K=net.n_params, search="model"),
}


@pytest.mark.parametrize("name", NATURAL)
def test_one_natural_step_solves_least_squares(name: str) -> None:
    case = make_case((4, 3), output="gaussian", n=12)
    abar = np.hstack([case.x, np.ones((12, 1))])
    expected = np.linalg.lstsq(abar, case.y, rcond=None)[0].ravel()
    opt = NATURAL[name](case.net)
    tolerance = BY_VALUE if name.startswith("HessianFree") else SOLVE
    assert error(run(opt, case, 1)[0][0], expected) < tolerance
    labels = make_case((4, 3), output="bernoulli", n=12)  # no quadratic: one step is not the minimum
    theta = run(NATURAL[name](labels.net), labels, 1)[0][0]
    assert np.linalg.norm(gradient(labels, theta)) > 1e-3


def test_one_step_of_sgd_does_not() -> None:
    case = make_case((4, 3), output="gaussian", n=12)
    theta = run(optim.SGD(case.net, 0.3), case, 1)[0][0]
    assert np.linalg.norm(gradient(case, theta)) > 0.1


# all of them ----------------------------------------------------------------------------------------------

ALL: dict[str, Callable[[mk.Network], Any]] = {
    "SGD": lambda net: optim.SGD(net, 0.1, MU, nesterov=True, l2=1e-3),
    # the gradient of a bias before batch normalization is rounding, which a small eps would blow up
    "Adam": lambda net: optim.Adam(net, 0.02, eps=1e-3, l2=1e-3),
    "DiagonalNaturalGradient": lambda net: optim.DiagonalNaturalGradient(net, 0.02, 0.5, 0.1, l2=1e-3),
    "EKFAC": lambda net: optim.EKFAC(net, 0.05, damping=0.1, T3=2, l2=1e-3),
    "HessianFree": lambda net: optim.HessianFree(net, l2=1e-3),
    "KrylovSubspace": lambda net: optim.KrylovSubspace(net, 0.1, K=5, l2=1e-3),
    "KrylovSubspace by its model": lambda net: optim.KrylovSubspace(net, 0.1, K=5, search="model"),
    "LowRank": lambda net: optim.LowRank(net, 0.02, 0.5, damping=0.1, rank=8, columns=3),
}
OTHERS: dict[str, Callable[[mk.Network], Any]] = {
    "KFAC": optim.KFAC,
    "KFCPre": lambda net: optim.KFCPre(net, 0.05, damping=0.1),
    "NaturalGradient": lambda net: optim.NaturalGradient(net, 0.5, damping=0.1),
}


def training_loss(net: mk.Network, theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    return net.loss(theta, x, y, net.batch_stats(theta, x))


@pytest.mark.parametrize("name", ALL | OTHERS)
def test_the_loss_falls_with_batch_normalization(name: str) -> None:
    net, theta, x, y = images()
    opt = (ALL | OTHERS)[name](net)
    state, start = opt.init(theta), training_loss(net, theta, x, y)
    for k in range(3):
        theta, state, info = opt.step(theta, state, (x, y), np.random.default_rng(k))
        assert np.isfinite(info["loss"])
    assert training_loss(net, theta, x, y) < 0.97 * start
    assert error(state["stats"][0], net.init_stats()[0]) > 0.01  # running statistics moved along


def numbers(value: Any) -> Iterator[np.ndarray]:
    """All arrays in a state; it must hold plain data alone."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers(part)
    else:
        assert value is None or type(value) in (int, float), type(value)


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_changed_in_place(name: str) -> None:
    net, theta, x, y = images()
    opt = ALL[name](net)
    state = opt.init(theta)
    for k in range(2):
        arrays = [*numbers((theta, x, y)), *numbers(state)]
        before = [array.copy() for array in arrays]
        keys = copy.copy(state)
        theta, after, _ = opt.step(theta, state, (x, y), np.random.default_rng(k))
        assert all(np.array_equal(array, old) for array, old in zip(arrays, before, strict=True))
        assert all(state[key] is value for key, value in keys.items())
        state = after


@pytest.mark.parametrize("name", ALL)
def test_a_step_is_a_pure_function(name: str) -> None:
    case = make_case((3, 4, 3), n=9)
    opt = ALL[name](case.net)
    (theta, state, _), (later, _, info) = run(opt, case, 2)
    again = opt.step(theta, state, (case.x, case.y), np.random.default_rng(1))
    assert np.array_equal(later, again[0])
    assert info == again[2]
    assert list(numbers(state))
    assert state["step"] == 1
    assert state["stats"] == []
    assert all(type(value) is float for value in info.values())


@pytest.mark.parametrize("name", ALL)
def test_single_precision_stays_single(name: str) -> None:
    net, theta, x, y = images()
    opt = ALL[name](net)
    if isinstance(opt, optim.HessianFree):
        opt = dataclasses.replace(
            opt, max_iterations=5
        )  # once CG has converged, rounding decides which iterate is best
    moved = []
    for dtype in (np.float32, np.float64):
        at, state = theta.astype(dtype), opt.init(theta.astype(dtype))
        at, state, _ = opt.step(at, state, (x.astype(dtype), y), np.random.default_rng(0))
        assert at.dtype == dtype
        assert all(array.dtype == dtype for array in numbers(state))
        moved.append(at)
    assert error(*moved) < 100 * FLOAT32


@pytest.mark.parametrize("name", ALL | OTHERS)
def test_numbers_of_numpy_are_settings_like_any_others(name: str) -> None:
    """Such as those of a grid by np.geomspace; times one, an array of float32 would become float64."""
    net, theta, x, y = images()
    theta, x = theta.astype(np.float32), x.astype(np.float32)
    opt = (ALL | OTHERS)[name](net)
    floats = {field.name: getattr(opt, field.name) for field in dataclasses.fields(opt)}
    floats = {setting: np.float64(value) for setting, value in floats.items() if type(value) is float}
    assert floats
    moved = []
    for variant in (opt, dataclasses.replace(opt, **floats)):
        at, state = theta, variant.init(theta)
        for k in range(2):
            at, state, _ = variant.step(at, state, (x, y), np.random.default_rng(k))
        moved.append(at)
        assert all(array.dtype == np.float32 for array in state.values() if isinstance(array, np.ndarray))
    assert moved[1].dtype == np.float32
    assert np.array_equal(*moved)
    assert repr(variant) == repr(opt)


def test_schedules_may_return_numbers_of_numpy() -> None:
    net, theta, x, y = images()
    theta, x = theta.astype(np.float32), x.astype(np.float32)
    opt = optim.SGD(net, lambda k: np.float64(0.1), lambda k: np.float64(0.9))
    assert opt.step(theta, opt.init(theta), (x, y), None)[0].dtype == np.float32


@pytest.mark.parametrize("name", ALL)
def test_steps_stay_on_the_device(name: str) -> None:
    net, theta, x, y = images()
    opt, moved = ALL[name](net), []
    for to in (mk.to_host, mk.to_device):
        with standin.installed():
            at = to(theta)
            state = opt.init(at)
            for k in range(2):
                at, state, _ = opt.step(at, state, (to(x), to(y)), np.random.default_rng(k))
            moved.append(mk.to_host(at))
            assert isinstance(at, np.ndarray if to is mk.to_host else standin.ndarray)
    assert error(moved[1], moved[0]) < SOLVE


@pytest.mark.parametrize("name", sorted(set(ALL) - {"KrylovSubspace"}))
def test_a_batch_may_be_one_example(name: str) -> None:
    case = make_case((3, 4, 3), n=1)
    assert np.isfinite(run(ALL[name](case.net), case, 2)[-1][0]).all()


# wrong settings -------------------------------------------------------------------------------------------

NAN = float("nan")
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    *(("SGD", {"lr": lr}, f"expected lr > 0, got {lr}") for lr in (0, -0.1, NAN)),
    *(
        ("SGD", {"lr": 1, "momentum": mu}, rf"expected momentum in \[0, 1\), got {mu}")
        for mu in (-0.1, 1, NAN)
    ),
    ("SGD", {"lr": schedules.Constant(0)}, r"expected lr > 0, got 0 at step 0 of Constant\(value=0\)"),
    ("SGD", {"lr": 1, "l2": -1}, "expected l2 >= 0, got -1"),
    ("Adam", {"lr": 0}, "expected lr > 0, got 0"),
    ("Adam", {"eps": 0}, "expected eps > 0, got 0"),
    ("Adam", {"beta1": 1}, r"expected beta1 in \[0, 1\), got 1"),
    ("Adam", {"beta2": -1}, r"expected beta2 in \[0, 1\), got -1"),
    ("DiagonalNaturalGradient", {"lr": 1, "damping": 0}, "expected damping > 0, got 0"),
    ("DiagonalNaturalGradient", {"lr": 1, "power": -1}, r"expected power in \(0, 1\], got -1"),
    ("DiagonalNaturalGradient", {"lr": 1, "tau1": 0}, r"expected tau1 in \(0, 1\], got 0"),
    ("EKFAC", {"lr": 1, "T3": 0}, "expected T3 to be a whole number >= 1, got 0"),
    ("EKFAC", {"lr": 1, "decay": 1}, r"expected decay in \[0, 1\), got 1"),
    ("LowRank", {"lr": 1, "rank": 0}, "expected rank to be a whole number >= 1, got 0"),
    ("LowRank", {"lr": 1, "columns": 0}, "expected columns to be a whole number >= 1, got 0"),
    ("HessianFree", {"lam": NAN}, "expected lam >= 0, got nan"),
    ("HessianFree", {"restart": 1}, r"expected restart in \[0, 1\), got 1"),
    ("HessianFree", {"tau2": 1.5}, r"expected tau2 in \(0, 1\], got 1.5"),
    ("HessianFree", {"max_iterations": 0}, "expected max_iterations to be a whole number >= 1, got 0"),
    *(
        ("KFAC", {name: 1.5}, f"expected {name} to be a whole number >= 1, got 1.5")
        for name in ("T1", "T2", "T3")
    ),
    ("LowRank", {"lr": 1, "rank": 2.5}, "expected rank to be a whole number >= 1, got 2.5"),
    ("KFAC", {"lam": True}, "expected lam >= 0, got True"),
    ("KFAC", {"lam": float("inf")}, "expected lam >= 0, got inf"),
    ("KFAC", {"tau1": "all"}, r"expected tau1 in \(0, 1\], got 'all'"),
    ("SGD", {"lr": float("inf")}, "expected lr > 0, got inf"),
    ("SGD", {"lr": 1, "momentum": "x"}, r"expected momentum in \[0, 1\), got 'x'"),
    ("KrylovSubspace", {"K": 0}, "expected K to be a whole number >= 1, got 0"),
    ("KrylovSubspace", {"search": "newton"}, "expected search 'lbfgs' or 'model', got 'newton'"),
    ("KrylovSubspace", {"search_share": 0}, r"expected search_share in \(0, 1\], got 0"),
]
IDLE: list[tuple[str, dict[str, Any], str]] = [
    ("SGD", {"lr": 1, "nesterov": True}, "nesterov only with momentum > 0, got nesterov=True"),
    ("HessianFree", {"exponent": 0, "tau1": 0.5}, "expected tau1 only with exponent > 0, got tau1=0.5"),
    ("KrylovSubspace", {"search": "model", "search_share": 0.5}, "search_share only with search='lbfgs'"),
    ("KrylovSubspace", {"search": "model", "search_steps": 5}, "search_steps only with search='lbfgs'"),
    ("KFCPre", {"lr": 1, "clip": None, "clip_norm": "kfac"}, "clip_norm only with a clip, .*='kfac'"),
    ("KFCPre", {"lr": 1, "clip": None, "clip_share": 1.0}, "clip_share only with a clip, .* clip_share=1.0"),
    ("KFCPre", {"lr": 1, "clip_norm": "kfac", "clip_share": 1.0}, "clip_share only with clip_norm='fisher'"),
    ("KFAC", {"lr": 0.1, "momentum": True}, "momentum only with lr=None, .* got momentum=True and lr=0.1"),
]


@pytest.mark.parametrize(("name", "settings", "message"), [*REFUSED, *IDLE])
def test_wrong_settings_are_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)(mk.mlp([2, 2]), **settings)
