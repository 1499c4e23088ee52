"""Sweeps over batch sizes: tuning, counting, resuming; fits; pictures; the command."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

import minikfac as mk
from minikfac import plots
from minikfac.datasets import Dataset
from minikfac.parallel import one_thread
from minikfac.races import Problem
from minikfac.races.contenders import contender
from minikfac.races.race import reached
from minikfac.races.search import Choice, LogUniform, drawn
from minikfac.scaling import Budget, batch_sweep
from minikfac.scaling import sweep as sweeps
from minikfac.training import records, train
from minikfac.training.records import PerOctave
from oracles import close
from oracles.cli import one_line, run


@pytest.fixture(autouse=True)
def quietly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with one_thread():
        yield
    plt.close("all")


def least_squares(noise: float = 0.5) -> Problem:
    rng = np.random.default_rng(0)
    x, W = rng.standard_normal((64, 4)), rng.standard_normal((4, 2))
    y = x @ W + noise * rng.standard_normal((64, 2))
    net = mk.mlp([4, 2], output="gaussian", bias=False)
    return Problem("least squares", net, Dataset(x, y, x[:8], y[:8], "noise", None), "glorot", 8)


SGD = replace(contender("sgd"), space={"lr": LogUniform(1e-3, 10.0), "momentum": Choice((0.0, 0.5))})
KFAC = replace(contender("kfac"), space={"lam": LogUniform(1e-2, 1.0), "tau2": Choice((1.0,))})
SMALL = Budget(trials=4, steps=60, epochs=2, finalists=2, seeds=2)
TARGET = {"loss": 0.4}


def swept(path: Path | None = None, methods=(SGD, KFAC), sizes=(8, 64), **options) -> sweeps.Scaling:
    options = {"target": TARGET, "budget": SMALL, "progress": False, "path": path} | options
    return batch_sweep(least_squares(), methods, sizes, **options)


def without_seconds(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


# the sweep ------------------------------------------------------------------------------------------------


def test_the_best_of_the_finals_counts_at_each_size():
    sweep = swept()
    assert sweep.methods == ["SGD", "K-FAC"] and sweep.batch_sizes.tolist() == [8, 64]
    for method in sweep.methods:
        for m in (8, 64):
            rows = [row for row in sweep.rows if (row["method"], row["batch_size"]) == (method, m)]
            trials = [row for row in rows if row["kind"] == "trial"]
            finals = [row for row in rows if row["kind"] == "final"]
            assert [row["trial"] for row in trials] == [0, 1, 2, 3] and {row["seed"] for row in trials} == {0}
            assert len(finals) == 4 and {row["seed"] for row in finals} == {1, 2}
            ranked = sorted(
                (row for row in trials if row["ended"] != "diverged"),
                key=lambda row: (np.nan_to_num(row["steps"], nan=np.inf), row["lowest"]),
            )
            assert {row["trial"] for row in finals} == {row["trial"] for row in ranked[:2]}
            medians = {
                trial: np.median([row["steps"] for row in finals if row["trial"] == trial])
                for trial in {row["trial"] for row in finals}
            }
            best = sweep.best(method, m)
            assert medians[best[0]["trial"]] == min(medians.values())
            number = sweep.batch_sizes.tolist().index(m)
            middle, low, high = sweep.to_target()[method][:, number]
            steps = [row["steps"] for row in best]
            assert (middle, low, high) == (np.median(steps), min(steps), max(steps))
            assert sweep.to_target("examples")[method][0, number] == m * middle
            assert list(sweep.curves(method)[m][0]) == [s for s, _ in best[0]["curve"]] or len(best) > 1


def test_a_run_is_that_of_the_loop():
    sweep, problem = swept(methods=[SGD], sizes=[8]), least_squares()
    row = sweep.best("SGD", 8)[0]
    arguments = drawn(SGD.space, 0, row["trial"])
    assert row["arguments"] == arguments
    opt = SGD.make(problem.net, **arguments)
    history = train(
        problem.net,
        problem.theta(row["seed"]),
        opt,
        problem.dataset,
        60,
        8,
        row["seed"],
        PerOctave(8),
        progress=False,
        target=TARGET,
    )
    assert row["steps"] == reached(history, "loss", 0.4, "step") and row["ended"] == "target"
    assert row["made"] == history.records[-1]["step"]
    np.testing.assert_allclose(
        np.array(row["curve"]), np.stack([history["step"], history["loss"]], 1), rtol=1e-5
    )


def test_stopping_late_trials_changes_nothing_else():
    sweep, problem = swept(methods=[SGD], sizes=[8], budget=replace(SMALL, trials=6)), least_squares()
    trials = [row for row in sweep.rows if row["kind"] == "trial"]
    late = [row for row in trials if row["ended"] == "too late"]
    assert late
    steps = []
    for trial in range(6):  # each to the end of the budget
        opt = SGD.make(problem.net, **drawn(SGD.space, 0, trial))
        try:
            history = train(
                problem.net, problem.theta(), opt, problem.dataset, 60, 8, 0, PerOctave(8), progress=False
            )
            at = reached(history, "loss", 0.4, "step")
        except FloatingPointError:
            at = math.nan
        steps.append(math.inf if math.isnan(at) else at)
    whole = sorted(range(6), key=lambda trial: steps[trial])[:2]
    assert {row["trial"] for row in sweep.rows if row["kind"] == "final"} == set(whole)
    for row in late:
        assert row["made"] < 60 and steps[row["trial"]] >= row["made"]


def test_diverged_trials_are_out_and_others_late():
    wild = replace(SGD, space={"lr": Choice((1e60,))})
    sweep = swept(methods=[wild], sizes=[64], budget=Budget(2, 30, 0, 1, 1))
    assert [row["ended"] for row in sweep.rows] == ["diverged", "diverged"] and sweep.best("SGD", 64) == []
    assert np.isnan(sweep.to_target()["SGD"]).all() and sweep.curves("SGD") == {}
    assert sweep.table()[1] == [["SGD", "64", "-", "-", "-", "-"]]
    slow = replace(SGD, space={"lr": Choice((1e-6,))})
    sweep = swept(methods=[slow], sizes=[64], budget=Budget(1, 5, 0, 1, 1))
    assert [row["ended"] for row in sweep.rows] == ["budget", "budget"]
    assert np.isnan(sweep.to_target()["SGD"]).all() and len(sweep.curves("SGD")[64][0]) == 6
    assert sweep.knee("SGD") is None


def test_an_interrupted_sweep_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = swept(tmp_path / "whole.jsonl")
    assert without_seconds(swept().rows) == without_seconds(whole.rows)
    lines = (tmp_path / "whole.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    part = tmp_path / "part.jsonl"
    part.write_text("".join(lines[:9]) + lines[9][:30], encoding="utf-8")  # the last line is torn
    made = []
    own_run = sweeps._Search._run
    monkeypatch.setattr(sweeps._Search, "_run", lambda self, *a: made.append(1) or own_run(self, *a))
    again = swept(part, existing="resume")
    assert len(made) == len(whole.rows) - 8
    assert without_seconds(again.rows) == without_seconds(whole.rows)
    assert without_seconds(sweeps.read(part).rows) == without_seconds(whole.rows)
    more = swept(part, sizes=(8, 16, 64), existing="resume")  # sizes may be added
    assert len(more.rows) > len(whole.rows) and more.batch_sizes.tolist() == [8, 16, 64]


def test_files_of_another_sweep_are_refused(tmp_path: Path):
    path = tmp_path / "sweep.jsonl"
    swept(path, methods=[SGD], sizes=[64])
    with pytest.raises(FileExistsError, match=r"expected no sweep in .*sweep.jsonl yet, got one"):
        swept(path)
    with pytest.raises(ValueError, match=r"got one of another: target.loss: 0.5 here, 0.4 there"):
        swept(path, existing="resume", target={"loss": 0.5})
    other = replace(SGD, space={"lr": LogUniform(1e-2, 1.0)})
    with pytest.raises(ValueError, match=r"got one of another: SGD.space.lr.low: 0.01 here, 0.001 there"):
        swept(path, methods=[other], existing="resume")
    with pytest.raises(ValueError, match="expected existing 'refuse' or 'resume' or 'replace', got 'keep'"):
        swept(path, existing="keep")
    assert len(swept(path, methods=[KFAC], sizes=[64], existing="replace").methods) == 1
    records.write(path, {"search": "x"}, [])
    with pytest.raises(ValueError, match=r"expected records of a sweep over batch sizes, got others"):
        sweeps.read(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(methods=[]), "expected at least one method and one size, got 0 and 2"),
        (dict(sizes=[65]), "expected sizes from 1 to 64, the training set, got 65"),
        (dict(target=None), "expected a target, as only digits.* have one of their own, got none for least"),
        (dict(target={"lam": 1.0}), "expected one target among loss, test_loss.*, got lam"),
        (dict(target={}), "got none"),
    ],
)
def test_what_cannot_be_swept_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        swept(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(trials=0), "expected trials to be a whole number >= 1, got 0"),
        (dict(seeds=0), "expected seeds to be a whole number >= 1, got 0"),
        (dict(epochs=math.inf), "expected epochs >= 0, got inf"),
    ],
)
def test_what_is_no_budget_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Budget(**arguments)


def test_sizes_are_powers_of_two_up_to_the_training_set():
    assert sweeps.batch_sizes(1024, 256) == [256, 512, 1024] and sweeps.batch_sizes(64) == [64]
    with pytest.raises(ValueError, match=r"expected the smallest batch from 1 to 10, .* got 64"):
        sweeps.batch_sizes(10)


# fits -----------------------------------------------------------------------------------------------------


def test_the_knee_is_found_where_it_is():
    m = np.array([16.0, 64, 256, 1024])
    for S, B in ((10.0, 30.0), (500.0, 2000.0)):
        knee = sweeps.fit_knee(m, S * (1 + B / m))
        np.testing.assert_allclose([knee.S, knee.B], [S, B], rtol=1e-4)
        np.testing.assert_allclose(knee.steps(m), S * (1 + B / m), rtol=1e-4)
        assert knee.bounded
    assert not sweeps.fit_knee(m, 1e6 / m).bounded  # perfect scaling
    assert not sweeps.fit_knee(m, [7.0] * 4).bounded  # none
    noisy = 100 * (1 + 100 / m) * np.exp(0.05 * np.random.default_rng(0).standard_normal(4))
    assert 70 < sweeps.fit_knee(m, noisy).B < 140
    with pytest.raises(
        ValueError, match=r"expected two sizes and steps at least, got shapes \(1,\) and \(1,"
    ):
        sweeps.fit_knee([1], [1])
    with pytest.raises(ValueError, match="expected finite positive sizes and steps"):
        sweeps.fit_knee([1, 2], [1, math.nan])


def test_a_value_at_an_end_of_its_range_is_named():
    space = {"lr": LogUniform(1e-4, 1.0), "momentum": Choice((0.0, 0.9)), "one": LogUniform(1.0, 1.0)}
    rest = {"momentum": 0.0, "one": 1.0}
    assert sweeps.near_an_end(space, {"lr": 2e-4, **rest}) == ["lr"]
    assert sweeps.near_an_end(space, {"lr": 0.9, **rest}) == ["lr"]
    assert sweeps.near_an_end(space, {"lr": 1e-2, **rest}) == []
    narrow = replace(SGD, space={"lr": LogUniform(0.1, 0.1001), "momentum": Choice((0.0,))})
    sweep = swept(methods=[narrow], sizes=[64], budget=Budget(12, 60, 0, 12, 1))
    rows = {row["trial"]: row["at an end"] for row in sweep.rows if row["kind"] == "final"}
    assert {tuple(names) for names in rows.values()} == {("lr",), ()}
    best = sweep.best("SGD", 64)[0]
    assert ("at an end: lr" in sweep.table()[1][0][-1]) == (best["at an end"] == ["lr"])


# pictures -------------------------------------------------------------------------------------------------


def test_steps_by_batch_size_have_ranges_and_perfect_scaling():
    steps = {
        "A": [[100, 50, 30], [90, 40, 28], [110, 60, np.nan]],
        "B": [[np.nan, 8, 4], [7, 7, 4], [np.nan, 9, 4]],
    }
    left, right = plots.batch_scaling([10, 20, 40], steps, fits={"A": [95, 50, 31]}, level="x")
    lines = [line.get_xydata() for line in left.lines]
    close(lines[0], [[10, 100], [20, 50], [40, 30]])
    close(lines[1], [[10, 90], [10, 110]])
    close(lines[3], [[40, 28], [40, 30]])  # one run never got there
    ideal = [line.get_ydata() for line in left.lines if line.get_linestyle() == ":"]
    close(ideal, [[100, 50, 25], [16, 8, 4]])
    dotted = [line.get_ydata() for line in right.lines if line.get_linestyle() == ":"]
    close(dotted, [[1000] * 3, [160] * 3])
    close(right.lines[0].get_ydata(), [1000, 1000, 1200])
    (fit,) = [line.get_ydata() for line in left.lines if line.get_linestyle() == "--"]
    close(fit, [95, 50, 31])
    assert left.get_xscale() == left.get_yscale() == "log"
    title = "10 to 40 examples a step: A 3.3 times fewer steps, B 2.0 times fewer steps\nto x"
    assert left.figure.get_suptitle() == title
    with pytest.raises(ValueError, match="expected a run that reached the level, got none"):
        plots.batch_scaling([10], {"A": [[math.nan]] * 3})
    with pytest.raises(ValueError, match=r"expected steps of A of shape \(3, 1\), got \(3, 2\)"):
        plots.batch_scaling([10], {"A": [[1, 2]] * 3})


def test_losses_have_a_dash_per_method_and_a_shade_per_size():
    curve = [[0, 10, 20], [3.0, 2.0, 1.0]]
    ax = plots.loss_against_examples({"SGD": {8: curve, 64: curve}, "K-FAC": {64: curve}}, level=1.0)
    first, second, third, level = ax.lines
    close(first.get_xydata(), [[10, 2], [20, 1]])
    assert first.get_linestyle() == second.get_linestyle() == "--" and third.get_linestyle() == "-"
    assert first.get_color() != second.get_color() != third.get_color()
    assert sum(first.get_color()) > sum(second.get_color())  # small sizes are light
    title = plots.loss_against_examples({"SGD": {8: curve, 64: [[0, 40], [3, 1]]}}, level=1.0).get_title()
    assert title == "8 to 64 examples a step, each tuned:\nSGD 2 times the examples"
    assert level.get_ydata()[0] == 1.0
    with pytest.raises(ValueError, match="expected at least one curve, got none"):
        plots.loss_against_examples({"SGD": {}})
    with pytest.raises(ValueError, match=r"expected curve of A at 8 of shape \(2, k\)"):
        plots.loss_against_examples({"A": {8: [[1, 2]]}})


def test_predictions_mark_where_scaling_breaks():
    W, parts = [1, 2, 4], {"gradient": [4, 2, 1], "network": [0, 1, 2], "nothing": [0, 0, 0]}
    seconds = {"SGD": [4, 2, 1], "K-FAC": [4, 3, 3]}
    strong, middle, weak = plots.predicted_scaling(W, seconds, parts, {"wall": 4, "door": 2}, weak=seconds)
    close(strong.lines[0].get_ydata(), [4, 2, 1])
    assert middle.get_xlabel() == "workers\na: from 2 on door\nb: from 4 on wall"
    names = ["gradient", "network"]
    assert [area.get_label() for area in middle.collections] == names  # from below; they add up to one
    assert middle.collections[1].get_datalim(middle.transData).y1 == pytest.approx(1)
    assert strong.figure.get_suptitle().startswith("K-FAC's step is shortest on 2 workers, 1 times as fast")
    assert sorted(line.get_xdata()[0] for line in middle.lines if len(line.get_xdata()) == 2) == [2, 4]
    close(weak.lines[1].get_ydata(), [4, 3, 3])
    assert len(plots.predicted_scaling(W, seconds, parts, {})) == 2
    with pytest.raises(ValueError, match=r"expected seconds of SGD of shape \(3,\), got \(1,\)"):
        plots.predicted_scaling(W, {"SGD": [1]}, parts, {})


# the command ----------------------------------------------------------------------------------------------

QUICK = ["--problem", "digits", "--examples", "80", "--width", "0.2", "--sizes", "20,40,80", "--trials", "2"]
QUICK += ["--steps", "12", "--epochs", "1", "--finalists", "1", "--seeds", "1", "--target", "loss=2.28"]


def test_scaling_leaves_records_and_figures_and_goes_on(capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, "scaling", *QUICK, "--out", "a")
    assert code == 0, err
    assert "Budget at each size, the same for SGD and K-FAC: 2 trials of at most 12 steps or 1 epochs" in out
    assert "lr: 0.0001 to 1" in out and "To a loss of 2.28" in out
    sweep = sweeps.read("a/scaling.jsonl")
    assert len(sweep.rows) == 2 * 3 * 3 and sweep.target == ("loss", 2.28)
    spaces = {name: len(method["space"]) for name, method in sweep.about["methods"].items()}
    assert spaces == {"SGD": 2, "K-FAC": 3}  # K-FAC has two dampings
    assert sweep.about["methods"]["K-FAC"]["arguments"] == {"tau1": 1.0, "tau2": 1.0}
    for name in ("scaling.png", "examples.png"):
        assert matplotlib.image.imread(f"a/{name}").shape[1] == 1280
    code, _, err = run(capsys, "scaling", *QUICK, "--out", "a")
    assert code == 2 and "expected no sweep in a/scaling.jsonl yet, got one; --resume" in one_line(err)
    before = Path("a/scaling.jsonl").read_text(encoding="utf-8")
    assert run(capsys, "scaling", *QUICK, "--out", "a", "--resume")[0] == 0
    after = Path("a/scaling.jsonl").read_text(encoding="utf-8")
    assert before.splitlines()[1:] == after.splitlines()[1:]


def test_scaling_takes_other_optimizers_and_holds_arguments(capsys: pytest.CaptureFixture[str]):
    more = ["--optimizers", "sgd, kfc-pre", "--set", "kfc-pre.damping=0.1", "--sizes", "80"]
    code, out, err = run(capsys, "scaling", *QUICK, *more, "--out", "b")
    assert code == 0, err
    assert "fewer than three sizes reached the level; no fit" in out
    sweep = sweeps.read("b/scaling.jsonl")
    assert sweep.methods == ["SGD", "KFC-pre"]
    about = sweep.about["methods"]["KFC-pre"]
    assert about["arguments"]["damping"] == 0.1 and "damping" not in about["space"]
    head = json.loads(Path("b/scaling.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert head["about"]["budget"]["trials"] == 2


def test_scaling_draws_from_ranges_of_ones_own(capsys: pytest.CaptureFixture[str]):
    draws = ["--draw", "kfac.lam=0.1:2", "--draw", "kfac.tau2=0.5, 1", "--draw", "sgd.l2=1e-5:1e-3"]
    code, out, err = run(capsys, "scaling", *QUICK, *draws, "--test-examples", "20", "--out", "d")
    assert code == 0, err
    assert "80 training and 20 test examples" in out and "lam: 0.1 to 2" in out
    about = sweeps.read("d/scaling.jsonl").about["methods"]
    assert about["K-FAC"]["space"]["lam"] == {"kind": "LogUniform", "low": 0.1, "high": 2}
    assert about["K-FAC"]["space"]["tau2"]["values"] == [0.5, 1]
    assert about["K-FAC"]["arguments"] == {"tau1": 1.0}
    assert list(about["SGD"]["space"]) == ["lr", "momentum", "l2"]
    for row in sweeps.read("d/scaling.jsonl").rows:
        if row["method"] == "K-FAC":
            assert 0.1 <= row["arguments"]["lam"] <= 2 and row["arguments"]["tau2"] in (0.5, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draw", "lr=0.1:1"], "expected --draw as OPTIMIZER.NAME=LOW:HIGH, such as kfac.lam=0.1:10, got"),
        (["--draw", "sgd.lr"], "expected --draw as OPTIMIZER.NAME=LOW:HIGH, got 'sgd.lr'"),
        (["--draw", "sgd.lr=1:0.1"], "expected 0 < low <= high, got 1 and 0.1"),
        (["--draw", "sgd.lam=0.1:1"], "expected arguments of SGD among lr,"),
        (["--draw", "sgd.momentum=0.5,1.5"], "expected momentum in [0, 1), got 1.5"),
        (["--draw", "adam.lr=0.1:1"], "expected --draw for one of the optimizers that race, got"),
        (["--draw", "sgd.lr=0.1:1", "--set", "sgd.lr=1"], "expected --set or --draw for lr of SGD, got both"),
        (["--sizes", "64,x"], "expected --sizes as 64,256,1024, got '64,x'"),
        (["--optimizers", "newton"], "expected an optimizer among"),
        (["--set", "adam.lr=1"], "expected --set for one of the optimizers that race, got 'adam.lr=1'"),
        (["--resume", "--overwrite"], "expected --resume or --overwrite, got both"),
        (["--sizes", "2000"], "expected sizes from 1 to 1500, the training set, got 2000"),
        (["--problem", "digits-convnet"], "expected a target, as only digits"),
    ],
)
def test_wrong_options_of_scaling(capsys: pytest.CaptureFixture[str], arguments, message):
    code, _, err = run(capsys, "scaling", *arguments, "--out", "c")
    assert code == 2 and message in one_line(err)


def test_workers_predicts_and_names_what_breaks(capsys: pytest.CaptureFixture[str]):
    common = ["--gflops", "100", "--problem", "digits", "--batch-size", "256", "--most", "512"]
    code, out, err = run(capsys, "workers", *common, "--out", "w.png")
    assert code == 0, err
    assert "digits: 3,190 parameters; 100 GFLOP/s a worker, 10 us and 1 GB/s between them" in out
    assert "From 256 workers on: one example a worker" in out and "stale" in out
    assert matplotlib.image.imread("w.png").ndim == 3
    conv = ["--problem", "cifar10-kfc", "--optimizer", "kfc-pre", "--set", "lr=0.1", "--gflops", "100"]
    assert run(capsys, "workers", *conv, "--most", "4")[0] == 0
    assert run(capsys, "scaling", *QUICK, "--out", "a")[0] == 0
    narrow = [*common, "--width", "0.2"]
    code, _, err = run(capsys, "workers", *narrow, "--record", "a/scaling.jsonl", "--out", "w.png")
    assert code == 0, err
    code, _, err = run(capsys, "workers", *common, "--record", "a/scaling.jsonl", "--out", "w.png")
    assert code == 2 and "of a sweep on a net of 3,190 parameters, got one of" in one_line(err)
    nesterov = ["--optimizers", "nesterov", "--draw", "nesterov.lr=0.1:1", "--target", "loss=2.3"]
    assert run(capsys, "scaling", *QUICK, *nesterov, "--out", "n")[0] == 0
    code, _, err = run(capsys, "workers", *narrow, "--record", "n/scaling.jsonl", "--out", "w.png")
    assert code == 0, err  # a step of it is one of SGD
    code, _, err = run(capsys, "workers", *common[2:], "--out", "w.txt")
    assert code == 2 and "expected --out to end in .png, .svg or .pdf, got w.txt" in one_line(err)
    other = ["--gflops", "1", "--problem", "usps", "--record", "a/scaling.jsonl"]
    code, _, err = run(capsys, "workers", *other)
    assert code == 2 and "expected --record of a sweep on usps, got one on digits" in one_line(err)
    code, _, err = run(capsys, "workers", *common[2:], "--optimizer", "adam", "--out", "w.png")
    assert code == 2 and "expected --optimizer kfac or kfc-pre, whose cost is modelled" in one_line(err)
