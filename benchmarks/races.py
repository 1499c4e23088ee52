"""The long races: optimizers tuned on one budget, then run from several seeds. Results are in docs/results/.

    python benchmarks/races.py tune mnist-autoencoder Nesterov --folder FOLDER    # random search; minutes
    python benchmarks/races.py run mnist-autoencoder Nesterov --seed 1 --folder FOLDER
    python benchmarks/races.py report mnist-autoencoder                           # tables and figures

Each is a run of its own, on one thread, so that one core is enough for it and two can go side by side. With
``--device cuda`` a GPU computes, and search, runs and report are kept in a folder of their own, RACE-gpu.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from minikfac import plots, races, training, use_device
from minikfac.optim.schedules import InverseTime, SutskeverMomentum, WarmUp
from minikfac.parallel import one_thread
from minikfac.plots.races import label
from minikfac.races.contenders import contender
from minikfac.races.race import file_name, in_range, median_and_ends, reached
from minikfac.races.search import Built, Choice, LogUniform, drawn, random_search
from minikfac.training import ExponentialBatches, History, Keep, PerStep, records

RESULTS = Path(__file__).parent.parent / "docs" / "results"
STEP_TIMES = Path(__file__).parent / "results" / "step_times.json"


@dataclass(frozen=True)
class Widening:
    """Measure every ``first`` steps up to the eighth time, then every ``then``: measuring takes seconds."""

    first: int
    then: int

    def __call__(self, step: int) -> bool:
        return step % (self.first if step < 8 * self.first else self.then) == 0


@dataclass(frozen=True)
class Racer:
    """One side of a race.

    Attributes:
        optimizer: its name for :func:`contender`.
        fixed: arguments that are not searched for, unless a round does.
        spaces: ranges of those that are, one for each round; ``batch_size`` and ``averaging`` may be among
            them.
        steps: of a run, at most.
        ends_at: training loss of the averaged parameters at which a run ends: a count of seconds would depend
            on what else the machine does.
        measure_every: when to measure on the whole set.
        tuned_as: another racer whose search serves this one too.
        round: of the search, from 1, whose best it takes; 0 for the last.
    """

    optimizer: str
    fixed: dict[str, Any]
    spaces: tuple[dict[str, Any], ...]
    steps: int
    ends_at: float
    measure_every: Widening
    tuned_as: str | None = None
    round: int = 0


@dataclass(frozen=True)
class Race:
    """A race.

    Attributes:
        racers: by name; the first is the baseline.
        rounds: of each search, (seconds of training in all trials, seconds of a trial, seeds from which the
            best three run again): wide ranges first, then narrow ones around the best. They are the same for
            all. Seconds are the processor's.
        column: by what a trial is judged at its end.
        shown: columns of the report besides the best loss.
        levels: to be reached, by column; else what the baseline had reached on its way.
        problem: its name, if not that of the race.
        width: of the problem's net, as a share of the paper's.
        compared: the racers of tables and figures, if not all.
    """

    racers: dict[str, Racer]
    rounds: tuple[tuple[float, float, int], ...]
    column: str
    shown: tuple[str, ...]
    levels: dict[str, list[float]] = field(default_factory=dict)
    problem: str | None = None
    width: float = 1.0
    compared: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[str, ...]:
        """Those of tables and figures, the baseline first."""
        return self.compared or tuple(self.racers)

    def load(self, name: str, folder: Path | None, device: str) -> races.Problem:
        return races.problem(self.problem or name, folder, width=self.width, device=device)


def _momenta(*largest: float) -> Choice:
    return Choice(tuple(SutskeverMomentum(mu) for mu in largest))


def _falling(low: float, high: float, *timescales: float) -> Built:
    """Rates that fall as 1 / (1 + k / timescale); an infinite timescale is a constant rate."""
    return Built(_rate, (LogUniform(low, high), Choice((*timescales, math.inf))))


def _rate(start: float, timescale: float) -> float | InverseTime:
    return InverseTime(start, timescale) if math.isfinite(timescale) else start


_NESTEROV = Racer(
    "Nesterov",
    {"l2": 1e-5, "averaging": PerStep(0.99)},
    (
        {
            "lr": LogUniform(1e-3, 0.3),
            "momentum": _momenta(0.9, 0.99, 0.995, 0.999),
            "batch_size": Choice((100, 250, 500, 1000)),
        },
        {
            "lr": LogUniform(4e-3, 4e-2),
            "momentum": _momenta(0.99, 0.995),
            "batch_size": Choice((100, 250)),
        },
        {
            "lr": LogUniform(3e-3, 3e-2),
            "momentum": _momenta(0.99, 0.995),
            "batch_size": Choice((100, 200)),
            "averaging": Choice((PerStep(0.99), PerStep(0.999))),
        },
        {
            "lr": _falling(3e-3, 3e-2, 2000, 8000),
            "momentum": _momenta(0.99, 0.995),
            "batch_size": Choice((32, 100, 200)),
            "averaging": Choice((PerStep(0.99), PerStep(0.999))),
        },
    ),
    steps=60_000,
    ends_at=55.0,
    measure_every=Widening(500, 1000),
    round=4,
)
_KFAC = Racer(
    "K-FAC",
    {"l2": 1e-5, "averaging": PerStep(0.99)},
    (
        {
            "lam": LogUniform(1.0, 300.0),
            "batch_size": Choice(
                (
                    *(500, 1000, 2000, 4000),
                    ExponentialBatches.reaching(60_000),
                    ExponentialBatches(1000, 60.0, 60_000),
                )
            ),
            "T3": Choice((5, 20)),
        },
        {"lam": LogUniform(0.03, 3.0), "batch_size": Choice((1000, 2000)), "T3": Choice((5, 20))},
        {
            "lam": LogUniform(0.03, 1.0),
            "batch_size": Choice(
                (
                    ExponentialBatches(500, 100.0, 60_000),
                    ExponentialBatches(1000, 120.0, 60_000),
                    ExponentialBatches(1000, 200.0, 60_000),
                )
            ),
            "T3": Choice((5, 20)),
            "averaging": Choice((PerStep(0.9), PerStep(0.95))),
        },
        {
            "lam": LogUniform(1e-3, 0.1),
            "gamma": LogUniform(2e-3, 0.3),
            "tau1": Choice((1 / 8, 1 / 2)),
            "batch_size": Choice((500, 1000, ExponentialBatches(500, 100.0, 60_000))),
            "averaging": Choice((PerStep(0.9), PerStep(0.95))),
        },
    ),
    steps=400,
    ends_at=55.0,
    measure_every=Widening(20, 20),
    round=4,
)


_SGD_CONV = Racer(
    "SGD",
    {"momentum": 0.9, "averaging": 6_400},
    (
        {
            "lr": _falling(1e-3, 0.1, 1000, 4000),
            "batch_size": Choice((64, 128, 256)),
        },
        {
            "lr": _falling(5e-3, 3e-2, 2000, 4000),
            "batch_size": Choice((64, 128)),
        },
        {
            "lr": _falling(3e-3, 3e-2, 2000, 8000),
            "batch_size": Choice((16, 32, 64)),
            "averaging": Choice((6_400, 50_000)),
        },
    ),
    steps=20_000,
    ends_at=0.4,
    measure_every=Widening(600, 1200),
)
_SGD_LARGE = replace(
    _SGD_CONV,
    fixed={**_SGD_CONV.fixed, "batch_size": 4096, "averaging": PerStep(0.99)},
    spaces=(
        {"lr": _falling(1e-2, 0.3, 100)},
        {"lr": _falling(3e-3, 3e-2, 100, 400)},
        {
            "lr": Built(WarmUp, (_falling(1e-2, 0.2, 100, 400), Choice((10, 30)))),
            "averaging": Choice((PerStep(0.9), PerStep(0.99))),
        },
    ),
    steps=700,
    ends_at=0.85,
    measure_every=Widening(10, 25),
)
# statistics and inverses are renewed as seldom as the cost of a step asks for, not tuned
_KFC = Racer(
    "KFC-pre",
    {"momentum": 0.9, "averaging": 6_400, "clip_norm": "kfac", "Ts": 5, "Tf": 20, "decay": 0.8},
    (
        {
            "lr": _falling(1e-3, 0.3, 250, 1000),
            "batch_size": Choice((128, 256, 512)),
            "damping": Choice((1e-3, 1e-2, 1e-1)),
            "clip": Choice((0.3, 1.0)),
        },
        {
            "lr": _falling(1.5e-3, 1e-2, 500, 1000),
            "batch_size": Choice((128, 256)),
            "damping": Choice((1e-2, 3e-2)),
            "clip": Choice((0.1, 0.3)),
        },
        {
            "lr": _falling(2e-3, 3e-2, 500, 2000),
            "batch_size": Choice((64, 128, 256)),
            "damping": Choice((1e-2, 3e-2)),
            "clip": Choice((1e-3, 1e-2)),
            "averaging": Choice((6_400, 50_000)),
        },
    ),
    steps=2500,
    ends_at=0.4,
    measure_every=Widening(40, 40),
)
_KFAC_CONV = Racer(
    "K-FAC",
    {"batch_size": 512, "averaging": 6_400, "T3": 10, "l2": 0.0},
    (
        *({}, {}),  # it joined in the third round
        {
            "lam": LogUniform(1e-2, 3.0),
            "gamma": LogUniform(5e-3, 0.3),
            "tau1": Choice((1 / 8, 1 / 2)),
            "batch_size": Choice((128, 256, 512)),
            "averaging": Choice((6_400, 50_000)),
        },
    ),
    steps=600,
    ends_at=0.4,
    measure_every=Widening(20, 20),
)
_KFAC_LARGE = replace(
    _KFAC_CONV,
    fixed={"batch_size": 4096, "T3": 5, "l2": 0.0},
    spaces=(
        *({}, {}),
        {
            **{k: v for k, v in _KFAC_CONV.spaces[2].items() if k != "batch_size"},
            "averaging": Choice((PerStep(0.9), PerStep(0.99))),
        },
    ),
    steps=70,
    ends_at=1.05,
    measure_every=Widening(2, 5),
)
RACES = {
    "cifar10-kfc": Race(
        {"SGD": _SGD_CONV, "KFC-pre": _KFC, "K-FAC": _KFAC_CONV},
        rounds=((480, 60, 0), (400, 100, 0), (480, 80, 1)),
        column="best_loss",
        shown=("best_train_error", "best_test_error"),
        levels={
            "best_loss": [1.2, 1.0, 0.7, 0.5, 0.4],
            "best_train_error": [0.4, 0.3, 0.2, 0.15],
            "best_test_error": [0.4, 0.35, 0.3, 0.29, 0.283],
        },
    ),
    "cifar10-kfc-paper-batches": Race(
        {
            "SGD": replace(
                _SGD_CONV,
                fixed={"momentum": 0.9, "batch_size": 128},
                spaces=({"lr": _falling(5e-3, 5e-2, 1000, 4000), "averaging": Choice((6_400, 50_000))},),
                ends_at=0.35,
                measure_every=Widening(200, 400),
            ),
            "KFC-pre": replace(
                _KFC,
                fixed={
                    "momentum": 0.9,
                    "batch_size": 512,
                    "clip_norm": "kfac",
                    "Ts": 2,
                    "Tf": 10,
                    "decay": 0.9,
                },
                spaces=(
                    {
                        "lr": _falling(2e-3, 3e-2, 100, 400),
                        "damping": Choice((1e-2, 3e-2)),
                        "clip": Choice((1e-3, 1e-2)),
                        "averaging": Choice((6_400, 50_000)),
                    },
                ),
                ends_at=0.35,
                measure_every=Widening(40, 40),
            ),
            "K-FAC": replace(
                _KFAC_CONV,
                fixed={"batch_size": 512, "T3": 10, "l2": 0.0},
                spaces=({k: v for k, v in _KFAC_CONV.spaces[2].items() if k != "batch_size"},),
                ends_at=0.35,
            ),
        },
        rounds=((480, 80, 1),),
        column="best_loss",
        shown=("best_train_error", "best_test_error"),
        levels={
            "best_loss": [1.2, 1.0, 0.7, 0.5, 0.4, 0.35],
            "best_train_error": [0.4, 0.3, 0.2, 0.15, 0.12],
            "best_test_error": [0.4, 0.35, 0.3, 0.28],
        },
        problem="cifar10-kfc",
    ),
    "cifar10-kfc-large-batches": Race(
        {
            "SGD": _SGD_LARGE,
            "KFC-pre": replace(
                _KFC,
                fixed={**_KFC.fixed, "batch_size": 4096, "averaging": PerStep(0.99), "Ts": 2, "Tf": 4},
                spaces=(
                    {
                        "lr": _falling(1e-2, 1.0, 50),
                        "damping": Choice((1e-3, 1e-2, 1e-1)),
                        "clip": Choice((0.3, 1.0, 3.0)),
                    },
                    {
                        "lr": _falling(2e-3, 3e-2, 50),
                        "damping": Choice((3e-2, 1e-1)),
                        "clip": Choice((0.1, 0.3)),
                    },
                    {
                        "lr": _falling(5e-3, 0.1, 50, 200),
                        "damping": Choice((1e-2, 3e-2, 1e-1)),
                        "clip": Choice((1e-3, 1e-2)),
                        "averaging": Choice((PerStep(0.9), PerStep(0.99))),
                    },
                ),
                steps=100,
                ends_at=1.05,
                measure_every=Widening(2, 5),
            ),
            "K-FAC": _KFAC_LARGE,
            # what is averaged does not act on the run, and trials are too short for an average over 100
            "SGD, average over 10": replace(
                _SGD_LARGE, fixed={"averaging": PerStep(0.9)}, tuned_as="SGD", measure_every=Widening(25, 25)
            ),
            # trials are judged by their time, which prefers the smaller share
            "K-FAC, tau1 of 1/2": replace(_KFAC_LARGE, fixed={"tau1": 1 / 2}, tuned_as="K-FAC", steps=30),
        },
        rounds=((480, 60, 0), (240, 60, 0), (600, 120, 1)),
        column="best_loss",
        shown=("best_train_error", "best_test_error"),
        levels={
            "best_loss": [2.0, 1.6, 1.4, 1.2, 1.0, 0.9, 0.83],
            "best_train_error": [0.7, 0.6, 0.5, 0.4, 0.35, 0.29],
            "best_test_error": [0.7, 0.6, 0.5, 0.4, 0.36, 0.345],
        },
        problem="cifar10-kfc",
        width=0.5,
        compared=("SGD", "KFC-pre", "K-FAC"),
    ),
    "mnist-autoencoder": Race(
        {
            # chosen by hand from the third round: what leads after 100 seconds falls behind later
            "Nesterov, batches of 100": replace(
                _NESTEROV, fixed={"lr": InverseTime(0.0268, 4000)}, tuned_as="Nesterov", round=3
            ),
            "Nesterov": _NESTEROV,
            "K-FAC": _KFAC,
            "K-FAC tridiagonal": replace(
                _KFAC, optimizer="K-FAC tridiagonal", fixed={}, tuned_as="K-FAC", round=4
            ),
            # earlier rounds, as recorded
            "Nesterov, round 3": replace(_NESTEROV, fixed={}, tuned_as="Nesterov", round=3),
            "Nesterov, round 2": replace(_NESTEROV, fixed={}, tuned_as="Nesterov", round=2),
            "K-FAC, round 3": replace(_KFAC, fixed={}, tuned_as="K-FAC", round=3),
            "K-FAC, gamma of the paper": replace(
                _KFAC, fixed={"gamma_share": 1.0}, tuned_as="K-FAC", round=3
            ),
            "K-FAC tridiagonal, gamma of the paper": replace(
                _KFAC, optimizer="K-FAC tridiagonal", fixed={"gamma_share": 1.0}, tuned_as="K-FAC", round=3
            ),
        },
        rounds=((750, 75, 0), (500, 100, 0), (750, 150, 0), (1500, 100, 2)),
        column="best_loss",
        shown=("best_squared_error", "best_test_squared_error"),
        levels={
            "best_loss": [80, 70, 60, 57, 56, 55],
            "best_squared_error": [10, 6, 4, 3.2, 2.7],
            "best_test_squared_error": [10, 6, 4, 3.5, 3.2],
        },
        compared=("Nesterov, batches of 100", "Nesterov", "K-FAC"),
    ),
}


def results(name: str, device: str) -> Path:
    """Where a race is kept; times of one device are not those of another."""
    return RESULTS / (name if device == "cpu" else f"{name}-gpu")


def tune(name: str, racer: str, number: int, folder: Path | None, device: str) -> None:
    """One round of a search, from 1; writes its trials."""
    race, racing = RACES[name], RACES[name].racers[racer]
    one, space = contender(racing.optimizer), racing.spaces[number - 1]
    budget, seconds, seeds = race.rounds[number - 1]
    fixed = {key: value for key, value in racing.fixed.items() if key not in space}
    search = random_search(
        race.load(name, folder, device),
        lambda net, **arguments: one.make(net, **{**_of_the_optimizer(fixed), **arguments}),
        space,
        budget,
        seconds,
        race.column,
        fixed.get("batch_size"),
        seed=number - 1,
        seeds=seeds,
        averaging=fixed.get("averaging"),
        clock=time.process_time,
    )
    path = _search_file(results(name, device), racer, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    search.write(path)
    for trial in sorted([*search.trials, *search.finals], key=lambda trial: trial["score"]):
        print(json.dumps(trial))


def _of_the_optimizer(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in ("batch_size", "averaging")}


def best(name: str, racer: str, device: str) -> dict[str, Any]:
    """The arguments of the best trial in a round of a racer's search."""
    racing = RACES[name].racers[racer]
    searched = racing.tuned_as or racer
    base, number = RACES[name].racers[searched], racing.round or len(RACES[name].rounds)
    if not base.spaces:
        return base.fixed
    path = _search_file(results(name, device), searched, number)
    if not path.exists():
        raise SystemExit(
            f"expected {path}, which `races.py tune {name} {searched!r} --round {number}` writes"
        )
    scores: dict[bool, dict[int, list[float]]] = {False: {}, True: {}}
    for record in records.read(path).records:
        scores["seed" in record].setdefault(record["trial"], []).append(record["score"])
    finals = scores[True] or scores[False]
    trial = min(finals, key=lambda trial: float(np.median(finals[trial])))
    fixed = racing.fixed if racing.tuned_as else {}
    return {**base.fixed, **drawn(base.spaces[number - 1], number - 1, trial), **fixed}


