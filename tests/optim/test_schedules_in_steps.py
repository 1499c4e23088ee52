"""A schedule that goes wrong is named with its setting and step, in whichever step that is."""

from typing import Any

import numpy as np
import pytest

from minikfac import optim
from oracles import random_net

RATES = {
    "SGD": lambda net, lr: optim.SGD(net, lr),
    "Adam": lambda net, lr: optim.Adam(net, lr),
    "DiagonalNaturalGradient": lambda net, lr: optim.DiagonalNaturalGradient(net, lr),
    "LowRank": lambda net, lr: optim.LowRank(net, lr),
    "EKFAC": lambda net, lr: optim.EKFAC(net, lr),
    "KFCPre": lambda net, lr: optim.KFCPre(net, lr),
    "KFAC": lambda net, lr: optim.KFAC(net, lr=lr),
    "NaturalGradient": lambda net, lr: optim.NaturalGradient(net, lr),
}
MOMENTA = {
    "SGD": lambda net, mu: optim.SGD(net, 0.01, mu),
    "DiagonalNaturalGradient": lambda net, mu: optim.DiagonalNaturalGradient(net, 0.01, mu),
    "LowRank": lambda net, mu: optim.LowRank(net, 0.01, mu),
    "EKFAC": lambda net, mu: optim.EKFAC(net, 0.01, mu),
    "KFCPre": lambda net, mu: optim.KFCPre(net, 0.01, mu),
}
WRONG = [-0.1, np.nan, np.inf, "x", True, None, np.array([0.1]), np.array(0.1), 1j, 10**400]


def steps(make: Any, schedule: Any, n: int) -> Any:
    net, theta, x, y = random_net(np.random.default_rng(0), (3, 4, 2), n=12)
    opt = make(net, schedule)
    state = opt.init(theta)
    for k in range(n):
        theta, state, _ = opt.step(theta, state, (x, y), np.random.default_rng(k))
    return theta


def values(at: int, wrong: Any) -> Any:
    return lambda k: wrong if k == at else 0.01


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_learning_rate_that_goes_wrong(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected lr >= 0 at each step, got .* at step 2$"):
        steps(RATES[name], values(2, wrong), 3)
    with pytest.raises(ValueError, match=r"expected lr > 0, got .* at step 0 of <function"):
        steps(RATES[name], values(0, wrong), 1)


@pytest.mark.parametrize("name", MOMENTA)
@pytest.mark.parametrize("wrong", [*WRONG, 1, 1.0, 2], ids=repr)
def test_a_momentum_that_goes_wrong(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected momentum in \[0, 1\) at each step, got .* at step 1$"):
        steps(MOMENTA[name], values(1, wrong), 2)
    with pytest.raises(ValueError, match=r"expected momentum in \[0, 1\), got .* at step 0 of <function"):
        steps(MOMENTA[name], values(0, wrong), 1)


def test_a_schedule_may_end_at_zero_and_return_numbers_of_numpy() -> None:
    ends = optim.schedules.Cosine(0.1, 2)
    assert np.array_equal(steps(RATES["SGD"], ends, 3), steps(RATES["SGD"], ends, 5))
    plain = steps(MOMENTA["KFCPre"], lambda k: 0.5, 3)
    assert np.array_equal(steps(MOMENTA["KFCPre"], lambda k: np.float32(0.5), 3), plain)
    assert np.array_equal(steps(MOMENTA["KFCPre"], 0.5, 3), plain)
