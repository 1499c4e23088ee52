"""At the edge of what numbers can hold: damping below rounding, overflow, and matrices that are none."""

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import backend, fisher, interop, linalg, outputs, quality
from oracles import EXACT, FLOAT32, SOLVE, close, error, standin
from oracles.fisher import Case, make_case, random_signals

Build = Callable[[fisher.Signals], fisher.FisherMatrix]
RESIDUAL = 0.2
"""Relative residual of a solve that is not refused, at most."""

KINDS: dict[str, Build] = {
    "exact": fisher.exact,
    "block_diagonal": fisher.block_diagonal,
    "diagonal": fisher.diagonal,
    "kfac": fisher.kfac,
    "khatri_rao": fisher.khatri_rao,
    "ekfac": fisher.ekfac,
    "nearest_kronecker": fisher.nearest_kronecker,
    "low_rank": partial(fisher.low_rank, rank=20),
    "mixed": lambda signals: fisher.mixed(signals, {0: "exact"}),
    "ladder": lambda signals: fisher.ladder(signals, {"IAD"}),
    "fully_correlated": fisher.fully_correlated,
    "block_tridiagonal": fisher.block_tridiagonal,
}
METHODS = [(kind, None) for kind in KINDS] + [("kfac", "factored"), ("nearest_kronecker", "factored")]
NETS = {
    "softmax": ((3, 4, 3), "categorical"),
    "wide": ((30, 20, 5), "categorical"),
    "fewer examples than inputs": ((20, 8, 5), "bernoulli"),
}


def single_or_double(case: Case, dtype: Any) -> fisher.Signals:
    return fisher.signals(case.net, case.theta.astype(dtype), case.x.astype(dtype))


# damping below rounding -------------------------------------------------------------------------------------


def relative_residual(F: fisher.FisherMatrix, v: np.ndarray, lam: float, method: str | None) -> float | None:
    """||M x - v|| / ||v|| of a solve, M the damped matrix in double precision; None where it is refused."""
    try:
        x = F.solve(v, lam, method)
    except linalg.SingularMatrixError as refusal:
        assert f"with damping {lam:.3g}; use more damping, inputs of similar scales" in str(refusal)
        assert str(refusal).endswith("or float64") == (v.dtype == np.float32)
        assert "pseudo_inverse" not in str(refusal) and "damping > 0" not in str(refusal)
        return None
    if method == "factored":
        blocks = [
            np.kron(*(M.astype(float) for M in fisher.factored_damping(b.A, b.G, lam))) for b in F.blocks
        ]
        M = np.zeros(F.shape)
        for block, part in zip(blocks, F.slices, strict=True):  # type: ignore[attr-defined]
            M[part, part] = block
    elif isinstance(F, fisher.BlockTridiagonal):
        M = F.damped(lam).to_dense().astype(float)
    else:
        M = F.to_dense() + lam * np.eye(len(v))
    return float(np.linalg.norm(M @ x.astype(float) - v) / np.linalg.norm(v))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("kind", "method"), METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_solve_is_right_or_refused_whatever_the_damping(
    kind: str, method: str | None, dtype: Any, net: str
) -> None:
    sizes, output = NETS[net]
    F = KINDS[kind](single_or_double(make_case(sizes, output=output, n=20), dtype))
    v = np.random.default_rng(0).standard_normal(F.shape[0]).astype(dtype)
    eps = float(np.finfo(dtype).eps)
    largest = (
        float(F.diagonal().max())
        if kind == "diagonal"
        else float(np.linalg.eigvalsh(F.blocks[-1].to_dense())[-1])
    )
    residuals = [
        relative_residual(F, v, eps * largest * share, method) for share in np.geomspace(1e-6, 1e6, 25)
    ]
    assert max(r for r in residuals if r is not None) < RESIDUAL
    assert residuals[-1] is not None and residuals[-1] < 1e-4  # a condition number of 1e-6 / eps
    if kind not in ("diagonal", "block_tridiagonal") and (method is None or net == "wide"):
        assert residuals[0] is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_conjugate_gradients_see_that_they_lost_the_residual(dtype: Any) -> None:
    """Their recurrence goes on to 1e-10 where the residual itself stays at 1."""
    case = make_case((20, 8, 5), output="bernoulli", n=20)
    F = fisher.product(case.net, case.theta.astype(dtype), case.x.astype(dtype))
    v = np.random.default_rng(0).standard_normal(F.shape[0]).astype(dtype)
    lam = 1e-10 if dtype == np.float32 else 1e-19
    message = rf"the Fisher matrix has .* with damping {lam:.3g}; use more|got curvature .* use more damping"
    with pytest.raises(ValueError, match=message):
        F.solve(v, lam)
    x = F.solve(v, 1e-2)
    M = fisher.exact(case.signals()).damped(1e-2).to_dense()
    assert error(M @ x.astype(float), v) < (1e-4 if dtype == np.float32 else 1e-9)


