"""A race: several optimizers on one problem, from the same start, with the same data in the same order.

                  time-to-target(level) = min { t : min_{s <= t} loss(s) <= level }

The lowest loss so far is what a run has reached: a monotone curve, even where the loss is not. Between two
measurements it is taken to be a line; losses fall ever more slowly, so this is late rather than early. Ratios
are those of the baseline, the first contender, to each: how many times sooner a level is reached.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..backend import Array
from ..datasets import Dataset
from ..network import Network
from .batches import BatchSize
from .keep import Keep
from .records import History, PerOctave, Record, replaced_at_once
from .training import Optimizer, train, warm_up

ALONG = ("seconds", "step", "examples")
"""What a race is measured by."""


@dataclass
class Race:
    """What came of a race.

    Attributes:
        histories: by name of the contender; the first is the baseline.
        failures: what ended a run that diverged; its history is that of the steps before.
    """

    histories: dict[str, History]
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        """The contender to which ratios refer."""
        return next(iter(self.histories))

    @property
    def records(self) -> dict[str, list[Record]]:
        """The records by name, as the plots take them."""
        return {name: history.records for name, history in self.histories.items()}

    def levels(self, column: str = "loss", shares: Sequence[float] = (1 / 8, 1 / 4, 1 / 2, 1)) -> list[float]:
        """Levels of a column to race to: what the baseline had reached after these shares of its time.

        They are rounded up to three digits.
        """
        history = self.histories[self.baseline]
        lowest, seconds = np.fmin.accumulate(history[column]), history["seconds"]
        found = [_rounded_up(float(np.interp(share * seconds[-1], seconds, lowest))) for share in shares]
        return sorted(set(found), reverse=True)

    def targets(
        self, column: str = "loss", levels: Sequence[float] | None = None, along: Sequence[str] = ALONG
    ) -> list[Record]:
        """Return a row per level, measure and contender: where the level was reached, and the ratio.

        Returns:
            Rows of ``column``, ``level``, ``along``, ``contender``, ``at`` (nan where not reached), ``ratio``
            (baseline to contender; nan where the contender never got there) and ``bound``: whether the ratio
            is a lower bound, as the baseline's run ended before the level.
        """
        rows = []
        for level in self.levels(column) if levels is None else levels:
            for measure in along:
                base = self.histories[self.baseline]
                of_base = reached(base, column, level, measure)
                bound = not math.isfinite(of_base)
                upper = float(base[measure][-1]) if bound else of_base
                for name, history in self.histories.items():
                    at = reached(history, column, level, measure)
                    ratio = upper / at if at > 0 else math.nan
                    rows.append(
                        {"column": column, "level": level, "along": measure, "contender": name, "at": at}
                        | {"ratio": ratio, "bound": bound and math.isfinite(ratio)}
                    )
        return rows

    def table(
        self, column: str = "loss", along: str = "seconds", levels: Sequence[float] | None = None
    ) -> tuple[list[str], list[list[str]]]:
        """Return a header and a row of text per contender: when each level was reached, and the ratio."""
        rows = self.targets(column, levels, (along,))
        asked = list(dict.fromkeys(row["level"] for row in rows))
        cells = []
        for name in self.histories:
            own = {row["level"]: row for row in rows if row["contender"] == name}
            cells.append([name, *(_cell(own[level]) for level in asked)])
        return ["optimizer", *(f"{level:g}" for level in asked)], cells

    def summary(self) -> tuple[list[str], list[list[str]]]:
        """Return a header and a row of text per contender: how far it went, and what it found."""
        kinds = ("loss", "test_loss", "train_error", "test_error", "squared_error", "test_squared_error")
        shown = [kind for kind in kinds if all(kind in h.records[-1] for h in self.histories.values())]
        cells = []
        for name, history in self.histories.items():
            last = history.records[-1]
            ms = 1e3 * last["seconds"] / last["step"] if last["step"] else math.nan
            cells.append(
                [name, f"{last['step']:,}", f"{last['seconds']:.1f}", f"{ms:.3g}", f"{last['examples']:,}"]
                + [_short(last[kind]) for kind in shown]
            )
        header = ["optimizer", "steps", "seconds", "ms a step", "examples"]
        return [*header, *(kind.replace("_", " ") for kind in shown)], cells

    def write_targets(
        self, path: str | Path, column: str = "loss", levels: Sequence[float] | None = None
    ) -> None:
        """Write the rows of :meth:`targets` as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["column", "level", "along", "contender", "at", "ratio", "bound"])
        writer.writeheader()
        writer.writerows(self.targets(column, levels))
        with replaced_at_once(path) as file:
            file.write(text.getvalue().encode())