def _search_file(folder: Path, racer: str, number: int) -> Path:
    return folder / f"{file_name(racer)}.search-{number}.jsonl"


def run(name: str, racer: str, seed: int, folder: Path | None, device: str, ends_at: float | None) -> None:
    """One run with the best arguments, from the start of this seed."""
    racing = RACES[name].racers[racer]
    problem = RACES[name].load(name, folder, device)
    arguments = best(name, racer, device)
    size = arguments.get("batch_size", problem.batch_size)
    print(racer, arguments, size, flush=True)
    training.train(
        problem.net,
        problem.theta(seed),
        contender(racing.optimizer).make(problem.net, **_of_the_optimizer(arguments)),
        problem.dataset,
        racing.steps,
        size,
        seed,
        racing.measure_every,
        averaging=arguments.get("averaging"),
        target={"loss_average": racing.ends_at if ends_at is None else ends_at},
        keep=Keep(results(name, device), f"{file_name(racer)}-{seed}", existing="resume"),
        on_record=lambda record: print(json.dumps(record), flush=True),
        progress=False,
    )


def timed(run: History, name: str, racer: str) -> History:
    """A run with the seconds of its updates on an idle machine, as step_times.py measured them by the batch.

    Between two measurements the batch is the mean of those steps; between two measured batches, and beyond,
    the time of an update is a straight line. A racer that was not timed keeps the seconds of its record.
    """
    kinds, record = RACES[name].racers, json.loads(STEP_TIMES.read_text(encoding="utf-8"))
    average = sum(row["seconds"] for row in record["averaging"] if row["race"] == name)
    rows = [
        (row["batch"], row["seconds"] + average)
        for row in record["updates"]
        if row["race"] == name and kinds[row["racer"]].optimizer == kinds[racer].optimizer
    ]
    if not rows:
        return run
    steps, examples = (np.diff(run[column], prepend=0) for column in ("step", "examples"))
    sizes, times = np.array(rows).T
    batch = examples / np.maximum(steps, 1)
    of_an_update = np.interp(batch, sizes, times)
    if len(rows) > 1:
        slope = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
        of_an_update += slope * np.maximum(batch - sizes[-1], 0)
    seconds = np.cumsum(steps * of_an_update)
    return replace(
        run, records=[{**old, "seconds": float(at)} for old, at in zip(run.records, seconds, strict=True)]
    )


