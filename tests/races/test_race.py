"""Races and tuning: when a level is reached, equal terms for all, and what a search may claim."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import optim
from minikfac.optim import schedules
from minikfac.races import search
from minikfac.races.contenders import CONTENDERS, Contender, argument, argument_range, contender
from minikfac.races.problems import Problem
from minikfac.races.race import MEASURES, Race, column_of, file_name, race, reached
from minikfac.races.search import Built, Choice, LogUniform, Search, random_search
from minikfac.training import loop as training
from minikfac.training import records
from minikfac.training.records import History, PerOctave
from oracles.resumable import problem


def history(losses: list[float], seconds: float = 1.0, examples: int = 8) -> History:
    """Measured once a step, each of which takes so many seconds and examples."""
    return History(
        [
            {"step": k, "seconds": k * seconds, "examples": k * examples, "loss": loss}
            for k, loss in enumerate(losses)
        ]
    )


# reaching a level -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "at"), [(11, 0), (10, 0), (8, 0.5), (6, 1), (5, 2.25), (4, 2.5), (2, 3), (1, math.nan)]
)
def test_a_level_is_reached_where_the_lowest_so_far_is_under_it(level: float, at: float) -> None:
    run = history([10, 6, 8, 2, 9], seconds=3.0)  # lowest so far: 10, 6, 6, 2, 2
    for column, unit in (("step", 1), ("seconds", 3.0), ("examples", 8)):
        assert reached(run, "loss", level, column) == pytest.approx(at * unit, nan_ok=True)


def test_reaching_is_monotone_in_the_level_whatever_the_curve() -> None:
    run = history(list(np.exp(np.random.default_rng(0).standard_normal(50))))
    levels = np.linspace(run["loss"].min(), run["loss"][0], 40)
    times = [reached(run, "loss", level) for level in levels]
    assert np.isfinite(times).all() and (np.diff(times) <= 0).all()
    assert times[-1] == 0


def test_a_column_that_is_not_always_measured_is_passed_over() -> None:
    run = history([5, 4, 3])
    run.records[0]["rare"], run.records[2]["rare"] = 5.0, 1.0
    assert reached(run, "rare", 3.0, "step") == 1.5 + 0.5 * 0  # the lowest so far is 5 at steps 0 and 1
    late = history([5, 4, 3])
    late.records[2]["rare"] = 1.0
    assert reached(late, "rare", 3.0, "step") == 2


def test_ratios_are_those_of_the_baseline_to_each() -> None:
    race = Race({"slow": [history([16, 8, 4, 2])], "fast": [history([16, 2, 1], seconds=2.0, examples=4)]})
    rows = race.targets(levels=[8, 2, 1])
    targets = {(row["contender"], row["level"], row["along"]): row for row in rows}
    assert len(targets) == len(rows) == 2 * 3 * 3
    assert targets["fast", 2, "step"]["ratio"] == pytest.approx(3)
    assert targets["fast", 2, "seconds"]["ratio"] == pytest.approx(1.5)
    assert targets["fast", 2, "examples"]["ratio"] == pytest.approx(6)
    assert targets["fast", 8, "step"]["at"] == pytest.approx(8 / 14)
    assert all(
        targets["slow", level, along]["ratio"] == 1 for level in (8, 2) for along in ("step", "seconds")
    )
    assert not any(row["bound"] for row in rows if row["level"] > 1)
    # the slow one never got to 1: the ratio is at least that of the end of its run
    assert math.isnan(targets["slow", 1, "step"]["at"]) and not targets["slow", 1, "step"]["bound"]
    assert targets["fast", 1, "step"]["ratio"] == 3 / 2 and targets["fast", 1, "step"]["bound"]


def test_levels_are_what_the_baseline_reached_on_its_way() -> None:
    race = Race({"a": [history([64, 32, 40, 16, 15, 8, 8, 4.0004, 9])], "b": [history([1, 1])]})
    assert race.levels() == [32, 15, 4.01]  # after 1, 2 (the lowest so far), 4 and 8 steps
    assert all(math.isfinite(row["at"]) for row in race.targets() if row["contender"] == "a")
    assert Race({"a": [history([0.5, 0.0])]}).levels(shares=[1]) == [0]


def test_tables_say_when_and_how_many_times_sooner() -> None:
    race = Race({"slow": [history([16, 8, 4, 2])], "fast": [history([16, 2, 1], seconds=0.5)]})
    header, cells = race.table(levels=[2, 1, 0.5])
    assert header == ["optimizer", "2", "1", "0.5"]
    assert cells == [["slow", "3 (1x)", "-", "-"], ["fast", "0.5 (6x)", "1 (> 3x)", "-"]]
    long = Race({"a": [history([16, 8], seconds=2468.0)]})
    assert long.table(levels=[12, 8])[1] == [["a", "1,234 (1x)", "2,468 (1x)"]]
    header, cells = race.summary()
    assert header == ["optimizer", "steps", "seconds", "ms a step", "examples", "loss"]
    assert cells[1] == ["fast", "2", "1.0", "500", "16", "1"]


def test_targets_are_written_as_rows(tmp_path: Path) -> None:
    race = Race({"slow": [history([16, 8, 4, 2])], "fast": [history([16, 2, 1]), history([16, 2.5])]})
    race.write_targets(tmp_path / "targets.csv", levels=[8, 2, 1])
    with open(tmp_path / "targets.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = race.targets(levels=[8, 2, 1])
    assert len(rows) == len(expected) and list(rows[0]) == list(expected[0])
    for row, target in zip(rows, expected, strict=True):
        for column in ("at", "lowest", "highest", "ratio"):
            assert float(row[column]) == pytest.approx(target[column], rel=0, nan_ok=True)
        assert (row["contender"], row["along"]) == (target["contender"], target["along"])
        assert (int(row["reached"]), int(row["runs"])) == (target["reached"], target["runs"])
        assert row["bound"] == str(target["bound"])


# several seeds --------------------------------------------------------------------------------------------


def reaching(*steps: int, end: int = 8) -> list[History]:
    """Runs of a step a second that end after ``end`` and go from 10 to 1 in the given ones; 0 is never."""
    return [history([10.0] * (at or end + 1) + [1.0] * (end + 1 - (at or end + 1))) for at in steps]


def row_of(race: Race, name: str, level: float = 1.0, along: str = "step", column: str = "loss") -> Any:
    (row,) = [row for row in race.targets(column, [level], [along]) if row["contender"] == name]
    return row


@pytest.mark.parametrize(
    ("steps", "median", "lowest", "highest"),
    [
        ((4,), 4, 4, 4),
        ((7, 2, 3), 3, 2, 7),
        ((7, 2, 3, 4), 3.5, 2, 7),
        ((7, 0, 3), 7, 3, math.nan),  # the one that never got there is the latest
        ((0, 0, 3), math.nan, 3, math.nan),
        ((0, 3), math.nan, 3, math.nan),  # half of them is not enough: the other may be as late as it likes
        ((2, 6, 0, 4, 8), 6, 2, math.nan),
        ((0, 0), math.nan, math.nan, math.nan),
    ],
)
def test_a_level_is_reached_by_the_median_of_the_seeds(
    steps: tuple[int, ...], median: float, lowest: float, highest: float
) -> None:
    row = row_of(Race({"a": reaching(*steps)}), "a")
    order = [row["at"], row["lowest"], row["highest"]]
    assert order == pytest.approx([median, lowest, highest], rel=0, nan_ok=True)
    assert row["runs"] == len(steps) and row["reached"] == sum(at > 0 for at in steps)
    assert row["ratio"] == pytest.approx(1 if median > 0 else math.nan, nan_ok=True) and not row["bound"]


def test_ratios_are_those_of_the_medians_in_both_directions() -> None:
    slow, fast = reaching(8, 6, 2), reaching(3, 1, 8)
    assert row_of(Race({"slow": slow, "fast": fast}), "fast")["ratio"] == 6 / 3
    assert row_of(Race({"fast": fast, "slow": slow}), "slow")["ratio"] == 3 / 6
    # not the median of the ratios seed by seed, which would be 6
    assert row_of(Race({"slow": slow, "same": slow[::-1]}), "same")["ratio"] == 1


def test_where_the_baseline_did_not_get_there_the_ratio_is_a_bound() -> None:
    base = [*reaching(4, 0, end=8), *reaching(0, end=6)]
    race = Race(
        {"base": base, "fast": reaching(2, 2, 0), "slow": reaching(7, 8, 8), "never": reaching(0, 0, 5)}
    )
    rows = {name: row_of(race, name) for name in race.histories}
    # at least (4, 8, 6) steps, in the median 6
    assert [rows[name]["ratio"] for name in ("fast", "slow")] == [6 / 2, 6 / 8]
    assert rows["fast"]["bound"] and rows["slow"]["bound"]
    for name in ("base", "never"):
        assert math.isnan(rows[name]["ratio"]) and not rows[name]["bound"]
    # one more that gets there, and the median is a number, however early the third ended
    race.histories["base"] = [*reaching(4, 5, end=8), *reaching(0, end=3)]
    assert row_of(race, "fast")["ratio"] == 5 / 2 and not row_of(race, "fast")["bound"]
    assert row_of(race, "base")["ratio"] == 1


def test_levels_are_what_more_than_half_of_the_baselines_runs_reached() -> None:
    ends = [history([64, end]) for end in (8.0, 2.0, 4.0)]
    assert Race({"a": ends}).levels(shares=[1]) == [4]
    assert Race({"a": ends[:2]}).levels(shares=[1]) == [8]
    for runs in (ends, ends[:2], ends[:1]):
        race = Race({"a": runs})
        assert all(math.isfinite(row["at"]) for row in race.targets())
    # shares are of each run's own time
    assert Race({"a": [history([64, 16]), history([64, 16], seconds=9.0)]}).levels(shares=[0.5]) == [40]


def test_tables_of_several_seeds_hold_medians_and_ranges() -> None:
    race = Race(
        {"slow": reaching(8, 6, 7), "fast": reaching(3, 2, 0), "once": reaching(7), "never": reaching(0, 8)}
    )
    assert race.table(along="step", levels=[1.0])[1] == [
        ["slow", "7 (6 to 8; 1x)"],
        ["fast", "3 (2 to -; 2 of 3; 2.3x)"],
        ["once", "7 (1x)"],
        ["never", "- (8 to -; 1 of 2)"],
    ]
    several = Race({"a": [history([1, 0.1 * k], seconds=2.0 * k, examples=1000 * k) for k in (3, 1, 2)]})
    seconds, ms, examples = "4.0 (2.0 to 6.0)", "4,000 (2,000 to 6,000)", "2,000 (1,000 to 3,000)"
    assert several.summary()[1] == [["a", "1", seconds, ms, examples, "0.2 (0.1 to 0.3)"]]
    hundreds = Race({"slow": reaching(400, end=400), "fast": reaching(3)})
    assert hundreds.table(along="step", levels=[1.0])[1][1] == ["fast", "3 (130x)"]


def test_a_race_holds_lists_of_histories() -> None:
    with pytest.raises(ValueError, match="expected a list of histories of a, one a seed, got one alone"):
        Race({"a": history([2, 1])})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="expected a list of histories of b, one a seed, got none"):
        Race({"a": [history([2, 1])], "b": []})


# the iterate and the average ------------------------------------------------------------------------------


def averaged(column: str = "loss") -> History:
    run = History([])
    for step, (iterate, average) in enumerate([(9.0, 9.0), (8.0, 5.0), (1.0, 4.0), (3.0, 2.0)]):
        row = {"step": step, "seconds": 1.0 * step, "examples": step, "loss": 7.0}
        run.records.append(row | {column: iterate, f"{column}_average": average})
    return run


@pytest.mark.parametrize("column", MEASURES)
def test_the_best_is_the_lower_of_the_iterate_and_the_average(column: str) -> None:
    run = averaged(column)
    assert list(column_of(run, f"best_{column}")) == [9, 5, 1, 2]
    assert list(column_of(run, column)) == [9, 8, 1, 3]
    assert reached(run, f"best_{column}", 5, "step") == 1
    assert reached(run, column, 5, "step") == 1 + 3 / 7
    assert reached(run, f"{column}_average", 5, "step") == 1
    assert reached(run, f"best_{column}", 1, "step") == 2 and math.isnan(reached(run, f"{column}_average", 1))
    assert [row[f"best_{column}"] for row in Race({"a": [run]}).records["a"][0]] == [9, 5, 1, 2]


def test_where_nothing_is_averaged_the_iterate_is_the_best() -> None:
    plain, run = history([9, 6, 3, 3]), averaged()
    del run.records[1]["loss_average"]
    assert list(column_of(plain, "best_loss")) == [9, 6, 3, 3]
    assert list(column_of(run, "best_loss")) == [9, 8, 1, 2]
    race = Race({"plain": [plain], "averaged": [averaged()]})
    assert row_of(race, "averaged", 3, column="best_loss")["ratio"] == 2 / 1.5
    assert race.summary("best_loss")[0][-2:] == ["loss", "best loss"]
    assert [row[-1] for row in race.summary("best_loss")[1]] == ["3", "2"]
    assert race.summary("loss")[0] == race.summary()[0] and race.summary()[0][-1] == "loss"


def test_a_column_that_was_not_measured_is_named() -> None:
    for column in ("accuracy", "best_accuracy"):
        with pytest.raises(KeyError, match=r"expected a column among step, .*, got 'accuracy'"):
            reached(history([2, 1]), column, 1.0)


@pytest.mark.parametrize("count", [1, 4, 16])
def test_measurements_keep_their_relative_distance(count: int) -> None:
    steps = [step for step in range(5000) if PerOctave(count)(step)]
    assert steps[: 2 * count] == list(range(2 * count))
    gaps = np.diff(steps)
    assert (gaps <= np.maximum(np.array(steps[:-1]) / count, 1)).all()
    assert (gaps[2 * count :] >= np.array(steps[2 * count : -1]) / (2 * count)).all()


# races ----------------------------------------------------------------------------------------------------


class Watched(optim.SGD):
    """Notes what it is given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seen", [])

    def step(self, theta: Any, state: Any, batch: Any, rng: Any = None) -> Any:
        self.seen.append((theta.copy(), batch[0].copy(), float(rng.random())))  # type: ignore[attr-defined]
        return super().step(theta, state, batch, rng)


