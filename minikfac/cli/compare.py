"""The command that races optimizers: ``minikfac compare``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from .. import races
from ..backend import use_device
from ..parallel import one_thread
from ..races import Problem, Race
from ..races.contenders import contender
from ..races.race import BEST, file_name
from ..training.loop import Optimizer
from . import common, runs
from .common import RECORDS, make_folder, on_existing, save_figure, say
from .runs import Entrant
from .tables import print_table

RACERS = ("SGD", "Nesterov", "Adam", "K-FAC", "K-FAC tridiagonal")
"""Optimizers that race by default; the last one in chains of dense layers only."""

Optimizers = Annotated[
    str | None,
    Option(
        help="By name, with commas between them, the baseline of all ratios first; by default SGD, "
        "Nesterov, Adam, K-FAC and, for dense layers, K-FAC tridiagonal."
    ),
]
Arguments = Annotated[
    list[str] | None,
    Option(
        "--set",
        help="An argument of one of them, as in kfac.lam=10, its batches, as in kfac.batch_size=500, or "
        "examples over which its iterates are averaged, as in kfac.averaging=25000; may be repeated.",
    ),
]
Seconds = Annotated[float | None, Option(help="Seconds of training of each; 12 unless --steps are given.")]
Tune = Annotated[
    float | None, Option(help="Seconds of training spent on tuning each of them first, by random search.")
]
Trial = Annotated[float | None, Option(help="With --tune: seconds of a trial; a twelfth of it by default.")]
Column = Annotated[
    str,
    Option(
        help="The column to race for and tune by: loss, test_loss, test_error ...; best_loss is the lower of "
        "the iterate's and the average's, and best_test_error likewise."
    ),
]
Seeds = Annotated[
    int, Option(help="Runs of each, from --seed on; tables have the median and the range.", min=1)
]
Measure = Annotated[int, Option(help="Measurements, at least, while the number of steps doubles.", min=1)]

EXAMPLE = "minikfac compare --optimizers nesterov,kfac --seconds 30 --tune 120"


def compare(
    name: common.ProblemName = "digits-autoencoder",
    optimizers: Optimizers = None,
    arguments: Arguments = None,
    seconds: Seconds = None,
    steps: Annotated[int | None, Option(help="Steps of each at most.", min=1)] = None,
    tune: Tune = None,
    trial: Trial = None,
    column: Column = "loss",
    levels: common.Levels = None,
    batch_size: common.BatchSizes = None,
    folder: common.Folder = None,
    examples: common.Examples = None,
    width: common.Width = 1.0,
    dtype: common.Dtype = None,
    device: common.Device = "cpu",
    seed: common.Seed = 0,
    seeds: Seeds = 1,
    measure: Measure = 16,
    resume: common.Resume = False,
    overwrite: common.Overwrite = False,
    out: Annotated[Path, Option(help="Folder for records, tables and figures.")] = Path("minikfac-compare"),
) -> None:
    """Race optimizers on one problem, from the same initial weights and with the same data in the same order.

    Prints how far each came, when each level was reached, and how many times
    sooner than the baseline; leaves records, targets.csv and figures. The clock
    counts training alone. With --tune, each optimizer's arguments are searched
    for in stated ranges on the same budget first. With --seeds, tables hold
    medians and ranges, and the records of each run are in NAME-SEED.jsonl.
    """
    started = time.perf_counter()
    if resume and tune is not None:
        raise ValueError("expected --resume without --tune: pass on by --set what the search had found")
    if trial is not None and tune is None:
        raise ValueError(f"expected --trial only with --tune, got --trial {trial:g} alone")
    heights = runs.parse_levels(levels)
    use_device(device)
    problem = races.problem(name, folder, n_train=examples, width=width, dtype=dtype, device=device)
    entrants = _entrants(problem, optimizers, arguments, batch_size)
    contenders = {each.name: each.make(problem.net) for each in entrants}
    numbers = [None] if seeds == 1 else list(range(seed, seed + seeds))
    names = [file_name(label, number) for label in contenders for number in numbers]
    terms: dict[str, Any] = {"seed": seed, "seeds": seeds, "per_octave": measure, "folder": out}
    terms |= {"steps": steps, "seconds": 12.0 if seconds is None and steps is None else seconds}
    terms["batch_size"] = {each.name: each.batch_size for each in entrants}
    terms["averaging"] = {each.name: each.averaging for each in entrants}
    _announce(problem, entrants)
    runs.check_column(column, problem, "--column", all(each.averaging for each in entrants), best=True)
    make_folder(out)
    terms["existing"] = on_existing(resume, overwrite, [out / f"{name}.npz" for name in names])
    searches = [f"{file_name(label)}.search" for label in contenders if tune is not None]
    on_existing(resume, overwrite, [out / f"{name}.jsonl" for name in [*names, *searches]], RECORDS)
    with one_thread(runs.is_small(problem)):
        if tune is not None:
            contenders = _tuned(entrants, tune, tune / 12 if trial is None else trial, column, seed, out)
        outcome = races.race(problem.net, problem.theta, contenders, problem.dataset, **terms)
    _conclude(outcome, column, heights, tune, out, problem.name)
    say(f"{time.perf_counter() - started:.0f} s")


def _entrants(
    problem: Problem, optimizers: str | None, arguments: Sequence[str] | None, batches: str | None
) -> list[Entrant]:
    racers = RACERS if problem.net.is_dense_chain else RACERS[:-1]
    chosen = [contender(name) for name in racers] if optimizers is None else runs.parse_optimizers(optimizers)
    given = runs.arguments_by_optimizer(arguments, chosen)
    sizes = {name: options.pop("batch_size", batches) for name, options in given.items()}
    texts = {name: None if size is None else str(size) for name, size in sizes.items()}
    return [Entrant(each, problem, given[each.name], texts[each.name]) for each in chosen]


def _announce(problem: Problem, entrants: Sequence[Entrant]) -> None:
    say(f"{runs.described(problem)}{'; one thread' if runs.is_small(problem) else ''}")
    for each in entrants:
        say(f"    {each.name}: {runs.sizes_in_words(each.batch_size)}{each.source}")


def _tuned(
    entrants: Sequence[Entrant], budget: float, trial: float, column: str, seed: int, out: Path
) -> dict[str, Optimizer]:
    """Search for the arguments of each that were not given."""
    tuned, cells, ranges = {}, [], []
    for each in entrants:
        make = partial(each.contender.make, **each.arguments)
        space = {key: values for key, values in each.contender.space.items() if key not in each.given}
        search = races.random_search(
            *(each.problem, make, space, budget, trial, column, each.batch_size, seed),
            progress=f"tuning {each.name}",
            averaging=each.averaging,
        )
        search.write(out / f"{file_name(each.name)}.search.jsonl")
        tuned[each.name] = each.make(each.problem.net, **search.best)
        low, high = search.spread
        best = ", ".join(f"{k}={f'{x:.3g}' if isinstance(x, float) else x}" for k, x in search.best.items())
        counts = [f"{len(search.trials)}", f"{search.minutes:.3g}"]
        cells.append([each.name, *counts, f"{search.median:.4g}", f"{low:.4g} to {high:.4g}", best])
        ranges.append([each.name, "; ".join(f"{key}: {values}" for key, values in space.items())])
    say(
        f"\nTuned by random search: {_minutes(budget)} of training each in trials of {trial:g} s, "
        f"and the best {search.about['finalists']} again from {search.about['seeds']} other seeds"
    )
    print_table("What arguments were drawn from", ["optimizer", "ranges"], ranges)
    median = f"median {column.replace('_', ' ')}"
    header = ["optimizer", "trials", "minutes in all", median, "lowest to highest", "arguments"]
    print_table("The best", header, cells)
    return tuned


def _conclude(
    race: Race, column: str, levels: Sequence[float] | None, tune: float | None, out: Path, title: str
) -> None:
    """Print, write and draw the results of the race."""
    seeds = max(map(len, race.histories.values()))
    for name, failures in race.failures.items():
        for seed, failure in failures.items():
            say(f"{name} is out{f' with seed {seed}' if seeds > 1 else ''}: {failure}")
    terms = [] if tune is None else [f"each tuned for {_minutes(tune)}"]
    if seeds > 1:
        terms.insert(0, f"{seeds} seeds: median (lowest to highest)")
    brackets = f" ({'; '.join(terms)})" if terms else ""
    print_table(f"After the race{brackets}", *race.summary(column))
    runs.print_targets(race, column, levels, terms)
    race.write_targets(out / "targets.csv", column, levels)
    figures = _draw(race, out, column, title)
    say(f"Records and targets.csv: {out}  Figures: {', '.join(figures)}")


def _draw(race: Race, out: Path, column: str, title: str) -> list[str]:
    from .. import plots

    last = race.records[race.baseline][0][-1]
    kind = BEST if column.startswith(BEST) else ""
    tests = [kind + name for name in ("test_error", "test_squared_error", "test_loss") if name in last]
    written = []
    for name in dict.fromkeys([column, *tests[:1]]):
        label = plots.races.label(name).split(" (")[0]
        figure = plots.race(race.records, name, title=f"{title}: {label}")[0].figure
        save_figure(figure, out / f"{name}.png")
        written.append(f"{name}.png")
    return written


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.3g} min"
