"""Measure the one net of README, docs, tutorials and report: the numbers that all of them quote.

    python docs/measure_example.py

writes docs/results/example.json and the pictures of it in docs/images: the quality table of
``training.example()`` after 200 steps of SGD, the same along training, and the step's progress against
damping. A test measures some of it again, and holds the numbers on the pages to it.
"""

import json
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
from six_digits import six_digits

from minikfac import __version__, fisher, plots, quality
from minikfac.parallel import one_thread
from minikfac.quality import APPROXIMATIONS, applicable
from minikfac.training.example import STEPS, Example, example

PATH = Path(__file__).parent / "results" / "example.json"
DAMPING = 0.01
DAMPINGS = [1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0]
MOMENTS = [0, 25, 50, 100, 200, 400, 800, 2000]
COLUMNS = ("error", "c_star", "step_cosine", "step_length", "share", "floats")
FOLLOWED = ("K-FAC", "block-diagonal", "block-tridiagonal", "EKFAC", "diagonal", "no curvature")
ALONG = ("error", "step_cosine", "share")


def comparison(one: Example, damping: float, measures: tuple[str, ...] = ("matrix", "step")) -> list[dict]:
    """Every approximation at one moment and one damping, for all parameters together."""
    signals = fisher.signals(one.net, one.theta, one.x)
    names = applicable(signals)
    matrices = {name: APPROXIMATIONS[name][0](signals) for name in names}
    methods = {name: method for name in names if (method := APPROXIMATIONS[name][1])}
    gradient = one.net.gradient(one.theta, one.x, one.y)
    F = fisher.exact(signals)
    return quality.compare(F, matrices, gradient, damping, methods, measures).whole()


def sizes(one: Example) -> dict[str, float]:
    """How large things are: parameters, numbers stored, and the part of F between layers."""
    signals = fisher.signals(one.net, one.theta, one.x)
    F = fisher.exact(signals)
    blocks = fisher.block_diagonal(signals).to_dense()
    first = fisher.kfac(signals).blocks[0]
    exact = F.array[signals.slices[0], signals.slices[0]]
    return {
        "parameters": one.net.n_params,
        "floats of F": F.floats,
        "floats of K-FAC": fisher.kfac(signals).floats,
        "between layers": float(np.linalg.norm(F.array - blocks) / np.linalg.norm(F.array)),
        "blocks of K-FAC": float(
            np.linalg.norm(blocks - fisher.kfac(signals).to_dense()) / np.linalg.norm(blocks)
        ),
        "first block": float(np.linalg.norm(exact - first.to_dense()) / np.linalg.norm(exact)),
    }


def main() -> None:
    with one_thread():
        rows = comparison(example(), DAMPING)
        along = {steps: comparison(example(steps), DAMPING) for steps in MOMENTS}
        damped = {damping: comparison(example(), damping, ("step",)) for damping in DAMPINGS}
    names = [row["approximation"] for row in rows]
    record = {
        "minikfac": __version__,
        "steps": STEPS,
        "damping": DAMPING,
        "sizes": sizes(example()),
        "quality": {row["approximation"]: {key: row[key] for key in COLUMNS} for row in rows},
        "along": {"steps": MOMENTS} | {name: _column(along, name, ALONG) for name in names},
        "damped": {"damping": DAMPINGS} | {name: _column(damped, name, ALONG[1:]) for name in names},
    }
    PATH.write_text(json.dumps(six_digits(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(PATH.read_text(encoding="utf-8"))
    draw(json.loads(PATH.read_text(encoding="utf-8")))


def draw(record: dict) -> None:
    """Draw what README and docs show of the record, in 256 colours: half the size of a file."""
    one = example()
    signals = fisher.signals(one.net, one.theta, one.x)
    F, factors = fisher.exact(signals).array, [(block.A, block.G) for block in fisher.kfac(signals).blocks]
    rows = [{"approximation": name, **row} for name, row in record["quality"].items()]
    along, damped = (dict(record[key]) for key in ("along", "damped"))
    steps, dampings = along.pop("steps"), damped.pop("damping")
    curves = [{name: along[name][key] for name in FOLLOWED} for key in ("error", "step_cosine")]
    curves[0].pop("no curvature")  # whose error is 1
    pictures = {
        "readme": plots.kfac_picture(F, factors, signals.names, len(factors) - 1),
        "progress": plots.progress_against_storage(
            rows, F.size, dampings=dampings, curves=damped, damping=record["damping"]
        ),
        "along-training": plots.approximations_along_training(steps, *curves, now=record["steps"]),
    }
    for name, axes in pictures.items():
        path = PATH.parents[1] / "images" / f"{name}.png"
        axes[0].figure.savefig(path, dpi=200)
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def _column(moments: dict, name: str, keys: tuple[str, ...]) -> dict[str, list[float]]:
    rows = [next(row for row in rows if row["approximation"] == name) for rows in moments.values()]
    return {key: [row[key] for row in rows] for key in keys}


if __name__ == "__main__":
    main()
