"""docs/results/README.md and what quotes it: tables and sentences, computed again from the records."""

import json
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from minikfac.races.race import reached
from minikfac.training import records
from oracles.pages import ROOT, script

RESULTS = ROOT / "docs" / "results"
races: Any = script("benchmarks/races.py")
TABLES = [
    ("mnist-autoencoder", "best_loss"),
    ("mnist-autoencoder", "best_squared_error"),
    ("mnist-autoencoder", "best_test_squared_error"),
    ("cifar10-kfc", "best_loss"),
    ("cifar10-kfc", "best_train_error"),
    ("cifar10-kfc", "best_test_error"),
    ("cifar10-kfc-paper-batches", "best_loss"),
    ("cifar10-kfc-paper-batches", "best_train_error"),
    ("cifar10-kfc-paper-batches", "best_test_error"),
    ("cifar10-kfc-large-batches", "best_loss"),
    ("cifar10-kfc-large-batches", "best_train_error"),
    ("cifar10-kfc-large-batches", "best_test_error"),
]
AE, CIFAR, LARGE = "mnist-autoencoder", "cifar10-kfc", "cifar10-kfc-large-batches"
PAPER = "cifar10-kfc-paper-batches"
LEVELS = {name: race.levels["best_loss"] for name, race in races.RACES.items()}


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
    baseline = race.sides[0]
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
    for name, (baseline, racer, level) in script("benchmarks/step_times.py").WHOLE.items():
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
        for level in LEVELS[name]:
            baseline = races.RACES[name].sides[0]
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


def of_the_search(race: str, number: int, level: float) -> list[str]:
    """Where the trials of a round end, and how far along the race they are then."""
    sides = races.RACES[race].sides
    found = {
        of: records.read(RESULTS / race / f"{races.file_name(of)}.search-{number}.jsonl") for of in sides
    }
    ends, shares = {}, {}
    for racer, trials in found.items():
        first = sorted((t for t in trials.records if "seed" not in t), key=lambda t: float(t["score"]))
        ends[racer] = f"{first[0]['score']:.2f} to {first[-1]['score']:.2f}"
        there = np.median([reached(run, "best_loss", level, "step") for run in runs(race)[racer]])
        shares[racer] = f"{100 * float(first[0]['steps']) / there:.0f}"
    sgd, kfc, kfac = sides
    return [
        f"s end at {ends[sgd]} nats with {sgd}, {ends[kfc]} with {kfc} and {ends[kfac]} with {kfac}",
        f"judges {sgd} after {shares[sgd]}% of its updates to {level}, {kfc} after {shares[kfc]} and {kfac} "
        f"after {shares[kfac]}: a longer one may help {sgd}",
    ]


