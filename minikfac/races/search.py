"""Tuning: random search over stated ranges, each optimizer with the same budget of training time.

Every trial draws its arguments from the ranges, trains for the same time from the same start, and is judged
by where it ends; one that diverges counts as infinitely bad. Trials go on until the budget is spent. The
best few are then run again from several other seeds, so that none wins by a lucky start: the best is the one
of the lowest median, and what is reported of it is the median and the range of those runs.

Trial i draws from ``default_rng([seed, i, 2])``: a search with a larger budget begins with the same trials.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

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
        """Values that an optimizer must take if it shall take them all."""


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
        if not 0 < self.low <= self.high:
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
        return tuple(
            self.kind(*parts) for parts in itertools.product(*(part.extremes for part in self.parts))
        )

    def draw(self, rng: Any) -> Any:
        return self.kind(*(part.draw(rng) for part in self.parts))


Space = Mapping[str, Range]
"""Ranges by argument; ``batch_size`` and ``averaging`` among them go to the loop."""


@dataclass
class Search:
    """What a search found.

    Attributes:
        about: problem, ranges, budget: what makes the result one that can be judged.
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
) -> Search:
    """Tune an optimizer on a problem.

    Args:
        problem: the problem; its ``theta(0)`` is where all trials start.
        make: called with the net and what was drawn.
        space: ranges of the arguments.
        budget: seconds of training of all trials together; measurements do not count. A trial that began
            in time is finished.
        trial_seconds: seconds of training of each.
        column: by whose last value a trial is judged; less is better. ``best_loss`` is the lower of the
            iterate's and the average's, see :mod:`.compare`.
        batch_size: where the space does not say; the problem's by default.
        seed: of what is drawn.
        seeds: runs of each of the best few, from ``theta(1)``, ``theta(2)`` ..., not counted in the budget.
        finalists: how many trials these are, 3 by default.
        progress: show a bar, of this name if it is a text.
        averaging: of the iterates, as of :func:`.train`, where the space does not say.

    Raises:
        ValueError: on no time, a column that is not measured, or a setting that the space draws anyway.
        FloatingPointError: if every trial diverged.
    """
    if not (budget > 0 and trial_seconds > 0):
        raise ValueError(f"expected budget and trial_seconds > 0, got {budget} and {trial_seconds}")
    if seeds == 0 and finalists is not None:
        raise ValueError(f"expected finalists only with seeds from which they run again, got {finalists}")
    finalists = 3 if finalists is None else finalists
    if seeds < 0 or finalists < 1:
        raise ValueError(f"expected seeds >= 0 and finalists >= 1, got {seeds} and {finalists}")
    for name, value in (("batch_size", batch_size), ("averaging", averaging)):
        if value is not None and name in space:
            raise ValueError(f"expected {name} either drawn from the space or given, got both")
    size = problem.batch_size if batch_size is None else batch_size
    about = {
        "search": problem.name,
        "parameters": problem.net.n_params,
        "space": describe(space),
        "budget in seconds": budget,
        "seconds of a trial": trial_seconds,
        "column": column,
        "finalists": finalists if seeds else None,
        "seeds": seeds,
        "batch_size": describe(size),
        "averaging": describe(averaging),
        "seed": seed,
    }
    found = Search(about)

    def made(arguments: Mapping[str, Any]) -> tuple[Optimizer, BatchSize, Averaging | None]:
        others = dict(arguments)
        of_loop = others.pop("batch_size", size), others.pop("averaging", averaging)
        return make(problem.net, **others), *of_loop

    opt, first_size, _ = made(drawn(space, seed, 0))
    warm_up(opt, problem.theta(), problem.dataset, first_size)
    name = progress if isinstance(progress, str) else "search"
    tried: list[dict[str, Any]] = []
    with progress_bar(name, math.ceil(budget / trial_seconds) + seeds * finalists, bool(progress)) as bar:
        while found.seconds < budget:
            tried.append(drawn(space, seed, len(tried)))
            trial = _run(problem, *made(tried[-1]), trial_seconds, column, 0)
            found.trials.append({"trial": len(found.trials), "arguments": describe(tried[-1])} | trial)
            lowest = min(own["score"] for own in found.trials)
            bar.advance(f"best {column.replace('_', ' ')} {lowest:.4g}")
        ranked = sorted(
            (own for own in found.trials if own["score"] < math.inf), key=lambda own: own["score"]
        )
        if not ranked:
            raise FloatingPointError(f"expected a trial that ends, got {len(found.trials)} that diverged")
        results = []
        for finalist in ranked[:finalists]:
            number = finalist["trial"]
            for start in range(1, seeds + 1):
                final = _run(problem, *made(tried[number]), trial_seconds, column, start)
                found.finals.append({"trial": number, "seed": start} | final)
                bar.advance()
            own = [final["score"] for final in found.finals if final["trial"] == number]
            results.append((own or [finalist["score"]], number))
    found.scores, best = min(results, key=lambda result: float(np.median(result[0])))
    found.best = tried[best]
    found.about |= {"trials": len(found.trials), "minutes in all": found.minutes}
    found.about |= {"best": describe(found.best), "median": found.median, "spread": list(found.spread)}
    return found


def drawn(space: Space, seed: int, trial: int) -> dict[str, Any]:
    """The arguments of a trial of a search with this seed."""
    rng = np.random.default_rng([seed, trial, 2])
    return {name: own.draw(rng) for name, own in space.items()}


def _run(
    problem: Problem,
    opt: Optimizer,
    batch_size: BatchSize,
    averaging: Averaging | None,
    seconds: float,
    column: str,
    seed: int,
) -> Record:
    """One run, measured at its start and its end."""
    started = time.perf_counter()
    try:
        history = train(
            problem.net,
            problem.theta(seed),
            opt,
            problem.dataset,
            None,
            batch_size,
            seed,
            _at_the_end_only,
            progress=False,
            averaging=averaging,
            max_seconds=seconds,
        )
    except FloatingPointError:
        return {"score": math.inf, "steps": None, "seconds": time.perf_counter() - started}
    try:
        found = float(column_of(history, column)[-1])
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    last, score = history.records[-1], found if math.isfinite(found) else math.inf
    return {"score": score, "steps": last["step"], "seconds": last["seconds"]}


def _at_the_end_only(step: int) -> bool:
    return False
