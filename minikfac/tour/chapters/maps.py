"""Maps of a convolution: over which distances activations or derivatives are correlated.

KFC assumes that derivatives at different locations are uncorrelated (SUD) and that statistics are the same at
all locations (SH). Both can be checked map by map [GM16, sec. 5.1, figs. 1 and 2]:

    autocorrelation   r(delta) = corr( m_t, m_{t + delta} )    over examples and all pairs in the grid
    variance          Var( m_t ) at each location t, relative to its mean over locations
    between maps      corr( m_t, m'_t )                        over examples and locations

Activations are centred. Derivatives are not: for targets drawn from the model their mean is zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import fisher, plots
from ...backend import Array, to_host
from ...network import Network
from ...network.layers import Conv2d
from ..parts import Chapter, Section, count, listing, number, two_digits
from ..studied import Run
from ..words import words

MEASURED = 300
"""Most examples whose maps are measured."""
POOLING = {"max": "max-pooling", "avg": "averages"}

_ROUNDING = 1e-12
"""A variance below this share of the mean square counts as zero."""


@dataclass(frozen=True)
class MapStatistics:
    """Correlations and variances in space of the maps of one signal.

    Maps that never vary, as below dead units, have NaN correlations.

    Attributes:
        autocorrelation: (M, 2 ry + 1, 2 rx + 1), the shift (0, 0) in the middle.
        variance: (M, H, W), each relative to its mean over locations.
    """

    autocorrelation: Array
    variance: Array

    @property
    def mean_autocorrelation(self) -> Array:
        """Mean over maps, (2 ry + 1, 2 rx + 1)."""
        return _mean_over_maps(self.autocorrelation)

    @property
    def mean_variance(self) -> Array:
        """Mean over maps, (H, W)."""
        return _mean_over_maps(self.variance)

    @property
    def reach(self) -> int:
        """Largest shift available in both directions."""
        return min(self.autocorrelation.shape[1:]) // 2

    def strength(self, offset: int) -> float:
        """Mean |r| over maps for shifts by so many pixels to the side and down.

        Raises:
            ValueError: if the shift is larger than :attr:`reach`.
        """
        if not 0 <= offset <= self.reach:
            raise ValueError(f"expected an offset from 0 to {self.reach}, got {offset}")
        y, x = (extent // 2 for extent in self.autocorrelation.shape[1:])
        r = np.abs([self.autocorrelation[:, y + offset, x], self.autocorrelation[:, y, x + offset]])
        return float(np.nanmean(r)) if np.isfinite(r).any() else float("nan")

    @property
    def neighbours(self) -> float:
        """Mean |r| over maps at a distance of one pixel."""
        return self.strength(1)

    @property
    def border(self) -> float:
        """Mean relative variance on the outermost locations, over that of all others; nan without others."""
        mean, rim = self.mean_variance, np.ones(self.variance.shape[1:], dtype=bool)
        rim[1:-1, 1:-1] = False
        return float(mean[rim].mean() / mean[~rim].mean()) if not rim.all() else float("nan")


@dataclass(frozen=True)
class LayerMaps:
    """The signals of one convolution as maps.

    Attributes:
        name: of the layer.
        grid: (H, W) of its locations.
        inputs: activations in the middle of each patch.
        derivatives: g.
    """

    name: str
    grid: tuple[int, int]
    inputs: MapStatistics
    derivatives: MapStatistics

    @property
    def signals(self) -> dict[str, MapStatistics]:
        """By name."""
        return {"inputs": self.inputs, "derivatives": self.derivatives}


def layer_maps(net: Network, theta: Array, x: Array, reach: int = 7) -> list[LayerMaps]:
    """Measure the maps of every convolution of a net, with the exact expectation over targets.

    Args:
        net: the network.
        theta: (P,).
        x: images (N, H, W, C).
        reach: largest shift.

    Raises:
        ValueError: on a net without convolutions.
    """
    convolutions = conv_layers(net)
    if not convolutions:
        raise ValueError("expected a net with convolutions, got none")
    tape, signals = net.forward(theta, x), fisher.signals(net, theta, x)
    maps = []
    for layer, conv in convolutions.items():
        grid, layer_signals = tape.grids[layer], signals[net.names[layer]]
        kh, kw = conv.windows.kernel
        middle = ((kh - 1) // 2 * kw + (kw - 1) // 2) * conv.c_in
        maps.append(
            LayerMaps(
                net.names[layer],
                grid,
                map_statistics(_maps(layer_signals.abar[..., middle : middle + conv.c_in], grid), reach),
                map_statistics(_maps(layer_signals.g, grid), reach, centred=False),
            )
        )
    return maps


def conv_layers(net: Network) -> dict[int, Conv2d]:
    """The convolutions of a net by their index among the parameter layers."""
    return {l: layer for l, layer in enumerate(net.parameter_layers) if isinstance(layer, Conv2d)}


def _maps(signal: Array, grid: tuple[int, int]) -> Array:
    """Locations (..., T, M) as images (examples, H, W, M), in float64."""
    return to_host(signal).reshape(-1, *grid, signal.shape[-1]).astype(float)


def map_statistics(maps: Array, reach: int = 7, centred: bool = True) -> MapStatistics:
    """Correlate maps with themselves in space.

    Args:
        maps: (N, H, W, M), N examples of M maps.
        reach: largest shift; as far as the maps go where they are smaller.
        centred: whether the mean is subtracted; if not, second moments about zero replace variances.

    Raises:
        ValueError: on another shape.
    """
    if maps.ndim != 4 or 0 in maps.shape:
        raise ValueError(f"expected maps of shape (N, H, W, M), got {maps.shape}")
    square = (maps**2).mean(0)  # (H, W, M)
    variance = (square - maps.mean(0) ** 2 if centred else square).clip(0).transpose(2, 0, 1)
    scale = variance.mean((1, 2), keepdims=True)
    scale[scale <= _ROUNDING * square.mean((0, 1))[:, None, None]] = np.nan
    return MapStatistics(autocorrelation(maps, reach, centred), variance / scale)


def autocorrelation(maps: Array, reach: int, centred: bool = True) -> Array:
    """Correlation of each map with itself shifted, (M, 2 ry + 1, 2 rx + 1).

    Each shift has means and variances of its own, over those pairs of locations that lie in the grid, so
    that every value is a correlation coefficient.
    """
    n, h, w, _ = maps.shape
    ry, rx = min(reach, h - 1), min(reach, w - 1)
    rows, columns = np.arange(-ry, ry + 1) % (2 * h), np.arange(-rx, rx + 1) % (2 * w)

    def transform(images: Array) -> Array:  # zeros around, so that nothing wraps
        return np.fft.rfft2(images, s=(2 * h, 2 * w), axes=(0, 1))

    def shifts(spectrum: Array) -> Array:
        """sum_t a_t b_{t + delta} from conj(A) B."""
        sums = np.fft.irfft2(spectrum, s=(2 * h, 2 * w), axes=(0, 1))
        return sums[np.ix_(rows, columns)].transpose(2, 0, 1)

    power = sum((np.abs(transform(images)) ** 2 for images in maps), np.zeros(()))
    ones = transform(np.ones((h, w, 1)))
    total, squares = transform(maps.sum(0)), transform((maps**2).sum(0))
    pairs = n * np.rint(shifts(np.abs(ones) ** 2))
    moment = shifts(power) / pairs
    first, second = shifts(np.conj(squares) * ones) / pairs, shifts(np.conj(ones) * squares) / pairs
    largest = np.maximum(first, second).max((1, 2), keepdims=True)
    if centred:
        mean_first = shifts(np.conj(total) * ones) / pairs
        mean_second = shifts(np.conj(ones) * total) / pairs
        moment -= mean_first * mean_second
        first, second = first - mean_first**2, second - mean_second**2
    with np.errstate(invalid="ignore", divide="ignore"):
        r = moment / np.sqrt(first * second)
    return np.where(np.minimum(first, second) > _ROUNDING * largest, r.clip(-1, 1), np.nan)


def _mean_over_maps(values: Array) -> Array:
    """Mean over maps (axis 0) that vary; nan where none does."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(0) / there.sum(0)