def of_the_autoencoder() -> list[str]:
    loss, train, test = (
        spans(AE, "K-FAC", f"best_{column}") for column in ("loss", "squared_error", "test_squared_error")
    )
    (first, *_) = runs(AE)["K-FAC"]
    largest = races.best(AE, "K-FAC", "cpu")["batch_size"](round(reached(first, "best_loss", 55, "step")))
    paper, levels = "K-FAC, gamma of the paper", LEVELS[AE]
    tri, dearer = (
        [float(np.median(fewer(AE, "K-FAC", "K-FAC tridiagonal", "best_loss", at, what))) for at in levels]
        for what in ("updates", "seconds")
    )
    single = [
        ratio
        for at in levels
        for ratio in fewer(AE, "K-FAC", "K-FAC tridiagonal", "best_loss", at, "updates")
    ]
    before = [
        fewer(AE, paper, "K-FAC tridiagonal, gamma of the paper", "best_loss", at, "updates")[0]
        for at in levels
    ]
    assert len(runs(AE)["K-FAC tridiagonal"]) == 3
    share = {at: fewer(AE, paper, "K-FAC, round 3", "best_loss", at, "updates") for at in (80, 60, 55)}
    by_clock, product = clock()[AE]
    smallest, of_sgd, small, large = (
        milliseconds(AE, racer, batch)
        for racer, batch in (("Nesterov", 32), ("Nesterov", 100), ("K-FAC", 500), ("K-FAC", 5000))
    )
    sgd, kfac = (scores(AE, f"{side}.search-4.jsonl") for side in ("nesterov", "k-fac"))
    rounds = [fewer(AE, "K-FAC, round 3", "K-FAC", "best_loss", at, "updates") for at in levels]
    apart = max(abs(ratio - 1) for each in rounds for ratio in each)
    both = ("Nesterov, batches of 100", "Nesterov")
    factors = [[fewer(AE, slow, "K-FAC", "best_loss", at, "seconds") for slow in both] for at in levels]
    sooner = [min(float(np.median(each)) for each in of_level if each) for of_level in factors]
    return [
        f"to 80 nats on the autoencoder K-FAC is {by_clock:.2f} times faster by the clock and "
        f"{product:.2f} times",
        f"its {len(kfac)} trials end at {kfac[0]:.1f} to {kfac[-1]:.1f} nats, those of Nesterov momentum at "
        f"{sgd[0]:.1f} to {sgd[-2]:.1f}, and one at {sgd[-1]:.0f}",
        f"against the faster of the two SGD runs at each level, {span(sooner)}",
        f"as many updates as the third, within {100 * apart:.0f}%",
        f"Updates: {loss['updates']} times fewer",
        f"| MNIST autoencoder, seconds to the same training loss | - | {loss['seconds']} | {loss['updates']} "
        f"times fewer updates, each {loss['seconds per update']} times as long, than SGD with batches of "
        f"100; {span(sooner)} against the faster of two SGD runs |",
        f"| MNIST autoencoder, seconds to the same test error | - | {test['seconds']} |",
        f"takes {min(share[80]):.2f} to {max(share[80]):.2f} times fewer updates to 80 nats than one",
        f"{min(share[60]):.2f} to {max(share[60]):.2f} times fewer to 60, and "
        f"{100 / share[55][0] - 100:.0f}% more to 55",
        f"Seconds: {loss['seconds']} times fewer",
        f"takes {loss['seconds per update']} times as long as one of SGD",
        f"its batches are 5 to {largest / 100:.0f} times as large",
        f"costs SGD {smallest} ms in a batch of 32 and {of_sgd} ms in one of 100, and K-FAC {small} ms in "
        f"one of 500 and {large} ms in one of",
        f"{100 - 100 / min(tri):.0f} to {100 - 100 / max(tri):.0f}% fewer updates than the block-diagonal",
        f"{1 / max(dearer):.1f} to {1 / min(dearer):.1f} times the seconds",
        f"single seeds {100 / min(single) - 100:.0f}% more to {100 - 100 / max(single):.0f}% fewer",
        f"it was {100 - 100 / min(before):.0f} to {100 - 100 / max(before):.0f}% fewer (seed 1)",
        f"Training error: {train['seconds']} times fewer seconds, {train['updates']} times fewer updates.",
        f"K-FAC is {test['seconds']} times sooner",
    ]


def of_cifar() -> list[str]:
    columns, racers = ("best_loss", "best_train_error", "best_test_error"), ("SGD", "KFC-pre", "K-FAC")
    kfc, kfac = ([spans(CIFAR, racer, of) for of in columns] for racer in racers[1:])
    by_clock, product = clock()[CIFAR]
    sizes = {racer: races.best(CIFAR, racer, "cpu")["batch_size"] for racer in racers}
    ms = [milliseconds(CIFAR, racer, sizes[racer]) for racer in racers]
    apart = {
        what: [float(np.median(fewer(CIFAR, *pair, "best_loss", at, what))) for at in LEVELS[CIFAR]]
        for what, pair in (("updates", ("KFC-pre", "K-FAC")), ("seconds", ("K-FAC", "KFC-pre")))
    }
    clipped = sorted(
        (each["step"], each["scale"])
        for run in runs(CIFAR)["KFC-pre"]
        for each in run.records[1:]
        if each["scale"] < 1
    )
    assert [step for step, _ in clipped] == [40, 40]
    at_last = fewer(CIFAR, "SGD", "KFC-pre", "best_test_error", 0.283, "seconds")
    to_the_end = [
        float(np.median([reached(run, "best_loss", 0.4, "examples") for run in runs(name)["SGD"]]))
        for name in (CIFAR, PAPER)
    ]
    return [
        f"to 1.2 nats on CIFAR-10 KFC-pre is {by_clock:.2f} times faster by the clock and "
        f"{product:.2f} times",
        f"| CIFAR-10, seconds to the same training error | 7.5 or 6.3 | KFC-pre {kfc[1]['seconds']}, K-FAC "
        f"{kfac[1]['seconds']} | not reached: {kfc[1]['updates']} and {kfac[1]['updates']} times fewer "
        f"updates, each {kfc[1]['seconds per update']} and {kfac[1]['seconds per update']} times as long |",
        f"| CIFAR-10, seconds to the same test error | 4.8 or 3.4 | KFC-pre {kfc[2]['seconds']}, K-FAC "
        f"{kfac[2]['seconds']} |",
        f"only the 40th is clipped, in two of three seeds, to {clipped[0][1]:.2f} and "
        f"{clipped[1][1]:.2f} of its length",
        f"a standard error of {100 * math.sqrt(0.29 * 0.71 / 4000):.1f} points",
        *(
            f"{what}: KFC-pre takes {p['seconds']} times fewer seconds than SGD and {p['updates']} times "
            f"fewer updates, K-FAC {k['seconds']} and {k['updates']}."
            for what, p, k in zip(("Training loss", "Training error", "Test error"), kfc, kfac, strict=True)
        ),
        f"an update takes {kfc[0]['seconds per update']} times as long with KFC-pre and "
        f"{kfac[0]['seconds per update']} times with K-FAC",
        f"an example costs SGD {ms[0]} ms, KFC-pre {ms[1]} ms and K-FAC {ms[2]} ms",
        f"{to_the_end[0] / 1e3:.0f} thousand to 0.4 nats, where [128](#at-the-papers-batches) takes "
        f"{to_the_end[1] / 1e3:.0f}.",
        f"at the last level the three seeds have {span(at_last)} with KFC-pre",
        f"{span(apart['updates'])} times fewer updates to the same training loss, "
        f"{span(apart['seconds'])} times the seconds",
        *of_the_search(CIFAR, 3, 0.4),
    ]


