"""EKFAC: steps in K-FAC's eigenbasis with optimal eigenvalues [GLBBV18].

    A = U_A diag(a) U_A^T,   G = U_G diag(g) U_G^T          every T3 steps, from averaged factors
    s_io = E[ (U_A^T DW U_G)_io^2 ]                         every step, averaged since then
    direction = U_A [ (U_A^T grad U_G) / (s + damping) ] U_G^T
    v <- mu v - lr direction,    theta <- theta + v

K-FAC would use s_io = a_i g_o. Eigenvectors are expensive and change slowly; eigenvalues are cheap in a given
basis, so they are updated in every step. A new basis starts a new average, since values of s in different
bases are not comparable. Damping is exact. The scale and shift of a normalization keep their full block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Array
from ..fisher import signals
from ..fisher.ekfac import eigenbases, eigenvalues, in_eigenbases
from ..fisher.kronecker import factors
from ..network import Network
from . import checks
from .averages import moving_average
from .finite import finite
from .momentum import State, at_rest, heavy_ball, moved_by
from .objective import first, objective_gradient
from .schedules import Schedule, value_at


@dataclass(frozen=True)
class EKFAC:
    """EKFAC with momentum.

    Attributes:
        net: the network.
        lr: step size, a number or a schedule.
        momentum: in [0, 1), a number or a schedule.
        damping: lambda > 0.
        l2: weight decay, biases included; added to the damping.
        tau1: fraction of the batch used for factors and eigenvalues, with sampled targets.
        T3: steps between new bases.
        decay: largest weight of the past in the moving averages of factors and eigenvalues.
    """

    net: Network
    lr: float | Schedule
    momentum: float | Schedule = 0.9
    damping: float = 1e-3
    l2: float = 0.0
    tau1: float = 1.0
    T3: int = 20
    decay: float = 0.95

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.positive(lr=self.lr, damping=self.damping)
        checks.below_one(momentum=self.momentum, decay=self.decay)
        checks.not_negative(l2=self.l2)
        checks.share(tau1=self.tau1)
        checks.count(T3=self.T3)

    def init(self, theta: Array) -> State:
        """Return the initial state."""
        nothing = dict.fromkeys(("factors", "bases", "eigenvalues"))
        return at_rest(self.net, theta) | nothing

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
        means = moving_average(state["factors"], drawn.total(factors), k, self.decay)
        age = (k - 1) % self.T3  # age of the basis
        bases = state["bases"] if age else eigenbases(means, self.net.comm)
        # at age 0 the old eigenvalues, which belong to another basis, have weight 0
        values = moving_average(state["eigenvalues"], eigenvalues(drawn, bases), age + 1, self.decay)
        F = in_eigenbases(bases, values, self.net.names)
        direction = F.solve(grad, damping=self.damping + self.l2)
        moved, after = moved_by(heavy_ball(state, direction, lr, mu), theta, state, stats)
        after |= {"factors": means, "bases": bases, "eigenvalues": values}
        return moved, after, {"loss": loss, "damping": self.damping, "lr": lr, "mu": mu}
