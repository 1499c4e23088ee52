"""The natural gradient with the exact Fisher matrix, for small nets [Amari98].

    theta <- theta - lr (F + lambda I)^{-1} grad

F is that of the mini-batch, with the exact expectation over targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array, to_floats
from ..fisher import exact, signals
from ..network import Network
from . import checks
from .schedules import Schedule, value_at


@dataclass(frozen=True)
class NaturalGradient:
    """Steepest descent in the Fisher metric; each step costs N P^2 + P^3 / 3.

    Attributes:
        net: the network.
        lr: step size, a number or a schedule.
        damping: lambda >= 0; 0 where F is positive definite.
        n_fisher: examples of the batch over which F is a mean; all by default.
    """

    net: Network
    lr: float | Schedule = 1.0
    damping: float = 1e-3
    n_fisher: int | None = None

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.positive(lr=self.lr)
        checks.not_negative(damping=self.damping)
        if self.n_fisher is not None:
            checks.count(n_fisher=self.n_fisher)

    def init(self, theta: Array) -> dict[str, Any]:
        """Return the state before the first step."""
        return {"step": 0, "stats": self.net.init_stats()}

    def step(
        self, theta: Array, state: dict[str, Any], batch: tuple[Array, Array], rng: Any = None
    ) -> tuple[Array, dict[str, Any], dict[str, float]]:
        """Return theta, state and info (``loss``, ``damping``).

        Raises:
            SingularMatrixError: without damping where F is singular.
        """
        x, y = batch
        loss, grad, stats = self.net.gradient_pass(theta, x, y, state["stats"])
        F = exact(signals(self.net, theta, x[: self.n_fisher], train=True))
        lr = value_at(self.lr, state["step"])
        delta = -lr * F.solve(grad, damping=self.damping)
        after = {"step": state["step"] + 1, "stats": stats}
        return theta + delta, after, to_floats({"loss": loss, "damping": self.damping})
