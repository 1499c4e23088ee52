"""The page on what an update loses quotes two records; what is quick of them is measured again."""

import json
from typing import Any

import numpy as np
import pytest

from minikfac.parallel import one_thread
from minikfac.training.update_costs import costs_on_digits
from oracles.pages import ROOT, script

PAGE = (ROOT / "docs" / "curvature-along-the-step.md").read_text(encoding="utf-8")
UPDATES, GAMMA = (
    json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("updates", "gamma")
)
SHARES = ("1", "0.3", "0.1", "0.03", "0.01")


def number(value: float | None) -> str:
    return "—" if value is None else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def spread(median: float | None, lowest: float | None, highest: float | None) -> str:
    return f"{number(median)} ({number(lowest)} to {number(highest)})"


def of_a_level(row: dict[str, Any]) -> str:
    return spread(row["median"], row["lowest"], row["highest"])


def curvature_rows() -> list[str]:
    names = {
        "digits-autoencoder": "digits autoencoder, K-FAC",
        "digits-convnet": "two convolutions on digits, KFC-pre",
        "cifar10-kfc": "CIFAR-10 at quarter width, KFC-pre",
    }
    rows = []
    for problem, runs in UPDATES["curvature"].items():
        records = [record for run in runs for record in run if "curvature" in record]
        layers = [name for name in records[0] if name.startswith("curvature/")]
        whole = [record["curvature"] for record in records]
        for kind in ("conv", "dense"):
            values = [record[name] for record in records for name in layers if f"/{kind}" in name]
            if values:
                both = (spread(float(np.median(v)), min(v), max(v)) for v in (values, whole))
                rows.append(f"| {names[problem]} | {kind} | {' | '.join(both)} |")
    return rows


def costs_rows() -> list[str]:
    tables = UPDATES["costs"].values()
    return [
        f"| {of_both[0]['approximation']} | "
        + " | ".join(spread(*(100 * share for share in row["model"])) for row in of_both)
        + " |"
        for of_both in zip(*(table["rows"] for table in tables), strict=True)
    ]


def start_rows() -> list[str]:
    return [
        f"| {name}, {level:g} | "
        + " | ".join(of_a_level(study["shares"][share][place]) for share in SHARES)
        + " |"
        for name, study in GAMMA["start"].items()
        for place, level in enumerate(study["levels"])
    ]


def tridiagonal_rows() -> list[str]:
    return [
        f"| {row['examples']} | {row['share']:g} √(λ + η) | {of_a_level(row['block_diagonal'][1])} | "
        f"{of_a_level(row['block_tridiagonal'][1])} |"
        for row in GAMMA["tridiagonal"]["rows"]
    ]


TABLES = [curvature_rows, costs_rows, start_rows, tridiagonal_rows]


@pytest.mark.parametrize("rows", TABLES)
def test_tables_are_the_records(rows: Any) -> None:
    assert "\n".join(rows()) + "\n" in PAGE


def test_a_tenth_takes_no_more_updates_than_the_papers_gamma() -> None:
    """What the default rests on, on every net and at both levels."""
    assert len(GAMMA["start"]) == 5
    for name, study in GAMMA["start"].items():
        for paper, tenth in zip(study["shares"]["1"], study["shares"]["0.1"], strict=True):
            assert tenth["median"] <= paper["median"], name
            for row in (paper, tenth):
                counts = [np.inf if count is None else count for count in row["updates"]]
                assert np.median(counts) == row["median"]


def test_curvature_of_the_record_is_what_is_measured() -> None:
    measure = script("docs/measure_updates.py")
    settings = {key: value for key, value in measure.NETS["digits-autoencoder"].items() if key != "seeds"}
    first = measure.run("digits-autoencoder", 0, None, **settings)
    for row, recorded in zip(first, UPDATES["curvature"]["digits-autoencoder"][0], strict=True):
        assert row.keys() == recorded.keys()
        if row["step"] <= settings["steps"] // measure.MOMENTS:  # later, rounding has grown
            assert list(row.values()) == pytest.approx(list(recorded.values()), rel=1e-3)


@pytest.mark.slow
def test_costs_of_the_record_are_what_is_measured() -> None:
    with one_thread():
        (run,) = costs_on_digits([0], 30)
    assert dict(run.model) == pytest.approx(UPDATES["costs"]["30"]["first"], rel=1e-2)
