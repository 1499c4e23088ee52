"""K-FAC, KFC-pre and the natural gradient against dense formulas and exact statements."""

import itertools
import math

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers, linalg, optim
from minikfac.optim import schedules
from minikfac.optim.averages import moving_average
from minikfac.optim.quadratic import curvature_ratios, is_rounding
from oracles import close

N, NEVER = 12, 10**9
SMALL = 1e-10


def problem(output="categorical", seed=0):
    rng = np.random.default_rng(seed)
    net = mk.mlp([4, 5, 3], "tanh", output)
    x = rng.standard_normal((N, 4))
    y = rng.integers(0, 3, N) if output == "categorical" else rng.standard_normal((N, 3))
    return net, 0.5 * net.init(rng), x, y


def conv_problem(*norm):
    rng = np.random.default_rng(3)
    net = mk.Network(
        [layers.Conv2d(1, 3, 3, padding=1), *norm, layers.Tanh(), layers.Flatten(), layers.Dense(48, 4)],
        mk.outputs.Categorical(),
    )
    return net, net.init(rng), rng.standard_normal((N, 4, 4, 1)), rng.integers(0, 4, N)


def rng_of(step):
    return np.random.default_rng([0, step])


# the quadratic model ------------------------------------------------------


@pytest.mark.parametrize("output", ["categorical", "gaussian"])
def test_alpha_and_mu_solve_the_dense_system(output):
    net, theta, x, y = problem(output)
    rng = np.random.default_rng(1)
    F = fisher.exact(fisher.signals(net, theta, x)).array + 0.3 * np.eye(net.n_params)
    grad = net.gradient(theta, x, y)
    d = rng.standard_normal((2, net.n_params))
    model = optim.QuadraticModel.along(net, theta, x, grad, list(d), 0.3)
    c = model.minimum()
    close(c, -np.linalg.solve(d @ F @ d.T, d @ grad), SMALL)
    delta = np.array(c) @ d
    close(model.value(c), 0.5 * delta @ F @ delta + grad @ delta, SMALL)
    close(model.value(c), 0.5 * grad @ delta, SMALL)  # at the minimum
    alone = optim.QuadraticModel.along(net, theta, x, grad, [d[0]], 0.3).minimum()
    close(alone, [-(grad @ d[0]) / (d[0] @ F @ d[0])], SMALL)
    assert model.value(c) < model.value((alone[0], 0.0)) < 0


def test_two_directions_that_say_the_same_count_once():
    net, theta, x, y = problem()
    grad = net.gradient(theta, x, y)
    model = optim.QuadraticModel.along(net, theta, x, grad, [-grad, -2 * grad], 0.1)
    alone = optim.QuadraticModel.along(net, theta, x, grad, [-grad], 0.1)
    close(model.minimum(), (alone.minimum()[0], 0.0), SMALL)
    assert model.minimum()[1] == 0
    assert optim.QuadraticModel.along(net, theta, x, grad, [0 * grad], 0.0).minimum() == (0.0,)


def test_gram_matrices_by_chunks_are_those_of_the_batch(monkeypatch):
    net, theta, x, _ = problem()
    d = np.random.default_rng(1).standard_normal((3, net.n_params))
    F = fisher.exact(fisher.signals(net, theta, x)).array
    close(net.fisher_gram(theta, x, d), d @ F @ d.T, SMALL)
    monkeypatch.setattr("minikfac.parallel._CHUNK", 12)
    assert len(net.chunks(theta, x)) > 1
    close(net.fisher_gram(theta, x, d), d @ F @ d.T, SMALL)


# averages -----------------------------------------------------------------


def test_moving_averages_begin_as_means_and_forget_later():
    values = np.random.default_rng(0).standard_normal((30, 2))
    mean = None
    for k, value in enumerate(values, start=1):
        mean = moving_average(mean, [(value,), (2 * value, value)], k, 0.9)
        if k <= 10:
            close(mean[0][0], values[:k].mean(0))
            close(mean[1][0], 2 * values[:k].mean(0))
    weights = 0.1 * 0.9 ** np.arange(19, -1, -1)  # steps 11 to 30, on top of the mean of ten
    close(mean[0][0], weights @ values[10:] + 0.9**20 * values[:10].mean(0))


