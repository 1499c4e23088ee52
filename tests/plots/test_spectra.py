"""Spectra, and steps against damping."""

import matplotlib

matplotlib.use("Agg")
import pytest

from minikfac import plots


def test_spectra_sort_and_count_what_they_leave_out():
    ax = plots.spectra({"F": [1.0, 4.0, 2.0], "K": [1e-20, 3.0, -1.0]}, damping=0.5)
    full, broken, damping = ax.get_lines()
    assert list(full.get_ydata()) == [4.0, 2.0, 1.0] and list(full.get_xdata()) == [1, 2, 3]
    assert list(broken.get_ydata()) == [3.0]
    assert list(damping.get_ydata()) == [0.5, 0.5]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["F", "K (1 zero, 1 negative of 3)"]
    assert ax.get_yscale() == "log"


def test_cosines_against_damping():
    ax = plots.cosine_against_damping([0.1, 1.0], {"a": [0.2, 1.0], "b": [-0.5, 0.9]})
    assert list(ax.get_lines()[1].get_ydata()) == [-0.5, 0.9]
    assert ax.get_ylim()[0] < -0.5 and 1 < ax.get_ylim()[1] < 1.1
    assert ax.get_xscale() == "log"
    with pytest.raises(ValueError, match=r"expected cosines of a of shape \(2,\), got \(3,\)"):
        plots.cosine_against_damping([0.1, 1.0], {"a": [1, 1, 1]})
    with pytest.raises(ValueError, match=r"expected cosines of a in \[-1, 1\], got 1.5"):
        plots.cosine_against_damping([0.1, 1.0], {"a": [1.5, 1]})
    with pytest.raises(ValueError, match="expected dampings > 0, got 0"):
        plots.cosine_against_damping([0.0, 1.0], {"a": [1, 1]})
