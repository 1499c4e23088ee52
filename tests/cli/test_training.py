"""Training from the command line: what it leaves, how it goes on, and one line for each error."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from minikfac import optim
from minikfac.cli.plot import contenders
from minikfac.parallel import one_thread
from minikfac.races import problem
from minikfac.races.race import reached
from minikfac.training import checkpoint, records, train
from oracles.cli import one_line, run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL = ["--examples", "60", "--batch-size", "20"]


def unwrapped(out: str) -> str:
    return " ".join(out.split())


# train ------------------------------------------------------------------------------------------------------


def test_train_leaves_records_parameters_and_a_figure(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    code, out, _ = run(capsys, "train", *SMALL, "--steps", "6", "--set", "lam=3", "--out", "a/b")
    assert code == 0
    assert "digits-autoencoder: 3,934 parameters, 60 training and 297 test examples, float64" in out
    assert "K-FAC lam=3, batches of 20" in out
    read = records.read(here / "a/b/run.jsonl")
    assert list(read["step"]) == list(range(7))
    assert f"loss {read['loss'][-1]:.4g}" in out
    kept, task = checkpoint.load(here / "a/b/run.npz"), problem("digits-autoencoder", n_train=60)
    with one_thread():  # as the command does: products on several threads round otherwise
        again = train(
            task.net,
            task.theta(),
            optim.KFAC(task.net, lam=3, gamma_share=1),
            task.dataset,
            6,
            20,
            progress=False,
        )
    assert kept.theta.tobytes() == again.theta.tobytes()
    assert matplotlib.image.imread(here / "a/b/loss.png").shape[1] == 1280


def test_curvature_along_the_steps_is_recorded_and_drawn(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    options = ("--steps", "4", "--set", "curvature=true", "--out", "a")
    code, out, _ = run(capsys, "train", *SMALL, *options)
    assert code == 0 and "curvature.png" in out
    read = records.read(here / "a/run.jsonl")
    assert (read["curvature/dense0"][1:] > 0).all() and np.isnan(read["curvature"][0])
    assert matplotlib.image.imread(here / "a/curvature.png").shape[1] == 1280


@pytest.mark.parametrize(
    ("optimizer", "setting", "named"),
    [
        ("kfac", "momentum=0.9", "expected momentum to be True or False or None, got 0.9"),
        ("kfac", "curvature=yes", "expected curvature to be True or False, got 'yes'"),
        ("nesterov", "nesterov=abc", "expected nesterov to be True or False, got 'abc'"),
        ("nesterov", "nesterov=1", "expected nesterov to be True or False, got 1"),
    ],
)
def test_flags_are_true_or_false(
    capsys: pytest.CaptureFixture[str], here: Path, optimizer: str, setting: str, named: str
) -> None:
    code, _, error = run(capsys, "train", *SMALL, "--optimizer", optimizer, "--set", setting)
    assert code == 2 and named in error


def test_an_interrupted_run_is_resumed_in_the_same_bits(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    arguments = ["train", *SMALL, "--optimizer", "adam", "--measure-every", "4"]
    assert run(capsys, *arguments, "--steps", "12", "--out", "whole")[0] == 0
    assert run(capsys, *arguments, "--steps", "4", "--out", "half")[0] == 0
    code, out, _ = run(capsys, *arguments, "--steps", "12", "--out", "half", "--resume")
    assert code == 0 and "step      4" not in out
    first, second = (checkpoint.load(here / name / "run.npz") for name in ("whole", "half"))
    assert first.theta.tobytes() == second.theta.tobytes()
    assert [row["loss"] for row in first.records] == [row["loss"] for row in second.records]


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_a_killed_command_is_resumed_in_the_same_bits(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    arguments = ["train", *SMALL, "--checkpoint-every", "5", "--measure-every", "7"]
    kept = here / "killed" / "run.npz"
    # steps without end: it is killed, not finished
    command = [sys.executable, "-m", "minikfac", *arguments, "--steps", "100000", "--out", "killed"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not (kept.exists() and checkpoint.load(kept).step):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    step = checkpoint.load(kept).step
    assert step > 0 and step % 5 == 0
    more = ["--steps", str(step + 6)]
    assert run(capsys, *arguments, *more, "--out", "killed", "--resume")[0] == 0
    assert run(capsys, *arguments, *more, "--out", "whole")[0] == 0
    whole = checkpoint.load(here / "whole" / "run.npz")
    assert checkpoint.load(kept).theta.tobytes() == whole.theta.tobytes()


def test_a_run_is_replaced_only_when_asked(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    arguments = ["train", *SMALL, "--steps", "2"]
    assert run(capsys, *arguments)[0] == 0
    before = (here / "minikfac-train/run.npz").read_bytes()
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "got one; --resume goes on from it, --overwrite replaces it" in one_line(err)
    assert (here / "minikfac-train/run.npz").read_bytes() == before
    assert run(capsys, *arguments, "--seed", "1", "--overwrite")[0] == 0
    code, _, err = run(capsys, *arguments, "--resume")
    assert code == 2 and "got one of another run: initial parameters" in one_line(err)


def test_nets_and_data_of_ones_own(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    np.savez(here / "own.npz", x=x, y=(x[:, 0] > 0).astype(int))
    arguments = ["--net", "4-5-2", "--data", "own.npz", "--activation", "relu", "--batch-size", "10"]
    code, out, _ = run(capsys, "train", *arguments, "--steps", "3", "--optimizer", "sgd")
    assert code == 0 and "own, net 4-5-2: 37 parameters" in out and "test error" in out
    arguments = ["--net", "conv-2", *SMALL, "--optimizer", "kfc-pre", "--dtype", "float32"]
    code, out, _ = run(capsys, "train", *arguments, "--steps", "2", "--out", "conv")
    assert code == 0 and "digits, net conv-2: " in out and "float32" in out
    code, out, _ = run(capsys, "train", *SMALL, "--net", "64-5-64", "--output", "bernoulli", "--out", "ae")
    assert code == 0 and "test squared error" in out


def test_a_run_ends_on_target_or_when_its_time_is_over(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    code, _, _ = run(capsys, "train", "--target", "loss=30", "--measure-every", "1", "--steps", "50")
    losses = records.read(here / "minikfac-train/run.jsonl")["loss"]
    assert code == 0 and losses[-1] <= 30 < losses[-2]
    code, _, _ = run(capsys, "train", *SMALL, "--seconds", "0.05", "--out", "timed")
    seconds = records.read(here / "timed/run.jsonl")["seconds"]
    assert code == 0 and seconds[-1] >= 0.05 > seconds[-2]


def test_without_steps_there_is_the_start_and_no_figure(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    code, out, _ = run(capsys, "train", *SMALL, "--steps", "0")
    assert code == 0 and "Figure: none, as no step was made" in out
    assert not (here / "minikfac-train/loss.png").exists()
    assert checkpoint.load(here / "minikfac-train/run.npz").step == 0


def test_batches_may_grow(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    code, _, _ = run(capsys, "train", "--steps", "8", "--measure-every", "1", "--batch-size", "10:60:5")
    examples = records.read(here / "minikfac-train/run.jsonl")["examples"]
    assert code == 0 and list(np.diff(examples)) == [round(10 * 6 ** (k / 4)) for k in range(5)] + [60] * 3


def test_a_run_that_diverges_ends_in_one_line(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    arguments = ["--net", "64-5-64", "--output", "gaussian", "--activation", "relu", "--optimizer", "sgd"]
    code, _, err = run(capsys, "train", *arguments, "--set", "lr=1e6", "--checkpoint-every", "1")
    assert code == 2 and "expected finite numbers in step" in one_line(err)
    kept = checkpoint.load(here / "minikfac-train/run.npz")
    assert f"the checkpoint of step {kept.step} in" in one_line(err)
    assert np.isfinite(kept.theta).all()


# compare ----------------------------------------------------------------------------------------------------


def race(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    return run(capsys, "compare", *SMALL, "--optimizers", "sgd,kfac", *arguments)


def test_compare_leaves_records_a_table_and_figures(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    code, out, _ = race(capsys, "--steps", "20", "--set", "kfac.lam=2", "--out", "r")
    assert code == 0
    files = {path.name for path in (here / "r").iterdir()}
    runs = {"sgd.jsonl", "sgd.npz", "k-fac.jsonl", "k-fac.npz"}
    assert files == runs | {"targets.csv", "loss.png", "test_squared_error.png"}
    assert "Seconds to a loss of" in out and "Steps to a loss of" in out and "times sooner than SGD" in out
    histories = [records.read(here / "r" / name) for name in ("sgd.jsonl", "k-fac.jsonl")]
    assert [h.about["optimizer"]["kind"] for h in histories] == ["SGD", "KFAC"]
    assert histories[1].about["optimizer"]["lam"] == 2
    assert histories[0]["loss"][0] == histories[1]["loss"][0]
    assert histories[0].about["dataset"] == histories[1].about["dataset"]
    for h in histories:
        assert h["step"][-1] == 20 and f"{h['loss'][-1]:.3g}" in out
    with open(here / "r" / "targets.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["contender"] for row in rows} == {"SGD", "K-FAC"}


def test_a_race_is_resumed(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert race(capsys, "--steps", "4", "--out", "half")[0] == 0
    code, _, err = race(capsys, "--steps", "9", "--out", "half")
    assert code == 2 and "expected no checkpoint in half/sgd.npz yet, got one; --resume" in one_line(err)
    assert race(capsys, "--steps", "9", "--out", "half", "--resume")[0] == 0
    assert race(capsys, "--steps", "9", "--out", "whole")[0] == 0
    for name in ("sgd.npz", "k-fac.npz"):
        half, whole = (checkpoint.load(here / folder / name) for folder in ("half", "whole"))
        assert half.theta.tobytes() == whole.theta.tobytes()


def test_a_race_of_tuned_optimizers_says_what_was_spent(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    code, out, _ = race(capsys, "--steps", "5", "--tune", "0.3", "--trial", "0.1", "--set", "kfac.T3=7")
    assert code == 0
    words = unwrapped(out)
    assert (
        "Tuned by random search: 0.005 min of training each in trials of 0.1 s, and the best 3 again" in words
    )
    assert "lr: 0.0001 to 1; momentum: one of 0.0, 0.5" in words and "in all" in words
    assert words.count("each tuned for 0.005 min") == 3  # beside each table of results
    folder = here / "minikfac-compare"
    searches = {name: records.read(folder / f"{name}.search.jsonl") for name in ("sgd", "k-fac")}
    for name, search in searches.items():
        about = records.read(folder / f"{name}.jsonl").about["optimizer"]
        assert {key: about[key] for key in search.about["best"]} == search.about["best"]
        assert search.about["budget in seconds"] == 0.3
        assert search.about["trials"] == sum("arguments" in row for row in search.records)
    assert "T3" not in searches["k-fac"].about["space"]
    assert records.read(folder / "k-fac.jsonl").about["optimizer"]["T3"] == 7


def test_a_race_of_several_seeds(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert race(capsys, "--steps", "4", "--seeds", "3", "--seed", "5", "--out", "half")[0] == 0
    code, _, err = race(capsys, "--steps", "8", "--seeds", "3", "--seed", "5", "--out", "half")
    assert code == 2 and "expected no checkpoint in half/sgd-5.npz yet, got one; --resume" in one_line(err)
    code, out, _ = race(capsys, "--steps", "8", "--seeds", "3", "--seed", "5", "--out", "half", "--resume")
    assert code == 0 and "3 seeds: median (lowest to highest)" in unwrapped(out)
    runs = [f"{name}-{seed}" for name in ("sgd", "k-fac") for seed in (5, 6, 7)]
    kept = {path.name for path in (here / "half").iterdir() if path.suffix in (".jsonl", ".npz")}
    assert kept == {f"{run}.{kind}" for run in runs for kind in ("jsonl", "npz")}
    task = problem("digits-autoencoder", n_train=60)
    sgd = records.read(here / "half/sgd-6.jsonl")
    assert sgd.about["seed"] == 6
    with one_thread():
        start = task.net.loss(task.theta(6), task.dataset.x_train, task.dataset.y_train)
    assert sgd["loss"][0] == pytest.approx(start)
    with open(here / "half" / "targets.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["runs"] for row in rows} == {"3"}
    levels = {float(row["level"]) for row in rows}
    targets = {(row["contender"], float(row["level"]), row["along"]): row for row in rows}
    histories = [records.read(here / "half" / f"sgd-{seed}.jsonl") for seed in (5, 6, 7)]
    for level in levels:
        at = sorted(reached(history, "loss", level, "step") for history in histories)
        row = targets["SGD", level, "step"]
        assert float(row["at"]) == at[1] and float(row["lowest"]) == at[0]


def test_each_may_have_batches_of_its_own(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    more = ["--set", "kfac.batch_size=10:60:5", "--set", "kfac.lam=2", "--set", "sgd.batch_size=30"]
    code, out, _ = race(capsys, "--steps", "8", *more, "--out", "r")
    assert code == 0 and "SGD: batches of 30" in out and "K-FAC: batches that grow from 10 to 60" in out
    sgd, kfac = (records.read(here / "r" / f"{name}.jsonl") for name in ("sgd", "k-fac"))
    assert set(np.diff(sgd["examples"])) == {30}
    assert list(np.diff(kfac["examples"])) == [round(10 * 6 ** (k / 4)) for k in range(5)] + [60] * 3
    assert kfac.about["optimizer"]["lam"] == 2


def test_a_race_is_measured_as_often_as_asked(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert race(capsys, "--steps", "16", "--measure", "2", "--out", "r")[0] == 0
    assert list(records.read(here / "r/sgd.jsonl")["step"]) == [0, 1, 2, 3, 4, 6, 8, 12, 16]


def test_the_better_of_iterate_and_average_is_raced_for(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    more = ["--set", "kfac.averaging=2500", "--column", "best_loss", "--levels", "50"]
    code, out, _ = race(capsys, "--steps", "8", *more, "--out", "r")
    assert code == 0 and "Steps to a best loss of ..." in unwrapped(out)
    read = records.read(here / "r/k-fac.jsonl")
    assert f"{min(read['loss'][-1], read['loss_average'][-1]):.3g}" in out
    assert {"best_loss.png", "best_test_squared_error.png"} <= {path.name for path in (here / "r").iterdir()}
    code, out, _ = run(capsys, "plot", "r/sgd.jsonl", "r/k-fac.jsonl", "--column", "best_loss")
    assert code == 0 and "Seconds to a best loss of ..." in unwrapped(out)


# plot -------------------------------------------------------------------------------------------------------


def test_plot_draws_records(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert race(capsys, "--steps", "6", "--out", "r")[0] == 0
    files = ["r/sgd.jsonl", "r/k-fac.jsonl"]
    for more in ([], ["--column", "test_loss"], ["--levels", "50,40.5"]):
        code, out, _ = run(capsys, "plot", *files, *more, "--out", "a.png")
        assert code == 0 and out.endswith("Figure: a.png\n")
        assert matplotlib.image.imread(here / "a.png").shape[1] == 1280
        (here / "a.png").unlink()
    assert run(capsys, "plot", *files, "--out", "a.svg")[0] == 0
    text = (here / "a.svg").read_text()
    assert "sgd" in text and "k-fac" in text


def made(path: str, losses: list[float], seed: int = 0, seconds: float = 1.0, **about: Any) -> str:
    """Records of a run of a step a second, made by hand."""
    header = {"version": "1", "optimizer": {"kind": "SGD", "lr": 0.1}, "seed": seed} | about
    rows = [
        {"step": k, "seconds": seconds * k, "examples": 5 * k, "loss": loss, "lam": 1.0}
        for k, loss in enumerate(losses)
    ]
    Path(path).parent.mkdir(exist_ok=True)
    records.write(path, header | {"initial parameters (sha256)": f"of {seed}"}, rows)
    return path


def test_plot_takes_seeds_of_one_contender_together(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    slow = [made(f"r/slow-{seed}.jsonl", [9] * (5 + seed) + [1], seed) for seed in (1, 2, 3)]
    fast = [made(f"r/fast-{seed}.jsonl", [9] * seed + [1], seed, 0.5) for seed in (1, 2, 3)]
    code, out, _ = run(capsys, "plot", *slow, *fast, "--levels", "1", "--out", "a.svg")
    assert code == 0
    # seconds: 6, 7, 8 to 0.5, 1, 1.5; steps: 6, 7, 8 to 1, 2, 3
    for cell in ("slow 7 (6 to 8; 1x)", "fast 1 (0.5 to 1.5; 7x)", "fast 2 (1 to 3; 3.5x)"):
        assert cell in unwrapped(out)
    text = (here / "a.svg").read_text()
    assert ">slow<" in text.replace("<!-- ", ">").replace(" -->", "<") and "slow-1" not in text
    assert "each of 3 seeds" in text
    # in the other order the ratios are those to the other
    code, out, _ = run(capsys, "plot", *fast, *slow, "--levels", "1")
    assert code == 0 and "slow 7 (6 to 8; 0.14x)" in unwrapped(out)


def test_plot_redraws_a_race_for_another_machine(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert race(capsys, "--steps", "6", "--out", "r")[0] == 0
    files = ["r/sgd.jsonl", "r/k-fac.jsonl"]
    outputs = {}
    for name, rate in (("slow", 1e6), ("fast", 2e6)):
        Path(f"{name}.toml").write_text(f'rate = {rate}\nname = "the {name} one"\n')
        code, out, _ = run(
            capsys, "plot", *files, "--levels", "50", "--machine", f"{name}.toml", "--out", "a.svg"
        )
        assert code == 0 and f"Seconds are those of a model, not measured: the {name} one" in out
        assert f"seconds predicted for the {name} one" in (here / "a.svg").read_text()
        cells = re.findall(r"([\d.]+) \((?:[\d.]+x)\)", unwrapped(out))
        outputs[name] = [float(cell) for cell in cells]
    half = len(outputs["slow"]) // 2  # seconds, then steps
    assert outputs["slow"][half:] == outputs["fast"][half:]
    assert outputs["slow"][:half] == pytest.approx([2 * at for at in outputs["fast"][:half]], rel=0.01)
    Path("bad.toml").write_text("rate = 0")
    code, _, err = run(capsys, "plot", *files, "--machine", "bad.toml")
    assert code == 2 and "bad.toml: expected a machine in TOML or JSON, with rate" in one_line(err)
    made("r/adam.jsonl", [2, 1], optimizer={"kind": "Adam", "lr": 0.1})
    code, _, err = run(capsys, "plot", "r/adam.jsonl", "--machine", "slow.toml")
    assert code == 2 and "adam: expected dense and convolutional layers" in one_line(err)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ([("r/a-1.jsonl", 1, {}), ("r/a-2.jsonl", 2, {})], {"a": 2}),
        ([("r/a-1.jsonl", 1, {}), ("r/a-2.jsonl", 2, {"optimizer": {"lr": 1}})], {"a-1": 1, "a-2": 1}),
        ([("r/a-1.jsonl", 1, {}), ("r/a-2.jsonl", 2, {"batch_size": 7})], {"a-1": 1, "a-2": 1}),
        ([("r/a-1.jsonl", 0, {}), ("r/a-2.jsonl", 0, {})], {"a-1": 1, "a-2": 1}),  # not of these seeds
        ([("r/a.jsonl", 0, {}), ("r/a-1.jsonl", 1, {})], {"a": 1, "a-1": 1}),
        ([("r/a-1.jsonl", 1, {}), ("r/b-2.jsonl", 2, {})], {"a": 1, "b": 1}),
        ([(f"{r}/a-{k}.jsonl", k, {}) for r in "rs" for k in (1, 2)], {"r/a": 2, "s/a": 2}),
        ([("r/a.jsonl", 0, {}), ("s/a.jsonl", 0, {}), ("s/b.jsonl", 0, {})], {"r/a": 1, "s/a": 1, "s/b": 1}),
        ([("r/a.jsonl", 0, {}), ("r/a.search.jsonl", 0, {"search": "digits"})], {"a": 1}),
    ],
)
def test_contenders_are_named_by_what_tells_them_apart(
    here: Path, files: list[tuple[str, int, dict[str, Any]]], names: dict[str, int]
) -> None:
    paths = [Path(made(path, [2, 1], seed, **about)) for path, seed, about in files]
    groups = contenders(paths)
    assert {name: len(runs) for name, runs in groups.items()} == names
    assert all(len({run.about["seed"] for run in runs}) == len(runs) for runs in groups.values())


def test_plot_prints_no_levels_of_what_does_not_fall(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    path = made("a.jsonl", [2, 1])
    code, out, _ = run(capsys, "plot", path, "--column", "lam")
    assert (code, out) == (0, "Figure: minikfac-race.png\n")
    path = made("a.search.jsonl", [2, 1], search="digits")
    code, _, err = run(capsys, "plot", path)
    assert code == 2 and "expected records of a run, got none in a.search.jsonl" in one_line(err)


# errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--problem", "digit"], "expected a problem among digits, "),
        (["train", "--optimizer", "sdg"], "expected an optimizer among SGD, "),
        (["train", "--set", "lam"], "expected --set as NAME=VALUE, got 'lam'"),
        (["train", "--set", "foo=1"], "expected arguments of K-FAC among lam, "),
        (["train", "--set", "lam=-1"], "lam"),
        (["train", "--set", "lam=abc"], "expected lam >= 0, got 'abc'"),
        (["train", "--set", "lam=Linear(1)"], "expected a schedule among Constant, "),
        (
            ["train", "--batch-size", "many"],
            "expected a batch size as 250, or FIRST:MOST:STEP as 100:1500:200, got 'many'",
        ),
        (["train", "--batch-size", "10:1501:9"], "expected batch_size from 1 to 1500"),
        (["train", "--batch-size", "1501"], "expected batch_size from 1 to 1500"),
        (["train", "--target", "loss"], "expected --target as COLUMN=LEVEL, such as loss=0.1, got 'loss'"),
        (["train", "--target", "loss=low"], "expected finite numbers for --target, got 'low'"),
        (["train", "--seconds", "0"], "expected max_seconds > 0, got 0"),
        (["train", "--resume", "--overwrite"], "expected --resume or --overwrite, got both"),
        (["train", "--data", "mnist"], "expected --data only with --net, got --data mnist"),
        (["train", "--net", "64-10", "--width", "2"], "expected --width only with a problem by name"),
        (["train", "--net", "64"], "expected --net as units per layer"),
        (["train", "--net", "63-10"], "expected a net with 64 inputs"),
        (["train", "--steps", "-1"], "--steps"),
        (["compare", "--optimizers", ","], "expected --optimizers with commas between them"),
        (["compare", "--set", "lam=1"], "expected --set as OPTIMIZER.NAME=VALUE, such as kfac.lam=10"),
        (["compare", "--set", "ekfac.lr=1"], "expected --set for one of the optimizers that race"),
        (["compare", "--set", "kfac.foo=1"], "expected arguments of K-FAC among lam, "),
        (["compare", "--set", "kfac.batch_size=big"], "expected a batch size as 250, or FIRST"),
        (["compare", "--set", "kfac.batch_size=1501"], "expected batch_size from 1 to 1500"),
        (["compare", "--seeds", "0"], "--seeds"),
        (["compare", "--measure", "0"], "--measure"),
        (["compare", "--levels", "20,low"], "expected finite numbers for --levels, got 'low'"),
        (["compare", "--resume", "--tune", "9"], "expected --resume without --tune"),
        (
            ["compare", "--problem", "digits-convnet", "--optimizers", "kfac,kfac-tridiagonal"],
            "expected a chain of dense layers for block_tridiagonal",
        ),
        (["plot", "none.jsonl"], "none.jsonl: No such file or directory"),
        (["plot", "none.jsonl", "--out", "a.jpg"], "expected --out to end in .png, .svg or .pdf, got a.jpg"),
        (["plot", "none.jsonl", "none.jsonl"], "expected each file once, got one twice"),
    ],
)
def test_wrong_input_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], here: Path, arguments: list[str], message: str
) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in one_line(err)
    assert not list(here.rglob("*.npz"))


@pytest.mark.parametrize("command", ["train", "compare", "plot"])
def test_each_command_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0 and f"Example: minikfac {command}" in out


def test_the_module_has_the_commands_too(here: Path) -> None:
    command: list[Any] = [sys.executable, "-m", "minikfac", "train", "--steps", "1", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "Records: " in done.stdout
