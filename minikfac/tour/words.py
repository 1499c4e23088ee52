"""The text of the report: ``words.html`` has it, chapters fill in the numbers."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from .parts import Figure, Finding, Part

FILE = Path(__file__).with_suffix(".html")
_, *_PIECES = re.split(r"<!-- ([\w-]+) -->\n", FILE.read_text(encoding="utf-8"))
_TEXTS = dict(zip(_PIECES[::2], _PIECES[1::2], strict=True))


def words(key: str, /, **values: object) -> list[Part]:
    """Return what stands under a key, with each ``$name`` replaced by the value of that name.

    >>> words("invariance-application", key="two-nets")
    [Figure(name='two-nets', caption='Losses of two nets that begin as the same function.')]
    """
    text = Template(_TEXTS[key].strip()).substitute(values)
    return [_part(piece.replace("\n", " ")) for piece in text.split("\n\n")]


def finding(key: str, value: str, /, **values: object) -> Finding:
    """Return the finding under ``finding-key``: its title, what its value means, and where to read on."""
    title, meaning, more = map(str, words(f"finding-{key}", **values))
    figure, sections, tutorial = more.split("; ")
    return Finding(title, value, meaning, figure, sections.split(", "), tutorial)


def _part(text: str) -> Part:
    figure = re.fullmatch(r'<figure id="([\w-]+)">(.*)</figure>', text)
    return Figure(figure[1], figure[2]) if figure else text
