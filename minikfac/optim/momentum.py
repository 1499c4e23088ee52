"""What optimizers with a velocity share: heavy ball over any direction, and the average of the iterates.

v <- mu v - lr direction,   theta <- theta + v
"""

from __future__ import annotations

from typing import Any

from ..backend import Array
from ..network import Network
from .averages import average_iterates

State = dict[str, Any]


def at_rest(net: Network, theta: Array, averaging: float) -> State:
    """Return the state before the first step: no velocity; with averaging, theta is its own average."""
    state: State = {"step": 0, "velocity": 0 * theta, "stats": net.init_stats()}
    return state | {"average": theta} if averaging else state


def heavy_ball(state: State, direction: Array, lr: float, mu: float) -> Array:
    """Return the new velocity, mu v - lr direction."""
    velocity = -lr * direction
    if mu:
        velocity += mu * state["velocity"]
    return velocity


def moved_by(
    velocity: Array, theta: Array, state: State, stats: list[Array], averaging: float
) -> tuple[Array, State]:
    """Return theta + velocity, and the state after it."""
    k, moved = state["step"] + 1, theta + velocity
    after: State = {"step": k, "velocity": velocity, "stats": stats}
    if averaging:
        after["average"] = average_iterates(state["average"], moved, k, averaging)
    return moved, after
