"""What is not finite is refused in every step of every optimizer, and nothing of it stays behind."""

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import optim, training
from minikfac.linalg import SingularMatrixError
from oracles import random_net, standin
from oracles.optim import images
from oracles.resumable import same

Make = Callable[[mk.Network], Any]
ALL: dict[str, Make] = {
    "SGD": lambda net: optim.SGD(net, 0.1, 0.9),
    "Nesterov": lambda net: optim.SGD(net, 0.1, 0.9, nesterov=True),
    "Adam": lambda net: optim.Adam(net),
    "DiagonalNaturalGradient": lambda net: optim.DiagonalNaturalGradient(net, 0.01),
    "LowRank": lambda net: optim.LowRank(net, 0.01),
    "EKFAC": lambda net: optim.EKFAC(net, 0.01),
    "KFAC": lambda net: optim.KFAC(net, tau1=1.0, tau2=1.0),
    "KFAC, tridiagonal": lambda net: optim.KFAC(net, structure="block_tridiagonal", tau1=1.0),
    "KFAC, rate": lambda net: optim.KFAC(net, lr=0.1, tau1=1.0, tau2=1.0),
    "KFCPre": lambda net: optim.KFCPre(net, 0.01),
    "KFCPre, free bound": lambda net: optim.KFCPre(net, 0.01, clip_norm="kfac"),
    "NaturalGradient": lambda net: optim.NaturalGradient(net),
    "HessianFree": lambda net: optim.HessianFree(net),
    "KrylovSubspace": lambda net: optim.KrylovSubspace(net),
}
SECOND = pytest.mark.parametrize("name", [name for name in ALL if name not in ("SGD", "Nesterov", "Adam")])


def problem(output: str = "gaussian") -> tuple[mk.Network, Any, tuple[Any, Any]]:
    net, theta, x, y = random_net(np.random.default_rng(0), (3, 4, 2), output=output, n=12)
    return net, theta, (x, y)


def refused(opt: Any, theta: Any, state: Any, batch: Any) -> str:
    """The error of a step, which leaves its arguments as they were."""
    before = copy.deepcopy((theta, state))
    with np.errstate(all="ignore"), pytest.raises((FloatingPointError, ValueError)) as error:
        opt.step(theta, state, batch, np.random.default_rng(0))
    assert same(before, (theta, state))
    return str(error.value)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("k", [1, 2])
def test_parameters_that_are_not_finite_are_refused_in_any_step(name: str, value: float, k: int) -> None:
    net, theta, batch = problem("categorical")
    opt = ALL[name](net)
    state, at = opt.init(theta), theta
    for step in range(k):
        at, state, _ = opt.step(at, state, batch, np.random.default_rng(step))
    odd = at.copy()
    odd[3] = value
    assert "got NaN or infinite parameters before the step" in refused(opt, odd, state, batch)
    with pytest.raises(ValueError, match="expected finite theta"):
        opt.init(odd)


@pytest.mark.parametrize("name", ALL)
def test_an_infinite_loss_is_named_with_the_settings_in_force(name: str) -> None:
    net, theta, (x, y) = problem()
    opt = ALL[name](net)
    state = opt.step(theta, opt.init(theta), (x, y), np.random.default_rng(0))[1]
    text = refused(opt, theta * 1e200, state, (x, y))
    what = type(opt).__name__
    assert re.match(rf"expected finite numbers in step 1 of {what}, got a loss of (inf|nan), with ", text)
    for setting, advice in (("lr", "a smaller lr"), ("lam", "a larger lam"), ("damping", "more damping")):
        in_force = setting in state or getattr(opt, setting, None) is not None
        assert (f"{setting}=" in text) == (advice in text) == in_force
    assert "pseudo_inverse" not in text
    text = refused(opt, theta * 1e200, opt.init(theta), (x, y))
    assert text.endswith("; start from smaller parameters, or scale the inputs")


