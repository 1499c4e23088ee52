"""The block-tridiagonal version of K-FAC, against its formulas written in dense matrices [MG15, sec. 4.3]."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikfac as mk
from minikfac import fisher
from minikfac.linalg import SingularMatrixError
from oracles import EXACT, SOLVE, error
from oracles.fisher import Case, chain, cross_factors, factored, make_case, random_signals


def digit_like(sizes: tuple[int, ...] = (6, 5, 4, 3), n: int = 200, output: str = "bernoulli") -> Case:
    """Inputs that are a few smooth patterns and some noise, so that no factor is singular."""
    case = make_case(sizes, "tanh", output, n=n, seed=3, scale=2)  # mildly curved nets are near 0 / 0
    rng = np.random.default_rng(0)
    case.x[:] = np.tanh(rng.standard_normal((n, 3)) @ rng.standard_normal((3, sizes[0]))) + 0.3 * case.x
    return case


CASE = digit_like()


def pairs(case: Case) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[tuple[np.ndarray, np.ndarray]]]:
    """Factors of every layer and of every two neighbours, by loops over examples and targets."""
    layers = range(len(case.Ws))
    factors = [cross_factors(case, layer, layer) for layer in layers]
    return factors, [cross_factors(case, layer, layer + 1) for layer in layers[:-1]]


FACTORS, CROSS = pairs(CASE)


@pytest.mark.parametrize("batch_size", [None, 37])
def test_factors_of_layers_and_of_neighbours(batch_size: int | None) -> None:
    F = fisher.block_tridiagonal(CASE.signals(batch_size=batch_size))
    assert (len(F.factors), len(F.cross)) == (3, 2)
    for pair, expected in zip(F.factors + F.cross, FACTORS + CROSS, strict=True):
        assert error(pair[0], expected[0]) < EXACT
        assert error(pair[1], expected[1]) < EXACT


# T1: the chain without damping ---------------------------------------------------------------------------


def test_the_chain_agrees_on_the_tridiagonal_and_not_elsewhere() -> None:
    Fhat = fisher.block_tridiagonal(CASE.signals()).to_dense()
    Ftilde = fisher.khatri_rao(CASE.signals()).to_dense()
    for layer, rows in enumerate(CASE.slices):
        for other, columns in enumerate(CASE.slices):
            off = error(Fhat[rows, columns], Ftilde[rows, columns])
            if abs(layer - other) <= 1:
                assert off < SOLVE
            else:
                assert off > 0.05


@pytest.mark.parametrize("lam", [0, 0.01])
def test_the_inverse_is_zero_beyond_the_tridiagonal(lam: float) -> None:
    F = fisher.block_tridiagonal(CASE.signals())
    inverse = F.inverse(lam).to_dense()
    by_products = F.inverse(lam) @ np.eye(len(CASE.theta))
    first, middle, last = CASE.slices
    for M in (inverse, by_products):
        assert (M[first, last] == 0).all() and (M[last, first] == 0).all()
        for above in (M[first, middle], M[middle, last]):
            assert np.linalg.norm(above) > 0.05 * np.linalg.norm(M[middle, middle])


def test_kfac_has_another_inverse() -> None:
    """Negative control: the neighbours matter."""
    F = fisher.block_tridiagonal(CASE.signals()).inverse(0.01).to_dense()
    assert error(fisher.kfac(CASE.signals()).inverse(0.01, "factored").to_dense(), F) > 0.05


def test_two_layers_are_a_chain_without_loss() -> None:
    case = digit_like((5, 4, 3))
    Fhat = fisher.block_tridiagonal(case.signals())
    Ftilde = fisher.khatri_rao(case.signals())
    assert error(Fhat.to_dense(), Ftilde.to_dense()) < SOLVE
    assert error(Fhat.inverse().to_dense(), np.linalg.inv(Ftilde.to_dense())) < SOLVE


@pytest.mark.parametrize("lam", [0, 0.1])
def test_one_layer_is_kfac(lam: float) -> None:
    signals = digit_like((5, 3)).signals()
    chain_of_one, block = fisher.block_tridiagonal(signals), fisher.kfac(signals)
    assert error(chain_of_one.to_dense(), block.to_dense()) < EXACT
    inverse = chain_of_one.inverse(lam).to_dense()
    assert error(inverse, block.inverse(lam, "factored").to_dense()) < SOLVE


# against the dense formulas ------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0, 1e-3, 0.1, 10])
def test_products_and_solves_are_those_of_the_dense_formulas(lam: float) -> None:
    factors = [factored(A, G, lam) for A, G in FACTORS] if lam else FACTORS
    Fhat, inverse = chain(factors, CROSS)
    assert error(Fhat @ inverse, np.eye(len(Fhat))) < SOLVE  # the oracle agrees with itself
    F = fisher.block_tridiagonal(CASE.signals())
    rng = np.random.default_rng(0)
    for v in (rng.standard_normal(len(Fhat)), rng.standard_normal((len(Fhat), 4))):
        assert error(F.damped(lam) @ v, Fhat @ v) < SOLVE
        assert error(F.solve(v, lam), inverse @ v) < SOLVE
    assert error(F.damped(lam).to_dense(), Fhat) < SOLVE
    assert error(F.inverse(lam).to_dense(), inverse) < SOLVE
    assert F.logdet(lam) == pytest.approx(np.linalg.slogdet(Fhat)[1], rel=SOLVE)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    lam=st.floats(0.01, 10),
    seed=st.integers(0, 2**16),
)
def test_chains_of_any_sizes(sizes: list[int], lam: float, seed: int) -> None:
    case = make_case(sizes, output="bernoulli", n=30, seed=seed)
    F = fisher.block_tridiagonal(case.signals())
    factors = [factored(A, G, lam) for A, G in F.factors]
    Fhat, inverse = chain(factors, F.cross)
    assert error(F.damped(lam).to_dense(), Fhat) < SOLVE
    assert error(F.inverse(lam).to_dense(), inverse) < SOLVE


def test_damping_leaves_the_factors_between_layers_raw() -> None:
    F = fisher.block_tridiagonal(CASE.signals())
    for damped, raw in zip(F.damped(0.1).cross, F.cross, strict=True):
        assert (damped[0] == raw[0]).all() and (damped[1] == raw[1]).all()
    for damped, (A, G) in zip(F.damped(0.1).factors, F.factors, strict=True):
        for M, expected in zip(damped, factored(A, G, 0.1), strict=True):
            assert error(M, expected) < EXACT


def test_blocks_are_kfacs() -> None:
    F = fisher.block_tridiagonal(CASE.signals())
    for block, other in zip(F.blocks, fisher.kfac(CASE.signals()).blocks, strict=True):
        assert block.name == other.name
        assert error(block.to_dense(), other.to_dense()) < EXACT


# where the chain does not exist --------------------------------------------------------------------------


def test_deep_linear_nets_with_squared_error_need_damping() -> None:
    """The upper layer's derivatives, all of one covariance, explain all of the lower one's: 0 / 0."""
    case = make_case((5, 3, 4), "identity", "gaussian", n=50)
    F = fisher.block_tridiagonal(case.signals())
    message = r"dense0, times G of dense0, minus the part explained by the next layer, has .*; add damping"
    with pytest.raises(SingularMatrixError, match=message):
        F.inverse()
    with pytest.raises(SingularMatrixError, match="add damping"):
        F @ np.ones(len(case.theta))
    v = np.ones(len(case.theta))
    assert error(F.damped(0.1) @ F.solve(v, 0.1), v) < SOLVE


def test_softmax_needs_damping() -> None:
    F = fisher.block_tridiagonal(digit_like(output="categorical").signals())
    with pytest.raises(SingularMatrixError, match=r"G of dense2 \(3 x 3\) has numerical rank 2"):
        F.inverse()
    with pytest.raises(SingularMatrixError, match="G of dense2"):
        F.to_dense()


@pytest.mark.parametrize(
    "signals",
    [
        random_signals(),  # several locations
        CASE.signals().select([0, 2]),
        CASE.signals().select([1, 0]),
    ],
    ids=["locations", "a gap", "another order"],
)
def test_anything_but_a_chain_of_dense_layers_is_refused(signals: fisher.Signals) -> None:
    with pytest.raises(ValueError, match="expected a chain of dense layers for block_tridiagonal, got"):
        fisher.block_tridiagonal(signals)


def test_part_of_a_chain_is_a_chain() -> None:
    part = fisher.block_tridiagonal(CASE.signals().select([1, 2]))
    Fhat = chain(FACTORS[1:], CROSS[1:])[0]
    assert error(part.to_dense(), Fhat) < SOLVE


def test_pointwise_layers_do_not_break_the_chain() -> None:
    layers = mk.layers
    net = mk.Network(
        [layers.Dense(3, 4), layers.Tanh(), layers.Logistic(), layers.Dense(4, 2)], mk.outputs.Bernoulli()
    )
    rng = np.random.default_rng(0)
    signals = fisher.signals(net, net.init(rng), rng.standard_normal((20, 3)))
    assert len(fisher.block_tridiagonal(signals).factors) == 2
