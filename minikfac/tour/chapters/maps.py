"""Maps of a convolution in space: how far apart activations or derivatives are still correlated.

KFC takes derivatives at different locations for uncorrelated (SUD), and statistics for the same at all
locations (SH). Both can be looked at [GM16, sec. 5.1, figs. 1 and 2], map by map:

    autocorrelation   r(delta) = corr( m_t, m_{t + delta} )    over examples and all pairs in the grid
    variance          Var( m_t ) at each location t, relative to its mean over locations
    between maps      corr( m_t, m'_t )                        over examples and locations

Activations are centred. Derivatives are not: for targets drawn from the model their mean is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ... import fisher
from ...backend import Array, to_host
from ...network import Network
from ...network.layers import Conv2d

_CHUNK = 2**22
"""Numbers that are transformed at a time."""
_ROUNDING = 1e-12
"""A variance below this share of the mean square is none."""


@dataclass(frozen=True)
class MapStatistics:
    """What the maps of one signal have in common with themselves elsewhere, and with each other.

    Maps that never vary, as below dead units, have nan for correlations.

    Attributes:
        autocorrelation: (M, 2 ry + 1, 2 rx + 1), the shift (0, 0) in the middle.
        variance: (M, H, W), each relative to its mean over locations.
        between: (M, M) correlations at the same location.
    """

    autocorrelation: Array
    variance: Array
    between: Array

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
        """Largest shift that exists in both directions."""
        return min(self.autocorrelation.shape[1:]) // 2

    def strength(self, offset: int) -> float:
        """Mean |r| over maps for shifts by so many pixels to the side and down.

        Raises:
            ValueError: on a shift further than :attr:`reach`.
        """
        if not 0 <= offset <= self.reach:
            raise ValueError(f"expected an offset from 0 to {self.reach}, got {offset}")
        y, x = (extent // 2 for extent in self.autocorrelation.shape[1:])
        found = np.abs([self.autocorrelation[:, y + offset, x], self.autocorrelation[:, y, x + offset]])
        return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")

    @property
    def between_strength(self) -> float:
        """Mean |correlation| between two different maps; nan if there is one map only."""
        off = np.abs(self.between[~np.eye(len(self.between), dtype=bool)])
        return float(np.nanmean(off)) if np.isfinite(off).any() else float("nan")

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
        outputs: pre-activations s.
        derivatives: g.
    """

    name: str
    grid: tuple[int, int]
    inputs: MapStatistics
    outputs: MapStatistics
    derivatives: MapStatistics


def layer_maps(
    net: Network,
    theta: Array,
    x: Array,
    signals: fisher.Signals | None = None,
    reach: int = 7,
) -> list[LayerMaps]:
    """Measure the maps of every convolution of a net.

    Args:
        net: the network.
        theta: (P,).
        x: images (N, H, W, C).
        signals: those of x, if they are there already; the exact expectation over targets by default.
        reach: largest shift.

    Raises:
        ValueError: on a net without convolutions.
    """
    found = conv_layers(net)
    if not found:
        raise ValueError("expected a net with convolutions, got none")
    tape = net.forward(theta, x)
    signals = fisher.signals(net, theta, x) if signals is None else signals
    maps = []
    for layer, conv in found.items():
        own = signals[net.names[layer]]
        grid = tape.grids[layer]
        kh, kw = conv.windows.kernel
        middle = ((kh - 1) // 2 * kw + (kw - 1) // 2) * conv.c_in
        maps.append(
            LayerMaps(
                net.names[layer],
                grid,
                map_statistics(_maps(own.abar[..., middle : middle + conv.c_in], grid), reach),
                map_statistics(_maps(tape.s[layer], grid), reach),
                map_statistics(_maps(own.g, grid), reach, centred=False),
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
    """Correlate maps with themselves in space, and with each other.

    Args:
        maps: (N, H, W, M), N examples of M maps.
        reach: largest shift; as far as the maps go where they are smaller.
        centred: whether the mean is taken off; without, second moments about zero stand for variances.

    Raises:
        ValueError: on another shape.
    """
    if maps.ndim != 4 or 0 in maps.shape:
        raise ValueError(f"expected maps of shape (N, H, W, M), got {maps.shape}")
    square = (maps**2).mean(0)  # (H, W, M)
    variance = (square - maps.mean(0) ** 2 if centred else square).clip(0).transpose(2, 0, 1)
    scale = variance.mean((1, 2), keepdims=True)
    scale[scale <= _ROUNDING * square.mean((0, 1))[:, None, None]] = np.nan
    return MapStatistics(autocorrelation(maps, reach, centred), variance / scale, _between(maps, centred))


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
        found = np.fft.irfft2(spectrum, s=(2 * h, 2 * w), axes=(0, 1))
        return found[np.ix_(rows, columns)].transpose(2, 0, 1)

    step = max(1, _CHUNK // maps[0].size)
    power = np.zeros((2 * h, w + 1, maps.shape[3]))
    for start in range(0, n, step):
        part = np.fft.rfft2(maps[start : start + step], s=(2 * h, 2 * w), axes=(1, 2))
        power = power + (np.abs(part) ** 2).sum(0)
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


def _between(maps: Array, centred: bool) -> Array:
    flat = maps.reshape(-1, maps.shape[3])
    square = (flat**2).mean(0)
    flat = flat - flat.mean(0) if centred else flat
    moment = flat.T @ flat / len(flat)
    variance = moment.diagonal().copy()
    variance[variance <= _ROUNDING * square] = np.nan
    return moment / np.sqrt(np.outer(variance, variance))


def _mean_over_maps(values: Array) -> Array:
    """Mean over maps (axis 0) that vary; nan where none does."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(0) / there.sum(0)


def strengths(layers: Sequence[LayerMaps], offsets: Sequence[int] = (1, 2, 3)) -> list[dict[str, object]]:
    """Mean |r| at some offsets, one row per layer and signal; None where maps are smaller than that."""
    rows: list[dict[str, object]] = []
    for layer in layers:
        for signal in ("inputs", "outputs", "derivatives"):
            own: MapStatistics = getattr(layer, signal)
            rows.append(
                {
                    "layer": layer.name,
                    "signal": signal,
                    **{str(d): own.strength(d) if d <= own.reach else None for d in offsets},
                    "between": own.between_strength,
                    "border": own.border,
                }
            )
    return rows
