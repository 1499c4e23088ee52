"""Numbers that change with the step: learning rates and momenta.

=======================  =============================================================
``Constant``             value
``Exponential``          start rate^(k / every)
``InverseTime``          start / (1 + k / timescale)
``Cosine``               from start to end along half a cosine in ``steps``, then end
``Steps``                start factor^(how many of the steps ``at`` have passed)
``SutskeverMomentum``    min(1 - 1 / (2 (floor(k / 250) + 1)), maximum)
=======================  =============================================================

k counts the steps done before, from 0. A schedule is callable and plain data, so a record can hold it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Schedule: TypeAlias = Callable[[int], float]


def value_at(value: float | Schedule, k: int) -> float:
    """Return a number as it is, and a schedule's value at step k, a float that leaves arrays their dtype."""
    return float(value(k)) if callable(value) else value


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float

    def __call__(self, k: int) -> float:
        return self.value


@dataclass(frozen=True)
class Exponential:
    """Falls by the factor ``rate`` every so many steps, smoothly."""

    start: float
    rate: float
    every: float = 1

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1 and self.every > 0):
            raise ValueError(f"expected rate in (0, 1] and every > 0, got {self.rate} and {self.every}")

    def __call__(self, k: int) -> float:
        return self.start * self.rate ** (k / self.every)


@dataclass(frozen=True)
class InverseTime:
    """Halved after ``timescale`` steps, and then ever more slowly."""

    start: float
    timescale: float

    def __post_init__(self) -> None:
        if not self.timescale > 0:
            raise ValueError(f"expected timescale > 0, got {self.timescale}")

    def __call__(self, k: int) -> float:
        return self.start / (1 + k / self.timescale)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from start to end."""

    start: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"expected steps >= 1, got {self.steps}")

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
        if not self.factor > 0:
            raise ValueError(f"expected factor > 0, got {self.factor}")

    def __call__(self, k: int) -> float:
        return self.start * self.factor ** sum(step <= k for step in self.at)


@dataclass(frozen=True)
class SutskeverMomentum:
    """Momentum that grows from 1/2 to ``maximum`` [SMDH13, sec. 3].

    The paper writes it as min(1 - 2^(-1 - log2(floor(k / 250) + 1)), maximum).

    >>> [SutskeverMomentum(0.99)(k) for k in (0, 250, 1000, 100_000)]
    [0.5, 0.75, 0.9, 0.99]
    """

    maximum: float

    def __post_init__(self) -> None:
        if not 0 <= self.maximum < 1:
            raise ValueError(f"expected maximum in [0, 1), got {self.maximum}")

    def __call__(self, k: int) -> float:
        return min(1 - 1 / (2 * (k // 250 + 1)), self.maximum)
