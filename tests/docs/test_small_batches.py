"""docs/when-it-breaks.md on small batches: the numbers of its record."""

import json
import re

from oracles.pages import ROOT

LOSSES = json.loads((ROOT / "docs" / "results" / "small-batches.json").read_text(encoding="utf-8"))["losses"]


def short(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def test_the_page_states_the_record() -> None:
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "when-it-breaks.md").read_text(encoding="utf-8"))
    ends = {name: f"{short(min(each))} to {short(max(each))}" for name, each in LOSSES.items()}
    assert f"400 steps is {ends['12']}, where batches of 250 reach {ends['250']}" in page
    assert f"With τ2 = 1 it is {ends['12, tau2 = 1']}, with τ1 = 1 as well" in page
    assert f"as well {ends['12, tau1 = tau2 = 1']}, with" in page
    assert f"with τ1 = 1 alone {ends['12, tau1 = 1']} (" in page
