"""The invariance study from the command line, and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import plots
from minikfac.invariance import study
from oracles.cli import run

GAPS = np.array([[1e-13, 0.0, 3e-15], [2e-16, 0.4, np.nan]])
EXPECTED = np.array([[True, True, True], [True, False, False]])
DRAW = {
    "invariance_matrix": lambda: plots.invariance_matrix(
        GAPS, EXPECTED, ["K-FAC", "SGD"], ["orthogonal", "general affine", "center"], rules=[1]
    ),
    "equivalent_training": lambda: plots.equivalent_training(
        {"SGD": ([2, 1], [2, 1.5]), "K-FAC": ([2, 1], [2, 1])},
        ("logistic", "tanh"),
        gaps={"SGD": 0.4},
    )[0],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    plt.close("all")
    yield tmp_path
    plt.close("all")


# figures --------------------------------------------------------------


@pytest.mark.parametrize("name", DRAW)
def test_figures_are_of_slide_width_and_whole(name: str) -> None:
    made = DRAW[name]().figure
    made.canvas.draw()
    assert made.bbox.width == 1280
    box = made.get_tightbbox().transformed(made.dpi_scale_trans)  # nothing is cut off
    assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= made.bbox.x1 + 1 and box.y1 <= made.bbox.y1 + 1


def test_the_matrix_shows_check_marks_and_digits() -> None:
    ax = DRAW["invariance_matrix"]()
    assert [text.get_text() for text in ax.texts] == ["✓", "✓", "✓", "✓", "0.4", "failed !"]
    image = ax.images[0].get_array()
    assert image.mask.tolist() == [[True, True, True], [True, False, True]] and image[1, 1] == 0.4
    title = ax.figure.get_suptitle()
    assert title == "K-FAC cannot tell two equivalent nets apart (✓ 3 of 3); SGD can (✓ 1 of 3)"
    wrong = plots.invariance_matrix([[1e-13, 0.2]], [[False, True]], ["m"], ["a", "b"])
    assert [text.get_text() for text in wrong.texts] == ["✓ !", "0.2 !"]
    assert wrong.figure.get_suptitle() == "m can tell two equivalent nets apart (✓ 1 of 2)"


def test_matrices_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"expected gaps of shape \(1, 3\), got \(2, 3\)"):
        plots.invariance_matrix(GAPS, EXPECTED, ["K-FAC"], "abc")
    with pytest.raises(ValueError, match="expected gaps >= 0, got -1"):
        plots.invariance_matrix([[-1.0]], [[True]], ["m"], ["a"])


def test_curves_hold_what_they_are_given() -> None:
    ax = plots.gap_against_damping([1e-3, 1], {"b": [0.0, 0.3]})
    assert ax.lines[0].get_ydata().tolist() == [1e-16, 0.3]  # zero has no place on a log axis
    x = np.array([1e-4, 1e-2, 1.0])
    ax = plots.gap_against_damping(x, {"exact": x / 2, "K-FAC": 0.5 * x**0.5}, slopes={"K-FAC": 0.5})
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines[r"exact: $\lambda^{1.0}$"].get_ydata(), x / 2)
    np.testing.assert_allclose(lines[r"K-FAC: $\lambda^{0.5}$"].get_ydata(), 0.5 * x**0.5)
    dotted = [line for line in ax.lines if line.get_linestyle() == ":" and len(line.get_xdata())]
    np.testing.assert_allclose(dotted[-1].get_ydata(), 0.5 * x**0.5)
    with pytest.raises(ValueError, match="expected at least one curve, got none"):
        plots.gap_against_damping(x, {})
    with pytest.raises(ValueError, match=r"expected gaps of a of shape \(3,\), got \(1,\)"):
        plots.gap_against_damping(x, {"a": [1.0]})


def test_two_nets_two_lines() -> None:
    axes = plots.equivalent_training({"SGD": ([2, 1], [2, 1.5])}, ("raw", "white"), gaps={"SGD": 0.4})
    assert axes[0].get_title() == "SGD"
    assert axes[0].figure.get_suptitle() == "Two nets that begin as the same function: gap 0.4 under SGD"
    assert [line.get_ydata().tolist() for line in axes[0].lines] == [[2, 1], [2, 1.5]]
    with pytest.raises(ValueError, match="expected finite losses of SGD"):
        plots.equivalent_training({"SGD": ([2, np.inf], [2, 1])}, ("raw", "white"))


# command line --------------------------------------------------------------


def test_the_study_leaves_figures_numbers_and_a_page(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    code, out, err = run(capsys, "invariance", "--steps", "2", "--out", "a/b")
    assert code == 0, out
    assert "invariance: " in err and "127 of 127 are what theory says" in out
    for method, invariant in (("K-FAC", 7), ("SGD", 1)):  # in two tables, of six columns and one
        lines = [line for line in out.splitlines() if line.strip().startswith(f"{method}  ")]
        assert (len(lines), "".join(lines).count("=")) == (2, invariant)
    assert "Raw against colour-whitened images (generated):" in out
    names = {path.name for path in (here / "a/b").iterdir()}
    pictures = {"invariance", "gap-by-damping", "logistic-to-tanh", "center"}
    pictures |= {"whiten-colors", "center-maps"}
    assert names == {f"{name}.png" for name in pictures} | {"invariance.json", "invariance.html"}
    for name in pictures:
        assert matplotlib.image.imread(here / "a/b" / f"{name}.png").shape[1] == 1280
    numbers = json.loads((here / "a/b/invariance.json").read_text())
    assert len(numbers["cells"]) == 119 and all(cell["as_predicted"] for cell in numbers["cells"])
    page = (here / "a/b/invariance.html").read_text()
    assert page.count("<img src=") == len(pictures) and "127 of 127" in page


@pytest.mark.parametrize("key", ["logistic-to-tanh", "center", "whiten-colors"])
def test_each_application_by_one_command(capsys: pytest.CaptureFixture[str], here: Path, key: str) -> None:
    code, out, _ = run(capsys, "invariance", "--application", key, "--steps", "3")
    assert code == 0 and "2 of 2 are what theory says" in out
    sgd, kfac = (line for line in out.splitlines() if line.startswith("    "))
    assert "SGD: gap " in sgd and "K-FAC: gap " in kfac and "after 3 steps" in kfac
    assert {path.name for path in (here / "minikfac-invariance").iterdir()} == {
        f"{key}.png",
        "invariance.json",
    }
    cells = json.loads((here / "minikfac-invariance/invariance.json").read_text())["cells"]
    methods = {cell["method"]: cell for cell in cells}
    assert methods["K-FAC"]["gap"] < 1e-8 < 0.02 < methods["SGD"]["gap"]


def test_what_theory_does_not_say_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "TOLERANCE", 1e-30)
    code, out, _ = run(capsys, "invariance", "--application", "center", "--steps", "1")
    assert code == 1 and "1 of 2 are what theory says" in out
    assert "Not what theory says: K-FAC, center: gap " in out and "expected rounding" in out


def errors() -> list[Any]:
    return [
        (
            ["--application", "rotate"],
            "expected --application among logistic-to-tanh, center, whiten-colors,",
        ),
        (["--folder", "x"], "expected --folder only with --application whiten-colors or center-maps"),
        (["--application", "center", "--folder", "x"], "expected --folder only with"),
        (["--application", "whiten-colors", "--folder", "nowhere"], "nowhere"),
        (["--steps", "0"], "Invalid value for '--steps'"),
    ]


@pytest.mark.parametrize(("arguments", "message"), errors())
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    code, out, err = run(capsys, "invariance", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("minikfac: ") and err.count("\n") == 1 and message in err
