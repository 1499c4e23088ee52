"""A mini-batch's objective in training mode, h = loss + l2 / 2 ||theta||^2, and fractions of a batch.

In training, batch normalization uses the statistics of the batch itself, so h is a joint function of all its
examples; without it, h is a mean over examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..backend import Array, fetch, number
from ..network import Network


def first(x: Array, share: float) -> Array:
    """Return a fraction of a batch, at least one example; it is random, as batches are in random order."""
    return x[: max(1, math.ceil(share * len(x)))]


def decay(theta: Array, l2: float) -> Any:
    """Return l2 / 2 ||theta||^2; on a device it stays there."""
    return 0.5 * l2 * number(theta @ theta) if l2 else 0.0


def objective(net: Network, theta: Array, x: Array, y: Array, l2: float) -> float:
    """Return h, or infinity if it is NaN."""
    loss, penalty = fetch(net.mean_loss(theta, x, y, net.batch_stats(theta, x)), decay(theta, l2))
    h = loss + penalty
    return h if math.isfinite(h) else math.inf


def objective_gradient(
    net: Network, theta: Array, x: Array, y: Array, stats: Sequence[Array], l2: float
) -> tuple[Any, Array, list[Array], list[Array]]:
    """Return the loss without weight decay, the gradient (P,) of h, and statistics of batch normalization.

    The statistics are the running ones after the pass and those of the batch. Curvature on a part of the
    batch uses the latter as constants, so that it belongs to the same function as the gradient. On a device
    the loss stays there.
    """
    loss, grad, after, used = net.gradient_pass(theta, x, y, stats)
    return loss, grad + l2 * theta if l2 else grad, after, used
