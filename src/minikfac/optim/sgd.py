"""Stochastic gradient descent, with heavy-ball or Nesterov momentum.

v <- mu v - lr grad(theta)            heavy ball       theta <- theta + v
v <- mu v - lr grad(theta + mu v)     Nesterov         theta <- theta + v    [SMDH13, sec. 2]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array
from ..network import Network


@dataclass(frozen=True)
class SGD:
    """SGD on the mean loss.

    Attributes:
        net: the network.
        lr: learning rate.
        momentum: mu in [0, 1).
        nesterov: take the gradient where the momentum leads.
    """

    net: Network
    lr: float
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"expected lr > 0, got {self.lr}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"expected momentum in [0, 1), got {self.momentum}")

    def init(self, theta: Array) -> dict[str, Any]:
        """Return the state before the first step: zero velocity (P,), and the statistics of the net."""
        return {"velocity": 0 * theta, "stats": self.net.init_stats()}

    def step(
        self, theta: Array, state: dict[str, Any], batch: tuple[Array, Array], rng: Any = None
    ) -> tuple[Array, dict[str, Any], dict[str, float]]:
        """Return theta, state and info (``loss``, on this batch and where the gradient is taken).

        Args:
            theta: (P,).
            state: of ``init`` or the last step.
            batch: inputs (N, features) and targets.
            rng: unused; optimizers that sample targets need one.
        """
        velocity = self.momentum * state["velocity"]
        at = theta + velocity if self.nesterov else theta
        loss, grad, stats = self.net.gradient_pass(at, *batch, state["stats"])
        velocity = velocity - self.lr * grad
        return theta + velocity, {"velocity": velocity, "stats": stats}, {"loss": loss}
