"""Whoever sets nothing gets a run that goes down: on three problems, from five starts."""

from dataclasses import MISSING, fields
from functools import cache
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import datasets, layers, optim, outputs, training
from minikfac.races.contenders import CONTENDERS
from minikfac.races.problems import reconstruction

SEEDS, STEPS = range(5), 50
CLASSES = {getattr(optim, name) for name in set(optim.__all__) - {"QuadraticModel", "schedules"}}
MAKE: dict[str, Any] = {"Adam, from Python": optim.Adam} | {each.name: each.make for each in CONTENDERS}
"""Where a class needs a learning rate, that of the contender of races counts as the default."""
LONG = {("digits", "Hessian-free"), ("digits", "Krylov subspace"), ("digits", "natural gradient")}
LONG |= {("convnet", name) for _, name in LONG}
RUNS = [
    pytest.param(problem, name, marks=[pytest.mark.slow] if (problem, name) in LONG else [])
    for problem in ("digits", "autoencoder", "convnet")
    for name in MAKE
    if (problem, name) != ("convnet", "K-FAC tridiagonal")  # which needs a chain of dense layers
]


@cache
def problems() -> dict[str, tuple[mk.Network, Any]]:
    whitened = datasets.digits(components=16).subset(600, 100)
    images = datasets.digits().subset(600, 100)
    conv = [layers.Conv2d(1, 3, 3, stride=2), layers.ReLU(), layers.Flatten(), layers.Dense(27, 10)]
    return {
        "digits": (mk.mlp([16, 8, 10]), whitened),
        "autoencoder": (mk.mlp([16, 6, 16], output="gaussian"), reconstruction(whitened)),
        "convnet": (mk.Network(conv, outputs.Categorical()), images.as_images()),
    }


def test_contenders_without_a_learning_rate_are_the_classes_defaults() -> None:
    assert {each.kind for each in CONTENDERS} == CLASSES
    needs_none = {kind.__name__ for kind in CLASSES if "lr" not in required(kind)}
    assert needs_none == {"Adam", "HessianFree", "KFAC", "KrylovSubspace", "NaturalGradient"}
    contenders = {each.optimizer: dict(each.arguments) for each in reversed(CONTENDERS)}
    assert {name for name in needs_none if contenders[name]} == {"Adam"}


def required(kind: Any) -> set[str]:
    return {setting.name for setting in fields(kind) if setting.default is setting.default_factory is MISSING}


@pytest.mark.parametrize(("problem", "name"), RUNS)
def test_defaults_end_below_where_they_began(problem: str, name: str) -> None:
    net, data = problems()[problem]
    shares = []
    for seed in SEEDS:
        theta, opt = net.init(np.random.default_rng(seed)), MAKE[name](net)
        history = training.train(net, theta, opt, data, STEPS, 100, seed, STEPS // 5, progress=False)
        shares.append(history["loss"] / history["loss"][0])
    ends = [share[-1] for share in shares]
    assert max(ends) < 1
    assert np.median(ends) < 0.97
    assert max(share.max() for share in shares) < 1.5  # nor do they climb on the way


def test_the_textbook_s_natural_gradient_needs_the_bound() -> None:
    """What the default is for: without it three steps lead up by two orders of magnitude."""
    net, data = problems()["digits"]
    losses = {}
    for clip in (None, optim.NaturalGradient(net).clip):
        theta, opt = net.init(np.random.default_rng(0)), optim.NaturalGradient(net, damping=1e-3, clip=clip)
        losses[clip] = training.train(net, theta, opt, data, 3, 100, progress=False)["loss"]
    assert losses[None][-1] > 10 * losses[None][0]
    assert losses[0.03][-1] < losses[0.03][0]


def test_the_bound_of_the_natural_gradient_is_kept() -> None:
    net, data = problems()["digits"]
    theta, x, y = net.init(np.random.default_rng(0)), data.x_train[:50], data.y_train[:50]
    F = mk.fisher.exact(mk.fisher.signals(net, theta, x))
    free = optim.NaturalGradient(net, clip=None)
    whole = free.step(theta, free.init(theta), (x, y))[0] - theta
    nu = whole @ (F @ whole)
    for clip, scale in ((nu / 4, 0.5), (2 * nu, 1.0)):
        opt = optim.NaturalGradient(net, clip=clip)
        moved, _, info = opt.step(theta, opt.init(theta), (x, y))
        np.testing.assert_allclose(moved - theta, scale * whole, rtol=1e-9, atol=1e-12)
        assert info["nu"] == pytest.approx(nu)
