"""The commands that train: ``minikfac train``, ``compare`` and ``plot``.

Like the rest of the command line they are thin: problems, optimizers and the loop are in
:mod:`minikfac.experiments`, pictures in :mod:`minikfac.plots`.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..backend import use_device

if TYPE_CHECKING:
    from ..distributed import Communicator
    from ..races import Problem, Race
    from ..races.contenders import Contender
    from ..races.recipes import Recipe
    from ..training import History
    from ..training.averaging import Averaging
    from ..training.batches import BatchSize

SMALL = 300
"""Nets with no more units or inputs in any layer are quicker with one thread."""
OF_A_SEED = ("seed", "initial parameters (sha256)")
"""What differs in the headers of runs that are one contender's."""
STARTED_BY_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Where Open MPI and MPICH say how many ranks there are."""
RACERS = ("SGD", "Nesterov", "Adam", "K-FAC", "K-FAC tridiagonal")
"""Who races where nobody is named; the last in chains of dense layers only."""

Problem_ = Annotated[
    str,
    typer.Option(
        help="digits, digits-autoencoder, digits-convnet, usps, mnist-autoencoder, curves-autoencoder, "
        "patches-autoencoder, cifar10-kfc or svhn-kfc."
    ),
]
Folder = Annotated[Path | None, typer.Option(help="Where the files of its data are, if not in the cache.")]
Examples = Annotated[int | None, typer.Option("--examples", help="Training examples; all by default.", min=1)]
Width = Annotated[float, typer.Option(help="Scales the hidden units of the problem's net.")]
Dtype = Annotated[str | None, typer.Option(help="float64 or float32; the problem's own by default.")]
BatchSize_ = Annotated[
    str | None,
    typer.Option(
        help="Examples per step, the problem's own by default; 100:1500:200 grows exponentially from 100 to "
        "1500 at step 200."
    ),
]
Device = Annotated[
    str, typer.Option(help="Where to compute: cpu, cuda (a GPU, with CuPy) or cuda:1 (the second one).")
]
Seed = Annotated[int, typer.Option(help="Of initialization, order and drawn targets.", min=0)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that is in the folder.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on from the last checkpoint, or begin if there is none."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: minikfac train --optimizer kfac --set lam=10 --steps 200")(train)
    app.command(epilog="Example: minikfac compare --optimizers nesterov,kfac --seconds 30 --tune 120")(
        compare
    )
    app.command(epilog="Example: minikfac plot minikfac-compare/*.jsonl --column test_loss")(plot)


def train(
    problem: Problem_ = "digits-autoencoder",
    net: Annotated[
        str | None,
        typer.Option(help="A net of your own on --data instead: units per layer, as in 64-20-10, or conv."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="With --net: digits, mnist, usps, cifar10, svhn, curves or FILE.npz.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="With --net: of hidden units; tanh by default.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="With --net: categorical, the default, bernoulli or gaussian.")
    ] = None,
    folder: Folder = None,
    examples: Examples = None,
    width: Width = 1.0,
    dtype: Dtype = None,
    device: Device = "cpu",
    optimizer: Annotated[
        str, typer.Option(help="By name, such as sgd, adam, kfac or hessian-free.")
    ] = "kfac",
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="An argument of it, as in lam=10, or averaging=25000, examples over which iterates are "
            "averaged; may stand several times.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="At most; 200 unless --seconds are given.", min=0)] = None,
    seconds: Annotated[float | None, typer.Option(help="Of training at most.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Stop where a column is reached, as in loss=0.1 or test_error=0.03.")
    ] = None,
    batch_size: BatchSize_ = None,
    seed: Seed = 0,
    measure_every: Annotated[
        int | None, typer.Option(help="Steps between measurements; a tenth of the run by default.", min=1)
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints; there is one a minute anyway.", min=1)
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    distributed: Annotated[
        bool,
        typer.Option("--distributed", help="Share each batch with the other ranks that mpirun started."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for records, checkpoint and figure.")] = Path(
        "minikfac-train"
    ),
) -> None:
    """Train a net with any of the optimizers, and keep records and checkpoints.

    The folder holds run.jsonl, a line of JSON a measurement, run.npz, the last
    checkpoint with the parameters, and loss.png. A run that was interrupted
    goes on with --resume as if it had not been. On several processes, or
    machines: mpirun -n 2 minikfac train --distributed.
    """
    from .. import training
    from ..parallel import one_thread
    from ..races.contenders import contender
    from ..training.keep import Keep
    from .main import _say, _writable

    started = time.perf_counter()
    comm = _ranks(distributed)
    leads = comm.rank == 0
    chosen = contender(optimizer)
    given = _arguments(arguments or [])
    keep = Keep(out, every=checkpoint_every, existing=_existing(resume, overwrite))
    if keep.existing == "refuse" and leads:
        _refuse_existing([keep.checkpoint])
    use_device(device)
    asked = (problem, net, data, activation, output, folder, examples, width, dtype, device)
    own = _problem(*asked) if leads else None
    comm.from_first(None)  # data that rank 0 had to fetch is there now
    own = own or _problem(*asked)
    size = _batch_size(batch_size, own, chosen)
    words, averaging = _in_words(given), _averaging(given, own, chosen)
    ranked = own.net.on(comm)
    opt = chosen.make(ranked, **_begin_with(chosen, own, given))
    if leads:
        _writable(out)
        ranks = f" on {comm.size} ranks" if comm.size > 1 else ""
        batches = f"{_sizes(size)}{ranks}{_source(chosen, own)}"
        _say(f"{_described(own)}; {chosen.name}{words}, {batches}")

    def tell(record: Mapping[str, Any]) -> None:
        if sys.stderr is None or not sys.stderr.isatty():  # where there is no bar that shows it
            _say(_line(record))

    with one_thread(_is_small(own) or comm.size > 1):
        history = training.train(
            ranked,
            own.theta(seed),
            opt,
            own.dataset,
            200 if steps is None and seconds is None else steps,
            size,
            seed,
            measure_every,
            averaging=averaging,
            target=_target(target),
            max_seconds=seconds,
            keep=keep,
            on_record=tell,
        )
    if not leads:
        return
    if sys.stderr is not None and sys.stderr.isatty():
        _say(_line(history.records[-1]))
    from .. import plots

    figure = "none, as no step was made"
    if history.records[-1]["step"] > 0:
        figure = str(out / "loss.png")
        panels = plots.race({chosen.name: history.records}, title=f"{own.name}: training loss")
        panels[0].figure.savefig(figure)
    _say(f"Records: {keep.records}  Parameters: {keep.checkpoint}  Figure: {figure}")
    _say(f"{time.perf_counter() - started:.0f} s, {history.records[-1]['seconds']:.1f} s of them training")


def compare(
    problem: Problem_ = "digits-autoencoder",
    optimizers: Annotated[
        str | None,
        typer.Option(
            help="By name, with commas between them, the baseline of all ratios first; by default SGD, "
            "Nesterov, Adam, K-FAC and, for dense layers, K-FAC tridiagonal."
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="An argument of one of them, as in kfac.lam=10, its batches, as in kfac.batch_size=500, or "
            "examples over which its iterates are averaged, as in kfac.averaging=25000; may stand several "
            "times.",
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Of training, each; 12 unless --steps are given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="At most, each.", min=1)] = None,
    tune: Annotated[
        float | None,
        typer.Option(help="Seconds of training spent on tuning each of them first, by random search."),
    ] = None,
    trial: Annotated[
        float | None, typer.Option(help="With --tune: seconds of a trial; a twelfth of it by default.")
    ] = None,
    column: Annotated[
        str,
        typer.Option(
            help="Raced for and tuned by, such as loss, test_loss or test_error; best_loss is the lower of "
            "the iterate's and the average's, and best_test_error likewise."
        ),
    ] = "loss",
    levels: Annotated[
        str | None,
        typer.Option(help="To be reached, as in 20,18.5; by default what the baseline reached on its way."),
    ] = None,
    batch_size: BatchSize_ = None,
    folder: Folder = None,
    examples: Examples = None,
    width: Width = 1.0,
    dtype: Dtype = None,
    device: Device = "cpu",
    seed: Seed = 0,
    seeds: Annotated[
        int,
        typer.Option(help="Runs of each, from --seed, the next one, ...: median, lowest and highest.", min=1),
    ] = 1,
    measure: Annotated[
        int,
        typer.Option(help="At least so many measurements while the number of steps doubles.", min=1),
    ] = 16,
    resume: Resume = False,
    overwrite: Overwrite = False,
    out: Annotated[Path, typer.Option(help="Folder for records, tables and figures.")] = Path(
        "minikfac-compare"
    ),
) -> None:
    """Let optimizers race on one problem, from the same start and with the same data in the same order.

    Prints how far each came, when each level was reached, and how many times
    sooner than the baseline; leaves records, targets.csv and figures. The clock
    counts training alone. With --tune, each optimizer's arguments are searched
    for in stated ranges on the same budget first. With --seeds, tables hold
    medians and ranges, and the records of each run are in NAME-SEED.jsonl.
    """
    from .. import races
    from ..parallel import one_thread
    from ..races.contenders import contender
    from ..races.race import file_name
    from .main import _print_table, _say, _writable

    started = time.perf_counter()
    existing = _existing(resume, overwrite)
    if resume and tune is not None:
        raise ValueError("expected --resume without --tune: pass on by --set what the search had found")
    asked = _levels(levels)
    use_device(device)
    own = _problem(problem, None, None, None, None, folder, examples, width, dtype, device)
    racers = RACERS if own.net.is_dense_chain else RACERS[:-1]
    chosen = [contender(name) for name in (racers if optimizers is None else _names(optimizers))]
    given = _arguments_by_name(arguments or [], chosen)
    sizes, averages = {}, {}
    for name in chosen:
        averages[name.name] = _averaging(given.get(name.name, {}), own, name)
        size = given.get(name.name, {}).pop("batch_size", batch_size)
        sizes[name.name] = _batch_size(None if size is None else str(size), own, name)
    begin = {name.name: _begin_with(name, own, given.get(name.name, {})) for name in chosen}
    for name in chosen:
        name.make(own.net, **begin[name.name])  # what is wrong is better known before the race
    if existing == "refuse":
        several = [None] if seeds == 1 else range(seed, seed + seeds)
        files = [file_name(name.name, own_seed) for name in chosen for own_seed in several]
        _refuse_existing([out / f"{file}.npz" for file in files])
    _writable(out)
    if seconds is None and steps is None:
        seconds = 12.0
    small = _is_small(own)
    _say(f"{_described(own)}{'; one thread' if small else ''}")
    for name in chosen:
        _say(f"    {name.name}: {_sizes(sizes[name.name])}{_source(name, own)}")
    with one_thread(small):
        if tune is not None:
            found = _tuned(own, chosen, given, tune, trial or tune / 12, column, sizes, averages, seed, out)
            begin = {label: begin[label] | best for label, best in found.items()}
        race = races.compare(
            own.net,
            own.theta,
            {name.name: name.make(own.net, **begin[name.name]) for name in chosen},
            own.dataset,
            steps,
            seconds,
            sizes,
            seed,
            measure,
            folder=out,
            existing="resume" if resume else "replace",
            seeds=seeds,
            averaging=averages,
        )
    for label, failures in race.failures.items():
        for own_seed, failure in failures.items():
            _say(f"{label} is out{f' with seed {own_seed}' if seeds > 1 else ''}: {failure}")
    terms = [f"{seeds} seeds: median (lowest to highest)"] if seeds > 1 else []
    terms += [] if tune is None else [f"each tuned for {_minutes(tune)}"]
    _print_table(f"After the race{_in_brackets(terms)}", *race.summary(column))
    _print_targets(race, column, asked, terms)
    race.write_targets(out / "targets.csv", column, asked)
    figures = _draw(race, out, column, asked, own.name)
    _say(f"Records and targets.csv: {out}  Figures: {', '.join(figures)}")
    _say(f"{time.perf_counter() - started:.0f} s")


def plot(
    files: Annotated[list[Path], typer.Argument(help="Records, *.jsonl; the first is the baseline.")],
    column: Annotated[
        str, typer.Option(help="What is drawn, such as loss, best_loss, test_error or lam.")
    ] = "loss",
    out: Annotated[Path, typer.Option(help="The figure: a .png, .svg or .pdf.")] = Path("minikfac-race.png"),
    targets: Annotated[
        bool, typer.Option("--targets", help="Draw when each level was reached instead of curves.")
    ] = False,
    levels: Annotated[
        str | None,
        typer.Option(help="To be reached, as in 20,18.5; by default what the baseline reached on its way."),
    ] = None,
) -> None:
    """Draw records of one run or several against time, steps and examples.

    Files NAME-SEED.jsonl in one folder that differ in their seed alone are one
    contender: thin lines, and their median. Prints when each level of a loss or
    an error was reached, and how many times sooner than by the baseline.
    Records of a search, and of runs that measured nothing yet, are left out.
    """
    from .. import plots
    from ..races import Race
    from ..races.race import BEST, MEASURES
    from .main import _say

    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"expected --out to end in .png, .svg or .pdf, got {out}")
    asked = _levels(levels)
    race = Race(_contenders(files))
    if targets:
        drawn = plots.race_targets(race.targets(column, asked))
    else:
        drawn = plots.race(race.records, column)
    drawn[0].figure.savefig(out)
    if targets or column.removeprefix(BEST) in MEASURES:
        most = max(map(len, race.histories.values()))
        _print_targets(race, column, asked, [f"{most} seeds: median (lowest to highest)"] if most > 1 else [])
    _say(f"Figure: {out}")


def _ranks(distributed: bool) -> Communicator:
    from ..distributed import SERIAL, world

    if distributed:
        return world()
    started = next((os.environ[name] for name in STARTED_BY_MPI if name in os.environ), "1")
    if started != "1":
        raise ValueError(f"expected --distributed under mpirun, got {started} runs of the same")
    return SERIAL


# options to settings --------------------------------------------------------------------------------------


def _problem(
    name: str,
    net: str | None,
    data: str | None,
    activation: str | None,
    output: str | None,
    folder: Path | None,
    examples: int | None,
    width: float,
    dtype: str | None,
    device: str,
) -> Problem:
    from .. import races

    if net is not None:
        return _own_problem(net, data or "digits", activation, output, folder, examples, width, dtype, device)
    for option, value in (("--data", data), ("--activation", activation), ("--output", output)):
        if value is not None:
            raise ValueError(f"expected {option} only with --net, got {option} {value}")
    return races.problem(name, folder, n_train=examples, width=width, dtype=dtype, device=device)


def _own_problem(
    net: str,
    data: str,
    activation: str | None,
    output: str | None,
    folder: Path | None,
    examples: int | None,
    width: float,
    dtype: str | None,
    device: str,
) -> Problem:
    from .. import races, tour
    from ..network import mlp
    from ..tour.settings import with_targets
    from .main import _load, parse_channels, parse_sizes

    if width != 1.0:
        raise ValueError(f"expected --width only with a problem by name, got --net {net} --width {width:g}")
    dataset = _load(data, folder, None, net, dtype or "float64")
    if examples is not None:
        dataset = dataset.subset(examples)
    kinds = (activation or "tanh", output or "categorical")
    channels = parse_channels(net)
    if channels is None:
        made = mlp(parse_sizes(net), *kinds)
    else:
        n_outputs = dataset.n_classes or dataset.y_train.shape[1]
        made = tour.convnet(dataset.x_train.shape[1:], n_outputs, channels or None, *kinds)
    dataset = with_targets(dataset, made)
    name = f"{dataset.name}, net {net}"
    return races.Problem(name, made, dataset, "glorot", min(100, len(dataset.x_train)), device)


def _existing(resume: bool, overwrite: bool) -> str:
    if resume and overwrite:
        raise ValueError("expected --resume or --overwrite, got both")
    return "resume" if resume else "replace" if overwrite else "refuse"


def _refuse_existing(paths: Sequence[Path], what: str = "checkpoint") -> None:
    for path in paths:
        if path.exists():
            raise FileExistsError(
                f"expected no {what} in {path} yet, got one; --resume goes on from it, --overwrite "
                "replaces it, --out names another folder"
            )


def _batch_size(text: str | None, own: Problem, chosen: Contender) -> BatchSize:
    """Read 250, or 100:1500:200 for growing batches; else those of the recipe or the problem.

    Raises:
        ValueError: on another text.
    """
    from ..training import ExponentialBatches
    from ..training.batches import size_at

    n = len(own.dataset.x_train)
    if text is None:
        recipe = _recipe(chosen, own)
        return recipe.batches(own.dataset) if recipe else own.batch_size
    if re.fullmatch(r"\d+", text):
        return size_at(0, n, int(text))
    grows = re.fullmatch(r"(\d+):(\d+):(\d+)", text)
    if grows is None:
        raise ValueError(f"expected a batch size as 250, or FIRST:MOST:STEP as 100:1500:200, got {text!r}")
    first, most, at = map(int, grows.groups())
    size_at(0, n, most)  # known now, not at that step
    return ExponentialBatches.reaching(most, first, at)


def _averaging(given: dict[str, Any], own: Problem, chosen: Contender) -> Averaging | None:
    """Take that of the iterates from what was given; else the one of the recipe, or none."""
    recipe = _recipe(chosen, own)
    return given.pop("averaging", recipe.averaging if recipe else None)


def _arguments(texts: Sequence[str]) -> dict[str, Any]:
    from ..races.contenders import argument

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"expected --set as NAME=VALUE, got {text!r}")
        found[name.strip()] = argument(value)
    return found


def _arguments_by_name(texts: Sequence[str], chosen: Sequence[Contender]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, rest = _of_optimizer(text, chosen, "--set", "VALUE, such as kfac.lam=10")
        found.setdefault(name, {}).update(_arguments([rest]))
    return found


def _of_optimizer(text: str, chosen: Sequence[Contender], option: str, example: str) -> tuple[str, str]:
    """Split OPTIMIZER.NAME=... after the optimizer, which is one of those chosen."""
    from ..races.contenders import contender

    name, dot, rest = text.partition(".")
    if not dot or "=" in name:
        raise ValueError(f"expected {option} as OPTIMIZER.NAME={example}, got {text!r}")
    own = contender(name).name
    if own not in [other.name for other in chosen]:
        raise ValueError(f"expected {option} for one of the optimizers that race, got {text!r}")
    return own, rest


def _recipe(chosen: Contender, own: Problem) -> Recipe | None:
    from ..races.recipes import recipes_for

    return recipes_for(own.name).get(chosen.name)


def _begin_with(chosen: Contender, own: Problem, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the recipe for this problem, if there is one, and those that were given."""
    recipe = _recipe(chosen, own)
    return {**(recipe.arguments if recipe else {}), **given}


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"expected --optimizers with commas between them, got {text!r}")
    return names


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected numbers for {option}, got {text!r}") from None


