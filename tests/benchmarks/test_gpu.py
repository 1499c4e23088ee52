"""The benchmarks for a GPU run where there is none: on the CPU, and with the stand-in, in tiny sizes."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oracles import standin

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: Any) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("CUPY_TF32", "0")
    yield importlib.import_module("gpu")
    for name in ("gpu", "common", "nets", "contenders", "steps", "exact_fisher"):
        sys.modules.pop(name, None)


def records(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


def test_parts_and_optimizers_run_on_the_device(gpu: Any, tmp_path: Path) -> None:
    with standin.installed(), standin.counted() as traffic:
        gpu.main(["--jobs", "parts", "optimizers", "--tiny", "--tf32", "off", "--out", str(tmp_path)])
    assert len(traffic.to_host) > 20
    by_name = records(tmp_path)
    assert sorted(by_name) == ["gpu_optimizers", "gpu_parts"]
    assert {record["device"] for record in by_name.values()} == {"stand-in"}
    parts = by_name["gpu_parts"]["found"]["conv"]["medians"]
    assert len(parts) == 11 and all(seconds > 0 for seconds in parts.values())


def test_ceilings_run_on_the_cpu(gpu: Any, tmp_path: Path) -> None:
    options = ["--device", "cpu", "--tiny", "--tf32", "off", "--out", str(tmp_path)]
    gpu.main(["--jobs", "ceilings", *options])
    ceilings = records(tmp_path)["gpu_ceilings"]["found"]
    assert ceilings["product_error"]["NumPy"] < 1e-5
    assert ceilings["gflop_per_second"]["NumPy"] > 0 and ceilings["gb_per_second"]["NumPy"] > 0


@pytest.mark.oracle
def test_all_jobs_agree_with_the_peers(gpu: Any, tmp_path: Path) -> None:
    gpu.main(["--device", "cpu", "--tiny", "--tf32", "off", "--out", str(tmp_path)])
    assert sorted(records(tmp_path)) == sorted(f"gpu_{job}" for job in gpu.JOBS)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--tiny"], "expected --out with --tiny"),
        (["--device", "cpu"], "expected --tiny with --device cpu"),
        (["--tf32", "on"], "expected CUPY_TF32=1 for --tf32 on"),
    ],
)
def test_what_would_leave_wrong_records_is_refused(
    gpu: Any, capsys: Any, options: list[str], message: str
) -> None:
    assert os.environ["CUPY_TF32"] == "0"
    with pytest.raises(SystemExit):
        gpu.main(options)
    assert message in capsys.readouterr().err


def test_results_that_differ_are_refused(gpu: Any) -> None:
    with pytest.raises(SystemExit, match="gradient differs by"):
        gpu.require({"gradient": 0.01}, tf32=False)
    assert gpu.require({"gradient": 0.01}, tf32=True) == {"gradient": 0.01}
