"""Figures: they show the data that they are given, and say what is wrong with data that does not fit."""

import math
import sys
from collections.abc import Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Circle, Rectangle
from scipy.signal import correlate2d

import minikfac as mk
from minikfac import fisher, plots, quality
from minikfac.plots.exactness import walk
from minikfac.plots.matrices import mean_magnitudes, pool_magnitudes
from minikfac.plots.style import COLORS, short

RNG = np.random.default_rng(0)
SIZES = [4, 6, 2]
NAMES = ["dense0", "dense1", "dense2"]
ROWS = [
    {"approximation": "K-FAC", "error": 0.5, "step_cosine": 0.8, "share": 0.6, "cg_iterations": 20},
    {
        "approximation": "diagonal",
        "error": 0.9,
        "step_cosine": -0.1,
        "share": None,
        "cg_iterations": math.inf,
    },
]
LEDGER = [
    {"label": "exact", "error": 0.0, "cost": 0.0, "step_cosine": 1.0, "share": 1.0},
    {"label": "layers independent", "error": 0.6, "cost": 0.6, "step_cosine": 0.9, "share": 0.7},
    {"label": "activations independent", "error": 0.7, "cost": 0.3, "step_cosine": 0.8, "share": 0.5},
]
RECORDS = [{"step": s, "loss": 2.0 / (s + 1), "test_error": 0.5 / (s + 1)} for s in range(5)]


CONV_LEDGER = [
    dict(zip(("label", "above", "error", "cost", "c_star", "step_cosine"), row, strict=True))
    for row in (
        ("exact Fisher matrix", None, 0.0, 0.0, 1.0, 1.0),
        ("SUD: uncorrelated", "exact Fisher matrix", 0.7, 0.7, 1.5, 0.9),
        ("IAD: independent", "exact Fisher matrix", 0.3, 0.3, 0.9, math.nan),
        ("T x KFC", "IAD: independent", 19.0, 18.0, 0.05, -0.2),
    )
]
TILES = {"conv0": {"a": np.eye(3), "g": -np.eye(3)}, "conv1": {"a": np.zeros((5, 3)), "g": np.ones((1, 1))}}
WALK = {"values": [0.0, 1.0, 2.0], "errors": {"KFC": [1e-15, 0.01, 0.5], "reduce": [3.0, 0.5, 0.0]}}


def symmetric(size: int) -> np.ndarray:
    J = RNG.normal(size=(size, size))
    return J @ J.T / size


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    plt.close("all")  # what other tests left open
    yield
    plt.close("all")


def picture(number: int = 3) -> dict[str, Any]:
    """Arguments of forward_backward for a net of this many parameter layers."""
    hidden = [RNG.normal(size=5 + layer) for layer in range(number - 1)]
    p = np.array([0.7, 0.2, 0.1])
    return {
        "image": RNG.random((4, 4)),
        "activations": hidden,
        "probabilities": p,
        "sampled_target": 1,
        "label": 0,
        "derivatives": [*(RNG.normal(size=a.shape) for a in hidden), p - np.eye(3)[1]],
    }


def shifts() -> dict[str, Any]:
    """Arguments of shifted_products for a 3 x 4 kernel on 5 x 6 pixels with padding."""
    a, g = np.pad(RNG.normal(size=(5, 6)), ((1, 1), (1, 2))), RNG.normal(size=(5, 6))
    products = correlate2d(a, g, mode="full")
    kernel, padding = (4, 5, 3, 4), (1, 1, 1, 2)
    return {"activation": a, "derivative": g, "products": products, "kernel": kernel, "padding": padding}


