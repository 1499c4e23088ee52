"""Every measure of an approximation against its definition, in dense NumPy and SciPy."""

import math

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, quality
from minikfac.quality import measures
from oracles import EXACT, SOLVE, error
from oracles.fisher import Case, make_case
from oracles.quality import (
    APPROXIMATIONS,
    CASES,
    LAM,
    build,
    compare,
    dense,
    expected_row,
    gradient,
    oracle,
)

LANCZOS = 2e-2
"""Eigenvalues by Lanczos iteration are asked for to 1 %, so a condition number has 2 %."""
SINGLE = 2e-3
"""Relative error of a comparison in float32 at condition numbers of some 1e2."""


@pytest.fixture(scope="module")
def comparisons() -> dict[str, quality.Comparison]:
    return {name: compare(case) for name, case in CASES.items()}


@pytest.mark.parametrize("name", APPROXIMATIONS)
@pytest.mark.parametrize("output", CASES)
def test_every_measure_is_its_definition(comparisons: dict[str, quality.Comparison], output: str, name: str):
    case, comparison = CASES[output], comparisons[output]
    expected = expected_row(case, name, LAM, slice(None))
    assert {column: comparison[name][column] for column in expected} == pytest.approx(expected, rel=SOLVE)
    for layer, part in zip(case.net.names, case.slices, strict=True):
        (row,) = [row for row in comparison.layer(layer) if row["approximation"] == name]
        expected = expected_row(case, name, LAM, part)
        assert {column: row[column] for column in expected} == pytest.approx(expected, rel=SOLVE)
        assert set(row) == {"approximation", "layer", "build_seconds", *expected} - {"build_seconds"}


def test_the_exact_matrix_makes_no_error(comparisons: dict[str, quality.Comparison]):
    for comparison in comparisons.values():
        row = comparison["exact"]
        assert (row["error"], row["spectral_error"], row["cg_iterations"]) == (0, 0, 1)
        for column in ("c_star", "step_cosine", "step_length", "share"):
            assert row[column] == pytest.approx(1, abs=EXACT)
        for column in ("eigenvalue_min", "eigenvalue_max", "condition"):
            assert row[column] == pytest.approx(1, abs=SOLVE)
        assert max(row["inverse_error"], abs(row["kl"])) < SOLVE


@pytest.mark.parametrize("lam", [1e-3, 1e-1, 10.0])
def test_an_approximation_gains_at_most_the_exact_progress(case: Case, lam: float):
    comparison = compare(case, lam)
    for name in APPROXIMATIONS:
        row = comparison[name]
        assert 0 < row["share"] < 1
        assert row["kl"] > 0
        assert -1 <= row["step_cosine"] <= 1
        assert 0 < row["eigenvalue_min"] <= row["eigenvalue_max"]


def test_floats_are_what_is_stored(comparisons: dict[str, quality.Comparison]):
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


def test_build_seconds_are_those_handed_in(case):
    signals, seen = case.signals(), []
    approximations = {"K-FAC": fisher.kfac(signals), "diagonal": fisher.diagonal(signals)}
    F = fisher.exact(signals)
    comparison = quality.compare(
        F, approximations, gradient(case), LAM, build_seconds={"K-FAC": 0.5}, on_progress=seen.append
    )
    assert comparison["K-FAC"]["build_seconds"] == 0.5
    assert comparison["diagonal"]["build_seconds"] is None
    assert comparison["K-FAC"]["solve_seconds"] > 0
    assert seen == ["K-FAC", "diagonal"]


# scale --------------------------------------------------------------------------------------------------


def scaled(factor: float, signals: fisher.Signals) -> fisher.FisherMatrix:
    """K-FAC whose G is wrong by a factor."""
    return fisher.Kronecker([(b.A, b.G * factor) for b in fisher.kfac(signals).blocks], signals.names)


