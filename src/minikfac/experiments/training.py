"""The only training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..backend import Array, to_host
from ..datasets import Dataset
from ..network import Network, outputs
from .progress import progress_bar


class Optimizer(Protocol):
    """What the loop asks of an optimizer; :class:`minikfac.optim.SGD` is one."""

    def init(self, theta: Array) -> dict[str, Any]: ...

    def step(
        self, theta: Array, state: dict[str, Any], batch: tuple[Array, Array], rng: Any
    ) -> tuple[Array, dict[str, Any], dict[str, float]]: ...


@dataclass
class History:
    """What a run measured, and where it ended.

    Attributes:
        records: one dict a measurement: ``step``, ``examples``, ``loss``, ``test_loss``, ``test_error``
            (share of wrong labels; absent for other targets) and whatever ``track`` added.
        theta: the last parameters (P,).
        state: the optimizer's.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    theta: Any = None
    state: Any = None

    def __getitem__(self, column: str) -> np.ndarray:
        """One column of the records as an array; nan where a record lacks it."""
        if not any(column in record for record in self.records):
            known = ", ".join(dict.fromkeys(key for record in self.records for key in record))
            raise KeyError(f"expected a column among {known}, got {column!r}")
        return np.array([record.get(column, math.nan) for record in self.records])


def batches(n: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield index arrays for ever: each epoch in an order of its own, a rest under batch_size left out."""
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch, 1]).permutation(n)  # no step's stream of targets
        for start in range(0, n - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
        epoch += 1


def train(
    net: Network,
    theta: Array,
    opt: Optimizer,
    dataset: Dataset,
    steps: int,
    batch_size: int = 100,
    seed: int = 0,
    measure_every: int | None = None,
    track: Callable[[int, Array], dict[str, Any]] | None = None,
    progress: bool = True,
) -> History:
    """Train a net.

    Randomness is by position: step k uses ``default_rng([seed, k])``, epoch e is ordered by
    ``default_rng([seed, e, 1])``.

    Args:
        net: the network.
        theta: initial parameters (P,); not changed.
        opt: the optimizer.
        dataset: trained on its training part; losses and errors are of the whole parts.
        steps: how many.
        batch_size: examples per step.
        seed: of order and sampled targets.
        measure_every: steps between measurements; a tenth of the run by default. The start and the end are
            always measured.
        track: called at each measurement with step and theta; what it returns joins the record.
        progress: show a bar.

    Raises:
        ValueError: on sizes that do not fit.
        FloatingPointError: if the loss becomes NaN or infinite.
    """
    n = len(dataset.x_train)
    if not 1 <= batch_size <= n:
        raise ValueError(f"expected batch_size from 1 to {n}, the size of the training set, got {batch_size}")
    if steps < 0:
        raise ValueError(f"expected steps >= 0, got {steps}")
    if measure_every is not None and measure_every < 1:
        raise ValueError(f"expected measure_every >= 1, got {measure_every}")
    every = measure_every or max(1, steps // 10)
    history = History(theta=theta, state=opt.init(theta))
    order = batches(n, batch_size, seed)
    with progress_bar("training", steps, progress) as bar:
        for step in range(steps + 1):
            if step % every == 0 or step == steps:
                record = {
                    "step": step,
                    "examples": step * batch_size,
                    **evaluate(net, history.theta, dataset, history.state.get("stats")),
                }
                _check_loss(record["loss"], step)
                if track is not None:
                    record |= track(step, history.theta)
                history.records.append(record)
                shown = {key: record[key] for key in ("loss", "test_error") if key in record}
                bar.note(", ".join(f"{key.replace('_', ' ')} {value:.4f}" for key, value in shown.items()))
            if step == steps:
                break
            rows = next(order)
            batch = (dataset.x_train[rows], dataset.y_train[rows])
            rng = np.random.default_rng([seed, step])
            history.theta, history.state, info = opt.step(history.theta, history.state, batch, rng)
            _check_loss(info["loss"], step)
            bar.advance()
    return history


def _check_loss(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"expected a finite loss, got {loss} in step {step}; use a smaller step size"
        )


def evaluate(
    net: Network, theta: Array, dataset: Dataset, stats: Sequence[Array] | None = None
) -> dict[str, float]:
    """Mean losses of both parts and, for labels, the share of wrong ones in the test part.

    ``stats`` are the running statistics of batch normalization, in an optimizer's state.
    """
    z = net.natural_parameters(theta, dataset.x_test, stats)
    found = {
        "loss": net.loss(theta, dataset.x_train, dataset.y_train, stats),
        "test_loss": float(net.output.nll(z, dataset.y_test).mean()),
    }
    if isinstance(net.output, outputs.Categorical):
        found["test_error"] = float(to_host(z.argmax(1) != dataset.y_test).mean())
    return found