def runs_of(name: str, device: str = "cpu") -> dict[str, list[History]]:
    """The recorded runs of a race, by racer and in the order of their seeds."""
    folder, kept = results(name, device), {}
    for racer in RACES[name].racers:
        paths = sorted(folder.glob(f"{file_name(racer)}-[0-9].jsonl"))
        read = [run for run in map(records.read, paths) if run.records]
        if read:
            kept[racer] = [timed(run, name, racer) for run in read] if device == "cpu" else read
    return kept


def ratios(
    runs: dict[str, list[History]], baseline: str, racer: str, column: str, level: float
) -> dict[str, list[float]]:
    """How many times fewer updates, longer updates and fewer seconds to a level, from each common seed.

    The first over the second is the third.
    """
    seeds = {of: {run.about["seed"]: run for run in runs[of]} for of in (baseline, racer)}
    updates, seconds = (
        [
            reached(seeds[baseline][seed], column, level, along)
            / reached(seeds[racer][seed], column, level, along)
            for seed in seeds[baseline]
            if seed in seeds[racer]
        ]
        for along in ("step", "seconds")
    )
    both = [(u, s) for u, s in zip(updates, seconds, strict=True) if math.isfinite(u)]
    return {
        "updates": [u for u, _ in both],
        "seconds per update": [u / s for u, s in both],
        "seconds": [s for _, s in both],
    }