def test_the_condition_number_in_the_error_is_that_of_the_matrix() -> None:
    """One direction of size 1 and lambda elsewhere: the number is 1 / lambda."""
    lam, e = 1e-18, np.eye(4)
    ones = np.ones((4, 1)) / 2
    with pytest.raises(linalg.SingularMatrixError, match=r"up to 4\.5e\+14 in float64, .* \(4 x 4\) has "):
        fisher.DenseMatrix(ones @ ones.T).solve(e[0], lam)
    matrices: list[fisher.FisherMatrix] = [
        fisher.Kronecker([(ones @ ones.T, np.eye(1))]),
        fisher.EigenBlock(e, np.eye(1), np.array([[1.0], [0], [0], [0]])),
        fisher.LowRank(e[:, :1]),
    ]
    for F in matrices:
        largest = F.diagonal().max()
        with pytest.raises(linalg.SingularMatrixError, match=rf"has {largest / lam:.1e}".replace("+", r"\+")):
            F.solve(e[0], lam)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", [None, "factored"])
@pytest.mark.parametrize("small", [1e-40, 1e-30, 1e-20, 0.0])
@pytest.mark.parametrize("turned", [False, True])
def test_small_factors_are_no_obstacle_for_damping(
    dtype: Any, method: str | None, small: float, turned: bool
) -> None:
    """A (x) G is nothing beside lambda: the solution is v / lambda."""
    A, G = np.eye(3, dtype=dtype), (small * np.eye(2)).astype(dtype)
    F = fisher.Kronecker([(G, A) if turned else (A, G)])
    v = np.linspace(1, 2, 6).astype(dtype)
    # factored damping adds pi sqrt(lam) small + sqrt(lam) / pi = 2 sqrt(lam small) on top
    tolerance = (FLOAT32 if dtype == np.float32 else EXACT) + 3 * (small / 1e-3) ** 0.5
    assert error(F.solve(v, 1e-3, method), v / dtype(1e-3)) < tolerance
    assert F.logdet(1e-3, method) == pytest.approx(6 * np.log(1e-3), rel=tolerance)


def test_on_a_device_what_is_singular_is_refused_or_nan() -> None:
    """A Cholesky factor is looked at; an eigenbasis is not, for the answer would hold up the queue."""
    case = make_case((30, 20, 5), n=20)
    v = np.linspace(-1, 1, len(case.theta))
    on_host = fisher.kfac(case.signals())
    with standin.installed():
        signals = fisher.signals(case.net, mk.to_device(case.theta), mk.to_device(case.x))
        F, u = fisher.kfac(signals), mk.to_device(v)
        for lam in (1e-20, 1e-14, 1e-2):
            for method in ("factored", None):
                try:
                    expected = on_host.solve(v, lam, method)
                except linalg.SingularMatrixError as refusal:
                    if method is None:
                        assert np.isnan(mk.to_host(F.solve(u, lam))).all()
                        continue
                    with pytest.raises(linalg.SingularMatrixError, match=re.escape(str(refusal)[:60])):
                        F.solve(u, lam, method)
                    continue
                x = mk.to_host(F.solve(u, lam, method))
                assert error(x, expected) < max(SOLVE, 1e-15 / lam)
        assert np.isnan(mk.to_host(fisher.ekfac(signals).solve(u, 1e-20))).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1, 1e10, 1e30])
