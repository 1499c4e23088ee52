"""Races and tuning: when a level is reached, equal terms for all, and what a search may claim."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resumable import problem

import minikfac as mk
from minikfac import experiments, optim
from minikfac.experiments import records, training
from minikfac.experiments.compare import Race, compare, file_name, reached
from minikfac.experiments.contenders import CONTENDERS, Contender, argument, contender
from minikfac.experiments.problems import Problem
from minikfac.experiments.records import History, PerOctave
from minikfac.experiments.search import Choice, LogUniform, Search, random_search
from minikfac.optim import schedules


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
    race = Race({"slow": history([16, 8, 4, 2]), "fast": history([16, 2, 1], seconds=2.0, examples=4)})
    rows = race.targets(levels=[8, 2, 1])
    found = {(row["contender"], row["level"], row["along"]): row for row in rows}
    assert len(found) == len(rows) == 2 * 3 * 3
    assert found["fast", 2, "step"]["ratio"] == pytest.approx(3)
    assert found["fast", 2, "seconds"]["ratio"] == pytest.approx(1.5)
    assert found["fast", 2, "examples"]["ratio"] == pytest.approx(6)
    assert found["fast", 8, "step"]["at"] == pytest.approx(8 / 14)
    assert all(found["slow", level, along]["ratio"] == 1 for level in (8, 2) for along in ("step", "seconds"))
    assert not any(row["bound"] for row in rows if row["level"] > 1)
    # the slow one never got to 1: the ratio is at least that of the end of its run
    assert math.isnan(found["slow", 1, "step"]["at"]) and not found["slow", 1, "step"]["bound"]
    assert found["fast", 1, "step"]["ratio"] == 3 / 2 and found["fast", 1, "step"]["bound"]


def test_levels_are_what_the_baseline_reached_on_its_way() -> None:
    race = Race({"a": history([64, 32, 40, 16, 15, 8, 8, 4.0004, 9]), "b": history([1, 1])})
    assert race.levels() == [32, 15, 4.01]  # after 1, 2 (the lowest so far), 4 and 8 steps
    assert all(math.isfinite(row["at"]) for row in race.targets() if row["contender"] == "a")
    assert Race({"a": history([0.5, 0.0])}).levels(shares=[1]) == [0]


def test_tables_say_when_and_how_many_times_sooner() -> None:
    race = Race({"slow": history([16, 8, 4, 2]), "fast": history([16, 2, 1], seconds=0.5)})
    header, cells = race.table(levels=[2, 1, 0.5])
    assert header == ["optimizer", "2", "1", "0.5"]
    assert cells == [["slow", "3 (1x)", "-", "-"], ["fast", "0.5 (6x)", "1 (> 3x)", "-"]]
    long = Race({"a": history([16, 8], seconds=2468.0)})
    assert long.table(levels=[12, 8])[1] == [["a", "1,234 (1x)", "2,468 (1x)"]]
    header, cells = race.summary()
    assert header == ["optimizer", "steps", "seconds", "ms a step", "examples", "loss"]
    assert cells[1] == ["fast", "2", "1.0", "500", "16", "1"]


def test_targets_are_written_as_rows(tmp_path: Path) -> None:
    race = Race({"slow": history([16, 8, 4, 2]), "fast": history([16, 2, 1])})
    race.write_targets(tmp_path / "targets.csv")
    with open(tmp_path / "targets.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(race.targets())
    assert [float(row["at"]) for row in rows] == [row["at"] for row in race.targets()]


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
    race = compare(net, theta, contenders, data, 7, batch_size=12, seed=3, progress=False)
    first, second = (opt.seen for opt in contenders.values())  # type: ignore[attr-defined]
    assert len(first) == len(second) == 8  # one is thrown away
    for (_, x_a, draw_a), (_, x_b, draw_b) in zip(first, second, strict=True):
        assert np.array_equal(x_a, x_b) and draw_a == draw_b
    assert np.array_equal(first[1][0], theta) and np.array_equal(second[1][0], theta)
    expected = experiments.train(net, theta, optim.SGD(net, 0.3), data, 7, 12, 3, progress=False)
    assert np.array_equal(race.histories["b"].theta, expected.theta)
    assert race.baseline == "a" and not race.failures


def test_a_race_is_kept_and_resumed(tmp_path: Path) -> None:
    net, theta, data = problem()
    contenders = {"SGD": optim.SGD(net, 0.1), "K-FAC, damped": optim.KFAC(net)}

    def go(steps: int, existing: str) -> Race:
        return compare(
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
    race = go(9, "resume")
    whole = compare(net, theta, contenders, data, 9, batch_size=12, progress=False)
    for name, own in (("SGD", "sgd"), ("K-FAC, damped", "k-fac-damped")):
        assert race.histories[name].theta.tobytes() == whole.histories[name].theta.tobytes()
        assert records.read(tmp_path / f"{own}.jsonl").records == race.histories[name].records
    with pytest.raises(FileExistsError, match="expected no checkpoint"):
        go(9, "refuse")
    assert [row["step"] for row in go(9, "replace").histories["SGD"].records] == list(range(10))


def test_one_that_diverges_is_out_and_the_others_go_on() -> None:
    _, _, data = problem()
    net = mk.mlp([4, 5, 3], "relu", "gaussian")
    data = mk.datasets.Dataset(data.x_train, data.x_train[:, :3], data.x_test, data.x_test[:, :3], "linear")
    theta = net.init(np.random.default_rng(0))
    contenders = {"wild": optim.SGD(net, 1e6), "tame": optim.SGD(net, 0.01)}
    with np.errstate(all="ignore"):
        race = compare(net, theta, contenders, data, 30, batch_size=12, progress=False)
    assert "expected a finite loss" in race.failures["wild"] and "tame" not in race.failures
    assert race.histories["tame"]["step"][-1] == 30
    assert 0 < len(race.records["wild"]) < 30
    assert race.summary()[1][0][0] == "wild"


def test_batches_may_differ_by_name_and_a_race_may_end_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    net, theta, data = problem()
    contenders = {"a": optim.SGD(net, 0.1), "b": optim.SGD(net, 0.1)}
    ticks = iter(np.arange(0.0, 1e4, 0.5))
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(ticks))
    race = compare(
        net, theta, contenders, data, seconds=4.0, batch_size={"a": 10, "b": 20}, progress=False, per_octave=1
    )
    assert [h.records[-1]["examples"] for h in race.histories.values()] == [80, 160]
    assert [h.records[-1]["seconds"] for h in race.histories.values()] == [4, 4]


def test_a_race_needs_contenders_and_an_end() -> None:
    net, theta, data = problem()
    with pytest.raises(ValueError, match="expected at least one contender, got none"):
        compare(net, theta, {}, data, 5)
    with pytest.raises(ValueError, match="expected steps or max_seconds, got neither"):
        compare(net, theta, {"a": optim.SGD(net, 0.1)}, data, batch_size=12, progress=False)


def test_contenders_have_files_of_their_own() -> None:
    assert [file_name(name) for name in ("SGD", "K-FAC (lam=0.1)", "µ", "")] == [
        "sgd",
        "k-fac-lam-0.1",
        "run",
        "run",
    ]
    net, theta, data = problem()
    with pytest.raises(ValueError, match=r"expected names .* got 'a b' and 'a-b'"):
        compare(net, theta, {"a b": optim.SGD(net, 0.1), "a-b": optim.SGD(net, 0.1)}, data, 5, folder="x")


# tuning ---------------------------------------------------------------------------------------------------


def points() -> Problem:
    net, _, data = problem()
    return Problem("points", net, data, "glorot", 10)


def tune(monkeypatch: pytest.MonkeyPatch, space: Any, budget: float = 30.0, **options: Any) -> Search:
    """Search with a clock that moves by half a second with each look at it, so eight steps a trial."""
    ticks = iter(np.arange(0.0, 1e6, 0.5))
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(ticks))
    make = options.pop("make", optim.SGD)
    return random_search(points(), make, space, budget, 4.0, progress=False, **options)


LR = {"lr": LogUniform(1e-4, 1.0), "momentum": Choice((0.0, 0.9))}


def test_a_search_spends_its_budget_and_keeps_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tune(monkeypatch, LR, seeds=0)
    assert [trial["seconds"] for trial in found.trials] == [4.0] * 8  # the last began at 28 of 30
    assert found.seconds == 32 and not found.finals
    best = min(found.trials, key=lambda trial: trial["score"])
    assert found.scores == [best["score"]]
    assert best["arguments"] == found.best
    assert len({trial["arguments"]["lr"] for trial in found.trials}) == 8
    # any trial can be made again from its arguments
    trial, own = found.trials[3], points()
    again = experiments.train(
        own.net,
        own.theta(),
        optim.SGD(own.net, **trial["arguments"]),
        own.dataset,
        trial["steps"],
        10,
        progress=False,
    )
    assert again.records[-1]["loss"] == trial["score"]


def test_a_larger_budget_begins_with_the_same_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = tune(monkeypatch, LR, 12.0), tune(monkeypatch, LR, 20.0)
    assert long.trials[:3] == short.trials and len(long.trials) == 5
    assert tune(monkeypatch, LR, 12.0, seed=1).trials != short.trials


def test_the_best_few_are_judged_by_other_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tune(monkeypatch, LR, seeds=3, finalists=2)
    ranked = sorted(found.trials, key=lambda trial: trial["score"])
    order = [(final["trial"], final["seed"]) for final in found.finals]
    assert order == [(trial["trial"], seed) for trial in ranked[:2] for seed in (1, 2, 3)]
    scores = [[final["score"] for final in found.finals[at : at + 3]] for at in (0, 3)]
    assert found.scores == min(scores, key=np.median) and len(set(found.scores)) == 3
    assert found.median == sorted(found.scores)[1]
    assert found.spread == (min(found.scores), max(found.scores))
    own = points()
    opt = optim.SGD(own.net, **found.best)
    again = experiments.train(own.net, own.theta(2), opt, own.dataset, 8, 10, 2, progress=False)
    assert again.records[-1]["loss"] == found.scores[1]


def test_a_lucky_start_does_not_win(monkeypatch: pytest.MonkeyPatch) -> None:
    lucky = points().theta(0)

    class Lucky(optim.SGD):
        """With one learning rate it moves from where the trials begin, and from nowhere else."""

        def init(self, theta: Any) -> Any:
            return super().init(theta) | {"moves": self.lr < 0.5 or np.array_equal(theta, lucky)}

        def step(self, theta: Any, state: Any, batch: Any, rng: Any = None) -> Any:
            moved, after, info = super().step(theta, state, batch, rng)
            return moved if state["moves"] else theta, after | {"moves": state["moves"]}, info

    space = {"lr": Choice((0.5, 0.05))}
    assert tune(monkeypatch, space, make=Lucky, seeds=0).best == {"lr": 0.5}
    assert tune(monkeypatch, space, make=Lucky, finalists=8).best == {"lr": 0.05}


def test_a_trial_that_diverges_is_infinitely_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    class Diverges(optim.SGD):
        def step(self, theta: Any, state: Any, batch: Any, rng: Any = None) -> Any:
            found = super().step(theta, state, batch, rng)
            return (*found[:2], {"loss": math.nan}) if self.lr == 2.0 and state["step"] == 3 else found

    found = tune(monkeypatch, {"lr": Choice((0.1, 2.0))}, make=Diverges)
    scores = {trial["arguments"]["lr"]: trial["score"] for trial in found.trials}
    assert scores[2.0] == math.inf > scores[0.1]
    assert found.best == {"lr": 0.1}
    with pytest.raises(FloatingPointError, match=r"expected a trial that ends, got \d+ that diverged"):
        tune(monkeypatch, {"lr": Choice((2.0,))}, make=Diverges)


def test_batch_sizes_are_drawn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tune(monkeypatch, LR | {"batch_size": Choice((5, 50))})
    assert {trial["arguments"]["batch_size"] for trial in found.trials} == {5, 50}


def test_a_search_is_written_with_its_ranges_and_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tune(monkeypatch, LR)
    found.write(tmp_path / "search.jsonl")
    read = records.read(tmp_path / "search.jsonl")
    assert read.records == [*found.trials, *found.finals]
    assert read.about["budget in seconds"] == 30 and read.about["seconds of a trial"] == 4
    assert read.about["space"]["lr"] == {"kind": "LogUniform", "low": 1e-4, "high": 1.0}
    assert read.about["median"] == found.median and read.about["best"] == found.best


def test_magnitudes_are_equally_likely() -> None:
    rng = np.random.default_rng(0)
    drawn = np.log10([LogUniform(1e-4, 1.0).draw(rng) for _ in range(4000)])
    counts = np.histogram(drawn, bins=4, range=(-4, 0))[0]
    assert abs(counts - 1000).max() < 5 * math.sqrt(1000 * 0.75)
    assert {Choice(("a", "b")).draw(rng) for _ in range(50)} == {"a", "b"}


@pytest.mark.parametrize("own", CONTENDERS, ids=lambda own: own.name)
def test_every_contender_runs_with_its_arguments_and_with_what_is_drawn(own: Contender) -> None:
    net, theta, data = problem()
    drawn = {key: values.draw(np.random.default_rng(1)) for key, values in own.space.items()}
    for arguments in ({}, drawn):
        opt = own.make(net, **arguments)
        assert all(getattr(opt, key) == value for key, value in {**own.fixed, **arguments}.items())
        history = experiments.train(net, theta, opt, data, 2, 20, progress=False)
        assert np.isfinite(history.theta).all() and not np.array_equal(history.theta, theta)
    assert drawn and contender(own.name) is own


def test_no_optimizer_is_without_a_name() -> None:
    known = {getattr(optim, name) for name in optim.__all__ if hasattr(getattr(optim, name), "step")}
    assert {own.kind for own in CONTENDERS} == known


def test_contenders_are_found_by_any_spelling() -> None:
    for text, name in (
        ("sgd", "SGD"),
        ("KFCPre", "KFC-pre"),
        ("hessianfree", "Hessian-free"),
        ("LOW-RANK", "low rank"),
    ):
        assert contender(text).name == name
    assert contender("KFAC").fixed == {} and contender("k-fac tridiagonal").fixed
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


def test_what_a_search_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="expected budget and trial_seconds > 0, got 0 and 4"):
        tune(monkeypatch, LR, 0)
    with pytest.raises(ValueError, match="expected seeds >= 0 and finalists >= 1, got -1 and 3"):
        tune(monkeypatch, LR, seeds=-1)
    with pytest.raises(ValueError, match=r"expected a column among step, .* got 'accuracy'"):
        tune(monkeypatch, LR, column="accuracy")
    with pytest.raises(ValueError, match="expected 0 < low <= high, got 1 and 0"):
        LogUniform(1, 0)
    with pytest.raises(ValueError, match="at least one value to choose from, got none"):
        Choice(())
