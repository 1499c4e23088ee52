"""Stochastic gradient descent, with heavy-ball or Nesterov momentum.

v <- mu v - lr grad h(theta)            heavy ball       theta <- theta + v
v <- mu v - lr grad h(theta + mu v)     Nesterov         theta <- theta + v    [SMDH13, sec. 2]

with h = loss + l2 / 2 ||theta||^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array
from ..network import Network
from . import checks
from .finite import finite
from .momentum import State, at_rest, moved_by
from .objective import objective_gradient
from .schedules import Schedule, value_at


@dataclass(frozen=True)
class SGD:
    """SGD on the mean loss.

    Attributes:
        net: the network.
        lr: learning rate, a number or a schedule.
        momentum: mu in [0, 1), a number or a schedule.
        nesterov: compute the gradient at the point reached by momentum.
        l2: weight decay, biases included.
    """

    net: Network
    lr: float | Schedule
    momentum: float | Schedule = 0.0
    nesterov: bool = False
    l2: float = 0.0

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.positive(lr=self.lr)
        checks.below_one(momentum=self.momentum)
        checks.not_negative(l2=self.l2)
        checks.flag(nesterov=self.nesterov)
        if self.momentum == 0:
            checks.acting(self, "with momentum > 0", "nesterov")

    def init(self, theta: Array) -> State:
        """Return the initial state."""
        return at_rest(self.net, theta)

    @finite
    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any = None
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info.

        Args:
            theta: (P,).
            state: from ``init`` or the last step.
            batch: inputs (N, features) and targets.
            rng: unused; optimizers that sample targets need one.

        Returns:
            Parameters, state, and info: ``loss`` at the gradient's point, ``lr`` and ``mu``.
        """
        k = state["step"]
        lr, mu = value_at(self.lr, k, "lr"), value_at(self.momentum, k, "momentum")
        velocity = mu * state["velocity"]
        at = theta + velocity if self.nesterov else theta
        loss, grad, stats, _ = objective_gradient(self.net, at, *batch, state["stats"], self.l2)
        velocity -= lr * grad
        moved, after = moved_by(velocity, theta, state, stats)
        return moved, after, {"loss": loss, "lr": lr, "mu": mu}
