"""Hessian-free optimization and each of its devices."""

import math
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, optim
from minikfac.optim import hessian_free
from minikfac.optim.hessian_free import Path, adapted, enough, line_search, preconditioner
from minikfac.optim.objective import objective
from oracles import EXACT, SOLVE, error
from oracles.fisher import Case, make_case
from oracles.optim import drawn, exact_fisher, gradient, images, run

LAM, L2 = 0.3, 0.02


@pytest.fixture(params=["categorical", "bernoulli", "gaussian"])
def case(request: pytest.FixtureRequest) -> Case:
    return make_case((3, 4, 3), "tanh", request.param, n=9)


# the step -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0, 0.75])
def test_run_to_convergence_it_solves_the_dense_system(case: Case, exponent: float) -> None:
    F = exact_fisher(case, case.theta) + (LAM + L2) * np.eye(len(case.theta))
    g = gradient(case, case.theta) + L2 * case.theta
    expected = -np.linalg.solve(F, g)
    opt = optim.HessianFree(case.net, LAM, L2, progress=0, exponent=exponent)
    theta, state, info = run(opt, case, 1)[0]
    assert error(state["direction"], expected) < SOLVE
    assert error(theta - case.theta, info["alpha"] * expected) < 1e-4  # the best candidate, near the last
    assert info["model"] == pytest.approx(0.5 * expected @ F @ expected + g @ expected, rel=1e-6)
    truncated = run(optim.HessianFree(case.net, LAM, L2, max_iterations=2), case, 1)[0][1]["direction"]
    assert error(truncated, expected) > 0.01


def test_the_curvature_may_be_taken_on_a_part(case: Case) -> None:
    F = exact_fisher(case, case.theta, slice(5)) + LAM * np.eye(len(case.theta))
    expected = -np.linalg.solve(F, gradient(case, case.theta))
    state = run(optim.HessianFree(case.net, LAM, tau2=0.5, progress=0), case, 1)[0][1]
    assert error(state["direction"], expected) < SOLVE


def test_coupled_batches_have_the_matrix_of_the_whole_batch() -> None:
    net, theta, x, y = images()
    opt = optim.HessianFree(net, LAM, progress=0)
    direction = opt.step(theta, opt.init(theta), (x, y), np.random.default_rng(0))[1]["direction"]
    grad = net.gradient_pass(theta, x, y)[1]
    assert error(direction, -fisher.joint(net, theta, x).solve(grad, LAM)) < SOLVE
    constant = fisher.exact(fisher.signals(net, theta, x, train=True))
    assert error(direction, -constant.solve(grad, LAM)) > 0.01


def test_rho_compares_the_objective_with_the_model(case: Case) -> None:
    opt = optim.HessianFree(case.net, LAM, L2)
    theta, state, info = run(opt, case, 1)[0]
    d = (theta - case.theta) / info["alpha"]

    def h(at: np.ndarray) -> float:
        return case.net.loss(at, case.x, case.y) + L2 / 2 * at @ at

    F = exact_fisher(case, case.theta) + (LAM + L2) * np.eye(len(d))
    phi = 0.5 * d @ F @ d + (gradient(case, case.theta) + L2 * case.theta) @ d
    assert info["objective"] == pytest.approx(h(case.theta), rel=EXACT)
    assert info["loss"] == pytest.approx(case.net.loss(case.theta, case.x, case.y), rel=EXACT)
    assert info["model"] == pytest.approx(phi, rel=SOLVE)
    assert info["rho"] == pytest.approx((h(case.theta + d) - h(case.theta)) / phi, rel=SOLVE)
    assert state["lam"] == adapted(info["lam"], info["rho"])


def test_coupled_batches_have_the_objective_of_training() -> None:
    net, theta, x, y = images()
    opt = optim.HessianFree(net, LAM, L2)
    after, _, info = opt.step(theta, opt.init(theta), (x, y), np.random.default_rng(0))
    d = (after - theta) / info["alpha"]

    def h(at: np.ndarray) -> float:
        return net.gradient_pass(at, x, y)[0] + L2 / 2 * at @ at

    assert objective(net, theta, x, y, L2) == pytest.approx(h(theta), rel=EXACT)
    assert info["rho"] == pytest.approx((h(theta + d) - h(theta)) / info["model"], rel=SOLVE)
    assert abs(net.loss(theta, x, y, net.init_stats()) - info["loss"]) > 0.01  # with the running statistics


def test_where_the_model_is_the_objective_damping_falls() -> None:
    case = make_case((4, 3), output="gaussian", n=12)
    lams = [info["lam"] for _, _, info in run(optim.HessianFree(case.net, LAM), case, 4)]
    assert lams == pytest.approx([LAM, LAM * 2 / 3, LAM * 4 / 9, LAM * 8 / 27])