def test_all_start_alike_and_see_the_same_data_and_targets(tmp_path: Path) -> None:
    net, theta, data = problem()
    contenders = {name: Watched(net, lr) for name, lr in (("a", 0.1), ("b", 0.3))}
    outcome = race(net, theta, contenders, data, 7, batch_size=12, seed=3, progress=False)
    first, second = (opt.seen for opt in contenders.values())  # type: ignore[attr-defined]
    assert len(first) == len(second) == 8  # one is thrown away
    for (_, x_a, draw_a), (_, x_b, draw_b) in zip(first, second, strict=True):
        assert np.array_equal(x_a, x_b) and draw_a == draw_b
    assert np.array_equal(first[1][0], theta) and np.array_equal(second[1][0], theta)
    expected = training.train(net, theta, optim.SGD(net, 0.3), data, 7, 12, 3, progress=False)
    assert np.array_equal(outcome.histories["b"][0].theta, expected.theta)
    assert outcome.baseline == "a" and not outcome.failures


def test_a_race_is_kept_and_resumed(tmp_path: Path) -> None:
    net, theta, data = problem()
    contenders = {"SGD": optim.SGD(net, 0.1), "K-FAC, damped": optim.KFAC(net)}

    def go(steps: int, existing: str) -> Race:
        return race(
            net,
            theta,
            contenders,
            data,
            steps,
            folder=tmp_path,
            batch_size=12,
            existing=existing,
            progress=False,
        )

    go(5, "replace")
    outcome = go(9, "resume")
    whole = race(net, theta, contenders, data, 9, batch_size=12, progress=False)
    for name, file in (("SGD", "sgd"), ("K-FAC, damped", "k-fac-damped")):
        assert outcome.histories[name][0].theta.tobytes() == whole.histories[name][0].theta.tobytes()
        assert records.read(tmp_path / f"{file}.jsonl").records == outcome.histories[name][0].records
    with pytest.raises(FileExistsError, match="expected no checkpoint"):
        go(9, "refuse")
    assert [row["step"] for row in go(9, "replace").histories["SGD"][0].records] == list(range(10))


