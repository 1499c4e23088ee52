"""Measure which Gaussian model of the gradient a statistician would choose, on the net of training.example().

    python docs/measure_gradient_models.py

writes docs/results/gradient-models.json and its picture in docs/images. For each seed the 1,500 training
images are divided anew into 500 to fit, 500 to choose the damping and 500 to judge, and one target is drawn
for each from the net's predictions. "sampled": models are fitted to the 500 drawn gradients; "model": to the
exact expectation over targets of the same images, the limit of many draws. Two minutes.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
from six_digits import six_digits

from minikfac import __version__, fisher, plots, quality
from minikfac.parallel import one_thread
from minikfac.training.example import example

PATH = Path(__file__).parent / "results" / "gradient-models.json"
SEEDS = 5
FIT, VALIDATION = 500, 500
DAMPINGS = [10.0 ** (half / 2) for half in range(-12, 1)]
TARGETS = ("sampled", "model")
NAMES = ["block-diagonal", "K-FAC", "K-FAC (factored damping)", "block-tridiagonal", "EKFAC"]
NAMES += ["nearest Kronecker", "diagonal", "no curvature"]
BUILD = {"exact": fisher.exact} | {name: quality.APPROXIMATIONS[name][0] for name in NAMES}
BUILD |= {f"low rank, {rank}": partial(fisher.low_rank, rank=rank) for rank in (10, 100)}
METHODS = {"K-FAC (factored damping)": "factored"}


def judged(seed: int, targets: str, names: Sequence[str] = tuple(BUILD)) -> list[dict[str, Any]]:
    """The rows of one division of the images."""
    one, rng = example(), np.random.default_rng(seed)
    x = one.data.x_train[rng.permutation(len(one.data.x_train))]
    parts = [x[:FIT], x[FIT : FIT + VALIDATION], x[FIT + VALIDATION :]]
    drawn = [fisher.signals(one.net, one.theta, part, targets="sampled", rng=rng) for part in parts]
    fitted = drawn[0] if targets == "sampled" else fisher.signals(one.net, one.theta, parts[0])
    validation, test = (quality.gradients_of(signals) for signals in drawn[1:])
    models = {name: BUILD[name](fitted) for name in names}
    return quality.held_out(models, validation, test, DAMPINGS, METHODS)


def summary(rows_of_seeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Per model: medians over seeds of its numbers, their range, and its distance from the best."""
    nats = np.array([[row["nats"] for row in rows] for rows in rows_of_seeds])  # (seeds, models)
    behind = nats[:, [np.median(nats, axis=0).argmax()]] - nats
    errors = {
        key: np.median([[row[key] for row in rows] for rows in rows_of_seeds], axis=0)
        for key in ("nats_se", "behind_se")
    }
    return [
        {"approximation": row["approximation"], "floats": row["floats"]}
        | {"nats": np.median(nats[:, place]), "lowest": nats[:, place].min(), "highest": nats[:, place].max()}
        | {"behind": np.median(behind[:, place])}
        | {"least behind": behind[:, place].min(), "most behind": behind[:, place].max()}
        | {key: of_models[place] for key, of_models in errors.items()}
        | {"damping": [rows[place]["damping"] for rows in rows_of_seeds]}
        for place, row in enumerate(rows_of_seeds[0])
    ]


def main() -> None:
    with one_thread():
        seeds = {kind: [judged(seed, kind) for seed in range(SEEDS)] for kind in TARGETS}
    record = {"minikfac": __version__, "examples": [FIT, VALIDATION, 1500 - FIT - VALIDATION]}
    record |= {"dampings": DAMPINGS, "medians": {kind: summary(rows) for kind, rows in seeds.items()}}
    record |= {"seeds": seeds}
    PATH.write_text(json.dumps(six_digits(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for kind, rows in record["medians"].items():
        for row in rows:
            print(kind, *(f"{key} {value}" for key, value in six_digits(row).items()), sep="  ")
    draw()


def draw() -> None:
    """Draw the record, in 256 colours: half the size of a file."""
    rows = json.loads(PATH.read_text(encoding="utf-8"))["medians"]["sampled"]
    path = PATH.parents[1] / "images" / "gradient-models.png"
    plots.likelihood_against_storage(rows)[0].figure.savefig(path, dpi=200)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
