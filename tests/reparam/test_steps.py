"""Who is invariant: after a step, or many, do equivalent networks still compute the same function?

The gap is the distance of the two nets' outputs over the distance that the first has moved. The problem is
the digits on 16 principal components with Bernoulli outputs, where every factor is positive definite;
undamped steps otherwise mean nothing. Random maps have condition number up to 10.
"""

import math
from functools import cache

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, optim, outputs, reparam
from minikfac.network.layers import AvgPool2d, Conv2d, Dense, Flatten, Logistic, Tanh
from minikfac.training.averaging import averaged
from oracles import close
from oracles.reparam import colors, digits, gap

ROUNDING = 1e-10
"""Largest gap of an invariant method with well-conditioned factors."""
KINDS = ("orthogonal", "diagonal", "affine")


# problems --------------------------------------------------------------


@cache
def dense(activation="tanh", hidden=1):
    net = mk.mlp([16, *[12] * hidden, 10], activation, "bernoulli")
    return net, net.init(np.random.default_rng(1)), *digits()


@cache
def images(activation=Tanh):
    x = colors(np.random.default_rng(5), 200, 6, 6, 3)
    net = mk.Network(
        [
            Conv2d(3, 4, 3, padding="same"),
            activation(),
            Conv2d(4, 5, 3),
            activation(),
            AvgPool2d(2),
            Flatten(),
            Dense(20, 3),
        ],
        outputs.Bernoulli(),
    )
    teacher = 3 * net.init(np.random.default_rng(9))
    y = (net.predict(teacher, x) > 0.5).astype(float)
    return net, net.init(np.random.default_rng(1)), x, y, colors(np.random.default_rng(6), 50, 6, 6, 3)


# methods --------------------------------------------------------------


def natural(make, lr, sampled=False, momentum=0.0, l2=0.0, damping=0.0, longest=math.inf):
    """Steps v = momentum v - lr (F + damping)^-1 (grad + l2 theta); sampled targets are those of the seed."""

    def run(net, theta, x, y, steps):
        losses, v = [], 0 * theta
        for k in range(steps):
            loss, grad = net.loss_and_gradient(theta, x, y)
            losses.append(loss)
            options = dict(targets="sampled", rng=np.random.default_rng([0, k])) if sampled else {}
            F = make(fisher.signals(net, theta, x, **options))
            v = momentum * v - lr * F.solve(grad + l2 * theta, damping=damping)
            theta = theta + v * min(1.0, longest / np.linalg.norm(v))
        return theta, [*losses, net.loss(theta, x, y)]

    return run


def optimizer(make):
    """Steps of one of the optimizers, with targets drawn from the seed."""

    def run(net, theta, x, y, steps):
        opt = make(net)
        state, losses = opt.init(theta), []
        for k in range(steps):
            theta, state, info = opt.step(theta, state, (x, y), np.random.default_rng([0, k]))
            losses.append(info["loss"])
        return theta, [*losses, net.loss(theta, x, y)]

    return run


def gap_after(run, r, problem, steps=1):
    """The gap on test inputs; a run of several steps counts only if its loss fell and stayed finite."""
    _, theta, x, y, x_test = problem
    ours, losses = run(r.source, theta, x, y, steps)
    theirs, other = run(r.net, r.push(theta), x, y, steps)
    assert np.isfinite([*losses, *other]).all()
    if steps > 1:
        assert losses[-1] < losses[0]
    return gap(r, theta, ours, theirs, x_test)


# one step: the table of signs --------------------------------------------------------------

