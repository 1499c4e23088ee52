"""A race: several optimizers on one problem, from the same weights, with the same data in the same order.

                  time-to-target(level) = min { t : min_{s <= t} loss(s) <= level }

Each runs alone. Each takes a step beforehand that is discarded, so that no clock counts one-time work. With
several seeds all race from the first, then all from the next: a machine that is slow for an hour slows all of
them.

The lowest loss so far is what a run has reached: a monotone curve, even where the loss is not. Between two
measurements it is interpolated by a line; losses fall ever more slowly, so times are late rather than early.
Ratios are those of the baseline, the first contender, to each: how many times sooner a level is reached.

With several seeds each contender runs once from each, and tables hold the median, the lowest and the highest.
A run that never reached a level counts as later than all that did: the median is a number only where more
than half of the runs reached it. The ratio is that of the two medians.

Runs that average their iterates have two losses, that of the iterate and that of the average, and what
counts is the lower one: ``best_loss``, as ``best_`` before any of :data:`MEASURES`.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Array
from ..datasets import Dataset
from ..display import ShownByFields
from ..network import Network
from ..optim import checks
from ..training import records
from ..training.averaging import Averaging
from ..training.batches import BatchSize
from ..training.keep import Keep
from ..training.loop import Optimizer, train, warm_up
from ..training.records import History, PerOctave, Record
from ..writing import sole_writer, write_text

ALONG = ("seconds", "step", "examples")
"""What a race is measured by."""
MEASURES = ("loss", "test_loss", "train_error", "test_error", "squared_error", "test_squared_error")
"""What is measured of the iterate and, with ``_average`` behind, of the average; less is better."""
BEST = "best_"


@dataclass(repr=False)
class Race(ShownByFields):
    """The results of a race.

    Attributes:
        histories: by name of the contender a list of its runs, one a seed; the first is the baseline.
        failures: by name and seed the error that ended a run; its history is that of the steps before.
    """

    histories: dict[str, list[History]]
    failures: dict[str, dict[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, runs in self.histories.items():
            if isinstance(runs, History) or not runs:
                got = "one alone" if runs else "none"
                raise ValueError(f"expected a list of histories of {name}, one a seed, got {got}")

    @property
    def baseline(self) -> str:
        """The contender to which ratios refer."""
        return next(iter(self.histories))

    @property
    def records(self) -> dict[str, list[list[Record]]]:
        """By name the records of each run, with ``best_`` columns, as the plots take them."""
        return {
            name: [[_with_best(record) for record in run.records] for run in runs]
            for name, runs in self.histories.items()
        }

    def levels(self, column: str = "loss", shares: Sequence[float] = (1 / 8, 1 / 4, 1 / 2, 1)) -> list[float]:
        """Levels of a column to race to: what the baseline had reached after these shares of its time.

        With several seeds, what more than half of its runs had reached. They are rounded up to three digits.
        """
        levels = set()
        for share in shares:
            lowest = [_lowest_after(share, run, column) for run in self.histories[self.baseline]]
            levels.add(_rounded_up(sorted(lowest)[len(lowest) // 2]))
        return sorted(levels, reverse=True)

    def targets(
        self, column: str = "loss", levels: Sequence[float] | None = None, along: Sequence[str] = ALONG
    ) -> list[Record]:
        """Return a row per level, measure and contender: where the level was reached, and the ratio.

        Returns:
            Rows of ``column``, ``level``, ``along``, ``contender``; ``at``, ``lowest`` and ``highest``: the
            median over the runs and their range, where one that never got there is later than all others and
            nan stands for that; ``reached``: how many got there, of ``runs``; ``ratio``: the baseline's
            median to the contender's, nan where the latter is; and ``bound``: whether the ratio is a lower
            bound, as too many of the baseline's runs ended before the level and are taken to reach it there.
        """
        rows = []
        for level in self.levels(column) if levels is None else levels:
            for measure in along:
                times = {
                    name: [reached(run, column, level, measure) for run in runs]
                    for name, runs in self.histories.items()
                }
                base = times[self.baseline]
                upper = median_and_ends(base)[0]
                bound = not math.isfinite(upper)
                if bound:
                    ends = [float(run[measure][-1]) for run in self.histories[self.baseline]]
                    upper = float(np.median(np.where(np.isfinite(base), base, ends)))
                for name, of_runs in times.items():
                    at, lowest, highest = median_and_ends(of_runs)
                    ratio = upper / at if at > 0 else math.nan
                    rows.append(
                        {"column": column, "level": level, "along": measure, "contender": name, "at": at}
                        | {"lowest": lowest, "highest": highest}
                        | {"reached": int(np.isfinite(of_runs).sum()), "runs": len(of_runs)}
                        | {"ratio": ratio, "bound": bound and math.isfinite(ratio)}
                    )
        return rows

    def table(
        self, column: str = "loss", along: str = "seconds", levels: Sequence[float] | None = None
    ) -> tuple[list[str], list[list[str]]]:
        """Return a header and a row of text per contender: when each level was reached, and the ratio.

        A cell is "12.3 (11.8 to 13.1; 6x)": median, lowest and highest of the runs, and the ratio; where not
        all of them got there it says how many.
        """
        rows = self.targets(column, levels, (along,))
        header = dict.fromkeys(f"{row['level']:g}" for row in rows)
        cells = [[name, *(_cell(row) for row in rows if row["contender"] == name)] for name in self.histories]
        return ["optimizer", *header], cells

    def summary(self, column: str | None = None) -> tuple[list[str], list[list[str]]]:
        """Return a header and a row of text per contender: how far it went, and its measures at the end.

        Of several runs the median, and the lowest and the highest where they differ.

        Args:
            column: shown too if it is not among what every run measures.
        """
        every = [run for runs in self.histories.values() for run in runs]
        wanted = dict.fromkeys((*MEASURES, column or MEASURES[0]))
        shown = [kind for kind in wanted if all(kind.removeprefix(BEST) in run.records[-1] for run in every)]
        cells = []
        for name, runs in self.histories.items():
            ends = [run.records[-1] for run in runs]
            ms = [1e3 * end["seconds"] / end["step"] if end["step"] else math.nan for end in ends]
            row = [
                _spread([end["step"] for end in ends], "{:,.0f}"),
                _spread([end["seconds"] for end in ends], "{:.1f}"),
                _spread(ms),
                _spread([end["examples"] for end in ends], "{:,.0f}"),
            ]
            cells.append([name, *row, *(_spread([_value(end, kind) for end in ends]) for kind in shown)])
        header = ["optimizer", "steps", "seconds", "ms a step", "examples"]
        return [*header, *(kind.replace("_", " ") for kind in shown)], cells

    def write_targets(
        self, path: str | Path, column: str = "loss", levels: Sequence[float] | None = None
    ) -> None:
        """Write the rows of :meth:`targets` as CSV, a column for each of their entries.

        ``column`` was at or under ``level`` after ``at`` seconds, steps or examples, as ``along`` says: the
        median of a contender's ``runs``, of which ``reached`` got there, from ``lowest`` to ``highest``; this
        is ``ratio`` times sooner than the baseline, or sooner still where ``bound`` is True. What was not
        reached is nan.
        """
        text = io.StringIO()
        numbers = ["at", "lowest", "highest", "reached", "runs", "ratio", "bound"]
        writer = csv.DictWriter(text, ["column", "level", "along", "contender", *numbers])
        writer.writeheader()
        writer.writerows(self.targets(column, levels))
        write_text(path, text.getvalue())


def race(
    net: Network,
    theta: Array | Callable[[int], Array],
    contenders: Mapping[str, Optimizer],
    dataset: Dataset,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: BatchSize | Mapping[str, BatchSize] = 100,
    seed: int = 0,
    per_octave: int = 16,
    folder: str | Path | None = None,
    existing: str = "replace",
    progress: bool = True,
    seeds: int = 1,
    averaging: Averaging | Mapping[str, Averaging | None] | None = None,
) -> Race:
    """Race optimizers, each alone; one that diverges is left out.

    Args:
        net: the network.
        theta: where all start, (P,), or a function from the seed to that, such as ``problem.theta``.
        contenders: optimizers by name; the first is the baseline.
        dataset: the data.
        steps: how many at most, each.
        seconds: of training at most, each; measurements are not counted.
        batch_size: for all, or by name; only with equal sizes do all see the same batches.
        seed: of order and sampled targets.
        per_octave: measurements while the number of steps doubles, see :class:`PerOctave`.
        folder: for records and checkpoints, two files a contender and seed, see :func:`file_name`.
        existing: what becomes of runs that are there: "replace", "resume" or "refuse".
        progress: show bars.
        seeds: how many; the runs are those of ``seed``, ``seed + 1`` ...
        averaging: of the iterates, as of :func:`.train`; for all, or by name.

    Raises:
        ValueError: on no contenders, seeds or limits, ``existing`` without a folder, or what `train` rejects.
        FileExistsError: where another run writes in the folder, or runs are there and not to be replaced.
    """
    _check(contenders, seed, seeds=seeds, per_octave=per_octave)
    _check_files(folder, existing, progress)
    by_name = {"batch_size": batch_size, "averaging": averaging}
    sizes, averages = (_by_name(what, value, contenders) for what, value in by_name.items())
    start = theta if callable(theta) else lambda _: theta
    for name, opt in contenders.items():  # what is wrong with the last is better known before the first runs
        warm_up(opt, start(seed), dataset, sizes[name], seed)
    histories: dict[str, list[History]] = {name: [] for name in contenders}
    failures: dict[str, dict[int, str]] = {}
    limits: dict[str, Any] = {"steps": steps, "max_seconds": seconds, "measure_every": PerOctave(per_octave)}
    with nullcontext() if folder is None else sole_writer(folder):
        for number in range(seed, seed + seeds):
            for name, opt in contenders.items():
                title, which = (name, None) if seeds == 1 else (f"{name}, seed {number}", number)
                keep = None if folder is None else Keep(folder, file_name(name, which), existing=existing)
                loop = {"batch_size": sizes[name], "averaging": averages[name], "seed": number, "keep": keep}
                loop |= limits | {"progress": title if progress else False}
                history, failure = _to_the_end(partial(train, net, start(number), opt, dataset, **loop), keep)
                histories[name].append(history)
                if failure:
                    failures.setdefault(name, {})[number] = failure
    return Race(histories, failures)


def _check(contenders: Mapping[str, Optimizer], seed: int, **counts: int) -> None:
    if not contenders:
        raise ValueError("expected at least one contender, got none")
    checks.count(0, seed=seed)
    checks.count(**counts)
    files: dict[str, str] = {}
    for name in contenders:
        other = files.setdefault(file_name(name), name)
        if other != name:
            raise ValueError(f"expected names that differ in letters or digits, got {other!r} and {name!r}")


def _check_files(folder: str | Path | None, existing: str, progress: bool) -> None:
    checks.flag(progress=progress)
    checks.choice(("replace", "resume", "refuse"), existing=existing)
    if folder is None and existing != "replace":
        raise ValueError(f"expected existing={existing!r} only with a folder of runs, got none")


def _by_name(setting: str, value: Any, contenders: Mapping[str, Optimizer]) -> Mapping[str, Any]:
    """A setting of each contender, which is given by name or once for all."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(contenders, value)
    if value.keys() != contenders.keys():
        raise ValueError(f"expected {setting} for {', '.join(contenders)}, got it for {', '.join(value)}")
    return value


