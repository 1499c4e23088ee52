"""Pictures of races: they show every contender where it is, and what is not reached as such."""

from collections.abc import Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import plots
from minikfac.experiments import History, Race

SLOW = [{"step": k, "seconds": 0.5 * k, "examples": 10 * k, "loss": 16 * 0.5**k} for k in range(5)]
FAST = [{"step": k, "seconds": 0.6 * k, "examples": 10 * k, "loss": 16 * 0.2**k} for k in range(5)]
RACE = Race({"slow": History(SLOW), "fast": History(FAST)})


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def drawn(ax: Any) -> list[np.ndarray]:
    return [line.get_xydata() for line in ax.lines]


def test_a_race_is_drawn_by_seconds_steps_and_examples() -> None:
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
    assert figure.get_suptitle() == "Training loss"
    assert tuple(figure.get_size_inches() * figure.dpi) == (1280, 640)


def test_errors_of_a_race_are_drawn_in_per_cent() -> None:
    rows = [row | {"test_error": 0.25} for row in SLOW]
    panels = plots.race({"a": rows}, "test_error")
    assert set(panels[0].lines[0].get_ydata()) == {25.0}
    assert panels[0].get_yscale() == "linear"


def test_a_run_that_ended_at_once_does_not_end_the_picture() -> None:
    panels = plots.race({"diverged": FAST[:1], "slow": SLOW})
    assert [len(line.get_xdata()) for line in panels[1].lines] == [0, 4]
    assert panels[1].lines[1].get_color() == panels[0].lines[1].get_color() == plots.COLORS[1]


def test_a_race_needs_runs_with_the_column() -> None:
    with pytest.raises(ValueError, match="expected at least one run, got none"):
        plots.race({})
    with pytest.raises(ValueError, match="expected records of slow with accuracy, got none"):
        plots.race({"slow": SLOW}, "accuracy")


def test_targets_are_drawn_where_they_were_reached() -> None:
    rows = RACE.targets(levels=[8, 0.5])
    panels = plots.race_targets(rows)
    assert [ax.get_xlabel() for ax in panels] == ["seconds to reach the level", "steps to reach the level"]
    for ax, along in zip(panels, ("seconds", "step"), strict=True):
        expected = {row["at"] for row in rows if row["along"] == along and np.isfinite(row["at"])}
        points = [line for line in ax.lines if line.get_marker() != "None" and len(line.get_xdata())]
        found = {line.get_xdata()[0] for line in points}
        assert found == expected and len(expected) == 3  # the slow one ended at 1
        texts = [text.get_text() for text in ax.texts]
        own = [row for row in rows if row["along"] == along and row["contender"] == "fast"]
        assert texts[0] == f"{float(format(own[0]['ratio'], '.2g')):g}x"
        assert texts[1] == "not reached" and texts[2].startswith("> ")
    assert [tick.get_text() for tick in panels[0].get_yticklabels()] == ["8", "0.5"]
    low, high = panels[0].get_ylim()
    assert low > high  # the first level, reached first, is above


def test_examples_are_drawn_where_they_say_something_of_their_own() -> None:
    other = Race(
        {"slow": History(SLOW), "fast": History([row | {"examples": 30 * row["step"]} for row in FAST])}
    )
    assert len(plots.race_targets(other.targets(levels=[8]))) == 3
    assert len(plots.race_targets(RACE.targets(levels=[8]))) == 2
    assert len(plots.race_targets(RACE.targets(levels=[8], along=["examples"]))) == 1
    with pytest.raises(ValueError, match="expected at least one row of a race's targets, got none"):
        plots.race_targets([])
