"""Progress of one update with one approximation at a time, where some are exact and by other means."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import cli, datasets, fisher, optim, quality
from minikfac.training import update_costs as costs
from minikfac.training.batches import batch_of, batches
from oracles import close

N = 40


def problem(sizes: list[int], activation: str, output: str) -> tuple[mk.Network, np.ndarray, Any]:
    rng = np.random.default_rng(0)
    net, x = mk.mlp(sizes, activation, output), rng.standard_normal((N, sizes[0]))
    y = rng.integers(0, sizes[-1], N) if output == "categorical" else rng.standard_normal((N, sizes[-1]))
    return net, net.init(rng), datasets.Dataset(x, y, x[:5], y[:5], "points")


def of(*problem: Any, batch_size: int = N, **settings: Any) -> dict[str, float]:
    return dict(costs.update_costs(*problem, updates=21, batch_size=batch_size, **settings).model)


DRAWN, FEW, OLD, MEAN = (
    "drawn targets",
    "5 of 40 examples",
    "as old as K-FAC's inverse",
    "mean over 20 updates",
)
KRONECKER, BLOCKS, DAMPED = "Kronecker products", "no blocks between layers", "factored damping"


def test_what_is_exact_costs_nothing() -> None:
    """One linear layer: F does not depend on theta, is a Kronecker product and one block."""
    shares = of(*problem([3, 2], "identity", "gaussian"))
    assert list(shares) == [
        *(costs.EXACT, DRAWN, FEW, OLD, MEAN, KRONECKER, BLOCKS, DAMPED),
        *("K-FAC", "no curvature"),
    ]
    for name in (costs.EXACT, OLD, MEAN, KRONECKER, BLOCKS):
        close(shares.pop(name), 1.0, 1e-10)
    assert all(0 < share < 1 - 1e-6 for share in shares.values())


def test_between_linear_layers_only_blocks_and_age_cost() -> None:
    shares = of(*problem([3, 4, 2], "identity", "gaussian"))
    close(shares[KRONECKER], 1.0, 1e-10)
    assert all(0 < shares[name] < 1 - 1e-8 for name in (BLOCKS, OLD, MEAN, DRAWN, FEW, DAMPED, "K-FAC"))


def test_shares_are_those_of_the_comparison() -> None:
    """The same iterate by hand, the same matrices judged by :mod:`minikfac.quality`."""
    net, theta, data = problem([3, 5, 3], "tanh", "categorical")
    shares = of(net, theta, data, batch_size=20, seed=3)
    opt, order = optim.KFAC(net), batches(N, 20, 3)
    state = opt.init(theta)
    for k in range(21):
        batch = batch_of(data, next(order), theta)
        theta, state, _ = opt.step(theta, state, batch, np.random.default_rng([3, k]))
    x, y = batch_of(data, next(order), theta)
    signals = fisher.signals(net, theta, x)
    grad, damping = net.gradient(theta, x, y) + opt.l2 * theta, state["lam"] + opt.l2
    matrices = {
        BLOCKS: fisher.block_diagonal(signals),
        KRONECKER: fisher.khatri_rao(signals),
        "no curvature": quality.APPROXIMATIONS["no curvature"][0](signals),
    }
    table = quality.compare(fisher.exact(signals), matrices, grad, damping, measures=("step",))
    for name in matrices:
        close(shares[name], table[name]["share"], 1e-8)
    assert all(0 < share <= 1 + 1e-12 for share in shares.values())
    assert shares[BLOCKS] < 0.99


def test_too_few_updates_are_refused() -> None:
    with pytest.raises(ValueError, match="expected updates >= 20, over which matrices are averaged, got 19"):
        costs.update_costs(*problem([3, 2], "tanh", "categorical"), updates=19)


def test_the_command_prints_median_and_range(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = costs.UpdateCosts({costs.EXACT: 1.0, "K-FAC": 0.5}, {costs.EXACT: 0.02, "K-FAC": 0.01}, 0.1, 0.2)
    calls = []

    def instead(seeds: Any, updates: int, **settings: Any) -> list[costs.UpdateCosts]:
        calls.append((list(seeds), updates, settings))
        return [run, replace(run, model={costs.EXACT: 1.0, "K-FAC": 0.7}), run]

    monkeypatch.setattr(costs, "costs_on_digits", instead)
    assert cli.run(["costs", "--updates", "40", "--seed", "5", "--set", "lam=0.1"]) == 0
    assert calls == [([5, 6, 7], 40, {"batch_size": 250, "lam": 0.1})]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["K-FAC", "50", "(50", "to", "70)", "0.010", "(0.010", "to", "0.010)"] in lines
