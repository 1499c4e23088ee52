"""What the settings of optimizers may be; each check takes them by name, and names them in its error."""

from __future__ import annotations

import math
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

from ..network import Network
from .schedules import Schedule, value_at


def plain_numbers(opt: Any) -> None:
    """Turn NumPy's numbers among the settings into Python's: its float64 makes float32 arrays float64."""
    for setting in fields(opt):
        value = getattr(opt, setting.name)
        if isinstance(value, Real) and hasattr(value, "item"):
            object.__setattr__(opt, setting.name, value.item())


def acting(opt: Any, where: str, *names: str) -> None:
    """Refuse settings that would not act, unless they are as by default.

    Args:
        opt: the optimizer.
        where: they would act, in words.
        names: of the settings.
    """
    defaults = {setting.name: setting.default for setting in fields(opt)}
    for name in names:
        value = getattr(opt, name)
        if value != defaults[name]:
            raise ValueError(f"expected {name} only {where}, where it acts, got {name}={value!r}")


def one_rank(net: Network, method: str) -> None:
    """Refuse a net on several ranks."""
    if net.comm.size > 1:
        raise ValueError(
            f"expected a net on one rank, as {method} does not divide its work, got {net.comm.size} ranks"
        )


def _real(value: Any) -> bool:
    """Whether it is a finite number, and neither a word nor True."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def positive(**values: float | Schedule) -> None:
    """Refuse what is not above 0; of schedules, at their start."""
    for name, value in values.items():
        if not (_real(start := value_at(value, 0)) and start > 0):
            raise ValueError(f"expected {name} > 0, got {value}")


def not_negative(**values: float) -> None:
    """Refuse what is below 0."""
    for name, value in values.items():
        if not (_real(value) and value >= 0):
            raise ValueError(f"expected {name} >= 0, got {value}")


def below_one(**values: float | Schedule) -> None:
    """Refuse what is not in [0, 1), as weights of the old in averages must be."""
    for name, value in values.items():
        if not (_real(start := value_at(value, 0)) and 0 <= start < 1):
            raise ValueError(f"expected {name} in [0, 1), got {value}")


def share(**values: float) -> None:
    """Refuse what is no share of a batch, (0, 1]."""
    for name, value in values.items():
        if not (_real(value) and 0 < value <= 1):
            raise ValueError(f"expected {name} in (0, 1], got {value}")


def count(**values: int) -> None:
    """Refuse what is not a whole number of at least 1."""
    for name, value in values.items():
        if not (_real(value) and isinstance(value, Integral) and value >= 1):
            raise ValueError(f"expected {name} to be a whole number >= 1, got {value}")


def age(max_age: int, **between: int) -> None:
    """Refuse an age of inverses at which the next ones are begun before the last are in use."""
    ((name, steps),) = between.items()
    if not (_real(max_age) and isinstance(max_age, Integral) and 0 <= max_age < steps):
        raise ValueError(f"expected max_age from 0 to {name} - 1 = {steps - 1}, got {max_age}")


def choice(choices: tuple[str, ...], **values: str) -> None:
    """Refuse what is not among the choices."""
    for name, value in values.items():
        if value not in choices:
            raise ValueError(f"expected {name} {' or '.join(map(repr, choices))}, got {value!r}")