def test_share_does_not_depend_on_the_scale_of_a_step():
    case = CASES["bernoulli"]
    signals = case.signals()
    approximations = {"K-FAC": fisher.kfac(signals), "1000 times": scaled(1000, signals)}
    comparison = quality.compare(fisher.exact(signals), approximations, gradient(case), damping=0)
    right, wrong = comparison["K-FAC"], comparison["1000 times"]
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
def test_a_wrong_scale_shows_in_c_star(bug: str):
    n, t = 6, 5
    factor = {"G divided by N": 1 / n, "G times N": n, "1 / T missing": t, "1 / T twice": 1 / t}[bug]
    signals = one_hot_signals(n, t)
    comparison = quality.compare(
        fisher.exact(signals),
        {"right": fisher.kfac(signals), bug: scaled(factor, signals)},
        np.ones(6),
        LAM,
    )
    assert comparison["right"]["c_star"] == pytest.approx(1, abs=EXACT)
    assert comparison[bug]["c_star"] == pytest.approx(1 / factor, rel=EXACT)
    assert comparison[bug]["error"] == pytest.approx(abs(1 - factor), rel=EXACT)


def test_samples_averaged_twice_show_in_c_star():
    m, case = 16, CASES["bernoulli"]
    sampled = case.signals(targets="sampled", n_samples=m, rng=np.random.default_rng(0))
    wrong = [  # divided by M where each of M targets has weight 1 / sqrt(M)
        fisher.LayerSignals(sampled[layer].abar, sampled[layer].g / m**0.5) for layer in range(len(sampled))
    ]
    comparison = quality.compare(
        fisher.exact(case.signals()),
        {
            "right": fisher.exact(sampled),
            "divided by M": fisher.exact(fisher.Signals.from_layers(wrong)),
        },
        gradient(case),
        LAM,
    )
    assert 0.9 < comparison["right"]["c_star"] < 1.1
    assert comparison["divided by M"]["c_star"] == pytest.approx(m * comparison["right"]["c_star"], rel=EXACT)


# where a comparison is harder ------------------------------------------------------------------------------


def test_without_damping_on_a_nonsingular_matrix():
    case = CASES["bernoulli"]
    signals = case.signals()
    approximations = {name: M for name, M in build(signals).items() if name != "low rank"}
    comparison = quality.compare(fisher.exact(signals), approximations, gradient(case), damping=0)
    for name in ("block-diagonal", "diagonal", "K-FAC", "tridiagonal"):
        expected = expected_row(case, name, 0, slice(None))
        # at a condition number of some 1e4, rounding decides on the last iterations
        assert comparison[name]["cg_iterations"] == pytest.approx(expected.pop("cg_iterations"), rel=0.1)
        assert {column: comparison[name][column] for column in expected} == pytest.approx(expected, rel=1e-6)


def test_lanczos_finds_the_extreme_eigenvalues(
    monkeypatch: pytest.MonkeyPatch,
):
    case = make_case((6, 7, 4), "tanh", "categorical", n=60)
    assert len(case.theta) > 64  # fewer are decomposed whole even so
    whole = compare(case)
    monkeypatch.setattr(measures, "_SMALL", 10)
    iterated = compare(case)
    others = 0
    for name in APPROXIMATIONS:
        for column in ("eigenvalue_min", "eigenvalue_max", "condition"):
            value, expected = iterated[name][column], whole[name][column]
            assert value == pytest.approx(expected, rel=LANCZOS)
            others += value != expected
    assert others > 0  # they did come another way


def test_the_limit_of_conjugate_gradients_counts_as_infinity(case: Case):
    comparison = compare(case, cg_limit=2)
    assert comparison["diagonal"]["cg_iterations"] == math.inf
    assert comparison["exact"]["cg_iterations"] == 1
    assert "not reached" in str(comparison)


def test_a_zero_gradient_has_no_step_to_compare(case: Case):
    signals = case.signals()
    row = quality.compare(fisher.exact(signals), {"K-FAC": fisher.kfac(signals)}, 0 * gradient(case), LAM)[
        "K-FAC"
    ]
    assert all(math.isnan(row[column]) for column in ("step_cosine", "step_length", "share"))
    assert row["cg_iterations"] == 0
    assert row["kl"] == pytest.approx(compare(case)["K-FAC"]["kl"], rel=SOLVE)


def test_a_layer_below_dead_units_has_no_relative_error():
    net = mk.mlp([3, 4, 2], "relu")
    rng = np.random.default_rng(0)
    theta, x = net.init(rng), rng.random((9, 3))
    W = net.unpack(theta)[0]
    W[:-1], W[-1] = -abs(W[:-1]), -1.0  # no unit ever fires
    signals = fisher.signals(net, theta, x)
    grad = net.gradient(theta, x, rng.integers(0, 2, 9))
    comparison = quality.compare(fisher.exact(signals), {"K-FAC": fisher.kfac(signals)}, grad, LAM)
    dead, alive = comparison.layer("dense0")[0], comparison.layer("dense1")[0]
    assert all(math.isnan(dead[column]) for column in ("error", "spectral_error", "c_star", "step_cosine"))
    assert dead["inverse_error"] < EXACT
    assert alive["c_star"] == pytest.approx(1, abs=EXACT)


