"""Numbers as axes and labels show them, and ticks of log axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter


def short(value: float) -> str:
    """A number for a label, three digits at most.

    >>> short(0.12345), short(1234.5), short(0.000123), short(7.0)
    ('0.123', '1,230', '1.2e-04', '7')
    """
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e4:
        digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
        text = f"{round(value, 2 - int(np.floor(np.log10(abs(value))))):,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.1e}"


def log_ticks(
    axis: Any, subs: Sequence[float] = (1, 2, 5), form: Callable[[float], str] = "{:g}".format
) -> None:
    """Ticks at these multiples of the powers of ten on a log axis, and nothing written between them."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(lambda value, _: form(value))
    axis.set_minor_formatter(NullFormatter())


def plain_log_ticks(axis: Any) -> None:
    """Ticks 1, 2, 5, 10, ... with plain numbers on a log axis that spans few decades."""
    low, high = axis.get_view_interval()
    if high / low < 10**3:
        log_ticks(axis, form=short)


def whole_log_ticks(axis: Any) -> None:
    """Ticks with whole numbers on a log axis, closer ones where it spans less than a decade."""
    low, high = axis.get_view_interval()
    close = (1, 1.5, 2, 3, 4, 5, 7) if high < 10 * low else (1, 2, 5)
    log_ticks(axis, close, lambda value: f"{value:,.0f}" if value >= 10 else short(value))
