"""What it costs to treat batch normalization's statistics as constants, as every library does.

In training, mean and variance of a channel are those of the batch. The prediction of one example then
depends on all others, and the Fisher matrix is that of the batch's targets together (``fisher.joint``).
Per-example signals cannot represent that: only with constant statistics does each example have a gradient of
its own. The two matrices differ. Does the difference vanish in larger batches? Here both are computed, for
batches of growing size, next to a net with group normalization, which couples nothing [IS15, WH18].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ... import fisher, plots
from ...backend import Array, to_host
from ...linalg import best_scalar, relative_error
from ...network import Network, outputs
from ...network.layers import AvgPool2d, BatchNorm, Conv2d, Dense, Flatten, GroupNorm, Layer, Tanh
from ..parts import Chapter, Section, number, two_digits
from ..studied import Run
from ..words import words

_MAPS = 4
"""Of the convolution."""


@dataclass(frozen=True)
class Coupling:
    """Errors of the per-example Fisher matrix against that of the joint batch.

    Attributes:
        batch_sizes: (m,).
        errors: (m, repeats) relative Frobenius errors.
        scales: (m, repeats) best scalars c*.
        layer_errors: (L, m, repeats) errors of each layer's block.
        control: the largest error with group normalization instead, which should be rounding.
        names: of the layers.
        flat: (m, repeats): |F_joint w| / |F_constant w| for the direction w in which all weights into the
            normalized maps are scaled; 0 means that predictions do not change.
    """

    batch_sizes: Array
    errors: Array
    scales: Array
    layer_errors: Array
    control: float
    names: tuple[str, ...]
    flat: Array


def coupling(
    images: Array,
    batch_sizes: Sequence[int] = (4, 8, 16, 32, 64),
    repeats: int = 3,
    seed: int = 0,
) -> Coupling:
    """Compare the two Fisher matrices of a small net with batch normalization, as it is initialized.

    conv 3x3 - batch normalization - tanh - average pooling - dense 10, softmax.

    Args:
        images: (N, H, W, C), from which batches are drawn.
        batch_sizes: of them.
        repeats: batches per size.
        seed: of weights and batches.

    Raises:
        ValueError: on batches of fewer than two examples or more than there are.
    """
    sizes = list(batch_sizes)
    if not sizes or min(sizes) < 2 or max(sizes) > len(images):
        raise ValueError(f"expected batch sizes from 2 to {len(images)}, got {sizes}")
    images = images.astype(float)
    net = _net(images.shape[1:], BatchNorm(_MAPS))
    rng = np.random.default_rng([seed, 20])
    theta = net.init(rng)
    scaled = theta.copy()  # the direction in which the convolution's weights grow
    scaled[net.slices[0].stop :] = 0
    measured: list[list[float]] = []
    for size in sizes:
        for _ in range(repeats):
            joint, constant = _both(net, theta, images[rng.choice(len(images), size, replace=False)])
            measured.append(_compared(joint, constant, scaled, net.slices))
    errors, scales, flat, *layer_errors = np.reshape(measured, (len(sizes), repeats, -1)).transpose(2, 0, 1)
    control = _net(images.shape[1:], GroupNorm(2, _MAPS))
    x = images[rng.choice(len(images), min(sizes), replace=False)]
    uncoupled, also = _both(control, control.init(rng), x)
    return Coupling(
        np.array(sizes),
        errors,
        scales,
        np.array(layer_errors),
        relative_error(also, uncoupled),
        net.names,
        flat,
    )


def _compared(joint: Array, constant: Array, w: Array, slices: Sequence[slice]) -> list[float]:
    """Error, best scalar, ratio of lengths along w, and the error of each block."""
    scale = best_scalar(constant, joint)
    flat = float(np.linalg.norm(joint @ w) / np.linalg.norm(constant @ w))
    blocks = [relative_error(constant[block, block], joint[block, block]) for block in slices]
    return [relative_error(constant, joint), scale, flat, *blocks]


def _net(shape: Sequence[int], normalization: Layer) -> Network:
    h, w, c = shape
    pool = max(1, min(h, w) // 2)
    below = [Conv2d(c, _MAPS, 3, padding=1, bias=False), normalization, Tanh(), AvgPool2d(pool)]
    top = Dense((h // pool) * (w // pool) * _MAPS, 10)
    return Network([*below, Flatten(), top], outputs.Categorical())


def _both(net: Network, theta: Array, x: Array) -> tuple[Array, Array]:
    """The Fisher matrix of the joint batch, and that of its examples with constant statistics."""
    constant = fisher.exact(fisher.signals(net, theta, x, train=True))
    return to_host(fisher.joint(net, theta, x).to_dense()), to_host(constant.to_dense())


def compute(run: Run) -> Chapter | None:
    """What constant statistics cost on the run's images; None where these are too few or too large."""
    images = run.dataset.x_train
    sizes = [size for size in (4, 8, 16, 32, 64) if size <= len(images)]
    if len(sizes) < 2 or min(images.shape[1:3]) > 16:
        return None
    batch = coupling(images, sizes, seed=run.settings.seed)
    first, *_, last = np.median(batch.errors, axis=1)
    text = words(
        "batchnorm",
        first=two_digits(first),
        smallest=sizes[0],
        last=two_digits(last),
        largest=sizes[-1],
        scale=number(np.median(batch.scales[-1])),
        above=number(batch.layer_errors[1:].max()),
        flat=number(batch.flat.max()),
        control=number(batch.control),
    )
    title = "Batch normalization: examples that are not alone"
    section = Section("convbatch", title, text, 3)
    below, *above = batch.layer_errors
    errors = {
        "all parameters": batch.errors,
        "block of the convolution below": below,
        "blocks of scale and shift, and above": np.max(above, axis=0),
    }
    draw = partial(plots.error_against_batch, batch.batch_sizes, errors)
    record = {"convolutions": {"batch_normalization": vars(batch)}}
    return Chapter([section], {"conv-batchnorm": draw}, record, results=batch)