def test_each_seed_has_its_own_start_order_and_files(tmp_path: Path) -> None:
    net, _, data = problem()
    contenders = {"SGD": optim.SGD(net, 0.1), "K-FAC": optim.KFAC(net)}

    def start(seed: int) -> np.ndarray:
        return net.init(np.random.default_rng(seed))

    def go(steps: int, existing: str, folder: Path | None = tmp_path) -> Race:
        options: dict[str, Any] = {"batch_size": 12, "seed": 4, "existing": existing, "progress": False}
        return race(net, start, contenders, data, steps, folder=folder, seeds=3, **options)

    go(5, "replace")
    outcome = go(9, "resume")
    files = {
        f"{name}-{seed}.{kind}"
        for name in ("sgd", "k-fac")
        for seed in (4, 5, 6)
        for kind in ("jsonl", "npz")
    }
    assert {path.name for path in tmp_path.iterdir()} == files
    for name, file in (("SGD", "sgd"), ("K-FAC", "k-fac")):
        assert len(outcome.histories[name]) == 3
        for seed, run in zip((4, 5, 6), outcome.histories[name], strict=True):
            alone = training.train(net, start(seed), contenders[name], data, 9, 12, seed, progress=False)
            assert run.theta.tobytes() == alone.theta.tobytes()
            kept = records.read(tmp_path / f"{file}-{seed}.jsonl")
            assert kept.about["seed"] == seed and kept.records == run.records
    assert len({run.records[0]["loss"] for run in outcome.histories["SGD"]}) == 3
    with pytest.raises(ValueError, match="expected seeds to be a whole number >= 1, got 0"):
        race(net, start, contenders, data, 5, seeds=0)
    with pytest.raises(ValueError, match="expected existing='resume' only with a folder of runs, got none"):
        race(net, start, contenders, data, 5, existing="resume")
    for setting, value in (("batch_size", 8), ("averaging", 50.0)):
        with pytest.raises(ValueError, match=f"expected {setting} for .*, got it for Adam"):
            race(net, start, contenders, data, 5, **{setting: {"Adam": value}})


