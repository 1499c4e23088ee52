"""What optimizers with a velocity share: heavy ball over any direction.

v <- mu v - lr direction,   theta <- theta + v
"""

from __future__ import annotations

from typing import Any

from ..backend import Array
from ..network import Network

State = dict[str, Any]


def at_rest(net: Network, theta: Array) -> State:
    """Return the state before the first step: no velocity."""
    return {"step": 0, "velocity": 0 * theta, "stats": net.init_stats()}


def heavy_ball(state: State, direction: Array, lr: float, mu: float) -> Array:
    """Return the new velocity, mu v - lr direction."""
    velocity = -lr * direction
    if mu:
        velocity += mu * state["velocity"]
    return velocity


def moved_by(velocity: Array, theta: Array, state: State, stats: list[Array]) -> tuple[Array, State]:
    """Return theta + velocity, and the state after it."""
    return theta + velocity, {"step": state["step"] + 1, "velocity": velocity, "stats": stats}
