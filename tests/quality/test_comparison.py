"""Every measure of an approximation against its definition, in dense NumPy and SciPy."""

import csv
import functools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
from threadpoolctl import threadpool_limits

import minikfac as mk
import minikfac.quality.comparison as measures
from minikfac import fisher, layers, outputs, quality
from oracles.fisher import (
    EXACT,
    SOLVE,
    Case,
    chain,
    cross_factors,
    error,
    factored,
    fisher_matrix,
    ladder_block,
    make_case,
    synthetic_factors,
    terms,
)

LAM = 0.05
LANCZOS = 2e-2
"""Eigenvalues by Lanczos iteration are asked for to 1 %, so a condition number has 2 %."""
SINGLE = 2e-3
"""Relative error of a comparison in float32 at condition numbers of some 1e2."""

CASES = {
    "bernoulli": make_case((3, 4, 3), "tanh", "bernoulli", n=40),
    "categorical": make_case((4, 3, 4, 3), "tanh", "categorical", n=25),
}
METHODS = {"factored": "factored"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On matrices this small, threads that wait for one another take longer than the work."""
    with threadpool_limits(1):
        yield


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def gradient(case: Case) -> np.ndarray:
    return case.net.gradient(case.theta, case.x, case.y)


def build(signals: fisher.Signals) -> dict[str, fisher.FisherMatrix]:
    kfac = fisher.kfac(signals)
    return {
        "exact": fisher.exact(signals),
        "block-diagonal": fisher.block_diagonal(signals),
        "diagonal": fisher.diagonal(signals),
        "K-FAC": kfac,
        "factored": kfac,
        "low rank": fisher.low_rank(signals, 5),
        "tridiagonal": fisher.block_tridiagonal(signals),
    }


def compare(case: Case, damping: float = LAM, **options: object) -> quality.Comparison:
    signals = case.signals()
    F = fisher.exact(signals)
    return quality.compare(F, build(signals), gradient(case), damping, methods=METHODS, **options)


@functools.cache
def oracle(output: str) -> tuple[np.ndarray, list, list]:
    """The exact matrix of a case, and the Kronecker factors of its layers and of neighbouring ones."""
    case = CASES[output]
    last = len(case.slices) - 1
    own = [cross_factors(case, layer, layer) for layer in range(last + 1)]
    return fisher_matrix(terms(case)), own, [cross_factors(case, layer, layer + 1) for layer in range(last)]


def dense(case: Case, name: str, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """An approximation undamped (or, where that does not exist, less lambda I) and damped, by definition."""
    F, own, cross = oracle(case.output)
    identity = np.eye(len(F))
    if name in ("factored", "tridiagonal"):
        damped = [factored(A, G, lam) for A, G in own] if lam > 0 else own
        if name == "factored":
            M = scipy.linalg.block_diag(*(np.kron(A, G) for A, G in damped))
        else:
            M = chain(damped, cross)[0]
            if case.output == "bernoulli":  # the chain exists undamped
                return chain(own, cross)[0], M
        return M - lam * identity, M
    if name == "K-FAC":
        F = scipy.linalg.block_diag(*(np.kron(A, G) for A, G in own))
    elif name == "block-diagonal":
        F = scipy.linalg.block_diag(*(F[own, own] for own in case.slices))
    elif name == "diagonal":
        F = np.diag(np.diag(F))
    elif name == "low rank":
        values, vectors = np.linalg.eigh(F)
        F = (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T
    return F, F + lam * identity


def decrease(F: np.ndarray, grad: np.ndarray, step: np.ndarray) -> float:
    """The most that 1/2 d'Fd - g'd falls along d = alpha step."""
    alpha = (grad @ step) / (step @ F @ step)
    return -(0.5 * alpha**2 * step @ F @ step - alpha * grad @ step)


def pcg_iterations(F: np.ndarray, M: np.ndarray, b: np.ndarray) -> int:
    inverse = scipy.linalg.inv(M)
    iterates: list[np.ndarray] = []
    _, info = scipy.sparse.linalg.cg(F, b, rtol=1e-6, M=inverse, callback=iterates.append, maxiter=1000)
    assert info == 0
    return len(iterates)


def expected_row(case: Case, name: str, lam: float, own: slice) -> dict[str, float]:
    """All measures of one approximation, for all parameters or the errors and step of one layer."""
    F, (M, M_lam) = oracle(case.output)[0], dense(case, name, lam)
    F_lam, grad = F + lam * np.eye(len(F)), gradient(case)
    exact_inverse, inverse = scipy.linalg.inv(F_lam), scipy.linalg.inv(M_lam)
    step, exact_step = scipy.linalg.solve(M_lam, grad), scipy.linalg.solve(F_lam, grad)

    def frobenius(of: np.ndarray) -> float:
        return float(np.sqrt((of[own, own] ** 2).sum()))

    row = {
        "error": frobenius(F - M) / frobenius(F),
        "spectral_error": np.linalg.norm((F - M)[own, own], 2) / np.linalg.norm(F[own, own], 2),
        "c_star": (M * F)[own, own].sum() / frobenius(M) ** 2,
        "inverse_error": frobenius(exact_inverse - inverse) / frobenius(exact_inverse),
        "step_cosine": step[own]
        @ exact_step[own]
        / (np.linalg.norm(step[own]) * np.linalg.norm(exact_step[own])),
        "step_length": np.linalg.norm(step[own]) / np.linalg.norm(exact_step[own]),
    }
    if own == slice(None):
        values = scipy.linalg.eigh(F_lam, M_lam, eigvals_only=True)
        row |= {
            "share": decrease(F_lam, grad, step) / decrease(F_lam, grad, exact_step),
            "kl": 0.5
            * (
                np.trace(inverse @ F_lam) - len(F) + np.linalg.slogdet(M_lam)[1] - np.linalg.slogdet(F_lam)[1]
            ),
            "eigenvalue_min": values[0],
            "eigenvalue_max": values[-1],
            "condition": values[-1] / values[0],
            "cg_iterations": pcg_iterations(F_lam, M_lam, grad),
        }
    return row


APPROXIMATIONS = ["block-diagonal", "diagonal", "K-FAC", "factored", "low rank", "tridiagonal"]


@pytest.fixture(scope="module")
def comparisons() -> dict[str, quality.Comparison]:
    return {name: compare(case) for name, case in CASES.items()}


@pytest.mark.parametrize("name", APPROXIMATIONS)
@pytest.mark.parametrize("output", CASES)
def test_every_measure_is_its_definition(
    comparisons: dict[str, quality.Comparison], output: str, name: str
) -> None:
    case, found = CASES[output], comparisons[output]
    expected = expected_row(case, name, LAM, slice(None))
    assert {column: found[name][column] for column in expected} == pytest.approx(expected, rel=SOLVE)
    for layer, own in zip(case.net.names, case.slices, strict=True):
        (row,) = [row for row in found.layer(layer) if row["approximation"] == name]
        expected = expected_row(case, name, LAM, own)
        assert {column: row[column] for column in expected} == pytest.approx(expected, rel=SOLVE)
        assert set(row) == {"approximation", "layer", "build_seconds", *expected} - {"build_seconds"}


def test_the_exact_matrix_makes_no_error(comparisons: dict[str, quality.Comparison]) -> None:
    for comparison in comparisons.values():
        row = comparison["exact"]
        assert (row["error"], row["spectral_error"], row["cg_iterations"]) == (0, 0, 1)
        for column in ("c_star", "step_cosine", "step_length", "share"):
            assert row[column] == pytest.approx(1, abs=EXACT)
        for column in ("eigenvalue_min", "eigenvalue_max", "condition"):
            assert row[column] == pytest.approx(1, abs=SOLVE)
        assert max(row["inverse_error"], abs(row["kl"])) < SOLVE


@pytest.mark.parametrize("lam", [1e-3, 1e-1, 10.0])
def test_an_approximation_gains_at_most_the_exact_progress(case: Case, lam: float) -> None:
    found = compare(case, lam)
    for name in APPROXIMATIONS:
        row = found[name]
        assert 0 < row["share"] < 1
        assert row["kl"] > 0
        assert -1 <= row["step_cosine"] <= 1
        assert 0 < row["eigenvalue_min"] <= row["eigenvalue_max"]


def test_floats_are_what_is_stored(comparisons: dict[str, quality.Comparison]) -> None:
    factors = 4**2 + 4**2 + 5**2 + 3**2  # 3-4-3 with biases: weights (4, 4) and (5, 3)
    expected = {
        "exact": 31**2,
        "block-diagonal": 16**2 + 15**2,
        "diagonal": 31,
        "K-FAC": factors,
        "low rank": 5 * 31,
        "tridiagonal": factors + 4 * 5 + 4 * 3,
    }
    assert {name: comparisons["bernoulli"][name]["floats"] for name in expected} == expected


def test_only_what_was_built_here_has_a_build_time(case: Case) -> None:
    signals, seen = case.signals(), []
    approximations = {"held": fisher.kfac(signals), "built": lambda: fisher.kfac(signals)}
    F = fisher.exact(signals)
    found = quality.compare(F, approximations, gradient(case), LAM, on_progress=seen.append)
    assert found["held"]["build_seconds"] is None
    assert found["built"]["build_seconds"] > 0
    assert found["held"]["solve_seconds"] > 0
    assert seen == ["held", "built"]


# scale --------------------------------------------------------------------------------------------------


def scaled(factor: float, signals: fisher.Signals) -> fisher.FisherMatrix:
    """K-FAC whose G is wrong by a factor."""
    return fisher.Kronecker([(b.A, b.G * factor) for b in fisher.kfac(signals).blocks], signals.names)


def test_share_does_not_depend_on_the_scale_of_a_step() -> None:
    case = CASES["bernoulli"]
    signals = case.signals()
    approximations = {"K-FAC": fisher.kfac(signals), "1000 times": scaled(1000, signals)}
    found = quality.compare(fisher.exact(signals), approximations, gradient(case), damping=0)
    right, wrong = found["K-FAC"], found["1000 times"]
    for column in ("share", "step_cosine", "condition"):
        assert wrong[column] == pytest.approx(right[column], rel=SOLVE)
    assert wrong["step_length"] == pytest.approx(right["step_length"] / 1000, rel=SOLVE)


def one_hot_signals(n: int = 6, t: int = 5, i: int = 3, o: int = 2) -> fisher.Signals:
    """Derivatives that are uncorrelated between locations and the same for all examples: KFC is exact."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((o, o))
    g = np.zeros((t, o, n, t, o))
    for location in range(t):
        g[location, :, :, location] = root[:, None, :]
    abar = rng.standard_normal((n, t, i))
    return fisher.Signals.from_layers([fisher.LayerSignals(abar, g.reshape(t * o, n, t, o))])


@pytest.mark.parametrize("bug", ["G divided by N", "G times N", "1 / T missing", "1 / T twice"])
def test_a_wrong_scale_shows_in_c_star(bug: str) -> None:
    n, t = 6, 5
    factor = {"G divided by N": 1 / n, "G times N": n, "1 / T missing": t, "1 / T twice": 1 / t}[bug]
    signals = one_hot_signals(n, t)
    found = quality.compare(
        fisher.exact(signals),
        {"right": fisher.kfac(signals), bug: scaled(factor, signals)},
        np.ones(6),
        LAM,
    )
    assert found["right"]["c_star"] == pytest.approx(1, abs=EXACT)
    assert found[bug]["c_star"] == pytest.approx(1 / factor, rel=EXACT)
    assert found[bug]["error"] == pytest.approx(abs(1 - factor), rel=EXACT)


def test_samples_averaged_twice_show_in_c_star() -> None:
    m, case = 16, CASES["bernoulli"]
    sampled = case.signals(targets="sampled", n_samples=m, rng=np.random.default_rng(0))
    wrong = [  # divided by M where each of M targets has weight 1 / sqrt(M)
        fisher.LayerSignals(sampled[layer].abar, sampled[layer].g / m**0.5) for layer in range(len(sampled))
    ]
    found = quality.compare(
        fisher.exact(case.signals()),
        {
            "right": fisher.exact(sampled),
            "divided by M": fisher.exact(fisher.Signals.from_layers(wrong)),
        },
        gradient(case),
        LAM,
    )
    assert 0.9 < found["right"]["c_star"] < 1.1
    assert found["divided by M"]["c_star"] == pytest.approx(m * found["right"]["c_star"], rel=EXACT)


# where a comparison is harder ------------------------------------------------------------------------------


def test_without_damping_on_a_nonsingular_matrix() -> None:
    case = CASES["bernoulli"]
    signals = case.signals()
    approximations = {name: M for name, M in build(signals).items() if name != "low rank"}
    found = quality.compare(fisher.exact(signals), approximations, gradient(case), damping=0)
    for name in ("block-diagonal", "diagonal", "K-FAC", "tridiagonal"):
        expected = expected_row(case, name, 0, slice(None))
        # at a condition number of some 1e4, rounding decides on the last iterations
        assert found[name]["cg_iterations"] == pytest.approx(expected.pop("cg_iterations"), rel=0.1)
        assert {column: found[name][column] for column in expected} == pytest.approx(expected, rel=1e-6)


def test_lanczos_finds_the_extreme_eigenvalues_of_a_whole_decomposition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = make_case((6, 7, 4), "tanh", "categorical", n=60)
    assert len(case.theta) > 64  # fewer are decomposed whole even so
    whole = compare(case)
    monkeypatch.setattr(measures, "_SMALL", 10)
    iterated = compare(case)
    others = 0
    for name in APPROXIMATIONS:
        for column in ("eigenvalue_min", "eigenvalue_max", "condition"):
            found, expected = iterated[name][column], whole[name][column]
            assert found == pytest.approx(expected, rel=LANCZOS)
            others += found != expected
    assert others > 0  # they did come another way


def test_conjugate_gradients_that_reach_the_limit_are_not_reached(case: Case) -> None:
    found = compare(case, cg_limit=2)
    assert found["diagonal"]["cg_iterations"] == math.inf
    assert found["exact"]["cg_iterations"] == 1
    assert "not reached" in str(found)


def test_a_zero_gradient_has_no_step_to_compare(case: Case) -> None:
    signals = case.signals()
    found = quality.compare(fisher.exact(signals), {"K-FAC": fisher.kfac(signals)}, 0 * gradient(case), LAM)[
        "K-FAC"
    ]
    assert all(math.isnan(found[column]) for column in ("step_cosine", "step_length", "share"))
    assert found["cg_iterations"] == 0
    assert found["kl"] == pytest.approx(compare(case)["K-FAC"]["kl"], rel=SOLVE)


def test_a_layer_below_dead_units_has_no_relative_error() -> None:
    net = mk.mlp([3, 4, 2], "relu")
    rng = np.random.default_rng(0)
    theta, x = net.init(rng), rng.random((9, 3))
    W = net.unpack(theta)[0]
    W[:-1], W[-1] = -abs(W[:-1]), -1.0  # no unit ever fires
    signals = fisher.signals(net, theta, x)
    grad = net.gradient(theta, x, rng.integers(0, 2, 9))
    found = quality.compare(fisher.exact(signals), {"K-FAC": fisher.kfac(signals)}, grad, LAM)
    dead, alive = found.layer("dense0")[0], found.layer("dense1")[0]
    assert all(math.isnan(dead[column]) for column in ("error", "spectral_error", "c_star", "step_cosine"))
    assert dead["inverse_error"] < EXACT
    assert alive["c_star"] == pytest.approx(1, abs=EXACT)


def test_single_precision_agrees_with_double(case: Case) -> None:
    single = Case(
        case.sizes,
        case.activation,
        case.output,
        case.net,
        case.theta.astype(np.float32),
        case.x.astype(np.float32),
        case.y.astype(np.float32) if case.y.dtype.kind == "f" else case.y,
    )
    found, expected = compare(single), compare(case)
    for name in APPROXIMATIONS:
        for column in quality.COLUMNS:
            if column.endswith("seconds"):
                continue
            assert type(found[name][column]) is type(expected[name][column])
            if column == "cg_iterations":
                # rounding costs iterations
                assert expected[name][column] <= found[name][column] < 2 * expected[name][column]
            else:
                assert found[name][column] == pytest.approx(expected[name][column], rel=SINGLE)


def test_layers_in_the_middle_are_compared_alone() -> None:
    case = CASES["categorical"]
    middle = case.signals().select([1, 2])
    own = slice(case.slices[1].start, case.slices[2].stop)
    found = quality.compare(fisher.exact(middle), {"K-FAC": fisher.kfac(middle)}, gradient(case)[own], LAM)
    M = dense(case, "K-FAC", LAM)[0][own, own]
    F = oracle(case.output)[0][own, own]
    assert found["K-FAC"]["error"] == pytest.approx(error(M, F), rel=SOLVE)
    assert [row["layer"] for row in found.rows] == ["all", "dense1", "dense2"]


# errors -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_is_refused() -> None:
    case = CASES["categorical"]
    signals, grad = case.signals(), gradient(case)
    F, kfac = fisher.exact(signals), fisher.kfac(signals)
    held = {"K-FAC": kfac}

    def refused(kind: type[Exception], match: str, *arguments: object, **options: object) -> None:
        with pytest.raises(kind, match=match):
            quality.compare(*arguments, **options)

    P = len(grad)
    refused(ValueError, rf"gradient of shape \({P},\), got \({P - 1},\)", F, held, grad[1:], LAM)
    refused(ValueError, "expected a finite gradient", F, held, np.full(P, np.nan), LAM)
    refused(ValueError, "expected finite damping >= 0, got -1", F, held, grad, -1)
    refused(ValueError, r"the exact Fisher matrix .* numerical rank .* use damping > 0", F, held, grad, 0)
    refused(TypeError, "matrix of fisher.exact, got BlockDiagonal", kfac, held, grad, LAM)
    refused(TypeError, "'K-FAC' to be a Fisher matrix, got ndarray", F, {"K-FAC": F.array}, grad, LAM)
    refused(TypeError, "'K-FAC' to be a Fisher matrix, got ndarray", F, {"K-FAC": lambda: F.array}, grad, LAM)
    refused(ValueError, r"approximations \[\] and methods", F, {}, grad, LAM)
    refused(ValueError, r"methods for \['EKFAC'\]", F, held, grad, LAM, methods={"EKFAC": "eigen"})
    refused(ValueError, "expected 'eigen' or 'factored', got 'exact'", F, held, grad, LAM, {"K-FAC": "exact"})
    last = fisher.kfac(signals.select([2]))
    refused(ValueError, rf"'last' of shape \({P}, {P}\), got \(15, 15\)", F, {"last": last}, grad, LAM)


def test_an_approximation_that_is_singular_without_damping_is_named() -> None:
    case = CASES["bernoulli"]
    signals = case.signals()
    with pytest.raises(ValueError, match=r"the low-rank matrix .* has rank 5"):
        quality.compare(
            fisher.exact(signals), {"low rank": fisher.low_rank(signals, 5)}, gradient(case), damping=0
        )


# spectra, cosines and the ledger -------------------------------------------------------------------------


def test_preconditioned_spectrum_is_that_of_the_pencil(case: Case) -> None:
    signals = case.signals()
    F, held = fisher.exact(signals), build(signals)
    damped = oracle(case.output)[0] + LAM * np.eye(len(case.theta))
    for name in APPROXIMATIONS:
        found = quality.preconditioned_spectrum(F, held[name], LAM, METHODS.get(name))
        assert error(found, scipy.linalg.eigh(damped, dense(case, name, LAM)[1], eigvals_only=True)) < SOLVE
    assert abs(quality.preconditioned_spectrum(F, F, LAM) - 1).max() < SOLVE


def test_spectrum_holds_all_eigenvalues(case: Case) -> None:
    found = quality.spectrum(fisher.kfac(case.signals()))
    assert error(found, np.linalg.eigvalsh(dense(case, "K-FAC", LAM)[0])) < EXACT


def test_step_cosines_for_each_damping(case: Case) -> None:
    signals, dampings = case.signals(), [1e-3, 0.1, 1e6]
    found = quality.step_cosines(fisher.exact(signals), build(signals), gradient(case), dampings, METHODS)
    for name in APPROXIMATIONS:
        expected = [expected_row(case, name, lam, slice(None))["step_cosine"] for lam in dampings]
        assert found[name] == pytest.approx(expected, rel=SOLVE)
        assert found[name][-1] == pytest.approx(1, abs=1e-5)  # gradient descent, the one as the other
    assert found["exact"] == pytest.approx([1, 1, 1], abs=EXACT)


def test_the_ledger_adds_one_assumption_a_row(case: Case) -> None:
    F, grad = oracle(case.output)[0], gradient(case)
    rows = quality.ledger(case.signals(), grad, LAM)
    damped = [F + LAM * np.eye(len(F))]
    damped += [dense(case, name, LAM)[1] for name in ("block-diagonal", "K-FAC", "factored")]
    exact_step = np.linalg.solve(damped[0], grad)
    assert [row["label"] for row in rows] == [
        "exact Fisher matrix",
        "no correlations between layers",
        "activations independent of derivatives",
        "factored damping",
    ]
    for row, M, above in zip(rows, damped, [damped[0], *damped], strict=False):
        step = np.linalg.solve(M, grad)
        expected = {
            "error": np.linalg.norm(M - damped[0]) / np.linalg.norm(F),
            "cost": np.linalg.norm(M - above) / np.linalg.norm(F),
            "c_star": (M * damped[0]).sum() / (M**2).sum(),
            "step_cosine": step @ exact_step / np.linalg.norm(step) / np.linalg.norm(exact_step),
            "step_length": np.linalg.norm(step) / np.linalg.norm(exact_step),
            "share": decrease(damped[0], grad, step) / decrease(damped[0], grad, exact_step),
        }
        assert {column: row[column] for column in expected} == pytest.approx(expected, rel=SOLVE, abs=EXACT)
    assert [row["above"] for row in rows] == [None, *(row["label"] for row in rows[:-1])]
    assert rows[0]["error"] == rows[0]["cost"] == 0
    assert min(row["cost"] for row in rows[1:]) > 1e-3
    given = quality.ledger(case.signals(), grad, LAM, fisher.exact(case.signals()))
    assert given == rows


CONV_ROWS = {  # label: assumptions or kind, and the row it is compared with
    "exact Fisher matrix": ("exact", None),
    "no correlations between layers": ("blocks", "exact Fisher matrix"),
    "SUD: derivatives uncorrelated in space": ({"SUD"}, "no correlations between layers"),
    "IAD: activations independent of derivatives": ({"IAD"}, "no correlations between layers"),
    "IAD + SUD": ({"IAD", "SUD"}, "IAD: activations independent of derivatives"),
    "IAD + SH: derivatives homogeneous in space": (
        {"IAD", "SH"},
        "IAD: activations independent of derivatives",
    ),
    "IAD + SH + SUD: KFC": ({"IAD", "SH", "SUD"}, "IAD + SH: derivatives homogeneous in space"),
    "KFAC-reduce: derivatives alike at all distances": (
        "reduce",
        "IAD: activations independent of derivatives",
    ),
    "T x KFC: the same at all locations": ("T x KFC", "IAD: activations independent of derivatives"),
    "factored damping": ("factored", "IAD + SH + SUD: KFC"),
}


@functools.cache
def conv_case() -> tuple[fisher.Signals, np.ndarray]:
    """Signals and gradient of convolutions with a normalization between and a dense layer above."""
    rng = np.random.default_rng(0)
    net = mk.Network(
        [
            layers.Conv2d(1, 2, 2, padding=(0, 1)),
            layers.GroupNorm(1, 2),
            layers.Tanh(),
            layers.Conv2d(2, 2, 2, bias=False),
            layers.Tanh(),
            layers.Flatten(),
            layers.Dense(6, 3),
        ],
        outputs.Categorical(),
    )
    theta = net.init(rng) + 0.3 * rng.standard_normal(net.n_params)
    x, y = rng.standard_normal((20, 3, 3, 1)), rng.integers(0, 3, 20)
    return fisher.signals(net, theta, x), net.gradient(theta, x, y)


def conv_blocks(kind: str | set[str]) -> list[np.ndarray]:
    """Undamped blocks of a row in :data:`CONV_ROWS`, by loops."""
    found = []
    for layer in next(iter(conv_case()[0])):
        rows = layer.gradients().reshape(-1, layer.weight_shape[0] * layer.weight_shape[1])
        whole = rows.T @ rows / len(layer.abar)
        T = layer.abar.shape[1]
        if layer.scale_and_shift or kind == "blocks":
            found.append(whole)
        elif isinstance(kind, set):
            found.append(ladder_block(layer, kind))
        elif kind == "factored":
            A, G = factored(*synthetic_factors(layer), LAM)
            found.append(np.kron(A, G) - LAM * np.eye(len(whole)))
        else:
            scale = T if kind == "T x KFC" else 1
            found.append(scale * np.kron(*synthetic_factors(layer, reduce=kind == "reduce")))
    return found


def ledger_row(M: np.ndarray, above: np.ndarray, F: np.ndarray, grad: np.ndarray) -> dict[str, float]:
    """A row of the ledger by its definition, from undamped matrices."""
    M_lam, F_lam = (own + LAM * np.eye(len(F)) for own in (M, F))
    step, exact_step = np.linalg.solve(M_lam, grad), np.linalg.solve(F_lam, grad)
    values = np.linalg.eigvalsh(M)
    row = {
        "error": np.linalg.norm(M - F) / np.linalg.norm(F),
        "cost": np.linalg.norm(M - above) / np.linalg.norm(F),
        "c_star": (M_lam * F_lam).sum() / (M_lam**2).sum(),
        "step_cosine": step @ exact_step / np.linalg.norm(step) / np.linalg.norm(exact_step),
        "step_length": np.linalg.norm(step) / np.linalg.norm(exact_step),
        "share": decrease(F_lam, grad, step) / decrease(F_lam, grad, exact_step),
        "lowest_eigenvalue": values[0] / abs(values).max(),
    }
    if values[0] < -LAM:
        row |= dict.fromkeys(("step_cosine", "step_length", "share"), math.nan)
    return row


def check_rows(
    rows: list[dict], matrices: dict[str, np.ndarray], F: np.ndarray, grad: np.ndarray, chain: dict
) -> None:
    assert [row["label"] for row in rows] == list(matrices)
    for row in rows:
        above = chain[row["label"]]
        assert row["above"] == above
        expected = ledger_row(matrices[row["label"]], matrices[above or row["label"]], F, grad)
        found = {column: row[column] for column in expected if column in row}
        expected = {column: expected[column] for column in found}
        assert found == pytest.approx(expected, rel=SOLVE, abs=EXACT, nan_ok=True), row["label"]


def test_the_ledger_of_a_convolutional_net_has_a_row_for_every_set_of_assumptions() -> None:
    signals, grad = conv_case()
    F = synthetic_whole(signals)
    matrices = {
        label: F if kind == "exact" else scipy.linalg.block_diag(*conv_blocks(kind))
        for label, (kind, _) in CONV_ROWS.items()
    }
    rows = quality.ledger(signals, grad, LAM)
    check_rows(rows, matrices, F, grad, {label: above for label, (_, above) in CONV_ROWS.items()})
    assert min(row["cost"] for row in rows[1:]) > 1e-3


def synthetic_whole(signals: fisher.Signals) -> np.ndarray:
    (chunk,) = signals
    rows = np.concatenate([layer.gradients() for layer in chunk], axis=2)
    rows = rows.reshape(-1, rows.shape[2])
    return rows.T @ rows / signals.n


def test_the_ledger_of_a_layer_is_that_of_its_block() -> None:
    signals, grad = conv_case()
    chain = {
        label: "exact Fisher matrix" if above == "no correlations between layers" else above
        for label, (_, above) in CONV_ROWS.items()
    }
    for position in (0, 2):
        own = signals.slices[position]
        F = conv_blocks("blocks")[position]
        matrices = {
            label: F if kind == "exact" else conv_blocks(kind)[position]
            for label, (kind, _) in CONV_ROWS.items()
            if kind != "blocks"
        }
        for given in (position, signals.names[position]):
            rows = quality.layer_ledger(signals, given, grad, LAM)
            assert all("lowest_eigenvalue" in row for row in rows)
            check_rows(rows, matrices, F, grad[own], chain)


def test_the_ledger_of_a_dense_layer_and_of_a_normalization() -> None:
    signals, grad = conv_case()
    rows = quality.layer_ledger(signals, "dense3", grad, LAM)
    assert [row["label"] for row in rows] == [
        "exact Fisher matrix",
        "activations independent of derivatives",
        "factored damping",
    ]
    assert [row["above"] for row in rows] == [None, *(row["label"] for row in rows[:-1])]
    F, K = (conv_blocks(kind)[3] for kind in ("blocks", {"IAD"}))
    expected = ledger_row(K, F, F, grad[signals.slices[3]])
    assert {column: rows[1][column] for column in expected} == pytest.approx(expected, rel=SOLVE, abs=EXACT)
    assert len(quality.layer_ledger(signals, "groupnorm1", grad, LAM)) == 1


def test_an_indefinite_row_has_no_step() -> None:
    """Signals at two opposite corners of a grid: SH takes a mean over nine pairs beside that over one."""
    rng = np.random.default_rng(0)
    abar, g = 0.2 * rng.standard_normal((4, 9, 3)), np.zeros((2, 4, 9, 2))
    abar[:, 0] = abar[:, 8] = rng.standard_normal((4, 3))
    g[:, :, 0] = rng.standard_normal((2, 4, 2))
    g[:, :, 8] = -0.9 * g[:, :, 0]
    signals = fisher.Signals.from_layers([fisher.LayerSignals(abar, g, (3, 3))])
    rows = {row["label"]: row for row in quality.layer_ledger(signals, 0, np.ones(6), LAM)}
    indefinite = rows.pop("IAD + SH: derivatives homogeneous in space")
    for column in ("step_cosine", "step_length", "share"):
        assert math.isnan(indefinite[column])
        assert all(math.isfinite(row[column]) for row in rows.values())
    assert indefinite["lowest_eigenvalue"] < -0.1
    assert all(row["lowest_eigenvalue"] > -EXACT for row in list(rows.values())[:-1])
    assert math.isfinite(indefinite["error"])
    whole = quality.ledger(signals, np.ones(6), LAM)
    assert [row["label"] for row in whole if math.isnan(row["step_cosine"])] == [indefinite["label"]]


def test_the_ledger_of_a_layer_refuses_a_gradient_of_that_layer_alone() -> None:
    signals, grad = conv_case()
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(51,\), got \(10,\)"):
        quality.layer_ledger(signals, 0, grad[:10], LAM)


def test_the_ledger_refuses_what_a_comparison_refuses(case: Case) -> None:
    with pytest.raises(ValueError, match="expected a gradient of shape"):
        quality.ledger(case.signals(), gradient(case)[1:], LAM)


# results ---------------------------------------------------------------------------------------------------


def of_seed(seed: int) -> quality.Comparison:
    case = make_case((3, 4, 3), "tanh", "bernoulli", n=20, seed=seed)
    signals = case.signals()
    return quality.compare(
        fisher.exact(signals), {"K-FAC": lambda: fisher.kfac(signals)}, gradient(case), LAM
    )


def test_over_seeds_gives_means_and_standard_deviations() -> None:
    runs, found = [of_seed(seed) for seed in range(4)], quality.over_seeds(of_seed, range(4))
    assert found.spread is not None
    for at, (mean, spread) in enumerate(zip(found.rows, found.spread, strict=True)):
        assert (mean["approximation"], mean["layer"]) == ("K-FAC", runs[0].rows[at]["layer"])
        assert set(mean) == set(runs[0].rows[at]) == set(spread)
        for column in set(mean) & set(quality.COLUMNS):
            if not column.endswith("seconds"):
                values = [run.rows[at][column] for run in runs]
                assert mean[column] == pytest.approx(np.mean(values), rel=EXACT)
                assert spread[column] == pytest.approx(np.std(values, ddof=1), rel=SOLVE)
    assert found.damping == LAM


def test_over_seeds_prints_and_writes_both(tmp_path: Path) -> None:
    found = quality.over_seeds(of_seed, range(3))
    assert found.spread is not None
    mean, spread = found["K-FAC"]["error"], found.spread[0]["error"]
    assert f"{mean:.3g} ± {spread:.3g}" in str(found)
    assert f" ± {found.spread[2]['c_star']:.3g}" in found.table("dense1")[1][0][3]
    found.to_csv(tmp_path / "seeds.csv")
    with open(tmp_path / "seeds.csv", newline="", encoding="utf-8") as file:
        whole, layer, _ = csv.DictReader(file)
    assert (float(whole["error"]), float(whole["error_sd"])) == (mean, spread)
    assert layer["share_sd"] == ""


def test_over_seeds_needs_two_of_a_kind() -> None:
    with pytest.raises(ValueError, match="at least two seeds, got 1"):
        quality.over_seeds(of_seed, [0])
    with pytest.raises(ValueError, match="the same rows for every seed, got 2 kinds"):
        quality.over_seeds(lambda seed: of_seed(0) if seed else compare(CASES["bernoulli"]), [0, 1])


@pytest.fixture(scope="module")
def comparison() -> quality.Comparison:
    return compare(CASES["bernoulli"])


def test_a_comparison_prints_one_line_per_approximation(comparison: quality.Comparison) -> None:
    tables = str(comparison).split("\n\n")
    assert len(tables) == 2
    for table in tables:
        header, *lines = table.splitlines()
        assert header.startswith("approximation  ")
        assert [line.split("  ")[0] for line in lines] == [*build(CASES["bernoulli"].signals())]
        assert max(map(len, table.splitlines())) <= 110
    assert "build seconds" not in str(comparison)  # none was timed
    assert "cg iterations" in tables[1]


def test_csv_holds_every_number(comparison: quality.Comparison, tmp_path: Path) -> None:
    comparison.to_csv(tmp_path / "quality.csv")
    with open(tmp_path / "quality.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(comparison.rows)
    for line, row in zip(read, comparison.rows, strict=True):
        assert (line["approximation"], line["layer"]) == (row["approximation"], row["layer"])
        for column in quality.COLUMNS:
            value = row.get(column)
            assert line[column] == "" if value is None else float(line[column]) == value


def test_dicts_are_copies(comparison: quality.Comparison) -> None:
    copies = comparison.to_dicts()
    assert copies == comparison.rows
    copies[0]["error"] = 17
    assert comparison.rows[0]["error"] != 17


def test_unknown_names_are_refused_with_the_known_ones(comparison: quality.Comparison) -> None:
    with pytest.raises(KeyError, match="among all, dense0, dense1, got 'dense7'"):
        comparison.layer("dense7")
    with pytest.raises(KeyError, match=r"among exact, block-diagonal, .* got 'KFAC'"):
        comparison["KFAC"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.inf, "not reached"),
        (math.nan, "-"),
        (7, "7"),
        (7030**2, "49,420,900"),
        (250.0, "250"),
        (0.5, "0.5"),
        (1.0, "1"),
        (-0.012345, "-0.0123"),
        (999.7, "1,000"),
        (12345.6, "12,346"),
        (1.5e-9, "1.5e-09"),
    ],
)
def test_cells_are_written_as_a_person_would(value: float | None, text: str) -> None:
    assert quality.format_cell(value) == text
