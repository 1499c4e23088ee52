"""The natural gradient with the exact Fisher matrix, for small nets [Amari98].

    v = -lr (F + lambda I)^{-1} grad
    theta <- theta + v min(1, sqrt(clip / nu))             nu = v^T F v

F is that of the mini-batch, with the exact expectation over targets. nu is twice the KL divergence by which
the step moves the predictions, to second order: where F is nearly singular, as that of few examples is, the
bound keeps the step where F still describes the loss. ``clip=None`` leaves the textbook's step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array
from ..fisher import exact, signals
from ..network import Network
from . import checks
from .finite import finite
from .momentum import State, at_start
from .quadratic import within
from .schedules import Schedule, value_at


@dataclass(frozen=True)
class NaturalGradient:
    """Steepest descent in the Fisher metric; each step costs N P^2 + P^3 / 3.

    Attributes:
        net: the network.
        lr: step size, a number or a schedule.
        damping: lambda >= 0; 0 where F is positive definite.
        n_fisher: examples of the batch over which F is a mean; all by default. Batch normalization keeps the
            statistics of the whole batch.
        clip: bound on nu; None for no bound.
    """

    net: Network
    lr: float | Schedule = 1.0
    damping: float = 1e-2
    n_fisher: int | None = None
    clip: float | None = 0.03

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.positive(lr=self.lr)
        checks.not_negative(damping=self.damping)
        if self.n_fisher is not None:
            checks.count(n_fisher=self.n_fisher)
        if self.clip is not None:
            checks.positive(clip=self.clip)

    def init(self, theta: Array) -> State:
        """Return the state before the first step."""
        return at_start(self.net, theta)

    @finite
    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any = None
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info (``loss``, ``lr``, ``damping`` and, with a clip, ``nu``).

        Raises:
            SingularMatrixError: without damping where F is singular.
        """
        x, y = batch
        loss, grad, stats, used = self.net.gradient_pass(theta, x, y, state["stats"])
        F = exact(signals(self.net, theta, x[: self.n_fisher], stats=used))
        lr = value_at(self.lr, state["step"], "lr")
        v = -lr * F.solve(grad, damping=self.damping)
        info = {"loss": loss, "lr": lr, "damping": self.damping}
        if self.clip is not None:
            info["nu"] = v @ (F @ v)
            v = v * within(self.clip, info["nu"], theta)
        return theta + v, {"step": state["step"] + 1, "stats": stats}, info
