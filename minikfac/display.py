"""How objects show themselves: a title and a small table, as text and in a notebook.

    repr      the title, one line; the whole text for results, such as histories and comparisons
    print     title, table and note, at most 88 letters wide
    Jupyter   the same as HTML, in the notebook's colours

Arrays stand there as shapes, functions as names, and of long tables the first and the last rows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from html import escape
from typing import Any

WIDTH = 88
"""Letters in a line."""
_LINES, _ROWS = 21, 17
"""Lines of all parts of a table, and rows of one, above which those in the middle are left out."""
_WORDS = 34
"""Letters in a line of the first column."""


@dataclass(frozen=True)
class Display:
    """What an object shows: a line, header and cells of a table as text, and a line below."""

    title: str
    header: Sequence[str] = ()
    cells: Sequence[Sequence[str]] = ()
    note: str = ""

    def text(self) -> str:
        """Lines of at most :data:`WIDTH` letters."""
        lines = textwrap.wrap(self.title, WIDTH)
        if self.cells:
            rows = self._rows(_ROWS)
            parts = len(_parts(self.header, rows, WIDTH))
            lines += ["", *stacked(self.header, self._rows(_LINES // parts - 4), WIDTH)]
        return "\n".join([*lines, *textwrap.wrap(self.note, WIDTH)])

    def html(self) -> str:
        """A fragment without colours, so that those of the page hold, light or dark."""
        rows = self._rows(_ROWS)
        sides = ["right" if _are_numbers(column) else "left" for column in zip(*rows, strict=True)]

        def line(kind: str, row: Sequence[str]) -> str:
            return "".join(
                f'<{kind} style="text-align: {side}; white-space: nowrap">{escape(cell)}</{kind}>'
                for side, cell in zip(sides, row, strict=True)
            )

        table = ""
        if rows:
            body = "</tr><tr>".join(line("td", row) for row in rows)
            table = f"<table><thead><tr>{line('th', self.header)}</tr></thead><tr>{body}</tr></table>"
        title, note = (f"<p>{escape(text)}</p>" if text else "" for text in (self.title, self.note))
        return f'<div style="overflow-x: auto">{title}{table}{note}</div>'

    def _rows(self, most: int) -> list[list[str]]:
        """At most so many rows, and no cell so long that it needs a second line."""
        if not self.cells:
            return []
        first = min(_WORDS, max(len(row[0]) for row in (self.header, *self.cells)))
        limits = [first, *[WIDTH - first - 2] * (len(self.header) - 1)]
        rows = [list(map(shortened, row, limits)) for row in self.cells]
        if len(rows) <= most:
            return rows
        last = most // 3
        between = [f"… {len(rows) - most + 1:,} more …", *[""] * (len(self.header) - 1)]
        return [*rows[: most - 1 - last], between, *rows[len(rows) - last :]]


class Shown:
    """What shows itself by its :meth:`_display`."""

    def _display(self) -> Display:
        raise NotImplementedError

    def __repr__(self) -> str:
        return shortened(self._display().title, WIDTH)

    def __str__(self) -> str:
        return self._display().text()

    def _repr_html_(self) -> str:
        return self._display().html()


class ShownByFields(Shown):
    """A dataclass that shows its fields, one below the other."""

    def _display(self) -> Display:
        names = [each.name for each in fields(self)]  # type: ignore[arg-type]
        cells = [[name, in_words(getattr(self, name))] for name in names]
        return Display(type(self).__name__, ["field", "value"], cells)

    def __repr__(self) -> str:
        return str(self)


def in_words(value: Any) -> str:
    """A value in one line: arrays by shape, collections by their length, functions by name.

    >>> in_words([1, 2]), in_words({"a": 1}), in_words(len), in_words(0.1)
    ('list of 2', 'dict of 1', 'len', '0.1')
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} array {by(value.shape)}".rstrip()
    if isinstance(value, Mapping | list | tuple):
        return f"{type(value).__name__} of {len(value):,}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    text = value if isinstance(value, str) else getattr(value, "__qualname__", repr(value)).split("\n")[0]
    return type(value).__name__ if " at 0x" in text or "<lambda>" in text else text


