"""Every figure: its size and style, and that it draws where it is told to."""

import math
import sys
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from minikfac import plots
from minikfac.plots.exactness import walk
from minikfac.plots.style import COLORS
from minikfac.plots.ticks import short
from oracles.figures import (
    CONV_LEDGER,
    LEDGER,
    NAMES,
    RECORDS,
    RNG,
    ROWS,
    SIZES,
    TILES,
    WALK,
    picture,
    shifts,
    symmetric,
)

ON_AXES = {
    "block_means": lambda ax: plots.block_means(symmetric(12), SIZES, NAMES, ax=ax),
    "spectra": lambda ax: plots.spectra({"F": [3.0, 1.0, 2.0], "K": [1.0, 0.0, -1.0]}, 0.1, ax=ax),
    "spectral_density": lambda ax: plots.spectral_density(
        {"F": SimpleNamespace(nodes=np.array([[0.0, 1.0], [-0.5, 2.0]]), weights=np.full((2, 2), 0.5))}, ax=ax
    ),
    "kl_against_quadratic": lambda ax: plots.kl_against_quadratic(
        10.0 ** np.arange(-4, 1), 10.0 ** (3 * np.arange(-4, 1)) + 1e-17, ax=ax
    ),
    "monte_carlo_error": lambda ax: plots.monte_carlo_error(
        [1, 4, 16], {"sampled": np.array([[1.0, 1.2], [0.5, 0.6], [0.25, 0.3]]), "empirical": 0.8}, ax=ax
    ),
    "mean_derivatives": lambda ax: plots.mean_derivatives([0.0, 0.1], [0.5, -0.5], [0.1, 0.1], ax=ax),
    "memory": lambda ax: plots.memory(
        {"small": (100, 50), "large": (10**6, 10**4)}, budgets={"80 GB": 8e10}, ax=ax
    ),
    "curvature_along_training": lambda ax: plots.curvature_along_training(
        [{"step": 0}, *({"step": k, "curvature/conv0": 3.0 * k, "curvature": 7.0 * k} for k in (1, 9))], ax=ax
    ),
    "training_curve": lambda ax: plots.training_curve({"a": RECORDS, "b": RECORDS}, ax=ax),
    "correlation_against_offset": lambda ax: plots.correlation_against_offset(
        {"max-pooling": {"conv0": [0.1, 0.0, 0.0], "conv1": [0.2, math.nan]}}, ax=ax
    ),
    "error_against_batch": lambda ax: plots.error_against_batch(
        [4, 8], {"all": [[1, 2, 3], [2, 3, 4]]}, ax=ax
    ),
    "walk": lambda ax: walk(**WALK, knob="strength", title="a net", ax=ax),
}
FIGURES = {
    "matrices": lambda: plots.matrices(symmetric(12), {"K": symmetric(12)}, NAMES, SIZES),
    "matrices of two": lambda: plots.matrices(
        symmetric(12), {"K": symmetric(12), "L": np.zeros((12, 12))}, NAMES, SIZES
    ),
    "matrix_rows": lambda: plots.matrix_rows({"F": {"F": symmetric(12), "K": np.eye(12)}}, NAMES, SIZES),
    "kronecker_factors": lambda: plots.kronecker_factors(symmetric(6), np.eye(3), np.eye(2)),
    "kfac_picture": lambda: plots.kfac_picture(
        symmetric(12), [(np.eye(2), np.eye(2)), (np.eye(4), np.eye(2))], NAMES[:2], 1
    ),
    "progress_against_storage": lambda: plots.progress_against_storage(
        [{"approximation": "K-FAC", "floats": 50, "share": 0.5, "step_cosine": 0.4}], 5000
    ),
    "likelihood_against_storage": lambda: plots.likelihood_against_storage(
        [{"approximation": "K-FAC", "floats": 50, "nats": 5.0, "behind_se": 0.4}]
    ),
    "approximations_along_training": lambda: plots.approximations_along_training(
        [0, 10, 100], {"block-tridiagonal": [0.1, 0.4, 2.0]}, {"block-tridiagonal": [0.9, 0.4, 0.5]}
    ),
    "steps_as_pictures": lambda: plots.steps_as_pictures({"a": np.eye(4)[None] + 1, "b": np.eye(4)[None]}),
    "regression_bands": lambda: plots.regression_bands(
        np.array([0.0, 2.0]), np.array([1.0, 2.0]), np.arange(3.0), {"K-FAC": (np.ones(3), np.arange(1.0, 4))}
    ),
    "ledger": lambda: plots.ledger(LEDGER),
    "quality_bars": lambda: plots.quality_bars(ROWS),
    "quality_across_nets": lambda: plots.quality_across_nets({"a net": {"width": {1: {"K-FAC": 0.5}}}}),
    "gradient_scatter": lambda: plots.gradient_scatter(RNG.normal(size=(50, 2)), np.eye(2)),
    "forward_backward": lambda: plots.forward_backward(**picture()),
    "graphical_models": lambda: plots.graphical_models(3),
    "autocorrelation": lambda: plots.autocorrelation(TILES),
    "variance_maps": lambda: plots.variance_maps({"conv0": {"a": np.ones((3, 4))}}),
    "shifted_products": lambda: plots.shifted_products(**shifts()),
    "ladder_blocks": lambda: plots.ladder_blocks({name: symmetric(12) for name in ("exact", *"abcde")}),
    "layer_ledger": lambda: plots.layer_ledger({"conv0": CONV_LEDGER, "conv1": CONV_LEDGER}),
    "ledger of a convolution": lambda: plots.ledger(CONV_LEDGER),
    "exactness": lambda: plots.exactness([{**WALK, "knob": "strength", "title": "a net"}] * 3),
}


