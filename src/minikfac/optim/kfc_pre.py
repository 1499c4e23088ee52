"""KFC as the preconditioner of SGD with momentum: KFC-pre [GM16, sec. 3.2].

    v = -lr (F~ + damping)^{-1} grad h         h = loss + l2 / 2 ||theta||^2
    v <- v min(1, sqrt(clip / nu))             nu = v^T F v + l2 ||v||^2
    p <- momentum p + v,   theta <- theta + p

nu bounds how far one step moves the predictions (twice a KL divergence). It is taken with the exact Fisher
matrix on some examples, one pass more; or with F~ itself, where v^T F~ v = -lr v^T grad is free
[BGM17, sec. 5]. Factors are renewed every Ts steps, inverses every Tf, and the iterates are averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..backend import Array
from ..fisher import Kronecker, gradient_and_kfac
from ..fisher.kronecker import factors_of
from ..network import Network
from .averages import average_iterates, moving_average
from .quadratic import QuadraticModel

State = dict[str, Any]


@dataclass(frozen=True)
class KFCPre:
    """K-FAC (dense layers), KFC (convolutions) and whole blocks (normalization) before SGD with momentum.

    Attributes:
        net: the network.
        lr: step size, a number or a schedule.
        momentum: in [0, 1).
        damping: gamma, added to l2 in the factored damping; the paper suggests 1e-3.
        l2: weight decay, biases included.
        Ts: steps between new statistics.
        Tf: steps between inverses.
        decay: largest weight of the old in the moving averages of factors.
        clip: bound on nu; None for no bound. The paper has 0.3.
        clip_norm: "fisher" for the exact F, "kfac" for F~.
        clip_share: share of the batch on which the exact F is taken.
        averaging: largest weight of the old in the average of iterates, ``state["average"]``; the paper has
            exp(-1 / tau) with tau steps of 50,000 examples in all.
    """

    net: Network
    lr: float
    momentum: float = 0.9
    damping: float = 1e-3
    l2: float = 0.0
    Ts: int = 1
    Tf: int = 10
    decay: float = 0.95
    clip: float | None = 0.3
    clip_norm: str = "fisher"
    clip_share: float = 1 / 4
    averaging: float = 0.99

    def __post_init__(self) -> None:
        if not (self.lr > 0 and 0 <= self.momentum < 1):
            raise ValueError(f"expected lr > 0 and momentum in [0, 1), got {self.lr} and {self.momentum}")
        if not (self.damping >= 0 and self.l2 >= 0 and self.damping + self.l2 > 0):
            raise ValueError(f"expected damping and l2 >= 0, one above 0, got {self.damping} and {self.l2}")
        if min(self.Ts, self.Tf) < 1:
            raise ValueError(f"expected Ts and Tf of at least 1, got {self.Ts} and {self.Tf}")
        if self.clip_norm not in ("fisher", "kfac") or not 0 < self.clip_share <= 1:
            raise ValueError(
                f"expected clip_norm 'fisher' or 'kfac' and clip_share in (0, 1], got {self.clip_norm!r} and "
                f"{self.clip_share}"
            )
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"expected clip > 0 or None, got {self.clip}")
        if not (0 <= self.decay < 1 and 0 <= self.averaging < 1):
            raise ValueError(f"expected decay and averaging in [0, 1), got {self.decay} and {self.averaging}")

    def init(self, theta: Array) -> State:
        """Return the state before the first step."""
        return {
            "step": 0,
            "factors": None,
            "inverse": None,
            "velocity": 0 * theta,
            "average": theta,
            "stats": self.net.init_stats(),
        }

    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info (``loss``, ``nu`` where clipped, ``scale`` of the step).

        Args:
            theta: (P,).
            state: of ``init`` or the last step.
            batch: inputs and targets.
            rng: a ``numpy.random.Generator``; it draws the targets.
        """
        k = state["step"] + 1
        x, y = batch
        means, inverse = state["factors"], state["inverse"]
        if means is None or (k - 1) % self.Ts == 0:
            loss, grad, F, stats = gradient_and_kfac(
                self.net, theta, x, y, rng=rng, stats=state["stats"], train=True
            )
            means = moving_average(means, factors_of(F), k, self.decay)
        else:
            loss, grad, stats = self.net.gradient_pass(theta, x, y, state["stats"])
        if inverse is None or (k - 1) % self.Tf == 0:
            F = Kronecker(means, self.net.names)
            inverse = F.inverse(self.l2 + self.damping, method="factored", explicit=self.Tf > 1)
        grad = grad + self.l2 * theta
        v = -self.lr * (inverse @ grad)
        scale, info = self._clip(theta, x, grad, v)
        velocity = self.momentum * state["velocity"] + scale * v
        moved = theta + velocity
        after = {
            "step": k,
            "factors": means,
            "inverse": inverse,
            "velocity": velocity,
            "average": average_iterates(state["average"], moved, k, self.averaging),
            "stats": stats,
        }
        return moved, after, {"loss": loss, **info}

    def _clip(self, theta: Array, x: Array, grad: Array, v: Array) -> tuple[float, dict[str, float]]:
        if self.clip is None:
            return 1.0, {}
        if self.clip_norm == "kfac":
            nu = -self.lr * float(v @ grad)
        else:
            some = x[: max(1, math.ceil(self.clip_share * len(x)))]
            held = self.net.batch_stats(theta, some)
            model = QuadraticModel.along(self.net, theta, some, grad, [v], self.l2, held)
            nu = model.curvature[0][0]
        scale = min(1.0, math.sqrt(self.clip / nu)) if nu > 0 else 1.0
        return scale, {"nu": nu, "scale": scale}
