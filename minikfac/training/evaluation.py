"""Losses and errors of a net on the full training and test sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import Array, all_finite, fetch, on_host
from ..network import Network, outputs
from .batches import Data, rows_of

EVALUATED_AT_ONCE = 5000
"""Number of examples evaluated at a time."""


def evaluate(
    net: Network, theta: Array, dataset: Data, stats: Sequence[Array] | None = None
) -> dict[str, float]:
    """Evaluate the net on both parts of the data; ranks share the examples.

    Args:
        net: the network.
        theta: (P,).
        dataset: the data.
        stats: running statistics of batch normalization, from an optimizer's state.

    Returns:
        Mean losses ``loss`` and ``test_loss``; for labels the error rates ``train_error`` and
        ``test_error``; for other targets ``squared_error`` and ``test_squared_error``, summed over units and
        averaged over examples, as the papers' reconstruction error of autoencoders.
    """
    train, test = (
        _evaluate_part(net, theta, x, y, stats)
        for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test))
    )
    first = {"train_error" if key == "error" else key: value for key, value in train.items()}
    return first | {f"test_{key}": value for key, value in test.items()}


def _evaluate_part(
    net: Network, theta: Array, x: Array, y: Array, stats: Sequence[Array] | None
) -> dict[str, float]:
    sums: list[Any] = []
    share = net.comm.rows(len(x))
    chunks = [
        slice(start, min(start + EVALUATED_AT_ONCE, share.stop))
        for start in range(share.start, share.stop, EVALUATED_AT_ONCE)
    ]
    finite = not on_host(theta) or all_finite(theta)
    for rows in chunks:
        x_rows, y_rows = rows_of(x, rows, theta), rows_of(y, rows, theta)
        try:
            z = net.natural_parameters(theta, x_rows, stats) if finite else None
        except FloatingPointError:
            z = None
        if z is None:  # the run's error names the step
            sums += [math.nan, math.nan]
            continue
        net.output.check(y_rows, *z.shape)
        sums += [net.output.losses(z, y_rows).sum(), net.output.errors(z, y_rows).sum()]
    numbers = fetch(*sums)  # one request to a device
    loss = sum(numbers[::2])
    if math.isnan(loss):
        for rows in chunks:
            net.output.check_values(rows_of(y, rows, theta), net.n_outputs(x))
    (totals,) = net.comm.sum([np.array([loss, sum(numbers[1::2])], dtype=float)])
    labels = isinstance(net.output, outputs.Categorical | outputs.CategoricalPerPosition)
    names = ("loss", "error" if labels else "squared_error")
    return {name: float(total) / len(x) for name, total in zip(names, totals, strict=True)}