def test_the_rule_does_not_depend_on_scale(scale: float) -> None:
    signals = make_case(n=30).signals()
    for F in (fisher.kfac(signals), fisher.low_rank(signals, 9), fisher.exact(signals)):
        D = scale * F.to_dense()
        scaled: fisher.FisherMatrix = fisher.DenseMatrix(D)
        if isinstance(F, fisher.LowRank):
            scaled = fisher.LowRank(F.B * scale**0.5)
        elif isinstance(F, fisher.BlockDiagonal):
            scaled = fisher.Kronecker([(scale * b.A, b.G) for b in F.blocks])
        v = np.linspace(-1, 1, 31)
        assert error(scaled.solve(v, 1e-3 * scale), F.solve(v, 1e-3) / scale) < SOLVE
        with pytest.raises(linalg.SingularMatrixError):
            scaled.solve(v, 1e-20 * scale)


def test_damping_that_a_dtype_cannot_hold_is_refused() -> None:
    F = fisher.kfac(single_or_double(make_case(output="bernoulli", n=30), np.float32))
    for lam in (1e-40, 1e39):
        with pytest.raises(
            ValueError, match=r"expected damping 0, or from 1\.2e-38 to 3\.4e\+38 for float32, got"
        ):
            F.inverse(lam)


def test_the_diagonal_of_a_low_rank_inverse_is_that_of_the_matrix() -> None:
    F = fisher.low_rank(make_case(n=30).signals(), rank=5)
    inverse = F.inverse(0.1)
    assert isinstance(inverse, fisher.LowRank)
    assert error(inverse.diagonal(), inverse.to_dense().diagonal()) < EXACT
    assert inverse.trace() == pytest.approx(np.linalg.inv(F.to_dense() + 0.1 * np.eye(31)).trace(), rel=SOLVE)


# what is not a factor ---------------------------------------------------------------------------------------

I3 = np.eye(3)
LOWER = np.array([[1.0, 0, 0], [0.5, 1, 0], [0, 0, 1]])
INDEFINITE = np.array([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]])
BAD_FACTORS: dict[str, tuple[Any, type[Exception], str]] = {
    "negative": (
        -I3,
        ValueError,
        r"a positive semi-definite matrix, but {} \(3 x 3\) has eigenvalues from -1 to -1",
    ),
    "indefinite": (INDEFINITE, ValueError, r"a positive semi-definite .* {} .* eigenvalues from -1 to 3"),
    "asymmetric": (LOWER, ValueError, "{} to be symmetric"),
    "infinite": (np.diag([1, np.inf, 1]), ValueError, "finite numbers in {}"),
    "NaN": (np.full((3, 3), np.nan), ValueError, "finite numbers in {}"),
    "not square": (np.ones((3, 2)), ValueError, r"a square array for {}, got shape \(3, 2\)"),
    "a vector": (np.ones(3), ValueError, r"a square array for {}, got shape \(3,\)"),
    "empty": (np.ones((0, 0)), ValueError, r"a square array for {}, got shape \(0, 0\)"),
    "complex": (1j * I3, TypeError, "{} to be an array of real numbers, got dtype complex128"),
    "None": (None, TypeError, "{} to be an array of numbers, got NoneType: None is not a number"),
    "words": (I3.astype(str), TypeError, "{} to be an array of numbers"),
    "masked": (np.ma.masked_greater(I3, 0.5), ValueError, "{} without masked entries, got 3"),
    "ragged": ([[1.0, 0], [0]], ValueError, "{} to be an array of numbers"),
}