def strengths(layers: Sequence[LayerMaps]) -> list[dict[str, object]]:
    """Mean |r| at offsets of 1 to 3, one row per layer and signal; None where maps are smaller than that."""
    return [
        {
            "layer": layer.name,
            "signal": signal,
            **{str(d): maps.strength(d) if d <= maps.reach else None for d in (1, 2, 3)},
            "border": maps.border,
        }
        for layer in layers
        for signal, maps in layer.signals.items()
    ]


def compute(run: Run) -> Chapter:
    """Check SUD and SH below the pooling of a convolutional run and below the other kind, trained alike."""
    pool = run.settings.pool
    other = "avg" if pool == "max" else "max"
    net, theta, history = run.alike(pool=other)
    x = run.x[:MEASURED]
    maps = {pool: layer_maps(run.net, run.theta, x), other: layer_maps(net, theta, x)}
    trained = {pool: run.history.records[-1], other: history.records[-1]}
    numbers = {pool: strengths(layers) for pool, layers in maps.items()}
    return Chapter(
        [_space(maps, trained), places(maps[pool])],
        {"conv-autocorrelation": lambda: _draw(maps)},
        {"convolutions": {"maps": numbers, "trained_alike": trained}},
        results=maps,
    )


def _draw(maps: Mapping[str, Sequence[LayerMaps]]) -> Any:
    """Correlations in space."""
    tiles = {
        layer.name: {"activations in": layer.inputs.mean_autocorrelation}
        | {
            f"derivatives,\n{POOLING[pool]}": layers[place].derivatives.mean_autocorrelation
            for pool, layers in maps.items()
        }
        for place, layer in enumerate(next(iter(maps.values())))
    }
    return plots.autocorrelation(tiles)


