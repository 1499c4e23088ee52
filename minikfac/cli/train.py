"""The command that trains a net: ``minikfac train``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from .. import training
from ..backend import use_device
from ..distributed import SERIAL, Communicator, world
from ..parallel import one_thread
from ..races import Problem
from ..races.contenders import contender
from ..training import History, Keep
from ..training.batches import BatchSize
from ..training.records import Record
from . import common, nets, runs
from .common import RECORDS, in_figures, make_folder, on_existing, save_figure, say
from .runs import Entrant

STARTED_BY_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Environment variables in which Open MPI and MPICH give the number of ranks."""

Arguments = Annotated[
    list[str] | None,
    Option(
        "--set",
        help="An argument of the optimizer, as in lam=10, or averaging=25000, over which iterates are "
        "averaged; may be repeated.",
    ),
]
Steps = Annotated[int | None, Option(help="Steps at most; 200 unless --seconds are given.", min=0)]
Target = Annotated[
    str | None, Option(help="Stop where a column is reached, as in loss=0.1 or test_error=0.03.")
]
MeasureEvery = Annotated[
    int | None, Option(help="Steps between measurements; a tenth of the run by default.", min=1)
]
CheckpointEvery = Annotated[
    int | None, Option(help="Steps between checkpoints; at least one per minute.", min=1)
]
Distributed = Annotated[
    bool, Option("--distributed", help="Share each batch with the other ranks that mpirun started.")
]

EXAMPLE = "minikfac train --optimizer kfac --set lam=10 --steps 200"


def train(
    name: common.ProblemName = "digits-autoencoder",
    net: nets.Net = None,
    data: nets.Data = None,
    activation: nets.Activation = None,
    output: nets.Output = None,
    folder: common.Folder = None,
    examples: common.Examples = None,
    width: common.Width = 1.0,
    dtype: common.Dtype = None,
    device: common.Device = "cpu",
    optimizer: Annotated[str, Option(help="By name, such as sgd, adam, kfac or hessian-free.")] = "kfac",
    arguments: Arguments = None,
    steps: Steps = None,
    seconds: Annotated[float | None, Option(help="Seconds of training at most.")] = None,
    target: Target = None,
    batch_size: common.BatchSizes = None,
    seed: common.Seed = 0,
    measure_every: MeasureEvery = None,
    checkpoint_every: CheckpointEvery = None,
    resume: common.Resume = False,
    overwrite: common.Overwrite = False,
    distributed: Distributed = False,
    out: Annotated[Path, Option(help="Folder for records, checkpoint and figure.")] = Path("minikfac-train"),
) -> None:
    """Train a net with any of the optimizers, and keep records and checkpoints.

    The folder holds run.jsonl, a line of JSON per measurement, run.npz, the last checkpoint with the
    parameters, and loss.png. An interrupted run continues with --resume as if it had not been interrupted. On
    several processes, or machines: mpirun -n 2 minikfac train --distributed.
    """
    started = time.perf_counter()
    leads = (comm := _ranks(distributed)).rank == 0
    use_device(device)
    kind = (name, net, data, activation, output, folder, width, dtype, device, examples)
    problem = _first_on_rank_0(comm, partial(nets.problem_of, *kind))
    entrant = Entrant(contender(optimizer), problem, runs.parse_arguments(arguments), batch_size)
    ranked, size = problem.net.on(comm), entrant.batch_size
    opt = entrant.make(ranked)
    limits = _limits(steps, seconds, target, entrant)
    existing = on_existing(resume, overwrite, [])
    if leads:
        make_folder(out)
        on_existing(resume, overwrite, [out / "run.npz"])
        on_existing(resume, overwrite, [out / "run.jsonl"], RECORDS)
        say(_announced(entrant, size, comm.size))
    loop: dict[str, Any] = {"batch_size": size, "seed": seed, "measure_every": measure_every}
    keep = Keep(out, every=checkpoint_every, existing=existing)
    loop |= {"averaging": entrant.averaging, "on_record": _print_record, "keep": keep}
    with one_thread(runs.is_small(problem) or comm.size > 1):
        history = training.train(ranked, problem.theta(seed), opt, problem.dataset, **limits, **loop)
    if leads:
        _conclude(history, keep, entrant)
        spent = history.records[-1]["seconds"]
        say(f"{time.perf_counter() - started:.0f} s, {spent:.1f} s of them training")


def _limits(steps: int | None, seconds: float | None, target: str | None, entrant: Entrant) -> dict[str, Any]:
    """Arguments of ``training.train`` that end the run."""
    levels = runs.parse_target(target)
    for column in levels or ():
        runs.check_column(column, entrant.problem, "--target", entrant.averaging is not None)
    steps = 200 if steps is None and seconds is None else steps
    return {"steps": steps, "max_seconds": seconds, "target": levels}


def _ranks(distributed: bool) -> Communicator:
    if distributed:
        return world()
    started = next((os.environ[name] for name in STARTED_BY_MPI if name in os.environ), "1")
    if started != "1":
        raise ValueError(f"expected --distributed under mpirun, got {started} runs of the same")
    return SERIAL


def _first_on_rank_0(comm: Communicator, make: Callable[[], Problem]) -> Problem:
    """Make the problem on rank 0 first, which fetches missing data for all."""
    problem = make() if comm.rank == 0 else None
    comm.from_first(None)
    return problem or make()


def _announced(entrant: Entrant, size: BatchSize, ranks: int) -> str:
    given = "".join(f" {key}={value}" for key, value in entrant.given.items())
    batches = runs.sizes_in_words(size) + (f" on {ranks} ranks" if ranks > 1 else "")
    return f"{runs.described(entrant.problem)}; {entrant.name}{given}, {batches}{entrant.source}"


def _print_record(record: Record) -> None:
    if sys.stderr is None or not sys.stderr.isatty():  # where there is no bar that shows it
        say(_line(record))


def _conclude(history: History, keep: Keep, entrant: Entrant) -> None:
    """Draw the loss, and print which files the run wrote."""
    from .. import plots

    last = history.records[-1]
    if sys.stderr is not None and sys.stderr.isatty():
        say(_line(last))
    figure = "none, as no step was made"
    if last["step"] > 0:
        path = Path(keep.folder) / "loss.png"
        title = f"{in_figures(entrant.problem.name)}: training loss"
        save_figure(plots.race({entrant.name: history.records}, title=title)[0].figure, path)
        figure = str(path)
    if "curvature" in last:
        path = Path(keep.folder) / "curvature.png"
        save_figure(plots.curvature_along_training(history.records).figure, path)
        figure += f", {path}"
    say(f"Records: {keep.records}  Parameters: {keep.checkpoint}  Figure: {figure}")


def _line(record: Record) -> str:
    shown = [f"step {record['step']:>5,}", f"{record['seconds']:6.1f} s"]
    for key in ("loss", "test_loss", "test_error", "test_squared_error", "lam"):
        if key in record:
            shown.append(f"{key.replace('_', ' ').replace('lam', 'damping')} {record[key]:.4g}")
    return "  ".join(shown)
