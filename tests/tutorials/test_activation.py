"""Notebook 00 says what becomes of its numbers with another activation: they are measured again."""

import json
from pathlib import Path

import numpy as np
import pytest

from minikfac import fisher, quality
from minikfac.training import example

PATH = Path(__file__).parents[2] / "tutorials" / "00-a-walk-in-five-minutes.ipynb"
TEXT = " ".join("".join(cell["source"]) for cell in json.loads(PATH.read_text(encoding="utf-8"))["cells"])


@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_the_three_numbers_are_those_of_the_folded_answer(activation):
    at = example(activation=activation)
    signals = fisher.signals(at.net, at.theta, at.x)
    exact, kfac = fisher.exact(signals), fisher.kfac(signals)
    gradient = at.net.gradient(at.theta, at.x, at.y)
    how = {"methods": {"K-FAC": "eigen"}, "measures": ["matrix", "step"]}
    row = quality.compare(exact, {"K-FAC": kfac}, gradient, 0.01, **how)["K-FAC"]
    error, cosine, share = (f"{row[column]:.2f}" for column in ("error", "step_cosine", "share"))
    assert f"K-FAC's three numbers are {error}, {cosine} and {share}" in TEXT
    if activation == "relu":
        gaps = []
        for size in (1e-3, 1e-5):
            d = size * np.random.default_rng(1).normal(size=at.theta.shape)
            gaps.append(abs(0.5 * d @ (exact @ d) / at.net.kl(at.theta, at.theta + d, at.x) - 1))
        assert f"differ by {gaps[0]:.0%}" in TEXT and f"it is {gaps[1]:.3%}" in TEXT
    else:
        assert at.net.loss(at.theta, at.x, at.y) == pytest.approx(np.log(10), abs=0.01)
