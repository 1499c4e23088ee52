"""Memory, and curves along training."""

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest

from minikfac import plots
from oracles.figures import RECORDS


def test_memory_is_that_of_the_counts():
    ax = plots.memory({"autoencoder": (2_837_314, 6_489_748)}, budgets={"GPU": 8e10})
    full = next(line for line in ax.get_lines() if line.get_marker() == "s")
    factors = next(line for line in ax.get_lines() if line.get_marker() == "o")
    assert full.get_ydata()[0] == 4 * 2_837_314**2
    assert factors.get_ydata()[0] == 4 * 6_489_748
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["32 TB", "autoencoder: 26 MB", "GPU"]
    with pytest.raises(ValueError, match="expected counts >= 1"):
        plots.memory({"empty": (0, 3)})


def test_training_curve_of_one_run_and_in_per_cent():
    ax = plots.training_curve(RECORDS, "test_error")
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [50, 25, 50 / 3, 12.5, 10])
    assert ax.get_legend() is None and "%" in ax.get_ylabel()
    assert plots.training_curve(RECORDS).get_yscale() == "log"
    with pytest.raises(ValueError, match="expected records of a with step and damping, got none"):
        plots.training_curve({"a": RECORDS}, "damping")


def test_curvature_along_training_has_a_curve_per_layer_and_one_for_all():
    rows = [{"step": 0}, *({"step": k, "curvature/conv0": 3.0, "curvature": 7.0 * k} for k in (1, 2))]
    ax = plots.curvature_along_training(rows)
    layer, whole, one = ax.get_lines()
    assert [layer.get_label(), whole.get_label()] == ["conv0", "all layers"]
    np.testing.assert_array_equal(whole.get_xydata(), [[1, 7], [2, 14]])
    np.testing.assert_array_equal(layer.get_ydata(), [3, 3])
    np.testing.assert_array_equal(one.get_ydata(), [1, 1])
    assert ax.get_yscale() == "log"
    with pytest.raises(ValueError, match="expected records of a run with curvature=True, got none"):
        plots.curvature_along_training(RECORDS)
