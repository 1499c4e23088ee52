"""K-FAC, its damping, and what is made of the same factors: EKFAC, nearest Kronecker product, mixed."""

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikfac import fisher, mlp
from oracles.fisher import (
    EXACT,
    Case,
    cross_factors,
    error,
    factored,
    make_case,
    random_signals,
    synthetic_factors,
    synthetic_fisher,
)

NEAREST = 1e-8
"""Relative error of the power iteration at its default tolerance."""

CASES = {
    "categorical": make_case((3, 4, 3, 3)),
    "bernoulli": make_case((3, 4, 2), "logistic", "bernoulli"),
    "gaussian": make_case((4, 3, 2), "relu", "gaussian"),
    "no bias": make_case((3, 4, 3), bias=False),
}
LOCATIONS = ((3, 4, 2), (1, 3, 4), (5, 2, 3))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def synthetic_blocks(signals: fisher.Signals) -> list[np.ndarray]:
    F = synthetic_fisher(signals)
    return [F[own, own] for own in signals.slices]


# factors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 3])
def test_factors_are_means_of_outer_products(case: Case, batch_size: int | None) -> None:
    F = fisher.kfac(case.signals(batch_size=batch_size))
    for layer, block in enumerate(F.blocks):
        A, G = cross_factors(case, layer, layer)
        assert error(block.A, A) < EXACT
        assert error(block.G, G) < EXACT
        assert error(block.to_dense(), np.kron(A, G)) < EXACT


@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_factors_over_locations(reduce: bool, k: int) -> None:
    signals = random_signals(shapes=LOCATIONS, k=k)
    for block, layer in zip(fisher.kfac(signals, reduce=reduce).blocks, next(iter(signals)), strict=True):
        A, G = synthetic_factors(layer, reduce)
        assert error(block.A, A) < EXACT
        assert error(block.G, G) < EXACT


def test_reduced_factors_differ_where_there_are_locations() -> None:
    signals = random_signals(shapes=((1, 3, 2), (4, 3, 2)))
    alike, unlike = zip(fisher.kfac(signals).blocks, fisher.kfac(signals, reduce=True).blocks, strict=True)
    assert error(alike[1].to_dense(), alike[0].to_dense()) < EXACT
    assert error(unlike[1].to_dense(), unlike[0].to_dense()) > 0.05


def test_empirical_factors_come_from_the_labels() -> None:
    case = CASES["categorical"]
    for block, layer in zip(fisher.kfac(case.empirical()).blocks, next(iter(case.empirical())), strict=True):
        A, G = synthetic_factors(layer)
        assert error(block.to_dense(), np.kron(A, G)) < EXACT


def test_khatri_rao_has_a_kronecker_product_for_every_pair_of_layers(case: Case) -> None:
    F = fisher.khatri_rao(case.signals(batch_size=3)).to_dense()
    for layer, rows in enumerate(case.slices):
        for other, columns in enumerate(case.slices):
            assert error(F[rows, columns], np.kron(*cross_factors(case, layer, other))) < EXACT


def test_factors_averaged_elsewhere_make_the_same_matrix() -> None:
    F = fisher.kfac(CASES["categorical"].signals())
    G = fisher.Kronecker([(block.A, block.G) for block in F.blocks])
    assert (F.to_dense() == G.to_dense()).all()
    assert [block.name for block in G.blocks] == ["layer0", "layer1", "layer2"]


# EKFAC ---------------------------------------------------------------------------------------------------


