"""Adam: the average gradient divided by the root of the average squared gradient [KB15, alg. 1].

    m <- beta1 m + (1 - beta1) grad h           v <- beta2 v + (1 - beta2) (grad h)^2
    theta <- theta - lr mhat / (sqrt(vhat) + eps)     mhat = m / (1 - beta1^k),  vhat = v / (1 - beta2^k)

h = loss + l2 / 2 ||theta||^2. v is not a Fisher matrix: it squares the mini-batch's mean gradient for the
labels, whereas the Fisher diagonal is a mean of squares over examples, with targets drawn from the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array
from ..network import Network
from . import checks
from .finite import finite
from .momentum import State, at_start
from .objective import objective_gradient
from .schedules import Schedule, value_at


@dataclass(frozen=True)
class Adam:
    """Adam on the mean loss.

    Attributes:
        net: the network.
        lr: step size, a number or a schedule.
        beta1: decay of the average gradient.
        beta2: decay of the average square.
        eps: added to the square root.
        l2: weight decay of all parameters, biases included, as part of the gradient.
    """

    net: Network
    lr: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    l2: float = 0.0

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.positive(lr=self.lr, eps=self.eps)
        checks.below_one(beta1=self.beta1, beta2=self.beta2)
        checks.not_negative(l2=self.l2)

    def init(self, theta: Array) -> State:
        """Return the initial state, in which the averages m and v (P,) are 0."""
        return at_start(self.net, theta) | {"m": 0 * theta, "v": 0 * theta}

    @finite
    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any = None
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info (``loss``, ``lr``).

        Args:
            theta: (P,).
            state: from ``init`` or the last step.
            batch: inputs and targets.
            rng: unused.
        """
        k, lr = state["step"] + 1, value_at(self.lr, state["step"], "lr")
        loss, grad, stats, _ = objective_gradient(self.net, theta, *batch, state["stats"], self.l2)
        m = self.beta1 * state["m"] + (1 - self.beta1) * grad
        v = self.beta2 * state["v"] + (1 - self.beta2) * grad**2
        vhat = v / (1 - self.beta2**k)
        moved = theta - lr / (1 - self.beta1**k) * m / (vhat**0.5 + self.eps)
        after = {"step": k, "m": m, "v": v, "stats": stats}
        return moved, after, {"loss": loss, "lr": lr}
