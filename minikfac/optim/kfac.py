"""K-FAC, the full algorithm of Martens & Grosse [MG15, sec. 9]; ``step`` is numbered like its pseudocode.

    delta = alpha Delta + mu delta_0,    Delta = -(F~ + damping)^{-1} grad

Delta comes from the Kronecker factors, alpha and mu from the exact Fisher matrix along two directions. Two
kinds of damping are adapted: lambda, which limits trust in the quadratic model, by the Levenberg-Marquardt
rule; gamma, which damps the factored inverse, by trying three values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

from ..backend import Array, fetch
from ..distributed import Communicator
from ..fisher import BlockTridiagonal, Operator, block_tridiagonal, signals
from ..fisher.kronecker import factors
from ..fisher.kronecker_block import factored_inverse, kronecker_blocks
from ..linalg import SingularMatrixError
from ..network import Network
from . import checks
from .averages import moving_average
from .finite import finite
from .momentum import State, at_start
from .objective import decay, first, objective, objective_gradient
from .quadratic import QuadraticModel, curvature_and_slope, curvature_ratios, is_rounding
from .schedules import Schedule, value_at
from .stale import Background, Request

GAMMA_SHARE = 0.1
"""Initial gamma divided by sqrt(lambda + eta). gamma decreases by at most a factor of 0.6 in 20 steps, which
from the paper's 1 took most of a run; dense and convolutional nets then needed as many updates or more."""


class Proposal(NamedTuple):
    """A gamma, its inverse (F~ + damping)^{-1}, and the directions for step 5: Delta and perhaps delta_0."""

    gamma: float
    inverse: Operator
    directions: list[Array]


