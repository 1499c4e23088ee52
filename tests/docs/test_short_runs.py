"""docs/when-it-breaks.md and the race of docs/howto/train-and-race.md: the numbers of their record."""

import json
import re
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
import pytest

from oracles.pages import ROOT, script

RECORD = json.loads((ROOT / "docs" / "results" / "short-runs.json").read_text(encoding="utf-8"))
RUNS, RACE = RECORD["runs"], RECORD["race"]


def page(name: str) -> str:
    return re.sub(r"\s+", " ", (ROOT / "docs" / name).read_text(encoding="utf-8"))


def short(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def whole(value: float) -> str:
    return f"{value:.0f}"


def fine(value: float) -> str:
    return f"{value:.2g}" if value < 1 else short(value)


def millions(value: float) -> str:
    return f"{value / 1e6:.1f}"


def spread(values: Sequence[float], form: Callable[[float], str] = short, unit: str = "") -> str:
    return f"{form(median(values))}{unit} ({form(min(values))} to {form(max(values))})"


def losses(setting: str) -> list[float]:
    return RUNS[setting]["loss"]


def loss(setting: str) -> str:
    return spread(losses(setting), fine)


def higher(setting: str, other: str) -> list[float]:
    """By how much the loss of one is above that of the other, from each start."""
    return [a - b for a, b in zip(losses(setting), losses(other), strict=True)]


SMALL, LARGE = RUNS["100, lam_min = 0"], RUNS["250, lam_min = 0"]
STEPS = [step for step in LARGE["above the start"] if step]
*ENDS, LAST = LARGE["loss"]
SENTENCES = [
    f"after 400 steps is {loss('12')}, where batches of 250 reach {loss('250')}",
    f"With τ2 = 1 it is {loss('12, tau2 = 1')}, with τ1 = 1 as well {loss('12, tau1 = tau2 = 1')}, ",
    f"with τ1 = 1 alone {loss('12, tau1 = 1')}: the curvature",
    f"after 600 steps the loss is {loss('digits')}, and {loss('digits, tau2 = 1')} with τ2 = 1.",
    f"exceeds that of the start after {spread(SMALL['above the start'], whole, ' steps')}; ",
    f"after 1,500 steps it is {spread(SMALL['loss'], millions, ' million')} and λ below 10⁻⁶",
    f"With the bound it is {loss('100, lam_min')}. Batches of 250",
    f"first after {min(STEPS):,} to {max(STEPS):,}, and ends at ",
    f"and ends at {millions(min(ENDS))} to {millions(max(ENDS))} million; from the fifth ",
    f"from the fifth it is still {short(LAST)}, with λ below 10⁻⁴⁷",
    f"With the bound it is {short(median(losses('250, lam_min')))} from all five",
    f"the loss is {loss('lr = 1')} after 200 steps, and {loss('200 steps')} with the defaults",
    f"(`gamma_share=1`), gives {loss('no momentum')}",
    f"give {loss('T3 = 1')}, {loss('200 steps')} and {loss('T2 = T3 = 100')} after 200 steps",
    f"cost at most {short(max(higher('200 steps', 'T3 = 1')))} nats here",
    f"they cost {spread(higher('T2 = T3 = 100', '200 steps'))}. Exact",
    f"with τ1 = 1: {loss('tau1 = 1, expected')}, so",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_when_it_breaks_states_the_record(sentence: str) -> None:
    assert sentence in page("when-it-breaks.md")


def test_what_when_it_breaks_says_of_each_start() -> None:
    assert len(RECORD["seeds"]) == 5 and LARGE["above the start"] == [*STEPS, None]
    assert max(SMALL["lam"]) < 1e-6 and LARGE["lam"][-1] < 1e-47
    assert {short(value) for value in losses("250, lam_min")} == {"16.6"}
    for worse, better in [
        ("12", "12, tau2 = 1"),
        ("12, tau1 = 1", "12, tau1 = tau2 = 1"),
        ("digits", "digits, tau2 = 1"),
        ("lr = 1", "no momentum"),
        ("no momentum", "200 steps"),
        ("T2 = T3 = 100", "200 steps"),
    ]:
        assert min(higher(worse, better)) > 0, (worse, better)
    assert median(losses("tau1 = 1, expected")) >= median(losses("200 steps"))


# the race --------------------------------------------------------------------------------------------------


def row(name: str) -> str:
    first, second = ([at for at in RACE[name][level] if at is not None] for level in ("28.2", "25.6"))
    few = f"{len(second)} of 5 ({short(min(second))} to {short(max(second))})"
    cells = [spread(first), spread(second) if len(second) == 5 else few, spread(RACE[name]["loss"])]
    return f"| {name} | {' | '.join(cells)} |"


def test_the_table_of_the_race_is_the_record() -> None:
    assert " ".join(map(row, RACE)) in page("howto/train-and-race.md")
    assert all(None not in numbers["28.2"] for numbers in RACE.values())


def test_what_the_pages_say_of_the_race() -> None:
    text, limits = page("howto/train-and-race.md"), page("limits.md")
    sgd, adam, kfac = (
        {key: np.array(x) for key, x in RACE[name].items()} for name in ("SGD", "Adam", "K-FAC")
    )
    longer = kfac["ms"] / sgd["ms"]
    assert f"takes {spread(longer, unit=' times')} as long as one of SGD" in text
    assert "takes about three times as long as one of SGD" in limits and round(np.median(longer)) == 3
    assert (adam["25.6"] * adam["ms"] < kfac["25.6"] * kfac["ms"]).all()
    assert (kfac["loss"] < adam["loss"]).tolist() == [True, True, True, True, False]
    assert f"lower with K-FAC from four of the five, and {short(kfac['loss'][-1])} from the fifth" in text


def test_the_start_of_the_race_is_what_is_measured() -> None:
    for name, numbers in script("docs/measure_short_runs.py").race(steps=10, seeds=1).items():
        if name != "SGD":  # which takes 41 steps
            assert numbers["28.2"][0] == pytest.approx(RACE[name]["28.2"][0], rel=1e-3), name
