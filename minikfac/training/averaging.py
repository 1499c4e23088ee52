"""Averages of the iterates that give recent ones the most weight [MG15, sec. 13; GM16, sec. 5].

    average <- xi average + (1 - xi) theta,    xi = min(1 - 1/k, exp(-m / averaging))

after step k on a batch of m examples: at first a uniform mean, later one in which an iterate's weight decays
by a factor of e for every ``averaging`` examples seen. This averages out mini-batch noise. Steps do not
depend on the average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from ..backend import Array
from ..optim import checks


@dataclass(frozen=True)
class PerStep:
    """The same weight xi of the past in every step, for growing batches.

    With a number of examples, the average would be over ever fewer steps.
    """

    weight: float

    def __post_init__(self) -> None:
        if not (checks.is_number(self.weight) and 0 < self.weight < 1):
            raise ValueError(f"expected a weight of the past in (0, 1), got {self.weight!r}")


Averaging = float | PerStep
"""Number of examples over which iterates are averaged, infinity for a uniform mean; or a weight per step."""


def check_averaging(averaging: Averaging | None) -> None:
    """Reject values below one example, which would just return the iterate."""
    is_enough = isinstance(averaging, PerStep) or (
        isinstance(averaging, Real) and not isinstance(averaging, bool) and averaging >= 1
    )
    if averaging is not None and not is_enough:
        raise ValueError(f"expected averaging over at least 1 example, or PerStep(weight), got {averaging!r}")


def averaged(average: Array, theta: Array, k: int, m: int, averaging: Averaging) -> Array:
    """Return the average (P,) after step k, from 1, on m examples.

    >>> [averaged(1.0, 2.0, k=1, m=100, averaging=500), averaged(1.0, 2.0, k=2, m=100, averaging=500)]
    [2.0, 1.5]
    """
    weight = averaging.weight if isinstance(averaging, PerStep) else math.exp(-m / averaging)
    xi = min(1 - 1 / k, weight)
    return xi * average + (1 - xi) * theta
