"""Figures of the benchmark of scaling: what they show of the numbers they are given."""

import importlib
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from oracles import close

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("scaling_figures")
    sys.modules.pop("scaling_figures", None)
    plt.close("all")


def test_a_step_in_time_has_a_row_for_each_rank(figures):
    ranks = [[("forward", 5.0, 5.2), ("network", 5.3, 5.5)], [("forward", 5.1, 5.3)]]
    ax = figures.gantt(ranks, [], "")
    bars = [(bar.get_x(), bar.get_width(), bar.get_y()) for bar in ax.patches]
    close(bars[0][:2], (0, 500))  # waiting lies behind, in milliseconds
    close(bars[1][:2], (0, 200))
    close(bars[2][:2], (300, 200))
    close(bars[4][:2], (100, 200))
    assert ax.patches[1].get_facecolor() == ax.patches[4].get_facecolor() != ax.patches[2].get_facecolor()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["rank 0", "rank 1"]
    named = figures.gantt(ranks, ["network", "nothing"], "")
    assert named.patches[2].get_facecolor() == ax.patches[1].get_facecolor()
    assert [text.get_text() for text in named.get_legend().get_texts()][:2] == ["network", "forward"]
    with pytest.raises(ValueError, match="expected at least one rank, got none"):
        figures.gantt([], [], "")
    with pytest.raises(ValueError, match="expected a of rank 0 to end after it begins, got 2 and 1"):
        figures.gantt([[("a", 2, 1)]], [], "")


def test_shares_stack_parts_in_order(figures):
    ax = figures.step_shares({"one": {"b": 2.0, "a": 1.0}, "two": {"a": 3.0}}, ["a"], "")
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 1), (0, 3), (1, 2), (3, 0)]
    assert ax.get_xlabel() == "s a step"
    with pytest.raises(ValueError, match="expected at least one run, got none"):
        figures.step_shares({}, [], "")


def test_measured_steps_have_ranges_and_predictions(figures):
    methods = {"A": ([1, 2, 4], [[4, 2, 3], [3, 2, 3], [5, 2, 4]], [4, 2, 1])}
    strong, weak = figures.measured_scaling(methods, methods, 2)
    close(strong.lines[0].get_xydata(), [[1, 4], [2, 2], [4, 3]])
    assert [line.get_ydata().tolist() for line in strong.lines if line.get_linestyle() == "--"] == [[4, 2, 1]]
    assert [text.get_text().strip() for text in weak.texts] == ["more ranks than cores"]
    assert not figures.measured_scaling(methods, methods, 4)[0].texts
    with pytest.raises(ValueError, match=r"expected measured seconds of A of shape \(3, 1\)"):
        figures.measured_scaling({"A": ([1], [[1, 2]], [1])}, methods, 2)


def test_predicted_and_measured_steps_have_the_diagonal(figures):
    ax = figures.predicted_against_measured({"A": [1, 2]}, {"A": [2, 4]})
    assert "2 (median)" in ax.lines[0].get_label()
    diagonal = ax.lines[-1].get_xydata()
    close(diagonal[:, 0], diagonal[:, 1])
    with pytest.raises(ValueError, match=r"expected measured seconds of A of shape \(2,\), got \(1,\)"):
        figures.predicted_against_measured({"A": [1, 2]}, {"A": [1]})
