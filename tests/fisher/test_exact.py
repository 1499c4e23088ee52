"""The exact Fisher matrix, against the expectation over every example and every target."""

import sys

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher
from oracles import EXACT, FLOAT32, error
from oracles.fisher import (
    Case,
    empirical_terms,
    fisher_matrix,
    forward,
    make_case,
    nll,
    random_signals,
    signals_of,
    synthetic_fisher,
    terms,
)

FINITE_DIFFERENCE = 1e-7

CASES = {
    "categorical": make_case(),
    "bernoulli": make_case((3, 4, 4), "logistic", "bernoulli"),
    "gaussian": make_case((4, 3, 2), "relu", "gaussian"),
    "three layers": make_case((2, 3, 4, 3), "tanh"),
    "more inputs above than below": make_case((2, 7, 3), "tanh"),
    "one layer": make_case((4, 3)),
    "one unit": make_case((1, 1, 1), "tanh", "bernoulli"),
    "no bias": make_case((3, 4, 3), "tanh", bias=False),
    "a tile of inputs": make_case((63, 2, 2)),
    "a tile and one": make_case((64, 2, 2)),
    "three tiles": make_case((130, 3, 2), "tanh", "bernoulli"),
    "a tile above": make_case((3, 70, 2), n=3),
    "a tile without bias": make_case((64, 2, 2), bias=False),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "gaussian"])
def test_the_oracle_differentiates_the_log_likelihood(name: str) -> None:
    case = CASES[name]
    x, y = case.x[0], case.y[0]
    D = np.concatenate([np.outer(abar, g).ravel() for abar, g in signals_of(case, x, y)])

    def loss(theta: np.ndarray) -> float:
        moved = Case(case.sizes, case.activation, case.output, case.net, theta, case.x, case.y)
        return nll(case.output, forward(moved, x)[1][-1], y)

    h = 1e-6
    steps = h * np.eye(len(case.theta))
    slopes = np.array([(loss(case.theta + e) - loss(case.theta - e)) / (2 * h) for e in steps])
    assert error(slopes, D) < FINITE_DIFFERENCE


def test_exact_is_the_expectation_over_all_targets(case: Case) -> None:
    assert error(fisher.exact(case.signals()).to_dense(), fisher_matrix(terms(case))) < EXACT


def test_exact_with_the_labels_is_the_empirical_fisher_matrix(case: Case) -> None:
    F = fisher.exact(case.empirical())
    assert error(F.to_dense(), fisher_matrix(empirical_terms(case))) < EXACT


def test_exact_with_sampled_targets_averages_over_the_samples(case: Case) -> None:
    signals = case.signals(targets="sampled", n_samples=4, rng=np.random.default_rng(0))
    assert error(fisher.exact(signals).to_dense(), synthetic_fisher(signals)) < EXACT


@pytest.mark.parametrize("batch_size", [1, 3, 6])
def test_uneven_chunks_change_nothing(case: Case, batch_size: int) -> None:
    F = fisher.exact(case.signals(batch_size=batch_size))
    assert error(F.to_dense(), fisher_matrix(terms(case))) < EXACT


def test_products_are_those_of_the_exact_matrix(case: Case) -> None:
    F = fisher.product(case.net, case.theta, case.x)
    assert error(F.to_dense(), fisher_matrix(terms(case))) < EXACT


def test_gauss_newton_is_the_fisher_matrix(case: Case) -> None:
    F = fisher.gauss_newton(case.net, case.theta, case.x, case.y)
    assert error(F.to_dense(), fisher_matrix(terms(case))) < EXACT


def test_block_diagonal_holds_the_blocks_of_the_exact_matrix(case: Case) -> None:
    expected = fisher_matrix(terms(case))
    blocks = fisher.block_diagonal(case.signals(batch_size=3)).blocks
    assert len(blocks) == len(case.slices)
    for block, part in zip(blocks, case.slices, strict=True):
        assert error(block.to_dense(), expected[part, part]) < EXACT
    for block, part in zip(fisher.exact(case.signals()).blocks, case.slices, strict=True):
        assert error(block.to_dense(), expected[part, part]) < EXACT


def test_diagonal_is_that_of_the_exact_matrix(case: Case) -> None:
    F = fisher.diagonal(case.signals(batch_size=3))
    assert error(F.diagonal(), fisher_matrix(terms(case)).diagonal()) < EXACT


