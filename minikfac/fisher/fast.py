"""The gradient of a mini-batch and its K-FAC factors from one forward pass.

forward   abar, z                              image patches are extracted once
backward  g of the loss, g of drawn targets    two terms of a single pass
products  sum abar g^T,   A, G                 all use the same abar

The batch is processed in chunks on all cores. The results equal those of ``net.loss_and_gradient`` and
``fisher.kfac(fisher.signals(...))``, but take less time and memory.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..backend import Array, array_module, number
from ..linalg import Sums, sum_over_chunks
from ..network import Network
from ..network.network import Stats
from .block_diagonal import BlockDiagonal
from .kronecker_block import kronecker_blocks
from .patches import PatchMoment
from .signals import LayerSignals
from .targets import Targets


class Estimate(NamedTuple):
    """The results of one mini-batch.

    Attributes:
        loss: mean over examples, nats; on a device it stays there.
        gradient: the gradient of the loss, (P,).
        fisher: the K-FAC matrix.
        stats: running statistics of batch normalization after the pass; [] for most nets.
        batch_stats: the statistics used in the pass; [] for most nets.
    """

    loss: Any
    gradient: Array
    fisher: BlockDiagonal
    stats: list[Array]
    batch_stats: list[Array]


def gradient_and_kfac(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    targets: str = "sampled",
    n_samples: int = 1,
    rng: Any = None,
    reduce: bool = False,
    stats: Stats = None,
    train: bool = False,
) -> Estimate:
    """Return the mean loss, its gradient, and the K-FAC matrix of the same examples.

    Args:
        net, theta: the network and its parameters (P,).
        x: inputs.
        y: targets of the loss.
        targets, n_samples, rng: for the expectation in the factors, as in :func:`minikfac.fisher.signals`.
        reduce: KFAC-reduce, as in :func:`minikfac.fisher.kfac`.
        stats, train: for batch normalization; in training the gradient is that of the coupled batch, while
            the factors hold the batch's statistics constant.

    Raises:
        ValueError: on arguments that contradict each other.
    """
    chunks = net.chunks(theta, x)
    expectation = Targets.of(net, theta, x, y if targets == "data" else None, targets, n_samples, rng)
    net.output.check(y, len(x), net.n_outputs(x))
    # per layer; like both kinds of statistics, the same in each chunk
    grids, after, used = list[tuple[int, int]](), list[Array](), list[Array]()
    if coupled := train and bool(net.init_stats()):  # two passes: g differs for constant statistics
        loss, grad, after, used = net.gradient_pass(theta, x, y, stats)
        stats = used

    def add(rows: slice, sums: Sums) -> None:
        tape = net.forward(theta, x[rows], stats)
        grids[:] = tape.grids
        if not coupled:
            after[:], used[:] = tape.stats, tape.batch_stats
        dz = net.output.gradient(tape.z, y[rows])[None] / len(x)
        g = net.backward(theta, tape, array_module(dz).concatenate([dz, expectation.terms(tape.z, rows)]))
        sums.add("loss", net.output.losses(tape.z, y[rows]).sum())
        sums.add("gradient", net.weight_gradient(theta, tape, [terms[0] for terms in g]))
        for l, (layer, record, terms) in enumerate(zip(net.parameter_layers, tape.records, g, strict=True)):
            if moment := overlap(l):  # without forming the patches
                moment.add(sums, (l, "A"), record[0])
                sums.add_gram((l, "G"), terms[1:].reshape(-1, terms.shape[-1]))
            else:
                _add_factors(sums, l, LayerSignals(layer.signals(record)[0][0], terms[1:]), reduce)

    def overlap(l: int) -> PatchMoment | None:
        return None if reduce else PatchMoment.of(net.parameter_layers[l], grids[l])

    sums = sum_over_chunks(add, chunks, theta, net.comm)
    if not coupled:
        loss, grad = number(sums["loss"]) / len(x), sums["gradient"]
    locations = enumerate(1 if reduce else math.prod(grid) for grid in grids)
    factors = [_factors(sums, l, overlap(l), len(x), t) for l, t in locations]
    return Estimate(loss, grad, kronecker_blocks(factors, net.names), after, used)


def _add_factors(sums: Sums, l: int, layer: LayerSignals, reduce: bool) -> None:
    """Add the rows whose outer products sum to A and G, or to the full block F of scale and shift."""
    if layer.scale_and_shift:
        sums.add_gram((l, "F"), layer.gradients().reshape(-1, math.prod(layer.weight_shape)))
        return
    abar, g = (layer.abar.sum(1), layer.g.mean(2)) if reduce else (layer.abar, layer.g)
    sums.add_gram((l, "A"), abar.reshape(-1, abar.shape[-1]))
    sums.add_gram((l, "G"), g.reshape(-1, g.shape[-1]))


def _factors(sums: Sums, l: int, overlap: PatchMoment | None, n: int, t: int) -> tuple[Array, ...]:
    """A and G, or F, as means over n examples and, for G, t locations."""
    if (l, "F") in sums:
        return (sums[l, "F"] / n,)
    A = sums[l, "A"] if overlap is None else overlap.total(sums, (l, "A"))
    return A / n, sums[l, "G"] / (n * t)
