"""docs/results/models.md: races on other machines and critical batches, computed again from the records."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from minikfac import optim
from minikfac.network import presets
from minikfac.races import Race
from minikfac.races.race import reached
from minikfac.scaling import cost_model as model
from minikfac.scaling import sweep
from oracles.pages import ROOT, script

races: Any = script("benchmarks/races.py")
RESULTS = ROOT / "docs" / "results"
PAGE = (RESULTS / "models.md").read_text(encoding="utf-8")
RACES = {  # by section: the race, its two sides and the levels
    "The MNIST autoencoder": (
        "mnist-autoencoder",
        ["Nesterov, batches of 100", "K-FAC"],
        [80, 70, 60, 57, 56, 55],
    ),
    "CIFAR-10": ("cifar10-kfc", ["SGD", "KFC-pre"], [1.0, 0.7, 0.4]),
    "CIFAR-10 at the paper's batches": ("cifar10-kfc-paper-batches", ["SGD", "K-FAC"], [1.0, 0.7, 0.4]),
}
MACHINES = {name: model.read_machine(RESULTS / "machines" / f"{name}.toml") for name in ("tesla-k40", "h100")}


def cells(section: str, row: str) -> list[str]:
    """The cells of a row of a section's table."""
    text = PAGE.split(f"## {section}")[1].split("\n## ")[0]
    line = next(line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip(" *") for cell in line.strip("|").split("|")][1:]


def ratios(section: str, machine: model.Machine | None, along: str = "seconds") -> list[float]:
    """How many times sooner the second contender reaches each level from seed 1."""
    name, pair, levels = RACES[section]
    runs = {racer: races.runs_of(name)[racer][:1] for racer in pair}
    if machine is not None:
        runs = {racer: [model.on_machine(run, machine) for run in one] for racer, one in runs.items()}
    rows = Race(runs).targets("best_loss", levels, [along])
    return [float(row["ratio"]) for row in rows if row["contender"] == pair[1]]


@pytest.mark.parametrize("section", RACES)
def test_races_on_other_machines(section: str) -> None:
    assert cells(section, "one core here") == [f"{ratio:.1f}" for ratio in ratios(section, None)]
    for machine in MACHINES.values():
        assert cells(section, machine.name) == [f"{ratio:.1f}" for ratio in ratios(section, machine)]
    updates = [f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" for ratio in ratios(section, None, "step")]
    assert cells(section, "updates") == updates


@pytest.mark.parametrize("section", list(RACES)[:2])
def test_slower_inverses(section: str) -> None:
    slow = replace(MACHINES["h100"], inverse_rate=MACHINES["h100"].rate / 10)
    low, high = (f"{ratio:.1f}" for ratio in (min(ratios(section, slow)), max(ratios(section, slow))))
    assert f"{low} to {high} with inverses at a tenth" in PAGE


def test_seed_1_is_the_best_of_three_on_the_autoencoder_from_70_nats_on() -> None:
    name, pair, levels = RACES["The MNIST autoencoder"]
    for level in levels:
        first, *others = races.ratios(races.runs_of(name), *pair, "best_loss", level)["seconds"]
        assert (first > max(others)) == (level <= 70)


def test_what_launches_cost_on_the_h100() -> None:
    h100, text = MACHINES["h100"], " ".join(PAGE.split())

    def seconds(section: str, racer: int, machine: model.Machine = h100) -> float:
        """Of seed 1 to 0.4 nats."""
        name, pair, _ = RACES[section]
        run = model.on_machine(races.runs_of(name)[pair[racer]][0], machine)
        return reached(run, "best_loss", 0.4, "seconds")

    free = replace(h100, call=0.0)
    shares = [1 - seconds("CIFAR-10", racer, free) / seconds("CIFAR-10", racer) for racer in (0, 1)]
    assert (
        f"launches are {100 * shares[0]:.0f}% of SGD's time and {100 * shares[1]:.0f}% of KFC-pre's" in text
    )
    small, large = seconds("CIFAR-10", 0), seconds("CIFAR-10 at the paper's batches", 0)
    assert (
        f"it takes {large:.1f} s to 0.4 instead of {small:.1f} s, which makes KFC-pre's factor "
        f"{large / seconds('CIFAR-10', 1):.1f}."
    ) in text


def test_what_the_claims_say_of_other_machines() -> None:
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    conv, paper = (ratios(section, MACHINES["h100"]) for section in list(RACES)[1:])
    auto = ratios("The MNIST autoencoder", MACHINES["h100"])
    assert (
        f"{min(auto):.1f} to {max(auto):.1f} times on the autoencoder, {min(conv):.1f} to {max(conv):.1f} "
        "with KFC-pre on CIFAR-10 with the batches chosen on a core, where SGD would choose larger ones, and "
        f"{min(paper):.1f} to {max(paper):.1f} with K-FAC at the paper's batches"
    ) in " ".join(text.split())
    results = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert f"has {min(paper):.1f} to {max(paper):.1f} for K-FAC on an H100" in results
    here = [[ratios(section, each) for each in (None, MACHINES["h100"])] for section in list(RACES)[::2]]
    grown = [[b / a for a, b in zip(*pair, strict=True)] for pair in here]
    assert (
        f"the autoencoder's factor would be {min(grown[0]):.1f} to {max(grown[0]):.1f} times as large, and "
        f"K-FAC's on CIFAR-10 at the paper's batches {float(np.median(grown[1])):.1f} times"
    ) in results


def test_the_machines_of_the_page_are_those_of_the_files() -> None:
    for machine in MACHINES.values():
        row = cells("Recorded races on another machine", machine.name)
        assert row[0] == f"{machine.rate / 1e12:.3g}" and row[1] == f"{machine.memory / 1e9:,.0f}"
        assert row[2] == f"{machine.call * 1e6:.0f}"


def test_one_core_against_two_as_recorded() -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "machines.json").read_text(encoding="utf-8"))
    net = presets.mnist_autoencoder()
    sizes = model.layer_sizes(net, (784,))
    plans = {"SGD": optim.SGD(net, lr=0.01, momentum=0.9), "K-FAC": optim.KFAC(net, lam=0.076)}
    for row in record["rows"]:
        for cores, constants in record["machines"].items():
            schedule, machine = model.Schedule.of(plans[row["method"]]), model.Machine(**constants)
            parts = model.step_seconds(sizes, row["examples"], 1, schedule, machine, model.Link())
            assert row[f"{cores} predicted"] == pytest.approx(sum(parts.values()))
        predicted = row["1"] * row["2 predicted"] / row["1 predicted"]
        assert row["2 from 1"] == pytest.approx(predicted)
        assert abs(predicted / row["2"] - 1) < 0.2
        expected = [f"{1e3 * row[key]:.0f}" for key in ("1", "2", "2 from 1")]
        assert cells("Recorded races", f"{row['method']}, {row['examples']} examples") == expected