def test_all_race_from_one_seed_before_the_next() -> None:
    net, theta, data = problem()
    order: list[tuple[str, float]] = []

    class Named(optim.SGD):
        def init(self, theta: Any) -> Any:
            order.append((f"{self.lr}", float(theta[0])))
            return super().init(theta)

    contenders = {"a": Named(net, 0.1), "b": Named(net, 0.3)}
    race(net, lambda seed: theta + seed, contenders, data, 1, batch_size=12, progress=False, seeds=2)
    expected = [(lr, float(theta[0] + seed)) for seed in (0, 0, 1) for lr in ("0.1", "0.3")]
    assert order == expected  # the first of them is thrown away
    same = race(net, theta, contenders, data, 1, batch_size=12, progress=False, seeds=2).histories["a"]
    assert (
        same[0].records[0]["loss"] == same[1].records[0]["loss"] and same[0]["loss"][1] != same[1]["loss"][1]
    )


class Ends(optim.SGD):
    """Diverges in the step after seven, if its weights began with a first one above 0."""

    def init(self, theta: Any) -> Any:
        return super().init(theta) | {"ends": bool(theta[0] > 0)}

    def step(self, theta: Any, state: Any, batch: Any, rng: Any = None) -> Any:
        moved, after, info = super().step(theta, state, batch, rng)
        ends = state["ends"] and state["step"] == 7
        return moved, after | {"ends": state["ends"]}, {"loss": math.nan} if ends else info


