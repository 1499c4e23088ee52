"""Models of the gradient: densities are SciPy's, and the right model wins, by the KL divergence."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from minikfac import fisher, quality
from oracles import SOLVE, error
from oracles.fisher import Case
from oracles.quality import APPROXIMATIONS, CASES, LAM, METHODS, build, dense, gradient

DRAWN = 20_000


@pytest.fixture(scope="module")
def drawn() -> tuple[Case, dict, np.ndarray]:
    """A case, its approximations, and gradients drawn from the Gaussian of the damped K-FAC."""
    case = CASES["categorical"]
    K = dense(case, "K-FAC", LAM)[1]
    L = np.linalg.cholesky(K)
    return case, build(case.signals()), np.random.default_rng(1).standard_normal((DRAWN, len(K))) @ L.T


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_densities_are_scipys(case: Case, name: str) -> None:
    D = np.random.default_rng(0).standard_normal((6, len(case.theta)))
    matrix = build(case.signals())[name]
    density = quality.log_density(matrix, D, LAM, METHODS.get(name))
    expected = multivariate_normal(cov=dense(case, name, LAM)[1]).logpdf(D)
    assert error(density, expected) < SOLVE


def test_gradients_are_those_of_the_drawn_targets(case: Case) -> None:
    signals = case.signals(targets="sampled", rng=np.random.default_rng(3))
    D = quality.gradients_of(signals)
    assert D.shape == (len(case.x), len(case.theta))
    assert error(D.T @ D / len(D), fisher.exact(signals).array) < SOLVE
    chunked = case.signals(targets="sampled", rng=np.random.default_rng(3), batch_size=4)
    np.testing.assert_allclose(quality.gradients_of(chunked), D, rtol=0, atol=1e-14)


def test_the_model_that_the_gradients_come_from_wins_by_the_divergence(drawn) -> None:
    """The mean of log p - log q is KL(p || q), the column of the quality table."""
    case, models, D = drawn
    names = ("K-FAC", "diagonal", "block-diagonal", "low rank")
    rows = quality.held_out({name: models[name] for name in names}, D[:1000], D[1000:], [LAM])
    F = fisher.DenseMatrix(
        dense(case, "K-FAC", 0.0)[0], slices=models["exact"].slices, names=models["exact"].names
    )
    table = quality.compare(F, {name: models[name] for name in names}, gradient(case), LAM, measures=("kl",))
    assert max(rows, key=lambda row: row["nats"])["approximation"] == "K-FAC"
    assert rows[0]["behind"] == rows[0]["behind_se"] == 0
    for row in rows[1:]:
        assert row["behind"] > 5 * row["behind_se"] > 0
        divergence = table[row["approximation"]]["kl"]
        assert abs(row["behind"] - divergence) < 5 * row["behind_se"], row["approximation"]


def test_damping_is_chosen_on_other_gradients_than_those_that_judge(drawn) -> None:
    _, models, D = drawn
    kfac, dampings = {"K-FAC": models["K-FAC"]}, [LAM / 100, LAM, 100 * LAM]
    row = quality.held_out(kfac, D[:2000], D[2000:2100], dampings)[0]
    assert row["damping"] == LAM and row["floats"] == models["K-FAC"].floats
    density = quality.log_density(models["K-FAC"], D[2000:2100], LAM)
    assert row["nats"] == pytest.approx(density.mean())
    assert row["nats_se"] == pytest.approx(density.std(ddof=1) / 10)
    assert quality.held_out(kfac, 20 * D[:100], D[2000:2100], dampings)[0]["damping"] == 100 * LAM


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, D: quality.log_density(m, D[:, 1:]), r"gradients of shape \(N, 46\), got \(9, 45\)"),
        (lambda m, D: quality.log_density(m, D[0]), r"expected gradients of shape \(N, 46\), got \(46,\)"),
        (
            lambda m, D: quality.held_out({"K": m}, D, D[:1], [LAM]),
            "expected models, dampings and at least two test gradients, got 1, 1 and 1",
        ),
        (
            lambda m, D: quality.held_out({}, D, D, []),
            "expected models, dampings and at least two test gradients, got 0, 0 and 9",
        ),
        (
            lambda m, D: quality.gradients_of(CASES["categorical"].signals()),
            "expected one target per example, got 3 terms; use targets='sampled'",
        ),
    ],
)  # fmt: skip
def test_wrong_input_is_refused(drawn, call, message) -> None:
    _, models, D = drawn
    with pytest.raises(ValueError, match=message):
        call(models["K-FAC"], D[:9])
