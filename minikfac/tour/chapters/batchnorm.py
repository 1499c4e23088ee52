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
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import fisher, plots
from ...backend import Array, to_host
from ...network import Network, outputs
from ...network.layers import AvgPool2d, BatchNorm, Conv2d, Dense, Flatten, GroupNorm, Layer, Tanh
from ..parts import Drawings, Figure, Section, number

if TYPE_CHECKING:
    from ..run import Run


@dataclass(frozen=True)
class Coupling:
    """Errors of the per-example Fisher matrix against that of the joint batch.

    Attributes:
        batch_sizes: (m,).
        errors: (m, repeats) relative Frobenius errors.
        scales: (m, repeats) best scalars c*.
        layer_errors: (L, m, repeats) errors of each layer's block.
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

    def figures(self) -> Drawings:
        """The two matrices of one batch, and errors against the size of the batch."""
        return {"conv-batchnorm": self._matrices, "conv-batchnorm-size": self._errors}

    def _matrices(self) -> Any:
        return plots.matrices(
            self.joint,
            {"statistics held constant": self.constant},
            ["conv", "norm", "dense"],
            self.sizes,
            reference=f"joint, {self.shown} examples",
        )

    def _errors(self) -> Any:
        below, *above = self.layer_errors
        errors = {
            "all parameters": self.errors,
            "block of the convolution below": below,
            "blocks of scale and shift, and above": np.max(above, axis=0),
        }
        return plots.error_against_batch(self.batch_sizes, errors)

    def sections(self) -> list[Section]:
        """What constant statistics cost, in small batches and in large ones."""
        first, *_, last = np.median(self.errors, axis=1)
        text = (
            "Batch normalization subtracts a mean and divides by a standard deviation that are those of the "
            "batch. In training the prediction of one example then depends on all others, and no example has "
            "a gradient of its own. Libraries treat the statistics as constants all the same, or refuse such "
            "a net. The exact Fisher matrix is that of all targets of the batch together. For a small net "
            "(convolution, batch normalization, tanh, pooling, softmax; as initialized) the matrix with "
            f"constant statistics has a relative error of <b>{number(first)}</b> in batches of "
            f"{self.batch_sizes[0]} and of <b>{number(last)}</b> in batches of {self.batch_sizes[-1]}; its "
            f"best scalar is then {number(np.median(self.scales[-1]))}. The blocks of scale, shift and the "
            f"layer above differ by {number(np.max(self.layer_errors[1:]))} at most: the error is in the "
            "block of the convolution, whose weights change the statistics. Predictions do not change when "
            "all these weights are scaled. Along that direction the joint matrix is "
            f"{number(self.flat.max())} of the other one. With group normalization, which normalizes each "
            f"example by itself, the two differ by {number(self.control)}."
        )
        matrices = (
            f"Fisher matrix of a batch of {self.shown}: joint, with the batch's statistics as constants, and "
            "the difference."
        )
        sizes = "Error of the matrix with constant statistics against the size of the batch."
        figures = Figure("conv-batchnorm", matrices), Figure("conv-batchnorm-size", sizes)
        title = "Batch normalization: examples that are not alone"
        return [Section("convbatch", title, [text, *figures], 3)]

    def record(self) -> dict[str, Any]:
        """All errors; no matrices."""
        numbers = {key: value for key, value in vars(self).items() if key not in ("joint", "constant")}
        return {"convolutions": {"batch_normalization": numbers}}


def coupling(
    images: Array,
    batch_sizes: Sequence[int] = (4, 8, 16, 32, 64),
    repeats: int = 3,
    shown: int = 32,
    seed: int = 0,
) -> Coupling:
    """Compare the two Fisher matrices of a small net with batch normalization, as it is initialized.

    conv 3x3 - batch normalization - tanh - average pooling - dense 10, softmax.

    Args:
        images: (N, H, W, C), from which batches are drawn.
        batch_sizes: of them.
        repeats: batches per size.
        shown: the size, among these, whose matrices are kept.
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
    net = _net(images.shape[1:], BatchNorm)
    rng = np.random.default_rng([seed, 20])
    theta = net.init(rng)
    scaled = theta.copy()  # the direction in which the convolution's weights grow
    scaled[net.slices[0].stop :] = 0
    measured: list[list[float]] = []
    pictures: dict[int, tuple[Array, Array]] = {}
    for size in sizes:
        for _ in range(repeats):
            joint, constant = _both(net, theta, images[rng.choice(len(images), size, replace=False)])
            measured.append(_compared(joint, constant, scaled, net.slices))
            pictures.setdefault(size, (joint, constant))
    errors, scales, flat, *layer_errors = np.reshape(measured, (len(sizes), repeats, -1)).transpose(2, 0, 1)
    control = _net(images.shape[1:], lambda channels: GroupNorm(2, channels))
    x = images[rng.choice(len(images), min(sizes), replace=False)]
    joint, constant = pictures[shown]
    return Coupling(
        np.array(sizes),
        errors,
        scales,
        np.array(layer_errors),
        _error(*_both(control, control.init(rng), x)),
        net.names,
        tuple(block.stop - block.start for block in net.slices),
        shown,
        joint,
        constant,
        flat,
    )


def _compared(joint: Array, constant: Array, w: Array, slices: Sequence[slice]) -> list[float]:
    """Error, best scalar, ratio of lengths along w, and the error of each block."""
    scale = float((constant * joint).sum() / (constant**2).sum())
    flat = float(np.linalg.norm(joint @ w) / np.linalg.norm(constant @ w))
    blocks = [_error(joint[block, block], constant[block, block]) for block in slices]
    return [_error(joint, constant), scale, flat, *blocks]


def _net(shape: Sequence[int], normalization: Callable[[int], Layer], channels: int = 4) -> Network:
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


def compute(run: Run) -> Coupling | None:
    """On the run's images; None where these are too few or too large."""
    images = run.dataset.x_train
    sizes = [size for size in (4, 8, 16, 32, 64) if size <= len(images)]
    if len(sizes) < 2 or min(images.shape[1:3]) > 16:
        return None
    return coupling(images, sizes, shown=sizes[len(sizes) // 2], seed=run.settings.seed)