def _space(maps: Mapping[str, Sequence[LayerMaps]], trained: Mapping[str, Mapping[str, Any]]) -> Section:
    """SUD: autocorrelations below both poolings."""
    strengths = "; ".join(
        f"{_by_layer(layers, 'derivatives', 'neighbours')} with {POOLING[pool]} (training loss "
        f"{number(trained[pool]['loss'])} nats per example)"
        for pool, layers in maps.items()
    )
    studied = next(iter(maps.values()))
    layer = studied[0]
    t = math.prod(layer.grid)
    text = words(
        "maps-space",
        strengths=strengths,
        inputs=_by_layer(studied, "inputs", "neighbours"),
        layer=layer.name,
        same=count(t),
        different=count(t * (t - 1)),
    )
    return Section("convspace", "Are derivatives uncorrelated in space?", text, 3)


def places(studied: Sequence[LayerMaps]) -> Section:
    """SH: variances over locations."""
    ranges = []
    for layer in studied:
        variance = layer.derivatives.mean_variance
        least, most = two_digits(variance.min()), two_digits(variance.max())
        ranges.append(f"{least} to {most} ({layer.name})")
    borders = {signal: _by_layer(studied, signal, "border") for signal in ("inputs", "derivatives")}
    text = words("maps-places", ranges=listing(ranges), **borders)
    return Section("convplaces", "Is no place special?", text, 3)


def _by_layer(layers: Sequence[LayerMaps], signal: str, measure: str) -> str:
    """A property of one signal's maps in each layer."""
    return listing(
        [f"{two_digits(getattr(layer.signals[signal], measure))} ({layer.name})" for layer in layers]
    )