ON_AXES = {
    "block_means": lambda ax: plots.block_means(symmetric(12), SIZES, NAMES, ax=ax),
    "spectra": lambda ax: plots.spectra({"F": [3.0, 1.0, 2.0], "K": [1.0, 0.0, -1.0]}, 0.1, ax=ax),
    "preconditioned_spectra": lambda ax: plots.preconditioned_spectra({"K-FAC": [0.5, 2.0, 1.0]}, ax=ax),
    "cosine_against_damping": lambda ax: plots.cosine_against_damping(
        [0.1, 1, 10], {"K-FAC": [0.5, 0.7, 1.0]}, ax=ax
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
    "quality_along_training": lambda ax: plots.quality_along_training([0, 10], {"dense0": [0.1, 0.4]}, ax=ax),
    "training_curve": lambda ax: plots.training_curve({"a": RECORDS, "b": RECORDS}, ax=ax),
    "correlation_against_offset": lambda ax: plots.correlation_against_offset(
        {"max-pooling": {"conv0": [0.1, 0.0, 0.0], "conv1": [0.2, math.nan]}}, ax=ax
    ),
    "error_against_batch": lambda ax: plots.error_against_batch(
        [4, 8], {"all": [[1, 2, 3], [2, 3, 4]]}, ax=ax
    ),
    "walk": lambda ax: walk(**WALK, knob="strength", title="a net", ax=ax),
}
ON_FIGURE = {
    "matrices": lambda fig: plots.matrices(symmetric(12), {"K": symmetric(12)}, NAMES, SIZES, fig=fig),
    "matrices of two": lambda fig: plots.matrices(
        symmetric(12), {"K": symmetric(12), "L": np.zeros((12, 12))}, NAMES, SIZES, fig=fig
    ),
    "ledger": lambda fig: plots.ledger(LEDGER, fig=fig),
    "quality_bars": lambda fig: plots.quality_bars(ROWS, fig=fig),
    "gradient_scatter": lambda fig: plots.gradient_scatter(RNG.normal(size=(50, 2)), np.eye(2), fig=fig),
    "forward_backward": lambda fig: plots.forward_backward(**picture(), fig=fig),
    "graphical_models": lambda fig: plots.graphical_models(3, fig=fig),
    "autocorrelation": lambda fig: plots.autocorrelation(TILES, fig=fig),
    "between_maps": lambda fig: plots.between_maps(TILES, fig=fig),
    "variance_maps": lambda fig: plots.variance_maps({"conv0": {"a": np.ones((3, 4))}}, fig=fig),
    "shifted_products": lambda fig: plots.shifted_products(**shifts(), fig=fig),
    "ladder_blocks": lambda fig: plots.ladder_blocks(
        {name: symmetric(12) for name in ("exact", *"abcde")}, fig=fig
    ),
    "layer_ledger": lambda fig: plots.layer_ledger({"conv0": CONV_LEDGER, "conv1": CONV_LEDGER}, fig=fig),
    "ledger of a convolution": lambda fig: plots.ledger(CONV_LEDGER, fig=fig),
    "exactness": lambda fig: plots.exactness([{**WALK, "knob": "strength", "title": "a net"}] * 3, fig=fig),
}


# where and how ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ON_AXES)
def test_draws_into_the_axes_given(name: str) -> None:
    fig, (ax, other) = plt.subplots(1, 2, figsize=(12, 5))
    assert ON_AXES[name](ax) is ax
    fig.canvas.draw()
    assert ax.has_data() and not other.has_data()
    assert len(plt.get_fignums()) == 1
    assert ax.get_title()


@pytest.mark.parametrize("name", ON_FIGURE)
def test_draws_into_the_figure_given(name: str) -> None:
    fig = plt.figure(figsize=(12, 12), layout="constrained")
    half, other = fig.subfigures(2, 1)
    axes = ON_FIGURE[name](half)
    fig.canvas.draw()
    assert len(plt.get_fignums()) == 1
    assert set(axes) <= set(half.axes) and not other.axes


@pytest.mark.parametrize("name", [*ON_AXES, *ON_FIGURE])
def test_makes_a_figure_of_slide_width_if_none_is_given(name: str) -> None:
    before = dict(matplotlib.rcParams)
    made = (ON_AXES | ON_FIGURE)[name](None)
    fig = (made[0] if isinstance(made, list) else made).figure
    assert dict(matplotlib.rcParams) == before
    fig.canvas.draw()
    assert fig.bbox.width == (768 if name == "block_means" else 1280)
    box = fig.get_tightbbox().transformed(fig.dpi_scale_trans)  # nothing is cut off
    assert box.x0 >= -1 and box.y0 >= -1
    assert box.x1 <= fig.bbox.x1 + 1 and box.y1 <= fig.bbox.y1 + 1


def test_style_can_be_changed_from_outside() -> None:
    with plots.style({"font.size": 20, "figure.dpi": 64}):
        ax = ON_AXES["spectra"](None)
        assert matplotlib.rcParams["font.size"] == 20
        with plots.style():
            assert matplotlib.rcParams["font.size"] == 20
    assert ax.figure.bbox.width == 640
    assert matplotlib.rcParams["font.size"] != 20


def test_colours_are_those_of_okabe_and_ito_and_differ() -> None:
    palette = "#000000 #E69F00 #56B4E9 #009E73 #F0E442 #0072B2 #D55E00 #CC79A7".lower().split()
    assert {color.lower() for color in COLORS} <= set(palette)
    lines = plots.spectra({name: [1.0, 2.0] for name in "abcdefghij"}).get_lines()
    assert len({(to_hex(line.get_color()), line.get_linestyle()) for line in lines}) == 10


def test_a_figure_leaves_drawing_switched_on() -> None:
    before = matplotlib.is_interactive()
    try:
        matplotlib.interactive(False)
        with plots.style():
            matplotlib.interactive(True)  # as a notebook does with its first figure
        assert matplotlib.is_interactive()
    finally:
        matplotlib.interactive(before)


def test_device_arrays_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnDevice:
        def __init__(self, held: np.ndarray) -> None:
            self.held = held

        def get(self) -> np.ndarray:
            return self.held

    stand_in = type(sys)("cupy")
    stand_in.ndarray = OnDevice  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    ax = plots.spectra({"F": OnDevice(np.array([1.0, 3.0]))})
    assert list(ax.get_lines()[0].get_ydata()) == [3.0, 1.0]


def test_numbers_for_labels() -> None:
    found = [short(x) for x in (0.0, 1.0, 0.12345, 0.9999, 99.95, 1234.6, 1e-5, math.nan, -0.25)]
    assert found == ["0", "1", "0.123", "1", "100", "1230", "1.0e-05", "nan", "-0.25"]


# matrices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2, 5, 12, 20])
@pytest.mark.parametrize(("how", "reduce"), [("mean", np.mean), ("max", np.max)])
def test_pooling_against_loops(side: int, how: str, reduce: Any) -> None:
    F = RNG.normal(size=(12, 12))
    starts = range(0, 12, side)
    expected = [[reduce(np.abs(F[a : a + side, b : b + side])) for b in starts] for a in starts]
    np.testing.assert_allclose(pool_magnitudes(F, side, how), expected)


def test_pooling_refuses_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="expected pooling 'mean' or 'max', got 'median'"):
        pool_magnitudes(np.eye(3), 1, "median")


