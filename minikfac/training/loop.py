"""The training loop.

It measures, averages the iterates, writes records and checkpoints, and stops; steps are left to the
optimizer. The time of batches and steps is counted, that of measuring and writing is not.

Random numbers depend only on seed and step: step k uses ``default_rng([seed, k])``, epoch e is ordered by
``default_rng([seed, e, 1])``. A run resumed from a checkpoint therefore gives bitwise the same results as an
uninterrupted one, except for ``seconds``.

With several ranks, all call :func:`train` with the same arguments and get the same history. Only rank 0 shows
progress, reads and writes files, calls ``track`` and ``on_record`` and reads the clock, so ``track`` must use
the net on one rank, ``net.on(SERIAL)``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import numpy as np

from ..backend import Array, to_host
from ..datasets import Dataset
from ..distributed import SERIAL, Communicator, refuse_differences
from ..network import Network
from ..optim import checks
from ..parallel import WORTH_DIVIDING, one_thread
from .averaging import Averaging, averaged, check_averaging
from .batches import BatchSize, Data, batch_of, batches, beside, size_at
from .checkpoint import Checkpoint
from .describe import describe, describe_run, differences, digest
from .evaluation import evaluate
from .keep import Keep, Keeper, keeping
from .progress import Bar, progress_bar
from .records import History, PerOctave, Record


class Optimizer(Protocol):
    """The interface of optimizers required by the loop; see :class:`minikfac.optim.SGD`."""

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
    averaging: Averaging | None = None,
    target: Mapping[str, float] | None = None,
    max_seconds: float | None = None,
    keep: Keep | None = None,
    on_record: Callable[[Record], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> History:
    """Train a net, jointly on all of its ranks.

    Args:
        net, theta, opt: the network, its initial parameters (P,), which are not changed, and the optimizer.
        dataset: the data, moved to theta's device at once or by batches; losses are on the full sets.
        steps: largest number of steps; None if ``max_seconds`` is the only limit.
        batch_size: examples per step, or a function of the step, such as :class:`.ExponentialBatches`.
        seed: seed of the order of examples and of sampled targets.
        measure_every: steps between measurements, or a function that decides this for each step; start and
            end are always measured. By default a tenth of the run, or :class:`.PerOctave` without ``steps``.
        track: called with step and theta at each measurement; the returned entries are added to the record.
        averaging: examples over which the iterates are averaged, see :mod:`.averaging`; None for no average.
        target: stop at the first measurement where all these columns are at or below their levels.
        max_seconds: stop after this training time, excluding measurements and checkpoints.
        keep: location of records and checkpoints, and whether to resume.
        progress, on_record: whether to show a bar, or its title; what is called with each new record.
        clock: what seconds are read from; ``time.process_time`` counts the processor's, whatever else runs.

    Raises:
        ValueError, TypeError: on arguments or ranks that do not match, or a damaged or foreign checkpoint.
        RuntimeError: if the parameters of two ranks diverge.
        FileExistsError: if a checkpoint or records would be lost, or another run is writing them.
        FloatingPointError: if the loss becomes NaN or infinite. The last checkpoint remains intact.
    """
    limits, measured = _Limits(steps, max_seconds, target), _measured(measure_every, steps)
    _check_parts(net, opt, dataset, track=track, on_record=on_record, clock=clock)
    _check_settings(len(dataset.x_train), batch_size, seed, averaging, progress)
    about, leads, n = {}, net.comm.rank == 0, len(dataset.x_train)
    if keep is not None or net.comm.size > 1:
        about = describe_run(net, theta, opt, dataset, batch_size, seed, averaging)
    _refuse_different_ranks(net, opt, about, limits, measure_every, keep is not None)
    data, name = beside(dataset, theta), progress if isinstance(progress, str) else "training"
    with keeping(keep if leads else None, about, theta) as keeper:
        run = _Run(net, opt, data, seed, averaging, limits, measured, keeper, track, on_record, clock)
        at = run.start(theta, about)
        keeper.begin(at)
        left = None if steps is None else steps - at.step
        work = net.work(data.x_train[: size_at(at.step, n, batch_size)])
        with one_thread(work < WORTH_DIVIDING), progress_bar(name, left, bool(progress) and leads) as bar:
            at = run.go(at, batches(n, batch_size, seed, at.step), bar)
    return History(at.records, at.theta, at.state, about, at.average)


@dataclass(frozen=True)
class _Limits:
    """The limits of a run."""

    steps: int | None
    max_seconds: float | None
    target: Mapping[str, float] | None

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        if self.steps is None and self.max_seconds is None:
            raise ValueError("expected steps or max_seconds, got neither")
        if self.steps is not None:
            if checks.is_number(self.steps) and not isinstance(self.steps, Integral):
                raise ValueError(
                    f"expected steps to be a whole number >= 0, got {self.steps!r}; round it, for example "
                    "round(epochs * n / batch_size)"
                )
            checks.count(0, steps=self.steps)
        if self.max_seconds is not None:
            checks.positive(max_seconds=self.max_seconds)
        if self.target is not None and not isinstance(self.target, Mapping):
            raise TypeError(f"expected target as {{'loss': 0.1}}, got {self.target!r}")
        for column, level in (self.target or {}).items():
            if not checks.is_number(level):
                raise ValueError(f"expected a finite number as the target of {column}, got {level!r}")

    def are_over(self, at: Checkpoint, comm: Communicator) -> bool:
        """Whether the limit of steps or time, on rank 0's clock, is reached."""
        late = self.max_seconds is not None and comm.from_first(at.seconds >= self.max_seconds)
        return late or at.step == self.steps

    def are_reached(self, record: Record) -> bool:
        """Whether a measurement reaches the target."""
        if not self.target:
            return False
        missing = [column for column in self.target if column not in record]
        if missing:
            raise ValueError(f"expected targets among {', '.join(record)}, got {missing[0]!r}")
        return all(record[column] <= level for column, level in self.target.items())


