"""Errors against a knob, and against the size of the batch."""

import matplotlib

matplotlib.use("Agg")
import pytest

from minikfac import plots
from minikfac.plots.exactness import walk
from oracles.figures import WALK


def test_exact_points_lie_on_their_own_line():
    ax = walk(**WALK, knob="strength")
    kfc, kfc_exact, reduce, reduce_exact, _ = ax.get_lines()
    assert list(kfc.get_ydata()) == [0, 0.01, 0.5] and list(reduce.get_ydata()) == [3.0, 0.5, 0]
    assert list(kfc_exact.get_xdata()) == [0] and list(reduce_exact.get_xdata()) == [2]
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["exact", "0.001", "0.01", "0.1", "1"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1", "2"]
    with pytest.raises(ValueError, match=r"expected errors of KFC >= 0, got -1"):
        walk([1.0], {"KFC": [-1.0]}, knob="strength")


def test_exactness_has_one_legend_and_needs_every_key():
    axes = plots.exactness([{**WALK, "knob": "a", "title": "b"}] * 3)
    assert len(axes) == 3 and len(axes[0].figure.axes) == 3
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["KFC", "reduce"]
    with pytest.raises(ValueError, match="expected knob, title in every walk, got one with values, errors"):
        plots.exactness([WALK])
    with pytest.raises(ValueError, match="at least one walk, got none"):
        plots.exactness([])


def test_errors_against_the_batch_are_median_and_range():
    ax = plots.error_against_batch([4, 8], {"all": [[1.0, 2.0, 6.0], [3.0, 4.0, 5.0]]})
    assert list(ax.get_lines()[0].get_ydata()) == [2.0, 4.0]
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1.0, 6.0)
    assert ax.get_ylim()[0] == 0
    with pytest.raises(ValueError, match="expected errors of all >= 0, got -1"):
        plots.error_against_batch([4], {"all": [[-1.0]]})
    with pytest.raises(ValueError, match=r"expected errors of all of shape \(1, batches\), got \(2, 1\)"):
        plots.error_against_batch([4], {"all": [[1.0], [2.0]]})
