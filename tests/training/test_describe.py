"""A run is described by what its functions return and its objects hold, not by their names."""

import functools
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import layers, optim, outputs, training
from minikfac.datasets import Dataset
from minikfac.training.describe import describe, differences
from minikfac.training.keep import Keep


def different(here: Any, there: Any) -> list[str]:
    return list(differences(describe(here), describe(there)))


def constant(value: float) -> Any:
    return lambda k: value


def by_default(k: int, value: float = 0.1) -> float:
    return value


def scaled(k: int, factor: float, start: float) -> float:
    return start * factor**k


class Falling:
    """A schedule of a class of one's own, by its attributes."""

    def __init__(self, start: float) -> None:
        self.start = start
        self._cache: dict[int, float] = {}

    def __call__(self, k: int) -> float:
        return self._cache.setdefault(k, self.start / (k + 1))

    def half(self, k: int) -> float:
        return self.start / 2


class Slotted:
    __slots__ = ("start",)

    def __init__(self, start: float) -> None:
        self.start = start


@dataclass(frozen=True)
class OfAnotherClass:
    start: float

    def __call__(self, k: int) -> float:
        return self.start


CHANGED = {
    "lambda": (lambda k: 0.1, lambda k: 5.0, "values.0: 0.1 here, 5.0 there"),
    "from some step on": (
        lambda k: 0.1 if k < 500 else 1,
        lambda k: 0.1 if k < 501 else 1,
        "values (sha256)",
    ),
    "late": (lambda k: 0.1 if k < 9_000 else 1, lambda k: 0.1, "values (sha256)"),
    "later": (lambda k: 0.1 if k < 10**6 else 1, lambda k: 0.1, "values (sha256)"),
    "closure": (constant(0.1), constant(0.2), "closure.value: 0.1 here, 0.2 there"),
    "default": (by_default, lambda k, value=0.2: value, "defaults[0]: 0.1 here, 0.2 there"),
    "partial": (
        functools.partial(scaled, factor=0.9, start=0.1),
        functools.partial(scaled, factor=0.8, start=0.1),
        "keywords.factor: 0.9 here, 0.8 there",
    ),
    "object": (Falling(0.1), Falling(0.2), "start: 0.1 here, 0.2 there"),
    "method": (Falling(0.1).half, Falling(0.2).half, "of.start: 0.1 here, 0.2 there"),
    "method of a list": ([0.1, 0.2].__getitem__, [0.1, 0.3].__getitem__, "of[1]: 0.2 here, 0.3 there"),
    "dataclass": (OfAnotherClass(0.1), OfAnotherClass(0.2), "start: 0.1 here, 0.2 there"),
    "slots": (Slotted(0.1), Slotted(0.2), "start: 0.1 here, 0.2 there"),
    "inside": ({"a": [Falling(0.1)]}, {"a": [Falling(0.2)]}, "a[0].start: 0.1 here, 0.2 there"),
    "set": ({1, 2}, {1, 3}, "[1]: 2 here, 3 there"),
    "words": (lambda k: "x", lambda k: None, "values.0: str here, NoneType there"),
    "shorter": ([1, 2].__getitem__, [1, 2, 3].__getitem__, "values (sha256)"),
    "schedule": (optim.schedules.Constant(0.1), optim.schedules.Constant(0.2), "value: 0.1 here, 0.2 there"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_differs_is_named(name: str) -> None:
    here, there, named = CHANGED[name]
    assert any(named in line for line in different(here, there))
    assert different(here, here) == different(there, there) == []


def test_the_same_function_made_again_is_the_same() -> None:
    assert different(constant(0.1), constant(0.1)) == []
    assert different(Falling(0.1), Falling(0.1)) == []
    assert different(functools.partial(scaled, 2), functools.partial(scaled, 2)) == []
    assert describe(Falling(0.1))["values"]["10"] == 0.1 / 11
    assert describe(len) == "builtins.len"


def test_a_description_leaves_the_function_as_it_was() -> None:
    schedule = Falling(0.1)
    describe(schedule)
    assert schedule._cache == {}


def test_what_holds_itself_ends() -> None:
    schedule: Any = Falling(0.1)
    schedule.me = schedule
    assert describe(schedule)["me"] == "itself"


class Counts:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, k: int) -> float:
        self.calls += 1
        return 0.1 / self.calls


RNG = np.random.default_rng(0)


def at_random(k: int) -> float:
    return RNG.random()


@pytest.mark.parametrize(
    "make", [Counts, lambda: at_random, lambda: functools.partial(next, itertools.count()), lambda: endless()]
)
def test_a_function_that_is_not_of_the_step_alone_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="expected a function of the step only, so that a run can"):
        describe(make())


