"""The Fisher matrix as covariance and as metric."""

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest

from minikfac import plots


def test_ellipses_are_those_of_F_and_its_inverse():
    F = np.array([[2.0, 0.8], [0.8, 0.5]])
    samples = np.random.default_rng(3).multivariate_normal([0, 0], F, 500)
    left, right = plots.gradient_scatter(samples, F)
    scatter = next(line for line in left.get_lines() if line.get_marker() == ".")
    np.testing.assert_array_equal(np.array(scatter.get_data()).T, samples)
    for radius, line in zip((1, 2), left.get_lines(), strict=False):
        u = np.array(line.get_data())
        np.testing.assert_allclose(np.einsum("in,ij,jn->n", u, np.linalg.inv(F), u), radius**2)
    for factor, line in zip((1, 4), right.get_lines(), strict=False):
        d = np.array(line.get_data())
        np.testing.assert_allclose(0.5 * np.einsum("in,ij,jn->n", d, F, d), factor * 0.01)
    for ax in (left, right):
        assert ax.get_aspect() == 1 and ax.get_xlim() == ax.get_ylim()


def test_gradient_scatter_counts_points_outside():
    samples = np.vstack([np.zeros((999, 2)), [[50.0, 0.0]]])
    left, _ = plots.gradient_scatter(samples, np.eye(2))
    assert left.get_title().startswith("1,000 sampled gradients (1 outside)")


def test_gradient_scatter_refuses():
    with pytest.raises(ValueError, match=r"expected samples of shape \(n, 2\), got \(5, 3\)"):
        plots.gradient_scatter(np.ones((5, 3)), np.eye(2))
    with pytest.raises(ValueError, match=r"expected covariance of shape \(2, 2\), got \(3, 3\)"):
        plots.gradient_scatter(np.ones((5, 2)), np.eye(3))
    with pytest.raises(ValueError, match="expected a positive definite covariance"):
        plots.gradient_scatter(np.ones((5, 2)), np.ones((2, 2)))


def test_kl_slope_is_fitted_over_the_clean_range():
    t = np.logspace(-7, 0, 29)
    differences = 0.3 * t**3 + 0.3 * t**4 + 1e-16 * np.random.default_rng(0).random(len(t))
    ax = plots.kl_against_quadratic(t, differences)
    slope = float(ax.get_title().split()[-1])
    assert abs(slope - 3) < 0.02
    inside = next(line for line in ax.get_lines() if line.get_label() == "in the fit")
    outside = next(line for line in ax.get_lines() if line.get_label() == "not in the fit")
    assert len(inside.get_xdata()) + len(outside.get_xdata()) == len(t)
    assert inside.get_ydata().min() > 30e-16
    reference = next(line for line in ax.get_lines() if line.get_label() == "slope 3")
    assert np.isclose(np.ptp(np.log(reference.get_ydata())), 3 * np.ptp(np.log(reference.get_xdata())))
    other = plots.kl_against_quadratic(t, t**2, fit=(1e-3, 1e-1))
    assert other.get_title().endswith("2.00")


def test_kl_refuses():
    with pytest.raises(ValueError, match="at least two lengths in the fit's range"):
        plots.kl_against_quadratic([0.1, 1.0], [1e-20, 1e-19])
    with pytest.raises(ValueError, match=r"expected differences of shape \(2,\), got \(3,\)"):
        plots.kl_against_quadratic([0.1, 1.0], [1, 2, 3])


def test_monte_carlo_error_shows_median_range_and_level():
    errors = np.array([[1.0, 2.0, 4.0], [0.5, 1.0, 2.0]])
    ax = plots.monte_carlo_error([1, 4], {"sampled": errors, "empirical": 0.7})
    sampled, level, guide = ax.get_lines()
    assert list(sampled.get_ydata()) == [2.0, 1.0]
    assert list(level.get_ydata()) == [0.7, 0.7]
    assert np.isclose(guide.get_ydata()[0] / guide.get_ydata()[1], 2)
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.5, 4.0)
    assert "3 seeds" in ax.get_title()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "4"]
    with pytest.raises(ValueError, match=r"expected errors of sampled of shape \(2, seeds\), got \(3, 2\)"):
        plots.monte_carlo_error([1, 4], {"sampled": errors.T})


def test_mean_derivatives_show_both_means_and_errors():
    ax = plots.mean_derivatives([0.0, 0.1], [0.5, -0.5], [0.2, 0.3])
    model, error, labels = ax.containers
    assert [bar.get_height() for bar in model] == [0.0, 0.1]
    assert [bar.get_height() for bar in labels] == [0.5, -0.5]
    segments = error.lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 1] for s in segments], [[-0.4, 0.4], [-0.5, 0.7]])
    with pytest.raises(ValueError, match=r"expected label_mean of shape \(2,\), got \(3,\)"):
        plots.mean_derivatives([0, 1], [0, 1, 2])