def _to_the_end(run: Callable[..., History], keep: Keep | None) -> tuple[History, str]:
    """The history of a run, and what ended it early, if anything did."""
    seen: list[Record] = []
    try:
        return run(on_record=seen.append), ""
    except FloatingPointError as error:
        # the file holds what was measured before the run was resumed, too
        is_kept = keep is not None and keep.records.exists()
        history = records.read(keep.records) if keep is not None and is_kept else History(seen)
        if not history.records:  # not even the start is finite
            raise
        return history, str(error)


def file_name(name: str, seed: int | None = None) -> str:
    """What a contender's files are called; that of a seed where there are several.

    >>> file_name("K-FAC, block-tridiagonal"), file_name("SGD", 3)
    ('k-fac-block-tridiagonal', 'sgd-3')
    """
    plain = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "run"
    return plain if seed is None else f"{plain}-{seed}"


def reached(history: History, column: str, level: float, along: str = "seconds") -> float:
    """Where the lowest value of a column so far first is at or under a level; nan if nowhere.

    Args:
        history: of a run.
        column: such as "loss" or "best_loss".
        level: to be reached.
        along: "seconds", "step" or "examples".

    Raises:
        KeyError: on a column that was not measured.
    """
    lowest, x = _lowest(history, column), history[along]
    (places,) = np.nonzero(lowest <= level)
    if not len(places):
        return math.nan
    at = int(places[0])
    if at == 0 or not math.isfinite(lowest[at - 1]):
        return float(x[at])
    share = (lowest[at - 1] - level) / (lowest[at - 1] - lowest[at])
    return float(x[at - 1] + share * (x[at] - x[at - 1]))


