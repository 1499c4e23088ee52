"""The only training loop.

It measures, keeps records and checkpoints, and stops; what a step does is the optimizer's. Its clock runs
while batches are taken and steps are made, and stands still while the loop measures or writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from ..backend import Array, array_module, available_memory, fetch, to_host
from ..datasets import Dataset
from ..distributed import SERIAL, Communicator, refuse_differences
from ..network import Network, outputs
from .batches import BatchSize, batches, size_at
from .checkpoint import Checkpoint
from .describe import describe, describe_run, differences, digest
from .keep import Keep, Keeper
from .progress import progress_bar
from .records import History, PerOctave, Record

__all__ = ["History", "Optimizer", "batches", "evaluate", "train"]

Data = Dataset | SimpleNamespace
"""What has ``x_train``, ``y_train``, ``x_test`` and ``y_test``."""
EVALUATED_AT_ONCE = 5000
"""Examples whose outputs are held at a time while the whole set is measured."""


class Optimizer(Protocol):
    """What the loop asks of an optimizer; :class:`minikfac.optim.SGD` is one."""

    def init(self, theta: Array) -> dict[str, Any]: ...

    def step(
        self, theta: Array, state: dict[str, Any], batch: tuple[Array, Array], rng: Any
    ) -> tuple[Array, dict[str, Any], dict[str, float]]: ...


def train(
    net: Network,
    theta: Array,
    opt: Optimizer,
    dataset: Dataset,
    steps: int | None,
    batch_size: BatchSize = 100,
    seed: int = 0,
    measure_every: int | Callable[[int], bool] | None = None,
    track: Callable[[int, Array], dict[str, Any]] | None = None,
    progress: bool | str = True,
    *,
    target: Mapping[str, float] | None = None,
    max_seconds: float | None = None,
    keep: Keep | None = None,
    on_record: Callable[[Record], None] | None = None,
    comm: Communicator | None = None,
) -> History:
    """Train a net.

    Randomness is by position: step k uses ``default_rng([seed, k])``, epoch e is ordered by
    ``default_rng([seed, e, 1])``. So a run that is resumed from a checkpoint ends in the same bits as one
    that was never interrupted; only ``seconds`` differ.

    On several ranks all call this with the same arguments and return the same history. Rank 0 alone shows
    progress, reads and writes files, calls ``track`` and ``on_record`` and looks at the clock.

    Args:
        net: the network.
        theta: initial parameters (P,); not changed.
        opt: the optimizer.
        dataset: trained on its training part; losses and errors are of the whole parts. Where theta is on a
            device it is moved there once, and batches are gathered there; if it is too large for that,
            batches are moved.
        steps: how many at most; None for no such limit, where ``max_seconds`` is one.
        batch_size: examples per step, a number or a function of the step, such as
            :class:`.ExponentialBatches`.
        seed: of order and sampled targets.
        measure_every: steps between measurements, or a function that tells whether to measure before a
            step; by default a tenth of the run, or :class:`.PerOctave` where its steps are not limited. The
            start and the end are always measured.
        track: called at each measurement with step and theta; what it returns joins the record.
        progress: show a bar, of this name if it is a text.
        target: stop at the first measurement where each of these columns is at or under its level, as in
            ``{"loss": 0.1}``.
        max_seconds: stop after so many seconds of training, measurements and checkpoints not counted.
        keep: where to keep records and checkpoints, and whether to resume.
        on_record: called with each new record.
        comm: the ranks that share each batch, as of :func:`minikfac.distributed.world`; by default the
            optimizer's own.

    Raises:
        ValueError: on sizes that do not fit, a checkpoint that is damaged or of another run, an optimizer
            that does not run on several ranks, or ranks that are not about to do the same.
        RuntimeError: if the parameters of two ranks are no longer the same.
        FileExistsError: where a checkpoint would be lost.
        FloatingPointError: if the loss becomes NaN or infinite. The last checkpoint stays as it is.
    """
    measured = _limits(steps, max_seconds, measure_every)
    n = len(dataset.x_train)
    size_at(0, n, batch_size)
    opt, comm = _on_ranks(opt, comm)
    leads, several = comm.rank == 0, comm.size > 1
    about = describe_run(net, theta, opt, dataset, batch_size, seed) if keep is not None or several else {}
    if several:
        _refuse_different_ranks(comm, about, [steps, measure_every, target, max_seconds, keep is not None])
    keeper = Keeper(keep if leads else None, about, theta)
    at = comm.from_first(keeper.start) or Checkpoint(theta, opt.init(theta), about=about)
    if steps is not None and at.step > steps:
        raise ValueError(f"expected steps >= {at.step}, where the checkpoint is, got {steps}")
    data = _beside(dataset, theta)
    order = batches(n, batch_size, seed, start=at.step)
    name = progress if isinstance(progress, str) else "training"
    with progress_bar(name, None if steps is None else steps - at.step, bool(progress) and leads) as bar:
        while True:
            ends = at.step == steps or _over(at, max_seconds, comm)
            if (ends or at.step == 0 or measured(at.step)) and not at.is_measured:
                if several:
                    _refuse_other_parameters(comm, at)
                record = comm.from_first(_record(net, at, data, track if leads else None, keeper, comm))
                at.records.append(record)
                keeper.record(record)
                bar.note(_note(record, max_seconds))
                if on_record is not None and leads:
                    on_record(record)
            ends = ends or (at.is_measured and _reached(at.records[-1], target))
            if ends or keeper.due(at.step):
                keeper.save(at)
            if ends:
                return History(at.records, at.theta, at.state, about)
            started = time.perf_counter()
            rows = next(order)
            theta, state, info = _step(net, opt, at, _batch(data, rows, at.theta), [seed, at.step], keeper)
            if measured(at.step + 1):
                to_host(theta[:1])  # a device may still be at work
            at = Checkpoint(
                theta,
                state,
                at.step + 1,
                at.examples + len(rows),
                at.seconds + time.perf_counter() - started,
                info,
                at.records,
                about,
            )
            bar.advance()


def _over(at: Checkpoint, max_seconds: float | None, comm: Communicator) -> bool:
    """Whether the time is over, by the clock of rank 0."""
    return max_seconds is not None and comm.from_first(at.seconds >= max_seconds)


def _on_ranks(opt: Optimizer, comm: Communicator | None) -> tuple[Optimizer, Communicator]:
    """The optimizer on the ranks, and these."""
    own: Communicator = getattr(opt, "comm", SERIAL)
    if comm is None or comm is own:
        return opt, own
    if is_dataclass(opt) and not isinstance(opt, type) and "comm" in [field.name for field in fields(opt)]:
        return replace(opt, comm=comm), comm
    if comm.size > 1:
        raise ValueError(
            f"expected an optimizer that runs on several ranks, one with comm, got {type(opt).__name__}"
        )
    return opt, comm


def _refuse_different_ranks(comm: Communicator, about: Mapping[str, Any], limits: Sequence[Any]) -> None:
    """Compare all that decides about a run, before anything of it is computed."""
    names = ("steps", "measure_every", "target", "max_seconds", "keep")
    decisive = {**about, "numpy": np.__version__, **dict(zip(names, map(describe, limits), strict=True))}
    refuse_differences(comm, decisive, lambda here, there: list(differences(here, there)))


def _refuse_other_parameters(comm: Communicator, at: Checkpoint) -> None:
    found = comm.gather(digest(at.theta))
    others = [rank for rank, own in enumerate(found) if own != found[0]]
    if others:
        raise RuntimeError(
            f"expected the same parameters on all ranks after step {at.step}, got others on rank {others[0]} "
            "than on rank 0; do all have the same hardware and libraries?"
        )


def _limits(
    steps: int | None, max_seconds: float | None, every: int | Callable[[int], bool] | None
) -> Callable[[int], bool]:
    """Check when a run ends, and return whether to measure before a step."""
    if steps is None and max_seconds is None:
        raise ValueError("expected steps or max_seconds, got neither")
    if steps is not None and steps < 0:
        raise ValueError(f"expected steps >= 0, got {steps}")
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"expected max_seconds > 0, got {max_seconds}")
    if isinstance(every, int) and every < 1:
        raise ValueError(f"expected measure_every >= 1, got {every}")
    if every is None:
        every = PerOctave() if steps is None else max(1, steps // 10)
    between = every
    return between if callable(between) else lambda step: step % between == 0


def _step(
    net: Network,
    opt: Optimizer,
    at: Checkpoint,
    batch: tuple[Array, Array],
    seeds: list[int],
    keeper: Keeper,
) -> tuple[Array, Any, dict[str, float]]:
    """One step; parameters that are not finite are named as such whatever comes of them."""
    try:
        found = opt.step(at.theta, at.state, batch, np.random.default_rng(seeds))
    except Exception as error:
        if not np.isfinite(to_host(at.theta)).all():
            text = _not_finite("parameters", "NaN or infinite ones", at.step, keeper)
            raise FloatingPointError(text) from error
        raise
    if not math.isfinite(found[2]["loss"]):
        net.output.check_values(batch[1], net.n_outputs(batch[0]))  # on a device nobody has looked yet
        raise FloatingPointError(_not_finite("loss", found[2]["loss"], at.step, keeper))
    return found


def _record(
    net: Network,
    at: Checkpoint,
    dataset: Data,
    track: Callable[[int, Array], dict[str, Any]] | None,
    keeper: Keeper,
    comm: Communicator,
) -> Record:
    """Measure the run where it is."""
    record: Record = {"step": at.step, "examples": at.examples, "seconds": at.seconds}
    record |= measure(net, at.theta, at.state, dataset, comm)
    for name in ("loss", "loss_average"):
        if not math.isfinite(record.get(name, 0.0)):
            raise FloatingPointError(_not_finite("loss", record[name], at.step, keeper))
    record |= {f"batch_{key}" if key in record else key: value for key, value in at.info.items()}
    return record if track is None else record | track(at.step, at.theta)


def _not_finite(what: str, found: Any, step: int, keeper: Keeper) -> str:
    text = f"expected a finite {what}" if what == "loss" else f"expected finite {what}"
    text += f", got {found} in step {step}; use a smaller step size"
    if keeper.keep is not None and keeper.last is not None:
        text += f"; the checkpoint of step {keeper.last} in {keeper.keep.checkpoint} is good"
    return text


def _reached(record: Record, target: Mapping[str, float] | None) -> bool:
    if not target:
        return False
    missing = [column for column in target if column not in record]
    if missing:
        raise ValueError(f"expected targets among {', '.join(record)}, got {missing[0]!r}")
    return all(record[column] <= level for column, level in target.items())


def _note(record: Record, max_seconds: float | None) -> str:
    """What stands behind the bar."""
    shown = [f"{key.replace('_', ' ')} {record[key]:.4f}" for key in ("loss", "test_error") if key in record]
    damping = next((record[key] for key in ("lam", "damping") if key in record), None)
    if damping is not None:
        shown.append(f"damping {damping:.3g}")
    if record["seconds"] > 0:
        shown.append(f"{record['examples'] / record['seconds']:,.0f} examples/s")
    if max_seconds is not None:
        shown.append(f"{record['seconds']:.0f} of {max_seconds:.0f} s")
    return ", ".join(shown)


def warm_up(opt: Optimizer, theta: Array, dataset: Dataset, batch_size: BatchSize, seed: int = 0) -> None:
    """Make the first step of a run and throw it away, so that no clock counts what is done only once."""
    batch = _batch(dataset, next(batches(len(dataset.x_train), batch_size, seed)), theta)
    opt.step(theta, opt.init(theta), batch, np.random.default_rng([seed, 0]))


def _beside(dataset: Data, theta: Array) -> Data:
    """The data on the device of theta, or where they are if half of its memory would not hold them."""
    names = ("x_train", "y_train", "x_test", "y_test")
    parts = {name: getattr(dataset, name) for name in names}
    xp, once = array_module(theta), {id(part): part for part in parts.values()}
    away = {key: part for key, part in once.items() if array_module(part) is not xp}
    if not away or xp is np or sum(part.nbytes for part in away.values()) > available_memory(xp) / 2:
        return dataset
    there = once | {key: xp.asarray(part) for key, part in away.items()}
    return SimpleNamespace(**{name: there[id(part)] for name, part in parts.items()})


def _batch(dataset: Data, rows: Any, theta: Array) -> tuple[Array, Array]:
    if array_module(dataset.x_train) is array_module(dataset.y_train):
        rows = array_module(dataset.x_train).asarray(rows)  # once for both
    x = _rows(dataset.x_train, rows, theta)
    return x, x if dataset.y_train is dataset.x_train else _rows(dataset.y_train, rows, theta)


def _rows(part: Array, rows: Any, theta: Array) -> Array:
    """Rows of a part of the data, on the device of theta."""
    xp = array_module(part)
    chosen = part[rows if isinstance(rows, slice) else xp.asarray(to_host(rows) if xp is np else rows)]
    return chosen if xp is array_module(theta) else array_module(theta).asarray(chosen)


def measure(
    net: Network, theta: Array, state: Any, dataset: Data, comm: Communicator = SERIAL
) -> dict[str, float]:
    """Evaluate theta and, where the optimizer averages its iterates, ``state["average"]`` beside it."""
    known = state if isinstance(state, Mapping) else {}
    stats, average = known.get("stats"), known.get("average")
    found = evaluate(net, theta, dataset, stats, comm)
    if average is not None:
        averaged = found if average is theta else evaluate(net, average, dataset, stats, comm)
        found |= {f"{key}_average": value for key, value in averaged.items()}
    return found


def evaluate(
    net: Network,
    theta: Array,
    dataset: Data,
    stats: Sequence[Array] | None = None,
    comm: Communicator = SERIAL,
) -> dict[str, float]:
    """Measure both parts of the data, whole.

    Args:
        net: the network.
        theta: (P,).
        dataset: the data.
        stats: running statistics of batch normalization, in an optimizer's state.
        comm: the ranks that share the examples.

    Returns:
        Mean losses ``loss`` and ``test_loss``; for labels the shares of wrong ones, ``train_error`` and
        ``test_error``; for other targets ``squared_error`` and ``test_squared_error``, mean over examples
        of the sum over units: the papers' reconstruction error of autoencoders.
    """
    train, test = (
        _evaluate_part(net, theta, x, y, stats, comm)
        for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test))
    )
    first = {"train_error" if key == "error" else key: value for key, value in train.items()}
    return first | {f"test_{key}": value for key, value in test.items()}


def _evaluate_part(
    net: Network, theta: Array, x: Array, y: Array, stats: Sequence[Array] | None, comm: Communicator
) -> dict[str, float]:
    found: list[Any] = []
    labels, own = isinstance(net.output, outputs.Categorical), comm.rows(len(x))
    chunks = [
        slice(start, min(start + EVALUATED_AT_ONCE, own.stop))
        for start in range(own.start, own.stop, EVALUATED_AT_ONCE)
    ]
    for rows in chunks:
        own_x, own_y = _rows(x, rows, theta), _rows(y, rows, theta)
        z = net.natural_parameters(theta, own_x, stats)
        net.output.check(own_y, *z.shape)
        wrong = z.argmax(1) != own_y if labels else (net.output.mean(z) - own_y) ** 2
        found += [net.output.losses(z, own_y).sum(), wrong.sum()]
    numbers = fetch(*found)  # from a device all at once
    loss = sum(numbers[::2])
    if math.isnan(loss):
        for rows in chunks:
            net.output.check_values(_rows(y, rows, theta), net.n_outputs(x))
    (totals,) = comm.sum([np.array([loss, sum(numbers[1::2])], dtype=float)])
    names = ("loss", "error" if labels else "squared_error")
    return {name: float(total) / len(x) for name, total in zip(names, totals, strict=True)}