@dataclass(frozen=True)
class _Run:
    """The constants of a run; the fields are the arguments of :func:`train`."""

    net: Network
    opt: Optimizer
    data: Data
    seed: int
    averaging: Averaging | None
    limits: _Limits
    measured: Callable[[int], bool]
    keeper: Keeper
    track: Callable[[int, Array], dict[str, Any]] | None
    on_record: Callable[[Record], None] | None
    clock: Callable[[], float] | None

    def start(self, theta: Array, about: dict[str, Any]) -> Checkpoint:
        """The starting point: a stored checkpoint, or theta."""
        stored = self.net.comm.from_first(self.keeper.start)
        if stored is None:
            average = None if self.averaging is None else theta
            return Checkpoint(theta, self.opt.init(theta), about=about, average=average)
        if self.limits.steps is not None and stored.step > self.limits.steps:
            raise ValueError(
                f"expected steps >= {stored.step}, the step of the checkpoint, got {self.limits.steps}"
            )
        return stored

    def go(self, at: Checkpoint, order: Iterator[np.ndarray], bar: Bar) -> Checkpoint:
        """Measure, write and step until the run ends."""
        while True:
            ends = self.limits.are_over(at, self.net.comm)
            if (ends or at.step == 0 or self.measured(at.step)) and not at.is_measured:
                at.records.append(self.measure(at))
                bar.note(_note(at.records[-1], self.limits.max_seconds))
            ends = ends or (at.is_measured and self.limits.are_reached(at.records[-1]))
            if ends or self.keeper.due(at.step):
                self.keeper.save(at)
            if ends:
                return at
            at = self.step(at, next(order))
            bar.advance()

    def step(self, at: Checkpoint, rows: np.ndarray) -> Checkpoint:
        """Take one step and update the average, if there is one."""
        now = self.clock or time.perf_counter
        started = now()
        batch = batch_of(self.data, rows, at.theta)
        theta, state, info = self._stepped(at, batch)
        average, k, m = at.average, at.step + 1, len(rows)
        if average is not None and self.averaging is not None:
            average = averaged(average, theta, k, m, self.averaging)
        if self.measured(k):
            to_host(theta[:1])  # wait for the device
        seconds, examples = at.seconds + now() - started, at.examples + m
        return Checkpoint(theta, state, k, examples, seconds, info, at.records, at.about, average)

    def _stepped(
        self, at: Checkpoint, batch: tuple[Array, Array]
    ) -> tuple[Array, dict[str, Any], dict[str, float]]:
        """Take the optimizer's step; if it fails because parameters are not finite, the error says so."""
        try:
            stepped = self.opt.step(at.theta, at.state, batch, np.random.default_rng([self.seed, at.step]))
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}{self._good_checkpoint()}") from error
        except Exception as error:
            if not np.isfinite(to_host(at.theta)).all():
                raise self._not_finite("parameters", "NaN or infinite ones", at.step) from error
            raise
        loss = stepped[2]["loss"]
        if not math.isfinite(loss):
            # targets on a device are not checked before
            self.net.output.check_values(batch[1], self.net.n_outputs(batch[0]))
            raise self._not_finite("loss", loss, at.step)
        return stepped

    def measure(self, at: Checkpoint) -> Record:
        """Measure and record the current parameters and their average."""
        comm = self.net.comm
        _refuse_other_parameters(comm, at)
        stats = at.state.get("stats") if isinstance(at.state, Mapping) else None
        values = evaluate(self.net, at.theta, self.data, stats)
        record: Record = {"step": at.step, "examples": at.examples, "seconds": at.seconds, **values}
        if at.average is not None:
            if at.average is not at.theta:
                values = evaluate(self.net, at.average, self.data, stats)
            record |= {f"{key}_average": value for key, value in values.items()}
        for name in ("loss", "loss_average"):
            if not math.isfinite(record.get(name, 0.0)):
                raise self._not_finite("loss", record[name], at.step)
        record |= {f"batch_{key}" if key in record else key: value for key, value in at.info.items()}
        if self.track is not None and comm.rank == 0:
            record |= self.track(at.step, at.theta)
        record = comm.from_first(record)
        self.keeper.record(record)
        if self.on_record is not None and comm.rank == 0:
            self.on_record(record)
        return record

    def _not_finite(self, what: str, value: Any, step: int) -> FloatingPointError:
        text = f"expected a finite {what}" if what == "loss" else f"expected finite {what}"
        text += f", got {value} in step {step}; use a smaller step size"
        return FloatingPointError(text + self._good_checkpoint())

    def _good_checkpoint(self) -> str:
        if self.keeper.keep is None or self.keeper.last is None:
            return ""
        return f"; the checkpoint of step {self.keeper.last} in {self.keeper.keep.checkpoint} is intact"