def column_of(history: History, column: str) -> np.ndarray:
    """One column as an array, nan where a record lacks it; ``best_`` columns too.

    ``best_loss`` is the lower of ``loss`` and ``loss_average``, and ``loss`` where nothing is averaged.

    Raises:
        KeyError: on a column that was not measured.

    >>> run = History([{"loss": 4.0}, {"loss": 2.0, "loss_average": 3.0}, {"loss": 2.0, "loss_average": 1.0}])
    >>> column_of(run, "best_loss")
    array([4., 2., 1.])
    """
    history[column.removeprefix(BEST)]  # says what there is
    return np.array([_value(record, column) for record in history.records], dtype=float)


def _value(record: Record, column: str) -> float:
    kind = column.removeprefix(BEST)
    value = record.get(kind, math.nan)
    return value if kind == column else float(np.fmin(value, record.get(f"{kind}_average", math.nan)))


def _with_best(record: Record) -> Record:
    return record | {BEST + kind: _value(record, BEST + kind) for kind in MEASURES if kind in record}


def _lowest(history: History, column: str) -> np.ndarray:
    """The lowest value so far, at each measurement; passes over nan."""
    return np.fmin.accumulate(column_of(history, column))


def _lowest_after(share: float, history: History, column: str) -> float:
    """The lowest value after a share of the run's time."""
    seconds = history["seconds"]
    return float(np.interp(share * seconds[-1], seconds, _lowest(history, column)))


