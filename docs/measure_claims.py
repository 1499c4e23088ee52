"""Collect the numbers of docs/claims.md: from a tour, an invariance study, and the records of the long races.

    minikfac tour                 # leaves minikfac-tour/results.json
    minikfac invariance           # leaves minikfac-invariance/invariance.json
    python docs/measure_claims.py

writes docs/results/claims.json: per claim, what was measured and the number as the page prints it. A test
sees that each stands on the page.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from minikfac import __version__, presets
from minikfac.tour import ascents, gaussian_flows

ROOT = Path(__file__).parents[1]
RACES = ROOT / "docs" / "results"


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def charts() -> dict[str, dict[str, str]]:
    """T1 and T4: what halving the step does to paths that should be one."""
    globe, family = ascents(), gaussian_flows()
    what = "apart after the smallest step, over that after twice it; "
    return {
        "T1": {what + name: _last_ratio(apart) for name, apart in globe.apart.items()},
        "T4": {what + name: _last_ratio(apart) for name, apart in family.walked.items()},
    }


def _last_ratio(apart: object) -> str:
    *_, before, after = [float(value) for value in apart]  # type: ignore[attr-defined]
    return f"{after / before:.2f}"


def from_tour(record: dict) -> dict[str, dict[str, str]]:
    """What the tour's results.json says of each claim."""
    steps = record["descent"]["conditioning"]["steps"]
    at = record["descent"]["conditioning"]["condition_numbers"].index(100.0)
    rows = {row["approximation"]: row for row in record["quality"] if row["layer"] == "all"}
    ledger = {row["label"]: row for row in record["ledger"]}
    start, middle = record["means_start"], record["middle_layers"]["errors"]
    layer = record["convolutions"]["layer_ledgers"]["conv0"]
    conv = {row["label"].split(":")[0]: row for row in layer}
    maps = {
        pool: {row["layer"]: row["1"] for row in rows_of if row["signal"] == "derivatives"}
        for pool, rows_of in record["convolutions"]["maps"].items()
    }
    shifts = record["convolutions"]["shifts"]
    top, left, height, width = shifts["kernel"]
    inside = [row[left : left + width] for row in shifts["products"][top : top + height]]
    largest = max(abs(value) for row in shifts["gradient"] for value in row)
    gap = max(
        abs(a - b)
        for row, gradient in zip(inside, shifts["gradient"], strict=True)
        for a, b in zip(row, gradient, strict=True)
    )
    memory = {row["name"]: row for row in record["memory"]}["MNIST autoencoder"]
    return {
        "T2": {
            "gradient, steps": str(steps["gradient, the best step"][at]),
            "natural gradient, steps": str(steps["natural gradient"][at]),
        },
        "T3": {"slope": f"{record['divergence']['slope']:.2f}"},
        "T5": {
            "parameters": f"{memory['parameters']:,}",
            "full matrix": f"{memory['fisher_bytes'] / 1e12:.0f} TB",
            "factors": f"{memory['factor_bytes'] / 1e6:.0f} MB",
        },
        "T6": {
            name: f"{rows[name]['error']:.2f} and {rows[name]['step_cosine']:.2f}"
            for name in ("diagonal", "K-FAC", "low rank")
        },
        "T7": {
            "block-tridiagonal to F̃": percent(middle["tridiagonal to kronecker"]),
            "K-FAC to F̃": percent(middle["kfac to kronecker"]),
            "inverse, block-tridiagonal": f"{100 * middle['inverse tridiagonal to kronecker']:.1f}%",
            "inverse, K-FAC": f"{100 * middle['inverse kfac to kronecker']:.1f}%",
        },
        "T8": {
            "norm of the mean under the model, no more than": _bound(start["model_norm"]),
            "under labels": f"{start['label_norm']:.2f}",
        },
        "T9": {
            "no correlations between layers": f"{ledger['no correlations between layers']['error']:.2f}",
            "and IAD": f"{ledger['activations independent of derivatives']['error']:.2f}",
            "cosine": f"{ledger['activations independent of derivatives']['step_cosine']:.2f}",
            "IAD alone": f"{conv['IAD']['error']:.2f}",
            "SUD alone": f"{conv['SUD']['error']:.2f}",
            "IAD + SH": f"{conv['IAD + SH']['error']:.2f}",
            "all": f"{conv['IAD + SH + SUD']['error']:.2f}",
            "neighbours under max-pooling": f"{maps['max']['conv0']:.2f}",
            "under average pooling": f"{maps['avg']['conv0']:.2f}",
        },
        "T11": {"largest difference, relative, no more than": _bound(gap / largest)},
        "T12": {
            "error": f"{rows['K-FAC']['error']:.2f}",
            "cosine": f"{rows['K-FAC']['step_cosine']:.2f}",
            "numbers of K-FAC": f"{rows['K-FAC']['floats']:,}",
            "of the blocks": f"{rows['block-diagonal']['floats']:,}",
        },
    }


def _bound(value: float) -> str:
    """A power of ten that is not below the value; rounding differs between machines."""
    power = 0
    while value <= 10.0 ** (power - 1) and power > -13:
        power -= 1
    return f"1e{power}"


def from_invariance(record: dict) -> dict[str, str]:
    """T13: the largest gap of K-FAC, and the smallest of SGD, over the applications."""
    cells = record["cells"] + [cell for one in record["applications"] for cell in one["cells"]]
    maps = ("logistic to tanh", "center", "normalize")
    kept = {
        method: [
            cell["gap"]
            for cell in cells
            if cell["method"] == method and (cell["change"] in maps or cell["change"] == "whiten-colors")
        ]
        for method in ("K-FAC", "SGD")
    }
    return {
        "K-FAC, no more than": _bound(max(kept["K-FAC"])),
        "SGD, no less than": f"{min(kept['SGD']):.2f}",
    }


def from_races() -> dict[str, str]:
    """T14: how many times sooner K-FAC was than SGD, over all levels that both reached in the records."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import races

    factors = {}
    autoencoder = "mnist-autoencoder", "Nesterov, batches of 100", "K-FAC"
    conv = "cifar10-kfc", "SGD", "KFC-pre"
    for what, (name, slow, fast), column in (
        ("MNIST autoencoder, training loss", autoencoder, "best_loss"),
        ("CIFAR-10, training loss", conv, "best_loss"),
        ("CIFAR-10, test error", conv, "best_test_error"),
    ):
        runs = races.runs_of(name)
        for key in ("seconds", "updates"):
            of = (races.ratios(runs, slow, fast, column, at)[key] for at in races.RACES[name].levels[column])
            medians = [float(np.median(each)) for each in of if each]
            factors[f"{what}, {key}"] = f"{races.factor(min(medians))} to {races.factor(max(medians))}"
    return factors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tour", type=Path, default=Path("minikfac-tour/results.json"))
    parser.add_argument("--invariance", type=Path, default=Path("minikfac-invariance/invariance.json"))
    options = parser.parse_args()
    tour = json.loads(options.tour.read_text(encoding="utf-8"))
    numbers = charts() | from_tour(tour)
    numbers["T13"] = from_invariance(json.loads(options.invariance.read_text(encoding="utf-8")))
    numbers["T14"] = from_races()
    assert presets.mnist_autoencoder().n_params == 2_837_314
    record = {
        "minikfac": __version__,
        "versions": tour["versions"],
        "numbers": dict(sorted(numbers.items(), key=lambda item: int(item[0][1:]))),
    }
    path = ROOT / "docs" / "results" / "claims.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
