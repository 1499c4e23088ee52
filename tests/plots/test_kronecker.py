"""K-FAC as a picture: the arrays drawn, and the numbers in its titles."""

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest

from minikfac import plots
from minikfac.plots.kronecker import CELLS
from oracles.figures import RNG, symmetric

A, G = symmetric(3), symmetric(2)
FACTORS = [(A, G), (symmetric(4), symmetric(1)), (np.eye(1), symmetric(2))]
NAMES = ["dense0", "dense1", "dense2"]
F = symmetric(12)


def test_a_layer_is_drawn_with_its_product_and_difference():
    block = symmetric(6)
    axes = plots.kronecker_factors(block, A, G, name="dense7")
    product = np.array([[A[i // 2, j // 2] * G[i % 2, j % 2] for j in range(6)] for i in range(6)])
    for ax, M in zip(axes, (block, A, G, product, block - product), strict=True):
        np.testing.assert_allclose(ax.images[0].get_array(), np.abs(M), atol=1e-15)
    scales = [ax.images[0].get_clim() for ax in axes]
    assert scales[0] == scales[3] == scales[4] == (0, np.percentile(np.abs(block), 97))
    assert [len(ax.lines) for ax in axes] == [4, 0, 0, 4, 4]  # the grid: between 3 x 3 copies of G
    assert sorted({line.get_xdata()[0] for line in axes[3].lines}) == [0, 1.5, 3.5]
    error = np.linalg.norm(block - product) / np.linalg.norm(block)
    title = axes[0].figure.get_suptitle()
    assert title == f"One layer (dense7): 13 numbers in place of 36, with a relative error of {error:.2f}"
    assert f"{error:.2f}" in axes[4].get_xlabel() and "9 numbers" in axes[1].get_xlabel()


def test_all_of_kfac_is_block_diagonal_beside_the_exact_matrix():
    axes = plots.kfac_picture(F, FACTORS, NAMES, 0)
    kfac = np.zeros((12, 12))
    kfac[:6, :6], kfac[6:10, 6:10], kfac[10:, 10:] = (np.kron(a, g) for a, g in FACTORS)
    np.testing.assert_allclose(axes[0].images[0].get_array(), np.abs(F[:6, :6]))
    for ax, M in zip(axes[5:], (F, kfac, F - kfac), strict=True):
        np.testing.assert_allclose(ax.images[0].get_array(), np.abs(M), atol=1e-15)
    assert len({ax.images[0].get_clim() for ax in axes[5:]}) == 1
    norm, inside = np.linalg.norm(F), F * (np.add.outer(*[np.repeat([0, 1, 2], [6, 4, 2])] * 2) < 0)
    for rows in (slice(0, 6), slice(6, 10), slice(10, 12)):
        inside[rows, rows] = F[rows, rows]
    error, between = np.linalg.norm(F - kfac) / norm, np.linalg.norm(F - inside) / norm
    assert axes[7].get_xlabel() == f"relative error {error:.2f};\nbetween layers alone {between:.2f}"
    (title,) = [
        text.get_text() for ax in axes[0].figure.axes for text in ax.texts if "All" in text.get_text()
    ]
    assert title == f"All layers: 35 numbers in place of 144, with a relative error of {error:.2f}"


def test_large_matrices_are_averaged():
    size = CELLS + 25
    axes = plots.kfac_picture(np.eye(size), [(np.eye(size), np.eye(1))], ["dense0"], 0)
    assert axes[5].images[0].get_array().shape == (size // 2, size // 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"F": np.eye(11)}, r"expected F of shape \(12, 12\), got \(11, 11\)"),
        ({"F": np.full((12, 12), np.inf)}, "expected finite F, got NaN or infinite values in 144 entries"),
        ({"factors": []}, "expected at least one layer, got none"),
        ({"factors": [(RNG.normal(size=3), G)]}, r"expected A of shape \(I, I\), got \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict, message: str):
    with pytest.raises(ValueError, match=message):
        plots.kfac_picture(**({"F": F, "factors": FACTORS, "names": NAMES, "layer": 0} | changed))


def test_a_block_that_does_not_fit_its_factors_is_refused():
    with pytest.raises(ValueError, match=r"expected block of shape \(6, 6\), got \(5, 5\)"):
        plots.kronecker_factors(np.eye(5), A, G)