def test_block_means_against_loops() -> None:
    F = symmetric(12)
    cuts = [slice(0, 4), slice(4, 10), slice(10, 12)]
    expected = [[np.abs(F[a, b]).mean() for b in cuts] for a in cuts]
    np.testing.assert_allclose(mean_magnitudes(F, SIZES), expected)
    ax = plots.block_means(F, SIZES, NAMES)
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    written = np.array([float(text.get_text()) for text in ax.texts]).reshape(3, 3)
    power = 10 ** np.floor(np.log10(np.max(expected)))
    np.testing.assert_allclose(written * power, expected, atol=0.0051 * power)


def test_matrices_share_one_scale_and_hold_the_pooled_data() -> None:
    F, K = symmetric(12), symmetric(12)
    axes = plots.matrices(F, {"K-FAC": K}, NAMES, SIZES, percentile=90, cells=6)
    images = [ax.images[0] for ax in axes]
    for image, M in zip(images, (F, K, F - K), strict=True):
        np.testing.assert_allclose(image.get_array(), pool_magnitudes(M, 2))
    assert len({image.get_clim() for image in images}) == 1
    assert images[0].get_clim() == (0, np.percentile(pool_magnitudes(F, 2), 90))
    error = np.linalg.norm(F - K) / np.linalg.norm(F)
    titles = [ax.get_title() for ax in axes]
    assert titles == ["exact Fisher F", "K-FAC", f"difference: {error:.0%}"]
    for ax in axes:
        assert [tick.get_text() for tick in ax.get_xticklabels()] == NAMES
        assert list(ax.get_xticks()) == [2, 7, 11]
        assert ax.get_xlim() == (0, 12) and ax.get_ylim() == (12, 0)
        assert sorted({line.get_xdata()[0] for line in ax.get_lines()} - {0}) == [4, 10]


def test_matrices_say_how_they_were_pooled() -> None:
    axes = plots.matrices(symmetric(12), {"K": symmetric(12)}, NAMES, SIZES, cells=4, pool="max")
    assert "max of 3×3 entries" in axes[0].figure.get_supxlabel()
    assert "top 1%" in axes[0].figure.get_supxlabel()


def test_matrices_of_zeros() -> None:
    axes = plots.matrices(np.zeros((12, 12)), {"K": np.zeros((12, 12))}, NAMES, SIZES)
    axes[0].figure.canvas.draw()
    plots.block_means(np.zeros((12, 12)), SIZES).figure.canvas.draw()


