"""What every kind of curvature matrix can do, against dense NumPy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given
from hypothesis import strategies as st

from minikfac import fisher
from minikfac.linalg import SingularMatrixError
from oracles import EXACT, SOLVE, error
from oracles.fisher import Case, chain, factored, make_case, random_signals

Build = Callable[[fisher.Signals], fisher.FisherMatrix]


def from_factors(signals: fisher.Signals) -> fisher.FisherMatrix:
    return fisher.Kronecker([(block.A, block.G) for block in fisher.kfac(signals).blocks])


def alternating(signals: fisher.Signals) -> fisher.FisherMatrix:
    kinds = ["exact", "diagonal", "kfac", "ekfac"]
    return fisher.mixed(signals, {layer: kinds[layer % 4] for layer in range(len(signals))})


KINDS: dict[str, Build] = {
    "exact": fisher.exact,
    "block_diagonal": fisher.block_diagonal,
    "diagonal": fisher.diagonal,
    "kfac": fisher.kfac,
    "foof": fisher.foof,
    "khatri_rao": fisher.khatri_rao,
    "block_tridiagonal": fisher.block_tridiagonal,
    "ekfac": fisher.ekfac,
    "nearest_kronecker": fisher.nearest_kronecker,
    "low_rank": lambda signals: fisher.low_rank(signals, rank=2),
    "mixed": alternating,
    "Kronecker": from_factors,
}
FACTORED = ["kfac", "foof", "nearest_kronecker", "Kronecker"]
"""Kinds with a choice of damping."""


def damping_methods(kind: str) -> list[str | None]:
    """Ways of damping that a kind knows."""
    if kind == "block_tridiagonal":
        return [None, "factored"]
    return (
        [None, "eigen", "factored"] if kind in FACTORED else [None, *(["eigen"] if kind == "ekfac" else [])]
    )


def side_by_side(blocks: Sequence[np.ndarray]) -> np.ndarray:
    size = sum(map(len, blocks))
    D, start = np.zeros((size, size)), 0
    for block in blocks:
        D[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return D


def dense_damped(kind: str, F: fisher.FisherMatrix, lam: float, method: str | None) -> np.ndarray:
    """The damped matrix, by its definition."""
    if kind == "block_tridiagonal":
        return chain([factored(A, G, lam) for A, G in F.factors], F.cross)[0]
    if method == "factored":
        return side_by_side([np.kron(*factored(block.A, block.G, lam)) for block in F.blocks])
    return F.to_dense() + lam * np.eye(len(F.to_dense()))


def residual(M: np.ndarray, x: np.ndarray, v: np.ndarray) -> float:
    """Backward error of a solution of M x = v."""
    return float(np.linalg.norm(M @ x - v) / (np.linalg.norm(M) * np.linalg.norm(x) + np.linalg.norm(v)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small nets with one to three layers, and examples enough that no factor is singular."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    activation = draw(st.sampled_from(["tanh", "logistic"]))
    return make_case(sizes, activation, "bernoulli", n=30, seed=draw(st.integers(0, 2**16)))


def build(kind: str, case: Case) -> fisher.FisherMatrix:
    return KINDS[kind](case.signals())


def regular(kind: str, case: Case) -> fisher.FisherMatrix:
    """The same, the chain damped: it does not exist where a narrow layer makes units nearly dependent."""
    F = build(kind, case)
    return F.damped(0.01) if kind == "block_tridiagonal" else F


every_kind = pytest.mark.parametrize("kind", KINDS)
damping = st.floats(1e-3, 10)

# products and looks --------------------------------------------------------------------------------------


@every_kind
@given(case=cases())
def test_products_and_looks_are_those_of_the_dense_matrix(kind: str, case: Case) -> None:
    F = regular(kind, case)
    D, P = F.to_dense(), len(case.theta)
    rng = np.random.default_rng(0)
    v, V = rng.standard_normal(P), rng.standard_normal((P, 3))
    tolerance = SOLVE if kind == "block_tridiagonal" else EXACT  # a product with the chain is a solve
    assert F.shape == D.shape == (P, P)
    assert error(F @ v, D @ v) < tolerance
    assert error(F @ V, D @ V) < tolerance
    assert error(F @ V[:, :1], D @ V[:, :1]) < tolerance
    assert error(F.diagonal(), D.diagonal()) < tolerance
    assert F.trace() == pytest.approx(np.trace(D), rel=tolerance)
    assert error(D.T, D) < tolerance
    for block, part in zip(F.blocks, case.slices, strict=True):
        assert error(block.to_dense(), D[part, part]) < tolerance
        assert error(block @ v[part], D[part, part] @ v[part]) < tolerance


@every_kind
@given(case=cases())
def test_every_kind_is_positive_semi_definite(kind: str, case: Case) -> None:
    eigenvalues = np.linalg.eigvalsh(regular(kind, case).to_dense())
    assert eigenvalues[0] >= -EXACT * eigenvalues[-1]


@every_kind
@given(case=cases())
def test_scipy_sees_the_same_matrix(kind: str, case: Case) -> None:
    F = regular(kind, case)
    operator = F.to_scipy()
    v, V = np.ones(len(case.theta)), np.eye(len(case.theta))
    assert operator.shape == F.shape and operator.dtype == np.float64
    assert error(operator @ v, F @ v) < EXACT
    assert error(operator.matmat(V), F.to_dense()) < SOLVE
    assert error(operator.rmatvec(v), F @ v) < EXACT


def test_scipys_solvers_take_it() -> None:
    case = make_case(output="bernoulli", n=30)
    F = fisher.exact(case.signals())
    top = scipy.sparse.linalg.eigsh(F.to_scipy(), k=1, return_eigenvectors=False)
    assert error(top, np.linalg.eigvalsh(F.to_dense())[-1:]) < SOLVE


# multiples, sums and norms ---------------------------------------------------------------------------------


@every_kind
def test_multiples_sums_and_norms_are_those_of_the_dense_matrix(kind: str) -> None:
    F = regular(kind, make_case(output="bernoulli", n=30))
    other = regular(kind, make_case(output="bernoulli", n=30, seed=1))
    D = F.to_dense()
    assert F.norm() == pytest.approx(np.linalg.norm(D), rel=SOLVE)
    if kind == "block_tridiagonal":
        with pytest.raises(TypeError, match="closed under scaling, got BlockTridiagonal"):
            2 * F
    else:
        for multiple in (2.5 * F, F * 2.5):
            assert type(multiple) is type(F) and error(multiple.to_dense(), 2.5 * D) < EXACT
        assert error((np.float64(0.5) * F.damped(0.3)).to_dense(), 0.5 * F.damped(0.3).to_dense()) < EXACT
        assert not (0 * F).to_dense().any()
    if kind in ("exact", "block_diagonal", "diagonal", "khatri_rao", "mixed"):
        assert type(F + other) is type(F)
        assert error((F + other).to_dense(), D + other.to_dense()) < EXACT
    else:
        with pytest.raises(TypeError, match="closed under addition, got"):
            F + other


def test_products_alone_have_multiples_and_sums() -> None:
    case = make_case(output="bernoulli", n=30)
    F = fisher.product(case.net, case.theta, case.x).damped(0.2)
    H = fisher.hessian(case.net, case.theta, case.x, case.y)
    assert error((2 * F + H).to_dense(), 2 * F.to_dense() + H.to_dense()) < EXACT
    assert error((2 * F).blocks[1].to_dense(), 2 * F.blocks[1].to_dense()) < EXACT


def test_what_has_no_multiple_or_sum_is_refused() -> None:
    case, longer = make_case(output="bernoulli", n=30), make_case((3, 3, 5), output="bernoulli", n=30)
    F, K = (kind(case.signals()) for kind in (fisher.exact, fisher.diagonal))
    for factor in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"expected a finite factor >= 0 of .*, got {float(factor)}"):
            factor * F
    with pytest.raises(TypeError, match="expected the factor of a matrix to be a real number, got"):
        F * F
    with pytest.raises(TypeError, match=r"expected a DenseMatrix to add to the exact .*, got BlockDiagonal"):
        F + K
    with pytest.raises(ValueError, match=r"expected shape \(31, 31\) to add to the exact .*, got \(32, 32\)"):
        F + fisher.exact(longer.signals())
    with pytest.raises(ValueError, match="expected blocks of the same sizes to add, got different ones"):
        K + fisher.BlockDiagonal([fisher.DiagonalBlock(np.ones(15)), fisher.DiagonalBlock(np.ones(16))])


# damping and inverses ------------------------------------------------------------------------------------


@every_kind
@given(case=cases(), lam=damping)
def test_solve_undoes_the_product_with_the_damped_matrix(kind: str, case: Case, lam: float) -> None:
    F = build(kind, case)
    rng = np.random.default_rng(0)
    v, V = rng.standard_normal(len(case.theta)), rng.standard_normal((len(case.theta), 3))
    for method in damping_methods(kind):
        M = F.damped(lam, method)
        assert error(F.solve(M @ v, lam, method), v) < SOLVE
        assert error(F.solve(M @ V, lam, method), V) < SOLVE


@every_kind
@given(case=cases(), lam=damping)
def test_damped_and_inverse_are_those_of_the_dense_matrix(kind: str, case: Case, lam: float) -> None:
    F = build(kind, case)
    v = np.random.default_rng(0).standard_normal((len(case.theta), 2))
    for method in damping_methods(kind):
        M = dense_damped(kind, F, lam, method)
        inverse = np.linalg.inv(M)
        assert error(F.damped(lam, method).to_dense(), M) < SOLVE
        assert F.logdet(lam, method) == pytest.approx(np.linalg.slogdet(M)[1], rel=SOLVE, abs=SOLVE)
        for explicit in (False, True):
            operator = F.inverse(lam, method, explicit=explicit)
            assert operator.shape == M.shape
            assert error(operator.to_dense(), inverse) < SOLVE
            assert error(operator @ v, inverse @ v) < SOLVE
            assert error(operator @ v[:, 0], inverse @ v[:, 0]) < SOLVE
            assert error(operator.to_scipy() @ v, inverse @ v) < SOLVE


@every_kind
def test_undamped_solves_on_what_is_not_singular(kind: str) -> None:
    case = make_case((2, 2, 2), output="bernoulli", n=60, seed=1)
    F = build(kind, case)
    D, v = F.to_dense(), np.arange(1.0, 13)
    if kind == "low_rank":
        D, F = D + 0.1 * np.eye(12), F.damped(0.1)
    assert np.linalg.cond(D) < 1e4
    for method in damping_methods(kind):
        for explicit in (False, True):
            assert residual(D, F.inverse(method=method, explicit=explicit) @ v, v) < EXACT
        assert F.logdet(method=method) == pytest.approx(np.linalg.slogdet(D)[1], rel=SOLVE)


@every_kind
def test_damping_adds_up(kind: str) -> None:
    F = build(kind, make_case(output="bernoulli", n=30))
    once, twice = F.damped(0.5), F.damped(0.2).damped(0.3)
    if kind == "block_tridiagonal":  # factored damping does not: roots of lambda are added
        assert error(twice.to_dense(), once.to_dense()) > 0.05
    else:
        assert error(twice.to_dense(), once.to_dense()) < EXACT
        assert error(F.damped(0.2).inverse(0.3).to_dense(), F.inverse(0.5).to_dense()) < SOLVE


@every_kind
def test_no_damping_leaves_the_matrix_as_it_is(kind: str) -> None:
    F = build(kind, make_case(output="bernoulli", n=30))
    for method in damping_methods(kind):
        assert error(F.damped(0, method).to_dense(), F.to_dense()) < EXACT


def test_an_inverse_keeps_its_factorization() -> None:
    """Nothing is factorized again when an inverse is applied, and the matrix is not read any more."""
    case = make_case(output="bernoulli", n=30)
    v = np.ones(len(case.theta))
    for kind in ("exact", "kfac"):
        F = build(kind, case)
        inverse = F.inverse(0.1)
        expected = inverse @ v
        for block in [F] if kind == "exact" else F.blocks:
            block.like[:] = np.nan
        assert (inverse @ v == expected).all()


# singular matrices ---------------------------------------------------------------------------------------


def dead_pixel() -> Case:
    """An input that is always 0, as the corners of the digits."""
    case = make_case((3, 4, 3), output="bernoulli", n=30)
    case.x[:, 0] = 0
    return case


def softmax() -> Case:
    return make_case((3, 4, 3), output="categorical", n=30)


@pytest.mark.parametrize(
    ("kind", "case", "named"),
    [
        ("exact", dead_pixel(), r"the exact Fisher matrix \(31 x 31\) has numerical rank 27"),
        ("exact", softmax(), r"the exact Fisher matrix \(31 x 31\) has numerical rank 26"),
        ("block_diagonal", dead_pixel(), r"the block of dense0 \(16 x 16\) has numerical rank 12"),
        ("block_diagonal", softmax(), r"the block of dense1 \(15 x 15\) has numerical rank 10"),
        ("diagonal", dead_pixel(), r"the diagonal of dense0 has 4 zeros among 16"),
        ("kfac", dead_pixel(), r"A of dense0 \(4 x 4\) has numerical rank 3"),
        ("kfac", softmax(), r"G of dense1 \(3 x 3\) has numerical rank 2"),
        ("Kronecker", softmax(), r"G of layer1 \(3 x 3\) has numerical rank 2"),
        ("nearest_kronecker", dead_pixel(), r"A of dense0 \(4 x 4\) has numerical rank 3"),
        ("ekfac", dead_pixel(), r"the block of dense0 has numerical rank 12 of 16"),
        ("ekfac", softmax(), r"the block of dense1 has numerical rank 10 of 15"),
        ("mixed", dead_pixel(), r"the block of dense0 \(16 x 16\) has numerical rank 12"),
        ("khatri_rao", softmax(), r"the Khatri-Rao matrix \(31 x 31\) has numerical rank"),
        ("low_rank", softmax(), r"the low-rank matrix \(31 x 31\) has rank 2 at most"),
        ("block_tridiagonal", dead_pixel(), r"A of dense0 \(4 x 4\) has numerical rank 3"),
        ("block_tridiagonal", softmax(), r"G of dense1 \(3 x 3\) has numerical rank 2"),
    ],
)
def test_a_singular_matrix_names_its_rank_and_the_cure(kind: str, case: Case, named: str) -> None:
    F = build(kind, case)
    v = np.ones(len(case.theta))
    message = f"expected a positive definite matrix, but {named}.*; add damping"
    for attempt in (F.inverse, F.logdet, lambda: F.solve(v)):
        with pytest.raises(SingularMatrixError, match=message):
            attempt()
    assert issubclass(SingularMatrixError, ValueError)
    assert np.isfinite(F.solve(v, damping=1e-3)).all()


PSEUDO = [kind for kind in KINDS if kind != "block_tridiagonal"]


@pytest.mark.parametrize("kind", PSEUDO)
@pytest.mark.parametrize("case", [dead_pixel(), softmax()], ids=["dead pixel", "softmax"])
def test_pseudo_inverse_is_moore_and_penroses(kind: str, case: Case) -> None:
    F = build(kind, case)
    expected = np.linalg.pinv(F.to_dense(), rcond=1e-12, hermitian=True)
    v = np.arange(1.0, len(case.theta) + 1)
    assert error(F.inverse(pseudo_inverse=True).to_dense(), expected) < SOLVE
    assert error(F.solve(v, pseudo_inverse=True), expected @ v) < SOLVE


@pytest.mark.parametrize("kind", PSEUDO)
def test_pseudo_inverse_of_what_is_not_singular_is_the_inverse(kind: str) -> None:
    F = build(kind, make_case((2, 3, 2), output="bernoulli", n=60))
    lam = 0.1
    pseudo_inverse = F.inverse(lam, pseudo_inverse=True).to_dense()
    assert error(pseudo_inverse, F.inverse(lam).to_dense()) < SOLVE


def test_the_chain_has_no_pseudo_inverse() -> None:
    F = build("block_tridiagonal", softmax())
    with pytest.raises(ValueError, match="the block-tridiagonal matrix has no pseudo-inverse here"):
        F.inverse(pseudo_inverse=True)


# a layer without derivatives -------------------------------------------------------------------------------


def dead_layer() -> fisher.Signals:
    """Two layers, of which the first gets no derivatives."""
    dead, alive = next(iter(random_signals(shapes=((1, 3, 2), (2, 3, 2)))))
    return fisher.Signals.from_layers([fisher.LayerSignals(dead.abar, 0 * dead.g), alive])


@pytest.mark.parametrize("make", [fisher.kfac, fisher.ekfac, fisher.nearest_kronecker, fisher.diagonal])
def test_damping_inverts_the_zero_block_of_a_dead_layer(make: Any) -> None:
    F = make(dead_layer())
    assert (F.blocks[0].to_dense() == 0).all()
    assert error(F.blocks[0].solve(np.ones(6), damping=0.5), np.full(6, 2.0)) < EXACT
    assert F.blocks[1].trace() > 0


# arguments -----------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("lam", [-1e-9, float("nan"), float("inf")])
def test_damping_is_finite_and_not_negative(kind: str, lam: float) -> None:
    F = build(kind, make_case(output="bernoulli", n=30))
    for method in damping_methods(kind):
        attempts = (F.damped, F.inverse, F.logdet, lambda *a, F=F: F.solve(np.ones(31), *a))
        for attempt in attempts:
            with pytest.raises(ValueError, match=f"expected finite damping >= 0, got {lam}"):
                attempt(lam, method)


@every_kind
def test_unknown_methods_of_damping_are_refused(kind: str) -> None:
    F = build(kind, make_case((3, 4, 3), output="bernoulli", n=30))
    methods = [repr(method) for method in damping_methods(kind) if method]
    expected = " or ".join(methods) or "no damping method for this kind of matrix"
    for attempt in (F.damped, F.inverse, F.logdet, lambda *a: F.solve(np.ones(31), *a)):
        with pytest.raises(ValueError, match=f"expected {expected}, got 'cholesky'"):
            attempt(0.1, "cholesky")
        with pytest.raises(ValueError, match=f"expected {expected}, got 'cholesky'"):
            attempt(0.0, "cholesky")


@every_kind
@pytest.mark.parametrize("shape", [(), (30,), (32,), (1, 31), (31, 2, 2), (0,)])
def test_vectors_of_another_shape_are_refused(kind: str, shape: tuple[int, ...]) -> None:
    F = build(kind, make_case(output="bernoulli", n=30))
    message = r"expected a vector \(31,\) or \(31, m\), got \(" + ", ".join(map(str, shape))
    for operator in (F, F.inverse(0.1)):
        with pytest.raises(ValueError, match=message):
            operator @ np.ones(shape)


# memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "floats"),
    [
        ("exact", 31**2),
        ("block_diagonal", 16**2 + 15**2),
        ("diagonal", 31),
        ("kfac", 4**2 + 4**2 + 5**2 + 3**2),
        ("khatri_rao", 31**2),
        ("block_tridiagonal", 4**2 + 4**2 + 5**2 + 3**2 + 4 * 5 + 4 * 3),
        ("ekfac", 4**2 + 4**2 + 5**2 + 3**2 + 31),
        ("nearest_kronecker", 4**2 + 4**2 + 5**2 + 3**2),
        ("low_rank", 31 * 2),
        ("mixed", 16**2 + 15),
        ("Kronecker", 4**2 + 4**2 + 5**2 + 3**2),
    ],
)
def test_floats_are_counted(kind: str, floats: int) -> None:
    assert build(kind, make_case()).floats == floats


@every_kind
def test_float32_stays_float32(kind: str) -> None:
    case = make_case(output="bernoulli", n=30)
    theta, v = case.theta.astype(np.float32), np.ones(31, dtype=np.float32)
    F = KINDS[kind](fisher.signals(case.net, theta, case.x))
    everything: list[Any] = [F @ v, F.solve(v, 0.1), F.to_dense(), F.diagonal(), F.damped(0.1).to_dense()]
    everything += [F.inverse(0.1, explicit=explicit).to_dense() for explicit in (False, True)]
    everything += [F.to_scipy() @ v]
    for method in damping_methods(kind):
        everything.append(F.solve(v, 0.1, method))
    assert {array.dtype for array in everything} == {np.dtype(np.float32)}


@every_kind
def test_matrices_print_their_kind(kind: str) -> None:
    assert repr(build(kind, make_case(output="bernoulli", n=30)))


# matrix-free ---------------------------------------------------------------------------------------------


@given(case=cases(), lam=damping)
def test_conjugate_gradients_solve_as_the_dense_matrix(case: Case, lam: float) -> None:
    F = fisher.product(case.net, case.theta, case.x)
    M = fisher.exact(case.signals()).damped(lam).to_dense()
    V = np.random.default_rng(0).standard_normal((len(case.theta), 2))
    expected = np.linalg.solve(M, V)
    preconditioner = fisher.kfac(case.signals()).inverse(lam)
    assert error(F.damped(lam).to_dense(), M) < EXACT
    for inverse in (F.inverse(lam), F.inverse(lam, precondition=preconditioner), F.damped(lam).inverse()):
        assert inverse.shape == M.shape
        assert error(inverse @ V, expected) < SOLVE * 100  # CG stops at a residual of 1e-10
        assert error(inverse @ V[:, 0], expected[:, 0]) < SOLVE * 100
    assert error(F.solve(V[:, 0], lam), expected[:, 0]) < SOLVE * 100
    assert error(F.to_scipy() @ V, fisher.exact(case.signals()) @ V) < EXACT


@pytest.mark.parametrize(("output", "most"), [("gaussian", 2), ("bernoulli", 25)])
def test_a_kfac_preconditioner_saves_products(output: str, most: int) -> None:
    """Where K-FAC is exact, as for one layer and a Gaussian, one step is all."""
    case = make_case((8, 6), output=output, n=100)
    case.x[:] *= np.geomspace(10, 0.1, 8)  # inputs on different scales
    F = fisher.product(case.net, case.theta, case.x)
    count = [0]

    def counted(v: np.ndarray) -> np.ndarray:
        count[0] += 1
        return F @ v

    lam = 1e-4
    M = fisher.MatrixFree(counted, case.theta)
    gradient = case.net.gradient(case.theta, case.x, case.y)
    plain = M.solve(gradient, lam)
    without, count[0] = count[0], 0
    preconditioned = M.inverse(lam, precondition=fisher.kfac(case.signals()).inverse(lam)) @ gradient
    assert count[0] <= most < without / 4, (count[0], without)
    assert error(preconditioned, plain) < 1e-5  # both stop at a residual, at a condition number of 1e5


@pytest.mark.parametrize("make", [fisher.gauss_newton, fisher.hessian])
def test_other_matrices_by_products_are_damped_too(make: Callable[..., fisher.FisherMatrix]) -> None:
    case = make_case(output="bernoulli", n=30)
    F = make(case.net, case.theta, case.x, case.y)
    assert error(F.damped(2.0).to_dense(), F.to_dense() + 2 * np.eye(31)) < EXACT


def test_a_matrix_free_matrix_refuses_what_needs_entries() -> None:
    case = make_case()
    F = fisher.product(case.net, case.theta, case.x)
    assert F.floats == 0 and F.shape == (31, 31)
    for attempt, what in (
        (F.trace, "trace"),
        (F.diagonal, "diagonal"),
        (F.logdet, "log-determinant"),
        (F.norm, "norm"),
        (lambda: fisher.MatrixFree(F.apply, case.theta, F.name).blocks, "blocks"),
        (lambda: F.inverse(0.1, pseudo_inverse=True), "pseudo-inverse or explicit inverse"),
        (lambda: F.inverse(0.1, explicit=True), "pseudo-inverse or explicit inverse"),
    ):
        message = f"the Fisher matrix is matrix-free and has no {what}; form it with"
        with pytest.raises(ValueError, match=message):
            attempt()
    with pytest.raises(ValueError, match="expected finite damping >= 0, got -1"):
        F.inverse(-1)
    with pytest.raises(ValueError, match=r"expected no damping method .* got 'eigen'"):
        F.inverse(0.1, "eigen")
    with pytest.raises(ValueError, match=r"expected a vector \(31,\)"):
        F @ np.ones(30)


def test_conjugate_gradients_say_when_they_fail() -> None:
    case = make_case(output="bernoulli", n=30)
    F = fisher.product(case.net, case.theta, case.x)
    v = np.random.default_rng(0).standard_normal(31)
    short = fisher.MatrixFree(F.apply, case.theta, "the Fisher matrix", max_iterations=2)
    with pytest.raises(ValueError, match=r"relative residual of 1\.0e-10 .* on the Fisher matrix, got"):
        short.solve(v, 1e-3)
    with pytest.raises(ValueError, match="expected a positive definite matrix, got curvature"):
        fisher.MatrixFree(lambda v: -v, case.theta).solve(v)


# low rank ------------------------------------------------------------------------------------------------


def test_low_rank_of_full_rank_is_the_exact_matrix() -> None:
    case = make_case((2, 3, 2), output="bernoulli", n=60)
    D = fisher.exact(case.signals()).to_dense()
    F = fisher.low_rank(case.signals(), rank=len(D))
    assert error(F.to_dense(), D) < EXACT
    assert error(F.inverse(0.1).to_dense(), np.linalg.inv(D + 0.1 * np.eye(len(D)))) < SOLVE


def truncated(D: np.ndarray, rank: int) -> np.ndarray:
    values, vectors = np.linalg.eigh(D)
    return (vectors[:, -rank:] * values[-rank:]) @ vectors[:, -rank:].T


@given(case=cases(), rank=st.integers(1, 6))
def test_low_rank_keeps_the_leading_eigenvectors(case: Case, rank: int) -> None:
    rank = min(rank, len(case.theta))
    F = fisher.low_rank(case.signals(batch_size=11), rank)
    assert error(F.to_dense(), truncated(fisher.exact(case.signals()).to_dense(), rank)) < SOLVE


@pytest.mark.parametrize("batch_size", [None, 8])
def test_low_rank_of_many_parameters_comes_from_lanczos(batch_size: int | None) -> None:
    case = make_case((40, 24, 6), output="bernoulli", n=20)
    assert len(case.theta) > 1000
    D = fisher.exact(case.signals()).to_dense()
    F = fisher.low_rank(case.signals(batch_size=batch_size), rank=7)
    assert error(F.to_dense(), truncated(D, 7)) < SOLVE
    assert F.B.shape == (len(D), 7)


def test_low_rank_inverse_can_be_inverted_back() -> None:
    F = fisher.low_rank(make_case(n=30).signals(), rank=5).damped(0.1)
    back = F.inverse().inverse()
    assert error(back.to_dense(), F.to_dense()) < SOLVE
    assert F.inverse().logdet() == pytest.approx(-F.logdet(), rel=SOLVE)


@pytest.mark.parametrize("rank", [0, -1, 32, 2.5, True, "2", None])
def test_ranks_that_there_are_not(rank: Any) -> None:
    message = "a rank from 1 to 31" if rank == 32 else "rank to be a whole number >= 1"
    with pytest.raises(ValueError, match=f"expected {message}, got {rank!r}"):
        fisher.low_rank(make_case().signals(), rank)


@pytest.mark.parametrize("kind", KINDS)
def test_eigenvalues_and_roots(kind: str) -> None:
    F = KINDS[kind](make_case((3, 4, 2), "logistic", "bernoulli", n=40).signals())
    dense = np.linalg.eigvalsh(F.to_dense())
    assert abs(F.eigenvalues() - dense).max() < EXACT * dense[-1]
    blocks = np.concatenate([block.eigenvalues() for block in F.blocks])
    assert blocks.sum() == pytest.approx(F.trace()) and len(blocks) == len(dense)
    for method in damping_methods(kind):
        inverse = F.inverse(0.3, method)
        R = inverse.root_product(np.eye(len(dense)))
        assert error(R @ R.T, inverse.to_dense()) < SOLVE
        assert error(inverse.root_product(np.ones(len(dense))), R.sum(1)) < SOLVE


def test_a_singular_matrix_has_no_root() -> None:
    with pytest.raises(
        SingularMatrixError, match=r"positive definite matrix, but the operator \(3 x 3\) has"
    ):
        fisher.LowRank(np.ones((3, 1))).root_product(np.ones(3))


def test_foof_is_kfac_without_derivatives() -> None:
    """The step inverts A alone; exact for one layer under squared error, and not for other outputs."""
    signals = make_case((3, 4, 2), n=40).signals()
    for block, of_kfac in zip(fisher.foof(signals).blocks, fisher.kfac(signals).blocks, strict=True):
        I, O = len(of_kfac.A), len(of_kfac.G)
        V = np.random.default_rng(0).standard_normal((I, O))
        step = np.linalg.solve(of_kfac.A + 0.3 * np.eye(I), V)
        assert error(block.solve(V.ravel(), damping=0.3), step.ravel()) < SOLVE
    gaussian, bernoulli = (make_case((4, 3), output=output).signals() for output in ("gaussian", "bernoulli"))
    assert error(fisher.foof(gaussian).to_dense(), fisher.exact(gaussian).to_dense()) < EXACT
    assert error(fisher.foof(bernoulli).to_dense(), fisher.exact(bernoulli).to_dense()) > 0.5
