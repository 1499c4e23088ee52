"""Records: a run's measurements, in memory as dicts and on disk as JSON lines.

A file starts with a line that describes the run, {"about": ..., "machine": ...}; each measurement is appended
as a line. Numbers that are not finite are written as "NaN", "Infinity" or "-Infinity", so every line is valid
JSON. Its last entry, "crc32", is the checksum of the text before it.

history = records.read("run.jsonl")
history["loss"], history["seconds"]          # columns as arrays
"""

from __future__ import annotations

import json
import math
import os
import platform
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..display import Display, Shown, in_words
from ..reading import one_error, read_lines
from ..writing import write_text

Record = dict[str, Any]
CHECKSUM = '"crc32": '
LONGEST = 2**24
"""Most bytes of a line."""
NUMBERS = ("step", "examples", "seconds", "trial", "score")
"""Columns that must be numbers."""
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(repr=False)
class History(Shown):
    """The measurements of a run, and its final state.

    Attributes:
        records: one dict per measurement: ``step``, ``examples``, ``seconds`` (training time only), ``loss``,
            ``test_loss``, for labels the error rates ``train_error`` and ``test_error``, for other targets
            ``squared_error`` and ``test_squared_error`` (per example); the same with ``_average`` if iterates
            are averaged; ``batch_loss`` and the last step's other diagnostics, such as damping; and the
            entries added by ``track``.
        theta: the final parameters (P,); None in a history that was read from a file.
        state: the optimizer's state.
        about: description of the run, as in the first line of the file; empty without a file.
        average: average of the iterates, (P,); None without averaging.
    """

    records: list[Record] = field(default_factory=list)
    theta: Any = None
    state: Any = None
    about: dict[str, Any] = field(default_factory=dict)
    average: Any = None

    def _display(self) -> Display:
        columns = list(dict.fromkeys(key for record in self.records for key in record))[:8]
        rows = [[in_words(record.get(column, "")) for column in columns] for record in self.records]
        losses = [f"{record['loss']:.3g}" for record in self.records if "loss" in record]
        title = f"History({len(rows)} measurements; loss {' to '.join([*losses[:1], *losses[1:][-1:]])})"
        return Display(title, [column.replace("_", " ") for column in columns], rows)

    def __repr__(self) -> str:
        return str(self)

    def plot(self, column: str = "loss", along: str = "step") -> Any:
        """Plot one column of the records against another; returns the axes.

        Raises:
            ValueError: if no record contains both.
        """
        from .. import plots

        return plots.training_curve(self.records, column, along)

    def __getitem__(self, column: str) -> np.ndarray:
        """One column of the records as an array, with nan for records that lack it."""
        if not any(column in record for record in self.records):
            columns = ", ".join(dict.fromkeys(key for record in self.records for key in record))
            raise KeyError(f"expected a column among {columns}, got {column!r}")
        return np.array([record.get(column, math.nan) for record in self.records])


@dataclass(frozen=True)
class PerOctave:
    """Measure ``count`` to 2 ``count`` times per doubling of the step number, and initially every step.

    The step at which a level was reached is then known to a relative accuracy of 1 / ``count``.

    >>> measured = PerOctave(2)
    >>> [step for step in range(33) if measured(step)]
    [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    """

    count: int = 16

    def __call__(self, step: int) -> bool:
        return step % 2 ** max(0, (step // int(self.count)).bit_length() - 1) == 0


def read(path: str | Path) -> History:
    """Read a file of records.

    An incomplete last line, left by a run that was killed, is ignored. Checksums are verified if present;
    older files do not have them.

    Raises:
        ValueError: if the file does not contain records, or is damaged before its last line.
    """
    rows: list[Record] = []
    with_checksums = False
    for number, line in enumerate(read_lines(path, LONGEST), 1):
        if not line.endswith(b"\n"):
            break  # an incomplete line
        start = repr(line.rstrip()[:40].decode(errors="replace"))
        with one_error(path, "one record of JSON per line", f"{start} in line {number}"):
            row, has_checksum = _parsed(line.rstrip())
            if rows and has_checksum != with_checksums:
                raise ValueError("only some lines have checksums")
            if rows and "about" in row:
                raise ValueError("a second file starts there")
        if not rows and not isinstance(row.get("about"), dict):
            raise ValueError(f"{path}: expected a first line that describes the run, got {start}")
        with_checksums = has_checksum
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: expected a first line that describes the run, got no line")
    return History(rows[1:], about=rows[0]["about"])


def write(path: str | Path, about: Mapping[str, Any], records: list[Record]) -> None:
    """Write a complete file of records atomically."""
    rows = [{"about": dict(about), "machine": machine()}, *records]
    write_text(path, "".join(map(_line, rows)))


def append(path: str | Path, record: Record) -> None:
    """Add one measurement to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(_line(record))


def machine() -> dict[str, Any]:
    """The machine on which a run is timed."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def encoded(value: Any) -> Any:
    """Convert to JSON data: Python numbers instead of NumPy's, words for numbers that are not finite.

    Raises:
        TypeError: on anything but numbers, text, None, and lists and dicts of these.
    """
    if isinstance(value, Mapping):
        return {str(key): encoded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(entry) for entry in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "item") and getattr(value, "size", 0) == 1:
        value = value.item()
    if isinstance(value, bool | int):
        return value
    if not isinstance(value, float):
        raise TypeError(f"expected numbers, text, lists or dicts in a record, got {type(value).__name__}")
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def decoded(value: Any) -> Any:
    """Invert :func:`encoded`, with words such as "NaN" converted to numbers."""
    if isinstance(value, dict):
        return {key: decoded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [decoded(entry) for entry in value]
    return NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _line(row: Mapping[str, Any]) -> str:
    start = json.dumps(encoded(row), allow_nan=False, ensure_ascii=False)[:-1] + (", " if row else "")
    return f"{start}{CHECKSUM}{_checksum(start.encode())}\n"


def _parsed(line: bytes) -> tuple[Record, bool]:
    """Return the record in a line, and whether it has a checksum, which is verified."""
    start, mark, end = line.rpartition(CHECKSUM.encode())
    if mark and end.decode() != _checksum(start):
        raise ValueError("its checksum is wrong")
    row = decoded(json.loads(line.decode()))
    for name in NUMBERS:
        if type(row.get(name, 0)) not in (int, float):
            raise ValueError(f"{name} is not a number")
    row.pop("crc32", None)
    return row, bool(mark)


def _checksum(start: bytes) -> str:
    return f'"{zlib.crc32(start):08x}"}}'