def compare(
    net: Network,
    theta: Array,
    contenders: Mapping[str, Optimizer],
    dataset: Dataset,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: BatchSize | Mapping[str, BatchSize] = 100,
    seed: int = 0,
    per_octave: int = 16,
    folder: str | Path | None = None,
    existing: str = "replace",
    target: Mapping[str, float] | None = None,
    progress: bool = True,
) -> Race:
    """Let optimizers race.

    Each runs alone. All have made a step before that was thrown away, so that no clock counts what is done
    only once. One that diverges is out; the others go on.

    Args:
        net: the network.
        theta: where all start, (P,).
        contenders: optimizers by name; the first is the baseline.
        dataset: the data.
        steps: how many at most, each.
        seconds: of training at most, each; measurements are not counted.
        batch_size: for all, or by name; only with equal sizes do all see the same batches.
        seed: of order and sampled targets.
        per_octave: measurements while the number of steps doubles, see :class:`PerOctave`.
        folder: for records and checkpoints, two files a contender.
        existing: what becomes of runs that are there: "replace", "resume" or "refuse".
        target: a run stops at the first measurement where these columns are at or under these levels.
        progress: show bars.

    Raises:
        ValueError: on no contenders, neither steps nor seconds, or what :func:`.train` refuses.
    """
    if not contenders:
        raise ValueError("expected at least one contender, got none")
    files: dict[str, str] = {}
    for name in contenders:
        if files.setdefault(file_name(name), name) != name:
            other = files[file_name(name)]
            raise ValueError(f"expected names that differ in letters or digits, got {other!r} and {name!r}")
    sizes = batch_size if isinstance(batch_size, Mapping) else dict.fromkeys(contenders, batch_size)
    for name, opt in contenders.items():  # what is wrong with the last is better known before the first runs
        warm_up(opt, theta, dataset, sizes[name], seed)
    race = Race({})
    for name, opt in contenders.items():
        seen: list[Record] = []
        try:
            race.histories[name] = train(
                net,
                theta,
                opt,
                dataset,
                steps,
                sizes[name],
                seed,
                PerOctave(per_octave),
                progress=name if progress else False,
                target=target,
                max_seconds=seconds,
                keep=None if folder is None else Keep(folder, file_name(name), existing=existing),
                on_record=seen.append,
            )
        except FloatingPointError as error:
            if not seen:  # not even the start is finite
                raise
            race.histories[name], race.failures[name] = History(seen), str(error)
    return race


def file_name(name: str) -> str:
    """What a contender's files are called.

    >>> file_name("K-FAC, block-tridiagonal")
    'k-fac-block-tridiagonal'
    """
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "run"


def reached(history: History, column: str, level: float, along: str = "seconds") -> float:
    """Where the lowest value of a column so far first is at or under a level; nan if nowhere.

    Args:
        history: of a run.
        column: such as "loss".
        level: to be reached.
        along: "seconds", "step" or "examples".
    """
    values, x = history[column], history[along]
    lowest = np.fmin.accumulate(values)  # passes over nan
    (places,) = np.nonzero(lowest <= level)
    if not len(places):
        return math.nan
    at = int(places[0])
    if at == 0 or not math.isfinite(lowest[at - 1]):
        return float(x[at])
    share = (lowest[at - 1] - level) / (lowest[at - 1] - lowest[at])
    return float(x[at - 1] + share * (x[at] - x[at - 1]))


def _rounded_up(value: float) -> float:
    """Three significant digits, not below the value."""
    if not (math.isfinite(value) and value):
        return value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return float(f"{math.ceil(value / unit * (1 - 1e-12)) * unit:.6g}")


def _short(value: float) -> str:
    return "-" if not math.isfinite(value) else f"{value:.3g}"


def _cell(row: Record) -> str:
    if not math.isfinite(row["at"]):
        return "-"
    at = f"{row['at']:,.0f}" if row["at"] >= 1000 else f"{row['at']:.3g}"
    if not math.isfinite(row["ratio"]):
        return at
    return f"{at} ({'> ' if row['bound'] else ''}{row['ratio']:.2g}x)"