def _measured(every: int | Callable[[int], bool] | None, steps: int | None) -> Callable[[int], bool]:
    """Whether to measure before a step."""
    if every is not None and not callable(every):
        checks.count(measure_every=every)
    if every is None:
        every = PerOctave() if steps is None else max(1, steps // 10)
    between = every
    return between if callable(between) else lambda step: step % between == 0


def _check_settings(n: int, batch_size: Any, seed: Any, averaging: Any, progress: Any) -> None:
    size_at(0, n, batch_size)
    check_averaging(averaging)
    checks.count(0, seed=seed)
    if not isinstance(progress, bool | str):
        raise TypeError(f"expected progress to be True, False or the title of the bar, got {progress!r}")


def _check_parts(net: Network, opt: Any, dataset: Any, **functions: Any) -> None:
    """Reject arguments that do not fit together before the run starts."""
    missing = [part for part in ("x_train", "y_train", "x_test", "y_test") if not hasattr(dataset, part)]
    if missing:
        raise TypeError(
            f"expected dataset = datasets.Dataset(x_train, y_train, x_test, y_test, name), "
            f"got {type(dataset).__name__} without {missing[0]}"
        )
    other = getattr(opt, "net", net)
    if other is not net and describe(other) != describe(net):
        raise ValueError(f"expected an optimizer for the net to be trained, {net}, got one for {other}")
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"expected {name} to be a function or None, got {function!r}")


def _refuse_different_ranks(
    net: Network, opt: Optimizer, about: Mapping[str, Any], limits: _Limits, measure_every: Any, keeps: bool
) -> None:
    """Compare all settings of the run across ranks before it starts."""
    ranks: Communicator = getattr(getattr(opt, "net", None), "comm", SERIAL)
    if ranks is not net.comm and max(ranks.size, net.comm.size) > 1:
        raise ValueError(
            f"expected an optimizer made from the net on the same ranks, got {net.comm} and, for "
            f"{type(opt).__name__}, {ranks}"
        )
    if net.comm.size > 1:
        decisive = {**about, "numpy": np.__version__, "limits": describe(limits), "keep": keeps}
        decisive["measure_every"] = describe(measure_every)
        refuse_differences(net.comm, decisive, lambda here, there: list(differences(here, there)))


def _refuse_other_parameters(comm: Communicator, at: Checkpoint) -> None:
    """Compare parameters across ranks."""
    if comm.size == 1:
        return
    first, *others = comm.gather(digest(at.theta))
    different = [rank for rank, other in enumerate(others, 1) if other != first]
    if different:
        raise RuntimeError(
            f"expected the same parameters on all ranks after step {at.step}, got different ones on rank "
            f"{different[0]} and rank 0; do all have the same hardware and libraries?"
        )


def _note(record: Record, max_seconds: float | None) -> str:
    """The text after the progress bar."""
    shown = [f"{key.replace('_', ' ')} {record[key]:.4g}" for key in ("loss", "test_error") if key in record]
    damping = next((record[key] for key in ("lam", "damping") if key in record), None)
    if damping is not None:
        shown.append(f"damping {damping:.3g}")
    if max_seconds is not None:
        shown.append(f"{record['seconds']:.0f} of {max_seconds:.0f} s")
    return ", ".join(shown)


def warm_up(opt: Optimizer, theta: Array, dataset: Dataset, batch_size: BatchSize, seed: int = 0) -> None:
    """Take the first step of a run and discard it, so that timings exclude one-time work."""
    batch = batch_of(dataset, next(batches(len(dataset.x_train), batch_size, seed)), theta)
    opt.step(theta, opt.init(theta), batch, np.random.default_rng([seed, 0]))
