"""What an update of each racer costs on an idle machine, by its batch: the seconds of the long races.

    python benchmarks/step_times.py updates --folder FOLDER    # FOLDER/mnist, FOLDER/cifar10; minutes
    python benchmarks/step_times.py whole --folder FOLDER      # two races of seed 1, with the clock

A long race counts updates and examples, on which other work does not act; ``races.py report`` multiplies them
by these times, with straight lines between the batches measured here. A time is the mean of 20 updates, a
period of all inverses, after the first three; for racers of fast updates the median of three such means. The
average of the iterates is timed apart. ``whole`` takes as many updates as the records took to a level, with
the average, to compare the product with the clock. One thread throughout.

Leaves benchmarks/results/step_times.json.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np

import races
from minikfac.parallel import one_thread
from minikfac.races import Problem
from minikfac.races.contenders import contender
from minikfac.training import records
from minikfac.training.averaging import averaged
from minikfac.training.batches import batch_of, batches

PERIOD, WARM_UP, LAPS, LONG = 20, 3, 3, 4.0
BATCHES = {
    ("mnist-autoencoder", "Nesterov"): (32, 100, 200),
    ("mnist-autoencoder", "K-FAC"): (500, 1500, 5000),
    ("mnist-autoencoder", "K-FAC tridiagonal"): (500, 5000),
    ("cifar10-kfc", "SGD"): (32,),
    ("cifar10-kfc", "KFC-pre"): (256,),
    ("cifar10-kfc", "K-FAC"): (256,),
    ("cifar10-kfc-paper-batches", "SGD"): (128,),
    ("cifar10-kfc-paper-batches", "KFC-pre"): (512,),
    ("cifar10-kfc-paper-batches", "K-FAC"): (512,),
    ("cifar10-kfc-large-batches", "SGD"): (4096,),
    ("cifar10-kfc-large-batches", "KFC-pre"): (4096,),
    ("cifar10-kfc-large-batches", "K-FAC"): (4096,),
}
FOLDERS = {
    "mnist-autoencoder": "mnist",
    "cifar10-kfc": "cifar10",
    "cifar10-kfc-paper-batches": "cifar10",
    "cifar10-kfc-large-batches": "cifar10",
}
WHOLE = {
    "mnist-autoencoder": ("Nesterov, batches of 100", "K-FAC", 80),
    "cifar10-kfc": ("SGD", "KFC-pre", 1.2),
}
"""Baseline, contender and training loss."""


def seconds_of_updates(problem: Problem, opt: Any, m: int) -> list[float]:
    """Mean seconds of an update in each period."""
    times: list[float] = []
    for lap in range(LAPS):
        theta, order = problem.theta(lap), batches(len(problem.dataset.x_train), m, lap)
        state = opt.init(theta)
        for step in range(WARM_UP + PERIOD):
            if step == WARM_UP:
                begin = time.perf_counter()
            batch = batch_of(problem.dataset, next(order), theta)
            theta, state, _ = opt.step(theta, state, batch, np.random.default_rng([lap, step]))
        times.append((time.perf_counter() - begin) / PERIOD)
        if sum(times) * PERIOD > LONG:
            break
    return times


def made(problem: Problem, race: str, racer: str) -> tuple[Any, dict[str, Any]]:
    """The optimizer of a racer with the constants of its search, and all of these."""
    arguments = races.best(race, racer, "cpu")
    kind = contender(races.RACES[race].racers[racer].optimizer)
    return kind.make(problem.net, **races._of_the_optimizer(arguments)), arguments


def updates(problems: dict[str, Problem]) -> Iterator[dict[str, Any]]:
    """Seconds of an update by race, racer and batch."""
    for (race, racer), sizes in BATCHES.items():
        if race not in problems:
            continue
        opt, _ = made(problems[race], race, racer)
        for m in sizes:
            times = seconds_of_updates(problems[race], opt, m)
            row = {"race": race, "racer": racer, "batch": m, "seconds": float(np.median(times))}
            yield row | {"laps": times}


def whole(problems: dict[str, Problem]) -> Iterator[dict[str, Any]]:
    """Seconds of a run of seed 1 to a level, by the clock and without measurements."""
    for race, (*racers, level) in WHOLE.items():
        if race not in problems:
            continue
        data = problems[race].dataset
        for racer in racers:
            run = records.read(races.results(race, "cpu") / f"{races.file_name(racer)}-1.jsonl")
            count = round(races.reached(run, "best_loss", level, "step"))
            opt, arguments = made(problems[race], race, racer)
            average = theta = problems[race].theta(1)
            state, order = opt.init(theta), batches(len(data.x_train), arguments["batch_size"], 1)
            begin, examples = time.perf_counter(), 0
            for step in range(count):
                rows = next(order)
                batch = batch_of(data, rows, theta)
                theta, state, _ = opt.step(theta, state, batch, np.random.default_rng([1, step]))
                average = averaged(average, theta, step + 1, len(rows), arguments["averaging"])
                examples += len(rows)
            row = {"race": race, "racer": racer, "level": level, "updates": count, "examples": examples}
            yield row | {"seconds": time.perf_counter() - begin}


def averages(problems: dict[str, Problem]) -> Iterator[dict[str, Any]]:
    """Seconds of the average of the iterates in an update."""
    for race, problem in problems.items():
        theta = problem.theta(0)
        average, times = theta, []
        for k in range(PERIOD):
            begin = time.perf_counter()
            average = averaged(average, theta, k + 1, 100, 6400)
            times.append(time.perf_counter() - begin)
        yield {"race": race, "seconds": float(np.median(times))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("updates", "whole"))
    parser.add_argument("--race", choices=FOLDERS, help="only this one; the others keep their times")
    parser.add_argument("--folder", type=Path, help="where the files of the data are, if not in the cache")
    arguments = parser.parse_args()
    problems = {
        name: races.RACES[name].load(name, arguments.folder and arguments.folder / data, "cpu")
        for name, data in FOLDERS.items()
        if arguments.race in (None, name)
    }
    path = common.RESULTS / "step_times.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record["machine"] = common.machine()
    parts = {"updates": updates(problems)}
    if arguments.what == "whole":
        parts = {"averaging": averages(problems), "whole": whole(problems)}
    with one_thread():
        for part, rows in parts.items():
            record[part] = [row for row in record.get(part, []) if row["race"] not in problems]
            for row in rows:
                print(part, row, flush=True)
                record[part].append(row)
                common.write("step_times", record)


if __name__ == "__main__":
    main()