@pytest.mark.parametrize("name", ALL)
def test_an_infinite_gradient_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta, batch = problem()
    opt = ALL[name](net)
    state = opt.init(theta)
    inner = mk.Network.gradient_pass

    def overflows(*arguments: Any, **options: Any) -> Any:
        loss, grad, *stats = inner(*arguments, **options)
        grad = grad.copy()
        grad[1] = np.inf
        return (loss, grad, *stats)

    monkeypatch.setattr(mk.Network, "gradient_pass", overflows)
    if name.startswith("KFCPre"):
        monkeypatch.setattr(optim.kfc_pre, "gradient_and_kfac", with_infinite_gradient)
    text = refused(opt, theta, state, batch)
    assert "got a gradient with NaN or infinity, with " in text


def with_infinite_gradient(*arguments: Any, **options: Any) -> Any:
    from minikfac.fisher import gradient_and_kfac

    estimate = gradient_and_kfac(*arguments, **options)
    return estimate._replace(gradient=estimate.gradient * np.inf)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("lr=1e+308", lambda net: optim.SGD(net, 1e308)),
        ("lr=1e+308", lambda net: optim.Adam(net, 1e308, eps=1e-300)),
        ("lr=1e+308", lambda net: optim.EKFAC(net, 1e308)),
        ("lr=1e+308", lambda net: optim.KFCPre(net, 1e308, clip=None)),
        ("lr=1e+308", lambda net: optim.LowRank(net, 1e308)),
        ("lr=1e+308", lambda net: optim.DiagonalNaturalGradient(net, 1e308)),
        ("lr=1e+308", lambda net: optim.NaturalGradient(net, 1e308, clip=None)),
        (
            "lr=1e+308",
            lambda net: optim.KFAC(net, lr=1e308, T1=1000),
        ),
    ],
)
def test_a_step_that_is_infinite_is_refused_at_once(name: str, make: Make) -> None:
    net, theta, (x, y) = problem()
    opt = make(net)
    text = refused(opt, theta, opt.init(theta), (x, 50 * y))
    assert "got a step with NaN or infinity, with " in text and name in text and "use a smaller lr" in text


def test_an_average_that_is_infinite_is_refused() -> None:
    """Such as of squares: the step is then 0 for ever, which looks like convergence."""
    net = mk.mlp([3, 2], output="gaussian")
    theta, x, y = np.zeros(8, np.float32), np.full((5, 3), 1e25, np.float32), np.ones((5, 2), np.float32)
    for opt in (optim.Adam(net), optim.DiagonalNaturalGradient(net, 0.1)):
        assert re.search("in step 0 of .* lr=", refused(opt, theta, opt.init(theta), (x, y)))


@pytest.mark.parametrize("name", ALL)
def test_a_state_with_nan_is_named(name: str) -> None:
    net, theta, batch = problem()
    opt = ALL[name](net)
    state = opt.step(theta, opt.init(theta), batch, np.random.default_rng(0))[1]
    vectors = [key for key, value in state.items() if getattr(value, "shape", None) == theta.shape]
    for key in vectors:
        changed = [state | {key: vector} for vector in (0 * theta, theta**2)]
        steps = [opt.step(theta, start, batch, np.random.default_rng(0))[0] for start in changed]
        if np.array_equal(*steps):  # no momentum: it does not act
            continue
        text = refused(opt, theta, state | {key: np.nan * theta}, batch)
        assert f"got NaN or infinite numbers in state[{key!r}]" in text


@pytest.mark.parametrize("name", ["SGD", "Adam", "EKFAC", "KFAC", "KFAC, rate", "KFCPre"])
def test_on_a_device_an_infinite_step_is_refused(name: str) -> None:
    net, theta, batch = problem()
    with standin.installed():
        x, y = map(mk.to_device, batch)
        opt = ALL[name](net)
        at = mk.to_device(theta)
        state = opt.init(at)
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="got a loss of"):
            opt.step(1e200 * at, state, (x, y), np.random.default_rng(0))
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="NaN or infinite parameters"):
            opt.step(np.nan * at, state, (x, y), np.random.default_rng(0))


