"""The comparison by products against that with the dense matrix, in standard errors over many seeds."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import backend, fisher, quality
from oracles import SOLVE
from oracles.fisher import make_case
from oracles.quality import LAM, METHODS, gradient

SEEDS = range(30)
NAMES = ("K-FAC", "factored", "EKFAC", "diagonal", "block-diagonal")


class Problem:
    """A net with its dense comparison, and the same by products."""

    def __init__(self, net: mk.Network, theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        self.signals = fisher.signals(net, theta, x)
        self.gradient = net.gradient(theta, x, y, net.init_stats())
        self.exact = fisher.exact(self.signals)
        self.product = fisher.product(net, theta, x)
        # the same numbers, and quicker on a net so small
        self.F = dataclasses.replace(self.product, apply=self.exact.__matmul__)
        kfac = fisher.kfac(self.signals)
        self.matrices = {
            "K-FAC": kfac,
            "factored": kfac,
            "EKFAC": fisher.ekfac(self.signals),
            "diagonal": fisher.diagonal(self.signals),
            "block-diagonal": fisher.BlockDiagonal(self.F.blocks),
        }
        dense = self.matrices | {"block-diagonal": fisher.block_diagonal(self.signals)}
        self.dense = quality.compare(self.exact, dense, self.gradient, LAM, METHODS, ("matrix", "step", "cg"))

    def answers(self, **options: Any) -> list[quality.Comparison]:
        task = (self.F, self.matrices, self.gradient, LAM, METHODS)
        return list(quality.compare_by_products(*task, **options))


def perceptron() -> Problem:
    case = make_case((6, 8, 7, 5), "tanh", "bernoulli", n=30)
    return Problem(case.net, case.theta, case.x, case.y)


def convolutions() -> Problem:
    rng = np.random.default_rng(0)
    layers = [mk.layers.Conv2d(2, 4, 3), mk.layers.GroupNorm(2, 4), mk.layers.Tanh(), mk.layers.Flatten()]
    net = mk.Network([*layers, mk.layers.Dense(16, 5)], mk.outputs.Categorical())
    return Problem(net, net.init(rng), rng.standard_normal((12, 4, 4, 2)), rng.integers(0, 5, 12))


@pytest.fixture(scope="module", params=[perceptron, convolutions])
def problem(request: pytest.FixtureRequest) -> Problem:
    return request.param()


def standard_errors(comparison: quality.Comparison, name: str) -> dict[str, Any]:
    assert comparison.spread is not None
    return next(row for row in comparison.spread if (row["approximation"], row["layer"]) == (name, "all"))


def test_errors_and_scales_are_the_dense_ones_within_standard_errors(problem: Problem) -> None:
    answers = [problem.answers(vectors=6, seed=seed, measures=("matrix",))[-1] for seed in SEEDS]
    for name in NAMES:
        for column in ("error", "c_star"):
            estimates = np.array([answer[name][column] for answer in answers])
            errors = np.array([standard_errors(answer, name)[column] for answer in answers])
            z = (estimates - problem.dense[name][column]) / errors
            assert abs(z.mean()) < 5 * 1.4 / len(z) ** 0.5, (name, column, z)
            assert 0.5 < np.sqrt((z**2).mean()) < 2, (name, column, z)


def test_standard_errors_tell_approximations_apart(problem: Problem) -> None:
    """The negative control: the error of another approximation is many standard errors away."""
    answer = problem.answers()[-1]
    for name, other in (("K-FAC", "diagonal"), ("diagonal", "block-diagonal")):
        distance = abs(answer[name]["error"] - problem.dense[other]["error"])
        assert distance > 10 * standard_errors(answer, name)["error"]


def test_the_step_is_the_dense_one_to_the_tolerance(problem: Problem) -> None:
    answer = problem.answers(tolerance=1e-11, measures=("step", "cg"))[-1]
    for row in answer.rows:
        (expected,) = [
            other
            for other in problem.dense.layer(row["layer"])
            if other["approximation"] == row["approximation"]
        ]
        for column in ("step_cosine", "step_length", "share", "cg_iterations"):
            assert (column in row) == (column in expected)
            if column in row:
                assert row[column] == pytest.approx(expected[column], rel=SOLVE * 100), (row, column)
    assert [row["layer"] for row in answer.rows] == [row["layer"] for row in problem.dense.rows]


def test_answers_get_sharper(problem: Problem) -> None:
    answers = problem.answers(vectors=12, cg_limit=200)
    assert len(answers) == 1 + len((2, 4, 8, 12)) + 1
    assert "error" not in answers[0]["K-FAC"] and "step_cosine" in answers[0]["K-FAC"]
    counts = [answer.notes[1].split()[-3] for answer in answers[1:]]
    assert counts == ["2", "4", "8", "12", "12"]
    exact = problem.dense["K-FAC"]["step_cosine"]
    assert abs(answers[-1]["K-FAC"]["step_cosine"] - exact) <= abs(answers[0]["K-FAC"]["step_cosine"] - exact)
    assert abs(answers[-1]["K-FAC"]["step_cosine"] - exact) < 1e-4


def test_the_bound_on_the_step_holds(problem: Problem) -> None:
    exact = problem.exact.solve(problem.gradient, LAM)
    solver = problem.matrices["diagonal"].inverse(LAM)
    for limit in (5, 20, 60):
        reference = quality.ProductReference.of(problem.F, problem.gradient, LAM, solver, 1e-9, limit)
        distance = np.linalg.norm(reference.step - exact) / np.linalg.norm(reference.step)
        r = problem.gradient - problem.exact.damped(LAM) @ reference.step
        assert reference.residual == pytest.approx(
            np.linalg.norm(r) / np.linalg.norm(problem.gradient), rel=1e-5, abs=1e-12
        )
        bound = float(reference.note.split()[-1].rstrip(".")) if "at most" in reference.note else math.inf
        assert distance <= bound * 1.5  # which is written with one digit


def test_compare_takes_products(problem: Problem, tmp_path: Any) -> None:
    seen: list[str] = []
    table = quality.compare(
        problem.product, problem.matrices, problem.gradient, LAM, METHODS, on_progress=seen.append
    )
    for column in ("error", "c_star", "step_cosine", "share", "floats"):
        expected = problem.answers()[-1]["K-FAC"][column]
        assert table["K-FAC"][column] == pytest.approx(expected, rel=SOLVE * 100)
    text = str(table)
    for part in (
        " ± ",
        "relative residual",
        "standard error of an estimate, here from 20 random",
        "Absent: ",
    ):
        assert part in text
    assert "inverse error and KL (they need the dense matrix)" in text and "kl" not in table["K-FAC"]
    assert "K-FAC" in seen and "random vector 20 of 20" in seen
    assert table.notes[0] in " ".join(repr(table).split())
    table.to_csv(tmp_path / "table.csv")
    assert "error_sd" in (tmp_path / "table.csv").read_text().splitlines()[0]


def test_a_product_and_its_matrix_have_one_answer() -> None:
    """With a subspace that is everything, estimates are exact."""
    case = make_case((2, 2), output="bernoulli", n=9)
    problem = Problem(case.net, case.theta, case.x, case.y)
    answer = problem.answers(vectors=12, tolerance=1e-12)[-1]
    for name in NAMES[:-1]:
        assert answer[name]["error"] == pytest.approx(problem.dense[name]["error"], rel=1e-7)
        assert standard_errors(answer, name)["error"] < 1e-7


def test_the_ledger_by_products_is_the_dense_one(problem: Problem) -> None:
    task = problem.signals, problem.gradient, LAM
    dense = {row["label"]: row for row in quality.ledger(*task, problem.exact)}
    rows = quality.ledger(*task, problem.F)
    assert [row["label"] for row in rows[:2]] == ["exact Fisher matrix", "no correlations between layers"]
    assert len(rows) == (4 if len(dense) == 4 else 6)
    for row in rows:
        expected = dense[row["label"]]
        for column in ("step_cosine", "step_length", "share"):
            assert row[column] == pytest.approx(expected[column], rel=1e-4)
        same = row["above"] == expected["above"]
        for column in ("error", "c_star", *(["cost"] if same else [])):
            assert abs(row[column] - expected[column]) <= 5 * row.get(f"{column}_se", 0) + 1e-12
    assert rows[1]["error_se"] > 0


# errors -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_by_products_is_refused() -> None:
    case = make_case((4, 3, 4, 3), "tanh", "categorical", n=25)
    F, K, g = fisher.product(case.net, case.theta, case.x), fisher.kfac(case.signals()), gradient(case)
    P = len(g)

    def refused(
        kind: type[Exception], match: str, *changed: Any, compare: Callable = quality.compare, **more: Any
    ):
        task = [*changed, *(F, {"K-FAC": K}, g, LAM)[len(changed) :]]
        with pytest.raises(kind, match=match):
            list(compare(*task, **more))

    products = quality.compare_by_products
    other = make_case((4, 3, 3), "tanh", "categorical").signals()
    refused(ValueError, rf"'K-FAC' of shape \({P}, {P}\), got \(27, 27\)", F, {"K-FAC": fisher.kfac(other)})
    refused(ValueError, rf"gradient of shape \({P},\), got \({P - 1},\)", F, {"K-FAC": K}, g[1:])
    refused(ValueError, "a finite gradient", F, {"K-FAC": K}, np.nan * g)
    refused(ValueError, "damping > 0 and a tolerance .* got damping 0 and", F, {"K-FAC": K}, g, 0)
    refused(ValueError, "and a tolerance between 0 and 1 .* tolerance 2", compare=products, tolerance=2)
    refused(ValueError, "measures of the Fisher matrix among matrix, step, cg, got kl", measures=["kl"])
    refused(ValueError, r"approximations \[\] and methods", F, {})
    refused(TypeError, "expected a matrix-free F .*, got BlockDiagonal", K, compare=products)
    refused(ValueError, "expected vectors to be a whole number >= 2, got 1", compare=products, vectors=1)


def test_conjugate_gradients_that_do_not_converge_say_what_to_do(problem: Problem) -> None:
    message = (
        r"a relative residual of 1\.0e-06 from conjugate gradients on the Fisher matrix, got .* after 3 "
        r"iterations; use more damping, a cg_limit above 3, or a better approximation as preconditioner"
    )
    with pytest.raises(ValueError, match=message):
        quality.compare(problem.F, problem.matrices, problem.gradient, LAM, cg_limit=3)


def test_an_indefinite_matrix_is_refused() -> None:
    case = make_case((6, 7, 5), "tanh", "bernoulli", n=30, scale=2)
    H = fisher.hessian(case.net, case.theta, case.x, case.y)
    with pytest.raises(ValueError, match="expected a positive definite matrix, got curvature"):
        quality.compare(H, {"diagonal": fisher.diagonal(case.signals())}, gradient(case), 1e-4)


def test_too_little_memory_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case()
    F, K = fisher.product(case.net, case.theta, case.x), {"K-FAC": fisher.kfac(case.signals())}
    monkeypatch.setattr(backend, "available_memory", lambda xp: 1000)
    with pytest.raises(MemoryError, match=r"the leading subspace \(68 x 31, float64\) .* use fewer vectors"):
        quality.compare(F, K, gradient(case), LAM)


def test_large_nets_have_no_dense_approximations() -> None:
    signals = make_case((6, 7, 5), output="bernoulli").signals()
    left_out = set(quality.applicable(signals)) - set(quality.applicable(signals, large=True))
    assert left_out == {"block-diagonal", "nearest Kronecker", "low rank"}
