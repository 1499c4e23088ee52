"""The ladder from exact blocks to KFC: every legal set of assumptions against its definition."""

import itertools
import sys
from collections.abc import Collection

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikfac as mk
from minikfac import fisher, layers, outputs
from minikfac.linalg import SingularMatrixError
from oracles import EXACT, FLOAT32, SOLVE, error
from oracles.fisher import ladder_block, moment, random_signals

FAR = 0.05
"""Relative distance above which two matrices count as different."""
SETS = list(fisher.LADDER)


def named(assume: Collection[str]) -> str:
    """A name that does not depend on the order of a set: it must be the same in every process."""
    return "-".join(sorted(assume)) or "none"


KFC = frozenset({"IAD", "SH", "SUD"})
GRIDS = ((2, 3), (1, 4), (3, 1), (1, 1))

legal = pytest.mark.parametrize("assume", SETS, ids=named)


def grid_signals(n: int = 3, k: int = 2, seed: int = 0) -> fisher.Signals:
    """Layers on grids of several shapes, the last of them dense."""
    shapes = [(h * w, 3, 2) for h, w in GRIDS]
    return random_signals(n, shapes, k, seed, GRIDS)


def conv_net() -> tuple[mk.Network, np.ndarray, np.ndarray]:
    """Convolutions with padding and strides, normalizations and a dense layer on 7 random images."""
    rng = np.random.default_rng(0)
    net = mk.Network(
        [
            layers.Conv2d(2, 3, 3, padding=1),
            layers.GroupNorm(1, 3),
            layers.Tanh(),
            layers.Conv2d(3, 2, (2, 3), stride=(2, 1), bias=False),
            layers.BatchNorm(2),
            layers.Tanh(),
            layers.Flatten(),
            layers.Dense(8, 3),
        ],
        outputs.Categorical(),
    )
    return net, net.init(rng) + 0.3 * rng.standard_normal(net.n_params), rng.standard_normal((7, 4, 4, 2))


@legal
@given(seed=st.integers(0, 2**16), n=st.integers(1, 4), k=st.integers(1, 3))
def test_every_set_is_its_definition(assume: frozenset[str], seed: int, n: int, k: int) -> None:
    signals = grid_signals(n, k, seed)
    F = fisher.ladder(signals, assume)
    for block, layer in zip(F.blocks, next(iter(signals)), strict=True):
        assert error(block.to_dense(), ladder_block(layer, set(assume))) < EXACT


@legal
def test_every_set_in_a_net(assume: frozenset[str]) -> None:
    net, theta, x = conv_net()
    signals = fisher.signals(net, theta, x[:2])
    F, exact = fisher.ladder(signals, assume), fisher.block_diagonal(signals)
    for block, whole, layer in zip(F.blocks, exact.blocks, next(iter(signals)), strict=True):
        expected = whole.to_dense() if layer.scale_and_shift else ladder_block(layer, set(assume))
        assert error(block.to_dense(), expected) < EXACT


@legal
@pytest.mark.parametrize("batch_size", [1, 3])
def test_uneven_chunks_change_nothing(assume: frozenset[str], batch_size: int) -> None:
    net, theta, x = conv_net()
    whole = fisher.ladder(fisher.signals(net, theta, x), assume)
    chunked = fisher.ladder(fisher.signals(net, theta, x, batch_size=batch_size), assume)
    assert error(chunked.to_dense(), whole.to_dense()) < EXACT


@legal
def test_symmetric(assume: frozenset[str]) -> None:
    F = fisher.ladder(grid_signals(), assume).to_dense()
    assert error(F, F.T) < EXACT