def in_the_eigenbasis(F: np.ndarray, A: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Keep the diagonal of F in the basis of the eigenvectors of A (x) G."""
    U = np.kron(np.linalg.eigh(A)[1], np.linalg.eigh(G)[1])
    return U @ np.diag((U.T @ F @ U).diagonal()) @ U.T


@pytest.mark.parametrize("k", [1, 3])
def test_ekfac_is_the_diagonal_of_the_block_in_the_eigenbasis(k: int) -> None:
    signals = random_signals(shapes=LOCATIONS, k=k)
    for block, F, layer in zip(
        fisher.ekfac(signals).blocks, synthetic_blocks(signals), next(iter(signals)), strict=True
    ):
        assert error(block.to_dense(), in_the_eigenbasis(F, *synthetic_factors(layer))) < EXACT


def test_ekfac_reads_chunks_twice() -> None:
    case = make_case((3, 4, 2), output="bernoulli", n=40)
    signals = case.signals(batch_size=7)
    exact = fisher.exact(case.signals()).to_dense()
    for layer, (block, own) in enumerate(zip(fisher.ekfac(signals).blocks, case.slices, strict=True)):
        expected = in_the_eigenbasis(exact[own, own], *cross_factors(case, layer, layer))
        assert error(block.to_dense(), expected) < EXACT


# nearest Kronecker product -------------------------------------------------------------------------------


def van_loan(F: np.ndarray, inputs: int, outputs: int) -> np.ndarray:
    """The nearest Kronecker product, by the leading singular pair of the rearranged block [VanLoan00]."""
    R = F.reshape(inputs, outputs, inputs, outputs).transpose(0, 2, 1, 3).reshape(inputs**2, outputs**2)
    U, s, V = np.linalg.svd(R)
    A, G = U[:, 0].reshape(inputs, inputs), V[0].reshape(outputs, outputs)
    return s[0] * np.kron(A, G)


def test_nearest_kronecker_is_the_leading_singular_pair(case: Case) -> None:
    exact = fisher.exact(case.signals()).to_dense()
    blocks = fisher.nearest_kronecker(case.signals(batch_size=3)).blocks
    for block, own, W in zip(blocks, case.slices, case.Ws, strict=True):
        assert error(block.to_dense(), van_loan(exact[own, own], *W.shape)) < NEAREST


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_kronecker_over_locations(k: int) -> None:
    signals = random_signals(shapes=LOCATIONS, k=k)
    blocks = fisher.nearest_kronecker(signals).blocks
    for block, F, shape in zip(blocks, synthetic_blocks(signals), signals.shapes, strict=True):
        assert error(block.to_dense(), van_loan(F, *shape)) < NEAREST


def test_nearest_kronecker_shares_its_scale_out_as_kfac_does(case: Case) -> None:
    pairs = zip(
        fisher.nearest_kronecker(case.signals()).blocks, fisher.kfac(case.signals()).blocks, strict=True
    )
    for nearest, block in pairs:
        assert nearest.A.trace() == pytest.approx(block.A.trace(), rel=EXACT)


def test_nearest_kronecker_says_when_it_did_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["minikfac.fisher.nearest_kronecker"], "_MAX_ITERATIONS", 1)
    with pytest.raises(ValueError, match=r"expected convergence in 1 iterations, got a last move of"):
        fisher.nearest_kronecker(CASES["categorical"].signals())


def dead_layer() -> fisher.Signals:
    """Two layers, of which the first gets no derivatives."""
    dead, alive = next(iter(random_signals(shapes=((1, 3, 2), (2, 3, 2)))))
    return fisher.Signals.from_layers([fisher.LayerSignals(dead.abar, 0 * dead.g), alive])


@pytest.mark.parametrize("make", [fisher.kfac, fisher.ekfac, fisher.nearest_kronecker, fisher.diagonal])
def test_a_dead_layer_has_a_block_of_zeros_that_damping_inverts(make: Any) -> None:
    F = make(dead_layer())
    assert (F.blocks[0].to_dense() == 0).all()
    assert error(F.blocks[0].solve(np.ones(6), damping=0.5), np.full(6, 2.0)) < EXACT
    assert F.blocks[1].trace() > 0


# damping -------------------------------------------------------------------------------------------------


def random_factors(seed: int, inputs: int = 4, outputs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, g = rng.standard_normal((inputs, inputs)), rng.standard_normal((outputs, outputs))
    return a @ a.T, g @ g.T


@given(seed=st.integers(0, 2**16), c=st.floats(1e-3, 1e3), lam=st.floats(1e-4, 10))
def test_factored_damping_does_not_see_how_the_scale_is_shared_out(seed: int, c: float, lam: float) -> None:
    A, G = random_factors(seed)
    one = fisher.Kronecker([(A, G)]).damped(lam, "factored").to_dense()
    other = fisher.Kronecker([(c * A, G / c)]).damped(lam, "factored").to_dense()
    assert error(other, one) < EXACT


@given(a=st.floats(1e-3, 1e3), g=st.floats(1e-3, 1e3), lam=st.floats(1e-4, 10))
def test_factored_damping_of_multiples_of_the_identity_adds_up_their_roots(
    a: float, g: float, lam: float
) -> None:
    """(a + pi r) (g + r / pi) = (sqrt(a g) + r)^2, r = sqrt(lam): more than a g + lam even here."""
    F = fisher.Kronecker([(a * np.eye(4), g * np.eye(3))])
    expected = (np.sqrt(a * g) + np.sqrt(lam)) ** 2 * np.eye(12)
    assert error(F.damped(lam, "factored").to_dense(), expected) < EXACT


def test_factored_damping_is_exact_only_on_a_block_of_zeros() -> None:
    A, G = random_factors(0)
    zeros = fisher.Kronecker([(A, 0 * G)]).damped(0.5, "factored").to_dense()
    assert error(zeros.diagonal()[:1], np.array([0.5])) > 0.05  # pi = 1 leaves sqrt(lam) A
    both = fisher.Kronecker([(0 * A, 0 * G)]).damped(0.5, "factored").to_dense()
    assert error(both, 0.5 * np.eye(12)) < EXACT


@given(seed=st.integers(0, 2**16), lam=st.floats(1e-4, 10))
def test_factored_damping_adds_a_surplus_that_pi_makes_small(seed: int, lam: float) -> None:
    A, G = random_factors(seed)
    exact = np.kron(A, G) + lam * np.eye(12)
    damped = fisher.Kronecker([(A, G)]).damped(lam, "factored").to_dense()
    surplus = damped - exact
    assert np.linalg.eigvalsh(surplus).min() > 0
    for pi in np.geomspace(1e-3, 1e3, 31):  # no other pi has a surplus of smaller trace
        other = np.kron(A + pi * lam**0.5 * np.eye(4), G + lam**0.5 / pi * np.eye(3)) - exact
        assert np.trace(surplus) <= np.trace(other) * (1 + EXACT)


@given(seed=st.integers(0, 2**16), lam=st.floats(0, 10))
def test_damped_factors_are_those_of_the_paper(seed: int, lam: float) -> None:
    A, G = random_factors(seed)
    damped = fisher.factored_damping(A, G, lam)
    for found, expected in zip(damped, factored(A, G, lam), strict=True):
        assert error(found, expected) < EXACT


def test_damping_leaves_the_factors_as_they_were() -> None:
    A, G = random_factors(0)
    kept = A.copy(), G.copy()
    F = fisher.Kronecker([(A, G)])
    for method in ("eigen", "factored"):
        F.damped(0.1, method)
        F.inverse(0.1, method, explicit=True)
    assert (A == kept[0]).all() and (G == kept[1]).all()


def test_large_damping_makes_every_solve_a_division() -> None:
    F, v = fisher.Kronecker([random_factors(0)]), np.arange(12.0)
    for method, tolerance in (("eigen", 1e-8), ("factored", 1e-3)):
        assert error(F.solve(v, 1e10, method) * 1e10, v) < tolerance


# a kind per layer ----------------------------------------------------------------------------------------

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
    signals = CASES["categorical"].signals(batch_size=batch_size)
    F = fisher.mixed(signals, {0: kind, "dense2": "diagonal"})
    expected = [KINDS[kind](signals), fisher.kfac(signals), fisher.diagonal(signals)]
    for layer, (block, whole) in enumerate(zip(F.blocks, expected, strict=True)):
        assert error(block.to_dense(), whole.blocks[layer].to_dense()) < NEAREST


def test_mixed_has_a_default_for_the_layers_left_out() -> None:
    signals = CASES["categorical"].signals()
    F = fisher.mixed(signals, {-1: "kfac"}, default="diagonal")
    kinds = [type(block) for block in F.blocks]
    assert kinds == [fisher.DiagonalBlock, fisher.DiagonalBlock, fisher.KroneckerBlock]


# errors --------------------------------------------------------------------------------------------------


def test_unknown_kinds_and_layers_are_refused() -> None:
    signals = CASES["categorical"].signals()
    kinds = "exact, diagonal, kfac, ekfac, nearest_kronecker"
    with pytest.raises(ValueError, match=f"expected a kind among {kinds}, got 'low_rank'"):
        fisher.mixed(signals, {0: "low_rank"})
    with pytest.raises(ValueError, match=r"expected a kind among .* got 'none'"):
        fisher.mixed(signals, {}, default="none")
    with pytest.raises(KeyError, match="expected one of the layers dense0, dense1, dense2, got 'conv0'"):
        fisher.mixed(signals, {"conv0": "kfac"})
    with pytest.raises(IndexError, match="expected a layer from 0 to 2, got 3"):
        fisher.mixed(signals, {3: "kfac"})


def test_factors_are_square_and_there_is_a_name_for_each_pair() -> None:
    A, G = random_factors(0)
    with pytest.raises(ValueError, match=r"square A and G for layer0, got shapes \(4, 3\) and \(3, 3\)"):
        fisher.Kronecker([(A[:, :3], G)])
    with pytest.raises(ValueError, match=r"square A and G for b, got shapes \(4, 4\) and \(3,\)"):
        fisher.Kronecker([(A, G), (A, G[0])], ["a", "b"])
    with pytest.raises(ValueError, match="expected 1 names, one per pair of factors, got 2"):
        fisher.Kronecker([(A, G)], ["a", "b"])
    with pytest.raises(ValueError, match="expected at least one block, got none"):
        fisher.Kronecker([])


def test_kronecker_products_between_layers_need_dense_layers() -> None:
    with pytest.raises(
        ValueError, match="expected dense layers for khatri_rao, got shared weights in layer0"
    ):
        fisher.khatri_rao(random_signals())


def test_mixed_damps_each_block_in_the_way_it_knows():
    rng = np.random.default_rng(0)
    net = mlp([4, 3, 2], output="bernoulli")
    signals = fisher.signals(net, net.init(rng), rng.standard_normal((20, 4)))
    F = fisher.mixed(signals, {0: "exact", 1: "kfac"})
    damped = F.damped(0.1, method="factored").to_dense()
    exact, kronecker = (
        fisher.block_diagonal(signals).damped(0.1),
        fisher.kfac(signals).damped(0.1, "factored"),
    )
    own, other = signals.slices
    np.testing.assert_array_equal(damped[own, own], exact.blocks[0].to_dense())
    np.testing.assert_array_equal(damped[other, other], kronecker.blocks[1].to_dense())
    np.testing.assert_allclose(F.inverse(0.1, method="factored").to_dense() @ damped, np.eye(23), atol=1e-12)
    with pytest.raises(ValueError, match="expected 'eigen' or 'factored', got 'other'"):
        F.inverse(0.1, method="other")