def factors(name: str, column: str) -> list[list[str]]:
    """A table of docs/results/README.md: updates and seconds by level, and what the factors are made of.

    Cells are the median and the range of the seeds that got there. A race that was not timed has no seconds.
    """
    race, runs = RACES[name], runs_of(name)
    levels, percent = race.levels[column], column.endswith("error") and "squared" not in column
    baseline, *others = (racer for racer in race.sides if racer in runs)
    times = json.loads(STEP_TIMES.read_text(encoding="utf-8"))["updates"]
    clocked = any(row["race"] == name for row in times)
    rows = [["to", *(f"{100 * level:g}%" if percent else f"{level:g}" for level in levels)]]
    for along, of_a_run in (("updates", "step"), ("seconds", "seconds"))[: 1 + clocked]:
        for racer in (baseline, *others):
            cells = []
            for level in levels:
                at = [reached(run, column, level, of_a_run) for run in runs[racer]]
                at = [each for each in at if math.isfinite(each)]
                cells.append(in_range(*median_and_ends(at), "{:,.0f}") if at else "-")
            rows.append([f"{along}: {racer}", *cells])
    for racer in others:
        if race.racers[racer].optimizer == race.racers[baseline].optimizer:
            continue
        every = [ratios(runs, baseline, racer, column, level) for level in levels]
        parts = [("fewer updates", "updates"), ("longer updates", "seconds per update")]
        for what, key in [*parts, ("**fewer seconds**", "seconds")][: 3 if clocked else 1]:
            rows.append([f"{racer}, {what}", *(_factor(ratio[key], "**" in what) for ratio in every)])
    return rows


