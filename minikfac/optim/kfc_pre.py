"""KFC as a preconditioner for SGD with momentum: KFC-pre [GM16, sec. 3.2].

    v = -lr (F~ + damping)^{-1} grad h         h = loss + l2 / 2 ||theta||^2
    v <- v min(1, sqrt(clip / nu))             nu = v^T F v + l2 ||v||^2
    p <- momentum p + v,   theta <- theta + p

The clip bounds twice the KL divergence caused by v. Without momentum this is the change of a step's
predictions; with momentum the velocity adds up to 1 / (1 - momentum) proposals. nu is computed with the exact
Fisher matrix on some examples, which takes one more pass, or with clip_norm="kfac" as v^T (F~ + damping) v =
-lr v^T grad h, which is free [BGM17, sec. 5]. Factors are updated every Ts steps, inverses every Tf. The
paper averages the iterates over 50,000 examples: see ``averaging`` in :func:`minikfac.training.train`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..backend import Array
from ..distributed import Communicator
from ..fisher import Operator, gradient_and_kfac
from ..fisher.kronecker_block import factored_inverse, factors_of, kronecker_blocks
from ..network import Network
from . import checks
from .averages import moving_average
from .finite import finite
from .momentum import State, at_rest, moved_by
from .objective import first
from .quadratic import curvature_and_slope, curvature_ratios, within
from .schedules import Schedule, value_at
from .stale import Background, Request


@dataclass(frozen=True)
class KFCPre:
    """SGD with momentum, preconditioned by K-FAC (dense), KFC (convolutions) and full blocks (normalization).

    Attributes:
        net: the network.
        lr: step size, a number or a schedule.
        momentum: in [0, 1), a number or a schedule.
        damping: gamma, added to l2 in the factored damping; the paper suggests 1e-3.
        l2: weight decay, biases included.
        Ts: steps between new statistics.
        Tf: steps between new inverses; each of the first three steps computes its own.
        decay: largest weight of the past in the moving averages of factors.
        clip: bound on nu; None for no bound. The paper uses 0.3.
        clip_norm: "fisher" for the exact F, "kfac" for F~.
        clip_share: fraction of the batch used for the exact F. Batch normalization uses the statistics
            of the whole batch, which F and the factors hold constant.
        max_age: a; inverses requested in step k are used from step k + a on, and the previous ones until
            then. With 0 each step waits for its own, as the first three always do.
        curvature: whether info contains, for each layer, the ratio of exact to approximate curvature along v,
            v_l^T F v_l / v_l^T F~ v_l, with F on a quarter of the batch; costs a pass per layer and
            step.
    """

    net: Network
    lr: float | Schedule
    momentum: float | Schedule = 0.9
    damping: float = 1e-3
    l2: float = 0.0
    Ts: int = 1
    Tf: int = 10
    decay: float = 0.95
    clip: float | None = 0.3
    clip_norm: str = "fisher"
    clip_share: float = 1 / 4
    max_age: int = 0
    curvature: bool = False
    _background: Background = field(default_factory=Background, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.positive(lr=self.lr)
        checks.below_one(momentum=self.momentum, decay=self.decay)
        checks.not_negative(damping=self.damping, l2=self.l2)
        checks.positive(damping_and_l2=self.damping + self.l2)
        checks.count(Ts=self.Ts, Tf=self.Tf)
        checks.age(self.max_age, Tf=self.Tf)
        checks.flag(curvature=self.curvature)
        checks.choice(("fisher", "kfac"), clip_norm=self.clip_norm)
        checks.share(clip_share=self.clip_share)
        if self.clip is None:
            checks.acting(self, "with a clip", "clip_norm", "clip_share")
        else:
            checks.positive(clip=self.clip)
        if self.clip_norm == "kfac":
            checks.acting(self, "with clip_norm='fisher'", "clip_share")

    def init(self, theta: Array) -> State:
        """Return the initial state."""
        under_way = {"pending": None, "inverse_step": 0} if self.max_age else {}
        return at_rest(self.net, theta) | {"factors": None, "inverse": None, **under_way}

    @finite
    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info.

        Info contains ``loss`` and ``lr``; with a clip, ``nu`` and the step's ``scale``; and with ``max_age``
        ``age``, the number of steps since the inverse's factors were computed.

        Args:
            theta: (P,).
            state: from ``init`` or the last step.
            batch: inputs and targets.
            rng: a ``numpy.random.Generator``, for sampling targets.
        """
        k, (x, y) = state["step"] + 1, batch
        means = state["factors"]
        if means is None or (k - 1) % self.Ts == 0:
            loss, grad, F, stats, used = gradient_and_kfac(
                self.net, theta, x, y, rng=rng, stats=state["stats"], train=True
            )
            means = moving_average(means, factors_of(F), (k - 1) // self.Ts + 1, self.decay)
        else:
            loss, grad, stats, used = self.net.gradient_pass(theta, x, y, state["stats"])
        refresh = (k - 1) % self.Tf == 0 or k <= 3  # the first few batches change the averages most
        request = {"step": k, "factors": means} if refresh else None
        ready, under_way = self._background.inverses(
            request, state, self.max_age, k <= 3, self._inverse, self.net.comm
        )
        inverse = state["inverse"] if ready is None else ready
        grad = grad + self.l2 * theta
        lr, mu = value_at(self.lr, k - 1, "lr"), value_at(self.momentum, k - 1, "momentum")
        v = -lr * (inverse @ grad)
        scale, info = self._clip(theta, x, grad, v, lr, used)
        velocity = mu * state["velocity"] + scale * v
        moved, after = moved_by(velocity, theta, state, stats)
        after |= {"factors": means, "inverse": inverse, **under_way}
        if self.curvature:
            near = kronecker_blocks(means, self.net.names)
            info |= curvature_ratios(self.net, theta, first(x, 1 / 4), v, near, used)
        if self.max_age:
            info["age"] = k - under_way["inverse_step"]
        return moved, after, {"loss": loss, "lr": lr, **info}

    def _inverse(self, request: Request, comm: Communicator) -> Operator:
        """(F~ + damping)^{-1}, with the layers divided among the ranks."""
        F = kronecker_blocks(request["factors"], self.net.names)
        return factored_inverse(F, self.l2 + self.damping, explicit=self.Tf > 1, comm=comm)

    def _clip(
        self, theta: Array, x: Array, grad: Array, v: Array, lr: float, stats: list[Array]
    ) -> tuple[Any, dict[str, Any]]:
        """The factor on v, and both for info; on a device they stay there."""
        if self.clip is None:
            return 1.0, {}
        if self.clip_norm == "kfac":
            nu = -lr * (v @ grad)
        else:
            some = first(x, self.clip_share)
            nu = curvature_and_slope(self.net, theta, some, grad, [v], self.l2, stats)[0][0, 0]
        scale = within(self.clip, nu, theta)
        return scale, {"nu": nu, "scale": scale}
