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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minikfac import plots, races, training, use_device
from minikfac.optim.schedules import InverseTime, SutskeverMomentum
from minikfac.parallel import one_thread
from minikfac.plots.races import label
from minikfac.races.contenders import contender
from minikfac.races.race import file_name, reached
from minikfac.races.search import Built, Choice, LogUniform, drawn, random_search
from minikfac.training import ExponentialBatches, Keep, PerStep, records

RESULTS = Path(__file__).parent.parent / "docs" / "results"


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
        rounds: of each search, (seconds of training in all trials, seconds of a trial): wide ranges first,
            then narrow ones around the best. They are the same for all.
        column: by what a trial is judged at its end.
        shown: columns of the report besides the best loss.
        levels: to be reached, by column; else what the baseline had reached on its way.
        problem: its name, if not that of the race.
        width: of the problem's net, as a share of the paper's.
    """

    racers: dict[str, Racer]
    rounds: tuple[tuple[float, float], ...]
    column: str
    shown: tuple[str, ...]
    levels: dict[str, list[float]] = field(default_factory=dict)
    problem: str | None = None
    width: float = 1.0

    def load(self, name: str, folder: Path | None, device: str) -> races.Problem:
        return races.problem(self.problem or name, folder, width=self.width, device=device)


def _momenta(*largest: float) -> Choice:
    return Choice(tuple(SutskeverMomentum(mu) for mu in largest))


def _falling(low: float, high: float, *timescales: float) -> Built:
    """Rates that fall as 1 / (1 + k / timescale); an infinite timescale is a constant rate."""
    return Built(InverseTime, (LogUniform(low, high), Choice((*timescales, math.inf))))


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
    steps=16_000,
    ends_at=55.0,
    measure_every=Widening(500, 1000),
    round=3,
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
    steps=300,
    ends_at=55.0,
    measure_every=Widening(10, 20),
    round=3,
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
    ),
    steps=12_130,
    ends_at=0.0614,
    measure_every=Widening(300, 600),
)
_SGD_LARGE = replace(
    _SGD_CONV,
    fixed={**_SGD_CONV.fixed, "batch_size": 4096},
    spaces=({"lr": _falling(1e-2, 0.3, 100)}, {"lr": _falling(3e-3, 3e-2, 100, 400)}),
    steps=200,
    ends_at=1.27,
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
    ),
    steps=2500,
    ends_at=0.0614,
    measure_every=Widening(50, 100),
)
# not searched for: the defaults, with inverses for each tenth of a run's first hundred steps
_KFAC_CONV = Racer(
    "K-FAC",
    {"batch_size": 512, "averaging": 6_400, "T3": 10, "l2": 0.0},
    (),
    steps=600,
    ends_at=0.0614,
    measure_every=Widening(10, 20),
)
RACES = {
    "cifar10-kfc": Race(
        {"SGD": _SGD_CONV, "KFC-pre": _KFC, "K-FAC": _KFAC_CONV},
        rounds=((480, 60), (400, 100)),
        column="best_loss",
        shown=("best_test_error",),
        levels={
            "best_loss": [1.0, 0.7, 0.4, 0.2, 0.1, 0.0614],
            "best_test_error": [0.4, 0.35, 0.3, 0.29, 0.285, 0.2843, 0.25],
        },
    ),
    "cifar10-kfc-large-batches": Race(
        {
            # rates of the search, held: trials of 28 updates favour those that soon fall behind
            "SGD, constant rate": replace(_SGD_LARGE, fixed={"lr": 0.0119}, tuned_as="SGD"),
            "SGD, larger constant rate": replace(
                _SGD_LARGE, fixed={"lr": 0.0222}, tuned_as="SGD"
            ),
            "SGD": _SGD_LARGE,
            "KFC-pre": replace(
                _KFC,
                fixed={**_KFC.fixed, "batch_size": 4096, "Ts": 2, "Tf": 4},
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
                ),
                steps=80,
                ends_at=1.0,
                measure_every=Widening(2, 5),
            ),
        },
        rounds=((480, 60), (240, 60)),
        column="best_loss",
        shown=("best_test_error",),
        levels={
            "best_loss": [2.0, 1.8, 1.6, 1.5, 1.4, 1.3, 1.27],
            "best_test_error": [0.7, 0.6, 0.55, 0.5, 0.47],
        },
        problem="cifar10-kfc",
        width=0.5,
    ),
    "mnist-autoencoder": Race(
        {
            "Nesterov, falling rate": replace(
                _NESTEROV,
                fixed={"lr": InverseTime(0.0268, 4000)},  # begins at the rate that the last round found
                tuned_as="Nesterov",
            ),
            "Nesterov": _NESTEROV,
            "Nesterov, round 2": replace(_NESTEROV, fixed={}, tuned_as="Nesterov", round=2),
            "Nesterov, round 4": replace(_NESTEROV, fixed={}, tuned_as="Nesterov", round=4),
            "K-FAC": _KFAC,
            "K-FAC, round 4": replace(_KFAC, fixed={}, tuned_as="K-FAC", round=4),
            "K-FAC tridiagonal": replace(
                _KFAC,
                optimizer="K-FAC tridiagonal",
                fixed={"T3": 20},
                tuned_as="K-FAC",
            ),
        },
        rounds=((750, 75), (500, 100), (750, 150), (1500, 100)),
        column="best_loss",
        shown=("best_squared_error", "best_test_squared_error"),
        levels={
            "best_loss": [80, 70, 60, 57, 56, 55],
            "best_squared_error": [10, 6, 4, 3.2, 2.7],
            "best_test_squared_error": [10, 6, 4, 3.5, 3.2],
        },
    ),
}


def results(name: str, device: str) -> Path:
    """Where a race is kept; times of one device are not those of another."""
    return RESULTS / (name if device == "cpu" else f"{name}-gpu")


def tune(name: str, racer: str, number: int, folder: Path | None, device: str) -> None:
    """One round of a search, from 1; writes its trials."""
    race, racing = RACES[name], RACES[name].racers[racer]
    one, space = contender(racing.optimizer), racing.spaces[number - 1]
    budget, seconds = race.rounds[number - 1]
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
        seeds=0,
        averaging=fixed.get("averaging"),
    )
    path = _search_file(results(name, device), racer, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    search.write(path)
    for trial in sorted(search.trials, key=lambda trial: trial["score"]):
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
    trial = min(records.read(path).records, key=lambda trial: trial["score"])["trial"]
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


def report(name: str, device: str) -> None:
    """Print tables, and write targets.csv and the figures, of all runs that are there."""
    race, folder = RACES[name], results(name, device)
    runs = {racer: sorted(folder.glob(f"{file_name(racer)}-[0-9].jsonl")) for racer in race.racers}
    histories = {racer: list(map(records.read, paths)) for racer, paths in runs.items() if paths}
    if not histories:
        raise SystemExit(f"expected runs in {folder}, which `races.py run {name} RACER` writes")
    outcome = races.Race(histories)
    for column in ("best_loss", *race.shown):
        for along in ("seconds", "step"):
            print(f"\n{column.replace('_', ' ')}: {along} to ...")
            _print(*outcome.table(column, along, race.levels.get(column)))
        title = f"{name}: {label(column).split(' (')[0]}"
        plots.race(outcome.records, column, title=title)[0].figure.savefig(folder / f"{column}.png")
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
    parser.add_argument("--ends-at", type=float, help="training loss at which the run ends, if not the race's")
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