def test_long_names_are_turned() -> None:
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
        ({"approximations": {}}, "at least one approximation, got none"),
        ({"names": ["a", "b"]}, "one name per layer, got 2 names and 3 sizes"),
        ({"sizes": [4, 6, 3]}, r"layer sizes that add up to 12, got \[4, 6, 3\]: 13"),
        ({"sizes": [4, 8, 0]}, r"layer sizes that add up to 12, got \[4, 8, 0\]"),
    ],
)
def test_matrices_refuse(changed: dict[str, Any], message: str) -> None:
    given = {"F": np.eye(12), "approximations": {"K": np.eye(12)}, "names": NAMES, "sizes": SIZES}
    with pytest.raises(ValueError, match=message):
        plots.matrices(**(given | changed))


# ledger and quality table -------------------------------------------------------------------------


def widths(ax: Any, container: int = 0) -> list[float]:
    return [bar.get_width() for bar in ax.containers[container]]


def test_ledger_shows_errors_costs_and_steps() -> None:
    errors, cosines, shares = plots.ledger(LEDGER)
    assert widths(errors) == [0.0, 0.6, 0.7]
    assert widths(errors, 1) == [0.0, 0.6, 0.3]
    assert widths(cosines) == [1.0, 0.9, 0.8]
    assert widths(shares) == [1.0, 0.7, 0.5]
    assert [text.get_text() for text in cosines.texts] == ["1", "0.9", "0.8"]
    assert errors.get_yticklabels()[0].get_text() == "exact"
    assert errors.yaxis.get_inverted()


def test_ledger_of_errors_alone() -> None:
    axes = plots.ledger([{"label": row["label"], "error": row["error"]} for row in LEDGER])
    assert len(axes) == 1 and widths(axes[0]) == [0.0, 0.6, 0.7]


def test_ledger_refuses_incomplete_rows() -> None:
    with pytest.raises(ValueError, match="at least one row, got none"):
        plots.ledger([])
    with pytest.raises(
        ValueError, match="expected cost, step_cosine, share in every row, got a row with label"
    ):
        plots.ledger([*LEDGER, {"label": "a", "error": 1.0}])


def test_ledger_and_quality_bars_take_the_rows_of_quality() -> None:
    net = mk.mlp([5, 4, 3])
    theta = net.init(np.random.default_rng(1))
    x, y = RNG.normal(size=(30, 5)), RNG.integers(0, 3, 30)
    signals = fisher.signals(net, theta, x)
    gradient = net.gradient(theta, x, y)
    rows = quality.ledger(signals, gradient, 0.1)
    assert widths(plots.ledger(rows)[0]) == [row["error"] for row in rows]
    table = quality.compare(fisher.exact(signals), {"K-FAC": fisher.kfac(signals)}, gradient, 0.1)
    axes = plots.quality_bars(table.whole())
    assert widths(axes[1]) == [table["K-FAC"]["step_cosine"]]


def test_quality_bars_show_missing_and_infinite_values() -> None:
    errors, cosines, shares, iterations = plots.quality_bars(ROWS)
    assert widths(errors) == [0.5, 0.9] and widths(cosines) == [0.8, -0.1]
    assert [text.get_text() for text in shares.texts] == ["0.6", "–"]
    assert [text.get_text() for text in iterations.texts] == ["20", "limit"]
    assert cosines.get_xlim()[0] < -0.1
    assert [bar.get_hatch() for bar in iterations.containers[0]] == [None, "//"]


def test_quality_bars_show_the_spread_over_seeds() -> None:
    spread = [{"error": 0.1}, {"error": 0.2}]
    (ax,) = plots.quality_bars(ROWS, ["error"], spread=spread)
    segments = next(c for c in ax.containers if hasattr(c, "has_xerr")).lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in segments], [[0.4, 0.6], [0.7, 1.1]])


def test_quality_bars_refuse() -> None:
    with pytest.raises(ValueError, match="expected kl in every row"):
        plots.quality_bars(ROWS, ["kl"])
    with pytest.raises(ValueError, match="at least one column, got none"):
        plots.quality_bars(ROWS, [])
    with pytest.raises(ValueError, match="expected 2 rows of spread, got 1"):
        plots.quality_bars(ROWS, spread=ROWS[:1])


def test_a_bar_that_is_far_too_long_is_cut_off_and_says_so() -> None:
    errors = plots.ledger(CONV_LEDGER)[0]
    assert widths(errors) == pytest.approx([0.0, 0.7, 0.3, 1.15 * 0.7])
    notes = [text.get_text() for text in errors.texts]
    assert notes == ["0", "0.7", "0.3", "19 (cut off)", "0", "0.7", "0.3", "18"]
    assert widths(plots.ledger(CONV_LEDGER[:3])[0]) == [0.0, 0.7, 0.3]


