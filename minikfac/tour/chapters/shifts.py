"""The gradient of a convolution: dot products of two maps, shifted against each other.

One input map a_j and one map of derivatives g_i, laid over each other with a shift delta: the sum of
products where they overlap,

    DW[delta, j, i] = sum_t a_j(t + delta) g_i(t),

is the gradient of the weight from map j to map i at the kernel's place delta [GM16, sec. 2]. The kernel
has only few of all possible shifts. The Fisher block is the covariance of these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.signal import correlate2d

from ... import fisher, plots
from ...backend import Array, to_host
from ...network import Network
from ..parts import Chapter, Section, count
from ..studied import Run
from ..words import words
from .maps import MEASURED, conv_layers


@dataclass(frozen=True)
class ShiftedProducts:
    """One pair of maps of one example, and its dot products for all shifts.

    Attributes:
        layer: name of the convolution.
        example: index of the example.
        input_map, output_map: j and i.
        activation: a_j with its padding, (H + padding, W + padding).
        derivative: g_i for one drawn target, (Ho, Wo).
        products: for every shift at which the two overlap at all, (rows, columns).
        kernel: (top, left, kh, kw): which of them are the kernel's.
        padding: (above, left, below, right), in pixels of ``activation``.
    """

    layer: str
    example: int
    input_map: int
    output_map: int
    activation: Array
    derivative: Array
    products: Array
    kernel: tuple[int, int, int, int]
    padding: tuple[int, int, int, int]

    @property
    def gradient(self) -> Array:
        """DW[:, :, j, i], (kh, kw), the products at the kernel's shifts."""
        top, left, kh, kw = self.kernel
        return self.products[top : top + kh, left : left + kw]


def shifted_products(
    net: Network, theta: Array, x: Array, layer: int | None = None, seed: int = 0
) -> ShiftedProducts:
    """Draw one target per example, and take the example and the pair of maps with the largest gradient.

    Args:
        net: the network.
        theta: (P,).
        x: images (N, H, W, C).
        layer: index of a convolution with stride 1; the first one by default.
        seed: of the drawn targets.

    Raises:
        ValueError: on a net without such a convolution.
    """
    convs = conv_layers(net).items()
    dense = {l: conv for l, conv in convs if conv.windows.stride == conv.windows.dilation == (1, 1)}
    if not dense or (layer is not None and layer not in dense):
        names = ", ".join(net.names[number] for number in dense) or "none"
        raise ValueError(f"expected a convolution of stride 1, of which there are {names}, got {layer}")
    layer = next(iter(dense)) if layer is None else layer
    windows, c_in = dense[layer].windows, dense[layer].c_in
    rng = np.random.default_rng([seed, 5])
    drawn = fisher.signals(net, theta, x, targets="sampled", rng=rng)[net.names[layer]]
    kh, kw = windows.kernel
    gradients = to_host(drawn.gradients()[0]).reshape(len(x), *drawn.weight_shape)
    weights = gradients[:, : kh * kw * c_in].reshape(len(x), kh * kw, c_in, -1)  # no bias
    squares = (weights**2).sum(1)  # (N, c_in, c_out)
    example, j, i = (int(place) for place in np.unravel_index(squares.argmax(), squares.shape))
    assert drawn.grid is not None
    h, w = drawn.grid
    derivative = to_host(drawn.g[0, example, :, i]).reshape(h, w)
    # patches lie over each other; laid side by side they are the padded map
    patches = to_host(drawn.abar[example, :, : kh * kw * c_in]).reshape(h, w, kh, kw, c_in)[..., j]
    activation = np.zeros((h + kh - 1, w + kw - 1), dtype=patches.dtype)
    for a in range(kh):
        for b in range(kw):
            activation[a : a + h, b : b + w] = patches[:, :, a, b]
    products = correlate2d(activation, derivative, mode="full")
    return ShiftedProducts(
        net.names[layer],
        example,
        j,
        i,
        activation,
        derivative,
        products,
        (h - 1, w - 1, kh, kw),
        (*windows.before, *windows.after),
    )


def compute(run: Run) -> Chapter:
    """One gradient of the run's convolutional net: the kernel's share of all shifts."""
    one = shifted_products(run.net, run.theta, run.x[:MEASURED], seed=run.settings.seed)
    text = words(
        "shifts",
        shifts=count(one.products.size),
        kernel=one.gradient.size,
        layer=one.layer,
        map=one.input_map,
    )
    title = "One gradient: two maps, shifted against each other"
    section = Section("convgradient", title, text, 3)
    maps = one.activation, one.derivative, one.products, one.kernel
    draw = partial(plots.shifted_products, *maps, padding=one.padding)
    record = {"convolutions": {"shifts": vars(one) | {"gradient": one.gradient}}}
    return Chapter([section], {"conv-gradient": draw}, record)
