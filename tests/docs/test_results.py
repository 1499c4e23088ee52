"""docs/results/README.md and what quotes it: tables and sentences, computed again from the records."""

import json
import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest

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


def medians(name: str, racer: str, column: str, what: str) -> list[float]:
    """Of a factor over the seeds, at each level that both sides reached."""
    race, of = races.RACES[name], runs(name)
    baseline = (race.compared or tuple(race.racers))[0]
    every = [races.ratios(of, baseline, racer, column, level)[what] for level in race.levels[column]]
    return [float(np.median(each)) for each in every if each]


def span(values: list[float]) -> str:
    low, high = races.factor(min(values)), races.factor(max(values))
    return low if low == high else f"{low} to {high}"


def spans(name: str, racer: str, column: str) -> dict[str, str]:
    keys = ("updates", "seconds per update", "seconds")
    return {key: span(medians(name, racer, column, key)) for key in keys}


def milliseconds(race: str, racer: str, batch: int) -> str:
    """An example of an update of one batch, average of the iterates included."""
    rows = step_times()["updates"]
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
    rows = [row for row in step_times()["updates"] if row["race"] == AE]
    times = {(row["racer"], row["batch"]): row["seconds"] for row in rows}
    average = next(row["seconds"] for row in step_times()["averaging"] if row["race"] == AE)
    (run, *_) = runs(AE)["Nesterov, falling rate"]
    assert run["seconds"] == pytest.approx(run["step"] * (times["Nesterov, falling rate", 100] + average))
    (run, *_) = runs(AE)["K-FAC"]
    first = run["step"].tolist().index(20)  # batches of 500 to 605
    slope = (times["K-FAC", 1500] - times["K-FAC", 500]) / 1000
    update = times["K-FAC", 500] + average + slope * (run["examples"][first] / 20 - 500)
    assert run["seconds"][first] == pytest.approx(20 * update, rel=1e-6)


def fewer(name: str, slow: str, fast: str, column: str, level: float, what: str) -> list[float]:
    return races.ratios(runs(name), slow, fast, column, level)[what]


def of_the_autoencoder() -> list[str]:
    loss, test = (spans(AE, "K-FAC", column) for column in ("best_loss", "best_test_squared_error"))
    (first, *_) = runs(AE)["K-FAC"]
    largest = (first["examples"][-1] - first["examples"][-2]) / (first["step"][-1] - first["step"][-2])
    tri = [
        fewer(AE, "K-FAC", "K-FAC tridiagonal", "best_loss", level, "updates")[0] for level in (80, 70, 60)
    ]
    dearer = [fewer(AE, "K-FAC", "K-FAC tridiagonal", "best_loss", at, "seconds")[0] for at in (80, 70, 60)]
    low, high = sorted(100 * (1 - 1 / each) for each in tri)[::2]
    by_clock, product = clock()[AE]
    of_sgd, small, large = (
        milliseconds(AE, racer, batch)
        for racer, batch in (("Nesterov, falling rate", 100), ("K-FAC", 500), ("K-FAC", 5000))
    )
    (diverged,) = runs(AE)["Nesterov"]
    return [
        f"to 80 nats on the autoencoder K-FAC is {by_clock:.2f} times sooner by the clock and {product:.2f} times",
        f"at that rate Nesterov's loss is {diverged['loss'][-1]:.0f} nats in the end",
        f"Updates: {loss['updates']} times fewer",
        f"Seconds: {loss['seconds']} times fewer",
        f"takes {loss['seconds per update']} times as long as one of SGD",
        f"its batches are 5 to {largest / 100:.0f} times as large",
        f"an example costs SGD {of_sgd} ms, and K-FAC {small} ms in a batch of 500 and {large} ms in one of 5,000",
        f"{low:.0f} to {high:.0f}% fewer updates than block-diagonal from the same start",
        f"{1 / max(dearer):.1f} to {1 / min(dearer):.1f} times the seconds",
        f"K-FAC is {test['seconds']} times sooner",
    ]


def of_cifar() -> list[str]:
    loss, train, test = (
        spans(CIFAR, "KFC-pre", f"best_{column}") for column in ("loss", "train_error", "test_error")
    )
    by_clock, product = clock()[CIFAR]
    largest = max(record["nu"] for run in runs(CIFAR)["KFC-pre"] for record in run.records[1:])
    share = runs(CIFAR)["SGD"][0]["test_error"][-1]
    (lowest,) = fewer(CIFAR, "SGD", "KFC-pre", "best_test_error", 0.2843, "seconds")
    of_kfac = [fewer(CIFAR, "KFC-pre", "K-FAC", "best_loss", level, "updates")[0] for level in (1.0, 0.7)]
    return [
        f"to 1.2 nats on CIFAR-10 KFC-pre is {by_clock:.2f} times sooner by the clock and {product:.2f} times",
        f"is {largest:.4f} at most",
        f"a standard error of {100 * math.sqrt(share * (1 - share) / 4000):.1f} points",
        f"Training loss: {loss['seconds']} times fewer seconds, {loss['updates']} times fewer updates",
        f"Training error: {train['seconds']} times fewer seconds, {train['updates']} times fewer updates",
        f"Test error: {test['seconds']} times fewer seconds, {test['updates']} times fewer updates",
        f"SGD's lowest, 28.43%, {lowest:.1f} times sooner",
        f"costs SGD {milliseconds(CIFAR, 'SGD', 64)} ms an example and KFC-pre {milliseconds(CIFAR, 'KFC-pre', 128)} ms",
        f"{min(of_kfac):.1f} to {max(of_kfac):.1f} times fewer updates than KFC-pre",
    ]