def test_a_row_that_is_no_step_from_the_one_over_it_names_its_own() -> None:
    labels = [text.get_text() for text in plots.ledger(CONV_LEDGER)[0].get_yticklabels()]
    assert labels[1] == "SUD: uncorrelated" and labels[3] == "T x KFC"
    assert labels[2] == "IAD: independent\n(step from: exact Fisher matrix)"


def test_layer_ledgers_have_a_dot_per_layer_and_finite_value() -> None:
    axes = plots.layer_ledger({"conv0": CONV_LEDGER, "conv1": CONV_LEDGER[:3] + CONV_LEDGER[3:]})
    for ax, expected in zip(axes, ([0.7, 0.3, 19.0], [1.5, 0.9, 0.05], [0.9, -0.2]), strict=True):
        first, second = [line for line in ax.get_lines() if line.get_marker() != "None"]
        assert list(first.get_xdata()) == list(second.get_xdata()) == expected
        assert (np.asarray(second.get_ydata()) > np.asarray(first.get_ydata())).all()
    assert [ax.get_xscale() for ax in axes] == ["log", "log", "linear"]
    labels = [text.get_text() for text in axes[0].get_yticklabels()]
    assert labels == [
        "SUD: uncorrelated",
        "IAD: independent",
        "T x KFC",
    ]  # the exact one has no error to show
    assert axes[2].get_xlim()[0] < -0.2


def test_layer_ledgers_refuse() -> None:
    with pytest.raises(ValueError, match="expected at least one layer, got none"):
        plots.layer_ledger({})
    with pytest.raises(ValueError, match="the same labels for every layer, got others for b"):
        plots.layer_ledger({"a": CONV_LEDGER, "b": CONV_LEDGER[:2]})
    with pytest.raises(ValueError, match="expected share in every row"):
        plots.layer_ledger({"a": CONV_LEDGER}, ["share"])


def test_ladders_of_blocks_share_a_scale_and_give_errors() -> None:
    F, M = symmetric(12), symmetric(12)
    axes = plots.ladder_blocks({"exact": F, "IAD": M, "KFC": 0 * F}, cells=6, columns=2)
    images = [ax.images[0] for ax in axes]
    for image, expected in zip(images, (F, M, 0 * F), strict=True):
        np.testing.assert_allclose(image.get_array(), pool_magnitudes(expected, 2))
    assert {image.get_clim() for image in images} == {(0, np.percentile(pool_magnitudes(F, 2), 99))}
    wrong = f"wrong by {np.linalg.norm(F - M) / np.linalg.norm(F):.0%}"
    assert [ax.get_xlabel() for ax in axes] == ["12 × 12", wrong, "wrong by 100%"]
    assert "mean of 2×2 entries" in axes[0].figure.get_supxlabel()
    with pytest.raises(ValueError, match=r"expected b of shape \(12, 12\), got \(3, 3\)"):
        plots.ladder_blocks({"a": F, "b": np.eye(3)})
    with pytest.raises(ValueError, match=r"expected square blocks, got shape \(2, 3\)"):
        plots.ladder_blocks({"a": np.ones((2, 3))})


def test_short_names_can_stay_upright() -> None:
    axes = plots.matrices(symmetric(22), {"K": symmetric(22)}, ["a", "b", "c"], [1, 20, 1], upright=True)
    for ax in axes:
        assert {tick.get_rotation() for tick in (*ax.get_xticklabels(), *ax.get_yticklabels())} == {0}


# maps ---------------------------------------------------------------------------------------------


def test_tiles_of_correlations_share_one_scale() -> None:
    for draw in (plots.autocorrelation, plots.between_maps):
        axes = draw(TILES)
        tiles = [tile for own in TILES.values() for tile in own.values()]
        for ax, tile in zip(axes, tiles, strict=True):
            np.testing.assert_array_equal(ax.images[0].get_array(), tile)
            assert ax.images[0].get_clim() == (-1, 1)
        assert [ax.get_title() for ax in axes] == ["a", "g", "", ""]
        assert axes[0].get_ylabel().startswith("conv0") and axes[2].get_ylabel().startswith("conv1")
    wide = plots.autocorrelation(TILES)[2]
    assert (wide.get_xlim(), wide.get_ylim()) == ((-1.5, 1.5), (2.5, -2.5))  # 0 in the middle


