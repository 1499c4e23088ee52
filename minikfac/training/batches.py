"""Mini-batches: their examples, sizes and devices, determined by the step rather than by history.

Epoch e visits the training set in the order of ``default_rng([seed, e, 1])``. Step k uses the next m_k
examples; if too few remain, they are skipped and the next epoch starts. The batch of any step is thus
determined by the seed, the step and the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..backend import Array, array_module, available_memory, to_host
from ..datasets import Dataset
from ..optim import checks

Data = Dataset | SimpleNamespace
"""Any object with ``x_train``, ``y_train``, ``x_test`` and ``y_test``."""
BatchSize = int | Callable[[int], int]
"""Examples per step: a number, or a function of the step, counted from 0."""


@dataclass(frozen=True)
class ExponentialBatches:
    """m_k = min(first exp((k - 1) / scale), most) at the k-th step, where k = step + 1 [MG15, sec. 13].

    Attributes:
        first: m_1.
        scale: number of steps for growth by a factor of e.
        most: the size of the training set, or less.

    >>> paper = ExponentialBatches.reaching(60_000)
    >>> [paper(k - 1) for k in (1, 100, 250, 400, 500, 600)]
    [1000, 2253, 7714, 26412, 60000, 60000]
    """

    first: int
    scale: float
    most: int

    def __post_init__(self) -> None:
        checks.count(first=self.first, most=self.most)
        checks.positive(scale=self.scale)
        if self.first > self.most:
            raise ValueError(f"expected first <= most, got {self.first} and {self.most}")

    @classmethod
    def reaching(cls, most: int, first: int = 1000, at: int = 500) -> ExponentialBatches:
        """Start with ``first`` and reach ``most`` at step ``at``, counted from 1.

        The defaults are the paper's, in which ``most`` is the size of the training set.
        """
        checks.count(first=first, most=most, at=at)
        if first >= most or at < 2:
            raise ValueError(f"expected 1 <= first < most and at >= 2, got {first}, {most} and {at}")
        return cls(first, (at - 1) / math.log(most / first), most)

    def __call__(self, step: int) -> int:
        growth = min(step / self.scale, math.log(self.most / self.first))  # so exp cannot overflow
        return min(round(self.first * math.exp(growth)), self.most)


def size_at(step: int, n: int, batch_size: BatchSize) -> int:
    """Batch size of a step, with n training examples.

    Raises:
        ValueError: unless it is a whole number from 1 to n.
    """
    m = batch_size(step) if callable(batch_size) else batch_size
    if isinstance(m, bool) or not isinstance(m, int | np.integer) or not 1 <= m <= n:
        at = f" at step {step}" if callable(batch_size) else ""
        raise ValueError(f"expected batch_size from 1 to {n}, the size of the training set, got {m!r}{at}")
    return int(m)


def batches(n: int, batch_size: BatchSize, seed: int, start: int = 0) -> Iterator[np.ndarray]:
    """Yield index arrays indefinitely, starting with step ``start``.

    Each epoch has its own order; a remainder smaller than a batch is skipped.
    """
    epoch, begin, step = 0, 0, 0
    ordered, order = -1, np.empty(0, dtype=int)
    while True:
        m = size_at(step, n, batch_size)
        if begin + m > n:
            epoch, begin = epoch + 1, 0
        if step >= start:
            if ordered != epoch:
                # a separate stream, as [seed, e] is that of step e's targets
                ordered, order = epoch, np.random.default_rng([seed, epoch, 1]).permutation(n)
            yield order[begin : begin + m]
        begin += m
        step += 1


def beside(dataset: Data, theta: Array) -> Data:
    """Return the data on theta's device, or unmoved if they would fill more than half of its memory."""
    names = ("x_train", "y_train", "x_test", "y_test")
    parts = {name: getattr(dataset, name) for name in names}
    xp, once = array_module(theta), {id(part): part for part in parts.values()}
    away = {key: part for key, part in once.items() if array_module(part) is not xp}
    if not away or xp is np or sum(part.nbytes for part in away.values()) > available_memory(xp) / 2:
        return dataset
    there = once | {key: xp.asarray(part) for key, part in away.items()}
    return SimpleNamespace(**{name: there[id(part)] for name, part in parts.items()})


def batch_of(dataset: Data, rows: Any, theta: Array) -> tuple[Array, Array]:
    """Return the inputs and targets of these training examples, on the device of theta."""
    if array_module(dataset.x_train) is array_module(dataset.y_train):
        rows = array_module(dataset.x_train).asarray(rows)  # once for both
    x = rows_of(dataset.x_train, rows, theta)
    return x, x if dataset.y_train is dataset.x_train else rows_of(dataset.y_train, rows, theta)


def rows_of(part: Array, rows: Any, theta: Array) -> Array:
    """Return rows of a data array, on the device of theta."""
    xp = array_module(part)
    chosen = part[rows if isinstance(rows, slice) else xp.asarray(to_host(rows) if xp is np else rows)]
    return chosen if xp is array_module(theta) else array_module(theta).asarray(chosen)
