"""Kronecker products, positive semi-definite matrices, conjugate gradients and extreme eigenvalues."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikfac import linalg
from oracles import EXACT, FLOAT32, close, random_psd

sizes = st.integers(1, 7)
seeds = st.integers(0, 10_000)
NUMBERS = {np.float64: EXACT, np.float32: FLOAT32}
dtypes = st.sampled_from(list(NUMBERS))


def off_diagonal_of_1_to_3(n: int) -> np.ndarray:
    return np.diag(np.linspace(1, 3, n)) + 0.1 * np.ones((n, n))


# Kronecker products --------------------------------------------------------------


@given(sizes, sizes, sizes, sizes, st.integers(0, 3), seeds)
def test_kron_apply_is_the_kronecker_product_times_a_vector(i, i2, o, o2, m, seed):
    rng = np.random.default_rng(seed)
    A, G = rng.standard_normal((i2, i)), rng.standard_normal((o2, o))
    v = rng.standard_normal((i * o, m) if m else i * o)
    close(linalg.kron_apply(A, G, v), np.kron(A, G) @ v)


@given(sizes, sizes, sizes, sizes, seeds)
def test_kron_dense_is_the_kronecker_product(i, i2, o, o2, seed):
    rng = np.random.default_rng(seed)
    A, G = rng.standard_normal((i2, i)), rng.standard_normal((o2, o))
    close(linalg.kron_dense(A, G), np.kron(A, G))


@given(sizes, sizes, seeds)
def test_a_kronecker_product_acts_on_weights_from_both_sides(i, o, seed):
    rng = np.random.default_rng(seed)
    A, G, V = (rng.standard_normal(shape) for shape in ((i, i), (o, o), (i, o)))
    close(linalg.kron_apply(A, G, V.ravel()).reshape(i, o), A @ V @ G.T)


@given(sizes, sizes, sizes, seeds)
def test_products_of_kronecker_products_are_kronecker_products_of_products(i, o, m, seed):
    rng = np.random.default_rng(seed)
    A, B, G, H = (rng.standard_normal((n, n)) for n in (i, i, o, o))
    v = rng.standard_normal((i * o, m))
    twice = linalg.kron_apply(A, G, linalg.kron_apply(B, H, v))
    close(twice, linalg.kron_apply(A @ B, G @ H, v))


@pytest.mark.parametrize("sign", [1, -1])
@given(sizes, sizes, seeds)
def test_kron_sum_solver_inverts_the_sum(sign, i, o, seed):
    rng = np.random.default_rng(seed)
    A, G = random_psd(rng, i), random_psd(rng, o)
    C, D = (rng.uniform(0.1, 0.9) * (M - 0.4 * np.eye(len(M))) for M in (A, G))  # 0 <= C < A, 0 <= D < G
    K1, K2, scale = linalg.kron_sum_solver(A, G, C, D, sign)
    v = rng.standard_normal((i, o))
    V = K1 @ ((K1.T @ v @ K2) * scale) @ K2.T
    expected = np.linalg.solve(np.kron(A, G) + sign * np.kron(C, D), v.ravel())
    close(V.ravel(), expected)


def test_kron_sum_solver_clips_rounding_outside_0_to_1():
    one = np.eye(3)
    for sign, expected in ((-1, [0.0, 0.5, 1.0]), (1, [0.0, 0.5, 1.5])):
        scale = linalg.kron_sum_solver(one, one, np.diag([-0.1, 0.5, 1.5]), 0.5 * one, sign)[2]
        close(1 / scale[:, 0], 1 + sign * 0.5 * np.array(expected))


def test_kron_sum_solver_refuses_a_difference_that_is_singular():
    A, G = off_diagonal_of_1_to_3(3), off_diagonal_of_1_to_3(2)
    with pytest.raises(
        linalg.SingularMatrixError, match=r"P, times Q, minus the part .* has a larger one; add damping"
    ):
        linalg.kron_sum_solver(A, G, A, G, -1, names=("P", "Q"))


@pytest.mark.parametrize("singular", [0, 1])
def test_kron_sum_solver_names_the_singular_factor(singular):
    factors = [off_diagonal_of_1_to_3(3), off_diagonal_of_1_to_3(3)]
    factors[singular] = np.ones((3, 3))
    with pytest.raises(linalg.SingularMatrixError, match=rf"{'PQ'[singular]} \(3 x 3\) has numerical rank 1"):
        linalg.kron_sum_solver(*factors, np.zeros((3, 3)), np.zeros((3, 3)), 1, names=("P", "Q"))


# Cholesky --------------------------------------------------------------


@given(st.integers(1, 30), seeds, dtypes, st.floats(-8, 8))
def test_cholesky_times_its_transpose_is_the_matrix(n, seed, dtype, log_scale):
    M = random_psd(np.random.default_rng(seed), n).astype(dtype) * dtype(10**log_scale)
    before = M.copy()
    L = linalg.cholesky(M)
    assert L.dtype == dtype
    assert not np.triu(L, 1).any()
    tolerance = NUMBERS[dtype]
    close(L @ L.T / M.max(), M / M.max(), tolerance)
    close(M, before, 0)


def test_cholesky_may_work_in_the_memory_of_the_matrix():
    M = off_diagonal_of_1_to_3(5)
    expected = linalg.cholesky(M)
    L = linalg.cholesky(M, overwrite=True)
    assert np.shares_memory(L, M)
    close(L, expected)


@given(st.integers(2, 40), st.data(), seeds, dtypes, st.floats(-8, 8))
def test_cholesky_names_a_singular_matrix_and_its_rank(n, data, seed, dtype, log_scale):
    rank = data.draw(st.integers(1, n - 1))
    M = (random_psd(np.random.default_rng(seed), n, rank) * 10**log_scale).astype(dtype)
    message = (
        rf"expected a positive definite matrix, but F \({n} x {n}\) has numerical rank {rank}; add damping"
    )
    with pytest.raises(linalg.SingularMatrixError, match=message):
        linalg.cholesky(M, "F")


@given(st.integers(2, 80), st.data(), seeds, dtypes, st.floats(-8, 8))
def test_cholesky_refuses_gram_matrices_of_fewer_vectors_than_dimensions(n, data, seed, dtype, log_scale):
    vectors = data.draw(st.integers(1, n - 1))
    X = np.random.default_rng(seed).standard_normal((vectors, n)).astype(dtype)
    with pytest.raises(linalg.SingularMatrixError, match="F"):
        linalg.cholesky(X.T @ X * dtype(10**log_scale), "F")


def test_cholesky_accepts_a_condition_number_of_a_million():
    M = np.diag(np.geomspace(1e-6, 1, 20))
    close(linalg.cholesky(M), M**0.5)


def test_cholesky_refuses_zeros_and_indefinite_matrices():
    with pytest.raises(linalg.SingularMatrixError, match="numerical rank 0"):
        linalg.cholesky(np.zeros((3, 3)))
    with pytest.raises(linalg.SingularMatrixError, match="numerical rank 1"):
        linalg.cholesky(np.diag([1.0, -1.0]))


def test_cholesky_does_without_the_rank_where_the_matrix_is_overwritten():
    message = r"F \(3 x 3\) is not positive definite to working precision; add damping"
    with pytest.raises(linalg.SingularMatrixError, match=message):
        linalg.cholesky(np.ones((3, 3)), "F", overwrite=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0), (4, 4), (3, 1)])
@pytest.mark.parametrize("overwrite", [False, True])
def test_cholesky_refuses_nan_and_infinity(bad, place, overwrite):
    M = np.eye(5)
    M[place] = M[place[::-1]] = bad
    with pytest.raises(ValueError, match=r"expected finite numbers, but F \(5 x 5\) has NaN or infinity"):
        linalg.cholesky(M, "F", overwrite)


@given(st.integers(2, 12), seeds, dtypes)
def test_cholesky_refuses_the_fisher_matrix_of_a_softmax(n, seed, dtype):
    """Its null vector is spread over all entries, so that no pivot need be small."""
    p = np.random.default_rng(seed).dirichlet(np.ones(n), 30)
    g = np.concatenate([np.sqrt(p[:, [k]]) * (p - np.eye(n)[k]) for k in range(n)]).astype(dtype)
    G = g.T @ g / 30
    with pytest.raises(linalg.SingularMatrixError, match=f"G .* rank {n - 1}"):
        linalg.cholesky(G, "G")


@pytest.mark.parametrize(("dtype", "damping"), [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_cholesky_accepts_a_large_singular_matrix_once_it_is_damped(dtype, damping):
    X = np.random.default_rng(0).standard_normal((20, 1000)).astype(dtype)
    M = X.T @ X / 20
    with pytest.raises(linalg.SingularMatrixError):
        linalg.cholesky(M.copy())
    linalg.cholesky(M + damping * np.eye(1000, dtype=dtype))


def test_full_rank_may_be_indefinite_to_working_precision():
    """Kahan's: even with pivoting no pivot is small, and the smallest eigenvalue is under eps."""
    n, c, s = 36, 0.5, 0.75**0.5
    R = (s ** np.arange(n))[:, None] * (np.eye(n) - c * np.triu(np.ones((n, n)), 1))
    R *= 1 - 1e-6 * np.arange(n)  # the pivots' order is no tie
    assert linalg.rank(R.T @ R) == n
    with pytest.raises(
        linalg.SingularMatrixError, match=r"F .* is not positive definite to working precision"
    ):
        linalg.cholesky(R.T @ R, "F")


