"""What it costs to take batch normalization's statistics for constants, as every library does.

In training, mean and variance of a channel are those of the batch. The prediction of one example then
depends on all others, and the Fisher matrix is that of the batch's targets together (``fisher.joint``).
Per-example signals cannot say that: with the statistics held constant, each example has a gradient of its
own. The two differ. Does the difference go away in larger batches? Here both are computed, for batches
of growing size, next to a net with group normalization, which couples nothing [IS15, WH18].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ... import fisher
from ...backend import Array, to_host
from ...network import Network, outputs
from ...network.layers import AvgPool2d, BatchNorm, Conv2d, Dense, Flatten, GroupNorm, Layer, Tanh


@dataclass(frozen=True)
class Coupling:
    """Errors of the per-example Fisher matrix against that of the joint batch.

    Attributes:
        batch_sizes: (m,).
        errors: (m, repeats) relative Frobenius errors.
        scales: (m, repeats) best scalars c*.
        layer_errors: (L, m, repeats) errors of each layer's own block.
        control: the largest error with group normalization instead, which should be rounding.
        names, sizes: of the layers, in parameters.
        shown: the batch size of the two matrices that follow.
        joint, constant: (P, P), of one batch of this size.
        flat: (m, repeats): |F_joint w| / |F_constant w| for the direction w in which all weights into the
            normalized maps are scaled; 0 where predictions do not change, as they do not.
    """

    batch_sizes: Array
    errors: Array
    scales: Array
    layer_errors: Array
    control: float
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    shown: int
    joint: Array
    constant: Array
    flat: Array


def coupling(
    images: Array,
    batch_sizes: Sequence[int] = (4, 8, 16, 32, 64),
    repeats: int = 3,
    shown: int = 32,
    channels: int = 4,
    seed: int = 0,
) -> Coupling:
    """Compare the two Fisher matrices of a small net with batch normalization, as it is initialized.

    conv 3x3 - batch normalization - tanh - average pooling - dense 10, softmax.

    Args:
        images: (N, H, W, C), from which batches are drawn.
        batch_sizes: of them.
        repeats: batches per size.
        shown: the size, among these, whose matrices are kept.
        channels: of the convolution.
        seed: of weights and batches.

    Raises:
        ValueError: on batches of fewer than two examples or more than there are, or ``shown`` not among them.
    """
    sizes = list(batch_sizes)
    if not sizes or min(sizes) < 2 or max(sizes) > len(images) or shown not in sizes:
        raise ValueError(
            f"expected batch sizes from 2 to {len(images)}, {shown} among them to be shown, got {sizes}"
        )
    images = images.astype(float)
    net = _net(images.shape[1:], channels, BatchNorm)
    rng = np.random.default_rng([seed, 20])
    theta = net.init(rng)
    scaled = theta.copy()  # the direction in which the convolution's weights grow
    scaled[net.slices[0].stop :] = 0
    errors, scales, flat = (np.zeros((len(sizes), repeats)) for _ in range(3))
    layer_errors = np.zeros((len(net.names), len(sizes), repeats))
    kept: list[Array] = []
    for row, size in enumerate(sizes):
        for column in range(repeats):
            x = images[rng.choice(len(images), size, replace=False)]
            joint, constant = _both(net, theta, x)
            errors[row, column] = _error(joint, constant)
            scales[row, column] = float((constant * joint).sum() / (constant**2).sum())
            flat[row, column] = np.linalg.norm(joint @ scaled) / np.linalg.norm(constant @ scaled)
            for layer, own in enumerate(net.slices):
                layer_errors[layer, row, column] = _error(joint[own, own], constant[own, own])
            if size == shown and not kept:
                kept = [joint, constant]
    control = _net(images.shape[1:], channels, lambda c: GroupNorm(2 if c % 2 == 0 else 1, c))
    x = images[rng.choice(len(images), min(sizes), replace=False)]
    return Coupling(
        np.array(sizes),
        errors,
        scales,
        layer_errors,
        _error(*_both(control, control.init(rng), x)),
        net.names,
        tuple(own.stop - own.start for own in net.slices),
        shown,
        kept[0],
        kept[1],
        flat,
    )


def _net(shape: Sequence[int], channels: int, normalization: Callable[[int], Layer]) -> Network:
    h, w, c = shape
    pool = max(1, min(h, w) // 2)
    return Network(
        [
            Conv2d(c, channels, 3, padding=1, bias=False),
            normalization(channels),
            Tanh(),
            AvgPool2d(pool),
            Flatten(),
            Dense((h // pool) * (w // pool) * channels, 10),
        ],
        outputs.Categorical(),
    )


def _both(net: Network, theta: Array, x: Array) -> tuple[Array, Array]:
    """The Fisher matrix of the joint batch, and that of examples with the batch's statistics as constants."""
    constant = fisher.exact(fisher.signals(net, theta, x, train=True))
    return to_host(fisher.joint(net, theta, x).to_dense()), to_host(constant.to_dense())


def _error(F: Array, M: Array) -> float:
    return float(np.linalg.norm(F - M) / np.linalg.norm(F))
