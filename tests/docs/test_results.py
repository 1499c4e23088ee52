"""docs/results/README.md and what quotes it: tables and sentences, computed again from the records."""

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from minikfac.training import records
from oracles.pages import ROOT, benchmark

RESULTS = ROOT / "docs" / "results"
races: Any = benchmark("races")
TABLES = [
    ("mnist-autoencoder", "best_loss"),
    ("mnist-autoencoder", "best_test_squared_error"),
    ("cifar10-kfc", "best_loss"),
    ("cifar10-kfc", "best_train_error"),
    ("cifar10-kfc", "best_test_error"),
    ("cifar10-kfc-large-batches", "best_loss"),
]
AE, CIFAR, LARGE = "mnist-autoencoder", "cifar10-kfc", "cifar10-kfc-large-batches"


def words(path: str) -> str:
    """A page without line breaks and emphasis."""
    return re.sub(r"\s+", " ", (ROOT / path).read_text(encoding="utf-8").replace("**", ""))


@cache
def runs(name: str) -> Any:
    return races.runs_of(name)


@cache
def step_times() -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / "step_times.json").read_text(encoding="utf-8"))


def medians(name: str, racer: str, column: str, what: str, cores: int = 1) -> list[float]:
    """Of a factor over the seeds, at each level that both sides reached."""
    race, of = races.RACES[name], races.runs_of(name, cores=cores)
    baseline = (race.compared or tuple(race.racers))[0]
    every = [races.ratios(of, baseline, racer, column, level)[what] for level in race.levels[column]]
    return [float(np.median(each)) for each in every if each]


def span(values: list[float]) -> str:
    low, high = races.factor(min(values)), races.factor(max(values))
    return low if low == high else f"{low} to {high}"


def spans(name: str, racer: str, column: str, cores: int = 1) -> dict[str, str]:
    keys = ("updates", "seconds per update", "seconds")
    return {key: span(medians(name, racer, column, key, cores)) for key in keys}


def milliseconds(race: str, racer: str, batch: int) -> str:
    """An example of an update of one batch, average of the iterates included."""
    rows = step_times()["1"]
    (row,) = [r for r in rows if (r["race"], r["racer"], r["batch"]) == (race, racer, batch)]
    average = sum(r["seconds"] for r in step_times()["averaging"] if r["race"] == race)
    return f"{1e3 * (row['seconds'] + average) / batch:.2f}"


def clock() -> dict[str, tuple[float, float]]:
    """By race the factor in seconds to a level of seed 1: by the clock, and by updates times their times."""
    factors = {}
    for name, (baseline, racer, level) in benchmark("step_times").WHOLE.items():
        at = {row["racer"]: row["seconds"] for row in step_times()["whole"] if row["race"] == name}
        one = {of: [run for run in runs(name)[of] if run.about["seed"] == 1] for of in (baseline, racer)}
        (product,) = races.ratios(one, baseline, racer, "best_loss", level)["seconds"]
        factors[name] = at[baseline] / at[racer], product
    return factors


def test_products_of_the_parts_agree_with_the_clock() -> None:
    for by_clock, product in clock().values():
        assert product == pytest.approx(by_clock, rel=0.1)


@pytest.mark.parametrize(("name", "column"), TABLES)
def test_tables_are_those_of_the_records(name: str, column: str) -> None:
    header, *rows = races.factors(name, column)
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    for row in (header, *rows):
        assert "| " + " | ".join(row) + " |" in page


def test_factors_are_quotients_of_their_parts() -> None:
    for name, racer in ((AE, "K-FAC"), (CIFAR, "KFC-pre")):
        for level in races.RACES[name].levels["best_loss"]:
            baseline = (races.RACES[name].compared or tuple(races.RACES[name].racers))[0]
            each = races.ratios(runs(name), baseline, racer, "best_loss", level)
            parts = np.array(each["updates"]) / np.array(each["seconds per update"])
            assert parts == pytest.approx(np.array(each["seconds"]))


def test_seconds_are_updates_times_their_times() -> None:
    times = {(row["racer"], row["batch"]): row["seconds"] for row in step_times()["1"] if row["race"] == AE}
    average = next(row["seconds"] for row in step_times()["averaging"] if row["race"] == AE)
    (run, *_) = runs(AE)["Nesterov, falling rate"]
    assert run["seconds"] == pytest.approx(run["step"] * (times["Nesterov, falling rate", 100] + average))
    (run, *_) = runs(AE)["K-FAC"]
    first = run["step"].tolist().index(20)  # batches of 500 to 605
    slope = (times["K-FAC", 1500] - times["K-FAC", 500]) / 1000
    update = times["K-FAC", 500] + average + slope * (run["examples"][first] / 20 - 500)
    assert run["seconds"][first] == pytest.approx(20 * update, rel=1e-6)


def sentences() -> dict[str, str]:
    """What the page says beside its tables."""
    ae, test = (spans(AE, "K-FAC", column) for column in ("best_loss", "best_test_squared_error"))
    (first, *_) = runs(AE)["K-FAC"]
    largest = (first["examples"][-1] - first["examples"][-2]) / (first["step"][-1] - first["step"][-2])
    tri = {
        level: races.ratios(runs(AE), "K-FAC", "K-FAC tridiagonal", "best_loss", level)
        for level in (80, 70, 60)
    }
    fewer = [100 * (1 - 1 / update) for each in tri.values() for update in each["updates"]]
    slower = [1 / seconds for each in tri.values() for seconds in each["seconds"]]
    (diverged,) = runs(AE)["Nesterov"]
    of_kfc = [record["nu"] for run in runs(CIFAR)["KFC-pre"] for record in run.records[1:]]
    error = runs(CIFAR)["SGD"][0]["test_error"][-1]
    return {
        "CLOCK": " ".join(
            f"{title}: the factor in seconds to {level:g} nats is {by_clock:.2f}, and {product:.2f} by the product."
            for (title, level), (by_clock, product) in zip(
                (("On the autoencoder", 80), ("On CIFAR-10", 1.2)), clock().values(), strict=True
            )
        ),
        "DIVERGED": f"{diverged['loss'][-1]:.0f}",
        "AE_UPDATES": ae["updates"],
        "AE_SECONDS": ae["seconds"],
        "AE_LONGER": ae["seconds per update"],
        "AE_BATCH": f"{largest / 100:.0f}",
        "AE_EX_SGD": milliseconds(AE, "Nesterov, falling rate", 100),
        "AE_EX_500": milliseconds(AE, "K-FAC", 500),
        "AE_EX_5000": milliseconds(AE, "K-FAC", 5000),
        "AE_TEST": test["seconds"],
        "TRI": f"{min(fewer):.0f} to {max(fewer):.0f}% fewer updates than block-diagonal from the same start, and "
        f"{min(slower):.1f} to {max(slower):.1f} times the seconds.",
        "NU": f"{max(of_kfc):.4f}",
        "SE": f"{100 * math.sqrt(error * (1 - error) / 4000):.1f}",
        "SE_RATIO": "",
    }
