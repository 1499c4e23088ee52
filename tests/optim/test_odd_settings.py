"""Every setting against odd numbers: what the plain number does, or an error that names the setting."""

import math
import zlib
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import datasets, optim, races, training
from minikfac.optim import schedules
from minikfac.races import search
from minikfac.training.batches import ExponentialBatches
from oracles import random_net
from oracles.odd import NUMBERS

NET, THETA, X, Y = random_net(np.random.default_rng(0), (3, 4, 2), n=12)
DATA = datasets.Dataset(X, Y, X, Y, "points", n_classes=2)
NEEDED: dict[str, dict[str, Any]] = {
    **{name: {"lr": 0.01} for name in ("SGD", "DiagonalNaturalGradient", "LowRank", "EKFAC", "KFCPre")}
}
OPTIMIZERS = sorted(set(optim.__all__) - {"QuadraticModel", "schedules"})
WITH_MOMENTUM = {"nesterov": {"momentum": 0.9}}
SCHEDULES: dict[str, dict[str, Any]] = {
    "Constant": {"value": 0.1},
    "Exponential": {"start": 0.1, "rate": 0.9, "every": 2},
    "InverseTime": {"start": 0.1, "timescale": 3},
    "Cosine": {"start": 0.1, "steps": 4, "end": 0.01},
    "Steps": {"start": 0.1, "at": (1, 2), "factor": 0.5},
    "WarmUp": {"rate": 0.1, "steps": 3},
    "SutskeverMomentum": {"maximum": 0.9},
}
LOOP: dict[str, Any] = {
    **{"steps": 2, "batch_size": 6, "seed": 0, "measure_every": 1, "averaging": 20.0, "max_seconds": 60.0},
    **{"target": {"loss": -1.0}, "track": None, "on_record": None, "progress": False},
}
RACE: dict[str, Any] = {
    **{"steps": 2, "batch_size": 6, "seed": 0, "per_octave": 4, "seeds": 1, "seconds": 60.0},
    **{"averaging": None, "existing": "replace", "progress": False},
}


GOOD = {("steps", "None"), ("steps", "beyond int64"), ("seeds", "beyond int64")}
"""Which mean what they say, and take their time."""
GOOD |= {("track", "a function"), ("on_record", "a function")}


def cases(settings: dict[str, list[str]]) -> list[Any]:
    """Each setting of each owner with each odd number; every sixth of them in the default run."""
    return [
        pytest.param(owner, setting, odd, id=f"{owner}-{setting}-{odd}", marks=_slow(owner + setting + odd))
        for owner, names in settings.items()
        for setting in names
        for odd in NUMBERS
        if (setting, odd) not in GOOD
    ]


def _slow(case: str) -> list[Any]:
    return [] if zlib.crc32(case.encode()) % 6 == 0 else [pytest.mark.slow]


def names_of(kind: Any) -> list[str]:
    return [setting.name for setting in fields(kind) if setting.init and setting.name != "net"]


def plain(value: Any) -> Any:
    """The number that a user means."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def outcome(make: Any, run: Any, setting: str, value: Any) -> Any:
    """What comes out with a setting; None for an error, which has to name it."""
    try:
        with np.errstate(all="ignore"):
            return run(make(**{setting: value}))
    except (ValueError, TypeError, FloatingPointError, np.linalg.LinAlgError) as error:
        assert setting.replace("seconds", "_seconds") in str(error) or setting in str(error), error
        return None


def check(make: Any, run: Any, setting: str, odd: str) -> None:
    value = NUMBERS[odd]
    with np.errstate(all="ignore"):
        reached = outcome(make, run, setting, value)
        if reached is None:
            return
        usual = value if value is None or callable(value) or isinstance(value, bool | str) else plain(value)
        expected = run(make(**{setting: usual}))
    assert np.isfinite(reached).all()
    assert np.array_equal(reached, expected)


def optimizer_of(name: str, setting: str) -> Any:
    start = NEEDED.get(name, {}) | WITH_MOMENTUM.get(setting, {})
    return lambda **settings: getattr(optim, name)(NET, **{**start, **settings})


def values_of(schedule: Any, setting: str) -> np.ndarray:
    return np.array([schedules.value_at(schedule, k, setting) for k in (0, 1, 5, 10**6)])


def two_steps(opt: Any) -> np.ndarray:
    theta, state = THETA, opt.init(THETA)
    for k in range(2):
        theta, state, _ = opt.step(theta, state, (X, Y), np.random.default_rng(k))
    return theta


@pytest.mark.parametrize(
    ("name", "setting", "odd"), cases({name: names_of(getattr(optim, name)) for name in OPTIMIZERS})
)
def test_settings_of_optimizers(name: str, setting: str, odd: str) -> None:
    check(optimizer_of(name, setting), two_steps, setting, odd)


@pytest.mark.parametrize(
    ("name", "setting", "odd"), cases({name: list(SCHEDULES[name]) for name in SCHEDULES})
)
def test_settings_of_schedules(name: str, setting: str, odd: str) -> None:
    make = lambda **settings: getattr(schedules, name)(**{**SCHEDULES[name], **settings})  # noqa: E731
    check(make, lambda schedule: values_of(schedule, setting), setting, odd)


@pytest.mark.parametrize(("name", "setting", "odd"), cases({"train": list(LOOP)}))
def test_settings_of_the_loop(name: str, setting: str, odd: str, capsys: Any) -> None:
    def run(settings: dict[str, Any]) -> np.ndarray:
        opt = optim.SGD(NET, 0.1)
        return training.train(NET, THETA, opt, DATA, **{**LOOP, **settings}).theta

    check(dict, run, setting, odd)


@pytest.mark.parametrize(("name", "setting", "odd"), cases({"race": list(RACE)}))
def test_settings_of_races(name: str, setting: str, odd: str, capsys: Any) -> None:
    def run(settings: dict[str, Any]) -> np.ndarray:
        result = races.race(NET, THETA, {"SGD": optim.SGD(NET, 0.1)}, DATA, **{**RACE, **settings})
        return result.histories["SGD"][-1].theta

    check(dict, run, setting, odd)


PARTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ExponentialBatches": (ExponentialBatches, {"first": 2, "scale": 3.0, "most": 9}),
    "LogUniform": (search.LogUniform, {"low": 0.1, "high": 1e9}),
}


@pytest.mark.parametrize(("name", "setting", "odd"), cases({name: list(PARTS[name][1]) for name in PARTS}))
def test_settings_of_batches_and_ranges(name: str, setting: str, odd: str) -> None:
    kind, start = PARTS[name]

    def values(made: Any) -> np.ndarray:
        if name == "LogUniform":
            return np.array([made.draw(np.random.default_rng(0))])
        return np.array([made(step) for step in (0, 1, 50)])

    check(lambda **settings: kind(**{**start, **settings}), values, setting, odd)


def test_a_fraction_of_a_step_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"expected steps to be a whole .*, got 7.5; round it, for example"):
        training.train(NET, THETA, optim.SGD(NET, 0.1), DATA, steps=5 * 12 / 8, progress=False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_no_net_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"expected net to be a minikfac\.Network, got list"):
        getattr(optim, name)([mk.layers.Dense(1, 1)], **NEEDED.get(name, {}))


def test_numbers_of_all_kinds_are_there() -> None:
    assert len(NUMBERS) > 25
    assert sum(isinstance(value, float) and not math.isfinite(value) for value in NUMBERS.values()) == 3