# K-FAC --------------------------------------------------------------------


def linear_problem():
    rng = np.random.default_rng(2)
    net = mk.mlp([6, 4], output="gaussian")
    return (
        net,
        net.init(rng),
        rng.standard_normal((40, 6)) * [1, 2, 3, 0.3, 1, 5],
        rng.standard_normal((40, 4)),
    )


def quadratic_kfac(net, **options):
    return optim.KFAC(
        net, lam=0.0, l2=0.1, gamma=0.7, tau1=1, tau2=1, T2=NEVER, T3=1, targets="model", **options
    )


def test_with_momentum_it_is_preconditioned_conjugate_gradients():
    net, theta, x, y = linear_problem()
    opt = quadratic_kfac(net, T1=NEVER)
    F = fisher.exact(fisher.signals(net, theta, x)).array + 0.1 * np.eye(net.n_params)
    B = fisher.kfac(fisher.signals(net, theta, x)).inverse(0.7**2, method="factored")
    b = F @ theta - (net.gradient(theta, x, y) + 0.1 * theta)
    at, state = theta, opt.init(theta)
    for k in range(1, 6):
        at, state, _ = opt.step(at, state, (x, y), rng_of(k))
        cg = linalg.conjugate_gradients(lambda v: F @ v, b, 0.0, k, lambda r: B @ r, x0=theta)
        close(at, cg.x, SMALL)
    plain, state = theta, (single := quadratic_kfac(net, T1=NEVER, momentum=False)).init(theta)
    for k in range(1, 6):
        plain, state, _ = single.step(plain, state, (x, y), rng_of(k))
    assert abs(plain - at).max() > 1e-3  # without momentum it is not


def test_the_model_predicts_a_quadratic_exactly():
    net, theta, x, y = linear_problem()
    opt = quadratic_kfac(net, T1=1)
    state = opt.init(theta)
    for k in range(1, 4):
        theta, state, info = opt.step(theta, state, (x, y), rng_of(k))
        np.testing.assert_allclose(info["rho"], 1.0, rtol=1e-9, atol=0)
    net, theta, x, y = problem()
    opt = optim.KFAC(net, lam=0.1, T1=1, tau1=1, tau2=1)
    assert abs(opt.step(theta, opt.init(theta), (x, y), rng_of(1))[2]["rho"] - 1) > 1e-3


@pytest.mark.parametrize(
    ("rho", "factor"),
    [(0.9, 0.95**5), (0.75, 1), (0.5, 1), (0.25, 1), (0.1, 0.95**-5), (-math.inf, 0.95**-5)],
)
def test_lambda_follows_the_reduction_ratio(rho, factor):
    net = problem()[0]
    close(optim.KFAC(net)._adapted(2.0, rho), 2 * factor)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gain_is_rounding_up_to_ten_units_of_the_objective(dtype):
    like, eps = np.zeros(1, dtype), float(np.finfo(dtype).eps)
    for h in (1e-3, -1.0, 50.0):
        assert is_rounding(-9 * eps * abs(h), h, like) and is_rounding(9 * eps * abs(h), h, like)
        assert not is_rounding(-11 * eps * abs(h), h, like)
        assert not is_rounding(11 * eps * abs(h), h, like)
    assert is_rounding(math.nan, 1.0, like) and is_rounding(0.0, 0.0, like)


def test_inverses_that_come_late_fit_between_choices_of_gamma():
    net = problem()[0]
    assert optim.KFAC(net, T2=6, T3=3, max_age=2).max_age == 2
    for T2, T3 in ((4, 3), (8, 3), (3, 6)):
        with pytest.raises(ValueError, match=f"T2 in multiples of T3 with max_age, got {T2} and {T3}"):
            optim.KFAC(net, T2=T2, T3=T3, max_age=1)


def test_lambda_stops_falling_at_its_bound():
    opt = optim.KFAC(problem()[0], lam_min=0.5)
    assert opt._adapted(0.6, 0.9) == 0.5  # 0.6 * 0.95^5 would be less
    assert opt._adapted(0.5, 0.9) == 0.5
    assert opt._adapted(0.0, 0.9) == 0.0  # what began below it does not rise
    close(opt._adapted(0.5, 0.1), 0.5 / 0.95**5)