@given(st.integers(1, 20), st.integers(0, 3), seeds)
def test_triangular_and_cholesky_solves_undo_products(n, m, seed):
    rng = np.random.default_rng(seed)
    M = random_psd(rng, n)
    L = linalg.cholesky(M)
    b = rng.standard_normal((n, m) if m else n)
    close(L @ linalg.triangular_solve(L, b), b)
    close(L.T @ linalg.triangular_solve(L, b, transposed=True), b)
    close(linalg.cholesky_solve(L, b), np.linalg.solve(M, b))


@pytest.mark.parametrize("n", [1, 2, 511, 512, 513, 1100])
def test_cholesky_inverse_is_the_inverse_and_symmetric(n):
    M = off_diagonal_of_1_to_3(n)
    inverse = linalg.cholesky_inverse(linalg.cholesky(M))
    close(inverse, np.linalg.inv(M))
    close(inverse, inverse.T, 0)


# spectra --------------------------------------------------------------


@given(st.integers(1, 40), st.data(), seeds, dtypes, st.floats(-8, 8))
def test_rank_is_that_of_numpy(n, data, seed, dtype, log_scale):
    expected = data.draw(st.integers(0, n))
    M = (random_psd(np.random.default_rng(seed), n, expected) * 10**log_scale).astype(dtype)
    assert linalg.rank(M) == np.linalg.matrix_rank(M, hermitian=True) == expected