def test_seeds_that_diverge_are_named_and_stay_out_when_resumed(tmp_path: Path) -> None:
    net, theta, data = problem()

    def go(steps: int, existing: str) -> Race:
        options: dict[str, Any] = {"batch_size": 12, "progress": False, "per_octave": 1, "seeds": 3}
        opts = {"a": Ends(net, 0.1), "b": optim.SGD(net, 0.1)}
        start = [theta - 9, theta + 9, theta - 9].__getitem__
        return race(net, start, opts, data, steps, folder=tmp_path, existing=existing, **options)

    assert not go(5, "replace").failures
    outcome = go(9, "resume")  # measured before steps 8 and 9 alone, which the second never sees
    assert {name: list(seeds) for name, seeds in outcome.failures.items()} == {"a": [1]}
    assert "in step 7" in outcome.failures["a"][1]
    assert [list(run["step"]) for run in outcome.histories["a"]] == [
        [0, 1, 2, 4, 5, 8, 9],
        [0, 1, 2, 4, 5],
    ] + [[0, 1, 2, 4, 5, 8, 9]]
    assert all(run["step"][-1] == 9 for run in outcome.histories["b"])


def test_one_that_diverges_is_out_and_the_others_go_on() -> None:
    _, _, data = problem()
    net = mk.mlp([4, 5, 3], "relu", "gaussian")
    data = mk.datasets.Dataset(data.x_train, data.x_train[:, :3], data.x_test, data.x_test[:, :3], "linear")
    theta = net.init(np.random.default_rng(0))
    contenders = {"wild": optim.SGD(net, 1e6), "tame": optim.SGD(net, 0.01)}
    with np.errstate(all="ignore"):
        outcome = race(net, theta, contenders, data, 30, batch_size=12, progress=False)
    assert "expected a finite loss" in outcome.failures["wild"][0] and "tame" not in outcome.failures
    assert outcome.histories["tame"][0]["step"][-1] == 30
    assert 0 < len(outcome.records["wild"][0]) < 30
    assert outcome.summary()[1][0][0] == "wild"