@pytest.mark.parametrize("name", ON_AXES)
def test_draws_into_the_axes_given(name: str):
    fig, (ax, other) = plt.subplots(1, 2, figsize=(12, 5))
    assert ON_AXES[name](ax) is ax
    fig.canvas.draw()
    assert ax.has_data() and not other.has_data()
    assert len(plt.get_fignums()) == 1
    assert ax.get_title()


@pytest.mark.parametrize("name", [*ON_AXES, *FIGURES])
def test_a_new_figure_has_the_width_of_a_slide(name: str):
    before = dict(matplotlib.rcParams)
    made = FIGURES[name]() if name in FIGURES else ON_AXES[name](None)
    fig = (made[0] if isinstance(made, list) else made).figure
    assert dict(matplotlib.rcParams) == before
    fig.canvas.draw()
    assert fig.bbox.width == (768 if name == "block_means" else 1280)
    box = fig.get_tightbbox().transformed(fig.dpi_scale_trans)  # nothing is cut off
    assert box.x0 >= -1 and box.y0 >= -1
    assert box.x1 <= fig.bbox.x1 + 1 and box.y1 <= fig.bbox.y1 + 1


def test_style_can_be_changed_from_outside():
    with plots.style({"font.size": 20, "figure.dpi": 64}):
        ax = ON_AXES["spectra"](None)
        assert matplotlib.rcParams["font.size"] == 20
        with plots.style():
            assert matplotlib.rcParams["font.size"] == 20
    assert ax.figure.bbox.width == 640
    assert matplotlib.rcParams["font.size"] != 20


def test_colours_are_those_of_okabe_and_ito_and_differ():
    palette = "#000000 #E69F00 #56B4E9 #009E73 #F0E442 #0072B2 #D55E00 #CC79A7".lower().split()
    assert {color.lower() for color in COLORS} <= set(palette)
    lines = plots.spectra({name: [1.0, 2.0] for name in "abcdefghij"}).get_lines()
    assert len({(to_hex(line.get_color()), line.get_linestyle()) for line in lines}) == 10


def test_a_figure_leaves_drawing_switched_on():
    before = matplotlib.is_interactive()
    try:
        matplotlib.interactive(False)
        with plots.style():
            matplotlib.interactive(True)  # as a notebook does with its first figure
        assert matplotlib.is_interactive()
    finally:
        matplotlib.interactive(before)


def test_device_arrays_are_fetched(monkeypatch: pytest.MonkeyPatch):
    class OnDevice:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def get(self) -> np.ndarray:
            return self.array

    stand_in = type(sys)("cupy")
    stand_in.ndarray = OnDevice  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    ax = plots.spectra({"F": OnDevice(np.array([1.0, 3.0]))})
    assert list(ax.get_lines()[0].get_ydata()) == [3.0, 1.0]


def test_numbers_for_labels():
    texts = [short(x) for x in (0.0, 1.0, 0.12345, 0.9999, 99.95, 1234.6, 1e-5, math.nan, -0.25)]
    assert texts == ["0", "1", "0.123", "1", "100", "1,230", "1.0e-05", "nan", "-0.25"]
