"""Large batches: steps and examples to one level, each method tuned again at each batch size.

A larger batch makes the gradient, and the curvature, less noisy. Where noise limits a method, twice the batch
halves the steps: perfect scaling, and the reason to add workers. Where curvature limits it, the steps stay
the same and the examples double. In between, for SGD [MKAOD18],

    steps(m) = S (1 + B / m),    examples(m) = m steps(m) = S (m + B)

with S the steps that are left however large the batch is, and B the batch at which they are twice that.
[BGM17] show K-FAC's examples to change little with the batch where SGD's grow; [MMYGKM19] find no such
difference. No method keeps its constants when the batch changes, so a comparison at one set of constants
says little [SLARFD19]: here each point is the best of a random search of its own, on the same budget for all
methods, counted in trials, steps and examples rather than in seconds. The same seed gives the same sweep on
any machine, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from ..display import ShownByFields
from ..optim import checks
from ..races.contenders import Contender
from ..races.problems import Problem
from ..races.race import MEASURES, in_range, median_and_ends, reached, short
from ..races.search import LogUniform, Space, drawn
from ..reading import one_error
from ..training import records
from ..training.describe import describe, differences, digest
from ..training.loop import Optimizer, train
from ..training.progress import progress_bar
from ..training.records import History, PerOctave, Record
from ..writing import sole_writer

LEVELS: dict[str, dict[str, float]] = {
    "digits": {"loss": 0.1},
    "digits-autoencoder": {"loss": 21.0},
    "mnist-autoencoder": {"loss": 80.0},
}
"""Where problems are raced to, unless another level is named: low enough that curvature matters."""
FIXED: dict[str, dict[str, Any]] = {
    "K-FAC": {"tau1": 1.0, "tau2": 1.0},
    "K-FAC tridiagonal": {"tau1": 1.0, "tau2": 1.0},
}
"""What is not drawn: an eighth of a small batch makes no factors, and each method draws two constants."""
PER_OCTAVE = 8
"""Measurements while the number of steps doubles."""
NEAR = 0.1
"""A tuned value counts as at the end of its range within this share of it, on its log scale."""


@dataclass(frozen=True)
class Budget:
    """The budget of each method at each batch size.

    Attributes:
        trials: draws of the random search, from one start.
        steps: of a run at most,
        epochs: or passes through the training set, whichever is more steps.
        finalists: trials that are run again,
        seeds: from so many other starts; the best is the one whose median of steps is lowest.
    """

    trials: int = 16
    steps: int = 300
    epochs: float = 40.0
    finalists: int = 3
    seeds: int = 3

    def __post_init__(self) -> None:
        for name in ("trials", "steps", "finalists", "seeds"):
            checks.count(**{name: getattr(self, name)})
        checks.not_negative(epochs=self.epochs)

    def most_steps(self, n: int, m: int) -> int:
        """Steps of a run at most, for n training examples in batches of m.

        >>> budget = Budget(steps=300, epochs=40)
        >>> budget.most_steps(1500, 64), budget.most_steps(1500, 1500)
        (938, 300)
        """
        return max(self.steps, math.ceil(self.epochs * n / m))

    def __str__(self) -> str:
        return (
            f"{self.trials} trials of at most {self.steps:,} steps or {self.epochs:g} epochs, whichever is "
            f"more; the best {self.finalists} again from {self.seeds} other start{'s' * (self.seeds != 1)}"
        )


@dataclass(frozen=True)
class Knee:
    """steps(m) = S (1 + B / m) [MKAOD18].

    Attributes:
        S: steps that no batch saves.
        B: the batch at which steps are 2 S; at most doubled steps and at most doubled examples meet here.
        bounded: False where the points lie on one side of the knee so far that B is only a bound.
    """

    S: float
    B: float
    bounded: bool

    def steps(self, m: Any) -> Any:
        """Steps at batches of m."""
        return self.S * (1 + self.B / m)


@dataclass(repr=False)
class Scaling(ShownByFields):
    """The runs of :func:`batch_sweep`.

    Attributes:
        about: problem, level, budget, ranges.
        rows: one record a run, see :func:`batch_sweep`.
    """

    about: dict[str, Any]
    rows: list[Record] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """Names, in the order in which they ran."""
        return list(dict.fromkeys(row["method"] for row in self.rows))

    @property
    def batch_sizes(self) -> np.ndarray:
        """Sizes of the batch that ran, ascending."""
        return np.array(sorted({row["batch_size"] for row in self.rows}))

    @property
    def target(self) -> tuple[str, float]:
        """Column and level."""
        ((column, level),) = self.about["target"].items()
        return column, level

    def best(self, method: str, m: int) -> list[Record]:
        """Return the runs of the best finalist, one a start; none where every trial diverged."""
        by_trial: dict[int, list[Record]] = {}
        for row in self.rows:
            if (row["kind"], row["method"], row["batch_size"]) == ("final", method, m):
                by_trial.setdefault(row["trial"], []).append(row)
        return min(by_trial.values(), key=lambda runs: (_median(runs), _median(runs, "lowest")), default=[])

    def to_target(self, along: str = "steps") -> dict[str, np.ndarray]:
        """Return median, lowest and highest of the best runs, (3, m) by method; nan where not reached.

        A run that never reached it is later than all that did.

        Args:
            along: "steps" or "examples".
        """
        scale = self.batch_sizes if along == "examples" else 1
        targets = {}
        for method in self.methods:
            runs = [self.best(method, m) for m in self.batch_sizes]
            steps = [median_and_ends([row["steps"] for row in rows] or [math.nan]) for rows in runs]
            targets[method] = np.array(steps).T * scale
        return targets

    def curves(self, method: str) -> dict[int, np.ndarray]:
        """Return steps, examples and the column raced for, (3, k), of the middle one of the best runs."""
        curves = {}
        for m in self.batch_sizes:
            runs = sorted(self.best(method, m), key=lambda row: _late(row["steps"]))
            if runs:
                step, value = np.array(runs[(len(runs) - 1) // 2]["curve"], dtype=float).T
                curves[int(m)] = np.array([step, m * step, value])
        return curves

    def knee(self, method: str) -> Knee | None:
        """Fit steps(m) = S (1 + B / m) to the medians; None with fewer than three."""
        steps = self.to_target()[method][0]
        reached = np.isfinite(steps)
        return fit_knee(self.batch_sizes[reached], steps[reached]) if reached.sum() >= 3 else None

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return a header and a row of text per method and size of the batch."""
        header = ["method", "batch", "steps", "examples", "perfect steps", "arguments"]
        cells = []
        for method, steps in self.to_target().items():
            (reached,) = np.nonzero(np.isfinite(steps[0]))
            # steps times examples a step, where nothing is lost from the smallest batch on
            perfect = steps[0, reached[0]] * self.batch_sizes[reached[0]] if len(reached) else math.nan
            for m, (middle, low, high) in zip(self.batch_sizes, steps.T, strict=True):
                counts = [in_range(middle, low, high), short(middle * m), short(perfect / m)]
                cells.append([method, f"{m:,}", *counts, self._arguments(method, int(m))])
        return header, cells

    def _arguments(self, method: str, m: int) -> str:
        """The best arguments, and of which the range was too small."""
        runs = self.best(method, m)
        if not runs:
            return "-"
        arguments = ", ".join(f"{key}={_short(value)}" for key, value in runs[0]["arguments"].items())
        edge = runs[0]["at an end"]
        return arguments + (f"  (at an end: {', '.join(edge)})" if edge else "")