def test_single_precision_agrees_with_double(case: Case):
    single = Case(
        case.sizes,
        case.activation,
        case.output,
        case.net,
        case.theta.astype(np.float32),
        case.x.astype(np.float32),
        case.y.astype(np.float32) if case.y.dtype.kind == "f" else case.y,
    )
    comparison, expected = compare(single), compare(case)
    for name in APPROXIMATIONS:
        for column in quality.COLUMNS:
            if column.endswith("seconds"):
                continue
            assert type(comparison[name][column]) is type(expected[name][column])
            if column == "cg_iterations":
                # rounding costs iterations
                assert expected[name][column] <= comparison[name][column] < 2 * expected[name][column]
            else:
                assert comparison[name][column] == pytest.approx(expected[name][column], rel=SINGLE)


def test_layers_in_the_middle_are_compared_alone():
    case = CASES["categorical"]
    middle = case.signals().select([1, 2])
    part = slice(case.slices[1].start, case.slices[2].stop)
    comparison = quality.compare(
        fisher.exact(middle), {"K-FAC": fisher.kfac(middle)}, gradient(case)[part], LAM
    )
    M = dense(case, "K-FAC", LAM)[0][part, part]
    F = oracle(case.output)[0][part, part]
    assert comparison["K-FAC"]["error"] == pytest.approx(error(M, F), rel=SOLVE)
    assert [row["layer"] for row in comparison.rows] == ["all", "dense1", "dense2"]


# errors -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_is_refused():
    case = CASES["categorical"]
    signals, grad = case.signals(), gradient(case)
    F, kfac = fisher.exact(signals), fisher.kfac(signals)
    matrices = {"K-FAC": kfac}

    def refused(kind: type[Exception], match: str, *arguments: object, **options: object):
        with pytest.raises(kind, match=match):
            quality.compare(*arguments, **options)

    P = len(grad)
    refused(ValueError, rf"gradient of shape \({P},\), got \({P - 1},\)", F, matrices, grad[1:], LAM)
    refused(ValueError, "expected a finite gradient", F, matrices, np.full(P, np.nan), LAM)
    refused(ValueError, "expected finite damping >= 0, got -1", F, matrices, grad, -1)
    refused(ValueError, r"the exact Fisher matrix .* numerical rank .* add damping", F, matrices, grad, 0)
    refused(TypeError, "matrix of fisher.exact, got BlockDiagonal", kfac, matrices, grad, LAM)
    refused(TypeError, "'K-FAC' to be a Fisher matrix, got ndarray", F, {"K-FAC": F.array}, grad, LAM)
    build = {"K-FAC": lambda: kfac}
    refused(TypeError, "'K-FAC' to be a Fisher matrix, got function", F, build, grad, LAM)
    refused(ValueError, r"approximations \[\] and methods", F, {}, grad, LAM)
    refused(ValueError, r"methods for \['EKFAC'\]", F, matrices, grad, LAM, methods={"EKFAC": "eigen"})
    refused(
        ValueError, "expected 'eigen' or 'factored', got 'exact'", F, matrices, grad, LAM, {"K-FAC": "exact"}
    )
    last = fisher.kfac(signals.select([2]))
    refused(ValueError, rf"'last' of shape \({P}, {P}\), got \(15, 15\)", F, {"last": last}, grad, LAM)


def test_a_singular_approximation_is_named_in_the_error():
    case = CASES["bernoulli"]
    signals = case.signals()
    with pytest.raises(ValueError, match=r"the low-rank matrix .* has rank 5"):
        quality.compare(
            fisher.exact(signals), {"low rank": fisher.low_rank(signals, 5)}, gradient(case), damping=0
        )


# spectra and cosines --------------------------------------------------------------------------------------


def test_spectrum_holds_all_eigenvalues(case: Case):
    values = quality.spectrum(fisher.kfac(case.signals()))
    assert error(values, np.linalg.eigvalsh(dense(case, "K-FAC", LAM)[0])) < EXACT
