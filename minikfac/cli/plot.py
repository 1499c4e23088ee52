"""The command that draws records: ``minikfac plot``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..races import Race
from ..races.race import BEST, MEASURES
from ..scaling import cost_model
from ..scaling.cost_model import on_machine
from ..training import History, records
from . import common
from .common import check_figure, in_figures, save_figure, say
from .runs import parse_levels, print_targets

OF_A_SEED = ("seed", "initial parameters (sha256)")
"""Entries in which the headers of a contender's runs may differ."""

EXAMPLE = "minikfac plot minikfac-compare/*.jsonl --column test_loss"


def plot(
    files: Annotated[list[Path], Argument(help="Records, *.jsonl; the first is the baseline.")],
    column: Annotated[
        str, Option(help="The column to draw, such as loss, best_loss, test_error or lam.")
    ] = "loss",
    out: common.Figure = Path("minikfac-race.png"),
    levels: common.Levels = None,
    machine: Annotated[
        Path | None, Option(help="TOML or JSON file of another machine: seconds as a model predicts them.")
    ] = None,
) -> None:
    """Draw records of one run or several against time, steps and examples.

    Files NAME-SEED.jsonl in one folder that differ only in the seed are one contender: thin lines, and their
    median. Prints when each level of a loss or an error was reached, and how many times sooner than by the
    baseline. Records of a search, and of runs that measured nothing yet, are left out. With --machine updates
    and examples stay, and seconds are those of a model.
    """
    from .. import plots

    check_figure(out)
    heights = parse_levels(levels)
    histories, other = contenders(files), machine and cost_model.read_machine(machine)
    if other:
        histories = {name: [on_machine(run, other, name) for run in runs] for name, runs in histories.items()}
    race = Race(histories)
    named = {in_figures(name): runs for name, runs in race.records.items()}
    title = _title(race, column)
    modelled = other and f"{title or column}; seconds predicted for {in_figures(other.name)}"
    axes = plots.race(named, column, title=modelled or title)
    save_figure(axes[0].figure, out)
    if column.removeprefix(BEST) in MEASURES:
        most = max(map(len, race.histories.values()))
        terms = [f"{most} seeds: median (lowest to highest)"] if most > 1 else []
        print_targets(race, column, heights, terms)
    if other:
        say(f"Seconds are those of a model, not measured: {other.name}")
    say(f"Figure: {out}")


def _title(race: Race, column: str) -> str | None:
    """The data that all runs were trained on, and the column; None where records do not name one data set."""
    from ..plots.races import label

    runs = [run for several in race.histories.values() for run in several]
    names = {run.about.get("dataset", {}).get("name") for run in runs}
    name = names.pop() if len(names) == 1 else None
    return name and f"{name}: {label(column).split(' (')[0]}"


def contenders(files: Sequence[Path]) -> dict[str, list[History]]:
    """Read the runs of each contender: one file, or NAME-SEED.jsonl of several seeds."""
    if len({path.resolve() for path in files}) < len(files):
        raise ValueError("expected each file once, got one twice")
    groups: dict[tuple[Path, str], list[tuple[Path, History]]] = {}
    for path in files:
        run = records.read(path)
        if "search" in run.about or not run.records:
            continue
        about = {key: value for key, value in run.about.items() if key not in OF_A_SEED}
        plain = path.with_suffix("")
        name = plain.with_name(plain.name.removesuffix(f"-{run.about.get('seed')}"))
        groups.setdefault((name, str(path) if name == plain else repr(about)), []).append((path, run))
    if not groups:
        raise ValueError(f"expected records of a run, got none in {', '.join(map(str, files))}")
    # the shortest names that tell them apart: without folder, without seed
    heads = [(name, runs[0][0]) for (name, _), runs in groups.items()]
    spellings = [
        [name.name for name, _ in heads],
        [str(name) for name, _ in heads],
        [path.stem for _, path in heads],
        [str(path.with_suffix("")) for _, path in heads],
        [str(path) for _, path in heads],
    ]
    names = next(names for names in spellings if len(set(names)) == len(names))
    return {name: [run for _, run in runs] for name, runs in zip(names, groups.values(), strict=True)}
