"""Dot products of shifted maps: all of them against loops, the kernel's against backpropagation."""

from __future__ import annotations

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers, outputs
from minikfac.tour.chapters.shifts import shifted_products
from oracles import close

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 5, 6, 2))


def make(conv: layers.Conv2d) -> tuple[mk.Network, np.ndarray]:
    rest = [layers.Tanh(), layers.GlobalAvgPool(), layers.Dense(3, 4)]
    net = mk.Network([conv, *rest], outputs.Categorical())
    return net, net.init(np.random.default_rng(1))


CONVOLUTIONS = [
    layers.Conv2d(2, 3, 3, padding=1),
    layers.Conv2d(2, 3, 3),
    layers.Conv2d(2, 3, (2, 3), padding=(1, 0)),
    layers.Conv2d(2, 3, 4, padding="same"),
    layers.Conv2d(2, 3, 3, padding=1, pad_value=0.7),
]


@pytest.mark.parametrize("conv", CONVOLUTIONS)
def test_the_kernels_shifts_give_the_gradient_of_backpropagation(conv: layers.Conv2d) -> None:
    net, theta = make(conv)
    one = shifted_products(net, theta, X)
    rows = slice(one.example, one.example + 1)
    # the target that was drawn: there p - target is negative
    drawn = fisher.signals(net, theta, X, targets="sampled", rng=np.random.default_rng([0, 5]))
    target = drawn[-1].g[0, rows, 0].argmin(1)
    gradient = net.unpack(net.loss_and_gradient(theta, X[rows], target)[1])[0]
    weight, _ = conv.split(gradient)
    close(one.gradient, weight[one.output_map, one.input_map])
    # and no other pair of maps has a longer one
    assert (one.gradient**2).sum() == pytest.approx((weight**2).sum((2, 3)).max())


@pytest.mark.parametrize("conv", CONVOLUTIONS)
def test_products_against_loops(conv: layers.Conv2d) -> None:
    one = shifted_products(*make(conv), X)
    a, g = one.activation, one.derivative
    above, before, below, after = one.padding
    inside = a[above : a.shape[0] - below, before : a.shape[1] - after]
    close(inside, X[one.example, :, :, one.input_map])
    top, left, kh, kw = one.kernel
    assert (kh, kw) == conv.windows.kernel
    for row in range(one.products.shape[0]):
        for column in range(one.products.shape[1]):
            dy, dx = row - top, column - left  # the kernel's upper left corner is the shift (0, 0)
            expected = sum(
                a[y + dy, x + dx] * g[y, x]
                for y in range(g.shape[0])
                for x in range(g.shape[1])
                if 0 <= y + dy < a.shape[0] and 0 <= x + dx < a.shape[1]
            )
            close(one.products[row, column], expected)


def test_another_layer_can_be_named() -> None:
    net = mk.presets.tiny_convnet()
    theta, x = net.init(np.random.default_rng(0)), RNG.normal(size=(5, 8, 8, 1))
    first, second = shifted_products(net, theta, x), shifted_products(net, theta, x, 1)
    assert (first.layer, second.layer) == ("conv0", "conv1")


def test_refusals() -> None:
    net = mk.presets.tiny_convnet()
    theta, x = net.init(np.random.default_rng(0)), RNG.normal(size=(2, 8, 8, 1))
    with pytest.raises(ValueError, match="of which there are conv0, conv1, got 2"):
        shifted_products(net, theta, x, 2)
    strided, theta = make(layers.Conv2d(2, 3, 3, stride=2))
    with pytest.raises(ValueError, match="convolution of stride 1, of which there are none, got None"):
        shifted_products(strided, theta, X)