def median_and_ends(times: Sequence[float]) -> tuple[float, float, float]:
    """Median, lowest and highest; nan is later than all numbers, and stands for a result that is."""
    late = [time if math.isfinite(time) else math.inf for time in times]
    order = float(np.median(late)), min(late), max(late)
    median, lowest, highest = (time if math.isfinite(time) else math.nan for time in order)
    return median, lowest, highest


def _rounded_up(value: float) -> float:
    """Three significant digits, not below the value."""
    if not (math.isfinite(value) and value):
        return value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return float(f"{math.ceil(value / unit * (1 - 1e-12)) * unit:.6g}")


def short(value: float, form: str = "") -> str:
    """Three digits, or all of a whole number; or in this form."""
    if not math.isfinite(value):
        return "-"
    return form.format(value) if form else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def in_range(middle: float, low: float, high: float, form: str = "") -> str:
    """Write a median and, where they differ from it, the lowest and the highest.

    >>> in_range(839.4, 721.2, 955.0), in_range(3.0, 3.0, 3.0), in_range(math.nan, math.nan, math.nan)
    ('839 (721 to 955)', '3', '-')
    """
    texts = [short(at, form) for at in (middle, low, high)]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def _spread(values: Sequence[float], form: str = "") -> str:
    return in_range(*median_and_ends(values), form)


def _cell(row: Record) -> str:
    more = []
    if row["runs"] > 1 and row["reached"]:
        more.append(f"{short(row['lowest'])} to {short(row['highest'])}")
    if 0 < row["reached"] < row["runs"]:
        more.append(f"{row['reached']} of {row['runs']}")
    if math.isfinite(row["ratio"]):
        more.append(f"{'> ' if row['bound'] else ''}{float(format(row['ratio'], '.2g')):g}x")
    return f"{short(row['at'])} ({'; '.join(more)})" if more else short(row["at"])
