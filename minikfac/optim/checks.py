"""Checks of the settings of optimizers, schedules, training loops and races; errors name the setting."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeAlias

from ..backend import Array, array_module, on_host
from ..network import Network

Schedule: TypeAlias = Callable[[int], float]
"""A number that depends on the step count, from 0."""


def plain_numbers(opt: Any) -> None:
    """Convert NumPy numbers and fractions to Python numbers, as NumPy's float64 would promote float32 arrays.

    Raises:
        TypeError: if net is not a network.
    """
    net = getattr(opt, "net", None)
    if net is not None and not isinstance(net, Network):
        raise TypeError(f"expected net to be a minikfac.Network, got {type(net).__name__}")
    for setting in fields(opt):
        value = getattr(opt, setting.name)
        if is_number(value):
            plain = int(value) if isinstance(value, Integral) else float(value)
            object.__setattr__(opt, setting.name, plain)


def acting(opt: Any, where: str, *names: str) -> None:
    """Reject settings that would have no effect, unless they have their default values.

    Args:
        opt: the optimizer.
        where: condition under which they have an effect, in words.
        names: names of the settings.
    """
    defaults = {setting.name: setting.default for setting in fields(opt)}
    for name in names:
        value = getattr(opt, name)
        if value != defaults[name]:
            raise ValueError(f"expected {name} only {where}, got {name}={value!r}")


def parameters(net: Network, theta: Any) -> None:
    """Reject parameters that do not fit the net or, unless on a device, are not finite."""
    net.unpack(theta)
    if on_host(theta) and not (good := array_module(theta).isfinite(theta)).all():
        bad = f"{int((~good).sum()):,} of {net.n_params:,}"
        raise ValueError(f"expected finite theta, got NaN or infinite values in {bad} parameters")


def state(opt: Any, state: Any, theta: Array) -> None:
    """Reject anything but a state, and states for nets of another size."""
    opt.net.unpack(theta)
    if not (isinstance(state, dict) and "step" in state):
        raise another_state(opt, state)
    for name, value in state.items():
        shape = getattr(value, "shape", theta.shape)
        if shape[:1] != theta.shape:
            raise ValueError(
                f"expected state[{name!r}] like theta {theta.shape}, got {shape}; is it from another net?"
            )


def another_state(opt: Any, state: Any) -> ValueError:
    """Return the error for a state from another optimizer."""
    got = f"one of {', '.join(map(str, state))}" if isinstance(state, dict) and state else repr(state)
    return ValueError(f"expected a state of {type(opt).__name__}, from its init or last step, got {got}")


def one_rank(net: Network, method: str) -> None:
    """Reject a net on several ranks."""
    if net.comm.size > 1:
        raise ValueError(
            f"expected a net on one rank, as {method} does not divide its work, got {net.comm.size} ranks"
        )


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number that fits in a float, and not an array, string or bool."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def value_at(value: float | Schedule, k: int, name: str = "a schedule") -> float:
    """Return a number unchanged, or a schedule's value at step k as a float, which preserves arrays' dtypes.

    Args:
        value: value of a setting.
        k: steps done before.
        name: name of the setting; a momentum must be below 1.

    Raises:
        ValueError: if a schedule's value is not a number, is negative, or for a momentum is 1 or more.
    """
    if not callable(value):
        return value
    at = value(k)
    below = 1 if name == "momentum" else math.inf
    if not (is_number(at) and 0 <= at < below):
        allowed = "in [0, 1)" if below == 1 else ">= 0"
        raise ValueError(f"expected {name} {allowed} at each step, got {at!r} at step {k}")
    return float(at)


SCHEDULED = ("lr", "rate", "momentum")
"""Settings that may be schedules."""


def _start(name: str, value: Any) -> tuple[Any, str]:
    """A setting's value at step 0, and its text in errors."""
    if name not in SCHEDULED or not callable(value):
        return value, repr(value)
    return (at := value(0)), f"{at!r} at step 0 of {value!r}"


def positive(**values: float | Schedule) -> None:
    """Reject values that are not above 0; schedules are checked at step 0."""
    for name, value in values.items():
        start, text = _start(name, value)
        if not (is_number(start) and start > 0):
            raise ValueError(f"expected {name} > 0, got {text}")


def not_negative(**values: float) -> None:
    """Reject negative values."""
    for name, value in values.items():
        if not (is_number(value) and value >= 0):
            raise ValueError(f"expected {name} >= 0, got {value!r}")


def below_one(**values: float | Schedule) -> None:
    """Reject values outside [0, 1), the range of decay rates; schedules are checked at step 0."""
    for name, value in values.items():
        start, text = _start(name, value)
        if not (is_number(start) and 0 <= start < 1):
            raise ValueError(f"expected {name} in [0, 1), got {text}")


def share(or_none: bool = False, /, **values: float) -> None:
    """Reject values outside (0, 1] or, if 0 is allowed, [0, 1]."""
    for name, value in values.items():
        if not (is_number(value) and 0 <= value <= 1 and (value or or_none)):
            raise ValueError(f"expected {name} in {'[' if or_none else '('}0, 1], got {value!r}")


def count(least: int = 1, /, **values: int) -> None:
    """Reject values that are not whole numbers or are below the least one."""
    for name, value in values.items():
        if not (is_number(value) and isinstance(value, Integral) and value >= least):
            raise ValueError(f"expected {name} to be a whole number >= {least}, got {value!r}")


def flag(*also: Any, **values: bool | None) -> None:
    """Reject values other than True, False and those in `also`."""
    for name, value in values.items():
        if not isinstance(value, bool) and not any(value is other for other in also):
            raise ValueError(
                f"expected {name} to be {' or '.join(map(repr, (True, False, *also)))}, got {value!r}"
            )


def age(max_age: int, **between: int) -> None:
    """Reject an age of inverses at which new ones would be started before the last are in use."""
    ((name, steps),) = between.items()
    if not (is_number(max_age) and isinstance(max_age, Integral) and 0 <= max_age < steps):
        raise ValueError(f"expected max_age from 0 to {name} - 1 = {steps - 1}, got {max_age!r}")


def choice(choices: tuple[str, ...], **values: str) -> None:
    """Reject values that are not among the choices."""
    for name, value in values.items():
        if not (isinstance(value, str) and value in choices):
            raise ValueError(f"expected {name} {' or '.join(map(repr, choices))}, got {value!r}")
