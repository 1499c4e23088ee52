"""The natural gradient with the exact Fisher matrix, for small nets [Amari98].

    v = -lr (F + lambda I)^{-1} grad
    theta <- theta + v min(1, sqrt(clip / nu))             nu = v^T F v

F is computed on the mini-batch, with the exact expectation over targets. To second order, nu is twice the KL
divergence between the predictions before and after the step. If F is nearly singular, as with few examples,
the bound keeps the step in the region where F describes the loss. ``clip=None`` gives the textbook step.
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
        damping: lambda >= 0; 0 only if F is positive definite.
        n_fisher: number of the batch's examples used for F; all by default. Batch normalization uses the
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
        """Return the initial state."""
        return at_start(self.net, theta)

    @finite
    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any = None
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info (``loss``, ``lr``, ``damping`` and, with a clip, ``nu``).

        Raises:
            SingularMatrixError: if F is singular and not damped.
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
