"""The loss of progress per update due to each of K-FAC's approximations, one at a time.

    M(delta) = 1/2 delta^T (F + (lambda + eta) I) delta + grad h^T delta

At an iterate of a K-FAC run the exact natural gradient of the next batch, -(F + (lambda + eta) I)^{-1} grad
h, decreases M the most. Each row of the study replaces one of its ingredients and leaves the others exact:
the expectation over targets, the examples, the step at which F is computed, the blocks, the damping. The last
two rows are K-FAC's Delta, which combines all replacements, and the gradient. All are re-scaled by the exact
F, without momentum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import fisher
from ..backend import Array
from ..datasets import Dataset, digits
from ..display import ShownByFields
from ..fisher.damping import factored_damping
from ..fisher.khatri_rao import khatri_rao
from ..fisher.kronecker import factors
from ..linalg import kron_dense
from ..network import Network
from ..network.presets import digits_mlp
from ..optim import KFAC
from ..optim.objective import first
from .batches import batch_of, batches

EXACT = "exact natural gradient"
WINDOW = 20
"""Number of updates in a mean over the past, like K-FAC's at its twentieth update."""


@dataclass(frozen=True, repr=False)
class UpdateCosts(ShownByFields):
    """Progress of one update, by approximation.

    Attributes:
        model: decrease of M relative to that of the exact natural gradient; at most 1.
        loss: decrease of the objective on the training set, in nats. The exact natural gradient need not be
            best here, since M belongs to the batch.
        lam: lambda at the iterate.
        gamma: K-FAC's gamma at the iterate.
    """

    model: Mapping[str, float]
    loss: Mapping[str, float]
    lam: float
    gamma: float


def update_costs(
    net: Network,
    theta: Array,
    dataset: Dataset,
    updates: int = 30,
    batch_size: int = 250,
    seed: int = 0,
    **settings: Any,
) -> UpdateCosts:
    """Make some K-FAC updates, then compare variants of the next one.

    Needs about 25 dense matrices of P^2 numbers, so it suits nets with a few thousand parameters.

    Args:
        net: the network, of dense layers.
        theta: (P,), the initial parameters.
        dataset: the training data.
        updates: number of updates before the one that is studied, at least :data:`WINDOW`.
        batch_size: examples per update.
        seed: seed of the order of examples and of sampled targets.
        settings: settings of :class:`minikfac.optim.KFAC`.

    Raises:
        ValueError: on too few updates, or arguments that K-FAC or the matrices reject.
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
    shares = {name: gain / model[EXACT] for name, gain in model.items()}
    return UpdateCosts(shares, loss, state["lam"], state["gamma"])


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
    """Directions (F~ + damping)^{-1} grad, each with one approximation, by name."""
    theta, x = past[-1]
    mean = F / WINDOW
    for visited in past[-WINDOW:-1]:
        mean += fisher.exact(fisher.signals(net, *visited)).array / WINDOW
    drawn = fisher.signals(net, theta, x, targets="sampled", rng=rng)
    signals, some = fisher.signals(net, theta, x), first(x, tau1)
    matrices = {
        EXACT: F,
        "drawn targets": fisher.exact(drawn).array,
        f"{len(some)} of {len(x)} examples": fisher.exact(fisher.signals(net, theta, some)).array,
        "as old as K-FAC's inverse": fisher.exact(fisher.signals(net, *past[renewed])).array,
        f"mean over {WINDOW} updates": mean,
        "Kronecker products": khatri_rao(signals).array,
        "no blocks between layers": fisher.block_diagonal(signals).to_dense(),
    }
    for name, M in matrices.items():
        yield name, fisher.DenseMatrix(M).solve(grad, damping=lam)
    surplus = F.copy()
    for (A, G), part in zip(signals.total(factors), signals.slices, strict=True):
        surplus[part, part] += kron_dense(*factored_damping(A, G, gamma**2)) - kron_dense(A, G)
    yield "factored damping", fisher.DenseMatrix(surplus).solve(grad)


def costs_on_digits(seeds: Iterable[int], updates: int = 30, **settings: Any) -> list[UpdateCosts]:
    """Return :func:`update_costs` of ``presets.digits_mlp()`` on the bundled digits, one per seed."""
    data, net = digits(), digits_mlp()
    return [
        update_costs(net, net.init(np.random.default_rng(seed)), data, updates, seed=seed, **settings)
        for seed in seeds
    ]


def median_and_range(runs: Sequence[UpdateCosts]) -> list[dict[str, Any]]:
    """Return one row per approximation: its name, and the median, minimum and maximum of both measures."""
    return [
        {"approximation": name}
        | {measure: _spread([getattr(run, measure)[name] for run in runs]) for measure in ("model", "loss")}
        for name in runs[0].model
    ]


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return float(np.median(values)), min(values), max(values)