def test_a_given_rate_is_taken_without_rescaling_and_momentum():
    net, theta, x, y = problem()
    lr = schedules.InverseTime(0.2, 1)
    opt = optim.KFAC(net, lam=0.2, lr=lr, tau1=1, T1=NEVER, T3=1, targets="model", decay=0.0)
    at, state = theta, opt.init(theta)
    for k in range(2):
        grad = net.gradient(at, x, y) + opt.l2 * at
        F = fisher.kfac(fisher.signals(net, at, x))
        expected = at - lr(k) * F.solve(grad, 0.2 + opt.l2, method="factored")
        at, state, info = opt.step(at, state, (x, y), rng_of(k))
        close(at, expected, SMALL)
        assert info["alpha"] == lr(k)
        assert "mu" not in info
    for momentum in (None, False):
        assert not optim.KFAC(net, lr=lr, momentum=momentum).has_momentum
    for momentum in (None, True):
        assert optim.KFAC(net, momentum=momentum).has_momentum
    tiny = optim.KFAC(net, lr=1e-9)
    assert abs(tiny.step(theta, tiny.init(theta), (x, y), rng_of(1))[0] - theta).max() < 1e-7


def test_a_step_that_raises_the_objective_raises_lambda():
    net, theta, x, y = problem()
    opt = optim.KFAC(net, lr=300.0, T1=1)
    _, state, info = opt.step(theta, opt.init(theta), (x, y), rng_of(1))
    assert info["rho"] == -math.inf
    close(state["lam"], 1 / 0.95)
    good = optim.KFAC(net, T1=1, tau1=1, tau2=1)
    _, state, info = good.step(theta, good.init(theta), (x, y), rng_of(1))
    assert info["rho"] > 0.75
    close(state["lam"], 0.95)


def test_the_reduction_ratio_takes_both_objectives_in_training_mode():
    net, theta, x, y = conv_problem(layers.BatchNorm(3))
    opt = optim.KFAC(net, lam=1.0, l2=0.01, T1=1, tau1=1, tau2=1)
    moved, _, info = opt.step(theta, opt.init(theta), (x, y), rng_of(1))
    before, after = (
        net.loss_and_gradient(at, x, y, train=True)[0] + 0.005 * at @ at for at in (theta, moved)
    )
    close(info["objective"], before, SMALL)
    close(info["rho"], (after - before) / info["model"], SMALL)


def test_a_rejected_step_leaves_theta_as_it_was():
    _, _, x, y = problem("gaussian")
    net = mk.mlp([x.shape[1], 4, y.shape[1]], "relu", "gaussian")  # of which h grows faster than M
    theta = net.init(rng_of(0))
    opt = optim.KFAC(net, lr=1e100, T1=1, tau1=1)
    with np.errstate(all="ignore"):
        after, state, info = opt.step(theta, opt.init(theta), (x, y), rng_of(1))
    assert np.array_equal(after, theta)
    assert not state["delta"].any()
    assert info["rho"] == -math.inf
    assert state["lam"] > opt.lam


def dense_proposal(net, theta, x, y, gamma, lam, l2, last=None):
    """delta and M by dense matrices, on the whole batch, with the exact expectation in the factors."""
    signals = fisher.signals(net, theta, x)
    parts = []
    for block in fisher.kfac(signals).blocks:
        pi = math.sqrt(np.trace(block.A) / len(block.A) / (np.trace(block.G) / len(block.G)))
        A, G = block.A + pi * gamma * np.eye(len(block.A)), block.G + gamma / pi * np.eye(len(block.G))
        parts.append(np.linalg.inv(np.kron(A, G)))
    grad = net.gradient(theta, x, y) + l2 * theta
    proposal = np.concatenate([-part @ grad[layer] for part, layer in zip(parts, net.slices, strict=True)])
    d = np.stack([proposal] if last is None else [proposal, last])
    F = fisher.exact(signals).array + (lam + l2) * np.eye(len(theta))
    c = -np.linalg.solve(d @ F @ d.T, d @ grad)
    delta = c @ d
    return delta, 0.5 * delta @ F @ delta + grad @ delta


