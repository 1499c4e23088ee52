"""Numbers that change with the step."""

import dataclasses
import json
import math
from typing import Any

import pytest

from minikfac.optim import schedules
from oracles import close

ALL: list[Any] = [
    schedules.Constant(0.3),
    schedules.Exponential(0.3, 0.9, every=100),
    schedules.InverseTime(0.3, 50),
    schedules.Cosine(0.3, 200, end=0.01),
    schedules.Steps(0.3, at=(10, 20)),
    schedules.WarmUp(0.3, 20),
    schedules.SutskeverMomentum(0.99),
]


@pytest.mark.parametrize("maximum", [0.999, 0.995, 0.99, 0.9, 0])
def test_momentum_grows_as_sutskever_et_al_wrote_it(maximum: float) -> None:
    schedule = schedules.SutskeverMomentum(maximum)
    for t in (0, 1, 249, 250, 499, 500, 12_345, 10**6):
        close(schedule(t), min(1 - 2 ** (-1 - math.log2(math.floor(t / 250) + 1)), maximum))


def test_values_at_steps() -> None:
    values = [[schedule(k) for k in (0, 10, 100, 400)] for schedule in ALL[:6]]
    half = 0.01 + 0.29 * (1 + math.cos(math.pi / 20)) / 2
    expected = [
        [0.3] * 4,
        [0.3, 0.3 * 0.9**0.1, 0.27, 0.3 * 0.9**4],
        [0.3, 0.25, 0.1, 0.3 / 9],
        [0.3, half, 0.155, 0.01],
        [0.3, 0.03, 0.003, 0.003],
        [0.3 / 20, 0.3 * 11 / 20, 0.3, 0.3],
    ]
    close(values, expected)
    assert schedules.Steps(1, at=(10,))(9) == 1  # the drop is at the step itself


def test_a_schedule_is_warmed_up() -> None:
    falling = schedules.InverseTime(0.3, 50)
    warmed = schedules.WarmUp(falling, 10)
    close([warmed(k) for k in (0, 4, 9, 30)], [0.03, falling(4) / 2, falling(9), falling(30)])
    with pytest.raises(ValueError, match=r"expected the rate of WarmUp >= 0 at each step, got -1"):
        schedules.WarmUp(lambda k: 1 - k, 5)(2)


@pytest.mark.parametrize("schedule", ALL)
def test_a_schedule_is_plain_data(schedule: Any) -> None:
    again = type(schedule)(**json.loads(json.dumps(dataclasses.asdict(schedule))))
    assert [again(k) for k in range(300)] == [schedule(k) for k in range(300)]
    assert hash(schedule) == hash(dataclasses.replace(schedule))


def test_a_number_is_its_own_schedule() -> None:
    assert schedules.value_at(0.3, 7) == 0.3
    assert schedules.value_at(schedules.InverseTime(0.3, 1), 2) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.WarmUp(0, 5), "expected rate > 0, got 0"),
        (lambda: schedules.WarmUp(schedules.Constant(0), 5), "expected rate > 0, got 0 at step 0"),
        (lambda: schedules.WarmUp(0.1, 0), "expected steps to be a whole number >= 1, got 0"),
        (lambda: schedules.Exponential(1, 0), r"expected rate in \(0, 1\], got 0"),
        (lambda: schedules.Exponential(1, 0.5, 0), "expected every > 0, got 0"),
        (lambda: schedules.InverseTime(1, 0), "expected timescale > 0, got 0"),
        (lambda: schedules.Cosine(1, 0), "expected steps to be a whole number >= 1, got 0"),
        (lambda: schedules.Steps(1, (3,), 0), "expected factor > 0, got 0"),
        (lambda: schedules.SutskeverMomentum(1), r"expected maximum in \[0, 1\), got 1"),
    ],
)
def test_wrong_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
