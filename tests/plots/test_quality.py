"""Bars and dots of ledgers and of the quality table."""

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, plots, quality
from minikfac.plots.matrices import pool_magnitudes
from oracles.figures import CONV_LEDGER, LEDGER, RNG, ROWS, symmetric, widths


def test_ledger_shows_errors_costs_and_steps():
    errors, cosines, shares = plots.ledger(LEDGER)
    assert widths(errors) == [0.0, 0.6, 0.7]
    assert widths(errors, 1) == [0.0, 0.6, 0.3]
    assert widths(cosines) == [1.0, 0.9, 0.8]
    assert widths(shares) == [1.0, 0.7, 0.5]
    assert [text.get_text() for text in cosines.texts] == ["1", "0.9", "0.8"]
    assert errors.get_yticklabels()[0].get_text() == "exact"
    assert errors.yaxis.get_inverted()


def test_ledger_of_errors_alone():
    axes = plots.ledger([{"label": row["label"], "error": row["error"]} for row in LEDGER])
    assert len(axes) == 1 and widths(axes[0]) == [0.0, 0.6, 0.7]


def test_ledger_refuses_incomplete_rows():
    with pytest.raises(ValueError, match="at least one row, got none"):
        plots.ledger([])
    with pytest.raises(
        ValueError, match="expected cost, step_cosine, share in every row, got one with label"
    ):
        plots.ledger([*LEDGER, {"label": "a", "error": 1.0}])


def test_ledger_and_quality_bars_take_the_rows_of_quality():
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


def test_quality_bars_show_missing_and_infinite_values():
    errors, cosines, shares, iterations = plots.quality_bars(ROWS)
    assert widths(errors) == [0.5, 0.9] and widths(cosines) == [0.8, -0.1]
    assert [text.get_text() for text in shares.texts] == ["0.6", "–"]
    assert [text.get_text() for text in iterations.texts] == ["20", "limit"]
    assert cosines.get_xlim()[0] < -0.1
    assert [bar.get_hatch() for bar in iterations.containers[0]] == [None, "//"]


def test_quality_bars_show_the_spread_over_seeds():
    spread = [{"error": 0.1}, {"error": 0.2}]
    (ax,) = plots.quality_bars(ROWS, ["error"], spread=spread)
    segments = next(c for c in ax.containers if hasattr(c, "has_xerr")).lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in segments], [[0.4, 0.6], [0.7, 1.1]])


def test_quality_bars_refuse():
    with pytest.raises(ValueError, match="expected kl in every row"):
        plots.quality_bars(ROWS, ["kl"])
    with pytest.raises(ValueError, match="at least one column, got none"):
        plots.quality_bars(ROWS, [])
    with pytest.raises(ValueError, match="expected 2 rows of spread, got 1"):
        plots.quality_bars(ROWS, spread=ROWS[:1])


def test_quality_across_nets_has_a_panel_for_each_study():
    kfac, chain = {"K-FAC": 0.5}, {"K-FAC": 0.25, "block-tridiagonal": 0.75}
    dense, conv = (
        {"updates": {0: kfac, 500: chain}, "width": {0.5: kfac}},
        {"steps": {7: kfac}, "depth": {2: kfac}},
    )
    axes = plots.quality_across_nets({"dense": dense, "conv": conv}, "step_cosine")
    assert [ax.get_xlabel() for ax in axes] == ["updates", "width", "steps", "depth"]
    assert [ax.get_ylabel() for ax in axes] == ["dense", "", "conv", ""]
    first = {line.get_label(): line.get_ydata() for line in axes[0].lines}
    np.testing.assert_array_equal(list(first.values()), [[0.5, 0.25], [np.nan, 0.75]])
    assert [text.get_text() for text in axes[0].get_xticklabels()] == ["0", "500"]
    fig = axes[0].figure
    assert (
        " ".join(fig.get_suptitle().split())
        == "K-FAC's cosine with the exact step: 0.25 to 0.5 (dense), 0.5 to 0.5 (conv)"
    )
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["K-FAC", "block-tridiagonal"]
    with pytest.raises(ValueError, match=r"as many studies of each kind of net, .* got \{'a': 2, 'b': 1\}"):
        plots.quality_across_nets({"a": dense, "b": {"width": {1: kfac}}})
    with pytest.raises(ValueError, match="at least one kind of net, got none"):
        plots.quality_across_nets({})


