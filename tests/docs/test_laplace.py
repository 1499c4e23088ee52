"""docs/howto/laplace.md: its numbers are those of the record, and the record is what is measured."""

import json
from typing import Any

import numpy as np
import pytest

from minikfac.parallel import one_thread
from oracles.pages import ROOT, script

RECORD = json.loads((ROOT / "docs" / "results" / "laplace.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "howto" / "laplace.md").read_text(encoding="utf-8")
KINDS = ["exact", "block-diagonal", "K-FAC", "diagonal"]
ROWS = {row["kind"]: row for row in RECORD["digits"]}


def test_the_regression_is_what_is_measured() -> None:
    record = RECORD["regression"]
    with one_thread():
        again = script("docs/measure_laplace.py").bands(np.array(record["theta"]), record["delta"])
    for name, of in record["kinds"].items():
        assert again["kinds"][name]["evidence"] == pytest.approx(of["evidence"], abs=0.02)
        np.testing.assert_allclose(again["kinds"][name]["sd"], of["sd"], rtol=2e-3)


@pytest.mark.slow
def test_digits_are_what_is_measured() -> None:
    with one_thread():
        rows = script("docs/measure_laplace.py").digits(0, ["K-FAC"])
    for row, recorded in zip(rows, RECORD["seeds"][0][::3], strict=True):
        assert row["kind"] == recorded["kind"]
        for key in set(row) - {"kind"}:
            assert row[key] == pytest.approx(recorded[key], rel=1e-2), (row["kind"], key)


def test_medians_are_those_of_the_seeds() -> None:
    for row, again in zip(
        RECORD["digits"], script("docs/measure_laplace.py").summary(RECORD["seeds"]), strict=True
    ):
        assert row.keys() == again.keys() and row["kind"] == again["kind"]
        for key in set(row) - {"kind"}:
            assert row[key] == pytest.approx(again[key], rel=1e-5)


def test_the_regression_in_words() -> None:
    record = RECORD["regression"]
    x, grid = np.array(record["x"]), np.array(record["grid"])
    ratios, evidence = [], []
    for name in KINDS:
        sd = np.array(record["kinds"][name]["sd"])
        ratios.append(sd[(grid > x.min()) & (grid < x.max())].max() / np.interp(x, grid, sd).mean())
        evidence.append(f"{record['kinds'][name]['evidence']:.0f}".replace("-", "−"))
    a, b, c, d = (f"{ratio:.1f} times" for ratio in ratios)
    words = " ".join(PAGE.split())
    assert f"is {a} that at the points for the exact matrix, {b} for the exact blocks, {c} for K-FAC" in words
    assert f"and {d} for the diagonal" in words
    assert f"{', '.join(evidence[:3])} and {evidence[3]} nats" in words


def cell(values: list[float], digits: int) -> str:
    median, lowest, highest = (f"{value:.{digits}f}" for value in values)
    return f"{median} ({lowest} to {highest})"


@pytest.mark.parametrize("kind", ["theta alone", *KINDS])
def test_the_table_of_digits(kind: str) -> None:
    row: dict[str, Any] = ROWS[kind]
    cells = [cell(row["nll"], 2), cell(row["ece"], 2), cell(row["turned"], 2)]
    cells.append(cell(row["noise"], 2 if kind == "theta alone" else 3))
    end = f"| {row['log evidence'][0]:.0f} |".replace("-", "−") if kind in KINDS else "| |"
    assert f"| {kind.replace('theta', 'θ')} | {' | '.join(cells)} {end}" in PAGE
    assert f"δ = {row['delta'][0]:.1f}" in PAGE


def test_theta_alone_has_too_little_confidence() -> None:
    row = ROWS["theta alone"]
    assert f"({row['confidence'][0]:.2f} on average, and {1 - row['test error'][0]:.2f} of them" in PAGE
    assert row["confidence"][2] < 1 - row["test error"][2]


def test_every_seed_ranks_the_matrices_alike() -> None:
    for rows in RECORD["seeds"]:
        alone, *of_kinds = rows
        assert [row["kind"] for row in of_kinds] == KINDS
        for key, sign in (("nll", 1), ("ece", 1), ("turned", -1), ("noise", -1), ("log evidence", -1)):
            assert (np.diff([sign * row[key] for row in of_kinds]) > 0).all(), key
        assert all(row["turned"] > alone["turned"] and row["noise"] > alone["noise"] for row in of_kinds)
        assert all(row["ece"] > alone["ece"] and row["nll"] > alone["nll"] for row in of_kinds)
