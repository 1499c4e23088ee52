"""Whatever a file holds, readers return what was written or raise one error with its name."""

import os
from collections import Counter

import pytest

from robustness import record
from robustness.damage import CASES, CONTROLS, GOOD, counts

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits the memory of a process, and waits for it")

PER_CASE = 2_000
"""Damaged files of each case in the long run."""


def test_damaged_files() -> None:
    outcomes, bad = counts(CASES, 30)
    assert not bad, "\n".join(bad[:20])
    for of_case in outcomes.values():
        assert of_case.total() == 30 and of_case["refused"]


def test_the_suite_notices_what_it_should() -> None:
    """A reader that crashes, hangs, takes what is damaged for whole, or raises another error."""
    outcomes, bad = counts(CONTROLS, 1, patience=4.0)
    assert outcomes == {name: Counter({name: 1}) for name in CONTROLS}
    assert len(bad) == len(CONTROLS)


@pytest.mark.slow
def test_many_damaged_files() -> None:
    """Leaves its counts in docs/results/robustness.json, after each case."""
    of_cases: dict[str, Counter[str]] = {}
    bad: list[str] = []
    for name in CASES:
        outcomes, more = counts([name], PER_CASE)
        of_cases |= outcomes
        bad += more
        of_all = sum(of_cases.values(), Counter[str]())
        summary = {"files": of_all.total(), "failures": len(bad)} | {kind: of_all[kind] for kind in GOOD}
        record.write("damaged_files", summary | {"cases": of_cases})
    assert not bad, "\n".join(bad[:20])