@pytest.mark.parametrize("name", BAD_FACTORS)
def test_factors_are_refused_by_name(name: str) -> None:
    bad, kind, message = BAD_FACTORS[name]
    for factors, letter in (((bad, I3), "A"), ((I3, bad), "G")):
        with pytest.raises(kind, match="expected " + message.format(f"{letter} of layer1")):
            fisher.Kronecker([(I3, I3), factors])
        if name not in ("negative", "indefinite"):
            with pytest.raises(kind, match="expected " + message.format(f"{letter} of layer")):
                fisher.KroneckerBlock(*factors)
    if name not in ("negative", "indefinite"):  # a Hessian may be
        with pytest.raises(kind, match="expected " + message.format("the matrix")):
            fisher.DenseMatrix(bad)


def test_indefinite_blocks_are_refused_where_they_are_diagonalized() -> None:
    block = fisher.KroneckerBlock(INDEFINITE, I3, "conv1")
    message = (
        r"expected a positive semi-definite matrix, but A of conv1 \(3 x 3\) has eigenvalues from -1 to 3"
    )
    for attempt in (partial(block.solve, np.ones(9), 0.1), partial(block.inverse, pseudo_inverse=True)):
        with pytest.raises(ValueError, match=message):
            attempt()


def test_factors_may_be_lists_of_whole_numbers_and_rounded_to_single_precision() -> None:
    F = fisher.Kronecker([([[2, 1], [1, 2]], [[1]])])
    assert error(F.to_dense(), np.array([[2.0, 1], [1, 2]])) == 0
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, 8)).astype(np.float32)
    A = (rows.T @ rows).astype(float)  # singular, and slightly indefinite by its rounding
    assert np.isfinite(fisher.Kronecker([(A, np.eye(2))]).solve(np.ones(16), 0.1)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fisher.DiagonalBlock(np.array([1.0, -2])),
            "finite entries on the diagonal of layer >= 0, got one of -2",
        ),
        (
            lambda: fisher.DiagonalBlock(np.array([1.0, np.nan])),
            "finite entries .*, got one of NaN or infinity",
        ),
        (lambda: fisher.DiagonalBlock(I3), r"the diagonal \(P,\) of layer, got shape \(3, 3\)"),
        (
            lambda: fisher.EigenBlock(I3, np.eye(2), np.ones((2, 3))),
            r"U_A \(I, I\), U_G \(O, O\) and s \(I, O\)",
        ),
        (
            lambda: fisher.EigenBlock(I3, np.eye(2), -np.ones((3, 2))),
            "finite eigenvalues of layer >= 0, got one of -1",
        ),
        (
            lambda: fisher.LowRank(np.ones(3)),
            r"an array \(P, r\) for B of the low-rank matrix, got shape \(3,\)",
        ),
        (lambda: fisher.LowRank(np.full((3, 1), 1e200)), r"finite entries of B B\^T"),
        (lambda: fisher.BlockTridiagonal(((I3, LOWER),), (), ("dense0",)), "G of dense0 to be symmetric"),
        (
            lambda: fisher.BlockTridiagonal(((I3, I3), (I3, I3)), ((I3, np.nan * I3),), ("a", "b")),
            "finite cross factors",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_other_matrices_are_refused_by_name_too(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"expected {message}"):
        make()


# overflow ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["abar", "g"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of overflow
def test_signals_that_are_not_finite_or_overflow_make_no_matrix(kind: str, field: str, value: float) -> None:
    layers = next(iter(make_case(output="bernoulli", n=30).signals()))
    array = getattr(layers[1], field).copy()
    array.reshape(-1)[0] = value
    bad = [layers[0], replace(layers[1], **{field: array})]
    if value == 1e200:  # finite, but not its square
        chain = replace(make_case(output="bernoulli", n=30).signals(), make_chunks=[bad].__iter__)
        with pytest.raises(
            ValueError,
            match=r"expected (means that float64 can hold|finite numbers in .*), got NaN or infinity",
        ):
            KINDS[kind](chain)
        return
    with pytest.raises(
        ValueError, match="expected finite signals, got NaN or infinity in abar or g of layer1"
    ):
        fisher.Signals.from_layers(bad)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_signals_that_overflow_on_the_way_are_refused() -> None:
    case = make_case((3, 4, 3), "relu", "gaussian", n=7)
    theta = 1e160 * case.theta
    for targets in ({}, {"y": case.y, "targets": "data"}):
        with pytest.raises(ValueError, match=r"expected finite|expected means"):
            fisher.exact(fisher.signals(case.net, 1e150 * theta, case.x, **targets))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_pseudo_inverse_that_overflows_leaves_out_what_is_too_small() -> None:
    for F in (fisher.DenseMatrix(5e-324 * I3), fisher.DiagonalBlock(np.full(3, 5e-324))):
        assert (F.solve(np.ones(3), pseudo_inverse=True) == 0).all()
    with pytest.raises(ValueError, match="expected a product that float64 can hold, got NaN or infinity"):
        fisher.DenseMatrix(1e-300 * I3).solve(1e100 * np.ones(3))
    with pytest.raises(linalg.SingularMatrixError, match="has 3 zeros among 3; add damping"):
        fisher.DiagonalBlock(np.full(3, 5e-324)).inverse()


@pytest.mark.parametrize("kind", KINDS)
def test_nan_passes_through_a_product_and_not_through_a_solve(kind: str) -> None:
    F = KINDS[kind](make_case(output="bernoulli", n=30).signals())
    F = F.damped(0.1)
    v = np.ones(31)
    v[3] = np.nan
    assert np.isnan(F @ v).any() and np.isnan(F.inverse(0.1) @ v).any()
    with pytest.raises(
        ValueError, match="expected a finite vector to solve for, got NaN or infinite entries"
    ):
        F.solve(v, 0.1)


# operators --------------------------------------------------------------------------------------------------


def operators(case: Case) -> list[Any]:
    kinds = [build(case.signals()) for build in KINDS.values()]
    kinds += [
        fisher.product(case.net, case.theta, case.x),
        fisher.hessian(case.net, case.theta, case.x, case.y),
    ]
    kinds += [fisher.gauss_newton(case.net, case.theta, case.x, case.y)]
    kinds += [2 * kinds[-1] + kinds[-1], fisher.BlockDiagonal(kinds[-3].blocks)]
    return [*kinds, *(F.inverse(1.0) for F in kinds)]


def test_operators_stand_on_either_side_and_take_lists() -> None:
    case = make_case(output="bernoulli", n=30)
    v, V = np.linspace(-1, 1, 31), np.random.default_rng(0).standard_normal((2, 31))
    for F in operators(case):
        dense = F.to_dense()
        assert error(v @ F, dense @ v) < SOLVE and error(V @ F, V @ dense) < SOLVE
        assert error(F @ list(v), dense @ v) < SOLVE
        assert error(F @ ([1] * 31), dense.sum(1)) < SOLVE
        assert error(np.asarray(F), dense) < SOLVE
        assert np.asarray(F, dtype=np.float32).dtype == np.float32
        with pytest.raises(ValueError, match=r"expected a vector \(31,\) or \(m, 31\), got \(31, 2\)"):
            V.T @ F


def test_operators_refuse_what_is_no_array_of_real_numbers() -> None:
    F = fisher.kfac(make_case(output="bernoulli", n=30).signals())
    for v in (1j * np.ones(31), ["a"] * 31, None, {}, np.array([None] * 31)):
        with pytest.raises(TypeError, match=r"expected the vector to be an array of (real )?numbers, got"):
            F @ v
    with pytest.raises(ValueError, match="expected the vector without masked entries, got 31 of 31"):
        F @ np.ma.masked_all(31)
    with pytest.raises(TypeError, match="expected the factor of a matrix to be a real number, got '2'"):
        "2" * F


def test_signals_matrices_and_inverses_can_be_pickled_and_copied() -> None:
    case = make_case(output="bernoulli", n=30)
    v = np.linspace(-1, 1, 31)
    for F in operators(case):
        for same in (pickle.loads(pickle.dumps(F)), copy.copy(F), copy.deepcopy(F)):
            assert error(same @ v, F @ v) < EXACT
    for batch_size in (None, 7):
        signals = case.signals(batch_size=batch_size)
        for same in (signals, signals.select([0, 1])):
            for twin in (pickle.loads(pickle.dumps(same)), copy.copy(same), copy.deepcopy(same)):
                for _ in range(2):  # it can be read again
                    assert error(fisher.exact(twin).array, fisher.exact(signals).array) < EXACT


# size -------------------------------------------------------------------------------------------------------


def test_signals_that_do_not_fit_say_how_large_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """60,000 images of 28 x 28, two convolutions and 10 classes: 134 GiB."""
    layers = [mk.layers.Conv2d(1, 8, 5), mk.layers.ReLU(), mk.layers.Flatten(), mk.layers.Dense(4608, 10)]
    net = mk.Network(layers, outputs.Categorical())
    theta = net.init(np.random.default_rng(0), dtype=np.float32)
    x = np.broadcast_to(np.zeros((1, 28, 28, 1), np.float32), (60_000, 28, 28, 1))
    monkeypatch.setattr(backend, "available_memory", lambda xp=None: 2**33)
    numbers = 576 * 26 + 10 * 576 * 8 + 4609 + 10 * 10
    sizes = rf"\(60,000 x {numbers:,}, float32\)"
    message = rf"abar and g of all layers {sizes} needs .* GiB, 8\.0 GiB are free; use batch_size=100"
    monkeypatch.setattr(mk.Network, "forward", first_example_only(mk.Network.forward))
    with pytest.raises(MemoryError, match=message):
        fisher.signals(net, theta, x)


def first_example_only(forward: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: mk.Network, theta: Any, x: Any, *rest: Any, **options: Any) -> Any:
        assert len(x) == 1
        return forward(self, theta, x, *rest, **options)

    return checked


def test_more_samples_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "available_memory", lambda xp=None: 2**20)
    case = make_case()
    with pytest.raises(
        MemoryError, match=r"sampled targets \(7 x 1,000,000 x 3, float64\) .* a smaller n_samples"
    ):
        case.signals(targets="sampled", n_samples=10**6, rng=np.random.default_rng(0))


