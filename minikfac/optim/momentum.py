"""Heavy-ball momentum for any direction, shared by the optimizers with a velocity.

v <- mu v - lr direction,   theta <- theta + v
"""

from __future__ import annotations

from typing import Any

from ..backend import Array
from ..network import Network
from . import checks

State = dict[str, Any]


def at_start(net: Network, theta: Array) -> State:
    """Return the entries common to all initial states.

    Raises:
        ValueError: on parameters that do not fit the net or are not finite.
    """
    checks.parameters(net, theta)
    return {"step": 0, "stats": net.init_stats()}


def at_rest(net: Network, theta: Array) -> State:
    """Return the initial state with zero velocity."""
    return at_start(net, theta) | {"velocity": 0 * theta}


def heavy_ball(state: State, direction: Array, lr: float, mu: float) -> Array:
    """Return the new velocity, mu v - lr direction."""
    velocity = -lr * direction
    if mu:
        velocity += mu * state["velocity"]
    return velocity


def moved_by(velocity: Array, theta: Array, state: State, stats: list[Array]) -> tuple[Array, State]:
    """Return theta + velocity and the new state."""
    return theta + velocity, {"step": state["step"] + 1, "velocity": velocity, "stats": stats}
