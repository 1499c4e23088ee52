"""docs/results/studies.md: how good K-FAC is on large nets, held to the record."""

import json
import re
from typing import Any

import pytest

from oracles.pages import ROOT

RESULTS = ROOT / "docs" / "results"
PAGE = (
    (RESULTS / "studies.md").read_text(encoding="utf-8").split("## K-FAC on nets too large for the matrix")[1]
)
TEXT = " ".join(PAGE.split())
MEASURED: dict[str, Any] = json.loads((RESULTS / "quality.json").read_text(encoding="utf-8"))["measurements"]
KINDS = ("autoencoder", "residual")
COLUMNS = ("error", "step_cosine", "share")
COMPARED = {
    "autoencoder, 1/8 of the width": "autoencoder width 0.125",
    "autoencoder, 1/4": "autoencoder width 0.25",
    "autoencoder, 1/2": "autoencoder width 0.5",
    "autoencoder, the paper's": "autoencoder along training",
    "autoencoder, 1 hidden layer before the code": "autoencoder depth 1",
    "autoencoder, 2 hidden layers": "autoencoder depth 2",
    "residual net, 8 channels at first": "residual width 8",
    "residual net, 16 channels, 8 layers": "residual along training",
    "residual net, 24 channels": "residual width 24",
    "residual net, 14 layers": "residual depth 14",
    "residual net, 20 layers": "residual depth 20",
}
"""Rows of the second table."""
SHOWN = ("K-FAC", "EKFAC", "block-tridiagonal", "no curvature")


def along(kind: str) -> list[dict[str, Any]]:
    """Measurements along training."""
    names = [name for name in MEASURED if name.startswith(f"{kind} along training, step ")]
    return [MEASURED[name] for name in sorted(names, key=lambda name: int(name.split()[-1]))]


def cell(row: dict[str, float]) -> str:
    return ", ".join(f"{row[column]:.2f}" for column in COLUMNS)


def along_training(kind: str) -> list[str]:
    """Rows of the table of one kind of net."""
    moments = along(kind)
    first = moments[0]["quality"]
    rows = [
        " | ".join(
            [f"| {name}", f"{first[name]['floats']:,}", *(cell(at["quality"][name]) for at in moments)]
        )
        for name in first
    ]
    losses = [f"{at['loss']:.{0 if kind == 'autoencoder' else 2}f}" for at in moments]
    return [*(f"{row} |" for row in rows), " | ".join(["| loss (nats) | ", *losses]) + " |"]


def compared() -> list[str]:
    """Rows of the table by width and depth."""
    rows = []
    for label, name in COMPARED.items():
        at = MEASURED[f"{name}, step 100"]
        cells = [cell(at["quality"][of]) if of in at["quality"] else "-" for of in SHOWN]
        rows.append(" | ".join([f"| {label}", f"{at['parameters']:,}", f"{at['loss']:.3g}", *cells]) + " |")
    return rows