def test_batches_may_differ_by_name_and_a_race_may_end_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta, data = problem()
    contenders = {"a": optim.SGD(net, 0.1), "b": optim.SGD(net, 0.1)}
    ticks = iter(np.arange(0.0, 1e4, 0.5))
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(ticks))
    outcome = race(
        net, theta, contenders, data, seconds=4.0, batch_size={"a": 10, "b": 20}, progress=False, per_octave=1
    )
    assert [h.records[-1]["examples"] for (h,) in outcome.histories.values()] == [80, 160]
    assert [h.records[-1]["seconds"] for (h,) in outcome.histories.values()] == [4, 4]


def test_a_race_needs_contenders_and_an_end() -> None:
    net, theta, data = problem()
    with pytest.raises(ValueError, match="expected at least one contender, got none"):
        race(net, theta, {}, data, 5)
    with pytest.raises(ValueError, match="expected steps or max_seconds, got neither"):
        race(net, theta, {"a": optim.SGD(net, 0.1)}, data, batch_size=12, progress=False)


def test_contenders_have_files_of_their_own() -> None:
    assert [file_name(name) for name in ("SGD", "K-FAC (lam=0.1)", "µ", "")] == [
        "sgd",
        "k-fac-lam-0.1",
        "run",
        "run",
    ]
    net, theta, data = problem()
    with pytest.raises(ValueError, match=r"expected names .* got 'a b' and 'a-b'"):
        race(net, theta, {"a b": optim.SGD(net, 0.1), "a-b": optim.SGD(net, 0.1)}, data, 5, folder="x")


# tuning ---------------------------------------------------------------------------------------------------


def points() -> Problem:
    net, _, data = problem()
    return Problem("points", net, data, "glorot", 10)


def tune(space: Any, budget: float = 30.0, **options: Any) -> Search:
    """Search with a clock that moves by half a second with each look at it, so eight steps a trial."""
    ticks = iter(np.arange(0.0, 1e6, 0.5))
    make, clock = options.pop("make", optim.SGD), lambda: next(ticks)
    return random_search(points(), make, space, budget, 4.0, progress=False, clock=clock, **options)


LR = {"lr": LogUniform(1e-4, 1.0), "momentum": Choice((0.0, 0.9))}


def test_a_search_spends_its_budget_and_keeps_the_best() -> None:
    search = tune(LR, seeds=0)
    assert [trial["seconds"] for trial in search.trials] == [4.0] * 8  # the last began at 28 of 30
    assert search.seconds == 32 and not search.finals
    best = min(search.trials, key=lambda trial: trial["score"])
    assert search.scores == [best["score"]]
    assert best["arguments"] == search.best
    assert len({trial["arguments"]["lr"] for trial in search.trials}) == 8
    # any trial can be made again from its arguments
    trial, task = search.trials[3], points()
    again = training.train(
        task.net,
        task.theta(),
        optim.SGD(task.net, **trial["arguments"]),
        task.dataset,
        trial["steps"],
        10,
        progress=False,
    )
    assert again.records[-1]["loss"] == trial["score"]


def test_a_larger_budget_begins_with_the_same_trials() -> None:
    short, long = tune(LR, 12.0), tune(LR, 20.0)
    assert long.trials[:3] == short.trials and len(long.trials) == 5
    assert tune(LR, 12.0, seed=1).trials != short.trials


def test_the_best_few_are_judged_by_other_seeds() -> None:
    search = tune(LR, seeds=3, finalists=2)
    ranked = sorted(search.trials, key=lambda trial: trial["score"])
    order = [(final["trial"], final["seed"]) for final in search.finals]
    assert order == [(trial["trial"], seed) for trial in ranked[:2] for seed in (1, 2, 3)]
    scores = [[final["score"] for final in search.finals[at : at + 3]] for at in (0, 3)]
    assert search.scores == min(scores, key=np.median) and len(set(search.scores)) == 3
    assert search.median == sorted(search.scores)[1]
    assert search.spread == (min(search.scores), max(search.scores))
    task = points()
    opt = optim.SGD(task.net, **search.best)
    again = training.train(task.net, task.theta(2), opt, task.dataset, 8, 10, 2, progress=False)
    assert again.records[-1]["loss"] == search.scores[1]


def test_a_lucky_start_does_not_win() -> None:
    lucky = points().theta(0)

    class Lucky(optim.SGD):
        """With one learning rate it moves from where the trials begin, and from nowhere else."""

        def init(self, theta: Any) -> Any:
            return super().init(theta) | {"moves": self.lr < 0.5 or np.array_equal(theta, lucky)}

        def step(self, theta: Any, state: Any, batch: Any, rng: Any = None) -> Any:
            moved, after, info = super().step(theta, state, batch, rng)
            return moved if state["moves"] else theta, after | {"moves": state["moves"]}, info

    space = {"lr": Choice((0.5, 0.05))}
    assert tune(space, make=Lucky, seeds=0).best == {"lr": 0.5}
    assert tune(space, make=Lucky, finalists=8).best == {"lr": 0.05}


