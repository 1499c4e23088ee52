"""The natural gradient with a low-rank Fisher matrix from recent sampled gradients, after TONGA [LRMB08].

    F ~ U U^T,                          U (P, r)
    v <- mu v - lr (U U^T + damping)^-1 grad h,    theta <- theta + v

Each step divides the batch into a few groups of examples and samples targets from the model. Each group adds
a column, the sum of its gradients divided by sqrt(N). Gradients of different examples are independent with
mean 0, so U U^T is an unbiased estimate of the batch's Fisher matrix for any grouping; with one example per
group it is the sampled Fisher matrix itself. Old columns decay, U U^T <- eps U U^T + (1 - eps) new, with eps
= min(1 - 1/k, decay), and if there are more than r the oldest are dropped. The inverse needs an r x r system,
and multiplies directions orthogonal to all columns by 1 / damping.

TONGA itself uses gradients for the labels, one block per unit, and eigenvectors instead of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..backend import Array, array_module
from ..fisher import LowRank as LowRankMatrix
from ..fisher import Signals, signals
from ..network import Network
from . import checks
from .finite import finite
from .momentum import State, at_rest, heavy_ball, moved_by
from .objective import first, objective_gradient
from .schedules import Schedule, value_at


@dataclass(frozen=True)
class LowRank:
    """Natural gradient with a low-rank Fisher matrix, and momentum.

    Attributes:
        net: the network.
        lr: step size, a number or a schedule.
        momentum: in [0, 1), a number or a schedule.
        damping: lambda > 0.
        rank: r, the number of columns kept; memory r P.
        columns: number of groups, and so of new columns, per step.
        l2: weight decay, biases included; added to the damping.
        tau1: fraction of the batch used for the columns, with sampled targets.
        decay: largest weight of the old matrix.
    """

    net: Network
    lr: float | Schedule
    momentum: float | Schedule = 0.0
    damping: float = 1e-2
    rank: int = 100
    columns: int = 10
    l2: float = 0.0
    tau1: float = 1.0
    decay: float = 0.9

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.one_rank(self.net, "LowRank")
        checks.positive(lr=self.lr, damping=self.damping)
        checks.below_one(momentum=self.momentum, decay=self.decay)
        checks.count(rank=self.rank, columns=self.columns)
        checks.not_negative(l2=self.l2)
        checks.share(tau1=self.tau1)

    def init(self, theta: Array) -> State:
        """Return the initial state without columns, (P, 0)."""
        return at_rest(self.net, theta) | {"U": theta[:, None][:, :0]}

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
        drawn = signals(self.net, theta, first(x, self.tau1), targets="sampled", rng=rng, stats=used)
        new = group_gradients(self.net, theta, drawn, self.columns)
        eps = min(1 - 1 / k, self.decay)
        U = array_module(theta).concatenate([eps**0.5 * state["U"], (1 - eps) ** 0.5 * new], axis=1)
        U = U[:, -self.rank :]
        direction = LowRankMatrix(U).solve(grad, damping=self.damping + self.l2)
        moved, after = moved_by(heavy_ball(state, direction, lr, mu), theta, state, stats)
        return moved, after | {"U": U}, {"loss": loss, "damping": self.damping, "lr": lr, "mu": mu}


def group_gradients(net: Network, theta: Array, drawn: Signals, groups: int) -> Array:
    """Return the sum of each group's gradients divided by sqrt(N), (P, groups), or (P, N) if N is smaller.

    Args:
        net: the network.
        theta: (P,).
        drawn: signals with one target per example.
        groups: number of groups, whose sizes differ by at most one.
    """
    n, layers = drawn.n, next(iter(drawn))
    groups = min(groups, n)
    ends = [n * group // groups for group in range(groups + 1)]
    columns = []
    for part in (slice(a, b) for a, b in pairwise(ends)):
        abars, gs = [layer.abar[part] for layer in layers], [layer.g[0, part] for layer in layers]
        columns.append(net.summed_gradient(theta, abars, gs))
    return array_module(theta).stack(columns, axis=1) / n**0.5
