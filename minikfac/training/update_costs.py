"""What each approximation in K-FAC costs in progress per update, one at a time.

From an iterate of a K-FAC run, the exact natural gradient of the next batch makes the most of the quadratic model

    M(delta) = 1/2 delta^T (F + (lambda + eta) I) delta + grad h^T delta,    Delta = -(F + (lambda + eta) I)^{-1} grad h

Each row of the study replaces one thing in Delta and leaves the rest exact: the expectation over targets, the
examples, the moment at which F is taken, the damping, the blocks. The last two rows are K-FAC's Delta, with all
of it at once, and the gradient. Every Delta is re-scaled by the exact F, and momentum is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import fisher
from ..backend import Array
from ..datasets import Dataset
from ..display import ShownByFields
from ..fisher.damping import factored_damping
from ..fisher.khatri_rao import khatri_rao
from ..linalg import kron_dense
from ..network import Network
from ..optim import KFAC
from ..optim.objective import first
from .batches import batch_of, batches

EXACT = "exact natural gradient"
WINDOW = 20
"""Updates of a mean over the past, as K-FAC's at its twentieth update."""


@dataclass(frozen=True, repr=False)
class UpdateCosts(ShownByFields):
    """Progress of one update by approximation, as a share of that of the exact natural gradient.

    Attributes:
        model: decrease of M, at most 1.
        loss: decrease of the objective on the training set, which may be more, or below 0.
        decrease: of the objective by the exact natural gradient, in nats.
        lam: lambda at the iterate.
        gamma: that of K-FAC there.
        age: how many updates ago the factors of K-FAC's inverse were new.
    """

    model: Mapping[str, float]
    loss: Mapping[str, float]
    decrease: float
    lam: float
    gamma: float
    age: int


def update_costs(
    net: Network,
    theta: Array,
    dataset: Dataset,
    updates: int = 30,
    batch_size: int = 250,
    seed: int = 0,
    **settings: Any,
) -> UpdateCosts:
    """Make some updates of K-FAC, and try what the next one would be.

    It takes some 25 dense Fisher matrices, P^2 numbers each: nets of dense layers with a few thousand parameters.

    Args:
        net: the network, of dense layers.
        theta: (P,), where training starts.
        dataset: what is trained on.
        updates: before the one that is studied, at least :data:`WINDOW`.
        batch_size: examples of an update.
        seed: of order and drawn targets.
        settings: of :class:`minikfac.optim.KFAC`.

    Raises:
        ValueError: on fewer updates, or what K-FAC or the matrices refuse.
    """
    if updates < WINDOW:
        raise ValueError(f"expected updates >= {WINDOW}, over which matrices are averaged, got {updates}")
    opt, order, past = KFAC(net, **settings), batches(len(dataset.x_train), batch_size, seed), []
    state = opt.init(theta)
    for k in range(updates):
        batch = batch_of(dataset, next(order), theta)
        past.append((theta, batch[0]))
        theta, state, _ = opt.step(theta, state, batch, np.random.default_rng([seed, k]))
    x, y = batch_of(dataset, next(order), theta)
    past.append((theta, x))
    renewed = max(updates // opt.T3 * opt.T3, 3)
    lam, grad = state["lam"] + opt.l2, net.gradient(theta, x, y) + opt.l2 * theta
    F = fisher.exact(fisher.signals(net, theta, x)).array

    def objective(at: Array) -> float:
        return net.loss(at, dataset.x_train, dataset.y_train) + 0.5 * opt.l2 * float(at @ at)

    model, loss, before = {}, {}, objective(theta)
    rng = np.random.default_rng([seed, updates])
    proposals = _proposals(net, past, renewed - 1, F, lam, state["gamma"], opt.tau1, grad, rng)
    for name, direction in [*proposals, ("K-FAC", state["inverse"] @ grad), ("no curvature", grad)]:
        slope, curvature = grad @ direction, direction @ (F @ direction) + lam * direction @ direction
        model[name] = float(slope**2 / (2 * curvature))
        loss[name] = before - objective(theta - slope / curvature * direction)
    shares = [{name: value / gains[EXACT] for name, value in gains.items()} for gains in (model, loss)]
    return UpdateCosts(*shares, loss[EXACT], state["lam"], state["gamma"], updates + 1 - renewed)


def _proposals(
    net: Network,
    past: list[tuple[Array, Array]],
    renewed: int,
    F: Array,
    lam: float,
    gamma: float,
    tau1: float,
    grad: Array,
    rng: Any,
) -> Iterator[tuple[str, Array]]:
    """Directions (F~ + damping)^{-1} grad with one approximation each, by name."""
    theta, x = past[-1]
    exact = [fisher.exact(fisher.signals(net, *visited)).array for visited in past[-WINDOW:-1]] + [F]
    old = exact[renewed - len(past)] if len(past) - renewed <= WINDOW else None
    drawn = fisher.signals(net, theta, x, targets="sampled", rng=rng)
    signals, some = fisher.signals(net, theta, x), first(x, tau1)
    matrices = {
        EXACT: F,
        "drawn targets": fisher.exact(drawn).array,
        f"{len(some)} of {len(x)} examples": fisher.exact(fisher.signals(net, theta, some)).array,
        f"{len(past) - 1 - renewed} updates old": old,
        f"mean over {WINDOW} updates": sum(exact) / WINDOW,
        "Kronecker products": khatri_rao(signals).array,
        "no blocks between layers": fisher.block_diagonal(signals).to_dense(),
    }
    for name, M in matrices.items():
        yield name, fisher.DenseMatrix(M).solve(grad, damping=lam)
    surplus = F.copy()
    for block, part in zip(fisher.kfac(signals).blocks, signals.slices, strict=True):
        surplus[part, part] += kron_dense(*factored_damping(block.A, block.G, gamma**2)) - block.to_dense()
    yield "factored damping", fisher.DenseMatrix(surplus).solve(grad)