def two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):,g}"


def batches(name: str) -> Mapping[str, Mapping[str, Any]]:
    record = json.loads((RESULTS / "noise-scale.json").read_text(encoding="utf-8"))
    return record["problems"][name]


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10"])
def test_critical_batches(name: str) -> None:
    scaling = sweep.read(RESULTS / f"scaling-{name}" / "scaling.jsonl")
    title = {"digits": "digits", "mnist": "MNIST autoencoder", "cifar10": "CIFAR-10"}[name]
    for method, row in batches(name).items():
        knee = scaling.knee(method)
        assert knee is not None and row["B"] == pytest.approx(knee.B, rel=1e-3)
        expected = [f"{row['B']:.3g}"]
        for key in ("preconditioned" if "preconditioned" in row else "curvature", "simple"):
            low, middle, high = np.quantile(row[key][1:], [0, 0.5, 1])
            expected.append(f"{two_digits(middle)} ({two_digits(low)} to {two_digits(high)})")
        assert cells("The critical batch", f"{title}, {method}") == expected


def test_the_predictions_against_the_sweeps_in_words() -> None:
    predicted, simple, spreads = [], [], []
    for row in (batches(name)[method] for name in ("digits", "mnist", "cifar10") for method in batches(name)):
        curvature = np.array(row["preconditioned" if "preconditioned" in row else "curvature"][1:])
        predicted.append(float(np.median(curvature)) / row["B"])
        simple.append(float(np.median(row["simple"][1:])) / row["B"])
        spreads.append(curvature.max() / curvature.min())
    text = " ".join(PAGE.split())
    a, b, c, d, e, f = (f"{ratio:.2g}" for ratio in predicted)
    assert f"{a} of the sweep's B on the digits with SGD and {b} with K-FAC, {c} times it" in text
    assert f"momentum and {d} of it with K-FAC, and {e} of it on CIFAR-10 with SGD and {f} with" in text
    assert f"varies by {min(spreads):.0f} to {max(spreads):.0f} times" in text
    nearer = [abs(np.log(p)) < abs(np.log(s)) for p, s in zip(predicted, simple, strict=True)]
    assert nearer == [False, False, True, False, False, False] and "in one case of six" in text
    assert "right within a tenth" in text and all(abs(ratio - 1) < 0.1 for ratio in simple[4:])
    assert f"from {simple[2]:.0f} times too large to {c} times" in text
