"""Progress against numbers stored and along training: the points, their names, and the titles."""

from itertools import combinations

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest
from matplotlib.text import Text

from minikfac import plots
from minikfac.plots.style import METHODS, name_points, new_figure, pens

ROWS = [
    {"approximation": "K-FAC", "floats": 7050, "share": 0.57, "step_cosine": 0.46},
    {"approximation": "EKFAC", "floats": 9348, "share": 0.58, "step_cosine": 0.47},
    {"approximation": "nearest Kronecker", "floats": 7050, "share": 0.57, "step_cosine": 0.46},
    {"approximation": "no curvature", "floats": 0, "share": 0.3, "step_cosine": 0.1},
]
DAMPINGS = [0.01, 0.1, 1.0]
CURVES = {"K-FAC": {"share": [0.5, 0.6, 0.9], "step_cosine": [0.4, 0.5, 0.8]}}


def points(ax) -> list[tuple[float, float]]:
    lines = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_marker() != "None"]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def test_every_approximation_stands_at_its_numbers():
    axes = plots.progress_against_storage(ROWS, 5280804, dampings=DAMPINGS, curves=CURVES, damping=0.1)
    assert len(axes) == 4 and axes[0].get_xscale() == "log"
    for ax, key in zip(axes[:2], ("share", "step_cosine"), strict=True):
        expected = [(row["floats"], row[key]) for row in ROWS[:3]] + [(0.3 * 7050, ROWS[3][key])]
        np.testing.assert_allclose(points(ax), [*expected, (5280804, 1.0)])
    for ax, key in zip(axes[2:], ("share", "step_cosine"), strict=True):
        assert list(ax.lines[0].get_ydata()) == CURVES["K-FAC"][key]
        assert list(ax.lines[0].get_xdata()) == DAMPINGS
    title = axes[0].figure.get_suptitle()
    assert (
        title == "K-FAC stores 7,050 of 5,280,804 numbers; its step makes 0.57 of the exact step's progress"
    )


def test_without_dampings_there_is_one_column():
    assert len(plots.progress_against_storage(ROWS[1:], 5280804)) == 2


def test_names_do_not_overlap():
    axes = plots.progress_against_storage(ROWS, 5280804)
    for ax in axes:
        ax.figure.canvas.draw()
        texts = {text.get_text(): Text.get_window_extent(text) for text in ax.texts}
        assert set(texts) == {"K-FAC", "EKFAC", "nearest Kronecker", "no curvature (stores 0)", "exact"}
        assert not [pair for pair in combinations(texts, 2) if texts[pair[0]].overlaps(texts[pair[1]])]


def test_names_of_many_equal_points_do_not_overlap():
    ax = new_figure(4.0).add_subplot()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    name_points(ax, [(0.5, 0.5)] * 8, [f"method {number}" for number in range(8)])
    ax.figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without lines to points
    assert len(boxes) == 8 and not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_names_of_curves_stand_in_the_order_of_their_ends():
    heights = [0.5, 0.52, 0.51, 0.9, 0.49]
    ax = new_figure(4.0).add_subplot()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    name_points(ax, [(1, height) for height in heights], [f"{height:g}" for height in heights], ends=True)
    ax.figure.canvas.draw()
    texts = sorted(ax.texts, key=lambda text: -Text.get_window_extent(text).y0)
    assert [text.get_text() for text in texts] == ["0.9", "0.52", "0.51", "0.5", "0.49"]


def test_models_of_the_gradient_stand_at_their_density_and_the_title_names_the_best():
    rows = [
        {"approximation": name, "floats": floats, "nats": nats, "behind_se": error}
        for name, floats, nats, error in (
            ("exact", 5280804, 2903.4, 140.0),
            ("block-tridiagonal", 10495, 4393.5, 0.0),
            ("no curvature", 0, 1204.8, 186.0),
        )
    ]
    (ax,) = plots.likelihood_against_storage(rows)
    places = [(float(bars[0].get_xdata()[0]), float(bars[0].get_ydata()[0])) for bars in ax.containers]
    np.testing.assert_allclose(places, [(5280804, 2903.4), (10495, 4393.5), (0.3 * 10495, 1204.8)])
    lengths = [np.ptp(bars[2][0].get_segments()[0][:, 1]) for bars in ax.containers]
    np.testing.assert_allclose(lengths, [280, 0, 372])
    assert [text.get_text() for text in ax.texts] == ["exact", "block-tridiagonal", "no curvature (stores 0)"]
    assert ax.figure.get_suptitle() == (
        "Best model of held-out gradients: block-tridiagonal, 10,495 numbers, 4,394 nats;\n"
        "exact, 5,280,804 numbers: 2,903 nats"
    )
    with pytest.raises(ValueError, match="expected nats in every row, got one with approximation"):
        plots.likelihood_against_storage([{key: row for key, row in rows[0].items() if key != "nats"}])


