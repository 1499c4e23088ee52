"""Pictures of races: they show every contender where it is, and what is not reached as such."""

from collections.abc import Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import plots
from minikfac.races import Race
from minikfac.training import History

SLOW = [{"step": k, "seconds": 0.5 * k, "examples": 10 * k, "loss": 16 * 0.5**k} for k in range(5)]
FAST = [{"step": k, "seconds": 0.6 * k, "examples": 10 * k, "loss": 16 * 0.2**k} for k in range(5)]
RACE = Race({"slow": [History(SLOW)], "fast": [History(FAST)]})


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def drawn(ax: Any) -> list[np.ndarray]:
    return [line.get_xydata() for line in ax.lines]


def test_a_race_is_drawn_by_seconds_steps_and_examples():
    panels = plots.race(RACE.records)
    assert [ax.get_xlabel() for ax in panels] == ["time (s)", "step", "examples seen"]
    for ax, column in zip(panels, ("seconds", "step", "examples"), strict=True):
        for line, rows in zip(ax.lines, (SLOW, FAST), strict=True):
            assert np.array_equal(line.get_xdata(), [row[column] for row in rows[1:]])  # no 0 on a log axis
            assert np.array_equal(line.get_ydata(), [row["loss"] for row in rows[1:]])
    assert [ax.get_xscale() for ax in panels] == ["log", "log", "log"]
    assert panels[0].get_yscale() == "log"
    figure = panels[0].figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["slow", "fast"]
    stated, what = figure.get_suptitle().split("\n")
    assert stated.startswith("fast reaches the lowest of slow, 1, in") and what == "Training loss"
    assert tuple(figure.get_size_inches() * figure.dpi) == (1280, 640)


def test_errors_of_a_race_are_drawn_in_per_cent():
    rows = [row | {"test_error": 0.25} for row in SLOW]
    panels = plots.race({"a": rows}, "test_error")
    assert set(panels[0].lines[0].get_ydata()) == {25.0}
    assert panels[0].get_yscale() == "linear"


def test_a_run_that_ended_at_once_is_skipped():
    panels = plots.race({"diverged": FAST[:1], "slow": SLOW})
    assert [len(line.get_xdata()) for line in panels[1].lines] == [0, 4]
    assert panels[1].lines[1].get_color() == panels[0].lines[1].get_color() == plots.COLORS[1]
    assert panels[0].figure.get_suptitle().startswith("diverged: ")


def test_the_title_of_a_race_is_how_much_sooner_the_baselines_lowest_was_reached():
    base, other = powers(16, [1, 2, 4, 8, 16]), powers(4, [1, 2, 4, 8])  # at 1 in 16 steps and in 4
    title = plots.race({"a": base, "b": other, "c": powers(99, [1])}, title="a problem")[
        0
    ].figure.get_suptitle()
    assert title == "b reaches the lowest of a, 1, in 4 times fewer steps, 4 times fewer seconds\na problem"
    title = plots.race({"b": other, "a": powers(16, [1, 2])})[0].figure.get_suptitle()
    assert title == "b: 0.5 at the least, which no other reaches\nTraining loss"
    shares = [[{**row, "test_error": row["loss"] / 16} for row in rows] for rows in (base, other)]
    title = plots.race({"a": shares[0], "b": shares[1]}, "test_error")[0].figure.get_suptitle()
    assert title.startswith("b reaches the lowest of a, 6.25%, in 4 times fewer steps")


def powers(factor: float, steps: list[int], exponent: float = -1.0) -> list[dict[str, float]]:
    """A loss of factor step^exponent: a line on log axes."""
    return [
        {
            "step": k,
            "seconds": 2.0 * k,
            "examples": 10 * k,
            "loss": factor * float(k) ** exponent if k else 99.0,
        }
        for k in (0, *steps)
    ]


