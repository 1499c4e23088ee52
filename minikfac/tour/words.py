"""Paragraphs and captions of the report: ``words.html`` has their text, chapters fill in the numbers."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

FILE = Path(__file__).with_suffix(".html")
_, *_PIECES = re.split(r"<!-- ([\w-]+) -->\n", FILE.read_text(encoding="utf-8"))
_TEXTS = dict(zip(_PIECES[::2], _PIECES[1::2], strict=True))


def words(key: str, **values: object) -> list[str]:
    """Return the paragraphs under a key, as HTML, with each ``$name`` replaced by the value of that name.

    >>> words("ladder", layer="conv1", maps=4)[0][:36]
    'Entries of the block of conv1, by si'
    """
    text = Template(_TEXTS[key].strip()).substitute(values)
    return [paragraph.replace("\n", " ") for paragraph in text.split("\n\n")]
