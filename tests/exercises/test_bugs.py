"""Find the bug: every planted bug fails the statements that it should, and no others; verdicts explain."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minikfac import exercises, fisher, mlp
from minikfac.exercises import bugs
from minikfac.exercises.bugs import planted, statements

FAILING = {
    "bias": {"S1", "S2", "S3", "S4", "S5", "L1"},
    "locations": {"S4", "S5"},
    "labels": {"S1", "S2", "S3", "S4", "S5", "S6", "L1", "L3"},
    "order": {"S1", "S2", "S3", "S4", "S5", "S6"},
    "batch-gradient": {"S3", "S4", "L4"},
    "samples": {"L4"},
    "centred": {"S1", "S2", "S3", "S4", "S5", "S6", "L1"},
    "mean-loss": {"S2", "S3", "S4", "S5", "L2"},
    "sum-first": {"S5"},
}
NAMES = {bugs.find(name).cause: name for name in bugs.available()}


def of(cause: str) -> bugs.Bug:
    return bugs.find(NAMES[cause])


def right_diagonal(abar: np.ndarray, g: np.ndarray) -> planted.Factors:
    gradients = np.einsum("nti,knto->knio", abar, g)
    return ((gradients**2).sum(0).mean(0).reshape(-1),)


def library(kind: Any) -> statements.Implementation:
    """A Fisher matrix of the package."""

    def make(net: Any, theta: Any, x: Any, y: Any, n_samples: int | None = None, rng: Any = None) -> Any:
        if n_samples is None:
            return kind(fisher.signals(net, theta, x))
        return kind(fisher.signals(net, theta, x, targets="sampled", n_samples=n_samples, rng=rng))

    return make


def test_every_cause_is_planted_once() -> None:
    assert set(NAMES) == set(bugs.CAUSES) == set(FAILING)
    assert len(bugs.available()) == len(NAMES)


@pytest.mark.parametrize(
    "make",
    [
        planted.implementation(),
        planted.implementation(factors=right_diagonal, matrix=planted.diagonal_matrix),
        library(fisher.kfac),
        library(fisher.diagonal),
    ],
    ids=["K-FAC by hand", "diagonal by hand", "fisher.kfac", "fisher.diagonal"],
)
def test_all_statements_hold_of_what_is_right(make: statements.Implementation) -> None:
    findings = bugs.look(make)
    assert findings.failing == []
    assert "S1  holds" in str(findings)


@pytest.mark.parametrize("cause", FAILING)
def test_a_bug_fails_the_statements_that_it_should(cause: str) -> None:
    findings = of(cause).look()
    assert set(findings.failing) == FAILING[cause]
    assert str(findings).startswith(f"{NAMES[cause]}: a ")
    assert str(findings).count("FAILS") == len(FAILING[cause])
    assert repr(findings) == str(findings)


def test_laws_of_scale_give_the_factor() -> None:
    """T = 6 locations; N = 5, 7 examples; a batch taken twice; M samples."""
    assert of("locations").look()["S4"].c_star == pytest.approx(6, rel=1e-9)
    assert of("sum-first").look()["S5"].c_star == pytest.approx(1 / 6, rel=1e-9)
    findings = of("mean-loss").look()
    assert [findings[name].c_star for name in ("S2", "S3", "L2")] == pytest.approx([25, 49, 4], rel=1e-9)
    assert of("samples").look()["L4"].c_star == pytest.approx(16, rel=0.05)
    assert "1/25 of what it should be, and right up to that factor" in findings["S2"].measured
    assert "the matrix is zero" in of("centred").look()["S1"].measured
    assert "the trace is" in of("bias").look()["L1"].measured
    assert re.search(r"trace ratios \S+ ± \S+, .* at 1, 4, 16 samples", of("samples").look()["L4"].measured)


@pytest.mark.parametrize("cause", FAILING)
def test_statement_and_cause_are_judged(cause: str) -> None:
    bug = of(cause)
    for statement in statements.STATEMENTS:
        verdict = bug.check(statement, cause)
        assert bool(verdict) == (statement in FAILING[cause])
        said = f"Correct: {statement} fails" if verdict else f"{statement} holds of {bug.name}"
        assert str(verdict).startswith(said)
    for other in FAILING:
        verdict = bug.check(min(FAILING[cause]), other)
        assert bool(verdict) == (other == cause)
        assert len(str(verdict)) < 320
        assert re.search(r"[^.]\.$", str(verdict)) and not re.search(r"[.?] [A-Z]", str(verdict))


def test_another_cause_is_refuted_by_what_it_would_do() -> None:
    assert str(of("locations").check("S4", "mean-loss")) == (
        "S4 fails, but not for that cause: S2 would fail then, and here it holds."
    )
    assert str(of("mean-loss").check("S2", "order")) == (
        "S2 fails, but not for that cause: S1 would fail then, and here it holds."
    )
    assert "L1 would hold then, and here it fails" in str(of("centred").check("S1", "order"))


def test_measurements_tell_equal_statements_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(abar: np.ndarray, g: np.ndarray) -> planted.Factors:
        A, G = planted.factors_mean_over_locations(abar, g)
        return A if abar.shape[1] == 1 else A / 2, G

    bug = of("locations")
    twin = bugs.Bug("twin", bug.kind, planted.implementation(factors=halved), halved, "bias", "no matter")
    monkeypatch.setattr(bugs.bug, "_ALL", {"birch": bug, "twin": twin})
    assert str(bug.check("S4", "bias")) == (
        "S4 fails, but not for that cause: the same statements would fail then, but of S4 one would find it "
        "is 1/12 of what it should be, and right up to that factor; here it is 1/6 of what it should be, and "
        "right up to that factor."
    )


def test_what_is_unknown_is_said() -> None:
    bug = bugs.find("oak")
    assert "Expected a statement among S1, S2" in str(bug.check("S9", "order"))
    assert "Expected a cause among samples, labels" in str(bug.check("S5", "magic"))
    with pytest.raises(ValueError, match=r"expected one of ash, birch, .*, got 'pine'"):
        bugs.find("pine")


@pytest.mark.parametrize("name", bugs.available())
def test_source_shows_the_bug_but_name_does_not(name: str) -> None:
    bug = bugs.find(name)
    assert "# bug: " in bug.source()
    assert bug.cause not in repr(bug) and bug.kind in repr(bug)
    net = mlp([3, 2], "tanh", "bernoulli")
    theta, x = np.ones(net.n_params), np.ones((2, 3))
    assert bug.implementation(net, theta, x, np.ones((2, 2))).shape == (8, 8)
    assert inspect.getsource(bug.part) in inspect.getsource(planted)


def test_signals_in_other_words() -> None:
    """Sampled targets by hand are those of the package, draw by draw."""
    net, rng = mlp([3, 4, 3]), np.random.default_rng(0)
    theta, x = rng.standard_normal(net.n_params), rng.standard_normal((5, 3))
    z = net.forward(theta, x).z
    dz = planted.model_targets(net, z, None, 400, np.random.default_rng(1))
    second = np.einsum("knc,knd->ncd", dz, dz)
    exact = net.output.fisher(z)
    assert abs(second - exact).max() < 5 * 0.5 / 400**0.5
    assert planted.drawn(net, z, 2, np.random.default_rng(1)).shape == (2, 5, 3)


def test_the_page_of_exercises_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    """Snippets print what stands beside them; the tables name what there is."""
    page = (Path(__file__).parents[2] / "docs" / "exercises.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(compile(snippet, "exercises.md", "exec"), names)
        said = re.findall(r"^(?:print\(.*\)  )?# (.*)$", snippet, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == said
    assert re.findall(r"^\| `([\w-]+)`", page, re.MULTILINE) == exercises.available()
    assert re.findall(r"^\| ([SL]\d)", page, re.MULTILINE) == list(statements.STATEMENTS)
