"""Tuning: random search over stated ranges, each optimizer with the same budget of training time.

Every trial draws its arguments from the ranges, trains for the same time from the same start, and is judged
by its loss at the end; one that diverges counts as infinitely bad. Trials go on until the budget is spent.
The best few are then run again from several other seeds, so that none wins by a lucky start: the best is the
one of the lowest median, and what is reported of it is the median and the range of those runs.

Trial i draws from ``default_rng([seed, i, 2])``: a search with a larger budget begins with the same trials.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..display import ShownByFields
from ..optim import checks
from ..training import records
from ..training.averaging import Averaging
from ..training.batches import BatchSize
from ..training.describe import describe
from ..training.loop import Optimizer, train, warm_up
from ..training.progress import progress_bar
from ..training.records import Record
from .problems import Problem
from .race import column_of


class Range(Protocol):
    """What an argument is drawn from."""

    def draw(self, rng: Any) -> Any: ...

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Extreme values: an optimizer that accepts them accepts all."""


@dataclass(frozen=True)
class LogUniform:
    """All magnitudes from low to high are equally likely.

    >>> LogUniform(1e-3, 1.0).draw(np.random.default_rng(0))
    0.0814...
    """

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def __post_init__(self) -> None:
        checks.positive(low=self.low, high=self.high)
        if not self.low <= self.high:
            raise ValueError(f"expected 0 < low <= high, got {self.low} and {self.high}")

    @property
    def extremes(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high

    def draw(self, rng: Any) -> float:
        return float(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("expected at least one value to choose from, got none")

    @property
    def extremes(self) -> tuple[Any, ...]:
        """All values."""
        return self.values

    def draw(self, rng: Any) -> Any:
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True)
class Built:
    """What ``kind`` makes of drawn parts, such as a schedule of a drawn rate.

    >>> from minikfac.optim.schedules import InverseTime
    >>> Built(InverseTime, (LogUniform(1e-3, 1.0), Choice((500, 2000)))).draw(np.random.default_rng(0))
    InverseTime(start=0.0814..., timescale=2000)
    """

    kind: Callable[..., Any]
    parts: tuple[Range, ...]

    def __str__(self) -> str:
        return f"{getattr(self.kind, '__name__', self.kind)} of {', then '.join(map(str, self.parts))}"

    @property
    def extremes(self) -> tuple[Any, ...]:
        """What is made of the extremes of its parts, in all combinations."""
        return tuple(self.kind(*ends) for ends in product(*(part.extremes for part in self.parts)))

    def draw(self, rng: Any) -> Any:
        return self.kind(*(part.draw(rng) for part in self.parts))


Space = Mapping[str, Range]
"""Ranges by argument; ``batch_size`` and ``averaging`` among them go to the loop."""


@dataclass(repr=False)
class Search(ShownByFields):
    """The trials of a search, and the best of them.

    Attributes:
        about: problem, ranges, budget: what is needed to judge the result.
        trials: records of ``trial``, ``arguments`` in words, ``score``, ``steps`` and ``seconds``.
        finals: records of the best few from other seeds, with ``seed`` in the place of ``arguments``.
        best: the arguments of the best of these, ready to be used.
        scores: those of the best, one a seed; of the best trial where there were no other seeds.
    """

    about: dict[str, Any]
    trials: list[Record] = field(default_factory=list)
    finals: list[Record] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Training time of all trials."""
        return sum(trial["seconds"] for trial in self.trials)

    @property
    def minutes(self) -> float:
        """Training time of all trials and final runs, in minutes."""
        return sum(run["seconds"] for run in (*self.trials, *self.finals)) / 60

    @property
    def median(self) -> float:
        """Of the scores of the best."""
        return float(np.median(self.scores))

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest of them."""
        return min(self.scores), max(self.scores)

    def ranking(self) -> list[int]:
        """Numbers of the trials, the best first, without those that diverged.

        Raises:
            FloatingPointError: if every trial diverged.
        """
        ended = [trial for trial in self.trials if trial["score"] < math.inf]
        if not ended:
            raise FloatingPointError(f"expected a trial that ends, got {len(self.trials)} that diverged")
        return [trial["trial"] for trial in sorted(ended, key=lambda trial: trial["score"])]

    def scores_of(self, number: int) -> list[float]:
        """Scores of a trial's runs from other seeds, or of the trial itself where there were none."""
        finals = [final["score"] for final in self.finals if final["trial"] == number]
        return finals or [self.trials[number]["score"]]

    def write(self, path: str | Path) -> None:
        """Write trials and final runs as records; :func:`.records.read` reads them."""
        records.write(path, self.about, [*self.trials, *self.finals])


def random_search(
    problem: Problem,
    make: Callable[..., Optimizer],
    space: Space,
    budget: float,
    trial_seconds: float,
    column: str = "loss",
    batch_size: BatchSize | None = None,
    seed: int = 0,
    seeds: int = 3,
    finalists: int | None = None,
    progress: bool | str = True,
    averaging: Averaging | None = None,
    clock: Callable[[], float] | None = None,
) -> Search:
    """Tune an optimizer on a problem.

    Args:
        problem: the problem; its ``theta(0)`` is where all trials start.
        make: called with the net and what was drawn.
        space: ranges of the arguments.
        budget: seconds of training in all trials; measurements do not count, a trial begun in time ends.
        trial_seconds: seconds of training of each.
        column: by whose last value a trial is judged; less is better. ``best_loss`` is the lower of the
            iterate's and the average's, see :mod:`.race`.
        batch_size: where the space does not say; the problem's by default.
        seed: of what is drawn.
        seeds: runs of each of the best few, from ``theta(1)``, ``theta(2)`` ..., not counted in the budget.
        finalists: how many trials these are, 3 by default.
        progress: show a bar, of this name if it is a text.
        averaging, clock: as of :func:`.train`; the former where the space does not say.

    Raises:
        ValueError: on no time, a column that is not measured, or a setting that the space draws anyway.
        FloatingPointError: if every trial diverged.
    """
    count = _finalists(budget, trial_seconds, seeds, finalists)
    _check_given(space, batch_size=batch_size, averaging=averaging)
    size = problem.batch_size if batch_size is None else batch_size
    now = clock or time.perf_counter
    trials = _Trials(problem, make, space, size, averaging, trial_seconds, column, seed, now)
    search = Search(
        trials.about | {"budget in seconds": budget, "finalists": count if seeds else None, "seeds": seeds}
    )
    title = progress if isinstance(progress, str) else "search"
    trials.warm_up()
    with progress_bar(title, math.ceil(budget / trial_seconds) + seeds * count, bool(progress)) as bar:
        while search.seconds < budget:
            search.trials.append(trials.run(len(search.trials)))
            bar.advance(f"best {column.replace('_', ' ')} {min(t['score'] for t in search.trials):.4g}")
        ranking = search.ranking()[:count]
        for number in ranking:
            for start in range(1, seeds + 1):
                search.finals.append(trials.run(number, start))
                bar.advance()
    best = min(ranking, key=lambda number: float(np.median(search.scores_of(number))))
    search.best, search.scores = drawn(space, seed, best), search.scores_of(best)
    search.about |= {"trials": len(search.trials), "minutes in all": search.minutes}
    search.about |= {"best": describe(search.best), "median": search.median, "spread": list(search.spread)}
    return search


def _finalists(budget: float, trial_seconds: float, seeds: int, finalists: int | None) -> int:
    """How many trials run again, once what was given is checked."""
    checks.positive(budget=budget, trial_seconds=trial_seconds)
    checks.count(0, seeds=seeds)
    if seeds == 0 and finalists is not None:
        raise ValueError(f"expected finalists only with seeds from which they run again, got {finalists}")
    count = 3 if finalists is None else finalists
    checks.count(finalists=count)
    return count


def _check_given(space: Space, **settings: Any) -> None:
    for name, value in settings.items():
        if value is not None and name in space:
            raise ValueError(f"expected {name} either drawn from the space or given, got both")


def drawn(space: Space, seed: int, trial: int) -> dict[str, Any]:
    """The arguments of a trial of a search with this seed."""
    rng = np.random.default_rng([seed, trial, 2])
    return {name: values.draw(rng) for name, values in space.items()}


@dataclass(frozen=True)
class _Trials:
    """What the trials of a search share; a trial is its number, from which its arguments are drawn."""

    problem: Problem
    make: Callable[..., Optimizer]
    space: Space
    batch_size: BatchSize
    averaging: Averaging | None
    seconds: float
    column: str
    seed: int
    clock: Callable[[], float]

    @property
    def about(self) -> dict[str, Any]:
        return {
            "search": self.problem.name,
            "parameters": self.problem.net.n_params,
            "space": describe(self.space),
            "seconds of a trial": self.seconds,
            "column": self.column,
            "batch_size": describe(self.batch_size),
            "averaging": describe(self.averaging),
            "seed": self.seed,
        }

    def made(self, number: int) -> tuple[Optimizer, BatchSize, Averaging | None]:
        """The optimizer of a trial, and the settings of its loop."""
        arguments = drawn(self.space, self.seed, number)
        size = arguments.pop("batch_size", self.batch_size)
        averaging = arguments.pop("averaging", self.averaging)
        return self.make(self.problem.net, **arguments), size, averaging

    def warm_up(self) -> None:
        opt, batch_size, _ = self.made(0)
        warm_up(opt, self.problem.theta(), self.problem.dataset, batch_size)

    def run(self, number: int, start: int = 0) -> Record:
        """Run a trial, measured at its start and its end, or run it again from another start."""
        opt, batch_size, averaging = self.made(number)
        theta = self.problem.theta(start)
        trial: Record = {"trial": number}
        trial |= {"seed": start} if start else {"arguments": describe(drawn(self.space, self.seed, number))}
        began = self.clock()
        try:
            history = train(
                self.problem.net,
                theta,
                opt,
                self.problem.dataset,
                steps=None,
                batch_size=batch_size,
                seed=start,
                measure_every=lambda step: False,
                progress=False,
                averaging=averaging,
                max_seconds=self.seconds,
                clock=self.clock,
            )
        except FloatingPointError:
            return trial | {"score": math.inf, "steps": None, "seconds": self.clock() - began}
        try:
            score = float(column_of(history, self.column)[-1])
        except KeyError as error:
            raise ValueError(error.args[0]) from None
        last, score = history.records[-1], score if math.isfinite(score) else math.inf
        return trial | {"score": score, "steps": last["step"], "seconds": last["seconds"]}