# quality ----------------------------------------------------------------------------------------------------


def test_comparisons_refuse_what_has_no_squares() -> None:
    signals = make_case(output="bernoulli", n=30).signals()
    F = fisher.exact(signals)
    compare = partial(quality.compare, F, {"K-FAC": fisher.kfac(signals)})
    for gradient in (np.full(31, 1e200), np.full(31, 1e-200)):
        with pytest.raises(ValueError, match="expected a gradient whose square float64 can hold, got up to"):
            compare(gradient, 0.1)
    with pytest.raises(ValueError, match=r"expected damping up to 8\.2e\+76 in float64, got 1e\+80"):
        compare(np.ones(31), 1e80)
    for limit in (0, 2.5, True, None):
        with pytest.raises(ValueError, match=f"expected cg_limit to be a whole number >= 1, got {limit}"):
            compare(np.ones(31), 0.1, cg_limit=limit)


# words and containers ---------------------------------------------------------------------------------------

ODD_LAYERS = [2.5, True, None, [0], {}, np.array([0, 1])]
SIGNALS = make_case(output="bernoulli", n=30).signals()


@pytest.mark.parametrize("layer", ODD_LAYERS)
def test_layers_are_indices_or_names(layer: Any) -> None:
    for attempt in (
        lambda: SIGNALS[layer],
        lambda: SIGNALS.select([layer]),
        lambda: quality.layer_ledger(SIGNALS, layer, np.ones(31), 0.1),
    ):
        with pytest.raises(TypeError, match="expected the index or name of a layer, got"):
            attempt()