@dataclass(frozen=True)
class KFAC:
    """K-FAC with momentum and adaptive damping.

    The defaults are the paper's, except for ``lam``, initially 150 for its autoencoders (1 suits
    classifiers), the bound ``lam_min``, and the initial ``gamma``. The paper also averages the iterates: see
    ``averaging`` in :func:`minikfac.training.train`.

    Attributes:
        net: the network.
        lam: initial lambda, > 0; a constant 0 is allowed only if gamma is given.
        lam_min: lower limit of lambda. The paper has no such limit, but its batches grow to the whole
            training set. With small batches lambda decreases as long as the model fits the current batch, and
            without a limit the steps eventually overfit it.
        l2: eta; the objective is h = loss + eta / 2 ||theta||^2, biases included.
        gamma: initial value; by default ``gamma_share`` sqrt(lam + l2). If the damped factors are singular
            to working precision, gamma is doubled, except that a given gamma too small for the first step
            raises an error.
        gamma_share: 1 in the paper. By default :data:`GAMMA_SHARE`, or 1 if ``lr`` is given, since no exact F
            then shortens the steps.
        structure: structure of the inverse, "block_diagonal" or "block_tridiagonal".
        lr: None for alpha (and mu) from the exact Fisher matrix; a number or a schedule for a given alpha
            without momentum.
        momentum: whether the last update is a second direction; by default if ``lr`` is None.
        tau1: fraction of the batch used for the factors. As for tau2, batch normalization uses the
            statistics of the whole batch, held constant.
        tau2: fraction of the batch used for the exact Fisher matrix.
        T1: steps between changes of lambda.
        T2: steps between choices of gamma.
        T3: steps between new inverses.
        decay: largest weight of the past in moving averages.
        targets: targets of the factors, "sampled" as in the paper or "model" for the exact expectation.
        max_age: a; inverses requested in step k are used from step k + a on, and the previous ones until
            then. With 0 each step waits for its own, as the first three always do.
        curvature: whether info contains, for each layer, the ratio of exact to approximate curvature along
            Delta, v_l^T F v_l / v_l^T F~ v_l, with F on the fraction tau2; costs a pass per layer and step.
    """

    net: Network
    lam: float = 1.0
    lam_min: float = 1e-3
    l2: float = 1e-5
    gamma: float | None = None
    gamma_share: float | None = None
    structure: str = "block_diagonal"
    lr: float | Schedule | None = None
    momentum: bool | None = None
    tau1: float = 1 / 8
    tau2: float = 1 / 4
    T1: int = 5
    T2: int = 20
    T3: int = 20
    decay: float = 0.95
    targets: str = "sampled"
    max_age: int = 0
    curvature: bool = False
    _background: Background = field(default_factory=Background, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.choice(("block_diagonal", "block_tridiagonal"), structure=self.structure)
        checks.choice(("sampled", "model"), targets=self.targets)
        checks.not_negative(lam=self.lam, lam_min=self.lam_min, l2=self.l2)
        if self.gamma is not None:
            checks.positive(gamma=self.gamma)
            checks.positive(**{"gamma squared": self.gamma * self.gamma})  # may overflow
        elif self.lam == 0:
            raise ValueError(
                "expected lam > 0, got 0, which never adapts, so that steps soon overfit their batch; "
                "to do without lambda, set gamma, the damping of the factors"
            )
        if self.gamma_share is not None:
            checks.positive(gamma_share=self.gamma_share)
        checks.flag(None, momentum=self.momentum)
        checks.flag(curvature=self.curvature)
        if self.lr is not None:
            checks.positive(lr=self.lr)
            if self.momentum:
                raise ValueError(
                    "expected momentum only with lr=None, as the exact Fisher matrix gives mu together with "
                    f"alpha, got momentum=True and lr={self.lr}"
                )
        checks.share(tau1=self.tau1, tau2=self.tau2)
        checks.count(T1=self.T1, T2=self.T2, T3=self.T3)
        checks.age(self.max_age, T3=self.T3)
        if self.max_age and self.T2 % self.T3:
            raise ValueError(f"expected T2 in multiples of T3 with max_age, got {self.T2} and {self.T3}")
        checks.below_one(decay=self.decay)

    @property
    def has_momentum(self) -> bool:
        """Whether the last update is a second direction."""
        return self.lr is None and self.momentum is not False

    @property
    def _w1(self) -> float:
        return (19 / 20) ** self.T1

    @property
    def _w2(self) -> float:
        return math.sqrt(19 / 20) ** self.T2

    def init(self, theta: Array) -> State:
        """Return the initial state."""
        under_way = {"pending": None, "inverse_step": 0} if self.max_age else {}
        share = self.gamma_share or (GAMMA_SHARE if self.lr is None else 1.0)
        return at_start(self.net, theta) | {
            "lam": self.lam,
            "gamma": share * math.sqrt(self.lam + self.l2) if self.gamma is None else self.gamma,
            "factors": None,
            "inverse": None,
            "delta": 0 * theta,
            **under_way,
        }

    @finite
    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info.

        Args:
            theta: (P,).
            state: from ``init`` or the last step.
            batch: inputs and targets, in random order, as S1 and S2 are its first examples.
            rng: a ``numpy.random.Generator``, for sampling targets.

        Returns:
            Parameters, state, and info: ``loss``, ``objective`` (h before the step), ``lam``, ``gamma``,
            ``alpha``, ``mu``, ``model`` (M(delta)), and ``rho`` if it was computed; with ``max_age`` also
            ``age``, the number of steps since the inverse's factors were computed.
        """
        k, lam, gamma, (x, y) = state["step"] + 1, state["lam"], state["gamma"], batch
        # 1 gradient of h on the mini-batch
        loss, grad, stats, used = objective_gradient(self.net, theta, x, y, state["stats"], self.l2)
        # 2 factors from S1, with targets drawn from the model, averaged over past steps
        new = self._factors(theta, first(x, self.tau1), rng, used)
        means = moving_average(state["factors"], new, k, self.decay)
        # 3 values of gamma to try
        gammas = [gamma, gamma * self._w2, gamma / self._w2] if k % self.T2 == 0 else [gamma]
        # 4 a proposal for each: Delta and the last update
        inverses, under_way = self._inverses_in_use(means, gammas, state)
        proposals = [Proposal(*pair, self._directions(grad, pair[1], state)) for pair in inverses]
        # 5 each re-scaled by the c that minimizes M; the one with the least M is chosen
        models, (loss, penalty) = self._models(
            theta, grad, first(x, self.tau2), proposals, lam, used, [loss, decay(theta, self.l2)]
        )
        M, c, best = self._least(models, proposals, k)
        delta = sum((share * d for share, d in zip(c, best.directions, strict=True)), start=0 * theta)
        # 6 adapt lambda to how well the model predicted the change of h
        info = {"loss": loss, "objective": loss + penalty, "lam": lam, "gamma": best.gamma, "model": M}
        info |= dict(zip(("alpha", "mu"), c, strict=False))
        moved = theta + delta
        if k % self.T1 == 0:
            after = objective(self.net, moved, x, y, self.l2)
            info["rho"] = (after - info["objective"]) / M if after < info["objective"] else -math.inf
            if not is_rounding(M, info["objective"], theta) or not math.isfinite(after):
                lam = self._adapted(lam, info["rho"])
            if not math.isfinite(after):  # rejected
                moved, delta = theta, 0 * delta
        # 7 the update
        if self.max_age:
            info["age"] = k - under_way["inverse_step"]
        if self.curvature:
            near = kronecker_blocks(means[: len(self.net.names)], self.net.names)
            info |= curvature_ratios(self.net, theta, first(x, self.tau2), best.directions[0], near, used)
        new_state = {"step": k, "lam": lam, "gamma": best.gamma, "factors": means, "inverse": best.inverse}
        return moved, new_state | {"delta": delta, "stats": stats, **under_way}, info

    def _factors(self, theta: Array, x: Array, rng: Any, stats: list[Array]) -> list[tuple[Array, ...]]:
        """Kronecker factors of all layers and, for the tridiagonal inverse, of pairs of neighbours."""
        rng = rng if self.targets == "sampled" else None
        drawn = signals(self.net, theta, x, targets=self.targets, rng=rng, stats=stats)
        if self.structure == "block_diagonal":
            return drawn.total(factors)
        F = block_tridiagonal(drawn)
        return [*F.factors, *F.cross]

    def _inverses_in_use(
        self, means: Sequence[tuple[Array, ...]], gammas: list[float], state: State
    ) -> tuple[list[tuple[float, Operator]], dict[str, Any]]:
        """Values of gamma with their inverses, and the state's entries for pending inverses."""
        k = state["step"] + 1
        refresh = k % self.T3 == 0 or k <= 3 or len(gammas) > 1
        request = {"step": k, "factors": means, "gammas": gammas} if refresh else None
        ready, under_way = self._background.inverses(
            request, state, self.max_age, k <= 3, self._inverses, self.net.comm
        )
        return ready or [(state["gamma"], state["inverse"])], under_way

    def _inverses(self, request: Request, comm: Communicator) -> list[tuple[float, Operator]]:
        """Values of gamma, each with its inverse."""
        return [self._resolved(request, gamma, comm) for gamma in request["gammas"]]

    def _resolved(self, request: Request, gamma: float, comm: Communicator) -> tuple[float, Operator]:
        """A gamma, doubled until the damped factors are numerically invertible, with its inverse."""
        while True:
            try:
                return gamma, self._inverse(request["factors"], gamma, comm)
            except SingularMatrixError:
                if request["step"] == 1 and self.gamma is not None:  # set by the user
                    raise
                gamma *= 2

    def _inverse(self, means: Sequence[tuple[Array, ...]], gamma: float, comm: Communicator) -> Operator:
        """(F~ + damping)^{-1}, with the layers divided among the ranks."""
        layers = len(self.net.names)
        if self.structure == "block_diagonal":
            F = kronecker_blocks(means, self.net.names)
            return factored_inverse(F, gamma**2, explicit=self.T3 > 1, comm=comm)
        tri = BlockTridiagonal(tuple(means[:layers]), tuple(means[layers:]), self.net.names)  # type: ignore[arg-type]
        return tri.inverse(gamma**2, method="factored", explicit=self.T3 > 1, comm=comm)

    def _directions(self, grad: Array, inverse: Operator, state: State) -> list[Array]:
        """Delta and, with momentum, the last update."""
        directions = [-(inverse @ grad)]
        if self.has_momentum and state["step"] > 0:
            directions.append(state["delta"])
        return directions

    def _models(
        self,
        theta: Array,
        grad: Array,
        x2: Array,
        proposals: Sequence[Proposal],
        lam: float,
        stats: list[Array],
        beside: Sequence[Any],
    ) -> tuple[list[QuadraticModel], list[float]]:
        """M along the directions of each proposal, and further numbers fetched from a device with it."""
        pairs = [
            curvature_and_slope(self.net, theta, x2, grad, proposal.directions, lam + self.l2, stats)
            for proposal in proposals
        ]
        fetched, n = fetch(*chain.from_iterable(pairs), *beside), 2 * len(pairs)
        models = [QuadraticModel.of(*pair) for pair in zip(fetched[:n:2], fetched[1:n:2], strict=True)]
        return models, fetched[n:]

    def _least(
        self, models: Sequence[QuadraticModel], proposals: Sequence[Proposal], k: int
    ) -> tuple[float, tuple[float, ...], Proposal]:
        """The least M with its c and proposal."""
        cs = [model.minimum() if self.lr is None else (value_at(self.lr, k - 1, "lr"),) for model in models]
        values = [model.value(c) for model, c in zip(models, cs, strict=True)]
        return min(zip(values, cs, proposals, strict=True), key=itemgetter(0))

    def _adapted(self, lam: float, rho: float) -> float:
        """lambda after a reduction ratio rho: smaller if the model is good [MG15, sec. 6.5]."""
        if rho > 3 / 4:
            return max(lam * self._w1, min(lam, self.lam_min))
        return lam / self._w1 if not rho >= 1 / 4 else lam