def against_sgd(name: str) -> list[str]:
    """What is said of a race at batches that were not searched for."""
    columns = ("best_loss", "best_train_error", "best_test_error")
    (k0, k1, k2), (p0, p1, p2) = (
        [spans(name, racer, of) for of in columns] for racer in ("K-FAC", "KFC-pre")
    )
    each = [fewer(name, "KFC-pre", "K-FAC", "best_loss", at, "updates") for at in LEVELS[name]]
    between = span([float(np.median(ratios)) for ratios in each if ratios])
    return [
        f"to the same training loss K-FAC takes {k0['updates']} times fewer than SGD, and KFC-pre "
        f"{p0['updates']}; to the same training error {k1['updates']} and {p1['updates']}, to the same test "
        f"error {k2['updates']} and {p2['updates']}.",
        f"K-FAC against KFC-pre: {between} times fewer updates",
        f"to the same training loss KFC-pre takes {p0['seconds']} times fewer than SGD, K-FAC "
        f"{k0['seconds']}; to the same training error {p1['seconds']} and {k1['seconds']}, to the same test "
        f"error {p2['seconds']} and {k2['seconds']}. An update takes {p0['seconds per update']} and "
        f"{k0['seconds per update']} times as long.",
    ]


def of_paper_batches() -> list[str]:
    (kfc, kfac), (dearer, k_dearer) = (
        both(PAPER, "best_loss", what) for what in ("updates", "seconds per update")
    )
    second = scores(PAPER, "k-fac.search-1.jsonl")[1]
    return [
        *against_sgd(PAPER),
        *of_the_search(PAPER, 1, 0.35),
        f"whose second best is at {second:.2f}",
        "| CIFAR-10 at the paper's batches, updates to the same training loss | - | K-FAC "
        f"{kfac}, KFC-pre {kfc} | each {k_dearer} and {dearer} times as long |",
    ]


