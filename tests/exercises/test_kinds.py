"""Kinds of mistakes that many exercises share: each exercise names them, wherever they are possible."""

from __future__ import annotations

import numpy as np
import pytest

from minikfac import exercises
from oracles.wrong_answers import TABLES

ROWS = [(kind, what) for kind, table in TABLES.items() for what in table]


@pytest.mark.parametrize(("kind", "what"), ROWS)
def test_a_mistake_that_many_make_gets_its_sentence(kind: str, what: str) -> None:
    name, answer, phrase = TABLES[kind][what]
    with np.errstate(all="ignore"):
        verdict = exercises.check(name, answer)
    assert not verdict
    assert verdict.error is None
    assert phrase in str(verdict)
    assert len(str(verdict)) < 320


def test_every_exercise_is_in_the_tables() -> None:
    assert {name for table in TABLES.values() for name, _, _ in table.values()} == set(exercises.available())