YES, NO = True, False
SIGNS = {
    #                                          orthogonal diagonal affine
    "exact": (natural(fisher.exact, 0.1), (YES, YES, YES)),
    "block-exact": (natural(fisher.block_diagonal, 0.1), (YES, YES, YES)),
    "K-FAC": (natural(fisher.kfac, 0.1), (YES, YES, YES)),
    "K-FAC, sampled": (natural(fisher.kfac, 0.1, sampled=True), (YES, YES, YES)),
    "tridiagonal": (natural(fisher.block_tridiagonal, 0.1), (YES, YES, YES)),
    "diagonal": (natural(fisher.diagonal, 0.1), (NO, YES, NO)),
    "EKFAC": (natural(fisher.ekfac, 0.1), (YES, NO, NO)),
    "nearest Kronecker": (natural(fisher.nearest_kronecker, 0.1), (YES, NO, NO)),
    "SGD": (optimizer(lambda net: optim.SGD(net, 0.1)), (YES, NO, NO)),
    "Adam": (optimizer(lambda net: optim.Adam(net, 0.01)), (NO, NO, NO)),
    # Krylov spaces turn with the axes; their diagonal preconditioner does not
    "truncated CG": (
        optimizer(lambda net: optim.HessianFree(net, lam=0, exponent=0, max_iterations=5)),
        (YES, NO, NO),
    ),
    "truncated CG, preconditioned": (
        optimizer(lambda net: optim.HessianFree(net, lam=0, max_iterations=5)),
        (NO, NO, NO),
    ),
    "Krylov subspace": (
        optimizer(lambda net: optim.KrylovSubspace(net, damping=0, exponent=0, K=5, search="model")),
        (YES, NO, NO),
    ),
    "Krylov subspace, preconditioned": (
        optimizer(lambda net: optim.KrylovSubspace(net, damping=0, K=5, search="model")),
        (NO, NO, NO),
    ),
}
TOLERANCES = {"exact": 1e-8, "tridiagonal": 1e-6}  # worse conditioned
BROKEN = 0.02
"""Least gap of a method that is not invariant, over the distance moved."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (name, problem)
        for name in SIGNS
        for problem in (dense, images)
        if (name, problem) != ("tridiagonal", images)  # which is for chains of dense layers
    ],
)
def test_each_method_under_each_kind_of_map(name, problem, kind):
    run, signs = SIGNS[name]
    r = reparam.random(problem()[0], np.random.default_rng(2), kind=kind)
    gap = gap_after(run, r, problem())
    if signs[KINDS.index(kind)]:
        assert gap < TOLERANCES.get(name, ROUNDING)
    else:
        assert gap > BROKEN


@pytest.mark.parametrize("name", ["SGD", "K-FAC"])
@pytest.mark.parametrize(
    ("problem", "make"),
    [
        (lambda: dense("logistic"), lambda p: reparam.logistic_to_tanh(p[0])),
        (dense, lambda p: reparam.center(*p[:3])),
        (dense, lambda p: reparam.normalize(*p[:3])),
        (dense, lambda p: reparam.whiten(*p[:3])),
        (dense, lambda p: reparam.whiten_derivatives(*p[:3])),
        (lambda: dense("relu"), lambda p: reparam.rescale(p[0], rng=np.random.default_rng(0))),
        (lambda: images(Logistic), lambda p: reparam.logistic_to_tanh(p[0])),
        (images, lambda p: reparam.center(*p[:3])),
        (images, lambda p: reparam.normalize(*p[:3])),
        (images, lambda p: reparam.whiten(*p[:3])),
        (images, lambda p: reparam.whiten_colors(p[0], p[2])),
    ],
    ids=[
        *(f"dense {name}" for name in ("tanh", "center", "normalize", "whiten", "derivatives", "rescale")),
        *(f"images {name}" for name in ("tanh", "center", "normalize", "whiten", "colors")),
    ],
)
def test_kfac_is_invariant_where_sgd_is_not(problem, make, name):
    gap = gap_after(SIGNS[name][0], make(problem()), problem())
    assert gap < ROUNDING if name == "K-FAC" else gap > BROKEN


# a hundred steps --------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "hidden", "steps", "tolerance"),
    [
        (natural(fisher.exact, 0.02), 1, 100, 1e-9),
        (natural(fisher.kfac, 0.1), 1, 100, 1e-10),
        (natural(fisher.kfac, 0.1, sampled=True), 1, 100, 1e-9),
        (natural(fisher.kfac, 0.02, sampled=True), 3, 100, 1e-8),
        (natural(fisher.exact, 0.02), 3, 1, 1e-6),
        (natural(fisher.block_diagonal, 0.02), 3, 1, 1e-8),
        (natural(fisher.block_diagonal, 0.02), 3, 100, 1e-7),
        (natural(fisher.block_tridiagonal, 0.02), 3, 1, 1e-6),
    ],
    ids=[
        "exact, 2 layers",
        "K-FAC, 2 layers",
        "K-FAC sampled, 2 layers",
        "K-FAC sampled, 4 layers",
        "exact, 4 layers, 1 step",
        "block-exact, 4 layers, 1 step",
        "block-exact, 4 layers",
        "tridiagonal, 4 layers, 1 step",
    ],
)
def test_equivalent_nets_stay_equivalent(run, hidden, steps, tolerance):
    problem = dense(hidden=hidden)
    r = reparam.random(problem[0], np.random.default_rng(2))
    assert gap_after(run, r, problem, steps) < tolerance


@pytest.mark.parametrize("kind", ["affine", "colors"])
def test_equivalent_convolutional_nets_stay_equivalent_under_kfc(kind):
    net, theta, x, y, x_test = images()
    r = reparam.whiten_colors(net, x)
    if kind == "affine":
        r = reparam.random(net, np.random.default_rng(2))
    run = natural(fisher.kfac, 0.02, sampled=True)
    assert gap_after(run, r, (net, theta, x[:100], y[:100], x_test), 100) < 1e-9


# K-FAC is gradient descent in the whitened net --------------------------------------------------------------


@pytest.mark.parametrize("sampled", [False, True])
def test_kfac_is_gradient_descent_in_the_whitened_net(sampled):
    net, theta, x, y, _ = dense()
    options = dict(targets="sampled", rng=np.random.default_rng([0, 0])) if sampled else {}
    white = reparam.whiten(net, theta, x)
    both = reparam.whiten_derivatives(white.net, white.push(theta), x, **options) @ white
    kfac = natural(fisher.kfac, 0.1, sampled)(net, theta, x, y, 1)[0]

    def descended(r):
        return r.pull(r.push(theta) - 0.1 * r.net.gradient(r.push(theta), x, y))

    moved = np.linalg.norm(kfac - theta)
    close(descended(both), kfac, 1e-10 * moved)
    assert np.linalg.norm(descended(white) - kfac) > 0.1 * moved  # activations alone do not do


# what survives, and what breaks it --------------------------------------------------------------


def kfc_pre(**options):
    """KFC-pre with as good as no damping, and one feature of the whole."""
    plain = dict(lr=0.1, momentum=0.0, damping=1e-30, Tf=1, decay=0.0, clip=None)
    return optimizer(lambda net: optim.KFCPre(net, **plain | options))


SURVIVORS = {
    "nothing else": kfc_pre(),
    "moving averages of factors": kfc_pre(decay=0.95),
    "stale factors and inverses": kfc_pre(Ts=2, Tf=3, lr=0.02),
    "heavy-ball momentum": kfc_pre(momentum=0.5, lr=0.05),
    "clipping in the Fisher norm": kfc_pre(clip=0.05),
    "clipping in K-FAC's norm": kfc_pre(clip=0.05, clip_norm="kfac"),
    "learning rates that change": kfc_pre(lr=lambda k: 0.1 / (1 + k)),
    # alpha and mu from the exact Fisher matrix, lambda = eta = 0
    "re-scaling and momentum": optimizer(
        lambda net: optim.KFAC(net, lam=0, l2=0, gamma=1e-15, tau1=1, tau2=1, T2=1000, targets="model")
    ),
}
BREAKERS = {
    # (run, least gap)
    "damping": (kfc_pre(damping=1e-3), 0.1),
    "less damping": (kfc_pre(damping=1e-5), 0.01),
    "exact damping": (natural(fisher.kfac, 0.1, damping=1e-3), 0.1),
    "L2": (natural(fisher.kfac, 0.1, l2=1e-3), 0.1),
    "clipping in the Euclidean norm": (natural(fisher.kfac, 0.1, longest=0.1), 0.1),
}


@pytest.mark.parametrize("name", SURVIVORS)
def test_what_invariance_survives(name):
    problem = dense()
    r = reparam.random(problem[0], np.random.default_rng(2))
    assert gap_after(SURVIVORS[name], r, problem, 10) < 1e-9


@pytest.mark.parametrize("name", BREAKERS)
def test_what_breaks_invariance(name):
    problem = dense()
    r = reparam.random(problem[0], np.random.default_rng(2))
    run, least = BREAKERS[name]
    assert gap_after(run, r, problem, 3) > least


def test_the_gap_is_in_proportion_to_little_damping():
    problem = dense()
    r = reparam.random(problem[0], np.random.default_rng(2))
    gaps = [gap_after(natural(fisher.kfac, 0.1, damping=lam), r, problem) for lam in (1e-2, 1e-6, 1e-7, 0)]
    assert gaps[0] > 0.1
    assert gaps[3] < ROUNDING
    np.testing.assert_allclose(gaps[1] / gaps[2], 10, rtol=0.05)


def test_clipping_and_momentum_were_there():
    """The survivors must have had something to survive."""
    net, theta, x, y, _ = dense()
    plain = SURVIVORS["nothing else"](net, theta, x, y, 10)[0]
    for name, run in SURVIVORS.items():
        if name != "nothing else":
            moved = run(net, theta, x, y, 10)[0]
            assert np.linalg.norm(moved - plain) > 0.01 * np.linalg.norm(plain - theta), name


def test_averages_of_iterates_map_along():
    net, theta, x, y, x_test = dense()
    r = reparam.random(net, np.random.default_rng(2))
    averages = []
    for equivalent, start in ((net, theta), (r.net, r.push(theta))):
        opt = optim.KFCPre(equivalent, lr=0.1, damping=1e-30, Tf=1, clip=None)
        at, state, average = start, opt.init(start), start
        for k in range(5):
            at, state, _ = opt.step(at, state, (x, y), np.random.default_rng([0, k]))
            average = averaged(average, at, k + 1, len(x), 10 * len(x))
        averages.append(average)
    assert gap(r, theta, *averages, x_test) < 1e-9
    assert np.linalg.norm(averages[0] - theta) > 0.1