@given(st.integers(1, 20), st.data(), seeds, dtypes)
def test_pseudo_inverse_is_that_of_numpy(n, data, seed, dtype):
    M = random_psd(np.random.default_rng(seed), n, data.draw(st.integers(0, n)))
    inverse = linalg.pseudo_inverse(M.astype(dtype))
    assert inverse.dtype == dtype
    close(inverse, np.linalg.pinv(M, rcond=1e-6, hermitian=True), NUMBERS[dtype])


@given(st.integers(1, 20), st.data(), seeds)
def test_eigh_clips_what_rounding_made_negative(n, data, seed):
    M = random_psd(np.random.default_rng(seed), n, data.draw(st.integers(0, n)))
    values, vectors = linalg.eigh(M)
    assert (values >= 0).all() and (np.diff(values) >= 0).all()
    close((vectors * values) @ vectors.T, M)


def test_symmetrize_averages_a_matrix_with_its_transpose():
    close(linalg.symmetrize(np.array([[1.0, 2.0], [4.0, 3.0]])), [[1, 3], [3, 3]])


@pytest.mark.parametrize("n", [3, 20, 64, 65, 150])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
def test_extreme_eigenpairs_are_those_of_a_dense_decomposition(n, k, which):
    M = np.random.default_rng(n).standard_normal((n, n))
    M = M + M.T - 0.3 * n**0.5 * np.eye(n)  # more on the negative side: "LM" and "LA" differ
    values, vectors = linalg.extreme_eigenpairs(lambda v: M @ v, np.empty(n), k, which)
    every = np.linalg.eigvalsh(M)
    expected = {"LA": every[-k:], "SA": every[:k], "LM": np.sort(every[np.argsort(abs(every))[-k:]])}
    np.testing.assert_allclose(values, expected[which], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(M @ vectors, vectors * values, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n", [10, 100])
def test_extreme_eigenpairs_depend_on_dtype_and_seed_alone(n):
    scale = np.linspace(1, 2, n, dtype=np.float32)
    pairs = [linalg.extreme_eigenpairs(lambda v: scale * v, np.empty(n, np.float32), 2) for _ in range(2)]
    assert {array.dtype for pair in pairs for array in pair} == {np.dtype(np.float32)}
    close(pairs[0][1], pairs[1][1], 0)


@pytest.mark.parametrize("k", [0, 6, -1])
def test_extreme_eigenpairs_refuse_a_number_beyond_the_size(k):
    with pytest.raises(ValueError, match=f"expected k from 1 to 5 eigenvalues, got {k}"):
        linalg.extreme_eigenpairs(lambda v: v, np.ones(5), k)


def test_extreme_eigenpairs_refuse_an_unknown_end_of_the_spectrum():
    with pytest.raises(ValueError, match="expected which 'LA', 'SA' or 'LM', got 'largest'"):
        linalg.extreme_eigenpairs(lambda v: v, np.ones(5), which="largest")


# conjugate gradients --------------------------------------------------------------


@given(st.integers(1, 30), seeds)
def test_conjugate_gradients_solve_in_at_most_n_iterations(n, seed):
    rng = np.random.default_rng(seed)
    M, b = random_psd(rng, n), rng.standard_normal(n)
    result = linalg.conjugate_gradients(lambda v: M @ v, b, tolerance=1e-10)
    assert result.converged and result.iterations <= n
    np.testing.assert_allclose(result.x, np.linalg.solve(M, b), rtol=1e-7, atol=1e-8)


@given(st.integers(1, 30), seeds)
def test_the_exact_inverse_as_preconditioner_converges_in_one_iteration(n, seed):
    rng = np.random.default_rng(seed)
    M, b = random_psd(rng, n, low=1e-3), rng.standard_normal(n)
    inverse = np.linalg.inv(M)
    result = linalg.conjugate_gradients(lambda v: M @ v, b, 1e-8, precondition=lambda r: inverse @ r)
    assert result.converged and result.iterations == 1


def test_a_diagonal_preconditioner_saves_iterations():
    scale = np.geomspace(1, 1e4, 50)
    M, b = np.diag(scale) + 0.1, np.ones(50)
    plain = linalg.conjugate_gradients(lambda v: M @ v, b, max_iterations=500)
    helped = linalg.conjugate_gradients(lambda v: M @ v, b, precondition=lambda r: r / scale)
    assert helped.converged and helped.iterations < plain.iterations / 3


def test_conjugate_gradients_report_the_residual_that_is_left():
    M, b = np.diag(np.geomspace(1, 1e3, 20)), np.ones(20)
    result = linalg.conjugate_gradients(lambda v: M @ v, b, max_iterations=3)
    assert not result.converged and result.iterations == 3
    close(result.residual, np.linalg.norm(b - M @ result.x) / np.linalg.norm(b))


def test_conjugate_gradients_start_where_they_are_told():
    M, b = off_diagonal_of_1_to_3(6), np.arange(6.0)
    solution = np.linalg.solve(M, b)
    assert linalg.conjugate_gradients(lambda v: M @ v, b, x0=solution).iterations == 0
    start = np.ones(6)
    result = linalg.conjugate_gradients(lambda v: M @ v, b, 1e-12, x0=start)
    close(result.x, solution)
    close(start, np.ones(6), 0)


def test_conjugate_gradients_on_zero_are_zero():
    result = linalg.conjugate_gradients(lambda v: v, np.zeros(3), x0=np.ones(3))
    assert result.converged and result.iterations == 0 and not result.x.any()


def test_conjugate_gradients_stay_in_float32():
    M, b = off_diagonal_of_1_to_3(6).astype(np.float32), np.ones(6, np.float32)
    result = linalg.conjugate_gradients(lambda v: M @ v, b, precondition=lambda r: r / 2)
    assert result.x.dtype == np.float32
    close(result.x, np.linalg.solve(M, b), FLOAT32)


@pytest.mark.parametrize("last", [0.0, -1.0])
def test_conjugate_gradients_refuse_directions_without_positive_curvature(last):
    scale = np.array([1.0, 1.0, last])
    with pytest.raises(
        ValueError, match=r"expected a positive definite matrix, got curvature .* more damping"
    ):
        linalg.conjugate_gradients(lambda v: scale * v, np.array([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("sign", [0.0, -1.0])
def test_conjugate_gradients_refuse_a_preconditioner_that_is_not_definite(sign):
    with pytest.raises(
        ValueError, match=r"expected a positive definite preconditioner, got .* \(iteration 0\)"
    ):
        linalg.conjugate_gradients(lambda v: v, np.ones(3), precondition=lambda r: sign * r)


def test_kron_eigen_dense_is_the_product_of_its_parts() -> None:
    rng = np.random.default_rng(0)
    U_A, U_G, s = rng.normal(size=(4, 4)), rng.normal(size=(3, 3)), rng.random((4, 3))
    U = np.kron(U_A, U_G)
    np.testing.assert_allclose(linalg.kron_eigen_dense(U_A, U_G, s), (U * s.ravel()) @ U.T, rtol=1e-12)


def test_conjugate_gradients_show_each_iterate_and_its_value():
    rng = np.random.default_rng(0)
    M, b, start = random_psd(rng, 8), rng.standard_normal(8), rng.standard_normal(8)
    seen = []
    result = linalg.conjugate_gradients(
        lambda v: M @ v, b, 1e-12, x0=start, watch=lambda i, x, phi: bool(seen.append((i, x, phi)))
    )
    assert [i for i, _, _ in seen] == list(range(result.iterations + 1))
    close(seen[0][1], start)
    close(seen[-1][1], result.x, 0)
    for _, x, phi in seen:
        close(phi, 0.5 * x @ M @ x - b @ x)
    values = [phi for _, _, phi in seen]
    assert values == sorted(values, reverse=True)  # each minimizes over a larger space


def test_conjugate_gradients_stop_where_they_are_told():
    M, b = np.diag(np.geomspace(1, 1e3, 20)), np.ones(20)
    result = linalg.conjugate_gradients(lambda v: M @ v, b, watch=lambda i, x, phi: i == 3)
    same = linalg.conjugate_gradients(lambda v: M @ v, b, max_iterations=3)
    assert (result.iterations, result.converged) == (3, False)
    close(result.x, same.x, 0)
    seen = []
    zero = linalg.conjugate_gradients(lambda v: v, np.zeros(3), watch=lambda *args: bool(seen.append(args)))
    assert zero.converged
    assert [(i, phi) for i, _, phi in seen] == [(0, 0.0)]


# Krylov subspaces --------------------------------------------------------------


def spanned(vectors: list[np.ndarray]) -> np.ndarray:
    """The projection onto what some vectors span."""
    Q = np.linalg.qr(np.array([v / np.linalg.norm(v) for v in vectors]).T)[0]
    return Q @ Q.T


@given(st.integers(5, 9), st.integers(1, 4), st.booleans(), seeds)
def test_a_krylov_subspace_is_the_span_of_the_powers(n, size, preconditioned, seed):
    rng = np.random.default_rng(seed)
    M, b, more = random_psd(rng, n), rng.standard_normal(n), rng.standard_normal(n)
    C = rng.uniform(0.5, 2, n) if preconditioned else np.ones(n)
    powers = [C * b]
    for _ in range(size - 1):
        powers.append(C * (M @ powers[-1]))
    V, VMV = linalg.krylov_subspace(
        lambda v: M @ v, b, size, [more], (lambda v: C * v) if preconditioned else None
    )
    assert V.shape == (size + 1, n)
    close(V @ V.T, np.eye(size + 1))
    close(V.T @ V, spanned([*powers, more]), 1e-7)
    close(VMV, V @ M @ V.T)


def test_a_krylov_subspace_ends_where_the_matrix_leads_no_further():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    M = (Q * np.repeat([1.0, 2.0, 5.0], 3)) @ Q.T  # three eigenvalues: three dimensions
    b = rng.standard_normal(9)
    products = []
    V, VMV = linalg.krylov_subspace(lambda v: products.append(v) or M @ v, b, 8, [M @ b, np.zeros(9)])
    assert V.shape == (3, 9)
    assert len(products) == 3
    close(np.linalg.eigvalsh(VMV), [1, 2, 5])
    V, _ = linalg.krylov_subspace(lambda v: M @ v, b, 20, [rng.standard_normal(9)])
    assert len(V) == 4


def test_a_krylov_subspace_of_many_dimensions_stays_orthonormal():
    rng = np.random.default_rng(0)
    scale, b = np.geomspace(1e-2, 1e2, 60), rng.standard_normal(60)
    V, _ = linalg.krylov_subspace(lambda v: scale * v, b, 40)
    close(V @ V.T, np.eye(40))
    powers = np.array([scale**k * b for k in range(40)])  # the powers themselves are soon parallel
    powers /= np.linalg.norm(powers, axis=1, keepdims=True)
    assert np.linalg.matrix_rank(powers) < 20


def test_a_krylov_subspace_stays_float32_and_refuses_zero():
    M, b = off_diagonal_of_1_to_3(6).astype(np.float32), np.ones(6, np.float32)
    V, VMV = linalg.krylov_subspace(lambda v: M @ v, b, 3)
    assert V.dtype == VMV.dtype == np.float32
    with pytest.raises(ValueError, match="expected a vector b other than 0"):
        linalg.krylov_subspace(lambda v: v, np.zeros(3), 2)
    with pytest.raises(ValueError, match="expected a subspace of dimension >= 1, got 0"):
        linalg.krylov_subspace(lambda v: v, np.ones(3), 0)


# inverses without symmetry ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_matrix_is_inverted_up_to_the_condition_number_that_its_dtype_allows(dtype):
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2))
    eps = float(np.finfo(dtype).eps)
    for smallest, is_regular in ((1.0, True), (40 * eps, True), (0.4 * eps, False)):
        M = ((U * [2.0, 1.5, 1, 2 * smallest]) @ V).astype(dtype)
        if is_regular:
            error = np.abs(linalg.invert(M) @ M - np.eye(4)).max()
            assert error < 10 * eps / smallest
            continue
        with pytest.raises(
            linalg.SingularMatrixError, match=r"expected B \(4 x 4\) to be invertible, got condition number"
        ):
            linalg.invert(M, "B")
    with pytest.raises(linalg.SingularMatrixError, match="got condition number inf"):
        linalg.invert(np.zeros((2, 2), dtype))


def test_distance_and_scale_of_a_matrix():
    exact, near = np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([[3.0, 0.0], [0.0, 1.0]])
    assert linalg.relative_error(near, exact) == pytest.approx(3 / 5)
    assert linalg.relative_error(near, 0 * near) == pytest.approx(10**0.5)
    assert linalg.best_scalar(near, exact) == pytest.approx(13 / 10)
    assert linalg.best_scalar(2 * exact, exact) == 0.5