def fit_knee(batch_sizes: Any, steps: Any) -> Knee:
    """Fit S and B to steps at sizes of the batch, least squares of their logarithms.

    >>> m = np.array([64, 256, 1024])
    >>> knee = fit_knee(m, 50 * (1 + 300 / m))
    >>> round(knee.S, 3), round(knee.B, 2), knee.bounded
    (50.0, 300.0, True)

    Raises:
        ValueError: on fewer than two points, or values that are not positive.
    """
    m, counts = (np.asarray(values, dtype=float) for values in (batch_sizes, steps))
    if m.shape != counts.shape or m.ndim != 1 or len(m) < 2:
        raise ValueError(f"expected two sizes and steps at least, got shapes {m.shape} and {counts.shape}")
    if not ((m > 0).all() and (counts > 0).all() and np.isfinite(counts).all()):
        raise ValueError("expected finite positive sizes and steps, got others")

    def log_S(log_B: float) -> np.ndarray:
        return np.log(counts) - np.log1p(math.exp(log_B) / m)

    low, high = math.log(m.min() / 100), math.log(m.max() * 100)
    grid = np.linspace(low, high, 200)
    start = int(np.argmin([log_S(at).var() for at in grid]))
    bounds = (grid[max(0, start - 1)], grid[min(len(grid) - 1, start + 1)])
    log_B = float(minimize_scalar(lambda at: log_S(at).var(), bounds=bounds, options={"xatol": 1e-9}).x)
    inside = m.min() / 10 < math.exp(log_B) < m.max() * 10
    return Knee(float(np.exp(log_S(log_B).mean())), math.exp(log_B), bool(inside))


def batch_sizes(n: int, smallest: int = 64) -> list[int]:
    """Powers of two times the smallest, up to the whole training set.

    >>> batch_sizes(1500)
    [64, 128, 256, 512, 1024, 1500]

    Raises:
        ValueError: if the smallest is not from 1 to n.
    """
    checks.count(smallest=smallest)
    if smallest > n:
        raise ValueError(f"expected the smallest batch from 1 to {n}, the training set, got {smallest}")
    doubled = (smallest * 2**k for k in range(n.bit_length()))
    return [*(m for m in doubled if m < n), n]


