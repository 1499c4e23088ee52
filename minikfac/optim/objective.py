"""The objective of a mini-batch, h = loss + l2 / 2 ||theta||^2, in training mode; and parts of a batch.

In training, batch normalization takes the statistics of the batch itself, so h is a function of all its
examples at once; without it, h is a mean over examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..backend import Array, fetch, number
from ..network import Network


def first(x: Array, share: float) -> Array:
    """Return a share of a batch, at least one example: a random part, as batches come in random order."""
    return x[: max(1, math.ceil(share * len(x)))]


def decay(theta: Array, l2: float) -> Any:
    """Return l2 / 2 ||theta||^2; on a device a number that stays there."""
    return 0.5 * l2 * number(theta @ theta) if l2 else 0.0


def objective(net: Network, theta: Array, x: Array, y: Array, l2: float) -> float:
    """Return h; infinity where it is not a number."""
    loss, penalty = fetch(net.mean_loss(theta, x, y, net.batch_stats(theta, x)), decay(theta, l2))
    h = loss + penalty
    return h if math.isfinite(h) else math.inf


def objective_gradient(
    net: Network, theta: Array, x: Array, y: Array, stats: Sequence[Array], l2: float
) -> tuple[Any, Array, list[Array], list[Array]]:
    """Return the loss without the decay, the gradient (P,) of h, and statistics of batch normalization.

    These are the running ones after the pass, and those of the batch. Curvature that is taken on a part of
    the batch holds the latter constant, so that it is of the function whose gradient this is. On a device the
    loss stays there.
    """
    loss, grad, after, used = net.gradient_pass(theta, x, y, stats)
    return loss, grad + l2 * theta if l2 else grad, after, used
