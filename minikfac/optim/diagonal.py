"""The natural gradient with the diagonal of the Fisher matrix.

    D = E[ (d log p / d theta)^2 ]      per example, with targets drawn from the model
    v <- mu v - lr (D + damping)^-power grad h,    theta <- theta + v

It rescales the parameter axes but cannot rotate them. Power 1 is the natural gradient for this matrix; 1/2
scales like Adagrad and Adam. D is averaged over steps. D is not the square of the mini-batch's mean gradient,
which is N times smaller, consists mostly of noise and, with the labels, vanishes at a minimum of the loss
[KBH19].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array
from ..fisher import diagonal, signals
from ..network import Network
from . import checks
from .averages import moving_average
from .finite import finite
from .momentum import State, at_rest, heavy_ball, moved_by
from .objective import first, objective_gradient
from .schedules import Schedule, value_at


@dataclass(frozen=True)
class DiagonalNaturalGradient:
    """Natural gradient with a sampled diagonal Fisher matrix, and momentum.

    Attributes:
        net: the network.
        lr: step size, a number or a schedule.
        momentum: in [0, 1), a number or a schedule.
        damping: lambda > 0; the matrix raised to the power is D + (lambda + l2).
        power: 1, or 1/2 for the square root.
        l2: weight decay, biases included.
        tau1: fraction of the batch used for D, with sampled targets.
        decay: largest weight of the past in the moving average of D.
    """

    net: Network
    lr: float | Schedule
    momentum: float | Schedule = 0.0
    damping: float = 1e-3
    power: float = 1.0
    l2: float = 0.0
    tau1: float = 1.0
    decay: float = 0.95

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.positive(lr=self.lr, damping=self.damping)
        checks.below_one(momentum=self.momentum, decay=self.decay)
        checks.not_negative(l2=self.l2)
        checks.share(tau1=self.tau1, power=self.power)

    def init(self, theta: Array) -> State:
        """Return the initial state."""
        return at_rest(self.net, theta) | {"diagonal": None}

    @finite
    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info (``loss``, ``damping``, ``lr``, ``mu``).

        Args:
            theta: (P,).
            state: from ``init`` or the last step.
            batch: inputs and targets.
            rng: a ``numpy.random.Generator``, for sampling targets.
        """
        k, (x, y) = state["step"] + 1, batch
        lr, mu = value_at(self.lr, k - 1, "lr"), value_at(self.momentum, k - 1, "momentum")
        loss, grad, stats, used = objective_gradient(self.net, theta, x, y, state["stats"], self.l2)
        x1 = first(x, self.tau1)
        drawn = signals(self.net, theta, x1, targets="sampled", rng=rng, stats=used)
        means = moving_average(state["diagonal"], [(diagonal(drawn).diagonal(),)], k, self.decay)
        D = means[0][0] + (self.damping + self.l2)
        velocity = heavy_ball(state, grad / (D if self.power == 1 else D**self.power), lr, mu)
        moved, after = moved_by(velocity, theta, state, stats)
        info = {"loss": loss, "damping": self.damping, "lr": lr, "mu": mu}
        return moved, after | {"diagonal": means}, info
