"""The factors of K-FAC and of the Khatri-Rao matrix, against loops over examples and locations."""

import numpy as np
import pytest

from minikfac import fisher
from oracles import EXACT, error
from oracles.fisher import Case, cross_factors, make_case, random_signals, synthetic_factors

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


def test_khatri_rao_has_a_product_per_pair_of_layers(case: Case) -> None:
    F = fisher.khatri_rao(case.signals(batch_size=3)).to_dense()
    for layer, rows in enumerate(case.slices):
        for other, columns in enumerate(case.slices):
            assert error(F[rows, columns], np.kron(*cross_factors(case, layer, other))) < EXACT


def test_kronecker_products_between_layers_need_dense_layers() -> None:
    with pytest.raises(
        ValueError, match="expected dense layers for khatri_rao, got shared weights in layer0"
    ):
        fisher.khatri_rao(random_signals())
