"""Schedules for numbers that change with the step, such as learning rates and momenta.

=======================  =============================================================
``Constant``             value
``Exponential``          start rate^(k / every)
``InverseTime``          start / (1 + k / timescale)
``Cosine``               from start to end along half a cosine in ``steps``, then end
``Steps``                start factor^(number of steps in ``at`` that have passed)
``WarmUp``               min(1, (k + 1) / steps) times a rate or another schedule
``SutskeverMomentum``    min(1 - 1 / (2 (floor(k / 250) + 1)), maximum)
=======================  =============================================================

k is the number of completed steps. Schedules are callable and plain data, so records can store them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import checks
from .checks import Schedule as Schedule
from .checks import value_at as value_at


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.not_negative(value=self.value)

    def __call__(self, k: int) -> float:
        return self.value


@dataclass(frozen=True)
class Exponential:
    """Multiplied by ``rate`` every ``every`` steps, with smooth decay in between."""

    start: float
    rate: float
    every: float = 1

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.share(rate=self.rate)
        checks.positive(start=self.start, every=self.every)

    def __call__(self, k: int) -> float:
        return self.start * self.rate ** (k / self.every)


@dataclass(frozen=True)
class InverseTime:
    """Halved after ``timescale`` steps, with ever slower decay after that."""

    start: float
    timescale: float

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.positive(start=self.start, timescale=self.timescale)

    def __call__(self, k: int) -> float:
        return self.start / (1 + k / self.timescale)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from start to end."""

    start: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.count(steps=self.steps)
        checks.not_negative(start=self.start, end=self.end)

    def __call__(self, k: int) -> float:
        share = min(k / self.steps, 1.0)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Steps:
    """Multiplied by ``factor`` at each of the steps ``at``."""

    start: float
    at: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.positive(start=self.start, factor=self.factor)
        if not isinstance(self.at, tuple | list):
            raise ValueError(f"expected at to be a tuple of steps, got {self.at!r}")
        for step in self.at:
            checks.count(0, at=step)

    def __call__(self, k: int) -> float:
        return math.prod([self.start, *(self.factor for step in self.at if step <= k)])


@dataclass(frozen=True)
class WarmUp:
    """A rate, or a schedule of it, that grows linearly to its value in the first ``steps`` steps [GDGN17].

    >>> [WarmUp(0.8, 4)(k) for k in (0, 1, 3, 100)]
    [0.2, 0.4, 0.8, 0.8]
    """

    rate: float | Schedule
    steps: int

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.count(steps=self.steps)
        checks.positive(rate=self.rate)

    def __call__(self, k: int) -> float:
        return min(1.0, (k + 1) / self.steps) * value_at(self.rate, k, "the rate of WarmUp")


@dataclass(frozen=True)
class SutskeverMomentum:
    """Momentum that grows from 1/2 to ``maximum`` [SMDH13, sec. 3].

    The paper writes it as min(1 - 2^(-1 - log2(floor(k / 250) + 1)), maximum).

    >>> [SutskeverMomentum(0.99)(k) for k in (0, 250, 1000, 100_000)]
    [0.5, 0.75, 0.9, 0.99]
    """

    maximum: float

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.below_one(maximum=self.maximum)

    def __call__(self, k: int) -> float:
        return min(1 - 1 / (2 * (k // 250 + 1)), self.maximum)
