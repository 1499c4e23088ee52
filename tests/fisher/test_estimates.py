"""Estimates from products against the dense matrix, in standard errors over many seeds."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg

import minikfac as mk
from minikfac import fisher
from oracles import EXACT, SOLVE, error
from oracles.fisher import Case, make_case

SEEDS = range(40)
CASE = make_case((6, 7, 5), "tanh", "bernoulli", n=30)
PRODUCT = fisher.product(CASE.net, CASE.theta, CASE.x)
DENSE = fisher.exact(CASE.signals()).array


def gradient(case: Case) -> np.ndarray:
    return case.net.gradient(case.theta, case.x, case.y)


def judge(z: np.ndarray) -> None:
    """z-scores of independent seeds have mean 0 and a spread near 1, with the tails of few samples."""
    assert abs(z.mean()) < 5 * 1.3 / len(z) ** 0.5
    assert 0.6 < np.sqrt((z**2).mean()) < 1.7
    assert abs(z).max() < 7


# trace and diagonal ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [0, 8, None])
def test_trace_and_diagonal_are_the_dense_ones_within_standard_errors(leading: int | None) -> None:
    traces = [fisher.estimate_trace(PRODUCT, 30, leading, seed) for seed in SEEDS]
    judge(np.array([(value - DENSE.trace()) / sd for value, sd in traces]))
    diagonals = [fisher.estimate_diagonal(PRODUCT, 30, leading, seed) for seed in SEEDS]
    z = np.array([(value - DENSE.diagonal()) / sd for value, sd in diagonals])
    assert z.shape == (len(SEEDS), len(DENSE))
    assert 0.8 < np.sqrt((z**2).mean()) < 1.25
    assert abs(z.mean(0)).max() < 5 * 1.3 / len(SEEDS) ** 0.5


def test_an_estimate_of_another_matrix_is_far_off() -> None:
    """The negative control: 30 percent more is noticed."""
    z = [(fisher.estimate_trace(1.3 * PRODUCT, 30, 10, seed)) for seed in SEEDS]
    assert np.median([(value - DENSE.trace()) / sd for value, sd in z]) > 5


def test_the_leading_subspace_pays_where_few_eigenvalues_are_large() -> None:
    """And costs where all are about the same: then more random vectors are better."""

    def errors(F: fisher.FisherMatrix, leading: int) -> float:
        return float(np.mean([fisher.estimate_trace(F, 30, leading, seed).standard_error for seed in SEEDS]))

    Q = scipy.linalg.orth(np.random.default_rng(0).standard_normal((80, 80)))
    steep = fisher.DenseMatrix((Q / np.arange(1.0, 81) ** 2) @ Q.T)
    assert errors(steep, 10) < errors(steep, 0) / 10
    flat = fisher.DenseMatrix((Q * np.linspace(0.9, 1.1, 80)) @ Q.T)
    assert errors(flat, 0) < errors(flat, 20)


def test_without_an_off_diagonal_there_is_nothing_to_estimate() -> None:
    F = fisher.DenseMatrix(np.diag(np.arange(1.0, 9)))
    assert fisher.estimate_trace(F, 5, 0) == (36, 0)
    value, sd = fisher.estimate_diagonal(F, 5, 0)
    assert (value == np.arange(1.0, 9)).all() and (sd == 0).all()


def test_a_subspace_that_is_everything_makes_no_error() -> None:
    F = fisher.exact(make_case((2, 2), output="bernoulli", n=9).signals())
    value, sd = fisher.estimate_trace(F, 20, 6)
    assert value == pytest.approx(F.trace(), rel=EXACT) and sd < EXACT
    assert error(fisher.estimate_diagonal(F, 20, 6).value, F.diagonal()) < SOLVE


@pytest.mark.parametrize("estimate", [fisher.estimate_trace, fisher.estimate_diagonal])
def test_too_few_products_are_refused(estimate: Callable) -> None:
    with pytest.raises(ValueError, match=r"at least 2 products beyond the 5 of a leading .* got 6 in all"):
        estimate(PRODUCT, 6, 4)
    with pytest.raises(ValueError, match="expected products to be a whole number >= 1, got 0"):
        estimate(PRODUCT, 0)
    with pytest.raises(ValueError, match="expected leading to be a whole number >= 0, got -1"):
        estimate(PRODUCT, 9, -1)


# spectral density -------------------------------------------------------------------------------------------


def moments(density: fisher.SpectralDensity, power: int) -> tuple[float, float]:
    samples = (density.weights * density.nodes**power).sum(1)
    return samples.mean(), samples.std(ddof=1) / len(samples) ** 0.5


def test_moments_of_the_density_are_those_of_the_eigenvalues() -> None:
    values = np.linalg.eigvalsh(DENSE)
    densities = [fisher.spectral_density(PRODUCT, 12, 10, seed=seed) for seed in range(20)]
    for power in (1, 2):
        pairs = [moments(density, power) for density in densities]
        judge(np.array([(mean - (values**power).mean()) / sd for mean, sd in pairs]))
    density = densities[0]
    assert density.weights.sum(1) == pytest.approx(np.ones(10), rel=EXACT)
    assert density.highest[0] == pytest.approx(values[-1], rel=SOLVE)
    assert density.highest[0] <= values[-1] * (1 + EXACT) and density.lowest[0] >= values[0] - EXACT


def test_an_eigenvalue_is_no_further_than_the_residual() -> None:
    values = np.linalg.eigvalsh(DENSE)
    for steps in (3, 6, 12):
        density = fisher.spectral_density(PRODUCT, steps)
        for node, residual in (density.lowest, density.highest):
            assert abs(values - node).min() <= residual + EXACT


def test_the_negative_part_of_an_indefinite_hessian_is_shown() -> None:
    case = make_case((6, 7, 5), "tanh", "bernoulli", n=30, scale=2)
    H = fisher.hessian(case.net, case.theta, case.x, case.y)
    values = np.linalg.eigvalsh((H.to_dense() + H.to_dense().T) / 2)
    expected = (values < -1e-3 * values[-1]).mean()
    assert 0.1 < expected < 0.9
    densities = [fisher.spectral_density(H, 40, 6, seed=seed) for seed in SEEDS]
    shares = [density.share(-np.inf, -1e-3 * values[-1]) for density in densities]
    judge(np.array([(value - expected) / sd for value, sd in shares]))
    assert densities[0].lowest[0] == pytest.approx(values[0], rel=1e-6)
    assert f"lowest eigenvalue {values[0]:.3g}" in " ".join(str(densities[0]).split())
    assert "share of eigenvalues under -" in str(densities[0])
    ax = densities[0].plot()
    assert f"{shares[0].value:.1%} of the eigenvalues are under -" in ax.get_title()


@pytest.mark.parametrize("kind", [fisher.kfac, fisher.ekfac, fisher.diagonal, fisher.block_diagonal])
def test_the_preconditioned_density_is_that_of_the_pencil(kind: Callable) -> None:
    lam, M = 0.05, kind(CASE.signals())
    values = scipy.linalg.eigh(DENSE + lam * np.eye(len(DENSE)), M.damped(lam).to_dense(), eigvals_only=True)
    inverse = M.inverse(lam, explicit=True)
    density = fisher.spectral_density(PRODUCT.damped(lam), 40, 20, precondition=inverse)
    mean, sd = moments(density, 1)
    assert abs(mean - values.mean()) < 5 * sd
    assert density.highest[0] == pytest.approx(values[-1], rel=1e-6)
    assert density.lowest[0] == pytest.approx(values[0], rel=1e-3)
    assert "preconditioned" in repr(density)


def test_bad_arguments_of_a_density_are_refused() -> None:
    K = fisher.kfac(CASE.signals())
    with pytest.raises(TypeError, match=r"preconditioner of eigenblocks, diagonals .* got CholeskySolver"):
        fisher.spectral_density(PRODUCT, precondition=fisher.exact(CASE.signals()).inverse(0.1))
    with pytest.raises(ValueError, match=r"expected a preconditioner of shape \(89, 89\), got \(49, 49\)"):
        fisher.spectral_density(PRODUCT, precondition=K.blocks[0].inverse(0.1))
    with pytest.raises(ValueError, match="expected vectors to be a whole number >= 2, got 1"):
        fisher.spectral_density(PRODUCT, vectors=1)
    with pytest.raises(ValueError, match="expected steps to be a whole number >= 1, got 0"):
        fisher.spectral_density(PRODUCT, 0)


# products that do not fit -----------------------------------------------------------------------------------


def test_a_product_of_another_size_is_named() -> None:
    F = fisher.MatrixFree(lambda v: v[:-1], CASE.theta, "my matrix")
    with pytest.raises(ValueError, match=r"expected my matrix to map \(89,\) to \(89,\), got \(88,\)"):
        F @ CASE.theta


def test_blocks_of_products_are_the_exact_blocks() -> None:
    case = make_case((3, 4, 3), output="bernoulli", n=30)
    net = mk.Network(
        [mk.layers.Conv2d(2, 3, 3), mk.layers.GroupNorm(1, 3), mk.layers.Tanh(), mk.layers.Flatten()]
        + [mk.layers.Dense(12, 4)],
        mk.outputs.Categorical(),
    )
    rng = np.random.default_rng(0)
    images, theta = rng.standard_normal((7, 4, 4, 2)), net.init(rng)
    for at in ((case.net, case.theta, case.x), (net, theta, images)):
        F = fisher.product(*at).damped(0.1)
        expected = fisher.block_diagonal(fisher.signals(*at)).damped(0.1)
        blocks = fisher.BlockDiagonal(F.blocks)
        assert error(blocks.to_dense(), expected.to_dense()) < EXACT
        assert error(blocks.solve(at[1]), expected.solve(at[1])) < SOLVE
        assert [block.name for block in F.blocks] == [f"the block of {name}" for name in at[0].names]
    y = rng.integers(0, 4, 7)
    G = fisher.gauss_newton(net, theta, images, y)
    assert error(G.blocks[1].to_dense(), G.to_dense()[net.slices[1], net.slices[1]]) < EXACT
