"""The parts of a report: chapters, sections, figures and tables; and numbers in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Drawings = dict[str, Callable[[], Any]]
"""Functions that draw the figures, by file name without ending."""


@dataclass(frozen=True)
class Figure:
    """A picture, by its file name without ending, and its caption."""

    name: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of text."""

    header: Sequence[str]
    cells: Sequence[Sequence[str]]
    caption: str = ""


Part = str | Figure | Table
"""Part of a section; a string is a paragraph of HTML."""


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, figures and tables under it, in this order; level 2 begins a chapter."""

    key: str
    title: str
    parts: list[Part] = field(default_factory=list)
    level: int = 2


@dataclass(frozen=True)
class Finding:
    """One of the findings at the top of a page.

    Attributes:
        title: a sentence, as plain text.
        value: its number, as HTML.
        meaning: of the number, as HTML.
        figure: file name of the one that shows it.
        more: keys of sections with more about it.
        tutorial: its number and title.
    """

    title: str
    value: str
    meaning: str
    figure: str
    more: Sequence[str]
    tutorial: str


@dataclass(frozen=True)
class Head:
    """The frame of a page: its title (plain text), opening paragraphs, findings, and conclusion."""

    title: str
    paragraphs: Sequence[Part]
    findings: Sequence[Finding]
    conclusion: Sequence[Part] = ()


@dataclass(frozen=True)
class Chapter:
    """The content of a chapter, made by its ``compute(run)``.

    Attributes:
        sections: of the page.
        figures: functions that draw the pictures, in the order of the page.
        record: entries of results.json; dictionaries of several chapters under one key are merged.
        findings: shown at the top of the page.
        results: from which all of this was made.
    """

    sections: list[Section]
    figures: Drawings = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    results: Any = None


def percent(share: float) -> str:
    """Format a share as a percentage, with more decimals the smaller it is.

    >>> percent(0.4216), percent(0.0123), percent(0.00004), percent(0.0)
    ('42%', '1.2%', '0.004%', '0%')
    """
    if not math.isfinite(share):
        return "an undefined share"
    if abs(share) < 1e-9:  # rounding
        return "0%"
    if abs(share) >= 0.095:
        return f"{100 * share:.0f}%"
    return f"{100 * share:.{max(1, -math.floor(math.log10(abs(100 * share))))}f}%"


def count(number: float) -> str:
    """Format a whole number with thousands separators."""
    return f"{int(number):,}"


def number(value: float) -> str:
    """Format a number with three digits; small and large ones with powers of ten.

    >>> number(0.1234), number(1.5e-18), number(1e-5), number(1500.0)
    ('0.123', '1.5&nbsp;×&nbsp;10<sup>−18</sup>', '10<sup>−5</sup>', '1,500')
    """
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "not reached" if value == math.inf else "undefined"
    if 1e-3 <= abs(value) < 1e6:
        return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")
    mantissa, exponent = f"{value:.1e}".split("e")
    power = f"10<sup>{int(exponent)}</sup>"
    return (power if mantissa == "1.0" else f"{mantissa}&nbsp;×&nbsp;{power}").replace("-", "−")


def examples(n: int) -> str:
    """Write a number of examples.

    >>> examples(1), examples(1000)
    ('1 example', '1,000 examples')
    """
    return f"{count(n)} example{'s' if n != 1 else ''}"


def listing(names: Sequence[str]) -> str:
    """Join names in a sentence.

    >>> listing(["a"]), listing(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def two_digits(value: float) -> str:
    """Format a number with two digits.

    >>> two_digits(0.1234)
    '0.12'
    """
    return number(float(f"{value:.2g}"))