def test_steps_with_three_gammas_match_dense_matrices():
    net, theta, x, y = problem()
    settings = {"lam": 0.2, "l2": 0.01, "tau1": 1, "tau2": 1, "T1": NEVER, "T2": 2, "T3": 1, "decay": 0.0}
    opt = optim.KFAC(net, gamma=math.sqrt(0.21), targets="model", **settings)
    state = opt.init(theta)
    delta, model = dense_proposal(net, theta, x, y, state["gamma"], 0.2, 0.01)
    at, state, info = opt.step(theta, state, (x, y), rng_of(1))
    close(at, theta + delta, SMALL)
    close(info["model"], model, SMALL)
    w2 = math.sqrt(0.95) ** 2
    options = [
        (dense_proposal(net, at, x, y, gamma, 0.2, 0.01, delta), gamma)
        for gamma in (state["gamma"], state["gamma"] * w2, state["gamma"] / w2)
    ]
    (delta, model), gamma = min(options, key=lambda option: option[0][1])
    after, state, info = opt.step(at, state, (x, y), rng_of(2))
    close(after, at + delta, SMALL)
    close([info["model"], info["gamma"], state["gamma"]], [model, gamma, gamma], SMALL)
    assert gamma != options[0][1]  # another one than before was better


def test_inverses_are_renewed_at_their_turns():
    net, theta, x, y = problem()
    opt = optim.KFAC(net, T3=6, T2=NEVER)
    state = opt.init(theta)
    new = []
    for k in range(1, 14):
        before = state["inverse"]
        theta, state, _ = opt.step(theta, state, (x, y), rng_of(k))
        if state["inverse"] is not before:
            new.append(k)
    assert new == [1, 2, 3, 6, 12]


def test_the_tridiagonal_inverse_is_that_of_the_factors():
    net, theta, x, y = problem()
    settings = {"lam": 0.2, "tau1": 1, "tau2": 1, "T1": NEVER, "T3": 1, "targets": "model"}
    settings["gamma"] = math.sqrt(0.2 + 1e-5)
    opt = optim.KFAC(net, structure="block_tridiagonal", **settings)
    at = opt.step(theta, opt.init(theta), (x, y), rng_of(1))[0]
    F = fisher.block_tridiagonal(fisher.signals(net, theta, x))
    grad = net.gradient(theta, x, y) + opt.l2 * theta
    d = -F.solve(grad, damping=0.2 + opt.l2)
    model = optim.QuadraticModel.along(net, theta, x, grad, [d], 0.2 + opt.l2)
    close(at, theta + model.minimum()[0] * d, SMALL)
    other = optim.KFAC(net, **settings)
    assert abs(other.step(theta, other.init(theta), (x, y), rng_of(1))[0] - at).max() > 1e-4
    conv, theta, x, y = conv_problem()
    opt = optim.KFAC(conv, structure="block_tridiagonal")
    with pytest.raises(ValueError, match="expected a chain of dense layers for block_tridiagonal"):
        opt.step(theta, opt.init(theta), (x, y), rng_of(1))


def test_shares_of_the_batch_are_its_first_examples():
    net, theta, x, y = problem()
    opt = optim.KFAC(net, lam=0.2, tau1=1 / 6, tau2=1 / 3, T1=NEVER, targets="model")
    _, state, _ = opt.step(theta, opt.init(theta), (x, y), rng_of(1))
    F = fisher.kfac(fisher.signals(net, theta, x[:2]))
    for pair, block in zip(state["factors"], F.blocks, strict=True):
        close(pair[0], block.A)
        close(pair[1], block.G)