def test_numbers_in_tiles_are_those_of_the_data() -> None:
    tile = np.array([[1.0, -0.04], [-0.04, math.nan]])
    (ax,) = plots.between_maps({"conv0": {"g": tile}})
    assert [text.get_text() for text in ax.texts] == ["1.0", "0.0", "0.0", "–"]
    (ax,) = plots.variance_maps({"conv0": {"g": np.array([[0.5, 1.5]])}})
    assert [text.get_text() for text in ax.texts] == ["0.5", "1.5"]
    assert ax.images[0].get_clim() == (0, 1.5)
    (ax,) = plots.variance_maps({"conv0": {"g": np.ones((9, 9))}})
    assert not ax.texts  # too small to be read


@pytest.mark.parametrize(
    ("draw", "tiles", "message"),
    [
        (plots.autocorrelation, {}, "at least one row of pictures, got none"),
        (plots.autocorrelation, {"r": {}}, "expected the columns of pictures, got"),
        (plots.autocorrelation, {"r": {"a": np.ones((2, 3))}}, r"odd number of shifts .* shape \(2, 3\)"),
        (plots.autocorrelation, {"r": {"a": 2 * np.eye(3)}}, r"of r, a in \[-1, 1\], got 2"),
        (plots.between_maps, {"r": {"a": np.ones(3)}}, r"of r, a of shape \(maps, maps\), got \(3,\)"),
        (plots.variance_maps, {"r": {"a": -np.eye(3)}}, "expected variances >= 0 of a, got -1"),
        (
            plots.variance_maps,
            {"r": {"a": np.eye(3)}, "s": {"b": np.eye(3)}},
            r"expected the columns a, got \['b'\] in s",
        ),
    ],
)
def test_tiles_refuse(draw: Any, tiles: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(tiles)


def test_offsets_begin_at_one() -> None:
    ax = plots.correlation_against_offset({"max": {"conv0": [0.3, 0.2, 0.1]}, "avg": {"conv0": [0.5]}})
    first, second = ax.get_lines()
    assert list(first.get_xdata()) == [1, 2, 3] and list(second.get_ydata()) == [0.5]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["max: conv0", "avg: conv0"]
    with pytest.raises(ValueError, match=r"expected strengths of max, conv0 in \[0, 1\], got 1.5"):
        plots.correlation_against_offset({"max": {"conv0": [1.5]}})


def test_the_kernel_is_marked_among_the_shifts() -> None:
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
def test_shifted_products_refuse(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.shifted_products(**(shifts() | changed))


# walks and batches --------------------------------------------------------------------------------


def test_walks_put_exact_points_on_the_line_that_says_so() -> None:
    ax = walk(**WALK, knob="strength")
    kfc, kfc_exact, reduce, reduce_exact, _ = ax.get_lines()
    assert list(kfc.get_ydata()) == [0, 0.01, 0.5] and list(reduce.get_ydata()) == [3.0, 0.5, 0]
    assert list(kfc_exact.get_xdata()) == [0] and list(reduce_exact.get_xdata()) == [2]
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["exact", "0.001", "0.01", "0.1", "1"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1", "2"]
    with pytest.raises(ValueError, match=r"expected errors of KFC >= 0, got -1"):
        walk([1.0], {"KFC": [-1.0]}, knob="strength")


def test_exactness_has_one_legend_and_needs_every_key() -> None:
    axes = plots.exactness([{**WALK, "knob": "a", "title": "b"}] * 3)
    assert len(axes) == 3 and len(axes[0].figure.axes) == 3
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["KFC", "reduce"]
    with pytest.raises(ValueError, match="expected knob, title in every walk, got one with values, errors"):
        plots.exactness([WALK])
    with pytest.raises(ValueError, match="at least one walk, got none"):
        plots.exactness([])


def test_errors_against_the_batch_are_median_and_range() -> None:
    ax = plots.error_against_batch([4, 8], {"all": [[1.0, 2.0, 6.0], [3.0, 4.0, 5.0]]})
    assert list(ax.get_lines()[0].get_ydata()) == [2.0, 4.0]
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1.0, 6.0)
    assert ax.get_ylim()[0] == 0
    with pytest.raises(ValueError, match="expected errors of all >= 0, got -1"):
        plots.error_against_batch([4], {"all": [[-1.0]]})
    with pytest.raises(ValueError, match=r"expected errors of all of shape \(1, batches\), got \(2, 1\)"):
        plots.error_against_batch([4], {"all": [[1.0], [2.0]]})


# spectra ------------------------------------------------------------------------------------------


def test_spectra_sort_and_count_what_they_leave_out() -> None:
    ax = plots.spectra({"F": [1.0, 4.0, 2.0], "K": [1e-20, 3.0, -1.0]}, damping=0.5)
    full, broken, damping = ax.get_lines()
    assert list(full.get_ydata()) == [4.0, 2.0, 1.0] and list(full.get_xdata()) == [1, 2, 3]
    assert list(broken.get_ydata()) == [3.0]
    assert list(damping.get_ydata()) == [0.5, 0.5]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["F", "K (1 zero, 1 negative of 3)"]
    assert ax.get_yscale() == "log"


def test_preconditioned_spectra_give_the_condition() -> None:
    ax = plots.preconditioned_spectra({"K-FAC": [2.0, 0.5]})
    assert ax.get_legend().get_texts()[0].get_text() == "K-FAC: condition 4"
    with pytest.raises(ValueError, match="expected positive eigenvalues of K-FAC, got 0: add damping"):
        plots.preconditioned_spectra({"K-FAC": [2.0, 0.0]})


def test_cosines_against_damping() -> None:
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


# gradients ----------------------------------------------------------------------------------------


def test_ellipses_are_those_of_the_fisher_matrix_and_its_inverse() -> None:
    F = np.array([[2.0, 0.8], [0.8, 0.5]])
    samples = np.random.default_rng(3).multivariate_normal([0, 0], F, 500)
    left, right = plots.gradient_scatter(samples, F, divergence=0.02)
    scatter = next(line for line in left.get_lines() if line.get_marker() == ".")
    np.testing.assert_array_equal(np.array(scatter.get_data()).T, samples)
    for radius, line in zip((1, 2), left.get_lines(), strict=False):
        u = np.array(line.get_data())
        np.testing.assert_allclose(np.einsum("in,ij,jn->n", u, np.linalg.inv(F), u), radius**2)
    for factor, line in zip((1, 4), right.get_lines(), strict=False):
        d = np.array(line.get_data())
        np.testing.assert_allclose(0.5 * np.einsum("in,ij,jn->n", d, F, d), factor * 0.02)
    for ax in (left, right):
        assert ax.get_aspect() == 1 and ax.get_xlim() == ax.get_ylim()


def test_gradient_scatter_counts_points_outside() -> None:
    samples = np.vstack([np.zeros((999, 2)), [[50.0, 0.0]]])
    left, _ = plots.gradient_scatter(samples, np.eye(2))
    assert left.get_title().startswith("1000 sampled gradients (1 outside)")


def test_gradient_scatter_refuses() -> None:
    with pytest.raises(ValueError, match=r"expected samples of shape \(n, 2\), got \(5, 3\)"):
        plots.gradient_scatter(np.ones((5, 3)), np.eye(2))
    with pytest.raises(ValueError, match=r"expected covariance of shape \(2, 2\), got \(3, 3\)"):
        plots.gradient_scatter(np.ones((5, 2)), np.eye(3))
    with pytest.raises(ValueError, match="expected a positive definite covariance"):
        plots.gradient_scatter(np.ones((5, 2)), np.ones((2, 2)))


def test_kl_slope_is_fitted_over_the_clean_range() -> None:
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


def test_kl_refuses() -> None:
    with pytest.raises(ValueError, match="at least two lengths in the fit's range"):
        plots.kl_against_quadratic([0.1, 1.0], [1e-20, 1e-19])
    with pytest.raises(ValueError, match=r"expected differences of shape \(2,\), got \(3,\)"):
        plots.kl_against_quadratic([0.1, 1.0], [1, 2, 3])


def test_monte_carlo_error_shows_median_range_and_level() -> None:
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


def test_mean_derivatives_show_both_means_and_errors() -> None:
    ax = plots.mean_derivatives([0.0, 0.1], [0.5, -0.5], [0.2, 0.3])
    model, error, labels = ax.containers
    assert [bar.get_height() for bar in model] == [0.0, 0.1]
    assert [bar.get_height() for bar in labels] == [0.5, -0.5]
    segments = error.lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 1] for s in segments], [[-0.4, 0.4], [-0.5, 0.7]])
    with pytest.raises(ValueError, match=r"expected label_mean of shape \(2,\), got \(3,\)"):
        plots.mean_derivatives([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="expected 2 names, got 1"):
        plots.mean_derivatives([0, 1], [0, 1], names=["a"])


# signals and models -------------------------------------------------------------------------------


def test_forward_backward_holds_the_signals() -> None:
    given = picture(3)
    axes = plots.forward_backward(**given)
    image, bars = axes[:2]
    np.testing.assert_array_equal(image.images[0].get_array(), given["image"])
    np.testing.assert_array_equal(widths(bars), given["probabilities"])
    forward, backward, gradients = axes[2:4], axes[4:7], axes[7:]
    for ax, a in zip(forward, given["activations"], strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array()[:, 0], a)
        low, high = ax.images[0].get_clim()
        assert low == -high
    np.testing.assert_array_equal(backward[1].images[0].get_array()[:, 0], given["derivatives"][1])
    np.testing.assert_allclose(widths(backward[2]), given["derivatives"][2])
    below = [given["image"].ravel(), *given["activations"]]
    for ax, a, g in zip(gradients, below, given["derivatives"], strict=True):
        np.testing.assert_allclose(ax.images[0].get_array(), np.outer(a, g))
    notes = [text.get_text() for text in bars.texts]
    assert "70%, label" in notes and "20%, sampled" in notes


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": np.ones(16)}, r"expected image of shape \(H, W\), got \(16,\)"),
        ({"activations": []}, "at least one hidden layer, got none"),
        ({"derivatives": [np.ones(5)]}, "expected derivatives of 3 layers, got 1"),
        ({"sampled_target": 3}, "expected sampled_target from 0 to 2, got 3"),
        ({"label": -1}, "expected label from 0 to 2, got -1"),
        ({"classes": ["a"]}, "expected 3 class names, got 1"),
        (
            {"derivatives": [np.ones(5), np.ones(5), np.ones(3)]},
            r"expected derivatives of layer 2 of shape \(6,\), got \(5,\)",
        ),
    ],
)
def test_forward_backward_refuses(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.forward_backward(**(picture(3) | changed))


@pytest.mark.parametrize("n_layers", [2, 3, 4, 5])
def test_graphical_models_have_their_nodes_and_edges(n_layers: int) -> None:
    top, *models = plots.graphical_models(n_layers)
    # x; s, Ds and DW of each layer; a and Da of each but the last; p and y
    assert (
        sum(isinstance(patch, Circle) for patch in top.patches) == 1 + 3 * n_layers + 2 * (n_layers - 1) + 2
    )
    edges = [len([p for p in ax.patches if not isinstance(p, Circle)]) for ax in models]
    assert edges == [n_layers * (n_layers - 1) // 2, 0, n_layers - 1]


def test_graphical_models_refuse_many_layers() -> None:
    with pytest.raises(ValueError, match="expected n_layers from 2 to 5, got 6"):
        plots.graphical_models(6)


# memory and training ------------------------------------------------------------------------------


def test_counts_agree_with_the_network_and_its_factors() -> None:
    sizes = [7, 5, 4, 3]
    net = mk.mlp(sizes)
    signals = fisher.signals(net, net.init(np.random.default_rng(0)), RNG.normal(size=(6, 7)))
    kfac = fisher.kfac(signals)
    floats = sum(block.A.size + block.G.size for block in kfac.blocks)
    assert plots.count_floats(sizes) == (net.n_params, floats)
    assert plots.count_floats(sizes, bias=False)[0] == 7 * 5 + 5 * 4 + 4 * 3
    with pytest.raises(ValueError, match=r"at least two sizes, inputs and outputs, got \[3\]"):
        plots.count_floats([3])


def test_memory_is_that_of_the_counts() -> None:
    ax = plots.memory({"autoencoder": (2_837_314, 6_489_748)}, budgets={"GPU": 8e10})
    full = next(line for line in ax.get_lines() if line.get_marker() == "s")
    factors = next(line for line in ax.get_lines() if line.get_marker() == "o")
    assert full.get_ydata()[0] == 4 * 2_837_314**2
    assert factors.get_ydata()[0] == 4 * 6_489_748
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["32 TB", "autoencoder: 26 MB", "GPU"]
    with pytest.raises(ValueError, match="expected counts >= 1"):
        plots.memory({"empty": (0, 3)})


def test_training_curve_of_one_run_and_in_per_cent() -> None:
    ax = plots.training_curve(RECORDS, "test_error")
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [50, 25, 50 / 3, 12.5, 10])
    assert ax.get_legend() is None and "%" in ax.get_ylabel()
    assert plots.training_curve(RECORDS).get_yscale() == "log"
    with pytest.raises(ValueError, match="expected records of a with step and damping, got none"):
        plots.training_curve({"a": RECORDS}, "damping")


def test_quality_along_training_keeps_gaps() -> None:
    ax = plots.quality_along_training([0, 5, 10], {"dense0": [0.1, np.nan, 0.3]})
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), [0.1, np.nan, 0.3])
    with pytest.raises(ValueError, match=r"expected errors of dense0 of shape \(3,\), got \(2,\)"):
        plots.quality_along_training([0, 5, 10], {"dense0": [0.1, 0.3]})
    with pytest.raises(ValueError, match="at least one curve, got none"):
        plots.quality_along_training([0], {})
