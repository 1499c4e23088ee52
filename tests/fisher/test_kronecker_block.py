"""A (x) G as an object: its damping, and matrices from factors that were averaged elsewhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikfac import fisher
from oracles import EXACT, FLOAT32, error
from oracles.fisher import factored, make_case


def random_factors(seed: int, inputs: int = 4, outputs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, g = rng.standard_normal((inputs, inputs)), rng.standard_normal((outputs, outputs))
    return a @ a.T, g @ g.T


@given(seed=st.integers(0, 2**16), c=st.floats(1e-3, 1e3), lam=st.floats(1e-4, 10))
def test_factored_damping_ignores_how_scale_is_shared_out(seed: int, c: float, lam: float) -> None:
    A, G = random_factors(seed)
    one = fisher.Kronecker([(A, G)]).damped(lam, "factored").to_dense()
    other = fisher.Kronecker([(c * A, G / c)]).damped(lam, "factored").to_dense()
    assert error(other, one) < EXACT


@given(a=st.floats(1e-3, 1e3), g=st.floats(1e-3, 1e3), lam=st.floats(1e-4, 10))
def test_factored_damping_of_identities_adds_their_roots(a: float, g: float, lam: float) -> None:
    """(a + pi r) (g + r / pi) = (sqrt(a g) + r)^2, r = sqrt(lam): more than a g + lam even here."""
    F = fisher.Kronecker([(a * np.eye(4), g * np.eye(3))])
    expected = (np.sqrt(a * g) + np.sqrt(lam)) ** 2 * np.eye(12)
    assert error(F.damped(lam, "factored").to_dense(), expected) < EXACT


def test_factored_damping_is_exact_only_on_a_block_of_zeros() -> None:
    A, G = random_factors(0)
    for zeros in ((A, 0 * G), (0 * A, G), (0 * A, 0 * G)):
        assert error(fisher.Kronecker([zeros]).damped(0.5, "factored").to_dense(), 0.5 * np.eye(12)) < EXACT
    assert (
        error(fisher.Kronecker([(A, 1e-3 * G)]).damped(0.5, "factored").to_dense(), 0.5 * np.eye(12)) > 1e-3
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("small", [0.0, 1e-40, 1e-30, 1e-20])
def test_a_vanishing_factor_leaves_the_damping_alone(dtype, small):
    """As of a net with saturated outputs: (A (x) 0 + lam I)^-1 v = v / lam, with no jump at 0."""
    A, G = np.eye(4, dtype=dtype), np.full((3, 3), small, dtype=dtype)
    v = np.arange(1, 13, dtype=dtype)
    for pair in ((A, G), (G, A)):
        solution = fisher.Kronecker([pair]).solve(v, damping=0.01, method="factored")
        assert error(solution, v / dtype(0.01)) < (FLOAT32 if dtype == np.float32 else 1e-8)


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


@given(seed=st.integers(0, 2**16), lam=st.floats(0, 10, allow_subnormal=False))
def test_damped_factors_are_those_of_the_paper(seed: int, lam: float) -> None:
    A, G = random_factors(seed)
    damped = fisher.factored_damping(A, G, lam)
    for M, expected in zip(damped, factored(A, G, lam), strict=True):
        assert error(M, expected) < EXACT


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


# factors from elsewhere ------------------------------------------------------------------------------------


def test_factors_averaged_elsewhere_make_the_same_matrix() -> None:
    F = fisher.kfac(make_case((3, 4, 3, 3)).signals())
    G = fisher.Kronecker([(block.A, block.G) for block in F.blocks])
    assert (F.to_dense() == G.to_dense()).all()
    assert [block.name for block in G.blocks] == ["layer0", "layer1", "layer2"]


def test_factors_are_square_with_one_name_per_pair() -> None:
    A, G = random_factors(0)
    with pytest.raises(ValueError, match=r"expected a square array for A of layer0, got shape \(4, 3\)"):
        fisher.Kronecker([(A[:, :3], G)])
    with pytest.raises(ValueError, match=r"expected a square array for G of b, got shape \(3,\)"):
        fisher.Kronecker([(A, G), (A, G[0])], ["a", "b"])
    with pytest.raises(ValueError, match="expected 1 names, one per pair of factors, got 2"):
        fisher.Kronecker([(A, G)], ["a", "b"])
    with pytest.raises(ValueError, match="expected at least one block, got none"):
        fisher.Kronecker([])
