"""Measure what updates of K-FAC lose, and how curved the loss is along them: numbers and figure of a page.

    python docs/measure_updates.py --folder CIFAR10

writes docs/results/updates.json and docs/images/curvature-along-the-step.png. Two parts:

    costs       progress of one update with one approximation at a time, of README's net (``minikfac costs``)
    curvature   v_l^T F v_l over v_l^T F~ v_l during training, of an autoencoder and two convolutional nets

A test measures some of it again, and holds the numbers on the pages to it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
from minikfac import optim, plots, races, training
from minikfac.parallel import one_thread
from minikfac.training.update_costs import costs_on_digits, median_and_range

DOCS = Path(__file__).parent
PATH, FIGURE = DOCS / "results" / "updates.json", DOCS / "images" / "curvature-along-the-step.png"
SEEDS, UPDATES = range(5), (30, 70)
NETS: dict[str, dict[str, Any]] = {
    "digits-autoencoder": {"steps": 100, "seeds": (0, 1, 2)},
    "digits-convnet": {"steps": 100, "seeds": (0, 1, 2)},
    "cifar10-kfc": {"steps": 60, "seeds": (0, 1), "width": 0.25, "n_train": 1000, "n_test": 100},
}
"""By problem; K-FAC with its defaults on the first, KFC-pre on the others."""
MOMENTS = 5
"""Updates that are measured, evenly spaced."""


def costs(updates: int) -> dict[str, Any]:
    """Rows of median, lowest and highest progress by approximation, and the shares of the first seed."""
    runs = costs_on_digits(SEEDS, updates)
    return {"rows": median_and_range(runs), "first": dict(runs[0].model)}


def run(name: str, seed: int, folder: Path | None, steps: int, **settings: Any) -> list[dict[str, Any]]:
    """Records of a run with curvature along the step."""
    problem = races.problem(name, folder if name.startswith("cifar") else None, **settings)
    if name == "digits-autoencoder":
        opt = optim.KFAC(problem.net, curvature=True)
    else:
        opt = optim.KFCPre(problem.net, 0.01, damping=0.03, clip_norm="kfac", curvature=True)
    size = problem.batch_size
    every = steps // MOMENTS
    history = training.train(
        problem.net, problem.theta(seed), opt, problem.dataset, steps, size, seed, every, progress=False
    )
    keep = lambda key: key in ("step", "loss") or key.startswith("curvature")  # noqa: E731
    return [{key: value for key, value in row.items() if keep(key)} for row in history.records]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the files of CIFAR-10 are, if not in the cache")
    folder = parser.parse_args().folder
    with one_thread():
        record = {
            "curvature": {
                name: [
                    run(name, seed, folder, **{k: v for k, v in of.items() if k != "seeds"})
                    for seed in of["seeds"]
                ]
                for name, of in NETS.items()
            },
            "costs": {str(updates): costs(updates) for updates in UPDATES},
        }
    PATH.write_text(json.dumps(_rounded(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(record["curvature"]["cifar10-kfc"][0])


def draw(records: list[dict[str, Any]]) -> None:
    """Draw the figure of the page, in 256 colours: half the size of a file."""
    plots.curvature_along_training(records).figure.savefig(FIGURE, dpi=200)
    Image.open(FIGURE).convert("RGB").quantize(256).save(FIGURE, optimize=True)


def _rounded(value: Any) -> Any:
    """Four digits: the rest is rounding, and differs between machines."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) and np.isfinite(value) else value


if __name__ == "__main__":
    main()