def test_the_median_decides_and_not_the_best_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the mean: one of the better trial's runs may go wrong."""
    rates = {0.5: (1.0, 9.0, 9.0), 0.05: (99.0, 3.0, 3.0)}

    def scored(self: Any, number: int, start: int = 0) -> Any:
        lr = search.drawn(self.space, self.seed, number)["lr"]
        score = rates[lr][start - 1] if start else 0.0
        return {"trial": number, "seed": start, "score": score, "steps": 1, "seconds": 1.0}

    monkeypatch.setattr(search._Trials, "run", scored)
    space = {"lr": Choice((0.5, 0.05))}
    best = random_search(points(), optim.SGD, space, 8.0, 1.0, finalists=8, progress=False)
    assert {search.drawn(space, 0, number)["lr"] for number in range(8)} == set(rates)
    assert best.best == {"lr": 0.05}
    assert (best.median, best.spread) == (3.0, (3.0, 99.0))


def test_a_trial_that_diverges_is_infinitely_bad() -> None:
    class Diverges(optim.SGD):
        def step(self, theta: Any, state: Any, batch: Any, rng: Any = None) -> Any:
            taken = super().step(theta, state, batch, rng)
            return (*taken[:2], {"loss": math.nan}) if self.lr == 2.0 and state["step"] == 3 else taken

    search = tune({"lr": Choice((0.1, 2.0))}, make=Diverges)
    scores = {trial["arguments"]["lr"]: trial["score"] for trial in search.trials}
    assert scores[2.0] == math.inf > scores[0.1]
    assert search.best == {"lr": 0.1}
    with pytest.raises(FloatingPointError, match=r"expected a trial that ends, got \d+ that diverged"):
        tune({"lr": Choice((2.0,))}, make=Diverges)


def test_a_search_may_go_by_the_better_of_iterate_and_average() -> None:
    space = {"lr": Choice((1.0,)), "averaging": Choice((100.0,))}
    scores = {
        column: tune(space, 4.0, column=column, seeds=0).scores[0]
        for column in ("loss", "loss_average", "best_loss")
    }
    assert scores["loss"] != scores["loss_average"]
    assert scores["best_loss"] == min(scores["loss"], scores["loss_average"])


def test_batch_sizes_are_drawn_too() -> None:
    search = tune(LR | {"batch_size": Choice((5, 50))})
    assert {trial["arguments"]["batch_size"] for trial in search.trials} == {5, 50}


def test_a_search_is_written_with_its_ranges_and_budget(tmp_path: Path) -> None:
    search = tune(LR)
    search.write(tmp_path / "search.jsonl")
    read = records.read(tmp_path / "search.jsonl")
    assert read.records == [*search.trials, *search.finals]
    assert read.about["budget in seconds"] == 30 and read.about["seconds of a trial"] == 4
    assert read.about["space"]["lr"] == {"kind": "LogUniform", "low": 1e-4, "high": 1.0}
    assert read.about["median"] == search.median and read.about["best"] == search.best
    assert read.about["trials"] == len(search.trials) == 8
    assert read.about["minutes in all"] == search.minutes == 4.0 * (8 + 3 * 3) / 60
    assert [str(values) for values in LR.values()] == ["0.0001 to 1", "one of 0.0, 0.9"]


def test_magnitudes_are_equally_likely() -> None:
    rng = np.random.default_rng(0)
    drawn = np.log10([LogUniform(1e-4, 1.0).draw(rng) for _ in range(4000)])
    counts = np.histogram(drawn, bins=4, range=(-4, 0))[0]
    assert abs(counts - 1000).max() < 5 * math.sqrt(1000 * 0.75)
    assert {Choice(("a", "b")).draw(rng) for _ in range(50)} == {"a", "b"}


@pytest.mark.parametrize("each", CONTENDERS, ids=lambda each: each.name)
def test_every_contender_runs_with_its_arguments_and_with_what_is_drawn(each: Contender) -> None:
    net, theta, data = problem()
    drawn = {key: values.draw(np.random.default_rng(1)) for key, values in each.space.items()}
    for arguments in ({}, drawn):
        opt = each.make(net, **arguments)
        assert all(getattr(opt, key) == value for key, value in {**each.arguments, **arguments}.items())
        history = training.train(net, theta, opt, data, 2, 20, progress=False)
        assert np.isfinite(history.theta).all() and not np.array_equal(history.theta, theta)
    assert drawn and contender(each.name) is each


