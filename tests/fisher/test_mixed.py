"""A kind of approximation per layer."""

import numpy as np
import pytest

from minikfac import fisher, mlp
from oracles import error
from oracles.fisher import make_case

NEAREST = 1e-8
"""Relative error of the nearest Kronecker product."""
CASE = make_case((3, 4, 3, 3))
KINDS = {
    "exact": fisher.block_diagonal,
    "diagonal": fisher.diagonal,
    "kfac": fisher.kfac,
    "ekfac": fisher.ekfac,
    "nearest_kronecker": fisher.nearest_kronecker,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [None, 3])
def test_mixed_takes_each_block_from_its_kind(kind: str, batch_size: int | None) -> None:
    signals = CASE.signals(batch_size=batch_size)
    F = fisher.mixed(signals, {0: kind, "dense2": "diagonal"})
    expected = [KINDS[kind](signals), fisher.kfac(signals), fisher.diagonal(signals)]
    for layer, (block, whole) in enumerate(zip(F.blocks, expected, strict=True)):
        assert error(block.to_dense(), whole.blocks[layer].to_dense()) < NEAREST


def test_mixed_has_a_default_for_the_layers_left_out() -> None:
    signals = CASE.signals()
    F = fisher.mixed(signals, {-1: "kfac"}, default="diagonal")
    kinds = [type(block) for block in F.blocks]
    assert kinds == [fisher.DiagonalBlock, fisher.DiagonalBlock, fisher.KroneckerBlock]


def test_unknown_kinds_and_layers_are_refused() -> None:
    signals = CASE.signals()
    kinds = "exact, diagonal, kfac, ekfac, nearest_kronecker"
    with pytest.raises(ValueError, match=f"expected a kind among {kinds}, got 'low_rank'"):
        fisher.mixed(signals, {0: "low_rank"})
    with pytest.raises(ValueError, match=r"expected a kind among .* got 'none'"):
        fisher.mixed(signals, {}, default="none")
    with pytest.raises(KeyError, match="expected one of the layers dense0, dense1, dense2, got 'conv0'"):
        fisher.mixed(signals, {"conv0": "kfac"})
    with pytest.raises(IndexError, match="expected a layer from 0 to 2, got 3"):
        fisher.mixed(signals, {3: "kfac"})


def test_mixed_damps_each_block_by_its_method():
    rng = np.random.default_rng(0)
    net = mlp([4, 3, 2], output="bernoulli")
    signals = fisher.signals(net, net.init(rng), rng.standard_normal((20, 4)))
    F = fisher.mixed(signals, {0: "exact", 1: "kfac"})
    damped = F.damped(0.1, method="factored").to_dense()
    exact, kronecker = (
        fisher.block_diagonal(signals).damped(0.1),
        fisher.kfac(signals).damped(0.1, "factored"),
    )
    first, second = signals.slices
    np.testing.assert_array_equal(damped[first, first], exact.blocks[0].to_dense())
    np.testing.assert_array_equal(damped[second, second], kronecker.blocks[1].to_dense())
    np.testing.assert_allclose(F.inverse(0.1, method="factored").to_dense() @ damped, np.eye(23), atol=1e-12)
    with pytest.raises(ValueError, match="expected 'eigen' or 'factored', got 'other'"):
        F.inverse(0.1, method="other")