def batch_sweep(
    problem: Problem,
    methods: Sequence[Contender],
    sizes: Sequence[int],
    target: Mapping[str, float] | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    path: str | Path | None = None,
    existing: str = "refuse",
    progress: bool = True,
) -> Scaling:
    """Tune each method at each size of the batch, and count steps to the target.

    Trial i of every search draws ``default_rng([seed, i, 2])``, so one method's trials are the same at all
    sizes. A trial ends when it can no longer be among the best few: that saves time and changes no result.

    A row of the result is a run: ``kind`` ("trial", or "final" from another start), ``method``,
    ``batch_size``, ``trial``, ``seed``, ``arguments``, ``steps`` to the target (nan: not reached), ``ended``
    ("target", "budget", "too late" or "diverged"), ``made`` steps, ``lowest`` value of the column,
    ``seconds``; of finals also ``curve``, pairs of step and value, and ``at an end``, the arguments of which
    the range was too small.

    Args:
        problem: what is learned; trials start at its ``theta(seed)``, finals at ``theta(seed + 1)`` ...
        methods: optimizers with their ranges; what is fixed of them is in their ``arguments``.
        sizes: examples per step.
        target: a column of the records and the level at which a run ends; of :data:`LEVELS` by default.
        budget: the same for all.
        seed: of draws, starts, orders and sampled targets.
        path: a file of records that rows are appended to as they are found.
        existing: "refuse" a file that is there, "resume" it (runs that it holds are not made again), or
            "replace" it.
        progress: show bars.

    Raises:
        ValueError: on no methods, sizes outside the training set, a target that is not measured, or a file
            of another sweep.
        FileExistsError: on a file that is there, unless it shall be resumed or replaced, or that another run
            writes.
    """
    budget = Budget() if budget is None else budget
    n = len(problem.dataset.x_train)
    if not methods or not len(sizes):
        raise ValueError(f"expected at least one method and one size, got {len(methods)} and {len(sizes)}")
    for m in sizes:
        checks.count(sizes=m)
    outside = [m for m in sizes if m > n]
    if outside:
        raise ValueError(f"expected sizes from 1 to {n}, the training set, got {outside[0]}")
    about = _about(problem, methods, target, budget, seed)
    with nullcontext() if path is None else sole_writer(Path(path).parent, Path(path).name):
        scaling = Scaling(about, _rows(path, existing, about))
        for method in methods:
            for m in sizes:
                name = f"{method.name}, {m:,} a step"
                search = _Search(problem, method, int(m), scaling, seed, path)
                with progress_bar(name, budget.trials + budget.finalists * budget.seeds, progress) as bar:
                    for note in search.run(budget):
                        bar.advance(note)
    return scaling


@dataclass(frozen=True)
class _Search:
    """The search of one method at one size of the batch."""

    problem: Problem
    method: Contender
    m: int
    scaling: Scaling
    seed: int
    path: str | Path | None

    def run(self, budget: Budget) -> Iterator[str]:
        """Make the runs that are missing; yield a note after each."""
        most = budget.most_steps(len(self.problem.dataset.x_train), self.m)
        trials: list[Record] = []
        for trial in range(budget.trials):
            times = sorted(_late(row["steps"]) for row in trials)
            # later than so many others it cannot be a finalist
            worst = times[budget.finalists - 1] if len(times) >= budget.finalists else math.inf
            cap = most if worst == math.inf else min(most, math.ceil(worst))
            trials.append(self._row("trial", trial, self.seed, cap, most))
            yield f"best {short(min(_late(row['steps']) for row in trials))} steps"
        ranked = sorted(
            (row for row in trials if row["ended"] != "diverged"),
            key=lambda row: (_late(row["steps"]), row["lowest"]),
        )
        for finalist in ranked[: budget.finalists]:
            for start in range(1, budget.seeds + 1):
                row = self._row("final", finalist["trial"], self.seed + start, most, most)
                yield f"from another start {short(row['steps'])} steps"

    def _row(self, kind: str, trial: int, seed: int, cap: int, most: int) -> Record:
        key = {"kind": kind, "method": self.method.name, "batch_size": self.m, "trial": trial, "seed": seed}
        for row in self.scaling.rows:
            if all(row[name] == value for name, value in key.items()):
                return row
        arguments = drawn(self.method.space, self.seed, trial)
        opt = self.method.make(self.problem.net, **arguments)
        row = key | {"arguments": describe(arguments)} | self._run(opt, seed, cap, most, kind == "final")
        if kind == "final":
            row["at an end"] = near_an_end(self.method.space, arguments)
        self.scaling.rows.append(row)
        if self.path is not None:
            records.append(self.path, row)
        return row

    def _run(self, opt: Optimizer, seed: int, cap: int, most: int, keep_curve: bool) -> Record:
        seen: list[Record] = []
        ended = "budget" if cap == most else "too late"
        problem, measure = self.problem, PerOctave(PER_OCTAVE)
        column, level = self.scaling.target
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # some trials diverge: that is a result
                train(
                    problem.net,
                    problem.theta(seed),
                    opt,
                    problem.dataset,
                    cap,
                    self.m,
                    seed,
                    measure,
                    progress=False,
                    target={column: level},
                    on_record=seen.append,
                )
        except FloatingPointError:
            ended = "diverged"
        steps = reached(History(seen), column, level, "step") if seen else math.nan
        last = seen[-1] if seen else {"step": 0, "seconds": 0.0}
        run = {
            "steps": steps,
            "ended": "target" if math.isfinite(steps) else ended,
            "made": last["step"],
            "lowest": min((record[column] for record in seen), default=math.inf),
            "seconds": last["seconds"],
        }
        if keep_curve:
            run["curve"] = [[record["step"], float(f"{record[column]:.6g}")] for record in seen]
        return run