def of_large_batches() -> list[str]:
    kfc, kfac = both(LARGE, "best_loss", "updates")
    half = [fewer(LARGE, "K-FAC", "K-FAC, tau1 of 1/2", "best_loss", at, "updates") for at in LEVELS[LARGE]]
    apart = max(abs(ratio - 1) for ratios in half for ratio in ratios)
    seen = [at for at, ratios in zip(LEVELS[LARGE], half, strict=True) if ratios]
    shorter = [
        (at, fewer(LARGE, "SGD", "SGD, average over 10", "best_loss", at, "updates"))
        for at in LEVELS[LARGE]
        if at <= 1.2
    ]
    saved = [ratio for _, ratios in shorter for ratio in ratios]
    lowest = min(at for at, ratios in shorter if len(ratios) == 2)
    then = float(np.median(fewer(LARGE, "SGD, average over 10", "K-FAC", "best_loss", lowest, "updates")))
    of_kfac, of_kfc = (medians(LARGE, racer, "best_loss", "updates") for racer in ("K-FAC", "KFC-pre"))
    assert min(of_kfac[-2:]) >= 10 > max(of_kfac[:-2])
    assert of_kfc == sorted(of_kfc) and of_kfc[-1] < 10
    for at in LEVELS[LARGE]:  # KFC-pre is ahead in seconds from 0.9 on
        assert (np.median(fewer(LARGE, "K-FAC", "KFC-pre", "best_loss", at, "seconds")) > 1) == (at <= 0.9)
    rows = [row for of in races.RACES[LARGE].sides for run in runs(LARGE)[of] for row in run.records[1:]]
    assert np.mean([row["loss_average"] < row["loss"] for row in rows]) < 0.05
    return [
        *against_sgd(LARGE),
        f"would take SGD {100 - 100 / min(saved):.0f} to {100 - 100 / max(saved):.0f}% fewer updates to "
        f"levels from 1.2 to {lowest:g} (two seeds), and K-FAC's factor to {lowest:g} is {then:.1f} then",
        f"KFC-pre has {of_kfc[-1]:.1f} at the lowest level, more the lower the level: not quite reached",
        *of_the_search(LARGE, 3, LEVELS[LARGE][-1]),
        "With statistics of half of the batch in place of an eighth K-FAC takes as many, within "
        f"{100 * apart:.1f}%, down to {seen[-1]} nats",
        "| CIFAR-10 at batches of 4,096, updates to the same training loss | 10 to 20 | "
        f"K-FAC {kfac}, KFC-pre {kfc} | K-FAC has 10 at the two lowest levels; in seconds "
        f"{both(LARGE, 'best_loss', 'seconds')[1]} and {both(LARGE, 'best_loss', 'seconds')[0]} |",
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


def both(name: str, column: str, what: str) -> tuple[str, str]:
    """Of KFC-pre and of K-FAC."""
    kfc, kfac = (spans(name, racer, column)[what] for racer in ("KFC-pre", "K-FAC"))
    return kfc, kfac


def quotes() -> dict[str, list[str]]:
    """Sentences of other pages."""
    ae = spans(AE, "K-FAC", "best_loss")
    loss, train, test = (f"best_{column}" for column in ("loss", "train_error", "test_error"))
    updates, updates_train, updates_test = (both(CIFAR, of, "updates")[0] for of in (loss, train, test))
    seconds = both(CIFAR, loss, "seconds")[0]
    (s_train, k_train), (s_test, k_test) = (both(CIFAR, of, "seconds") for of in (train, test))
    dearer, k_dearer = both(CIFAR, train, "seconds per update")
    (paper, k_paper), (large, k_large) = (both(name, loss, "updates") for name in (PAPER, LARGE))
    s_paper, k_s_paper = both(PAPER, loss, "seconds")
    of_sgd = float(milliseconds(AE, "Nesterov", 100))
    of_500, of_5000 = (float(milliseconds(AE, "K-FAC", m)) / of_sgd for m in (500, 5000))
    tri, faster = (
        next(each for each in of_the_autoencoder() if part in each)
        for part in ("% fewer", "against the faster of the two SGD runs at each level, ")
    )
    faster = faster.split(", ")[1]
    for column in (loss, train, test):  # "KFC-pre's factors are larger for lower levels"
        factors = medians(CIFAR, "KFC-pre", column, "seconds")
        assert factors == sorted(factors)
    seen = next(each for each in of_the_search(LARGE, 3, 0.83) if "judges" in each).split()[3]
    return {
        "README.md": [
            f"K-FAC took {ae['updates']} times fewer updates and {ae['seconds']} times fewer seconds",
            f"({faster} than the faster of two such runs)",
            f"KFC-pre {updates} times fewer updates and {seconds} times fewer seconds",
        ],
        "docs/limits.md": [
            f"{s_train} times with KFC-pre and {k_train} with K-FAC on CIFAR-10, and {ae['seconds']} times "
            "in training loss on the MNIST autoencoder",
            f"({faster} against the faster of two SGD runs)",
            f"down to a training loss of {LEVELS[LARGE][-1]}, and with a search that saw {seen} of SGD's run",
            f"In test error on CIFAR-10 it was {s_test} and {k_test} times",
            f"At batches of 4,096 K-FAC took {k_large} times fewer updates than SGD and KFC-pre {large}",
            f"with the paper's batches K-FAC took {k_paper} times fewer and KFC-pre {paper}",
            f"takes {tri} one",
        ],
        "docs/claims.md": [
            f"KFC-pre takes {seconds} times fewer seconds and {updates} times fewer updates to the same "
            f"training loss, {s_train} and {updates_train} to the same training error, {s_test} and "
            f"{updates_test} to the same test error",
            f"whose α and μ come from the exact F, {k_train} times fewer seconds to the same training error "
            f"and {k_test} to the same test error",
            f"K-FAC takes {k_paper} times fewer updates than SGD to the same training loss, and KFC-pre "
            f"{paper}, in {k_s_paper} and {s_paper} times fewer seconds",
            f"autoencoder reaches the same training loss with {ae['seconds']} times fewer seconds than SGD "
            f"with batches of 100, {ae['updates']} times fewer updates",
            f"how much longer one takes, {dearer} times with KFC-pre and {k_dearer} with K-FAC",
            f"an update takes {ae['seconds per update']} times as long, with batches that grow",
            f"costs {of_500:.1f} times as much in a batch of 500 and {of_5000:.1f} times in one of",
            f"At batches of 4,096 on half of that net, K-FAC takes {k_large} times fewer updates than SGD "
            f"and KFC-pre {large}",
            *of_iterative_methods(),
        ],
    }


def test_what_quotes_the_races() -> None:
    for path, sentences in quotes().items():
        for sentence in sentences:
            assert sentence in words(path).replace("*", ""), (path, sentence)
