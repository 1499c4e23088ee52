"""docs/results/README.md and what quotes it: tables and sentences, computed again from the records."""

import json
import math
import re
from collections.abc import Callable
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
    ("cifar10-kfc-paper-batches", "best_loss"),
    ("cifar10-kfc-paper-batches", "best_train_error"),
    ("cifar10-kfc-paper-batches", "best_test_error"),
    ("cifar10-kfc-large-batches", "best_loss"),
]
AE, CIFAR, LARGE = "mnist-autoencoder", "cifar10-kfc", "cifar10-kfc-large-batches"
PAPER = "cifar10-kfc-paper-batches"


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
    baseline = race.compared[0]
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
            baseline = races.RACES[name].compared[0]
            each = races.ratios(runs(name), baseline, racer, "best_loss", level)
            parts = np.array(each["updates"]) / np.array(each["seconds per update"])
            assert parts == pytest.approx(np.array(each["seconds"]))


def test_seconds_are_updates_times_their_times() -> None:
    rows = [row for row in step_times()["updates"] if row["race"] == AE]
    times = {(row["racer"], row["batch"]): row["seconds"] for row in rows}
    average = next(row["seconds"] for row in step_times()["averaging"] if row["race"] == AE)
    (run, *_) = runs(AE)["Nesterov, batches of 100"]
    assert run["seconds"] == pytest.approx(run["step"] * (times["Nesterov", 100] + average))
    (run, *_) = runs(AE)["K-FAC"]
    first = run["step"].tolist().index(20)  # batches of 500 to 605
    slope = (times["K-FAC", 1500] - times["K-FAC", 500]) / 1000
    update = times["K-FAC", 500] + average + slope * (run["examples"][first] / 20 - 500)
    assert run["seconds"][first] == pytest.approx(20 * update, rel=1e-6)


def fewer(name: str, slow: str, fast: str, column: str, level: float, what: str) -> list[float]:
    return races.ratios(runs(name), slow, fast, column, level)[what]


def scores(race: str, search: str) -> list[float]:
    """Of the trials of a search, the best first."""
    trials = records.read(RESULTS / race / search).records
    return sorted(float(trial["score"]) for trial in trials if "seed" not in trial)