def factor(value: float) -> str:
    """As the tables write it."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def _factor(values: list[float], bold: bool) -> str:
    if not values:
        return "-"
    middle, low, high = map(factor, median_and_ends(values))
    cell = f"**{middle}**" if bold else middle
    return cell if low == high else f"{cell} ({low} to {high})"


def report(name: str, device: str) -> None:
    """Print tables, and write targets.csv and the figures, of all runs that are there."""
    race, folder, runs = RACES[name], results(name, device), runs_of(name, device)
    if not runs:
        raise SystemExit(f"expected runs in {folder}, which `races.py run {name} RACER` writes")
    outcome = races.Race(runs)
    drawn = {racer: of for racer, of in outcome.records.items() if racer in race.sides}
    for column in ("best_loss", *race.shown):
        print(f"\n{column.replace('_', ' ')}")
        if device == "cpu":
            header, *rows = factors(name, column)
            _print(header, rows)
        title = f"{name}: {label(column).split(' (')[0]}"
        plots.race(drawn, column, title=title)[0].figure.savefig(folder / f"{column}.png")
        outcome.write_targets(folder / f"{column}-targets.csv", column, race.levels.get(column))
    print()
    _print(*outcome.summary())


def _print(header: list[str], rows: list[list[str]]) -> None:
    """A table of Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(row) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=("tune", "run", "report"))
    parser.add_argument("race", choices=RACES)
    parser.add_argument("racer", nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, default=1, help="of tuning")
    parser.add_argument(
        "--ends-at", type=float, help="training loss at which the run ends, if not the race's"
    )
    parser.add_argument("--folder", type=Path, help="where the files of the data are, if not in the cache")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    arguments = parser.parse_args()
    use_device(arguments.device)
    if arguments.command == "report":
        report(arguments.race, arguments.device)
        return
    race = RACES[arguments.race]
    if arguments.racer not in race.racers:
        parser.error(f"expected a racer among {'; '.join(race.racers)}, got {arguments.racer}")
    if not 1 <= arguments.round <= len(race.rounds):
        parser.error(f"expected --round from 1 to {len(race.rounds)}, got {arguments.round}")
    with one_thread():
        if arguments.command == "tune":
            tune(arguments.race, arguments.racer, arguments.round, arguments.folder, arguments.device)
        else:
            run(
                arguments.race,
                arguments.racer,
                arguments.seed,
                arguments.folder,
                arguments.device,
                arguments.ends_at,
            )


if __name__ == "__main__":
    main()