def endless() -> Any:
    left = iter([0.1] * 50)
    return lambda k: next(left)


# nets -----------------------------------------------------------------------------------------------------


class Scaled(layers.Tanh):
    """An activation of one's own that does not show its factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __repr__(self) -> str:
        return "Scaled()"


class Weighted(outputs.Gaussian):
    def __init__(self, weight: float) -> None:
        self.weight = weight


def net_of(layer: Any, output: Any = None) -> mk.Network:
    return mk.Network([layers.Dense(2, 2), layer, layers.Dense(2, 2)], output or outputs.Gaussian())


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (net_of(Scaled(2.0)), net_of(Scaled(3.0))),
        tuple(net_of(layers.Residual([layers.Dense(2, 2), Scaled(factor)])) for factor in (2.0, 3.0)),
        (net_of(layers.Tanh(), Weighted(2.0)), net_of(layers.Tanh(), Weighted(3.0))),
    ],
)
def test_layers_and_outputs_of_one_s_own_are_told_apart(here: mk.Network, there: mk.Network) -> None:
    (line,) = different(here, there)
    assert "2.0 here, 3.0 there" in line
    assert different(here, here) == []
    assert " at 0x" not in str(describe(here))


# runs -----------------------------------------------------------------------------------------------------


def problem() -> tuple[mk.Network, np.ndarray, Dataset]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 2)), rng.standard_normal((20, 2))
    net = mk.mlp([2, 2], output="gaussian")
    return net, net.init(rng), Dataset(x, y, x, y, "points")


@pytest.mark.parametrize(
    ("settings", "changes", "named"),
    [
        ({"lr": lambda k: 0.1}, {"lr": lambda k: 5.0}, r"optimizer\.lr\.values\.0: 5\.0 here, 0\.1 there"),
        (
            {"batch_size": lambda k: 4},
            {"batch_size": lambda k: 5},
            r"batch_size\.values\.0: 5.* here, 4",
        ),
        ({"momentum": Falling(0.5)}, {"momentum": Falling(0.6)}, r"optimizer\.momentum\.start: 0\.6 here"),
    ],
)
def test_a_run_with_another_function_is_not_resumed(
    tmp_path: Path, settings: dict[str, Any], changes: dict[str, Any], named: str
) -> None:
    def run(steps: int, lr: Any = 0.1, momentum: Any = 0.0, batch_size: Any = 4) -> training.History:
        net, theta, data = problem()
        keep = Keep(tmp_path, existing="resume")
        opt = optim.SGD(net, lr, momentum)
        return training.train(net, theta, opt, data, steps, batch_size, progress=False, keep=keep)

    run(2, **settings)
    with pytest.raises(ValueError, match=f"got one of another run: .*{named}"):
        run(4, **changes)
    assert run(4, **settings).records[-1]["step"] == 4


def test_a_run_that_cannot_be_resumed_says_so(tmp_path: Path) -> None:
    net, theta, data = problem()
    opt = optim.SGD(net, Counts())
    with pytest.raises(ValueError, match=r"of the step only, .* got Counts, which at step 0 returns"):
        training.train(net, theta, opt, data, 2, 4, progress=False, keep=Keep(tmp_path))
    assert math.isfinite(training.train(net, theta, opt, data, 2, 4, progress=False)["loss"][-1])