# singular matrices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda net: optim.NaturalGradient(net, damping=0.0),
        lambda net: optim.KFAC(net, gamma=1e-30, tau1=1 / 12),
        lambda net: optim.KFCPre(net, 0.1, damping=1e-60),
    ],
)
def test_a_singular_matrix_has_advice_for_whoever_runs_an_optimizer(make: Make) -> None:
    net, theta, (x, y) = problem()
    opt = make(net)
    with pytest.raises(SingularMatrixError, match="damping") as error:
        opt.step(theta, opt.init(theta), (x[:2], y[:2]), np.random.default_rng(0))
    named = (
        rf"; in step 0 of {type(opt).__name__} with .*(damping|gamma)=.*; use more damping, scaled inputs or"
    )
    assert re.search(named, str(error.value))
    assert "pseudo_inverse" not in str(error.value)


# states ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_state_of_another_optimizer_or_net_is_refused(name: str) -> None:
    net, theta, batch = problem()
    opt = ALL[name](net)
    mine = opt.init(theta)
    others = {other: make(net).init(theta) for other, make in ALL.items()}
    assert any(other.keys() != mine.keys() for other in others.values())
    for odd in (*others.values(), None, {}, [mine], "x"):
        if not isinstance(odd, dict) or odd.keys() != mine.keys():
            named = f"expected a state of {type(opt).__name__}, from its init or last step, got"
            with pytest.raises(ValueError, match=named):
                opt.step(theta, odd, batch, np.random.default_rng(0))
    small = mk.mlp([3, 3, 2], output="gaussian")
    state = ALL[name](small).init(small.init(np.random.default_rng(0)))
    if any(isinstance(value, np.ndarray) for value in state.values()):
        with pytest.raises(ValueError, match=r"expected state\['\w+'\] like theta \(26,\), .*from another"):
            opt.step(theta, state, batch, np.random.default_rng(0))


@pytest.mark.parametrize("name", ALL)
def test_odd_parameters_and_batches_are_refused(name: str) -> None:
    net, theta, (x, y) = problem()
    opt = ALL[name](net)
    for odd in (theta[:-1], theta.astype(np.float16), theta[None], theta.astype(int)):
        with pytest.raises(ValueError, match="expected theta"):
            opt.init(odd)
        with pytest.raises(ValueError, match="expected theta"):
            opt.step(odd, opt.init(theta), (x, y), np.random.default_rng(0))
    state = opt.init(theta)
    for batch in ((x[:0], y[:0]), (x, y[:-1]), (x[:, :-1], y), (np.nan * x, y), (x, np.nan * y)):
        with pytest.raises(ValueError, match="expected"):
            opt.step(theta, state, batch, np.random.default_rng(0))


# in the loop ----------------------------------------------------------------------------------------------


def test_the_loop_names_the_step_and_the_last_good_checkpoint(tmp_path: Any) -> None:
    net, theta, (x, y) = problem()
    data = mk.datasets.Dataset(x, y, x, y, "points")
    keep = training.Keep(tmp_path, every=1)
    opt = optim.SGD(net, lambda k: 0.01 if k < 3 else 1e300)
    named = r"in step 4 of SGD, got a loss of .*, with lr=1e\+300, .*; the checkpoint of step 4 .* is intact"
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=named):
        training.train(net, theta, opt, data, 9, 12, measure_every=9, keep=keep, progress=False)


def test_batch_normalization_s_statistics_may_be_those_of_any_step() -> None:
    net, theta, x, y = images()
    opt = optim.SGD(net, 0.1)
    state = opt.init(theta)
    assert len(state["stats"]) == 1
    assert np.isfinite(opt.step(theta, state, (x, y))[0]).all()
