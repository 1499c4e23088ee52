"""What README and docs say of speed is what the benchmarks recorded."""

import json
import re
from typing import Any

import pytest

from oracles.pages import ROOT


def record(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def run(name: str, job: str) -> Any:
    return next(run for run in record(name)["runs"] if run["job"] == job)


def seconds(medians: dict[str, float], digits: int = 2) -> list[str]:
    """Ours, and the fastest peer's."""
    peers = [median for who, median in medians.items() if not who.startswith("minikfac")]
    return [f"{medians['minikfac']:.2f} s", f"{min(peers):.{digits}f} s"]


def test_the_readme_says_what_was_recorded() -> None:
    exact = next(run for run in record("exact_fisher")["runs"] if run["parameters"] == 7030)
    stated = [*seconds(exact["medians"], 1), *seconds(run("conv", "K-FAC")["medians"])]
    stated += seconds(run("autoencoder", "K-FAC")["medians"])
    ratios = [record(name)["sgd"]["ours_over_best_peer"] for name in ("autoencoder", "conv")]
    ratios.append(run("autoencoder", "K-FAC, the paper's periods")["ratio_to_sgd"])
    stated += [f"{ratio:.2f} times" for ratio in ratios]
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("- Speed against")[1].split("\n\n")[0]
    text = " ".join(text.split())
    assert re.findall(r"\d+\.\d+ (?:s|times)\b", text) == stated


def test_the_limits_say_what_was_recorded() -> None:
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8").split("A step of SGD takes")[1]
    ratios = [record(name)["sgd"]["ours_over_best_peer"] for name in ("autoencoder", "conv")]
    assert [float(number) for number in re.findall(r"(\d\.\d\d) times", text)[:2]] == [
        pytest.approx(ratio, abs=0.005) for ratio in ratios
    ]


def test_two_threads_never_cost_a_small_net_much() -> None:
    assert max(run["ratio"] for run in record("small_nets")["runs"]) <= 1.3
