"""Tables of measures as text and as CSV, and means over tables of several seeds."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..writing import write_text
from .measures import COLUMNS, HEADINGS, Row


def text_table(
    rows: Sequence[Row], spread: Sequence[Row] | None, columns: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Header and cells as text, without columns that have no values.

    Args:
        rows: rows of one layer, see :func:`.compare`.
        spread: the same rows with standard deviations, shown as in "0.52 ± 0.03".
        columns: columns to show.
    """

    shown = [column for column in columns if any(row.get(column) is not None for row in rows)]
    cells = [[row["approximation"], *(format_cell(row.get(column)) for column in shown)] for row in rows]
    for line, deviations in zip(cells, spread or [], strict=False):
        for place, column in enumerate(shown, start=1):
            if line[place] not in ("", "-") and deviations.get(column) is not None:
                line[place] += f" ± {format_cell(deviations[column])}"
    return ["approximation", *map(heading, shown)], cells


def heading(column: str) -> str:
    """The heading of a column in tables.

    >>> heading("c_star"), heading("inverse_error")
    ('best scale', 'inverse error')
    """
    return HEADINGS.get(column, column.replace("_", " "))


def format_cell(value: Any) -> str:
    """A number formatted for a table."""
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return "not reached" if value == math.inf else "-"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) >= 100):
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def write_csv(path: str | Path, rows: Sequence[Row], spread: Sequence[Row] | None) -> None:
    """Write rows to a file, with any standard deviations in columns ``NAME_sd``."""
    columns = ["approximation", "layer", *COLUMNS, *(f"{column}_sd" for column in COLUMNS if spread)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(with_spread(rows, spread))
    write_text(path, text.getvalue())


def with_spread(rows: Sequence[Row], spread: Sequence[Row] | None) -> list[Row]:
    """The rows, with any standard deviations as ``NAME_sd``."""
    if spread is None:
        return [dict(row) for row in rows]
    return [
        row | {f"{column}_sd": deviation.get(column) for column in COLUMNS}
        for row, deviation in zip(rows, spread, strict=True)
    ]


def mean_and_spread(tables: Sequence[Sequence[Row]]) -> tuple[list[Row], list[Row]]:
    """Means and standard deviations of corresponding rows of several tables."""
    means, spreads = [], []
    for same in zip(*tables, strict=True):
        mean, spread = dict(same[0]), dict(same[0])
        for column in COLUMNS:
            values = [row.get(column) for row in same]
            if None in values:
                continue
            numbers = [float(value) for value in values if value is not None]
            mean[column] = centre = sum(numbers) / len(numbers)
            spread[column] = math.sqrt(sum((n - centre) ** 2 for n in numbers) / (len(numbers) - 1))
        means.append(mean)
        spreads.append(spread)
    return means, spreads
