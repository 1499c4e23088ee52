"""The gradient of a mini-batch and its K-FAC factors from one forward pass.

    forward   abar, z                              patches of images are made once
    backward  g of the loss, g of drawn targets    both at once, two terms of one pass
    products  sum abar g^T,   A, G                 all read the same abar

The batch is taken in chunks, on all cores. It is the same as
``net.loss_and_gradient`` and ``fisher.kfac(fisher.signals(...))``, in less time and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..backend import Array, array_module, number
from ..linalg import Sums, sum_over_chunks
from ..network import Network
from .block_diagonal import BlockDiagonal
from .kronecker import Kronecker, factor_rows, reduced_factor_rows
from .patches import PatchMoment
from .signals import LayerSignals, Terms


class Estimate(NamedTuple):
    """What one mini-batch says.

    Attributes:
        loss: mean over examples, nats; on a device a number that stays there.
        gradient: of it, (P,).
        fisher: the K-FAC matrix.
        stats: running statistics of batch normalization after the pass; [] for most nets.
    """

    loss: Any
    gradient: Array
    fisher: BlockDiagonal
    stats: list[Array]


def gradient_and_kfac(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    targets: str = "sampled",
    n_samples: int = 1,
    rng: Any = None,
    reduce: bool = False,
    stats: Sequence[Array] | None = None,
    train: bool = False,
) -> Estimate:
    """Return the mean loss, its gradient, and the K-FAC matrix of the same examples.

    Args:
        net: the network.
        theta: (P,).
        x: inputs.
        y: targets of the loss.
        targets, n_samples, rng: of the expectation in the factors, as in :func:`minikfac.fisher.signals`.
        reduce: KFAC-reduce, as in :func:`minikfac.fisher.kfac`.
        stats, train: of batch normalization; in training the gradient is the one of the coupled batch, and
            the factors hold its statistics constant.

    Raises:
        ValueError: on arguments that do not go together.
    """
    chunks = net.chunks(theta, x)
    terms = Terms.of(net, theta, x, y if targets == "data" else None, targets, n_samples, rng)
    net.output.check(y, len(x), net.n_outputs(x))
    factor_rows_of = reduced_factor_rows if reduce else factor_rows
    coupled = train and bool(net.init_stats())
    after: list[Array] = []
    if coupled:  # two passes: what g is depends on whether the statistics of the batch move along
        loss, grad, after = net.gradient_pass(theta, x, y, stats)
        stats = net.batch_stats(theta, x)

    def add(rows: slice, sums: Sums) -> None:
        tape = net.forward(theta, x[rows], stats)
        if not (coupled or after):
            after[:] = tape.stats
        dz = net.output.gradient(tape.z, y[rows])[None] / len(x)
        g = net.backward(theta, tape, array_module(dz).concatenate([dz, terms(tape.z, rows)]))
        sums.add("loss", net.output.losses(tape.z, y[rows]).sum())
        sums.add("gradient", net.summed_gradient(theta, tape.abar, [own[0] for own in g]))
        for l, (abar, own, grid) in enumerate(zip(tape.abar, g, tape.grids, strict=True)):
            overlap = None if reduce else PatchMoment.of(net.parameter_layers[l], grid)
            for place, M in enumerate(factor_rows_of(LayerSignals(abar, own[1:]))):
                if overlap is None or place == 1:
                    sums.add_gram((l, place), M)
                else:
                    overlap.add(sums, (l, place), abar, grid)
                    overlaps[l] = overlap

    overlaps: dict[int, PatchMoment] = {}
    sums = sum_over_chunks(add, chunks, theta, net.comm)
    pairs = []
    for l in range(len(net.names)):
        totals = [sums[l, place] for place in range(2) if (l, place) in sums]
        if l in overlaps:
            totals.insert(0, overlaps[l].total(sums, (l, 0)))
        pairs.append(tuple(total / len(x) for total in totals))
    if not coupled:
        loss, grad = number(sums["loss"]) / len(x), sums["gradient"]
    return Estimate(loss, grad, Kronecker(pairs, net.names), after)
