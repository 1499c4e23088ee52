"""EKFAC as an optimizer."""

import itertools

import numpy as np
import pytest

from minikfac import fisher, optim
from oracles import EXACT, SOLVE, error
from oracles.fisher import Case, make_case
from oracles.optim import drawn, gradient, images, moved, run

LR, MU, LAM, L2, DECAY = 0.05, 0.7, 0.05, 0.02, 0.6


@pytest.fixture(params=["categorical", "bernoulli", "gaussian"])
def case(request: pytest.FixtureRequest) -> Case:
    return make_case((3, 4, 3), "tanh", request.param, n=9)


def drawn_signals(case: Case, theta: np.ndarray, seed: int) -> list[fisher.LayerSignals]:
    at = moved(case, theta)
    return next(iter(at.signals(targets="sampled", rng=np.random.default_rng(seed))))


@pytest.mark.parametrize("T3", [1, 3, 20])
def test_the_step_is_its_formula(case: Case, T3: int) -> None:
    """Dense: U diag(s) U^T per layer, U = kron(U_A, U_G) and s the mean square of rotated gradients."""
    theta, v = case.theta, 0.0
    As, Gs, Us, ss = [0.0, 0.0], [0.0, 0.0], [None, None], [0.0, 0.0]
    for k in range(5):
        eps, age = min(1 - 1 / (k + 1), DECAY), k % T3
        eps_s = min(1 - 1 / (age + 1), DECAY)
        grad = gradient(case, theta) + L2 * theta
        layers, gradients = drawn_signals(case, theta, k), drawn(case, theta, k)
        step = np.zeros_like(theta)
        for l, (layer, part) in enumerate(zip(layers, case.slices, strict=True)):
            abar, g = layer.abar[:, 0], layer.g[0, :, 0]
            As[l] = eps * As[l] + (1 - eps) * abar.T @ abar / 9
            Gs[l] = eps * Gs[l] + (1 - eps) * g.T @ g / 9
            if age == 0:
                Us[l] = np.kron(np.linalg.eigh(As[l])[1], np.linalg.eigh(Gs[l])[1])
                ss[l] = 0.0
            ss[l] = eps_s * ss[l] + (1 - eps_s) * ((gradients[:, part] @ Us[l]) ** 2).mean(0)
            step[part] = Us[l] @ ((Us[l].T @ grad[part]) / (ss[l] + LAM + L2))
        v = MU * v - LR * step
        theta = theta + v
    opt = optim.EKFAC(case.net, LR, MU, LAM, L2, T3=T3, decay=DECAY)
    assert error(run(opt, case, 5)[-1][0], theta) < SOLVE


def test_the_first_step_is_that_of_the_matrix(case: Case) -> None:
    F = fisher.ekfac(case.signals(targets="sampled", rng=np.random.default_rng(0)))
    expected = LR * F.solve(gradient(case, case.theta), damping=LAM)
    step = case.theta - run(optim.EKFAC(case.net, LR, 0, LAM), case, 1)[0][0]
    assert error(step, expected) < SOLVE
    K = fisher.kfac(case.signals(targets="sampled", rng=np.random.default_rng(0)))
    assert error(step, LR * K.solve(gradient(case, case.theta), damping=LAM)) > 0.01  # a_i g_o for s_io


def test_one_example_makes_the_exact_blocks() -> None:
    """Then K-FAC is exact too; its eigenvalues are the best already."""
    case = make_case((3, 4, 3), n=1)
    D = drawn(case, case.theta, 0)[0]
    expected = np.zeros_like(D)
    for layer in case.slices:
        block = np.outer(D[layer], D[layer])
        grad = gradient(case, case.theta)[layer]
        expected[layer] = LR * np.linalg.solve(block + LAM * np.eye(len(block)), grad)
    step = case.theta - run(optim.EKFAC(case.net, LR, 0, LAM), case, 1)[0][0]
    assert error(step, expected) < SOLVE


def test_bases_have_periods_and_eigenvalues_have_none(case: Case) -> None:
    states = [state for _, state, _ in run(optim.EKFAC(case.net, LR, T3=3), case, 5)]
    bases = [state["bases"][0][1] for state in states]  # U_G: inputs, and with them U_A, stay
    values = [state["eigenvalues"][0][0] for state in states]
    assert all(np.array_equal(bases[a], bases[b]) for a, b in ((0, 1), (1, 2), (3, 4)))
    assert error(bases[3], bases[2]) > 0.01
    assert min(error(a, b) for a, b in itertools.pairwise(values)) > 0.01


def test_scale_and_shift_have_their_whole_block() -> None:
    net, theta, x, y = images()
    opt = optim.EKFAC(net, LR, 0, LAM)
    moved = opt.step(theta, opt.init(theta), (x, y), np.random.default_rng(0))[0]
    signals = fisher.signals(net, theta, x, targets="sampled", rng=np.random.default_rng(0), train=True)
    F, part = fisher.block_diagonal(signals).blocks[1].to_dense(), net.slices[1]
    grad = net.gradient_pass(theta, x, y)[1]
    expected = LR * np.linalg.solve(F + LAM * np.eye(6), grad[part])
    assert error(theta[part] - moved[part], expected) < SOLVE
    diagonal = LR * grad[part] / (F.diagonal() + LAM)
    assert error(theta[part] - moved[part], diagonal) > 0.01
    assert error(fisher.ekfac(signals).blocks[1].to_dense(), F) < EXACT
