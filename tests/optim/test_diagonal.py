"""Natural gradient with the sampled diagonal Fisher matrix."""

import numpy as np
import pytest

from minikfac import optim
from oracles import EXACT, error
from oracles.fisher import Case, make_case
from oracles.optim import drawn, exact_fisher, gradient, run

LR, MU, LAM, L2, DECAY = 0.05, 0.7, 0.01, 0.02, 0.4


@pytest.fixture(params=["categorical", "bernoulli", "gaussian"])
def case(request: pytest.FixtureRequest) -> Case:
    return make_case((3, 4, 3), "tanh", request.param, n=9)


@pytest.mark.parametrize("power", [1, 0.5])
@pytest.mark.parametrize("tau1", [1, 0.5])
def test_the_step_is_its_formula(case: Case, power: float, tau1: float) -> None:
    rows = slice(9 if tau1 == 1 else 5)
    theta, v, D = case.theta, 0.0, 0.0
    for k in range(4):
        eps = min(1 - 1 / (k + 1), DECAY)
        D = eps * D + (1 - eps) * (drawn(case, theta, k, rows) ** 2).mean(0)
        v = MU * v - LR * (gradient(case, theta) + L2 * theta) / (D + LAM + L2) ** power
        theta = theta + v
    opt = optim.DiagonalNaturalGradient(case.net, LR, MU, LAM, power, L2, tau1, DECAY)
    assert error(run(opt, case, 4)[-1][0], theta) < EXACT


def test_it_is_never_the_square_of_the_mean_gradient(case: Case) -> None:
    opt = optim.DiagonalNaturalGradient(case.net, LR)
    D = run(opt, case, 1)[0][1]["diagonal"][0][0]
    mean_of_drawn = drawn(case, case.theta, 0).mean(0)
    for naive in (gradient(case, case.theta) ** 2, mean_of_drawn**2):
        assert (D >= naive / (1 + EXACT)).all() or naive is not mean_of_drawn
        assert error(naive, D) > 0.3


def test_its_mean_over_draws_is_the_exact_diagonal(case: Case) -> None:
    """Monte Carlo in standard errors; the square of the mean gradient of drawn targets is far off."""
    opt = optim.DiagonalNaturalGradient(case.net, LR)
    state, traces, naive = opt.init(case.theta), [], []
    for seed in range(400):
        batch = (case.x, case.y)
        D = opt.step(case.theta, state, batch, np.random.default_rng(seed))[1]["diagonal"][0][0]
        traces.append(D.sum())
        naive.append((drawn(case, case.theta, seed).mean(0) ** 2).sum())
    trace = exact_fisher(case, case.theta).trace()

    def z(values: list[float]) -> float:
        return (np.mean(values) - trace) / (np.std(values) / len(values) ** 0.5)

    assert abs(z(traces)) < 5
    assert z(naive) < -20
    assert abs(np.mean(naive) / trace - 1 / 9) < 0.03  # 1 / N of the size
