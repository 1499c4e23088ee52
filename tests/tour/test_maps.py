"""Correlations of maps against loops, on maps whose correlations are known, and what pooling does to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import datasets, fisher, layers, optim, outputs, training
from minikfac.tour.chapters.maps import LayerMaps, MapStatistics, layer_maps, map_statistics, strengths
from oracles import close

RNG = np.random.default_rng(0)


def loop_autocorrelation(maps: np.ndarray, dy: int, dx: int, centred: bool) -> np.ndarray:
    """Collect all pairs (t, t + delta) of all examples, and correlate them."""
    n, h, w, m = maps.shape
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    for example in range(n):
        for y in range(h):
            for x in range(w):
                if 0 <= y + dy < h and 0 <= x + dx < w:
                    first.append(maps[example, y, x])
                    second.append(maps[example, y + dy, x + dx])
    a, b = np.array(first), np.array(second)
    if centred:
        return np.array([np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(m)])
    return (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shape", [(5, 4, 6, 3), (7, 3, 3, 1), (6, 1, 5, 2)])
def test_autocorrelation_against_loops(shape: tuple[int, ...], centred: bool) -> None:
    maps = RNG.normal(size=shape) + RNG.normal(size=shape[3]) + np.linspace(0, 1, shape[2])[:, None]
    r = map_statistics(maps, reach=2, centred=centred).autocorrelation
    ry, rx = min(2, shape[1] - 1), min(2, shape[2] - 1)
    assert r.shape == (shape[3], 2 * ry + 1, 2 * rx + 1)
    for dy in range(-ry, ry + 1):
        for dx in range(-rx, rx + 1):
            expected = loop_autocorrelation(maps, dy, dx, centred)
            close(r[:, ry + dy, rx + dx], expected)
    close(r[:, ry, rx], 1)
    close(r, r[:, ::-1, ::-1])


def test_white_maps_are_a_dot_and_constant_ones_a_plain() -> None:
    n = 400
    white = map_statistics(RNG.normal(size=(n, 6, 6, 2)), reach=3)
    far = white.autocorrelation.copy()
    far[:, 3, 3] = 0
    assert np.abs(far).max() < 5 / np.sqrt(n * 3 * 3)  # the fewest pairs, in the corners
    constant = map_statistics(np.broadcast_to(RNG.normal(size=(n, 1, 1, 2)), (n, 6, 6, 2)).copy(), reach=3)
    close(constant.autocorrelation, 1)
    close(constant.variance, 1)
    assert white.strength(0) == pytest.approx(1) and constant.strength(3) == pytest.approx(1)


def test_average_pooling_correlates_within_windows() -> None:
    """White noise on 2 x 2 windows: of the pairs side by side, W / 2 of W - 1 columns share a window."""
    n, w = 3000, 6
    coarse = RNG.normal(size=(n, w // 2, w // 2, 1))
    maps = coarse.repeat(2, axis=1).repeat(2, axis=2)
    statistics = map_statistics(maps, reach=2, centred=False)
    error = 5 / np.sqrt(n * w)
    assert statistics.strength(1) == pytest.approx((w / 2) / (w - 1), abs=error)
    assert statistics.strength(2) == pytest.approx(0, abs=error)


def test_maps_that_never_vary_are_left_out() -> None:
    maps = RNG.normal(size=(20, 3, 3, 2))
    alone = map_statistics(maps[..., 1:])
    maps[..., 0] = 0.1
    statistics = map_statistics(maps)
    assert np.isnan(statistics.autocorrelation[0]).all() and np.isfinite(statistics.autocorrelation[1]).all()
    close(statistics.mean_autocorrelation, alone.autocorrelation[0])
    close(statistics.mean_variance, alone.variance[0])
    assert statistics.neighbours == statistics.strength(1) == pytest.approx(alone.strength(1))
    dead = map_statistics(maps[..., :1])
    assert np.isnan(dead.strength(1))


@pytest.mark.parametrize("centred", [True, False])
def test_variances_against_loops(centred: bool) -> None:
    maps = RNG.normal(size=(30, 2, 3, 4)) @ RNG.normal(size=(4, 4)) + 0.5
    statistics = map_statistics(maps, centred=centred)
    for k in range(4):
        variance = np.array(
            [[maps[:, y, x, k].var() + (0 if centred else maps[:, y, x, k].mean() ** 2) for x in range(3)]
             for y in range(2)]
        )  # fmt: skip
        close(statistics.variance[k], variance / variance.mean())


def test_the_border_is_compared_with_the_inside() -> None:
    variance = np.full((1, 4, 5), 2.0)
    variance[:, 1:-1, 1:-1] = 0.5
    maps = RNG.normal(size=(3, 4, 5, 1))
    statistics = map_statistics(maps)
    assert MapStatistics(statistics.autocorrelation, variance).border == pytest.approx(4)
    assert np.isnan(map_statistics(maps[:, :2]).border)


@pytest.mark.parametrize("conv", [layers.Conv2d(2, 3, 3, padding=1), layers.Conv2d(2, 3, 5, padding="same")])
def test_the_middle_of_the_patches_is_the_image(conv: layers.Conv2d) -> None:
    net = mk.Network([conv, layers.Tanh(), layers.Flatten(), layers.Dense(60, 4)], outputs.Categorical())
    theta, x = net.init(np.random.default_rng(1)), RNG.normal(size=(8, 4, 5, 2))
    (maps,) = layer_maps(net, theta, x, reach=2)
    signals = fisher.signals(net, theta, x)
    assert (maps.name, maps.grid) == ("conv0", (4, 5))
    _same(maps.inputs, map_statistics(x, 2))
    _same(maps.derivatives, map_statistics(signals[0].g.reshape(-1, 4, 5, 3), 2, centred=False))


def _same(a: MapStatistics, b: MapStatistics) -> None:
    for field in ("autocorrelation", "variance"):
        close(getattr(a, field), getattr(b, field))


def test_convolutions_inside_branches_are_found() -> None:
    net = mk.presets.small_resnet((8, 8, 1), width=4, stages=2)
    maps = layer_maps(net, net.init(np.random.default_rng(0)), RNG.normal(size=(4, 8, 8, 1)), reach=1)
    assert [layer.name for layer in maps] == [name for name in net.names if name.startswith("conv")]


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"expected maps of shape \(N, H, W, M\), got \(3, 4\)"):
        map_statistics(np.ones((3, 4)))
    with pytest.raises(ValueError, match="expected a net with convolutions, got none"):
        layer_maps(mk.mlp([3, 2]), np.zeros(8), np.ones((2, 3)))
    with pytest.raises(ValueError, match="expected an offset from 0 to 2, got 3"):
        map_statistics(RNG.normal(size=(4, 3, 3, 1))).strength(3)


@pytest.fixture(scope="module")
def pooled() -> dict[str, list[LayerMaps]]:
    """A small net trained for a moment, with either pooling."""
    data = datasets.digits(images=True)
    maps: dict[str, list[LayerMaps]] = {}
    for pool in ("max", "avg"):
        net = mk.presets.tiny_convnet(pool=pool)
        opt = optim.SGD(net, 0.05, 0.9)
        theta: Any = net.init(np.random.default_rng(0))
        theta = training.train(net, theta, opt, data, 40, 100, measure_every=40, progress=False).theta
        maps[pool] = layer_maps(net, theta, data.x_train[:200])
    return maps


def test_max_pooling_leaves_derivatives_uncorrelated(
    pooled: dict[str, list[LayerMaps]],
) -> None:
    """Figures 1 and 2 of KFC's paper, on digits: the claim that SUD stands on, and its control."""
    for below_max, below_avg in zip(pooled["max"], pooled["avg"], strict=True):
        assert below_max.derivatives.strength(1) < 0.15 < 0.3 < below_avg.derivatives.strength(1)
        assert below_max.inputs.strength(1) > 0.2


def test_strengths_have_a_row_per_layer_and_signal(pooled: dict[str, list[LayerMaps]]) -> None:
    rows = strengths(pooled["max"])
    assert [(row["layer"], row["signal"]) for row in rows] == [
        (layer, signal) for layer in ("conv0", "conv1") for signal in ("inputs", "derivatives")
    ]
    assert rows[0]["1"] == pooled["max"][0].inputs.strength(1)
    assert list(rows[0]) == ["layer", "signal", "1", "2", "3", "border"]
    tiny = map_statistics(RNG.normal(size=(4, 3, 3, 1)))
    (row, *_) = strengths([LayerMaps("tiny", (3, 3), tiny, tiny)])
    assert row["2"] == tiny.strength(2) and row["3"] is None