@pytest.mark.parametrize(
    ("rho", "factor"),
    [(0.76, 2 / 3), (3.0, 2 / 3), (0.75, 1), (0.25, 1), (0.24, 1.5), (-math.inf, 1.5), (math.nan, 1.5)],
)
def test_damping_follows_rho(rho: float, factor: float) -> None:
    assert adapted(2.0, rho) == pytest.approx(2 * factor)


class Cliff(mk.Network):
    """A net whose loss is said to be ``beyond`` anywhere but at one place."""

    home: np.ndarray
    beyond: float

    def mean_loss(self, theta: Any, *args: Any, **options: Any) -> float:
        return super().mean_loss(theta, *args, **options) if np.array_equal(theta, self.home) else self.beyond


@pytest.mark.parametrize("radius", [0.9, 0.5])
def test_the_line_search_cuts_long_steps(case: Case, radius: float) -> None:
    class Bowl(mk.Network):
        """A net whose loss has a steep edge."""

        def mean_loss(self, theta: Any, *args: Any, **options: Any) -> float:
            inside = np.linalg.norm(theta - case.theta) < radius * np.linalg.norm(full)
            return super().mean_loss(theta, *args, **options) if inside else math.nan

    net, full = Bowl(case.net.layers, case.net.output), math.inf
    theta, state, info = run_on(net, case, optim.HessianFree(net, LAM, max_iterations=1))
    full = state["direction"]  # the first call had no edge
    theta, state, info = run_on(net, case, optim.HessianFree(net, LAM, max_iterations=1))
    assert info["alpha"] == pytest.approx({0.9: 0.8, 0.5: 0.8**4}[radius])
    assert error(theta - case.theta, info["alpha"] * full) < SOLVE
    assert error(state["direction"], full) < EXACT  # conjugate gradients go on from their own answer


def run_on(net: mk.Network, case: Case, opt: optim.HessianFree) -> Any:
    return opt.step(case.theta, opt.init(case.theta), (case.x, case.y), np.random.default_rng(0))


@pytest.mark.parametrize("beyond", [1e6, math.inf, math.nan])
def test_a_rejected_step_leaves_theta_as_it_was(case: Case, beyond: float) -> None:
    net = Cliff(case.net.layers, case.net.output)
    net.home, net.beyond = case.theta, beyond
    theta, state, info = run_on(net, case, optim.HessianFree(net, LAM))
    assert np.array_equal(theta, case.theta)
    assert objective(net, 2 * theta, case.x, case.y, 0.0) == (1e6 if beyond == 1e6 else math.inf)
    assert info["alpha"] == 0
    assert info["rho"] == -math.inf
    assert state["lam"] == LAM * 1.5
    assert not state["direction"].any()  # nothing to start the next one from


def test_where_there_is_no_gradient_nothing_moves() -> None:
    case = make_case((2, 2), output="gaussian", n=4)
    theta = 0 * case.theta
    opt = optim.HessianFree(case.net, LAM)
    moved, _, info = opt.step(theta, opt.init(theta), (case.x, 0 * case.y), np.random.default_rng(0))
    assert not moved.any()
    assert (info["iterations"], info["alpha"]) == (0, 0)


def test_conjugate_gradients_start_at_a_shrunken_last_answer(case: Case, monkeypatch: Any) -> None:
    starts, answers = [], []
    solve = hessian_free.conjugate_gradients

    def noted(*args: Any, **options: Any) -> Any:
        starts.append(options["x0"])
        solution = solve(*args, **options)
        answers.append(solution.x)
        return solution

    monkeypatch.setattr(hessian_free, "conjugate_gradients", noted)
    run(optim.HessianFree(case.net, LAM, restart=0.9), case, 3)
    assert not starts[0].any()
    assert error(starts[1], 0.9 * answers[0]) < EXACT
    assert error(starts[2], 0.9 * answers[1]) < EXACT


# when to stop ---------------------------------------------------------------------------------------------


def test_the_stopping_rule_on_a_sequence_made_by_hand() -> None:
    falling = [-float(i) for i in range(40)]  # phi_i = -i: in k = 10 steps a share 10 / i of itself
    assert not any(enough(falling[: i + 1], 0.03) for i in range(34))
    assert enough(falling[:35], 0.03)  # 10 / 34 < 0.3
    flat = [-1.0] * 40
    assert not enough(flat[:11], 5e-4)  # i = 10 is not over k
    assert enough(flat[:12], 5e-4)
    assert not enough([1.0] * 40, 5e-4)  # phi is not negative yet
    assert not enough([0.0, *flat[:10]], 5e-4)
    late = [-1.0] * 185 + [-2.0] * 16  # i = 200 looks k = 20 back, to i = 180
    assert not enough(late, 5e-4)
    assert enough([-1.0] * 180 + [-2.0] * 21, 5e-4)
    assert not enough(flat, 0)  # 0 asks for a rise