def near_an_end(space: Space, arguments: Mapping[str, Any]) -> list[str]:
    """Return the arguments that lie within a tenth of the end of their range, on its log scale.

    >>> [near_an_end({"lr": LogUniform(1e-4, 1.0)}, {"lr": lr}) for lr in (0.7, 0.1)]
    [['lr'], []]
    """
    names = []
    for name, values in space.items():
        if isinstance(values, LogUniform) and values.low < values.high:
            share = math.log(arguments[name] / values.low) / math.log(values.high / values.low)
            if not NEAR <= share <= 1 - NEAR:
                names.append(name)
    return names


def _about(
    problem: Problem,
    methods: Sequence[Contender],
    target: Mapping[str, float] | None,
    budget: Budget,
    seed: int,
) -> dict[str, Any]:
    """What every row depends on; methods and sizes may be added to a file, trials not."""
    if target is None:
        if problem.name not in LEVELS:
            raise ValueError(
                f"expected a target, as only {', '.join(LEVELS)} have one of their own, got none for "
                f"{problem.name}"
            )
        target = LEVELS[problem.name]
    if len(target) != 1 or next(iter(target)) not in MEASURES:
        raise ValueError(
            f"expected one target among {', '.join(MEASURES)}, got {', '.join(target) or 'none'}"
        )
    data = problem.dataset
    return {
        "sweep": problem.name,
        "net": describe(problem.net),
        "parameters": problem.net.n_params,
        "dtype": data.x_train.dtype.name,
        "training examples": len(data.x_train),
        "contents (sha256)": digest(data.x_train, data.y_train, data.x_test, data.y_test),
        "target": {column: float(level) for column, level in target.items()},
        "budget": describe(budget),
        "seed": seed,
        "methods": {
            method.name: {"arguments": describe(method.arguments), "space": describe(method.space)}
            for method in methods
        },
    }


def _rows(path: str | Path | None, existing: str, about: dict[str, Any]) -> list[Record]:
    """Rows of the file that is resumed; write its head anew."""
    checks.choice(("refuse", "resume", "replace"), existing=existing)
    if path is None:
        return []
    path = Path(path)
    rows: list[Record] = []
    if path.exists() and existing == "refuse":
        raise FileExistsError(
            f"expected no sweep in {path} yet, got one; resume it, replace it, or choose another"
        )
    if path.exists() and existing == "resume":
        old = read(path)
        before = old.about.get("methods", {})
        others = list(differences({**about, "methods": None}, {**old.about, "methods": None}))
        for name in (name for name in about["methods"] if name in before):
            others += differences(about["methods"][name], before[name], name)
        if others:
            raise ValueError(
                f"expected {path} to hold the same sweep, got one of another: {'; '.join(others[:3])}"
            )
        about["methods"] = {**before, **about["methods"]}
        rows = old.rows
    records.write(path, about, rows)
    return rows


def read(path: str | Path) -> Scaling:
    """Read a sweep from its file.

    Raises:
        ValueError: on a file of other records.
    """
    stored = records.read(path)
    scaling = Scaling(stored.about, stored.records)
    with one_error(path, "records of a sweep over batch sizes", "others"):
        numbers = [scaling.target[1], len(stored.about["sweep"])]
        for row in scaling.rows:
            numbers += [row["batch_size"], row["steps"], row["lowest"], len(row["kind"]), len(row["method"])]
        np.array(numbers, dtype=float)
    return scaling


def _late(steps: float) -> float:
    """Not reached is later than all numbers."""
    return steps if math.isfinite(steps) else math.inf


def _median(runs: Sequence[Record], key: str = "steps") -> float:
    return float(np.median([_late(row[key]) for row in runs]))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
