"""Tables of measures: means over seeds, text and CSV."""

import csv
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minikfac import fisher, quality
from minikfac.quality.tables import text_table
from oracles import EXACT, SOLVE
from oracles.fisher import make_case, random_signals
from oracles.quality import CASES, LAM, build, compare, gradient


def of_seed(seed: int) -> quality.Comparison:
    case = make_case((3, 4, 3), "tanh", "bernoulli", n=20, seed=seed)
    signals = case.signals()
    return quality.compare(fisher.exact(signals), {"K-FAC": fisher.kfac(signals)}, gradient(case), LAM)


def test_over_seeds_gives_means_and_standard_deviations():
    runs, means = [of_seed(seed) for seed in range(4)], quality.over_seeds(of_seed, range(4))
    assert means.spread is not None
    for at, (mean, spread) in enumerate(zip(means.rows, means.spread, strict=True)):
        assert (mean["approximation"], mean["layer"]) == ("K-FAC", runs[0].rows[at]["layer"])
        assert set(mean) == set(runs[0].rows[at]) == set(spread)
        for column in set(mean) & set(quality.COLUMNS):
            if not column.endswith("seconds"):
                values = [run.rows[at][column] for run in runs]
                assert mean[column] == pytest.approx(np.mean(values), rel=EXACT)
                assert spread[column] == pytest.approx(np.std(values, ddof=1), rel=SOLVE)
    assert means.damping == LAM


def test_over_seeds_prints_and_writes_both(tmp_path: Path):
    means = quality.over_seeds(of_seed, range(3))
    assert means.spread is not None
    mean, spread = means["K-FAC"]["error"], means.spread[0]["error"]
    assert f"{mean:.3g} ± {spread:.3g}" in str(means)
    assert f" ± {means.spread[2]['c_star']:.3g}" in means.table("dense1")[1][0][3]
    means.to_csv(tmp_path / "seeds.csv")
    with open(tmp_path / "seeds.csv", newline="", encoding="utf-8") as file:
        whole, layer, _ = csv.DictReader(file)
    assert (float(whole["error"]), float(whole["error_sd"])) == (mean, spread)
    assert layer["share_sd"] == ""


def test_what_has_no_value_has_no_deviation():
    row = {"approximation": "no curvature", "c_star": math.nan, "error": 1.0}
    assert text_table([row], [{"c_star": math.nan, "error": 0.5}], ["c_star", "error"])[1] == [
        ["no curvature", "-", "1 ± 0.5"]
    ]


def test_over_seeds_needs_two_of_a_kind():
    with pytest.raises(ValueError, match="at least two seeds, got 1"):
        quality.over_seeds(of_seed, [0])
    with pytest.raises(ValueError, match="the same rows for every seed, got 2 different sets"):
        quality.over_seeds(lambda seed: of_seed(0) if seed else compare(CASES["bernoulli"]), [0, 1])


@pytest.fixture(scope="module")
def comparison() -> quality.Comparison:
    return compare(CASES["bernoulli"])


def test_a_comparison_prints_one_line_per_approximation(comparison: quality.Comparison):
    tables = str(comparison).split("\n\n")
    assert len(tables) >= 2
    for table in tables:
        header, lines = re.split("\n─.*\n", table)
        assert "approximation  " in header
        assert [line.split("  ")[0] for line in lines.splitlines()] == [*build(CASES["bernoulli"].signals())]
        assert max(map(len, table.splitlines())) <= 88
    headings = comparison.table()[0]
    assert "CG iterations" in headings and "best scale" in headings
    assert "build (s)" not in headings  # none was timed
    assert len(repr(comparison).splitlines()) <= 25 and "best" not in repr(comparison)


def test_rows_become_a_data_frame(comparison: quality.Comparison, monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=made.append))
    comparison.to_pandas()
    quality.over_seeds(lambda seed: comparison, [0, 1]).to_pandas()
    assert made[0] == comparison.rows and made[0] is not comparison.rows
    assert made[1][0]["error"] == comparison.rows[0]["error"] and made[1][0]["error_sd"] == 0
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="expected pandas for to_pandas, got none; pip install pandas"):
        comparison.to_pandas()


def test_csv_holds_every_number(comparison: quality.Comparison, tmp_path: Path):
    comparison.to_csv(tmp_path / "quality.csv")
    with open(tmp_path / "quality.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(comparison.rows)
    for line, row in zip(read, comparison.rows, strict=True):
        assert (line["approximation"], line["layer"]) == (row["approximation"], row["layer"])
        for column in quality.COLUMNS:
            value = row.get(column)
            assert line[column] == "" if value is None else float(line[column]) == value


def test_dicts_are_copies(comparison: quality.Comparison):
    copies = comparison.to_dicts()
    assert copies == comparison.rows
    copies[0]["error"] = 17
    assert comparison.rows[0]["error"] != 17


def test_unknown_names_are_refused_with_the_known_ones(comparison: quality.Comparison):
    with pytest.raises(KeyError, match="among all, dense0, dense1, got 'dense7'"):
        comparison.layer("dense7")
    with pytest.raises(KeyError, match=r"among exact, block-diagonal, .* got 'KFAC'"):
        comparison["KFAC"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.inf, "not reached"),
        (math.nan, "-"),
        (7, "7"),
        (7030**2, "49,420,900"),
        (250.0, "250"),
        (0.5, "0.5"),
        (1.0, "1"),
        (-0.012345, "-0.0123"),
        (999.7, "1,000"),
        (12345.6, "12,346"),
        (1.5e-9, "1.5e-09"),
    ],
)
def test_cells_are_written_as_a_person_would(value: float | None, text: str):
    assert quality.format_cell(value) == text


def test_a_column_is_shown_where_some_rows_have_it() -> None:
    rows = [{"approximation": "a", "error": 1.0, "kl": None}, {"approximation": "b", "error": 2.0, "kl": 3.0}]
    header, cells = text_table(rows, None, ["error", "kl", "c_star"])
    assert header == ["approximation", "error", "KL (nats)"]
    assert cells == [["a", "1", ""], ["b", "2", "3"]]


def test_what_is_applicable_depends_on_whether_any_weights_are_shared() -> None:
    shared, dense = (
        random_signals(shapes=((4, 3, 2), (1, 3, 2))),
        random_signals(shapes=((1, 3, 2), (1, 2, 2))),
    )
    assert {"KFAC-reduce", "T x KFC"} <= set(quality.applicable(shared))
    assert not {"KFAC-reduce", "T x KFC"} & set(quality.applicable(dense))
    assert "block-tridiagonal" in quality.applicable(dense)
    assert "block-tridiagonal" not in quality.applicable(shared)
