"""CURVES: synthetic 28x28 images of a smooth curve through three random points.

The papers' deep autoencoders [HS06; Martens10; MG15, sec. 13] were trained on such images, with 784 pixels
generated from six numbers, but their recipe is not published. This recipe is ours, so results on it are not
comparable with those of the papers.

    p(t) = (1 - t)(1 - 2t) P1 + 4t(1 - t) P2 + t(2t - 1) P3      0 <= t <= 1, a parabola through the points
    ink(q) = min(1, sum_k w_k exp(-||q - p(t_k)||^2 / (2 PEN^2)))      q: the centre of a pixel

The points are uniform in a square chosen so that no such parabola leaves the image; the two farthest apart
are the ends, P1 and P3. The weights w_k are proportional to the length of the piece at t_k and normalized so
that the middle of a long straight line has ink 1. Ink is clipped where a curve overlaps itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from .dataset import Dataset, float_dtype, whole_number

SIDE = 28
PEN = 0.7
"""Radius of the pen in pixels: standard deviation of a line's profile."""
MARGIN = 2.0
"""Least distance in pixels between a curve and the border of the image."""
PIECES = 84
"""Pieces of a curve, none longer than a pixel, so that the pen leaves no gaps."""
CHUNK = 250
"""Curves drawn at a time, so that intermediate results fit into the CPU's cache."""
MOST = 1_000_000
"""Largest number of images in a part: 3 GB in float32."""
FIRST_MEANS = (0.0579153, 0.0419896, 0.0260722, 0.0360848)
"""Mean ink of the first training images of seed 0; detects a change in NumPy's random numbers."""


def curves(
    n_train: int | None = 20_000,
    n_test: int | None = 10_000,
    seed: int = 0,
    images: bool = False,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Draw a data set of curves; 20,000 take a few seconds.

    Args:
        n_train: Number of training examples; None for 20,000. The first 100 of 1,000 are the 100 of
            `n_train=100`.
        n_test: Number of test examples, from a separate random stream; None for 10,000.
        seed: Seed of the points.
        images: Whether inputs are (N, 28, 28, 1) rather than (N, 784).
        dtype: float64 or float32.

    Returns:
        Ink in [0, 1]; the targets (N, 6) are the coordinates (across, down) of the three points, in units of
        the image's side.

    Raises:
        ValueError: If a number of examples is not a whole number from 1 to a million, or the seed is negative
            or fractional.

    >>> curves(100, 20)
    Dataset(curves: 100 train, 20 test, inputs 784 float64, 6 targets)
    """
    dtype = float_dtype(dtype)
    seed = whole_number(seed, 0, 2**63 - 1, "seed")
    counts = (
        whole_number(20_000 if n_train is None else n_train, 1, MOST, "n_train"),
        whole_number(10_000 if n_test is None else n_test, 1, MOST, "n_test"),
    )
    shape = (-1, SIDE, SIDE, 1) if images else (-1, SIDE * SIDE)
    arrays = []
    for part, n in enumerate(counts):
        points = draw_points(np.random.default_rng([seed, part]), n)
        arrays += [draw_curves(points, dtype).reshape(shape), points.reshape(n, 6).astype(dtype)]
    x_train, y_train, x_test, y_test = arrays
    return Dataset(x_train, y_train, x_test, y_test, "curves", image_shape=(SIDE, SIDE, 1))


def draw_points(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw three points (across, down) for each of n curves, (n, 3, 2), in units of the image's side.

    The longest side of their triangle runs from the first point to the last.

    A parabola through three points in a square leaves it by at most an eighth of its side, so the points keep
    that distance plus the margin from the border.
    """
    reach = 0.5 - MARGIN / SIDE  # largest distance of a curve from the middle of the image
    points = 0.5 + reach / 1.25 * rng.uniform(-1, 1, (n, 3, 2))
    sides = points[:, [1, 2, 0]] - points[:, [2, 0, 1]]  # side k is opposite point k
    between = (sides**2).sum(-1).argmax(1)
    order = np.stack([(between + 2) % 3, between, (between + 1) % 3], axis=1)
    return np.take_along_axis(points, order[..., None], axis=1)


def curve_through(points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Positions (n, len(t), 2) at times t on the parabolas through points (n, 3, 2) at t = 0, 1/2, 1."""
    basis = np.stack([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)], axis=1)
    return basis.astype(points.dtype) @ points


def draw_curves(points: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Draw curves through points (n, 3, 2), in units of the image's side, as ink (n, 28, 28) in [0, 1]."""
    dtype = float_dtype(dtype)
    ink = np.empty((len(points), SIDE, SIDE), dtype)
    for start in range(0, len(points), CHUNK):
        ink[start : start + CHUNK] = _draw(SIDE * points[start : start + CHUNK].astype(dtype))
    return ink


def check() -> list[tuple[str, str]]:
    """Return one pair (name, status), which says whether the images are still the same as ever."""
    points = draw_points(np.random.default_rng([0, 0]), len(FIRST_MEANS))
    means = draw_curves(points).mean((1, 2))
    if np.abs(means - FIRST_MEANS).max() > 1e-6:
        return [("drawn here", f"altered: expected images of mean ink {FIRST_MEANS}, got {means.round(7)}")]
    return [("drawn here", "ok: the first images of seed 0 are unchanged")]


def _draw(points: np.ndarray) -> np.ndarray:
    """Ink (n, 28, 28) of the curves through points (n, 3, 2) in pixels, by one product per image."""
    dtype = points.dtype
    ends = curve_through(points, np.linspace(0, 1, PIECES + 1))
    middles = (ends[:, 1:] + ends[:, :-1]) / 2  # (n, k, 2)
    lengths = np.sqrt(((ends[:, 1:] - ends[:, :-1]) ** 2).sum(-1))
    centres = np.arange(SIDE, dtype=dtype) + dtype.type(0.5)
    # exp(-dx^2 - dy^2) is a product: rows (n, k, 28) and columns (n, k, 28) of each dot
    profiles = np.exp((middles[..., None] - centres) ** 2 / dtype.type(-2 * PEN**2))
    across, down = profiles[:, :, 0], profiles[:, :, 1]
    down *= (lengths / dtype.type(PEN * np.sqrt(2 * np.pi)))[..., None]
    return np.minimum(down.swapaxes(1, 2) @ across, 1)
