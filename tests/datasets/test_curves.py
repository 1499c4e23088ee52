"""CURVES: three points make an image, the same for ever, and the ink lies on the curve."""

import sys

import numpy as np
import pytest

from minikfac import datasets
from minikfac.datasets.curves import MARGIN, PEN, PIECES, SIDE, curve_through, draw_curves, draw_points
from oracles import FLOAT32, close

BY_SUMS = 1e-3
"""Ink by 84 pieces against an integral; a quarter of the step of eight-bit grey."""


def points_of(n: int = 2000, seed: int = 0) -> np.ndarray:
    return draw_points(np.random.default_rng(seed), n)


def test_curves_pass_through_their_points() -> None:
    points = points_of(50)
    close(curve_through(points, np.array([0, 0.5, 1])), points)
    t = np.linspace(0, 1, 9)
    third = np.diff(curve_through(points, t), 3, axis=1)
    close(third, 0)  # a parabola
    assert abs(np.diff(curve_through(points, t), 2, axis=1)).max() > 0.01  # and no line


def test_the_ends_are_the_points_farthest_apart() -> None:
    points = points_of()
    first, middle, last = points.swapaxes(0, 1)
    longest = np.linalg.norm(last - first, axis=1)
    assert (longest >= np.linalg.norm(middle - first, axis=1)).all()
    assert (longest >= np.linalg.norm(middle - last, axis=1)).all()
    drawn = np.random.default_rng(0).uniform(-1, 1, (2000, 3, 2))  # the same points in another order
    scale = np.ptp(points) / np.ptp(drawn)
    close(np.sort(points, axis=1), np.sort(0.5 + scale * drawn, axis=1))


def test_points_are_uniform_and_no_curve_leaves_the_image() -> None:
    points = points_of(20_000)
    half = (0.5 - MARGIN / SIDE) / 1.25
    n = points.size
    assert abs(points.mean() - 0.5) < 5 * half / np.sqrt(3 * n)
    assert abs((abs(points - 0.5) < half / 2).mean() - 0.5) < 5 * 0.5 / np.sqrt(n)
    assert abs(points - 0.5).max() <= half
    reach = abs(SIDE * (curve_through(points, np.linspace(0, 1, 101)) - 0.5)).max()
    assert SIDE / 2 - 1.2 * MARGIN < reach <= SIDE / 2 - MARGIN  # the bound is kept, and not idle


def test_no_piece_is_longer_than_a_pixel() -> None:
    corners = np.array([[-1, -1], [1, 1], [-1, 1], [1, -1], [0, 0], [-1, 0]])
    worst = 0.5 + (0.5 - MARGIN / SIDE) / 1.25 * np.array(
        [[corners[i], corners[j], corners[k]] for i in range(6) for j in range(6) for k in range(6)]
    )
    for points in (worst, points_of(20_000)):
        first, middle, last = points.swapaxes(0, 1)
        longest = np.linalg.norm(last - first, axis=1)
        allowed = (longest >= np.linalg.norm(middle - first, axis=1)) & (
            longest >= np.linalg.norm(middle - last, axis=1)
        )
        steps = np.diff(SIDE * curve_through(points[allowed], np.linspace(0, 1, PIECES + 1)), axis=1)
        assert np.linalg.norm(steps, axis=-1).max() < 1


def loop_ink(points: np.ndarray, row: int, column: int, pieces: int = 1000) -> float:
    """Ink of one pixel: blots of the pen along the curve, one after the other."""

    def position(t: float) -> np.ndarray:
        return SIDE * (
            (1 - t) * (1 - 2 * t) * points[0] + 4 * t * (1 - t) * points[1] + t * (2 * t - 1) * points[2]
        )

    total = 0.0
    for k in range(pieces):
        length = np.linalg.norm(position((k + 1) / pieces) - position(k / pieces))
        x, y = position((k + 0.5) / pieces)
        squared = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
        total += length * np.exp(-squared / (2 * PEN**2)) / (PEN * np.sqrt(2 * np.pi))
    return min(1.0, total)