def test_selected_layers_give_their_rows_and_columns() -> None:
    case = CASES["three layers"]
    expected = fisher_matrix(terms(case))
    for chosen in (["dense1", 2], [0, 2], [2, 0], [-1]):
        numbers = [case.net.names.index(layer) if isinstance(layer, str) else layer for layer in chosen]
        rows = np.concatenate([np.arange(len(expected))[case.slices[number]] for number in numbers])
        for batch_size in (None, 3):
            F = fisher.exact(case.signals(batch_size=batch_size).select(chosen))
            assert error(F.to_dense(), expected[np.ix_(rows, rows)]) < EXACT


@pytest.mark.parametrize("k", [1, 3])
def test_gradients_are_summed_over_locations(k: int) -> None:
    signals = random_signals(k=k, shapes=((3, 4, 2), (1, 2, 3), (2, 70, 2)))
    expected = synthetic_fisher(signals)
    for part, block in zip(signals.slices, fisher.block_diagonal(signals).blocks, strict=True):
        assert error(block.to_dense(), expected[part, part]) < EXACT
    assert error(fisher.diagonal(signals).diagonal(), expected.diagonal()) < EXACT


@pytest.mark.parametrize("k", [1, 3])
def test_exact_sums_gradients_over_locations(k: int) -> None:
    signals = random_signals(k=k, shapes=((3, 4, 2), (1, 2, 3), (2, 70, 2)))
    assert error(fisher.exact(signals).to_dense(), synthetic_fisher(signals)) < EXACT


def test_exact_holds_for_many_examples_and_outputs() -> None:
    signals = random_signals(n=3000, shapes=((1, 66, 9), (1, 12, 40)), k=2)
    assert error(fisher.exact(signals).to_dense(), synthetic_fisher(signals)) < EXACT


@pytest.mark.parametrize(
    "sizes",
    [{"_SCRATCH": 1, "_GRADIENTS": 1}, {"_SCRATCH": 40, "_EXAMPLES": 4, "_TILE": 2, "_GRADIENTS": 70}],
)
@pytest.mark.parametrize("t", [(1, 1, 1), (3, 1, 2)])
def test_the_size_of_the_scratch_memory_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], t: tuple[int, int, int]
) -> None:
    for name, size in sizes.items():
        monkeypatch.setattr(sys.modules["minikfac.fisher.exact"], name, size)
    signals = random_signals(n=9, shapes=((t[0], 5, 4), (t[1], 3, 7), (t[2], 6, 3)))
    assert error(fisher.exact(signals).to_dense(), synthetic_fisher(signals)) < EXACT


def test_float32_stays_float32() -> None:
    case = CASES["categorical"]
    expected = fisher_matrix(terms(case))
    theta = case.theta.astype(np.float32)
    signals = fisher.signals(case.net, theta, case.x)  # inputs follow theta
    for F in (fisher.exact(signals), fisher.product(case.net, theta, case.x)):
        assert F.to_dense().dtype == np.float32
        assert error(F.to_dense(), expected) < FLOAT32


@pytest.mark.parametrize("output", ["categorical", "bernoulli", "gaussian"])
def test_hessian_differentiates_the_gradient(output: str) -> None:
    case = make_case((3, 4, 3), "tanh", output)
    h = 1e-6

    def gradient(theta: np.ndarray) -> np.ndarray:
        return case.net.gradient(theta, case.x, case.y)

    steps = h * np.eye(len(case.theta))
    columns = [(gradient(case.theta + e) - gradient(case.theta - e)) / (2 * h) for e in steps]
    H = fisher.hessian(case.net, case.theta, case.x, case.y).to_dense()
    assert error(H, np.array(columns)) < FINITE_DIFFERENCE


def test_what_does_not_fit_in_memory_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minikfac.backend.available_memory", lambda xp: 100)
    signals = CASES["categorical"].signals()
    with pytest.raises(MemoryError, match=r"the exact Fisher matrix \(31 x 31, float64\) needs .* GiB"):
        fisher.exact(signals)
    with pytest.raises(MemoryError, match=r"the exact Fisher block of dense0 \(16 x 16.*use fisher.kfac"):
        fisher.block_diagonal(signals)
    with pytest.raises(MemoryError, match="the Khatri-Rao matrix"):
        fisher.khatri_rao(signals)


def test_a_dense_matrix_is_square() -> None:
    with pytest.raises(ValueError, match=r"expected a square array for the matrix, got shape \(2, 3\)"):
        fisher.DenseMatrix(np.ones((2, 3)))


def test_labels_of_the_wrong_shape_are_refused() -> None:
    net = mk.mlp([2, 3], output="categorical")
    theta, x = np.zeros(net.n_params), np.ones((4, 2))
    for matrix in (fisher.gauss_newton, fisher.hessian):
        with pytest.raises(ValueError, match=r"expected labels of shape \(4,\), got \(3,\)"):
            matrix(net, theta, x, np.zeros(3, dtype=int))
