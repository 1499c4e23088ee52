"""Under batch normalization curvature is that of the function whose gradient is taken.

The gradient is normalized by the statistics of the whole batch, and so is what is taken on a part of it.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers, optim, outputs
from minikfac.optim.hessian_free import curvature, preconditioner
from oracles import close, error

SOLVE = 1e-9


def problem(n: int) -> tuple[mk.Network, np.ndarray, np.ndarray, np.ndarray]:
    """A dense net, whose batch normalization has one value per example, and a batch of which parts differ."""
    body = [layers.Dense(3, 4), layers.BatchNorm(4), layers.Tanh(), layers.Dense(4, 2)]
    net = mk.Network(body, outputs.Categorical())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 3)) * (1 + np.arange(n)[:, None] / 4)
    return net, net.init(rng), x, rng.integers(0, 2, n)


def drawn(net: mk.Network, theta: Any, x: Any, stats: Any, seed: int = 1) -> fisher.Signals:
    return fisher.signals(net, theta, x, targets="sampled", rng=np.random.default_rng(seed), stats=stats)


def step(opt: Any, theta: Any, x: Any, y: Any) -> tuple[Any, Any, dict[str, float]]:
    return opt.step(theta, opt.init(theta), (x, y), np.random.default_rng(1))


@pytest.mark.parametrize("n", [9, 40])
def test_factors_and_products_of_k_fac_have_the_statistics_of_the_batch(n: int) -> None:
    net, theta, x, y = problem(n)
    opt = optim.KFAC(net, lam=0.3, l2=0.01, tau1=1 / 4, tau2=1 / 3)
    moved, state, info = step(opt, theta, x, y)
    stats = net.batch_stats(theta, x)
    x1, x2 = x[: math.ceil(n / 4)], x[: math.ceil(n / 3)]
    expected = fisher.kfac(drawn(net, theta, x1, stats))
    close(fisher.Kronecker(state["factors"], net.names).to_dense(), expected.to_dense())
    delta = moved - theta
    F = fisher.exact(fisher.signals(net, theta, x2, stats=stats)).array
    grad = net.loss_and_gradient(theta, x, y, train=True)[1] + 0.01 * theta
    close(info["model"], 0.5 * delta @ (F @ delta + 0.31 * delta) + grad @ delta, SOLVE)
    alone = fisher.kfac(drawn(net, theta, x1, net.batch_stats(theta, x1)))
    assert error(alone.to_dense(), expected.to_dense()) > 0.1  # what it would be by statistics of the part


def test_the_reduction_ratio_is_of_the_function_of_the_gradient() -> None:
    net, theta, x, y = problem(12)
    moved, _, info = step(optim.KFAC(net, T1=1, l2=0.0), theta, x, y)
    h = [net.loss_and_gradient(at, x, y, train=True)[0] for at in (theta, moved)]
    close([info["objective"], info["rho"]], [h[0], (h[1] - h[0]) / info["model"]], SOLVE)


def test_the_bound_of_kfc_pre_has_the_statistics_of_the_batch() -> None:
    net, theta, x, y = problem(12)
    moved, state, info = step(optim.KFCPre(net, 0.1, clip=1e9, clip_share=1 / 4), theta, x, y)
    stats = net.batch_stats(theta, x)
    F = fisher.exact(fisher.signals(net, theta, x[:3], stats=stats)).array
    v = moved - theta
    close(info["nu"], v @ F @ v, SOLVE)
    expected = fisher.kfac(drawn(net, theta, x, stats)).to_dense()
    close(fisher.Kronecker(state["factors"], net.names).to_dense(), expected)


def test_sampled_curvature_of_other_optimizers_has_the_statistics_of_the_batch() -> None:
    net, theta, x, y = problem(12)
    stats, x1 = net.batch_stats(theta, x), x[:3]
    signals = drawn(net, theta, x1, stats)
    exact = fisher.kfac(signals).to_dense()
    ekfac = step(optim.EKFAC(net, 0.1, tau1=1 / 4), theta, x, y)[1]
    close(fisher.Kronecker(ekfac["factors"], net.names).to_dense(), exact)
    diagonal = step(optim.DiagonalNaturalGradient(net, 0.1, tau1=1 / 4), theta, x, y)[1]
    close(diagonal["diagonal"][0][0], fisher.diagonal(signals).diagonal())
    U = step(optim.LowRank(net, 0.1, tau1=1 / 4, columns=3), theta, x, y)[1]["U"]
    D = np.concatenate([layer.gradients()[0] for layer in next(iter(signals))], axis=1)
    close(U @ U.T, D.T @ D / 3)
    opt = optim.NaturalGradient(net, n_fisher=3, damping=0.1, clip=None)
    F = fisher.exact(fisher.signals(net, theta, x1, stats=stats))
    grad = net.loss_and_gradient(theta, x, y, train=True)[1]
    close(step(opt, theta, x, y)[0], theta - F.solve(grad, damping=0.1), SOLVE)


def test_products_with_a_share_of_the_batch_have_its_statistics() -> None:
    net, theta, x, y = problem(12)
    stats, v = net.batch_stats(theta, x), np.random.default_rng(3).standard_normal(net.n_params)
    F = fisher.exact(fisher.signals(net, theta, x[:4], stats=stats)).array
    close(curvature(net, theta, x, y, 1 / 3, stats) @ v, F @ v, SOLVE)
    coupled = fisher.joint(net, theta, x).to_dense()
    close(curvature(net, theta, x, y, 1, stats) @ v, coupled @ v, SOLVE)
    D = fisher.diagonal(drawn(net, theta, x[:4], stats)).diagonal() + 0.1
    scale = preconditioner(net, theta, x[:4], np.random.default_rng(1), stats, 0.1, 0.5)
    close(scale, D**0.5)


@pytest.mark.parametrize("make", [lambda net: optim.HessianFree(net, tau2=1 / 3, tau1=1 / 4)])
def test_hessian_free_hands_the_statistics_of_the_batch_on(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, theta, x, y = problem(12)
    seen = []
    for name, function in (("curvature", curvature), ("preconditioner", preconditioner)):

        def noted(*arguments: Any, function: Callable[..., Any] = function) -> Any:
            seen.append(next(part for part in arguments if isinstance(part, list)))
            return function(*arguments)

        monkeypatch.setattr(optim.hessian_free, name, noted)
    step(optim.HessianFree(net, tau1=1 / 4, tau2=1 / 3), theta, x, y)
    assert len(seen) == 2
    for stats in seen:
        close(stats, net.batch_stats(theta, x))


@pytest.mark.parametrize(
    "make",
    [
        lambda net: optim.KFAC(net),
        lambda net: optim.KFCPre(net, 0.1, clip_share=1 / 8),
        lambda net: optim.EKFAC(net, 0.1, tau1=1 / 8),
        lambda net: optim.DiagonalNaturalGradient(net, 0.1, tau1=1 / 8),
        lambda net: optim.LowRank(net, 0.1, tau1=1 / 8),
        lambda net: optim.NaturalGradient(net, n_fisher=1),
        lambda net: optim.HessianFree(net, tau1=1 / 8, tau2=1 / 8),
        lambda net: optim.KrylovSubspace(net, tau2=1 / 8),
    ],
)
@pytest.mark.parametrize("n", [6, 8])
def test_a_part_may_be_one_example(make: Any, n: int) -> None:
    """By statistics of its own it would have no variance."""
    net, theta, x, y = problem(n)
    assert np.isfinite(step(make(net), theta, x, y)[0]).all()
