"""``--device`` of the commands that compute, with the stand-in for CuPy."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minikfac.cli import run
from minikfac.races import problem
from minikfac.training import checkpoint, records
from oracles import close, standin


@pytest.fixture
def cupy() -> Iterator[Any]:
    with standin.installed() as module:
        yield module


def losses(path: Path) -> list[float]:
    return [row["loss"] for row in records.read(path).records]


def test_train_computes_on_the_device_and_leaves_the_same_run(cupy: Any, tmp_path: Path) -> None:
    options = ["train", "--problem", "digits", "--examples", "200", "--steps", "4", "--set", "T3=2"]
    for device in ("cpu", "cuda"):
        with standin.counted() as traffic:
            assert run([*options, "--device", device, "--out", str(tmp_path / device)]) == 0
        assert (len(traffic.to_host) > 4) == (device == "cuda")
    here, there = (tmp_path / device / "run" for device in ("cpu", "cuda"))
    close(losses(there.with_suffix(".jsonl")), losses(here.with_suffix(".jsonl")))
    theta = checkpoint.load(there.with_suffix(".npz")).theta
    assert isinstance(theta, np.ndarray)
    close(theta, checkpoint.load(here.with_suffix(".npz")).theta)


def test_a_run_moves_from_device_to_host_by_resuming(cupy: Any, tmp_path: Path) -> None:
    options = ["train", "--problem", "digits", "--examples", "200", "--out", str(tmp_path)]
    assert run([*options, "--steps", "2", "--device", "cuda"]) == 0
    with standin.counted() as traffic:
        assert run([*options, "--steps", "4", "--resume"]) == 0
    assert traffic.to_host == traffic.to_device == []


def test_compare_races_and_tunes_on_the_device(cupy: Any, tmp_path: Path, capsys: Any) -> None:
    options = ["compare", "--problem", "digits", "--examples", "200", "--optimizers", "sgd,adam"]
    with standin.counted() as traffic:
        assert run([*options, "--steps", "3", "--device", "cuda:0", "--out", str(tmp_path)]) == 0
    assert len(traffic.to_host) > 6
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["adam.npz", "sgd.npz"]


def test_fisher_measures_on_the_device(cupy: Any, capsys: Any) -> None:
    options = ["fisher", "--net", "64-4-10", "--steps", "3", "--examples", "60", "--measures", "matrix"]
    tables = []
    for device in ("cpu", "cuda"):
        with standin.counted() as traffic:
            assert run([*options, "--device", device]) == 0
        assert bool(traffic.to_host) == (device == "cuda")
        tables.append(capsys.readouterr().out.split("What each assumption costs")[1].splitlines()[:-1])
    assert tables[0] == tables[1] and "K-FAC" not in tables[0]


@pytest.mark.parametrize("command", ["train", "compare", "fisher"])
@pytest.mark.parametrize(
    "device, message",
    [
        ("gpu", "expected device 'cpu', 'cuda' or 'cuda:N', got 'gpu'"),
        ("cuda:1", "expected a device that is here, 'cuda:0'; got 'cuda:1'"),
    ],
)
def test_a_wrong_device_is_told_in_one_line(
    cupy: Any, capsys: Any, command: str, device: str, message: str
) -> None:
    assert run([command, "--device", device]) == 2
    assert capsys.readouterr().err == f"minikfac: {message}\n"


def test_no_cupy_is_told_in_one_line(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert run(["train", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "minikfac: device 'cuda' needs CuPy: pip install 'minikfac[gpu]'\n"


def test_a_problem_draws_the_same_parameters_for_each_device(cupy: Any) -> None:
    here, there = (problem("digits", device=device).theta(3) for device in ("cpu", "cuda"))
    assert isinstance(there, cupy.ndarray)
    assert json.dumps(there.get().tolist()) == json.dumps(here.tolist())