@pytest.mark.parametrize("progress", [5e-4, 5e-2])
def test_the_rule_ends_conjugate_gradients(progress: float) -> None:
    case = make_case((6, 12, 4), output="categorical", n=40)
    opt = optim.HessianFree(case.net, 1e-4, progress=progress)
    info = run(opt, case, 1)[0][2]
    assert 11 <= info["iterations"] < 250
    tight = run(optim.HessianFree(case.net, 1e-4, progress=0), case, 1)[0][2]
    assert info["iterations"] < tight["iterations"]
    assert info["model"] > tight["model"]


# candidates -----------------------------------------------------------------------------------------------


def walk(length: int, progress: float = 0) -> Path:
    path = Path(progress)
    for i in range(length + 1):
        path.watch(i, np.array([float(i)]), -float(i))
    return path


def test_candidates_stand_at_growing_distances() -> None:
    assert [int(d[0]) for _, d in walk(50).kept] == [1, 2, 3, 4, 6, 8, 11, 15, 20, 26, 34, 45]


def test_going_back_ends_where_the_objective_rises() -> None:
    tried = []

    def h_at(d: np.ndarray) -> float:
        tried.append(int(d[0]))
        return {50: 5.0, 45: 4.0, 34: 3.0, 26: 2.0, 20: 2.5, 15: 0.0}[int(d[0])]

    d, phi, h = walk(50).best(h_at)
    assert (int(d[0]), phi, h) == (26, -26.0, 2.0)
    assert tried == [50, 45, 34, 26, 20]  # what lies further back is not looked at


def test_the_last_iterate_counts_once() -> None:
    tried = []
    walk(11).best(lambda d: tried.append(int(d[0])) or float(d[0]))
    assert tried[:3] == [11, 8, 6]
    d, _, _ = walk(11).best(lambda d: -float(d[0]))
    assert int(d[0]) == 11


def test_the_best_candidate_makes_the_step(case: Case) -> None:
    opt = optim.HessianFree(case.net, 1e-6)  # hardly damped: the model is not to be trusted far out
    theta, state, info = run(opt, case, 1)[0]
    assert info["alpha"] > 0
    here, there = (case.net.loss(at, case.x, case.y) for at in (theta, case.theta + state["direction"]))
    assert here <= there


# line search ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steep", "tries"), [(1.0, 0), (3.0, 2), (3.11, 3), (100.0, 18)])
def test_the_line_search_stops_where_the_gain_suffices(steep: float, tries: int) -> None:
    """On h(a) = steep a^2 / 2 - a from h = 0, the gain is enough where a <= 2 (1 - 0.01) / steep."""

    def h_at(d: np.ndarray) -> float:
        return float(steep * d[0] ** 2 / 2 - d[0])

    one = np.ones(1)
    assert line_search(h_at, one, 0.0, h_at(one), slope=-1.0) == pytest.approx(0.8**tries)
    assert 0.8**tries <= 1.98 / steep
    assert tries == 0 or 0.8 ** (tries - 1) > 1.98 / steep


def test_the_line_search_gives_up() -> None:
    one, tried = np.ones(1), []
    assert line_search(lambda d: tried.append(d) or 1.0, one, 0.0, 1.0, slope=-1.0) == 0
    assert len(tried) == 60
    assert line_search(lambda d: -1.0, one, 0.0, -1.0, slope=1.0) == 0  # no direction of descent


# preconditioner -------------------------------------------------------------------------------------------


def test_the_preconditioner_is_its_formula(case: Case) -> None:
    D = (drawn(case, case.theta, 3, slice(5)) ** 2).mean(0)
    scale = preconditioner(case.net, case.theta, case.x[:5], np.random.default_rng(3), [], LAM, 0.75)
    assert error(scale, (D + LAM) ** 0.75) < EXACT
    assert preconditioner(case.net, case.theta, case.x, None, [], LAM, 0) == 1


def test_the_preconditioner_has_no_zeros_where_units_are_dead() -> None:
    case = make_case((3, 4, 2), "relu", n=9)
    theta = case.theta.copy()
    theta[:16].reshape(4, 4)[:, 1] = [0, 0, 0, -1]
    scale = preconditioner(case.net, theta, case.x, np.random.default_rng(0), [], 0.0, 0.75)
    assert (drawn(case, theta, 0) == 0).all(0).any()
    assert (scale > 0).all()


def test_the_preconditioner_saves_iterations_on_inputs_of_unequal_scale() -> None:
    case = make_case((40, 2), output="gaussian", n=400)
    x = case.x * np.geomspace(1, 0.01, 40)
    iterations = []
    for exponent in (0.75, 0):
        opt = optim.HessianFree(case.net, 1e-6, progress=0, exponent=exponent)
        state = opt.init(case.theta)
        iterations.append(opt.step(case.theta, state, (x, case.y), np.random.default_rng(0))[2]["iterations"])
    assert iterations[0] < iterations[1] / 2