def test_no_optimizer_is_without_a_name() -> None:
    kinds = {getattr(optim, name) for name in optim.__all__ if hasattr(getattr(optim, name), "step")}
    assert {each.kind for each in CONTENDERS} == kinds


def test_contenders_are_found_by_any_spelling() -> None:
    for text, name in (
        ("sgd", "SGD"),
        ("KFCPre", "KFC-pre"),
        ("hessianfree", "Hessian-free"),
        ("LOW-RANK", "low rank"),
    ):
        assert contender(text).name == name
    assert contender("KFAC").name == "K-FAC" and contender("k-fac tridiagonal").name == "K-FAC tridiagonal"
    with pytest.raises(ValueError, match=r"among SGD, .*, got 'nestrov'; did you mean Nesterov\?"):
        contender("nestrov")
    with pytest.raises(ValueError, match=r"arguments of SGD among lr, momentum, .*, got damping"):
        contender("sgd").make(problem()[0], damping=1)


def test_arguments_are_read_from_text() -> None:
    read = ("3", "-1.5e-3", "True", "None", "fisher", "(1, 2)", " Constant(0.1) ", "Steps(0.1, (5, 9))")
    assert [argument(text) for text in read] == [
        3, -0.0015, True, None, "fisher", (1, 2), schedules.Constant(0.1), schedules.Steps(0.1, (5, 9)),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"expected a schedule among Constant, .*, got Linear"):
        argument("Linear(1)")
    with pytest.raises(ValueError, match="expected numbers that make a Constant, got Constant"):
        argument("Constant()")
    with pytest.raises(ValueError, match="expected numbers that make a Constant, got Constant"):
        argument("Constant(exit())")


def test_what_arguments_are_drawn_from_is_read_from_text() -> None:
    assert argument_range("1e-3:0.1") == LogUniform(1e-3, 0.1)
    assert argument_range(" 5 : 20 ") == LogUniform(5, 20)
    assert argument_range("5, 20") == Choice((5, 20)) and argument_range("0.9") == Choice((0.9,))
    values = argument_range("Steps(0.1, (5, 9)),SutskeverMomentum(0.9),0.5")
    assert values == Choice((schedules.Steps(0.1, (5, 9)), schedules.SutskeverMomentum(0.9), 0.5))
    for text in ("1:", "a:b", "0.1:1:10", "True:2"):
        with pytest.raises(ValueError, match=rf"expected a range as 0\.01:1, got '{text}'"):
            argument_range(text)
    with pytest.raises(ValueError, match="expected high > 0, got 0"):
        argument_range("1:0")
    for text in ("", "5,,20", "5,"):
        with pytest.raises(ValueError, match=r"expected a range as 0\.01:1 or values as 5,20, got"):
            argument_range(text)


def test_extremes_of_ranges() -> None:
    assert LogUniform(1e-3, 0.1).extremes == (1e-3, 0.1) and Choice((5, 20, 1)).extremes == (5, 20, 1)
    both = Built(schedules.InverseTime, (LogUniform(0.1, 1.0), Choice((500, 2000)))).extremes
    assert [(schedule.start, schedule.timescale) for schedule in both] == [
        (0.1, 500),
        (0.1, 2000),
        (1.0, 500),
        (1.0, 2000),
    ]


def test_what_a_search_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="expected budget > 0, got 0"):
        tune(LR, 0)
    with pytest.raises(ValueError, match=r"expected finalists only with seeds .* run again, got 2"):
        tune(LR, seeds=0, finalists=2)
    for name, drawn, value in (("batch_size", 5, 10), ("averaging", 50.0, 100.0)):
        with pytest.raises(ValueError, match=f"expected {name} either drawn .* or given, got both"):
            tune(LR | {name: Choice((drawn,))}, **{name: value})
    with pytest.raises(ValueError, match="expected seeds to be a whole number >= 0, got -1"):
        tune(LR, seeds=-1)
    with pytest.raises(ValueError, match=r"expected a column among step, .* got 'accuracy'"):
        tune(LR, column="accuracy")
    with pytest.raises(ValueError, match="expected high > 0, got 0"):
        LogUniform(1, 0)
    with pytest.raises(ValueError, match="at least one value to choose from, got none"):
        Choice(())