def by(shape: Sequence[int]) -> str:
    """A shape.

    >>> by((2298, 10)), by((3,))
    ('2,298 x 10', '3')
    """
    return " x ".join(f"{extent:,}" for extent in shape)


def call(value: Any) -> str:
    """A dataclass as the call that makes it, without arguments that have their defaults.

    >>> call(Display("a title"))
    "Display('a title')"
    """
    parameters = getattr(value, "__dataclass_params__", None)
    if parameters is None or not parameters.repr:
        return repr(value)
    arguments = [
        f"{each.name}={x!r}" if each.default is not MISSING else repr(x)
        for each in fields(value)
        if (x := getattr(value, each.name)) != each.default
    ]
    return f"{type(value).__name__}({', '.join(arguments)})"


def shortened(text: str, width: int) -> str:
    """At most so many letters, with dots in the middle of a text that has more.

    >>> shortened("a rather long name", 11)
    'a rat… name'
    """
    return text if len(text) <= width else f"{text[: width - width // 2 - 1]}…{text[-(width // 2) :]}"


def stacked(
    header: Sequence[str], cells: Sequence[Sequence[str]], width: int, most: int | None = None
) -> list[str]:
    """Lines of a table: columns that the width does not take follow below, beside the first one again.

    No cell is cut: the words of a long one go on in the next line.

    Args:
        header: of the columns.
        cells: text, row by row.
        width: letters in a line.
        most: columns beside the first at most, and one more if it is the last.
    """
    lines: list[str] = []
    for part in _parts(header, cells, width, most):
        lines += [""] * bool(lines)
        for number, row in enumerate(zip(*(column.cells for column in part), strict=True)):
            height = max(map(len, row))
            for place in range(height):
                texts = []
                for cell, column in zip(row, part, strict=True):
                    at = place if number else place - height + len(cell)  # a header stands at the bottom
                    text = cell[at] if 0 <= at < len(cell) else ""
                    texts.append(text.rjust(column.width) if column.numbers else text.ljust(column.width))
                lines.append("  ".join(texts).rstrip())
            if number == 0:
                lines.append("  ".join("─" * column.width for column in part))
    return lines


def beside(header: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> int:
    """How many columns :func:`stacked` puts beside the first one before it goes on below."""
    return len(_parts(header, cells, width)[0]) - 1


@dataclass(frozen=True)
class _Column:
    """Cells, each a list of lines, the header first."""

    cells: list[list[str]]
    width: int
    numbers: bool


def _parts(
    header: Sequence[str], cells: Sequence[Sequence[str]], width: int, most: int | None = None
) -> list[list[_Column]]:
    by_column = list(zip(header, *cells, strict=True))
    first = _column(by_column[0], _WORDS)
    parts = [[first]]
    for number, cells_of_column in enumerate(by_column[1:], 2):
        column = _column(cells_of_column, width - first.width - 2)
        enough = len(parts[-1]) - 1 == most and number < len(by_column)  # no last column is left alone
        full = enough or column.width + sum(other.width + 2 for other in parts[-1]) > width
        if full and len(parts[-1]) > 1:
            parts.append([first])
        parts[-1].append(column)
    return parts


def _column(column: Sequence[str], most: int) -> _Column:
    head, *cells = column
    body = [_wrapped(cell, most) for cell in cells]
    # a header of several words goes on in the next line where the cells are narrower
    width = max(len(word) for word in [*head.split(), *(line for cell in body for line in cell)] or [""])
    return _Column([_wrapped(head, width), *body], width, _are_numbers(cells))


def _wrapped(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether half of a column's cells or more begin as numbers do."""
    filled = [cell[0] in "0123456789-−<>=≥" for cell in cells if cell]
    return 2 * sum(filled) >= len(filled)