@pytest.mark.parametrize("scratch", [1, 12_000, 30_000])
def test_few_locations_at_a_time_change_nothing(scratch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta, x = conv_net()
    signals = fisher.signals(net, theta, x, batch_size=4)
    expected = fisher.ladder(signals, {"IAD"}).to_dense()
    monkeypatch.setattr(sys.modules["minikfac.fisher.ladder"], "_SCRATCH", scratch)
    assert error(fisher.ladder(signals, {"IAD"}).to_dense(), expected) < EXACT


def test_no_assumption_is_exact_and_all_of_them_kfc() -> None:
    net, theta, x = conv_net()
    signals = fisher.signals(net, theta, x)
    for assume, F in ((set(), fisher.block_diagonal(signals)), (KFC, fisher.kfac(signals))):
        for rung, block in zip(fisher.ladder(signals, assume).blocks, F.blocks, strict=True):
            assert isinstance(rung, fisher.DenseMatrix)
            assert error(rung.to_dense(), block.to_dense()) < EXACT


def test_all_sets_differ_for_convolutions() -> None:
    net, theta, x = conv_net()
    signals = fisher.signals(net, theta, x).select(["conv0", "conv2"])
    rungs = [fisher.ladder(signals, assume).blocks for assume in SETS]
    for one, other in itertools.combinations(rungs, 2):
        for a, b in zip(one, other, strict=True):
            assert error(a.to_dense(), b.to_dense()) > FAR


def test_dense_layers_are_exact_or_kfac() -> None:
    signals = random_signals(6, ((1, 4, 3),))
    for assume in SETS:
        expected = fisher.kfac(signals) if "IAD" in assume else fisher.block_diagonal(signals)
        assert error(fisher.ladder(signals, assume).to_dense(), expected.to_dense()) < EXACT
    assert error(fisher.kfac(signals).to_dense(), fisher.exact(signals).to_dense()) > FAR


# where an assumption holds ------------------------------------------------------------------------------


def equal_examples(n: int, seed: int = 0) -> fisher.LayerSignals:
    """The same image and derivatives in every example: nothing varies, so IAD holds."""
    rng = np.random.default_rng(seed)
    abar, g = rng.standard_normal((1, 6, 3)), rng.standard_normal((2, 1, 6, 2))
    return fisher.LayerSignals(abar.repeat(n, 0), g.repeat(n, 1), (2, 3))


def uncorrelated(n: int, seed: int = 0, alike: bool = False) -> fisher.LayerSignals:
    """One term per location, where alone its derivative is not 0: SUD holds; alike, SH too."""
    rng = np.random.default_rng(seed)
    g = np.zeros((6, n, 6, 2))
    derivatives = rng.standard_normal((n, 1 if alike else 6, 2))
    g[range(6), :, range(6)] = derivatives.swapaxes(0, 1)
    return fisher.LayerSignals(rng.standard_normal((n, 6, 3)), g, (2, 3))


def blocks(layer: fisher.LayerSignals) -> dict[frozenset[str], np.ndarray]:
    signals = fisher.Signals.from_layers([layer])
    return {assume: fisher.ladder(signals, assume).to_dense() for assume in SETS}


def test_iad_costs_nothing_where_all_examples_are_equal() -> None:
    F = blocks(equal_examples(4))
    assert error(F[frozenset({"IAD"})], F[frozenset()]) < EXACT
    assert error(F[frozenset({"IAD", "SUD"})], F[frozenset({"SUD"})]) < EXACT
    assert error(F[frozenset({"SUD"})], F[frozenset()]) > FAR
    assert error(F[frozenset({"IAD", "SH"})], F[frozenset({"IAD"})]) > FAR


def test_sud_costs_nothing_where_derivatives_are_uncorrelated() -> None:
    F = blocks(uncorrelated(4))
    assert error(F[frozenset({"SUD"})], F[frozenset()]) < EXACT
    assert error(F[frozenset({"IAD", "SUD"})], F[frozenset({"IAD"})]) < EXACT
    assert error(F[KFC], F[frozenset({"IAD", "SH"})]) < EXACT
    assert error(F[frozenset({"IAD"})], F[frozenset()]) > FAR
    assert error(F[KFC], F[frozenset({"IAD"})]) > FAR


def test_sh_costs_nothing_where_derivatives_are_alike_in_space() -> None:
    F = blocks(uncorrelated(4, alike=True))
    assert error(F[frozenset({"IAD", "SH"})], F[frozenset({"IAD"})]) < EXACT
    assert error(F[KFC], F[frozenset({"IAD", "SUD"})]) < EXACT
    assert error(F[KFC], F[frozenset()]) > FAR


def stationary(n: int, seed: int = 0) -> fisher.LayerSignals:
    """Derivatives on a ring of 6 locations seen through a window of 3, at every place of the ring."""
    rng = np.random.default_rng(seed)
    ring = rng.standard_normal((4, 6, 2))
    g = np.concatenate([np.roll(ring, turn, axis=1)[:, :3] for turn in range(6)])
    return fisher.LayerSignals(rng.standard_normal((n, 3, 3)), g[:, None].repeat(n, 1), (1, 3))


def test_sh_costs_nothing_for_a_stationary_process() -> None:
    F = blocks(stationary(4))
    assert error(F[frozenset({"IAD", "SH"})], F[frozenset({"IAD"})]) < EXACT
    assert error(F[frozenset({"IAD", "SH"})], F[frozenset()]) < EXACT  # g has no part in the examples
    assert error(F[KFC], F[frozenset()]) > FAR


# indefinite ---------------------------------------------------------------------------------------------


def indefinite() -> fisher.BlockDiagonal:
    """Signals at two opposite corners: Gamma(0) is a mean over nine pairs, Gamma((2, 2)) over one."""
    rng = np.random.default_rng(0)
    abar, g = 0.2 * rng.standard_normal((4, 9, 3)), np.zeros((2, 4, 9, 2))
    abar[:, 0] = abar[:, 8] = rng.standard_normal((4, 3))
    g[:, :, 0] = rng.standard_normal((2, 4, 2))
    g[:, :, 8] = -g[:, :, 0]
    layer = fisher.LayerSignals(abar, g, (3, 3))
    return fisher.ladder(fisher.Signals.from_layers([layer], ["conv0"]), {"IAD", "SH"})


def test_indefinite_blocks_say_how_much_damping_they_need() -> None:
    F = indefinite()
    values = np.linalg.eigvalsh(F.to_dense())
    assert values[0] < -0.1 * values[-1]
    for damping in (0.0, -0.9 * values[0]):
        with pytest.raises(
            SingularMatrixError, match=r"damping above .*IAD \+ SH block of conv0.*indef"
        ) as caught:
            F.solve(np.ones(6), damping)
        assert float(str(caught.value).split("above ")[1].split(",")[0]) == pytest.approx(
            -values[0], rel=0.01
        )
    enough = -1.1 * values[0]
    v = F.solve(np.ones(6), enough)
    assert error(F @ v + enough * v, np.ones(6)) < SOLVE


@pytest.mark.parametrize("assume", [assume for assume in SETS if assume != {"IAD", "SH"}], ids=named)
def test_every_other_set_is_positive_semi_definite(assume: frozenset[str]) -> None:
    net, theta, x = conv_net()
    for block in fisher.ladder(fisher.signals(net, theta, x), assume).blocks:
        values = np.linalg.eigvalsh(block.to_dense())
        assert values[0] > -EXACT * values[-1]


def test_a_singular_semi_definite_block_is_named_with_its_rank() -> None:
    signals = random_signals(1, ((2, 4, 2),), k=1)
    with pytest.raises(SingularMatrixError, match=r"the IAD block of layer0 \(8 x 8\) has numerical rank 1"):
        fisher.ladder(signals, {"IAD"}).solve(np.ones(8))


# T times KFC --------------------------------------------------------------------------------------------


def test_fully_correlated_is_t_times_kfc() -> None:
    net, theta, x = conv_net()
    signals = fisher.signals(net, theta, x, batch_size=3)
    correlated, kfac, exact = (
        f(signals) for f in (fisher.fully_correlated, fisher.kfac, fisher.block_diagonal)
    )
    factors = {"conv0": 16, "conv2": 4, "dense4": 1}
    for name, a, b, F in zip(net.names, correlated.blocks, kfac.blocks, exact.blocks, strict=True):
        expected = factors[name] * b.to_dense() if name in factors else F.to_dense()
        assert error(a.to_dense(), expected) < EXACT
        assert isinstance(a, fisher.KroneckerBlock) == (name in factors)


def test_reduce_and_fully_correlated_average_what_iad_leaves_apart() -> None:
    """Over all pairs of locations for derivatives; over equal locations for both."""
    (layer,) = next(iter(random_signals(4, ((6, 3, 2),), grids=((2, 3),))))
    signals = fisher.Signals.from_layers([layer])
    T, abar = 6, layer.abar[None]
    As = [[moment(abar, t, u) for u in range(T)] for t in range(T)]
    Gs = [[moment(layer.g, t, u) for u in range(T)] for t in range(T)]
    mean_pair = sum(Gs[t][u] for t in range(T) for u in range(T)) / T**2
    reduced = sum(np.kron(As[t][u], mean_pair) for t in range(T) for u in range(T))
    assert error(fisher.kfac(signals, reduce=True).to_dense(), reduced) < EXACT
    A, G = (sum(moments[t][t] for t in range(T)) / T for moments in (As, Gs))
    assert error(fisher.fully_correlated(signals).to_dense(), T**2 * np.kron(A, G)) < EXACT


def test_fully_correlated_is_exact_for_constant_signals() -> None:
    rng = np.random.default_rng(0)
    abar, g = rng.standard_normal((1, 1, 4)), rng.standard_normal((2, 1, 1, 2))
    layer = fisher.LayerSignals(abar.repeat(5, 0).repeat(3, 1), g.repeat(5, 1).repeat(3, 2))
    signals = fisher.Signals.from_layers([layer])
    exact = fisher.exact(signals).to_dense()
    assert error(fisher.fully_correlated(signals).to_dense(), exact) < EXACT
    assert error(fisher.kfac(signals).to_dense(), exact) > FAR


# what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("assume", [{"SH"}, {"SH", "SUD"}], ids=named)
def test_sh_without_iad_is_refused_with_the_reason(assume: set[str]) -> None:
    with pytest.raises(ValueError, match=r"expected IAD with SH, got SH.*derivatives, which"):
        fisher.ladder(grid_signals(), assume)


def test_what_is_no_assumption_is_refused() -> None:
    with pytest.raises(ValueError, match="expected assumptions among IAD, SH, SUD, got WD"):
        fisher.ladder(grid_signals(), {"IAD", "WD"})
    with pytest.raises(ValueError, match="expected a set of assumptions, got 'IAD'"):
        fisher.ladder(grid_signals(), "IAD")


def test_sh_needs_the_grid() -> None:
    layer = fisher.LayerSignals(np.ones((2, 6, 3)), np.ones((1, 2, 6, 2)))
    for grid in (None, (2, 2)):
        signals = fisher.Signals.from_layers([fisher.LayerSignals(layer.abar, layer.g, grid)])
        with pytest.raises(
            ValueError, match=r"expected the grid .* of the 6 locations of layer0 for SH, got"
        ):
            fisher.ladder(signals, {"IAD", "SH"})


@pytest.mark.parametrize("assume", SETS, ids=named)
def test_what_does_not_fit_is_refused_before_any_work(
    assume: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minikfac.backend.available_memory", lambda xp: 100)
    with pytest.raises(MemoryError, match="GiB are free"):
        fisher.ladder(grid_signals(), assume)


@pytest.mark.parametrize("assume", [{"IAD"}, {"IAD", "SH"}], ids=named)
def test_second_moments_that_do_not_fit_are_refused(
    assume: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = random_signals(2, ((12, 3, 2),), grids=((3, 4),))
    monkeypatch.setattr("minikfac.backend.available_memory", lambda xp: 500)
    with pytest.raises(MemoryError, match="block of layer0"):
        fisher.ladder(signals, assume)
    monkeypatch.setattr("minikfac.backend.available_memory", lambda xp: 2 * 6 * 6 * 8)
    with pytest.raises(MemoryError, match="second moments of layer0 at"):
        fisher.ladder(signals, assume)


@legal
def test_single_precision(assume: frozenset[str]) -> None:
    net, theta, x = conv_net()
    expected = fisher.ladder(fisher.signals(net, theta, x), assume)
    signals = fisher.signals(net, theta.astype("f"), x.astype("f"))
    for block, exact in zip(fisher.ladder(signals, assume).blocks, expected.blocks, strict=True):
        assert block.to_dense().dtype == np.float32
        assert error(block.to_dense(), exact.to_dense()) < FLOAT32
