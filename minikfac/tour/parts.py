"""What a report is made of: chapters, their sections, figures and tables; and numbers as words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Drawings = dict[str, Callable[[], Any]]
"""Figures by file name, without ending; each is drawn when called."""


@dataclass(frozen=True)
class Figure:
    """A picture by its file name, without ending, and what it shows."""

    name: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Header and cells, as text."""

    header: Sequence[str]
    cells: Sequence[Sequence[str]]
    caption: str = ""


Part = str | Figure | Table
"""Of a section; a text is a paragraph of HTML."""


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, figures and tables under it, in this order; level 3 is part of a chapter."""

    key: str
    title: str
    parts: list[Part] = field(default_factory=list)
    level: int = 2


@dataclass(frozen=True)
class Finding:
    """One of the findings at the top of a page.

    Attributes:
        title: a sentence, as plain text.
        value: the number of the finding, as HTML.
        meaning: what this number is, as HTML.
        figure: file name of the one that shows it.
        more: keys of the sections to read on.
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
    """What frames a page: its title (plain text), opening paragraphs, findings, and conclusion."""

    title: str
    paragraphs: Sequence[Part]
    findings: Sequence[Finding]
    conclusion: Sequence[Part] = ()


@dataclass(frozen=True)
class Chapter:
    """What a chapter of the page comes to, made by its ``compute(run)``.

    Attributes:
        sections: what the page says.
        figures: what draws each picture, in the order of the page.
        record: what results.json holds, by key; dictionaries of several chapters under one key are united.
        findings: for the top of the page.
        results: what all of this was made from.
    """

    sections: list[Section]
    figures: Drawings = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    results: Any = None


def percent(share: float) -> str:
    """A share in per cent, with as many digits as it deserves.

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
    """A whole number with thousands separated."""
    return f"{int(number):,}"


def number(value: float) -> str:
    """Three digits; small and large ones in powers of ten.

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
    """A number of examples in words.

    >>> examples(1), examples(1000)
    ('1 example', '1,000 examples')
    """
    return f"{count(n)} example{'s' if n != 1 else ''}"


def listing(names: Sequence[str]) -> str:
    """Names in a row.

    >>> listing(["a"]), listing(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def two_digits(value: float) -> str:
    """Two digits of a number.

    >>> two_digits(0.1234)
    '0.12'
    """
    return number(float(f"{value:.2g}"))
