"""Pictures of matrices hold the pooled data on one scale."""

from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest

from minikfac import plots
from minikfac.plots.matrices import mean_magnitudes, pool_magnitudes
from oracles.figures import NAMES, RNG, SIZES, symmetric


@pytest.mark.parametrize("side", [1, 2, 5, 12, 20])
def test_pooling_against_loops(side: int):
    F = RNG.normal(size=(12, 12))
    starts = range(0, 12, side)
    expected = [[np.abs(F[a : a + side, b : b + side]).mean() for b in starts] for a in starts]
    np.testing.assert_allclose(pool_magnitudes(F, side), expected)


def test_block_means_against_loops():
    F = symmetric(12)
    cuts = [slice(0, 4), slice(4, 10), slice(10, 12)]
    expected = [[np.abs(F[a, b]).mean() for b in cuts] for a in cuts]
    np.testing.assert_allclose(mean_magnitudes(F, SIZES), expected)
    ax = plots.block_means(F, SIZES, NAMES)
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    written = np.array([float(text.get_text()) for text in ax.texts]).reshape(3, 3)
    power = 10 ** np.floor(np.log10(np.max(expected)))
    np.testing.assert_allclose(written * power, expected, atol=0.0051 * power)


def test_matrices_share_one_scale_and_hold_the_pooled_data():
    F, K = symmetric(12), symmetric(12)
    axes = plots.matrices(F, {"K-FAC": K}, NAMES, SIZES, cells=6)
    images = [ax.images[0] for ax in axes]
    for image, M in zip(images, (F, K, F - K), strict=True):
        np.testing.assert_allclose(image.get_array(), pool_magnitudes(M, 2))
    assert len({image.get_clim() for image in images}) == 1
    assert images[0].get_clim() == (0, np.percentile(pool_magnitudes(F, 2), 99))
    error = np.linalg.norm(F - K) / np.linalg.norm(F)
    titles = [ax.get_title() for ax in axes]
    assert titles == ["exact Fisher F", "K-FAC", f"difference: relative error {error:.2f}"]
    for ax in axes:
        assert [tick.get_text() for tick in ax.get_xticklabels()] == NAMES
        assert list(ax.get_xticks()) == [2, 7, 11]
        assert ax.get_xlim() == (0, 12) and ax.get_ylim() == (12, 0)
        assert sorted({line.get_xdata()[0] for line in ax.get_lines()} - {0}) == [4, 10]


def test_matrices_say_how_they_were_pooled():
    axes = plots.matrices(symmetric(12), {"K": symmetric(12)}, NAMES, SIZES, cells=4)
    assert "mean of 3×3 entries" in axes[0].figure.get_supxlabel()
    assert "top 1%" in axes[0].figure.get_supxlabel()


def test_matrices_of_zeros():
    axes = plots.matrices(np.zeros((12, 12)), {"K": np.zeros((12, 12))}, NAMES, SIZES)
    axes[0].figure.canvas.draw()
    plots.block_means(np.zeros((12, 12)), SIZES).figure.canvas.draw()


def test_long_names_are_turned():
    sizes = [20, 1, 1]
    ax = plots.matrices(symmetric(22), {"K": symmetric(22)}, NAMES, sizes)[0]
    assert {tick.get_rotation() for tick in ax.get_xticklabels()} == {90}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"F": np.ones((12, 11))}, r"square matrix F, got shape \(12, 11\)"),
        ({"F": np.ones(12)}, r"expected F of shape \(P, P\), got \(12,\)"),
        ({"F": np.full((12, 12), np.nan)}, "expected finite F, got NaN or infinite values in 144 entries"),
        ({"approximations": {"K": np.eye(11)}}, r"expected K of shape \(12, 12\), got \(11, 11\)"),
        ({"names": ["a", "b"]}, "one name per layer, got 2 names and 3 sizes"),
        ({"sizes": [4, 6, 3]}, r"layer sizes that add up to 12, got \[4, 6, 3\]: 13"),
        ({"sizes": [4, 8, 0]}, r"layer sizes that add up to 12, got \[4, 8, 0\]"),
    ],
)
def test_matrices_refuse(changed: dict[str, Any], message: str):
    given = {"F": np.eye(12), "approximations": {"K": np.eye(12)}, "names": NAMES, "sizes": SIZES}
    with pytest.raises(ValueError, match=message):
        plots.matrices(**(given | changed))


def test_rows_of_matrices_are_measured_against_the_first():
    F, K, inverse = symmetric(12), symmetric(12), symmetric(12)
    rows = {"F": {"F": F, "chain": K}, "inverse": {"inverse": inverse, "chain": inverse + np.eye(12)}}
    axes = plots.matrix_rows(rows, NAMES, SIZES, cells=6)
    pictured = zip(axes, (F, K, inverse, inverse + np.eye(12)), strict=True)
    for ax, M in pictured:
        np.testing.assert_allclose(ax.images[0].get_array(), pool_magnitudes(M, 2))
    errors = [np.linalg.norm(F - K) / np.linalg.norm(F), 12**0.5 / np.linalg.norm(inverse)]
    titles = [ax.get_title() for ax in axes]
    assert titles == ["F", f"chain\nerror {errors[0]:.2g}", "inverse", f"chain\nerror {errors[1]:.2g}"]
    title = f"Chain: relative error {errors[0]:.2g} (F), {errors[1]:.2g} (inverse)"
    assert axes[0].figure.get_suptitle() == title
    assert axes[0].images[0].get_clim() == axes[1].images[0].get_clim() != axes[2].images[0].get_clim()
    with pytest.raises(ValueError, match=r"expected chain of shape \(12, 12\), got \(11, 11\)"):
        plots.matrix_rows({"F": {"F": F, "chain": np.eye(11)}}, NAMES, SIZES)
