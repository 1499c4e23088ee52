"""Krylov subspace descent: the best step in a small space that the curvature spans [VP12].

    B = F + lambda + l2,    V = orth{ C g, C B C g, ..., (C B)^(K-1) C g, last step },    g = grad h
    theta <- theta + V^T a

C is a diagonal preconditioner, and F the Gauss-Newton matrix, which is the Fisher matrix here. a minimizes
either the quadratic model 1/2 a^T V B V^T a + (V g)^T a ("model", in closed form), or h itself by a few
steps of L-BFGS on examples not used for g and B ("lbfgs", as in the paper), in coordinates where V B
V^T is the identity. The small problem is solved on the host, in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..backend import Array, array_module, fetch, to_host
from ..linalg import eigh, krylov_subspace
from ..network import Network
from . import checks
from .finite import are_finite, finite
from .hessian_free import curvature, preconditioner
from .momentum import State, at_start
from .objective import decay, first, objective_gradient


@dataclass(frozen=True)
class KrylovSubspace:
    """Krylov subspace descent (KSD).

    Attributes:
        net: the network.
        damping: lambda >= 0.
        K: products with B per step; the last step is one dimension more.
        search: over the coefficients: "lbfgs" on h of other examples, or "model".
        search_share: share of the batch for L-BFGS, its last examples; gradient and B take the others.
        search_steps: of L-BFGS, at most.
        tau2: share of the others on which F is taken.
        exponent: of the preconditioner, C = (diagonal + lambda + l2)^-exponent; 0 for none.
        l2: weight decay, biases included.
    """

    net: Network
    damping: float = 1e-3
    K: int = 20
    search: str = "lbfgs"
    search_share: float = 1 / 3
    search_steps: int = 10
    tau2: float = 1.0
    exponent: float = 0.75
    l2: float = 0.0

    def __post_init__(self) -> None:
        checks.plain_numbers(self)
        checks.one_rank(self.net, "KrylovSubspace")
        checks.choice(("lbfgs", "model"), search=self.search)
        checks.not_negative(damping=self.damping, l2=self.l2)
        checks.share(True, exponent=self.exponent)
        checks.share(search_share=self.search_share, tau2=self.tau2)
        checks.count(K=self.K, search_steps=self.search_steps)
        if self.search == "model":
            checks.acting(self, "with search='lbfgs'", "search_share", "search_steps")

    def init(self, theta: Array) -> State:
        """Return the state before the first step."""
        return at_start(self.net, theta) | {"delta": 0 * theta}

    @finite
    def step(
        self, theta: Array, state: State, batch: tuple[Array, Array], rng: Any
    ) -> tuple[Array, State, dict[str, float]]:
        """Return theta, state and info.

        Args:
            theta: (P,).
            state: of ``init`` or the last step.
            batch: inputs and targets, in random order: its parts are the first and the last examples.
            rng: a ``numpy.random.Generator``; it draws the targets of the preconditioner.

        Returns:
            Parameters, state, and info: ``loss`` on the examples of the gradient, ``damping``, ``model`` the
            quadratic model at the step, ``dimension`` of the space, ``evaluations`` of h in the search.

        Raises:
            ValueError: on a batch of one example, where the search needs examples of its own.
        """
        x, y = batch
        n = self._n_for_gradient(len(x))
        x1, y1 = x[:n], y[:n]
        damping = self.damping + self.l2
        loss, grad, stats, used = objective_gradient(self.net, theta, x1, y1, state["stats"], self.l2)
        loss, square, good = fetch(loss, grad @ grad, are_finite([grad, state["delta"]]))
        if not (math.isfinite(loss) and good):
            return theta, state, {"loss": math.nan}
        if not square > 0:  # nothing to go by
            after = state | {"step": state["step"] + 1, "stats": stats}
            return theta, after, {"loss": loss, "damping": self.damping}
        B = curvature(self.net, theta, x1, y1, self.tau2, used).damped(damping)
        x2 = first(x1, self.tau2)
        scale = preconditioner(self.net, theta, x2, rng, used, damping, self.exponent)
        V, VBV = krylov_subspace(lambda v: B @ v, grad, self.K, [state["delta"]], lambda v: v / scale)
        S = whitening(VBV)  # a = S c
        slope = S.T @ fetch(V @ grad)[0]

        def step_of(c: Array) -> Array:
            return array_module(theta).asarray(S @ c, dtype=theta.dtype) @ V

        def h_and_slope(c: Array) -> tuple[float, Array]:
            at = theta + step_of(c)
            loss, g, *_ = objective_gradient(self.net, at, x[n:], y[n:], state["stats"], self.l2)
            loss, penalty, Vg = fetch(loss, decay(at, self.l2), V @ g)
            return loss + penalty, S.T @ Vg

        c, evaluations = -slope, 0
        if self.search == "lbfgs":
            c, evaluations = lbfgs(h_and_slope, 0 * slope, self.search_steps)
        delta = step_of(c)
        info = {
            "loss": loss,
            "damping": self.damping,
            "model": float(0.5 * c @ c + slope @ c),
            "dimension": float(len(V)),
            "evaluations": float(evaluations),
        }
        return theta + delta, {"step": state["step"] + 1, "delta": delta, "stats": stats}, info

    def _n_for_gradient(self, n: int) -> int:
        """How many of n examples gradient and B take; the search has the others."""
        rest = n if self.search == "model" else n - math.ceil(self.search_share * n)
        if rest < 1:
            raise ValueError(
                f"expected a batch of which {self.search_share:g} leaves examples for the gradient, got {n}"
            )
        return rest


def whitening(T: Array) -> Array:
    """Return S on the host with S^T T S = I, without directions in which T is rounding."""
    epsilon = float(array_module(T).finfo(T.dtype).eps)
    values, vectors = eigh(to_host(T).astype(float))
    keep = values > len(values) * epsilon * values[-1]
    return vectors[:, keep] / values[keep] ** 0.5


def lbfgs(f: Callable[[Array], tuple[float, Array]], start: Array, steps: int) -> tuple[Array, int]:
    """Minimize f, which returns value and gradient; return the minimum and the number of evaluations."""
    from scipy.optimize import minimize

    end = minimize(f, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return end.x, end.nfev