# KFC-pre ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clip", "clip_norm"), [(None, "fisher"), *itertools.product((1e-4, 1e4), ("fisher", "kfac"))]
)
def test_kfc_pre_is_its_formula(clip, clip_norm):
    net, theta, x, y = conv_problem(layers.GroupNorm(1, 3))
    share = {"clip_share": 1} if clip is not None and clip_norm == "fisher" else {}
    opt = optim.KFCPre(
        net, lr=0.1, momentum=0.8, damping=0.05, l2=0.01, clip=clip, clip_norm=clip_norm, Tf=1, **share
    )
    state = opt.init(theta)
    F = fisher.kfac(fisher.signals(net, theta, x, targets="sampled", rng=rng_of(1)))
    exact = fisher.exact(fisher.signals(net, theta, x)).array
    grad = net.gradient(theta, x, y) + 0.01 * theta
    v = -0.1 * F.solve(grad, damping=0.06, method="factored")
    nu = v @ exact @ v + 0.01 * v @ v if clip_norm == "fisher" else -0.1 * v @ grad
    scale = 1.0 if clip is None else min(1.0, math.sqrt(clip / nu))
    at, state, info = opt.step(theta, state, (x, y), rng_of(1))
    close(at, theta + scale * v, SMALL)
    if clip is not None:
        assert (scale < 1) == (clip < 1)
        close([info["nu"], info["scale"]], [nu, scale], SMALL)
    velocity = state["velocity"]
    after, state, info = opt.step(at, state, (x, y), rng_of(2))
    close(after - at, state["velocity"], SMALL)
    both = moving_average(
        fisher.kronecker_block.factors_of(F),
        fisher.kronecker_block.factors_of(
            fisher.kfac(fisher.signals(net, at, x, targets="sampled", rng=rng_of(2)))
        ),
        2,
        0.95,
    )
    step = -0.1 * fisher.Kronecker(both).solve(
        net.gradient(at, x, y) + 0.01 * at, damping=0.06, method="factored"
    )
    close(state["velocity"], 0.8 * velocity + info.get("scale", 1.0) * step, SMALL)


def test_statistics_and_inverses_have_periods():
    net, theta, x, y = conv_problem(layers.BatchNorm(3))
    opt = optim.KFCPre(net, lr=0.01, Ts=2, Tf=3)
    state = opt.init(theta)
    factors, inverses = [], []
    for k in range(1, 8):
        before = state
        theta, state, _ = opt.step(theta, state, (x, y), rng_of(k))
        factors += [k] * (state["factors"] is not before["factors"])
        inverses += [k] * (state["inverse"] is not before["inverse"])
    assert factors == [1, 3, 5, 7]
    assert inverses == [1, 2, 3, 4, 7]  # the first three, and then every third
    assert abs(state["stats"][0] - net.init_stats()[0]).max() > 1e-3


def test_statistics_average_by_how_many_were_taken():
    """After j of them all weigh 1 / j, with periods as without: the first batch has no lead."""
    net, theta, x, y = conv_problem(layers.GroupNorm(1, 3))
    opt = optim.KFCPre(net, lr=1e-9, Ts=5, decay=0.95)
    state, taken = opt.init(theta), []
    for k in range(1, 17):
        if (k - 1) % 5 == 0:
            drawn = fisher.signals(net, theta, x, targets="sampled", rng=rng_of(k))
            taken.append(fisher.kronecker_block.factors_of(fisher.kfac(drawn)))
        theta, state, _ = opt.step(theta, state, (x, y), rng_of(k))
    for layer, factors in enumerate(state["factors"]):
        for place, M in enumerate(factors):
            close(M, np.mean([means[layer][place] for means in taken], axis=0), SMALL)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_lambda_stays_where_nothing_is_left_to_gain(dtype):
    """Where the predicted gain is rounding, the ratio says nothing of the model."""
    net = mk.mlp([3, 2], output="gaussian")
    rng = np.random.default_rng(0)
    theta = net.init(rng, dtype=dtype)
    x = rng.standard_normal((8, 3)).astype(dtype)
    y = net.predict(theta, x)
    for opt in (optim.KFAC(net, l2=0, tau1=1, tau2=1, T1=1), optim.HessianFree(net, l2=0)):
        at, state = theta, opt.init(theta)
        for k in range(30):
            at, state, _ = opt.step(at, state, (x, y), rng_of(k))
        assert state["lam"] == 1.0
        close(at, theta, SMALL)


# the natural gradient -----------------------------------------------------


