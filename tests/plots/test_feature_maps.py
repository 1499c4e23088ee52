"""Maps of a convolution, and their dot products."""

from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from minikfac import plots
from oracles.figures import TILES, shifts


def test_tiles_of_correlations_share_one_scale():
    axes = plots.autocorrelation(TILES)
    tiles = [tile for columns in TILES.values() for tile in columns.values()]
    for ax, tile in zip(axes, tiles, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), tile)
        assert ax.images[0].get_clim() == (-1, 1)
    assert [ax.get_title() for ax in axes] == ["a", "g", "", ""]
    assert axes[0].get_ylabel().startswith("conv0") and axes[2].get_ylabel().startswith("conv1")
    wide = plots.autocorrelation(TILES)[2]
    assert (wide.get_xlim(), wide.get_ylim()) == ((-1.5, 1.5), (2.5, -2.5))  # 0 in the middle


def test_numbers_in_tiles_are_those_of_the_data():
    (ax,) = plots.variance_maps({"conv0": {"g": np.array([[0.5, 1.5]])}})
    assert [text.get_text() for text in ax.texts] == ["0.5", "1.5"]
    assert ax.images[0].get_clim() == (0, 1.5)
    (ax,) = plots.variance_maps({"conv0": {"g": np.ones((9, 9))}})
    assert not ax.texts  # too small to be read


def test_titles_have_the_largest_number_of_each_column():
    near, far = np.zeros((3, 3)), np.zeros((3, 3))
    near[1] = (-0.5, 1.0, 0.3)  # beside the middle; above and below it nothing
    far[0, 0] = 0.9
    title = plots.autocorrelation({"r": {"a": near, "g": far}, "s": {"a": 0.5 * near, "g": far}})[0].figure
    assert title.get_suptitle() == "Mean over maps: correlation with the next pixel of size 0.2 (a), 0 (g)"
    (ax,) = plots.variance_maps({"conv0": {"g": np.array([[0.5, 1.5]])}})
    assert ax.figure.get_suptitle() == "Largest variance over the mean location's: 1.5 (g)"
    ax = plots.correlation_against_offset({"max": {"conv0": [0.1, 0.9], "conv1": [0.3, 0.9]}})
    assert ax.get_title() == "Mean |correlation| with the next pixel: max 0.2"


@pytest.mark.parametrize(
    ("draw", "tiles", "message"),
    [
        (plots.autocorrelation, {}, "at least one row of pictures, got none"),
        (plots.autocorrelation, {"r": {}}, "expected the columns of pictures, got"),
        (plots.autocorrelation, {"r": {"a": np.ones((2, 3))}}, r"odd number of shifts .* shape \(2, 3\)"),
        (plots.autocorrelation, {"r": {"a": 2 * np.eye(3)}}, r"of r, a in \[-1, 1\], got 2"),
        (plots.variance_maps, {"r": {"a": -np.eye(3)}}, "expected variances of r, a >= 0, got -1"),
        (
            plots.variance_maps,
            {"r": {"a": np.eye(3)}, "s": {"b": np.eye(3)}},
            r"expected the columns a, got \['b'\] in s",
        ),
    ],
)
def test_tiles_refuse(draw: Any, tiles: Any, message: str):
    with pytest.raises(ValueError, match=message):
        draw(tiles)


def test_offsets_begin_at_one():
    ax = plots.correlation_against_offset({"max": {"conv0": [0.3, 0.2, 0.1]}, "avg": {"conv0": [0.5]}})
    first, second = ax.get_lines()
    assert list(first.get_xdata()) == [1, 2, 3] and list(second.get_ydata()) == [0.5]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["max: conv0", "avg: conv0"]
    with pytest.raises(ValueError, match=r"expected strengths of max, conv0 in \[0, 1\], got 1.5"):
        plots.correlation_against_offset({"max": {"conv0": [1.5]}})


def test_the_kernel_is_marked_among_the_shifts():
    given = shifts()
    activation, derivative, products, gradient = plots.shifted_products(**given)
    np.testing.assert_array_equal(activation.images[0].get_array(), given["activation"])
    np.testing.assert_array_equal(derivative.images[0].get_array(), given["derivative"])
    np.testing.assert_array_equal(products.images[0].get_array(), given["products"])
    np.testing.assert_array_equal(gradient.images[0].get_array(), given["products"][4:7, 5:9])
    assert products.images[0].get_clim() == gradient.images[0].get_clim()
    (frame,) = [patch for patch in products.patches if isinstance(patch, Rectangle)]
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (4.5, 3.5, 4, 3)
    (image,) = [patch for patch in activation.patches if isinstance(patch, Rectangle)]
    assert (*image.get_xy(), image.get_width(), image.get_height()) == (0.5, 0.5, 6, 5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"products": np.ones((10, 14))}, r"expected products of shape \(11, 14\), got \(10, 14\)"),
        ({"kernel": (9, 4, 3, 3)}, r"expected a kernel inside the products \(11, 14\), got \(9, 4, 3, 3\)"),
        ({"kernel": (-1, 4, 3, 3)}, "expected a kernel inside the products"),
        ({"derivative": np.ones(5)}, r"expected derivative of shape \(Ho, Wo\), got \(5,\)"),
    ],
)
def test_shifted_products_refuse(changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        plots.shifted_products(**(shifts() | changed))
