"""Spectra."""

import matplotlib

matplotlib.use("Agg")

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