def _levels(text: str | None) -> list[float] | None:
    return [_number(level, "--levels") for level in text.split(",")] if text else None


def _target(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    column, _, level = text.partition("=")
    if not (column and level):
        raise ValueError(f"expected --target as COLUMN=LEVEL, such as loss=0.1, got {text!r}")
    return {column: _number(level, "--target")}


def _is_small(own: Problem) -> bool:
    return max(max(shape) for shape in own.net.shapes) <= SMALL


# work and words -------------------------------------------------------------------------------------------


def _tuned(
    own: Problem,
    chosen: Sequence[Contender],
    given: Mapping[str, Mapping[str, Any]],
    budget: float,
    trial: float,
    column: str,
    sizes: Mapping[str, BatchSize],
    averages: Mapping[str, Averaging | None],
    seed: int,
    out: Path,
) -> dict[str, dict[str, Any]]:
    """Search for the arguments of each, but for those that were given."""
    from ..races import random_search
    from ..races.race import file_name
    from .main import _print_table, _say

    best: dict[str, dict[str, Any]] = {}
    cells, ranges = [], []
    for one in chosen:
        fixed = given.get(one.name, {})
        space = {key: values for key, values in one.space.items() if key not in fixed}
        size, name = sizes[one.name], f"tuning {one.name}"
        made = _Made(one, fixed)
        found = random_search(
            own,
            made,
            space,
            budget,
            trial,
            column,
            size,
            seed,
            progress=name,
            averaging=averages[one.name],
        )
        found.write(out / f"{file_name(one.name)}.search.jsonl")
        best[one.name] = found.best
        low, high = found.spread
        cells.append(
            [one.name, f"{len(found.trials)}", f"{found.minutes:.3g}"]
            + [f"{found.median:.4g}", f"{low:.4g} to {high:.4g}"]
            + [", ".join(f"{key}={_short(value)}" for key, value in found.best.items())]
        )
        ranges.append([one.name, "; ".join(f"{key}: {own_range}" for key, own_range in space.items())])
        about = found.about
    _say(
        f"\nTuned by random search: {_minutes(budget)} of training each in trials of {trial:g} s, "
        f"and the best {about['finalists']} again from {about['seeds']} other seeds"
    )
    _print_table("What arguments were drawn from", ["optimizer", "ranges"], ranges)
    words = column.replace("_", " ")
    header = ["optimizer", "trials", "minutes in all", f"median {words}", "lowest to highest", "arguments"]
    _print_table("The best", header, cells)
    return best


class _Made:
    """A contender with some of its arguments held."""

    def __init__(self, one: Contender, fixed: Mapping[str, Any]) -> None:
        self.one, self.fixed = one, fixed

    def __call__(self, net: Any, **drawn: Any) -> Any:
        return self.one.make(net, **{**self.fixed, **drawn})


def _print_targets(race: Race, column: str, levels: Sequence[float] | None, terms: Sequence[str]) -> None:
    """Print when each level was reached, in seconds and in steps."""
    from .main import _print_table

    for along, unit in (("seconds", "Seconds"), ("step", "Steps")):
        title = f"{unit} to a {column.replace('_', ' ')} of ..."
        title += _in_brackets([f"times sooner than {race.baseline}", *terms])
        _print_table(title, *race.table(column, along, levels))


def _draw(race: Race, out: Path, column: str, levels: Sequence[float] | None, title: str) -> list[str]:
    from .. import plots
    from ..races.race import BEST

    last = race.records[race.baseline][0][-1]
    kind = BEST if column.startswith(BEST) else ""
    tests = [kind + name for name in ("test_error", "test_squared_error", "test_loss") if name in last]
    written = []
    for name in dict.fromkeys([column, *tests[:1]]):
        label = plots.races.label(name).split(" (")[0]
        plots.race(race.records, name, title=f"{title}: {label}")[0].figure.savefig(out / f"{name}.png")
        written.append(f"{name}.png")
    rows = race.targets(column, levels)
    if rows:
        plots.race_targets(rows)[0].figure.savefig(out / "targets.png")
        written.append("targets.png")
    return written


def _contenders(files: Sequence[Path]) -> dict[str, list[History]]:
    """Read the runs of each contender: one file, or NAME-SEED.jsonl of several seeds."""
    from ..training import records

    if len({path.resolve() for path in files}) < len(files):
        raise ValueError("expected each file once, got one twice")
    found: dict[tuple[Path, str], list[tuple[Path, History]]] = {}
    for path in files:
        run = records.read(path)
        if "search" in run.about or not run.records:
            continue
        about = {key: value for key, value in run.about.items() if key not in OF_A_SEED}
        plain = path.with_suffix("")
        own = plain.with_name(plain.name.removesuffix(f"-{run.about.get('seed')}"))
        key = (own, str(path) if own == plain else repr(about))
        found.setdefault(key, []).append((path, run))
    if not found:
        raise ValueError(f"expected records of a run, got none in {', '.join(map(str, files))}")
    groups = [(own, runs[0][0], [run for _, run in runs]) for (own, _), runs in found.items()]
    # the shortest names that tell them apart: without folder, without seed
    kinds = [
        [own.name for own, _, _ in groups],
        [str(own) for own, _, _ in groups],
        [path.stem for _, path, _ in groups],
        [str(path.with_suffix("")) for _, path, _ in groups],
        [str(path) for _, path, _ in groups],
    ]
    names = next(names for names in kinds if len(set(names)) == len(names))
    return dict(zip(names, (runs for _, _, runs in groups), strict=True))


def _described(own: Problem) -> str:
    return (
        f"{own.name}: {own.net.n_params:,} parameters, {len(own.dataset.x_train):,} training and "
        f"{len(own.dataset.x_test):,} test examples, {own.dataset.x_train.dtype}"
    )


def _sizes(size: BatchSize) -> str:
    if isinstance(size, int):
        return f"batches of {size:,}"
    return f"batches that grow from {size(0):,} to {size(10**9):,}"


def _source(chosen: Contender, own: Problem) -> str:
    """Where arguments come from that were not given."""
    recipe = _recipe(chosen, own)
    return f"; recipe of {recipe.source}" if recipe else ""


def _in_brackets(terms: Sequence[str]) -> str:
    return f" ({'; '.join(terms)})" if terms else ""


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.3g} min"


def _in_words(arguments: Mapping[str, Any]) -> str:
    return "".join(f" {key}={value}" for key, value in arguments.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _line(record: Mapping[str, Any]) -> str:
    shown = [f"step {record['step']:>6,}", f"{record['seconds']:8.1f} s"]
    for key in ("loss", "test_loss", "test_error", "test_squared_error", "lam"):
        if key in record:
            shown.append(f"{key.replace('_', ' ').replace('lam', 'damping')} {record[key]:.4g}")
    return "  ".join(shown)
