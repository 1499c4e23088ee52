"""Hessian-free optimization: many products with the exact curvature instead of an approximation [Martens10].

    phi(d) = 1/2 d^T (F + lambda + l2) d + grad h^T d          by conjugate gradients
    theta <- theta + alpha d

F v takes one forward and one backward pass, with the same mini-batch in all iterations. Five techniques make
it work [Martens10, sec. 4; MS12]: CG starts from a scaled-down copy of its last solution; it has a diagonal
preconditioner; it stops when phi hardly decreases any more, long before the system is solved; among its
iterates the one with the least h is used; and lambda is adapted to the ratio of the actual change of h to
that predicted by phi, lambda included. A line search shortens the step or, if nothing helps, rejects it.

F is the Gauss-Newton matrix, here equal to the Fisher matrix. With batch normalization, F on the whole batch
includes the coupling of examples, as h does; F on a fraction of it, and the preconditioner, hold the
statistics of the whole batch constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..backend import Array, array_module, fetch
from ..fisher import MatrixFree, diagonal, gauss_newton, signals
from ..linalg import conjugate_gradients
from ..network import Network
from . import checks
from .finite import are_finite, finite
from .momentum import State, at_start
from .objective import decay, first, objective, objective_gradient
from .quadratic import is_rounding

GROWTH = 1.3
"""Iterates 1, 1.3, 1.3^2, ... of conjugate gradients, rounded up, are candidates [Martens10, sec. 4.6]."""
ARMIJO = 0.01
"""Fraction of the decrease predicted by the slope that a step must achieve."""
SHRINK, TRIALS = 0.8, 60
"""Limit of the line search."""


@dataclass(frozen=True)
class HessianFree:
    """Truncated Newton steps with the Gauss-Newton matrix and Levenberg-Marquardt damping.

    Attributes:
        net: the network.
        lam: initial lambda, >= 0; 0 remains 0.
        l2: weight decay, biases included.
        tau1: fraction of the batch used for the preconditioner, with sampled targets.
        tau2: fraction of the batch used for F; the gradient and h use all of it.
        max_iterations: limit for conjugate gradients.
        progress: stop when the relative decrease of phi per iteration, over the last k, is below this.
        restart: factor on CG's last solution that gives the initial guess, in [0, 1).
        exponent: exponent of the preconditioner (diagonal + lambda)^exponent; 0 for none.
    """

    net: Network
    lam: float = 1.0
    l2: float = 0.0
    tau1: float = 1.0
    tau2: float = 1.0
    max_iterations: int = 250
    progress: float = 5e-4
    restart: float = 0.95
    exponent: float = 0.75

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.one_rank(self.net, "HessianFree")
        checks.not_negative(lam=self.lam, l2=self.l2, progress=self.progress)
        checks.share(True, exponent=self.exponent)
        checks.share(tau1=self.tau1, tau2=self.tau2)
        checks.count(max_iterations=self.max_iterations)
        checks.below_one(restart=self.restart)
        if self.exponent == 0:
            checks.acting(self, "with exponent > 0", "tau1")

    def init(self, theta: Array) -> State:
        """Return the initial state."""
        return at_start(self.net, theta) | {"lam": self.lam, "direction": 0 * theta}

    @finite
    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info.

        Args:
            theta: (P,).
            state: from ``init`` or the last step.
            batch: inputs and targets, in random order, as fractions of it are its first examples.
            rng: a ``numpy.random.Generator``, for sampling the preconditioner's targets.

        Returns:
            Parameters, state, and info: ``loss``, ``objective`` (h before the step), ``lam``, ``model``
            (phi(d)), ``rho`` (the change of h divided by phi(d)), ``alpha`` from the line search, 0 if the
            step was rejected, and ``iterations`` of conjugate gradients.
        """
        x, y = batch
        lam, l2 = state["lam"], self.l2
        loss, grad, stats, used = objective_gradient(self.net, theta, x, y, state["stats"], l2)
        loss, penalty, good = fetch(loss, decay(theta, l2), are_finite([grad]))
        h = loss + penalty
        if not (math.isfinite(h) and good):
            return theta, state, {"loss": math.nan}
        F = curvature(self.net, theta, x, y, self.tau2, used)
        damped = F.damped(lam + l2)
        scale = preconditioner(self.net, theta, first(x, self.tau1), rng, used, lam + l2, self.exponent)
        path = Path(self.progress)
        last = conjugate_gradients(
            lambda v: damped @ v,
            -grad,
            tolerance=1e-12,
            max_iterations=self.max_iterations,
            precondition=lambda r: r / scale,
            x0=self.restart * state["direction"],
            watch=path.watch,
        )

        def h_at(d: Array) -> float:
            return objective(self.net, theta + d, x, y, l2)

        d, model, after = path.best(h_at)
        rho = (after - h) / model if after < h and model < 0 else -math.inf
        alpha = line_search(h_at, d, h, after, float(grad @ d))
        new = {
            "step": state["step"] + 1,
            "lam": lam if is_rounding(model, h, theta) else adapted(lam, rho),
            "direction": last.x if alpha else 0 * theta,
            "stats": stats,
        }
        info = {"loss": loss, "objective": h, "lam": lam, "model": model, "rho": rho, "alpha": alpha}
        moved = theta + alpha * d if alpha else theta
        return moved, new, info | {"iterations": float(last.iterations)}