def test_settings_that_are_no_words_are_refused() -> None:
    F, K = fisher.exact(SIGNALS), fisher.kfac(SIGNALS)
    compare = partial(quality.compare, gradient=np.ones(31), damping=0.1)
    for odd in (2.5, True, None, [0], {}, np.array([0, 1])):
        for attempt, message in (
            (lambda odd=odd: fisher.mixed(SIGNALS, {0: odd}), "expected a kind among exact"),
            (lambda odd=odd: fisher.mixed(SIGNALS, {}, odd), "expected a kind among exact"),
            (
                lambda odd=odd: make_case().signals(targets=odd),
                "expected targets 'model', 'sampled' or 'data'",
            ),
            (lambda odd=odd: interop.convert(K, to=odd), "expected a library among pytorch"),
            (lambda odd=odd: compare(F, {"K-FAC": K}, measures=[odd]), "expected measures among matrix"),
        ):
            with pytest.raises(ValueError, match=message):
                attempt()
        if odd is not None:
            with pytest.raises(ValueError, match="expected 'eigen' or 'factored', got"):
                K.solve(np.ones(31), 0.1, odd)
    for odd in (2.5, None, "x", [0]):
        with pytest.raises(TypeError, match=r"expected kinds by layer, as in {0: 'exact'}, got"):
            fisher.mixed(SIGNALS, odd)
        with pytest.raises(TypeError, match=r"expected the dense matrix of fisher\.exact, got"):
            compare(odd, {"K-FAC": K})
        with pytest.raises(TypeError, match="expected approximations by name, got"):
            compare(F, odd)
        with pytest.raises(TypeError, match=r"expected blocks that are matrices of minikfac\.fisher, got"):
            fisher.BlockDiagonal([odd])
    for odd in (2.5, None):
        with pytest.raises(ValueError, match="expected a set of assumptions, got"):
            fisher.ladder(SIGNALS, odd)