def test_rows_that_lack_a_column_are_refused():
    with pytest.raises(ValueError, match="expected floats, share in every row, got one with approximation"):
        plots.progress_against_storage([{"approximation": "K-FAC", "step_cosine": 1.0}], 10)


def test_methods_look_alike_everywhere_and_differ_from_each_other():
    names = ["exact", "K-FAC", "EKFAC", "block-diagonal", "diagonal", "no curvature", "low rank"]
    alone = {name: pens([name])[name] for name in names}
    assert pens(names) == alone
    assert len({look["color"] for look in alone.values()}) == len(names)
    assert alone["K-FAC"]["linewidth"] > 3 and alone["K-FAC"]["linestyle"] == "-"
    assert len({METHODS[name][2] for name in names}) == len(names)  # in grey, markers differ


def test_other_names_take_other_colours():
    looks = pens(["K-FAC", "mine", "yours"])
    assert len({look["color"] for look in looks.values()}) == 3


def test_curves_along_training_and_the_title():
    steps, errors = [0, 10, 100], {"K-FAC": [0.8, 0.6, 0.7], "block-tridiagonal": [0.5, 0.6, 2.0]}
    axes = plots.approximations_along_training(steps, errors, {"K-FAC": [0.9, 0.4, 0.93]}, now=10)
    assert list(axes[0].lines[0].get_ydata()) == errors["K-FAC"]
    title = axes[0].figure.get_suptitle()
    assert title == "K-FAC's step: cosine 0.90 at first, 0.40 at the least, 0.93 at last"
    assert [text.get_text() for text in axes[0].texts] == ["block-tridiagonal ↑ 2.00", "K-FAC"]
    assert axes[0].get_ylim()[1] < 2.0
    with pytest.raises(ValueError, match=r"expected errors of a of shape \(3,\), got \(2,\)"):
        plots.approximations_along_training(steps, {"a": [1, 2]}, {"a": [1, 2, 3]})


def test_steps_are_pictures_with_their_cosines():
    first = np.arange(12.0).reshape(3, 2, 2) - 5
    axes = plots.steps_as_pictures({"natural gradient": first, "K-FAC": -2 * first}, units=2)
    assert len(axes) == 4
    np.testing.assert_array_equal(axes[3].images[0].get_array(), -2 * first[1])
    assert axes[0].images[0].get_clim() == axes[1].images[0].get_clim() == (-5, 5)
    title = "Steps of the first layer; cosine with the natural gradient: K-FAC -1.00"
    assert axes[0].figure.get_suptitle() == title
    with pytest.raises(ValueError, match=r"expected steps of b of shape \(3, 2, 2\), got \(3, 4\)"):
        plots.steps_as_pictures({"a": first, "b": first.reshape(3, 4)})


def test_variants_of_a_method_have_its_colour_and_a_dash_of_their_own():
    for names in (("SGD", "SGD, constant rate", "SGD, warm-up"), ("sgd", "sgd-constant-rate", "sgd-warm-up")):
        looks = pens(names, marked=True).values()
        assert {look["color"] for look in looks} == {METHODS["SGD"][0]}
        assert len({look["linestyle"] for look in looks}) == len({look["marker"] for look in looks}) == 3
    assert pens(["k-fac-tridiagonal"])["k-fac-tridiagonal"]["color"] == METHODS["K-FAC tridiagonal"][0]
    assert pens(["exact blocks"])["exact blocks"]["color"] != METHODS["exact"][0]