def test_a_far_too_long_bar_is_cut_off():
    errors = plots.ledger(CONV_LEDGER)[0]
    assert widths(errors) == pytest.approx([0.0, 0.7, 0.3, 1.15 * 0.7])
    notes = [text.get_text() for text in errors.texts]
    assert notes == ["0", "0.7", "0.3", "19 (cut off)", "0", "0.7", "0.3", "18"]
    assert widths(plots.ledger(CONV_LEDGER[:3])[0]) == [0.0, 0.7, 0.3]


def test_a_row_names_another_row_that_it_extends():
    labels = [text.get_text() for text in plots.ledger(CONV_LEDGER)[0].get_yticklabels()]
    assert labels[1] == "SUD: uncorrelated" and labels[3] == "T x KFC"
    assert labels[2] == "IAD: independent\n(step from: exact Fisher matrix)"


def test_layer_ledgers_have_a_dot_per_finite_value():
    axes = plots.layer_ledger({"conv0": CONV_LEDGER, "conv1": CONV_LEDGER[:3] + CONV_LEDGER[3:]})
    longest = 1.15 * 0.7  # 19 is an arrow there
    for ax, expected in zip(axes, ([0.7, 0.3, longest], [1.5, 0.9, 0.05], [0.9, -0.2]), strict=True):
        first, second = [line for line in ax.get_lines() if line.get_marker() != "None"]
        assert list(first.get_xdata()) == list(second.get_xdata()) == expected
        assert (np.asarray(second.get_ydata()) > np.asarray(first.get_ydata())).all()
    assert [text.get_text() for text in axes[0].texts] == ["19 →"] * 2 and not axes[1].texts
    title = axes[0].figure.get_suptitle()
    assert title == "Mean of the layers' relative error of the matrix: from 0.3 (IAD) to 19 (T x KFC)"
    labels = [text.get_text() for text in axes[0].get_yticklabels()]
    assert labels == [
        "SUD: uncorrelated",
        "IAD: independent",
        "T x KFC",
    ]  # the exact one has no error to show
    assert axes[2].get_xlim()[0] < -0.2


def test_layer_ledgers_refuse():
    with pytest.raises(ValueError, match="expected at least one layer, got none"):
        plots.layer_ledger({})
    with pytest.raises(ValueError, match="the same labels for every layer, got others for b"):
        plots.layer_ledger({"a": CONV_LEDGER, "b": CONV_LEDGER[:2]})
    with pytest.raises(ValueError, match="expected share in every row"):
        plots.layer_ledger({"a": CONV_LEDGER}, ["share"])


def test_ladders_of_blocks_share_a_scale_and_give_errors(monkeypatch):
    monkeypatch.setattr("minikfac.plots.ladder.CELLS", 6)
    F, M = symmetric(12), symmetric(12)
    axes = plots.ladder_blocks({"exact": F, "IAD": M, "KFC": 0 * F}, columns=2)
    images = [ax.images[0] for ax in axes]
    for image, expected in zip(images, (F, M, 0 * F), strict=True):
        np.testing.assert_allclose(image.get_array(), pool_magnitudes(expected, 2))
    assert {image.get_clim() for image in images} == {(0, np.percentile(pool_magnitudes(F, 2), 99))}
    error = f"{np.linalg.norm(F - M) / np.linalg.norm(F):.2g}"
    assert [ax.get_xlabel() for ax in axes] == ["12 × 12", f"error {error}", "error 1"]
    assert axes[0].figure.get_suptitle() == f"Relative error of the block: 1 with KFC, {error} with IAD"
    assert "mean of 2×2 entries" in axes[0].figure.get_supxlabel()
    with pytest.raises(ValueError, match=r"expected b of shape \(12, 12\), got \(3, 3\)"):
        plots.ladder_blocks({"a": F, "b": np.eye(3)})
    with pytest.raises(ValueError, match=r"expected square blocks, got shape \(2, 3\)"):
        plots.ladder_blocks({"a": np.ones((2, 3))})


def test_short_names_can_stay_upright():
    axes = plots.matrices(symmetric(22), {"K": symmetric(22)}, ["a", "b", "c"], [1, 20, 1], upright=True)
    for ax in axes:
        assert {tick.get_rotation() for tick in (*ax.get_xticklabels(), *ax.get_yticklabels())} == {0}