def test_one_natural_step_solves_least_squares():
    net, theta, x, y = linear_problem()
    opt = optim.NaturalGradient(net, damping=0.0, clip=None)
    moved = opt.step(theta, opt.init(theta), (x, y))[0]
    abar = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    close(net.unpack(moved)[0], np.linalg.lstsq(abar, y, rcond=None)[0], SMALL)
    one = optim.SGD(net, lr=1e-3)
    assert abs(one.step(theta, one.init(theta), (x, y))[0] - moved).max() > 0.1


def test_a_damped_natural_step_is_the_dense_solution():
    net, theta, x, y = problem()
    opt = optim.NaturalGradient(net, lr=0.5, damping=0.1, n_fisher=5, clip=None)
    moved, _, info = opt.step(theta, opt.init(theta), (x, y))
    F = fisher.exact(fisher.signals(net, theta, x[:5])).array
    step = np.linalg.solve(F + 0.1 * np.eye(len(F)), net.gradient(theta, x, y))
    close(moved, theta - 0.5 * step, SMALL)
    assert info["loss"] == net.loss(theta, x, y)


# all ----------------------------------------------------------------------


ALL = {
    "KFAC": lambda net: optim.KFAC(net, lam=1.0, tau1=1, tau2=1),
    "KFCPre": lambda net: optim.KFCPre(net, lr=0.05, damping=0.1),
    "NaturalGradient": lambda net: optim.NaturalGradient(net, lr=0.5, damping=0.5),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("norm", [None, "batch", "group"])
def test_nothing_is_changed_in_place_and_the_loss_falls(name, norm):
    kinds = {None: (), "batch": (layers.BatchNorm(3),), "group": (layers.GroupNorm(3, 3),)}
    net, theta, x, y = conv_problem(*kinds[norm])
    opt = ALL[name](net)
    state = opt.init(theta)
    losses = []
    for k in range(1, 6):
        theta.flags.writeable = False
        copies = {key: value.copy() for key, value in state.items() if isinstance(value, np.ndarray)}
        before = state
        theta, state, info = opt.step(theta, state, (x, y), rng_of(k))
        assert all(np.array_equal(before[key], value) for key, value in copies.items())
        losses.append(info["loss"])
    assert losses[-1] < 0.95 * losses[0]
    assert state["step"] == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: optim.KFAC(net, structure="dense"), "expected structure 'block_diagonal' or"),
        (lambda net: optim.KFAC(net, lam=-1), "expected lam >= 0, got -1"),
        (
            lambda net: optim.KFAC(net, lam=0),
            "expected lam > 0, got 0, which never adapts, .*; to do without",
        ),
        (lambda net: optim.KFAC(net, momentum=0.9), "expected momentum to be True or False or None, got 0.9"),
        (lambda net: optim.KFAC(net, curvature=1), "expected curvature to be True or False, got 1"),
        (lambda net: optim.KFCPre(net, 1, curvature="x"), "expected curvature to be True or False, got 'x'"),
        (lambda net: optim.KFAC(net, gamma_share=0), "expected gamma_share > 0, got 0"),
        (lambda net: optim.KFAC(net, gamma=0), "expected gamma > 0, got 0"),
        (lambda net: optim.KFAC(net, tau1=0), r"expected tau1 in \(0, 1\], got 0"),
        (lambda net: optim.KFAC(net, T3=0), "expected T3 to be a whole number >= 1, got 0"),
        (lambda net: optim.KFAC(net, lr=0), "expected lr > 0, got 0"),
        (lambda net: optim.KFAC(net, decay=1), r"expected decay in \[0, 1\), got 1"),
        (lambda net: optim.KFAC(net, targets="data"), "expected targets 'sampled' or 'model', got 'data'"),
        (lambda net: optim.KFCPre(net, lr=0), "expected lr > 0, got 0"),
        (lambda net: optim.KFCPre(net, 1, damping=0), "expected damping_and_l2 > 0, got 0"),
        (lambda net: optim.KFCPre(net, 1, Tf=0), "expected Tf to be a whole number >= 1, got 0"),
        (lambda net: optim.KFCPre(net, 1, clip_norm="l2"), "expected clip_norm 'fisher' or 'kfac'"),
        (lambda net: optim.KFCPre(net, 1, clip=0), "expected clip > 0, got 0"),
        (lambda net: optim.NaturalGradient(net, lr=0), "expected lr > 0, got 0"),
        (lambda net: optim.NaturalGradient(net, damping=-1), "expected damping >= 0, got -1"),
        (
            lambda net: optim.NaturalGradient(net, n_fisher=0),
            "expected n_fisher to be a whole number >= 1, got 0",
        ),
        (lambda net: optim.NaturalGradient(net, clip=0), "expected clip > 0, got 0"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(problem()[0])


# numerical safeguards and turns that do not coincide ------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e8])
def test_nearly_parallel_directions_count_twice_only_above_rounding(scale):
    """The determinant is compared with a d, so it does not matter in what units either direction is."""
    a, d, b = scale, 1 / scale**2, np.array([0.3, -0.2])
    for share, parallel in ((0.5e-10, True), (2e-10, False)):
        c = math.sqrt((1 - share) * a * d)
        model = optim.QuadraticModel(((a, c), (c, d)), tuple(b))
        if parallel:
            assert model.minimum() == (-b[0] / a, 0.0)
        else:
            close(model.minimum(), -np.linalg.solve(np.array(model.curvature), b), 1e-4)
            assert model.minimum()[1] != 0


def test_inverses_are_renewed_where_gamma_is_chosen_too():
    """Also in a step that T3 does not divide: three gammas are compared by inverses of the same factors."""
    net, theta, x, y = problem()
    opt = optim.KFAC(net, tau1=1, tau2=1, T2=4, T3=5, targets="model")
    state = opt.init(theta)
    for k in range(1, 10):
        before = state["inverse"]
        grad = net.gradient(theta, x, y) + opt.l2 * theta
        theta, state, _ = opt.step(theta, state, (x, y), rng_of(k))
        assert (state["inverse"] is not before) == (k in (1, 2, 3, 4, 5, 8))
        if k in (4, 8):
            F = fisher.Kronecker(state["factors"], net.names)
            expected = F.solve(grad, damping=state["gamma"] ** 2, method="factored")
            close(state["inverse"] @ grad, expected, SMALL)


# gamma in the limits of the dtype --------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["block_diagonal", "block_tridiagonal"])
@pytest.mark.parametrize("T2", [NEVER, 2])
def test_gamma_stays_where_the_dtype_resolves_the_damped_factors(structure, T2):
    """In float32 a proposal or, with new factors, the gamma itself may be too small: a long run goes on."""
    net, theta, x, y = problem()
    theta, x = theta.astype(np.float32), x.astype(np.float32)
    opt = optim.KFAC(net, structure=structure, tau1=1 / 6, T2=T2, T3=1)
    state = opt.init(theta)
    theta, state, _ = opt.step(theta, state, (x, y), rng_of(1))
    theta, state, info = opt.step(theta, state | {"gamma": 1e-9}, (x, y), rng_of(2))
    gamma = state["gamma"]
    assert info["gamma"] == gamma
    assert theta.dtype == np.float32
    assert np.isfinite(theta).all()
    largest = max(float(A.diagonal().max() * G.diagonal().max()) for A, G in state["factors"][:2])
    assert gamma**2 > np.finfo(np.float32).eps * largest
    with pytest.raises(linalg.SingularMatrixError, match=r"expected a condition number up to 8\.4e"):
        opt._inverse(state["factors"], gamma / 2, net.comm)


def test_gamma_begins_at_a_tenth_of_the_root_of_the_damping_and_at_all_of_it_beside_a_rate():
    net, theta, *_ = problem()
    for settings, share in (({}, 0.1), ({"lr": 0.3}, 1.0), ({"gamma_share": 0.5}, 0.5)):
        close(optim.KFAC(net, lam=0.2, l2=0.01, **settings).init(theta)["gamma"], share * math.sqrt(0.21))
    assert optim.KFAC(net, gamma=0.7).init(theta)["gamma"] == 0.7


def test_a_gamma_that_was_set_too_small_is_an_error():
    net, theta, x, y = problem()
    opt = optim.KFAC(net, gamma=1e-9, tau1=1 / 12)
    with pytest.raises(linalg.SingularMatrixError, match="gamma=1e-09; use more damping"):
        opt.step(theta.astype(np.float32), opt.init(theta.astype(np.float32)), (x, y), rng_of(1))


# curvature along the step ----------------------------------------------------------------------------------


def ratios(opt, theta, x, y, steps=1):
    state = opt.init(theta)
    for k in range(1, steps + 1):
        theta, state, info = opt.step(theta, state, (x, y), rng_of(k))
    return {name: float(value) for name, value in info.items() if name.startswith("curvature")}


def test_curvature_along_the_step_is_that_of_exact_blocks_where_kfac_is_exact():
    """Deep linear nets with squared loss: each layer has ratio 1, all of them together have not."""
    rng = np.random.default_rng(0)
    net = mk.mlp([4, 5, 5, 3], "identity", "gaussian")
    theta, x, y = net.init(rng), rng.standard_normal((N, 4)), rng.standard_normal((N, 3))
    by_layer = ratios(optim.KFAC(net, tau1=1, tau2=1, targets="model", curvature=True), theta, x, y)
    assert list(by_layer) == [*(f"curvature/{name}" for name in net.names), "curvature"]
    *layerwise, whole = by_layer.values()
    close(layerwise, np.ones(3))
    assert abs(whole - 1) > 0.1
    one = mk.mlp([4, 3], output="gaussian")
    kfac = optim.KFAC(one, tau1=1, tau2=1, targets="model", curvature=True)
    close(list(ratios(kfac, one.init(rng), x, y).values()), [1, 1])


@pytest.mark.parametrize("norm", [(), (layers.BatchNorm(3),)])
@pytest.mark.parametrize("dense", [True, False])
def test_curvature_along_the_step_matches_dense_matrices(dense, norm):
    """And is not 1 where layers are not linear: the control."""
    net, theta, x, _ = problem() if dense else conv_problem(*norm)
    near = fisher.kfac(fisher.signals(net, theta, x))
    v = np.random.default_rng(1).standard_normal(net.n_params)
    by_layer = curvature_ratios(net, theta, x, v, near)
    F = fisher.exact(fisher.signals(net, theta, x)).array
    for name, block, part in zip(net.names, near.blocks, near.slices, strict=True):
        expected = (v[part] @ F[part, part] @ v[part]) / (v[part] @ block.to_dense() @ v[part])
        close(by_layer[f"curvature/{name}"], expected, SMALL)
        assert "norm" not in name or abs(expected - 1) < SMALL  # it has its exact block
    assert max(abs(ratio - 1) for ratio in by_layer.values()) > 0.05
    close(by_layer["curvature"], (v @ F @ v) / (v @ near.to_dense() @ v), SMALL)


@pytest.mark.parametrize("name", ["kfac", "tridiagonal", "kfc-pre"])
def test_curvature_is_told_in_every_step_and_changes_none(name):
    net, theta, x, y = problem()
    makes = {
        "kfac": lambda **more: optim.KFAC(net, **more),
        "tridiagonal": lambda **more: optim.KFAC(net, structure="block_tridiagonal", **more),
        "kfc-pre": lambda **more: optim.KFCPre(net, 0.1, **more),
    }
    make = makes[name]
    steps = [make(curvature=on).step(theta, make().init(theta), (x, y), rng_of(1)) for on in (False, True)]
    assert np.array_equal(steps[0][0], steps[1][0])
    plain, told = (info for *_, info in steps)
    assert [*plain, *(f"curvature/{layer}" for layer in net.names), "curvature"] == [*told]
    assert all(value > 0 for value in ratios(make(curvature=True), theta, x, y, 3).values())


def test_a_layer_without_curvature_has_no_ratio():
    net, theta, x, _ = problem()
    near = fisher.Kronecker([(np.zeros((5, 5)), np.eye(5)), (np.eye(6), np.eye(3))], net.names)
    by_layer = curvature_ratios(net, theta, x, np.ones(net.n_params), near)
    assert math.isnan(by_layer["curvature/dense0"])
    assert by_layer["curvature/dense1"] > 0