def test_ink_is_the_integral_along_the_curve() -> None:
    points = points_of(3)
    ink = draw_curves(points)
    for image, triple in zip(ink, points, strict=True):
        row, column = np.unravel_index(image.argmax(), image.shape)
        across = [(row, min(column + k, SIDE - 1)) for k in range(-2, 3)]
        pixels = [*across, (0, 0), (row - 1, column)]
        close([image[pixel] for pixel in pixels], [loop_ink(triple, *pixel) for pixel in pixels], BY_SUMS)


def test_a_line_has_the_profile_of_the_pen() -> None:
    line = np.array([[[6, 14.5], [14, 14.5], [22, 14.5]]]) / SIDE
    profile = draw_curves(line)[0, :, 14]
    close(profile, np.exp(-((np.arange(SIDE) - 14.0) ** 2) / (2 * PEN**2)), BY_SUMS)
    twice = draw_curves(line[:, [0, 0, 2]])  # it turns back on itself
    assert twice.max() == 1 and twice.sum() > 1.05 * draw_curves(line).sum()


def test_across_is_the_column() -> None:
    tall = draw_curves(np.array([[[0.24, 0.2], [0.24, 0.5], [0.24, 0.8]]]))[0]
    assert tall[:, 6].min() < 0.1 < 0.4 < tall[10:20, 6].min() and tall[:, 14:].max() < 1e-9
    assert tall.argmax(1)[10:20].tolist() == [6] * 10


def test_the_data_set() -> None:
    data = datasets.curves(40, 15)
    assert data.x_train.shape == (40, 784) and data.y_train.shape == (40, 6) and len(data.x_test) == 15
    assert (data.name, data.image_shape, data.n_classes) == ("curves", (28, 28, 1), None)
    assert data.x_train.dtype == data.y_test.dtype == np.float64
    assert data.x_train.min() >= 0 and 0.9 < data.x_train.max() <= 1
    close(draw_curves(data.y_train.reshape(-1, 3, 2)).reshape(40, -1), data.x_train)
    images = datasets.curves(40, 15, images=True)
    assert np.array_equal(images.x_train, data.as_images().x_train) and images.x_test.shape == (15, 28, 28, 1)
    single = datasets.load("curves", n_train=40, n_test=15, dtype="float32")
    assert single.x_train.dtype == single.y_train.dtype == np.float32
    close(single.x_train, data.x_train, FLOAT32)
    assert [int(M.mean() * 1e4) for M in data.x_train[:4]] == [579, 419, 260, 360]


def test_seeds_and_parts_are_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    data, other = datasets.curves(40, 40), datasets.curves(40, 40, seed=1)
    assert np.array_equal(data.x_train, datasets.curves(40, 40).x_train)
    for x in (data.x_test, other.x_train, other.x_test):
        assert abs(x - data.x_train).max() > 0.5
    monkeypatch.setattr(sys.modules["minikfac.datasets.curves"], "CHUNK", 7)
    fewer = datasets.curves(10, 30)
    close(fewer.x_train, data.x_train[:10])
    close(fewer.x_test, data.x_test[:30])


def test_the_catalogue_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {row.name: row for row in datasets.available()}["curves"]
    assert row.where == "made here" and "our own recipe" in row.what
    assert datasets.check("curves") == [("drawn here", "ok: the first images of seed 0 are unchanged")]
    monkeypatch.setattr(sys.modules["minikfac.datasets.curves"], "FIRST_MEANS", (0.1, 0.2))
    assert datasets.check("curves")[0][1].startswith("altered: expected images of mean ink (0.1, 0.2), got")
    assert datasets.fetch("curves").is_dir()
    with pytest.raises(ValueError, match=r"curves: expected no folder \(it needs none"):
        datasets.check("curves", ".")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(n_train=0), "expected n_train to be a whole number from 1 to 1000000, got 0"),
        (dict(n_train=3, n_test=2.5), "expected n_test to be a whole number from 1 to 1000000, got 2.5"),
        (dict(n_train=3, seed=-1), "expected seed to be a whole number from 0 to"),
        (dict(n_train=3, dtype=int), "expected dtype float32 or float64, got int64"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.curves(**options)


def test_the_reader_says_what_it_can_do() -> None:
    with pytest.raises(ValueError, match="curves: expected options among n_train, n_test, seed, images, dty"):
        datasets.load("curves", folder=".")
