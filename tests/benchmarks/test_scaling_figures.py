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
    title = "A step takes 1.00 times as long as predicted where each rank has a core (median)"
    assert strong.figure.get_suptitle() == title
    assert [text.get_text().strip() for text in weak.texts] == ["more ranks than cores"]
    assert not figures.measured_scaling(methods, methods, 4)[0].texts
    with pytest.raises(ValueError, match=r"expected measured seconds of A of shape \(3, 1\)"):
        figures.measured_scaling({"A": ([1], [[1, 2]], [1])}, methods, 2)