def test_one_layer_with_shared_weights_makes_no_dense_chain() -> None:
    dense, other = next(iter(random_signals(shapes=((1, 3, 2), (4, 3, 2)))))
    for layers in ([dense, other], [other, dense]):
        signals = fisher.Signals.from_layers(layers)
        assert not signals.dense_chain
        with pytest.raises(ValueError, match="expected a chain of dense layers for block_tridiagonal"):
            fisher.block_tridiagonal(signals)
    assert fisher.Signals.from_layers([dense, dense]).dense_chain


def test_scale_and_shift_beside_weights_keep_their_whole_block() -> None:
    net = mk.Network(
        [mk.layers.Dense(3, 4), mk.layers.LayerNorm(4), mk.layers.Dense(4, 2)], outputs.Bernoulli()
    )
    rng = np.random.default_rng(0)
    signals = fisher.signals(net, rng.standard_normal(net.n_params), rng.standard_normal((9, 3)))
    whole = fisher.block_diagonal(signals).blocks[1].to_dense()
    for build in (
        fisher.nearest_kronecker,
        partial(fisher.ladder, assume={"IAD"}),
        fisher.kfac,
        fisher.ekfac,
    ):
        F = build(signals)
        assert error(F.blocks[1].to_dense(), whole) < EXACT


def test_the_error_has_the_condition_number_that_there_is() -> None:
    for smallest in (1e-16, 1e-18, 1e-20):
        F = fisher.DenseMatrix(np.diag([1.0, 0.5, 0.0]))
        with pytest.raises(linalg.SingularMatrixError, match="condition number") as caught:
            F.solve(np.ones(3), damping=smallest)
        stated = re.search(r"has ([\d.e+]+) with damping", str(caught.value))
        assert stated is not None
        assert 0.3 < float(stated[1]) * smallest < 3


def test_names_are_one_for_each_pair_of_factors() -> None:
    pairs = [(np.eye(2), np.eye(3))] * 2
    for names in (["a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="expected"):
            fisher.Kronecker(pairs, names)


def test_factors_of_several_layers_are_all_factorized() -> None:
    rng = np.random.default_rng(0)
    Ms = [M @ M.T + np.eye(3) for M in rng.standard_normal((4, 3, 3))]
    pairs = [((Ms[0], "A", 0.1), (Ms[1], "G", 0.1)), ((Ms[2], "A", 0.1), (Ms[3], "G", 0.1))]
    Ls = [L for pair in linalg.damped_choleskys(pairs, damping=0.01) for L in pair]
    assert len(Ls) == 4
    for L, M in zip(Ls, Ms, strict=True):
        close(np.tril(L) @ np.tril(L).T, M)