def test_several_seeds_are_thin_lines_below_their_median():
    runs = [powers(8, [1, 2, 4, 8, 16]), powers(2, [1, 3, 9, 16]), powers(3, [1, 16])]
    panels = plots.race({"many": runs, "one": [powers(50, [1, 16])]})
    for ax, unit in zip(panels, (2, 1, 10), strict=True):
        *thin, median, other = ax.lines
        assert len(thin) == 3 and len({line.get_color() for line in (*thin, median)}) == 1
        for line, rows in zip(thin, runs, strict=True):
            assert np.array_equal(line.get_ydata(), [row["loss"] for row in rows[1:]])
            assert line.get_linewidth() < median.get_linewidth() and line.get_alpha() < 1
        # lines on log axes stay lines between the points, and so does their median: 3 / step
        x, y = median.get_xdata() / unit, median.get_ydata()
        assert (x[0], x[-1]) == pytest.approx((1, 16)) and len(x) > 100
        assert y == pytest.approx(3 / x)
        assert np.diff(np.log(x)) == pytest.approx(np.log(16) / (len(x) - 1))
        assert other.get_color() == plots.COLORS[1] and len(other.get_xdata()) == 2
    (legend,) = panels[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["many", "one"]
    assert legend.get_title().get_text() == "thick: median, thin: each of 3 seeds"


def test_the_median_of_shares_is_linear_between_points():
    def shares(*values: float) -> list[dict[str, float]]:
        return [row | {"test_error": value} for row, value in zip(powers(1, [1, 4, 16]), values, strict=True)]

    runs = [shares(1, 0.4, 0.2, 0.0), shares(1, 0.6, 0.4, 0.2)]
    *_, median = plots.race({"a": runs}, "test_error")[1].lines
    x, y = median.get_xdata(), median.get_ydata()
    assert y == pytest.approx(50 - 20 * np.log(x) / np.log(4))


@pytest.mark.parametrize(
    ("ends", "end"), [((16, 4, 16), 16), ((4, 4, 16), 4), ((16, 4), 4), ((9, 4, 16, 1), 4)]
)
def test_the_median_ends_with_half_of_the_runs(ends: tuple[int, ...], end: int):
    runs = [powers(k, list(range(1, last + 1))) for k, last in enumerate(ends, 1)]
    *thin, median = plots.race({"a": runs})[1].lines
    assert len(thin) == len(ends) and median.get_xdata()[-1] == pytest.approx(end)
    # one that ended before stays where it was
    last = [run[min(end, last_step)]["loss"] for run, last_step in zip(runs, ends, strict=True)]
    assert median.get_ydata()[-1] == pytest.approx(np.median(last))


def test_a_seed_that_ended_at_once_leaves_the_others():
    one = powers(8, [1, 16])
    *_, median = plots.race({"a": [powers(2, []), one]})[1].lines
    assert len(plots.race({"a": [powers(2, []), one]})[1].lines) == 1
    assert np.array_equal(median.get_ydata(), [8, 0.5])
    runs = [[row | {"lam": 1.0} if row["step"] else row for row in rows] for rows in (powers(2, []), one)]
    assert len(plots.race({"a": runs}, "lam")[1].lines) == 1


def test_the_best_of_iterate_and_average_is_named():
    rows = [row | {"loss_average": 0.25 * row["loss"] + 1, "test_error": 0.5} for row in SLOW]
    panels = plots.race(Race({"a": [History(rows)]}).records, "best_loss")
    assert np.array_equal(panels[1].lines[0].get_ydata(), [3, 2, 1.5, 1])  # 8, 4, 2, 1 and 3, 2, 1.5, 1.25
    assert panels[0].get_ylabel() == "best training loss (nats per example)"
    assert panels[0].get_yscale() == "log" and panels[0].figure.get_suptitle().endswith(
        "\nBest training loss"
    )
    shares = plots.race(Race({"a": [History(rows)]}).records, "best_test_error")
    assert set(shares[0].lines[0].get_ydata()) == {50.0} and shares[0].get_yscale() == "linear"


def test_a_race_needs_a_step():
    start = [{"step": 0, "seconds": 0.0, "examples": 0, "loss": 2.0}]
    with pytest.raises(ValueError, match="expected loss measured after a step, got it at the start only"):
        plots.race({"SGD": start})


def test_a_race_needs_runs_with_the_column():
    with pytest.raises(ValueError, match="expected at least one run, got none"):
        plots.race({})
    with pytest.raises(ValueError, match="expected records of slow with accuracy, got none"):
        plots.race({"slow": SLOW}, "accuracy")
