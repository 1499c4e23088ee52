"""How much damping does a proposal need? What one step improves, by kind of curvature matrix.

From one iterate of an autoencoder, every proposal Delta = -(F~ + damping)^{-1} grad h makes three steps:

    as it is         theta + Delta
    re-scaled        theta + alpha Delta                  alpha by the exact Fisher matrix [MG15, sec. 6.4]
    with momentum    theta + alpha Delta + mu delta_0     alpha and mu likewise [MG15, sec. 7]

and drawn against the strength gamma of the damping, lambda = gamma^2, after Figure 7 of [MG15]. F~ is the
exact matrix, K-FAC with exact or factored damping, or the block-tridiagonal inverse. The paper's net has 2.8
million parameters; ours is a small one, where the exact matrix can be had too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ... import fisher, optim
from ...backend import Array
from ...network import Network
from ...parallel import one_thread
from ...training.progress import progress_bar

STEPS = ("as it is", "re-scaled", "with momentum")
"""Kinds of step that are made of a proposal."""


@dataclass(frozen=True)
class DampingStudy:
    """Results of :func:`damping_study`.

    Attributes:
        gammas: (m,), strengths of the damping.
        improvements: h(theta) - h(theta + delta) in nats, (m,) by matrix and kind of step; negative where the
            step increases h, and -inf where it is not finite.
        scales: alpha (m,), by matrix, of the re-scaled proposals.
        objective: h(theta).
        lam: lambda of the quadratic model by which proposals are re-scaled.
    """

    gammas: Array
    improvements: Mapping[tuple[str, str], Array]
    scales: Mapping[str, Array]
    objective: float
    lam: float


MATRICES: dict[str, tuple[Callable[[fisher.Signals], fisher.FisherMatrix], str | None]] = {
    "exact Fisher": (fisher.exact, None),
    "K-FAC, exact damping": (fisher.kfac, "eigen"),
    "K-FAC, factored damping": (fisher.kfac, "factored"),
    "block-tridiagonal, factored damping": (fisher.block_tridiagonal, "factored"),
}
"""By name: how it is built from signals, and how it is damped."""


def damping_study(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    gammas: Sequence[float] | None = None,
    lam: float = 0.0,
    l2: float = 1e-5,
    last: Array | None = None,
    progress: bool = True,
) -> DampingStudy:
    """Measure what one step improves, for each matrix, kind of step and strength of damping.

    Gradient, matrices and objective are of the same examples, with the exact expectation over targets. The
    exact matrix takes P^2 numbers and P^3 / 3 operations a strength.

    Args:
        net: the network, a chain of dense layers for the block-tridiagonal inverse.
        theta: (P,), an iterate.
        x: inputs.
        y: targets.
        gammas: strengths, > 0; damping is lambda = gamma^2. From 0.001 to 10 by default.
        lam: lambda of the quadratic model that re-scales, as K-FAC has it at this iterate; eta is added.
        l2: eta of the objective h = loss + eta / 2 ||theta||^2.
        last: the update before (P,), the second direction of momentum; without it there is none.
        progress: show a bar.

    Raises:
        ValueError: on strengths that are not positive.
    """
    strengths = np.array(np.geomspace(1e-3, 10, 13) if gammas is None else gammas, dtype=float)
    if strengths.ndim != 1 or not strengths.size or not (np.isfinite(strengths) & (strengths > 0)).all():
        raise ValueError(f"expected positive strengths of damping, got {strengths.tolist()}")

    def objective(at: Array) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # a step without damping may lead anywhere
            h = net.loss(at, x, y) + 0.5 * l2 * float(at @ at)
        return h if math.isfinite(h) else math.inf

    before = objective(theta)
    grad = net.gradient(theta, x, y) + l2 * theta
    signals = fisher.signals(net, theta, x)
    kinds = STEPS if last is not None else STEPS[:2]
    improvements = {(name, kind): np.zeros(len(strengths)) for name in MATRICES for kind in kinds}
    scales = {name: np.zeros(len(strengths)) for name in MATRICES}
    with progress_bar("damping", len(MATRICES) * len(strengths), progress) as bar, one_thread():
        for name, (build, method) in MATRICES.items():
            F = build(signals)
            for number, gamma in enumerate(strengths):
                proposal = -F.solve(grad, damping=float(gamma) ** 2, method=method)
                steps, scales[name][number] = _steps(net, theta, x, grad, proposal, last, lam + l2)
                for kind, delta in steps.items():
                    improvements[name, kind][number] = before - objective(theta + delta)
                bar.advance(name)
    return DampingStudy(strengths, improvements, scales, before, lam)


def _steps(
    net: Network, theta: Array, x: Array, grad: Array, proposal: Array, last: Array | None, damping: float
) -> tuple[dict[str, Array], float]:
    """Steps (P,) by kind, and alpha of the re-scaled one."""
    (alpha,) = optim.QuadraticModel.along(net, theta, x, grad, [proposal], damping).minimum()
    steps = {"as it is": proposal, "re-scaled": alpha * proposal}
    if last is not None:
        both = optim.QuadraticModel.along(net, theta, x, grad, [proposal, last], damping).minimum()
        steps["with momentum"] = both[0] * proposal + both[1] * last
    return steps, alpha