def adapted(lam: float, rho: float) -> float:
    """Return lambda after a reduction ratio rho: smaller if the model is good [Martens10, sec. 4.1]."""
    if rho > 3 / 4:
        return lam * 2 / 3
    return lam if rho >= 1 / 4 else lam * 3 / 2


def enough(values: Sequence[float], progress: float) -> bool:
    """Martens' rule for stopping conjugate gradients at iteration i [Martens10, sec. 4.4].

    i > k,  phi_i < 0  and  (phi_i - phi_{i-k}) / phi_i < k progress,    k = max(10, ceil(i / 10))

    Args:
        values: phi_0 ... phi_i.
        progress: 0.0005 in the paper.
    """
    i = len(values) - 1
    k = max(10, math.ceil(i / 10))
    return i > k and values[i] < 0 and (values[i] - values[i - k]) / values[i] < k * progress


def curvature(
    net: Network, theta: Array, x: Array, y: Array, share: float, stats: Sequence[Array]
) -> MatrixFree:
    """Return the Gauss-Newton matrix for the whole batch, or for a fraction of it with given statistics."""
    if share == 1:
        return gauss_newton(net, theta, x, y, train=True)
    return gauss_newton(net, theta, first(x, share), first(y, share), stats)


def preconditioner(
    net: Network, theta: Array, x: Array, rng: Any, stats: Sequence[Array], damping: float, exponent: float
) -> Array | float:
    """Return (D + damping)^exponent (P,) with the sampled diagonal D of the Fisher matrix; 1 for exponent 0.

    In [Martens10, sec. 4.7], D consists of squared gradients for the labels.
    """
    if exponent == 0:
        return 1.0
    D = diagonal(signals(net, theta, x, targets="sampled", rng=rng, stats=stats)).diagonal()
    D = D + damping
    xp = array_module(D)
    return xp.maximum(D, float(xp.finfo(D.dtype).eps) * D.max()) ** exponent  # 0 for dead units


def line_search(h_at: Callable[[Array], float], d: Array, h: float, after: float, slope: float) -> float:
    """Return the largest alpha among 1, 0.8, 0.8^2, ... with sufficient decrease for the slope, or 0.

    Args:
        h_at: step -> h after it.
        d: direction (P,).
        h: before the step.
        after: h at d.
        slope: grad^T d; if it is not negative, 0 is returned.
    """
    alpha = 1.0
    for _ in range(TRIALS if slope < 0 else 0):
        if after <= h + ARMIJO * alpha * slope:
            return alpha
        alpha *= SHRINK
        after = h_at(alpha * d)
    return 0.0


@dataclass
class Path:
    """The path of conjugate gradients: phi of all iterates, and some iterates including the last."""

    progress: float
    values: list[float] = field(default_factory=list)
    kept: list[tuple[float, Array]] = field(default_factory=list)
    last: tuple[float, Array] | None = None
    following: int = 1

    def watch(self, i: int, d: Array, phi: float) -> bool:
        """Record iterate i; return whether to stop."""
        self.values.append(phi)
        self.last = (phi, d)
        if i == self.following:
            self.kept.append(self.last)
            self.following = max(i + 1, math.ceil(GROWTH * i))
        return enough(self.values, self.progress)

    def best(self, h_at: Callable[[Array], float]) -> tuple[Array, float, float]:
        """Go back from the last iterate as long as h decreases; return d, phi(d) and h there."""
        assert self.last is not None
        phi, d = self.last
        after = h_at(d)
        for earlier_phi, earlier in reversed(self.kept):
            if earlier is d:
                continue
            candidate = h_at(earlier)
            if candidate >= after:
                break
            phi, d, after = earlier_phi, earlier, candidate
        return d, phi, after
