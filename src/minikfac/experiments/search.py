"""Tuning: random search over stated ranges, each optimizer with the same budget of training time.

Every trial draws its arguments from the ranges, trains for the same time from the same start, and is judged
by where it ends; one that diverges counts as infinitely bad. Trials go on until the budget is spent. The best
is then run again from several seeds, and what is reported of it is the median and the range of those runs,
not the trial that happened to win.

Trial i draws from ``default_rng([seed, i, 2])``: a search with a larger budget begins with the same trials.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import records
from .batches import BatchSize
from .describe import describe
from .problems import Problem
from .progress import progress_bar
from .records import Record
from .training import Optimizer, train, warm_up


class Range(Protocol):
    """What an argument is drawn from."""

    def draw(self, rng: Any) -> Any: ...


@dataclass(frozen=True)
class LogUniform:
    """All magnitudes from low to high are equally likely.

    >>> LogUniform(1e-3, 1.0).draw(np.random.default_rng(0))
    0.0814...
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"expected 0 < low <= high, got {self.low} and {self.high}")

    def draw(self, rng: Any) -> float:
        return float(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("expected at least one value to choose from, got none")

    def draw(self, rng: Any) -> Any:
        return self.values[int(rng.integers(len(self.values)))]


Space = Mapping[str, Range]
"""Ranges by argument; ``batch_size`` among them goes to the loop."""


@dataclass
class Search:
    """What a search found.

    Attributes:
        about: problem, ranges, budget: what makes the result one that can be judged.
        trials: records of ``trial``, ``arguments`` in words, ``score``, ``steps`` and ``seconds``.
        best: the arguments of the best trial, ready to be used.
        finals: records of the best from several seeds: ``seed``, ``score``, ``steps``, ``seconds``.
    """

    about: dict[str, Any]
    trials: list[Record] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    finals: list[Record] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Training time of all trials."""
        return sum(trial["seconds"] for trial in self.trials)

    @property
    def median(self) -> float:
        """Of the scores of the best from several seeds."""
        return float(np.median([final["score"] for final in self.finals])) if self.finals else math.nan

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest of them."""
        scores = [final["score"] for final in self.finals] or [math.nan]
        return min(scores), max(scores)

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
    progress: bool | str = True,
) -> Search:
    """Tune an optimizer on a problem.

    Args:
        problem: the problem; its ``theta(0)`` is where all trials start.
        make: called with the net and what was drawn.
        space: ranges of the arguments.
        budget: seconds of training of all trials together; measurements do not count. A trial that began
            in time is finished.
        trial_seconds: seconds of training of each.
        column: by whose last value a trial is judged; less is better.
        batch_size: where the space does not say; the problem's by default.
        seed: of what is drawn.
        seeds: runs of the best, from ``theta(1)``, ``theta(2)`` ..., not counted in the budget.
        progress: show a bar, of this name if it is a text.

    Raises:
        ValueError: on no time, or a column that is not measured.
        FloatingPointError: if every trial diverged.
    """
    if not (budget > 0 and trial_seconds > 0):
        raise ValueError(f"expected budget and trial_seconds > 0, got {budget} and {trial_seconds}")
    if seeds < 0:
        raise ValueError(f"expected seeds >= 0, got {seeds}")
    size = problem.batch_size if batch_size is None else batch_size
    about = {
        "search": problem.name,
        "parameters": problem.net.n_params,
        "space": describe(space),
        "budget in seconds": budget,
        "seconds of a trial": trial_seconds,
        "column": column,
        "batch_size": describe(size),
        "seed": seed,
    }
    found = Search(about)

    def made(arguments: Mapping[str, Any]) -> tuple[Optimizer, BatchSize]:
        others = {name: value for name, value in arguments.items() if name != "batch_size"}
        return make(problem.net, **others), arguments.get("batch_size", size)

    opt, own_size = made(_drawn(space, seed, 0))
    warm_up(opt, problem.theta(), problem.dataset, own_size)
    name = progress if isinstance(progress, str) else "search"
    with progress_bar(name, math.ceil(budget / trial_seconds) + seeds, bool(progress)) as bar:
        best = math.inf
        while found.seconds < budget:
            arguments = _drawn(space, seed, len(found.trials))
            trial = _run(problem, *made(arguments), trial_seconds, column, 0)
            found.trials.append({"trial": len(found.trials), "arguments": describe(arguments)} | trial)
            if trial["score"] < best:
                best, found.best = trial["score"], arguments
            bar.advance(f"best {column.replace('_', ' ')} {best:.4g}")
        if not found.best:
            raise FloatingPointError(f"expected a trial that ends, got {len(found.trials)} that diverged")
        for start in range(1, seeds + 1):
            final = _run(problem, *made(found.best), trial_seconds, column, start)
            found.finals.append({"seed": start} | final)
            bar.advance()
    found.about |= {"best": describe(found.best), "median": found.median, "spread": list(found.spread)}
    return found


def _drawn(space: Space, seed: int, trial: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, trial, 2])
    return {name: own.draw(rng) for name, own in space.items()}


def _run(
    problem: Problem, opt: Optimizer, batch_size: BatchSize, seconds: float, column: str, seed: int
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
            max_seconds=seconds,
        )
    except FloatingPointError:
        return {"score": math.inf, "steps": None, "seconds": time.perf_counter() - started}
    last = history.records[-1]
    if column not in last:
        raise ValueError(f"expected a column among {', '.join(last)}, got {column!r}")
    score = last[column] if math.isfinite(last[column]) else math.inf
    return {"score": score, "steps": last["step"], "seconds": last["seconds"]}


def _at_the_end_only(step: int) -> bool:
    return False