def of_the_autoencoder() -> list[str]:
    loss, test = (spans(AE, "K-FAC", column) for column in ("best_loss", "best_test_squared_error"))
    (first, *_) = runs(AE)["K-FAC"]
    largest = (first["examples"][-1] - first["examples"][-2]) / (first["step"][-1] - first["step"][-2])
    paper, levels = "K-FAC, gamma of the paper", races.RACES[AE].levels["best_loss"]
    tri, dearer = (
        [fewer(AE, paper, "K-FAC tridiagonal, gamma of the paper", "best_loss", at, what)[0] for at in levels]
        for what in ("updates", "seconds")
    )
    share = {at: fewer(AE, paper, "K-FAC, round 3", "best_loss", at, "updates") for at in (80, 60, 55)}
    by_clock, product = clock()[AE]
    of_sgd, small, large = (
        milliseconds(AE, racer, batch)
        for racer, batch in (("Nesterov", 100), ("K-FAC", 500), ("K-FAC", 5000))
    )
    sgd, kfac = (scores(AE, f"{side}.search-4.jsonl") for side in ("nesterov", "k-fac"))
    rounds = [fewer(AE, "K-FAC, round 3", "K-FAC", "best_loss", at, "updates") for at in levels]
    apart = max(abs(ratio - 1) for each in rounds for ratio in each)
    both = ("Nesterov, batches of 100", "Nesterov")
    factors = [[fewer(AE, slow, "K-FAC", "best_loss", at, "seconds") for slow in both] for at in levels]
    sooner = [min(float(np.median(each)) for each in of_level if each) for of_level in factors]
    return [
        f"to 80 nats on the autoencoder K-FAC is {by_clock:.2f} times sooner by the clock and "
        f"{product:.2f} times",
        f"its {len(kfac)} trials end at {kfac[0]:.1f} to {kfac[-1]:.1f} nats, those of Nesterov momentum at "
        f"{sgd[0]:.1f} to {sgd[-2]:.1f}, and one at {sgd[-1]:.0f}",
        f"against the sooner of the two SGD runs at each level, {span(sooner)}",
        f"as many updates as the third, within {100 * apart:.0f}%",
        f"Updates: {loss['updates']} times fewer",
        f"| MNIST autoencoder, training loss, seconds | - | {loss['seconds']} | {loss['updates']} "
        f"times fewer updates, each {loss['seconds per update']} times as long |",
        f"takes {min(share[80]):.2f} to {max(share[80]):.2f} times fewer updates to 80 nats than one",
        f"{min(share[60]):.2f} to {max(share[60]):.2f} to 60, and {share[55][0]:.2f} to 55",
        f"Seconds: {loss['seconds']} times fewer",
        f"takes {loss['seconds per update']} times as long as one of SGD",
        f"its batches are 5 to {largest / 100:.0f} times as large",
        f"costs SGD {of_sgd} ms, and K-FAC {small} ms in a batch of 500 and {large} ms in one of",
        f"{100 - 100 / min(tri):.0f} to {100 - 100 / max(tri):.0f}% fewer updates than block-diagonal",
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
    lowest = fewer(CIFAR, "SGD", "KFC-pre", "best_test_error", 0.2843, "seconds")[0]
    last = [fewer(CIFAR, "SGD", "KFC-pre", "best_test_error", at, "seconds")[0] for at in (0.3, 0.29, 0.2843)]
    (of_kfac,) = fewer(CIFAR, "KFC-pre", "K-FAC", "best_loss", 1.1, "updates")
    (slower,) = fewer(CIFAR, "K-FAC", "KFC-pre", "best_loss", 1.1, "seconds")
    of_sgd, of_kfc = milliseconds(CIFAR, "SGD", 64), milliseconds(CIFAR, "KFC-pre", 128)
    trials = records.read(RESULTS / CIFAR / "sgd.search-2.jsonl").records
    trial = min(trials, key=lambda each: float(each["score"]))
    return [
        f"took {1e3 * trial['seconds'] / trial['steps']:.0f} ms in its best trial",
        f"and takes {64 * float(of_sgd):.0f} ms now",
        f"to 1.2 nats on CIFAR-10 KFC-pre is {by_clock:.2f} times sooner by the clock and "
        f"{product:.2f} times",
        f"is {largest:.4f} at most",
        f"| CIFAR-10, training error, seconds | 7.5 or 6.3 | {train['seconds']} | not reached: "
        f"{train['updates']} times fewer updates, each {train['seconds per update']} times as long |",
        f"| CIFAR-10, test error, seconds | 4.8 or 3.4 | {test['seconds']} |",
        f"a standard error of {100 * math.sqrt(share * (1 - share) / 4000):.1f} points",
        f"Training loss: {loss['seconds']} times fewer seconds, {loss['updates']} times fewer updates",
        f"Training error: {train['seconds']} times fewer seconds, {train['updates']} times fewer updates",
        f"Test error: {test['seconds']} times fewer seconds, {test['updates']} times fewer updates",
        f"SGD's lowest, 28.43%, {lowest:.1f} times sooner",
        f"over the last three levels the factor is {span(last)}",
        f"gives back a factor of {loss['seconds per update']}",
        f"costs SGD {of_sgd} ms an example and KFC-pre {of_kfc} ms",
        f"takes {of_kfac:.1f} times fewer updates than KFC-pre to 1.1, and {slower:.1f} times the seconds",
    ]


def of_paper_batches() -> list[str]:
    columns = ("best_loss", "best_train_error", "best_test_error")
    kfac, kfc = ([spans(PAPER, racer, of) for of in columns] for racer in ("K-FAC", "KFC-pre"))
    levels = races.RACES[PAPER].levels["best_loss"]
    between = [
        float(np.median(fewer(PAPER, "KFC-pre", "K-FAC", "best_loss", at, "updates"))) for at in levels
    ]
    trials = {racer: scores(PAPER, f"{racer}.search-1.jsonl") for racer in ("sgd", "kfc-pre", "k-fac")}
    best, *others = trials["k-fac"]
    return [
        f"to the same training loss K-FAC takes {kfac[0]['updates']} times fewer than SGD, and KFC-pre "
        f"{kfc[0]['updates']}; to the same training error {kfac[1]['updates']} and {kfc[1]['updates']}, to "
        f"the same test error {kfac[2]['updates']} and {kfc[2]['updates']}.",
        f"K-FAC against KFC-pre: {span(between)} times fewer updates",
        f"K-FAC's best trial ends at {best:.2f}, its others at {others[0]:.2f} to {others[-1]:.2f}, those of "
        f"SGD at {trials['sgd'][0]:.2f} to {trials['sgd'][-1]:.2f}",
        f"KFC-pre is {kfc[0]['seconds']} times sooner than SGD, {kfc[0]['updates']} times fewer updates that "
        f"take {kfc[0]['seconds per update']} times as long; K-FAC is {kfac[0]['seconds']} times sooner, and "
        f"one of its updates takes {kfac[0]['seconds per update']} times as long",
        f"| CIFAR-10 at the paper's batches, updates | 10 to 20 | K-FAC {kfac[0]['updates']}, KFC-pre "
        f"{kfc[0]['updates']} |",
    ]


def of_large_batches() -> list[str]:
    levels = races.RACES[LARGE].levels["best_loss"]
    slow = ("SGD, constant rate", "SGD, larger constant rate")
    better = [
        min(fewer(LARGE, racer, "KFC-pre", "best_loss", level, "updates")[0] for racer in slow)
        for level in levels
    ]
    return [
        f"Updates: {span(better)} times fewer than the better of the two SGD runs",
        f"| CIFAR-10 at batches of 4,096, updates | 10 to 20 | {span(better)} |",
    ]


def of_iterative_methods() -> list[str]:
    path = ROOT / "benchmarks" / "results" / "iterative.json"
    methods = json.loads(path.read_text(encoding="utf-8"))["methods"]

    def thousands(method: str, level: float) -> str:
        """Passes to a level, from the lowest to the highest of the seeds."""
        at = [
            next(p for p, loss in zip(run["passes"], run["losses"], strict=True) if loss <= level) / 1000
            for run in methods[method]["runs"]
        ]
        low, high = f"{min(at):.0f}", f"{max(at):.0f}"
        return low if low == high else f"{low} to {high}"

    slow = "Hessian-free", "Krylov subspace"
    sentences = [f"K-FAC needs {thousands('K-FAC', 90)} thousand passes to 90 nats"]
    for method in slow:
        ends = [min(run["losses"]) for run in methods[method]["runs"]]
        updates = [len(run["losses"]) - 1 for run in methods[method]["runs"]]
        sentences.append(
            f"{method} is at {min(ends):.0f} to {max(ends):.0f} nats after 200 thousand, "
            f"{min(updates)} to {max(updates)} updates"
        )
    hf, krylov = (thousands(method, 150) for method in slow)
    of_an_update = {
        method: [run["passes"][-1] / (len(run["passes"]) - 1) for run in of["runs"]]
        for method, of in methods.items()
    }
    assert min(min(of_an_update[method]) for method in slow) > 10 * max(of_an_update["K-FAC"])
    sentences.append(
        f"To 150 nats it is {thousands('K-FAC', 150)} thousand passes with K-FAC, {hf} with Hessian-free and "
        f"{krylov} with Krylov subspaces"
    )
    return sentences


@pytest.mark.parametrize(
    "facts", [of_the_autoencoder, of_cifar, of_paper_batches, of_large_batches, of_iterative_methods]
)
def test_sentences_are_true_of_the_records(facts: Callable[[], list[str]]) -> None:
    page = words("docs/results/README.md")
    for sentence in facts():
        assert sentence in page


def quotes() -> dict[str, list[str]]:
    """Sentences of other pages."""
    ae, cifar = spans(AE, "K-FAC", "best_loss"), spans(CIFAR, "KFC-pre", "best_loss")
    test, large = spans(CIFAR, "KFC-pre", "best_test_error"), of_large_batches()[0].split()[1:4]
    paper = spans(PAPER, "K-FAC", "best_loss")["updates"], spans(PAPER, "KFC-pre", "best_loss")["updates"]
    of_sgd = float(milliseconds(AE, "Nesterov", 100))
    dearer = [float(milliseconds(AE, "K-FAC", m)) / of_sgd for m in (500, 5000)]
    tri = next(each for each in of_the_autoencoder() if "% fewer" in each)
    return {
        "README.md": [
            f"K-FAC took {ae['updates']} times fewer updates and {ae['seconds']} times fewer seconds",
            f"KFC-pre {cifar['updates']} times fewer updates and {cifar['seconds']} times fewer seconds",
        ],
        "docs/limits.md": [
            f"{cifar['seconds']} times on CIFAR-10 and {ae['seconds']} times on the MNIST autoencoder",
            f"In test error on CIFAR-10 it was {test['seconds']} times",
            f"KFC-pre took {' '.join(large)} times fewer updates",
            f"with the paper's batches K-FAC took {paper[0]} times fewer and KFC-pre {paper[1]}",
            f"{tri.split(' than')[0]} than the block-diagonal one",
        ],
        "docs/claims.md": [
            f"it reaches the same training loss with {cifar['seconds']} times fewer seconds, "
            f"{cifar['updates']} times fewer updates",
            f"test error with {test['seconds']} times fewer seconds, {test['updates']} times fewer updates",
            f"autoencoder reaches the same training loss with {ae['seconds']} times fewer seconds, "
            f"{ae['updates']} times fewer updates",
            f"how much longer one takes, {cifar['seconds per update']} times at every level",
            f"an update takes {ae['seconds per update']} times as long, with batches that grow",
            f"costs {dearer[0]:.1f} times as much in a batch of 500 and {dearer[1]:.1f} times in one of",
            f"KFC-pre takes {' '.join(large)} times fewer updates than the better of two SGD runs",
            f"With the paper's batches K-FAC takes {paper[0]} times fewer updates than SGD to the same "
            f"training loss, and KFC-pre {paper[1]}",
            *of_iterative_methods(),
        ],
    }


def test_what_quotes_the_races() -> None:
    for path, sentences in quotes().items():
        for sentence in sentences:
            assert sentence in words(path).replace("*", ""), (path, sentence)