def assumptions() -> list[str]:
    """Rows of the ledger of the small residual net."""
    rows = MEASURED["residual width 8, step 100"]["assumptions"]
    return [f"| {row['label']} | {cell(row)} |" for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_tables_along_training_are_those_of_the_record(kind: str) -> None:
    assert "\n".join(along_training(kind)) in PAGE


def test_tables_of_nets_and_of_assumptions_are_those_of_the_record() -> None:
    assert "\n".join(compared()) in PAGE
    assert "\n".join(assumptions()) in PAGE


def shares(kind: str, approximation: str) -> str:
    """The range along training."""
    values = [at["quality"][approximation]["share"] for at in along(kind)]
    return f"{min(values):.2f} to {max(values):.2f}"


def test_sentences_on_the_autoencoder_are_true_of_the_record() -> None:
    moments = along("autoencoder")
    hundred = MEASURED["autoencoder along training, step 100"]["quality"]
    kfac, chain = hundred["K-FAC"], hundred["block-tridiagonal"]
    assert f"K-FAC's error is {kfac['error']:.2f}, and that of the block-tridiagonal version" in TEXT
    assert f"between neighbours, {chain['error']:.2f}." in TEXT
    assert f"{chain['share']:.2f} of the exact step's progress, K-FAC {kfac['share']:.2f}" in TEXT
    chain, kfac = (moments[0]["quality"][name]["share"] for name in ("block-tridiagonal", "K-FAC"))
    assert f"it is worse, {chain:.2f} against {kfac:.2f}." in TEXT
    lost = [
        at["quality"]["K-FAC"]["share"] - at["quality"]["K-FAC (factored damping)"]["share"] for at in moments
    ]
    assert min(lost) > 0 and f"up to {max(lost):.2f} of the progress" in TEXT
    for at in moments:
        rows = at["quality"]
        for column in COLUMNS:
            assert rows["EKFAC"][column] == pytest.approx(rows["K-FAC"][column], abs=0.003)
        assert at is moments[0] or rows["diagonal"]["share"] == pytest.approx(
            rows["no curvature"]["share"], abs=0.005
        )


def test_sentences_on_the_residual_net_are_true_of_the_record() -> None:
    limits = " ".join((ROOT / "docs" / "limits.md").read_text(encoding="utf-8").split())
    assert f"one step makes {shares('residual', 'K-FAC')} of the exact step's progress" in TEXT
    assert f"one of its steps makes {shares('residual', 'K-FAC')} of the exact step's progress" in limits
    assert f"along the gradient {shares('residual', 'no curvature')}." in TEXT
    assert f"EKFAC is better throughout, with {shares('residual', 'EKFAC')}." in TEXT
    for at in along("residual"):
        rows = at["quality"]
        assert rows["EKFAC"]["share"] > rows["K-FAC"]["share"]
        assert rows["K-FAC (factored damping)"]["share"] > rows["K-FAC"]["share"] - 0.005
    _, blocks, kfc, reduce, *_ = (
        row["share"] for row in MEASURED["residual width 8, step 100"]["assumptions"]
    )
    assert f"exact blocks alone would make {blocks:.2f} of the exact step's progress" in TEXT
    assert f"KFC makes {kfc:.2f}, and KFAC-reduce" in TEXT
    assert f"takes them to be uncorrelated, {reduce:.2f}." in TEXT


def test_sentences_on_width_and_depth_are_true_of_the_record() -> None:
    one, two, three = (
        MEASURED[f"autoencoder {name}, step 100"]["quality"]["K-FAC"]
        for name in ("depth 1", "depth 2", "along training")
    )
    assert f"error on the autoencoder is {one['error']:.2f} and its share {one['share']:.2f}" in TEXT
    assert f"with two {two['error']:.2f} and {two['share']:.2f}, with three" in TEXT
    widths = [MEASURED[f"autoencoder width {width}, step 100"] for width in (0.125, 0.25, 0.5)]
    of_widths = [three["share"], *(at["quality"]["K-FAC"]["share"] for at in widths)]
    assert f"stays between {min(of_widths):.2f} and {max(of_widths):.2f}" in TEXT
    deepest = MEASURED["residual depth 20, step 100"]["quality"]
    assert min(at["quality"]["K-FAC"]["share"] for at in MEASURED.values()) == deepest["K-FAC"]["share"]
    lowest, gradient = deepest["K-FAC"]["share"], deepest["no curvature"]["share"]
    assert f"the lowest share of all, {lowest:.2f}, below the {gradient:.2f} of the gradient" in TEXT


def test_costs_and_standard_errors_are_those_of_the_record() -> None:
    errors = [row["error_se"] for at in MEASURED.values() for row in at["quality"].values()]
    assert max(errors) <= 0.014
    rows = MEASURED["residual width 8, step 100"]["assumptions"]
    of_rows = {row["label"].split(":")[0]: row["error_se"] for row in rows if "error_se" in row}
    assert round(of_rows.pop("T x KFC"), 1) == 0.3 and max(of_rows.values()) <= 0.014
    iterations = [
        int(re.search(r"(?:that of|from) (\d+) ", at["notes"]).group(1))  # type: ignore[union-attr]
        for at in MEASURED.values()
    ]
    assert f"took {min(iterations)} to {max(iterations):,} iterations" in TEXT
    assert max(at["cpu_seconds"] for at in MEASURED.values()) < 9 * 60
    assert max(at["peak_gib"] for at in MEASURED.values()) < 3.1
    errors = [at["quality"]["K-FAC"]["error"] for at in along("autoencoder")]
    page = (ROOT / "docs" / "howto" / "how-good-is-kfac.md").read_text(encoding="utf-8")
    assert f"[{min(errors):.2f} to {max(errors):.2f}](../results/studies.md" in page
