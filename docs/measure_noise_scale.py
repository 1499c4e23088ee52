"""Predict the critical batches of the recorded sweeps from curvature and gradient noise along training.

    python docs/measure_noise_scale.py --data FOLDER      # with mnist and cifar10 in it; minutes

writes docs/results/noise-scale.json. Per problem and method: the best run at batches of 256 is made again
from the start of seed 1, and at some moments noise_scale is computed from the gradients of 128 single
examples, the gradient of the whole training set, and the Fisher matrix of up to 1,500 examples (512 for large
nets); for K-FAC and KFC-pre also with their preconditioner. B is that of steps(m) = S (1 + B / m), fitted to
the sweep.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minikfac import __version__, fisher, quality
from minikfac.parallel import one_thread
from minikfac.races.contenders import contender
from minikfac.races.problems import Problem, problem
from minikfac.scaling import noise_scale, sweep
from minikfac.training import train

RESULTS = Path(__file__).parent / "results"
PROBLEMS: dict[str, tuple[str, str | None, dict[str, Any], int]] = {
    "digits": ("digits", None, {}, 256),
    "mnist": ("mnist-autoencoder", "mnist", {"n_train": 4096, "n_test": 1000, "width": 0.25}, 256),
    "cifar10": ("cifar10-kfc", "cifar10", {"n_train": 2048, "n_test": 200, "width": 0.25}, 256),
}
"""By name of the record: problem, folder of its data, its size, and the batch of the run."""
EXAMPLES, CURVATURE, MOMENTS = 128, 512, 8


def damping(method: str, settings: dict[str, Any]) -> float:
    """Of the preconditioner: K-FAC's first lambda, KFC-pre's constant, none for SGD."""
    return settings.get("lam", settings.get("damping", 0.0))


def scales(p: Problem, lam: float, step: int, theta: Any) -> dict[str, Any]:
    """Noise scales at one moment: simple, with curvature and, if there is damping, with a preconditioner."""
    rng, data = np.random.default_rng([1, step]), p.dataset
    some, curved = (
        np.sort(rng.permutation(len(data.x_train))[:count]) for count in (EXAMPLES, max(CURVATURE, 1500))
    )
    curved = curved[: CURVATURE if theta.size > 5000 else None]
    x = data.x_train[curved]
    D = quality.gradients_of(fisher.signals(p.net, theta, data.x_train[some], data.y_train[some], "data"))
    g = p.net.gradient(theta, data.x_train, data.y_train)
    F = fisher.product(p.net, theta, x)
    row = {"simple": noise_scale(D, g), "curvature": noise_scale(D, g, F.__matmul__)}
    if lam:
        inverse = fisher.kfac(fisher.signals(p.net, theta, x, batch_size=128)).inverse(lam, "factored")
        row["preconditioned"] = noise_scale(D, g, F.__matmul__, inverse.__matmul__)
    return row


def measured(name: str, folder: Path | None, moments: int = MOMENTS) -> dict[str, Any]:
    """Per method of a sweep: the fitted B, and the noise scales along its best run."""
    title, data, options, m = PROBLEMS[name]
    p = problem(title, folder and data and folder / data, **options)
    scaling = sweep.read(RESULTS / f"scaling-{name}" / "scaling.jsonl")
    methods = {}
    for method in scaling.methods:
        knee, best = scaling.knee(method), scaling.best(method, m)[0]
        settings = scaling.about["methods"][method]["arguments"] | best["arguments"]
        settings = {key: made(value) for key, value in settings.items()}
        if method == "K-FAC":
            settings = {"gamma_share": 1, **settings}  # where the sweeps' gamma began
        steps = int(best["steps"])
        at = {round(step) for step in np.linspace(0, steps, moments)}
        track: Callable[[int, Any], dict[str, Any]] = partial(scales, p, damping(method, settings))
        run = train(
            p.net, p.theta(best["seed"]), contender(method).make(p.net, **settings), p.dataset, steps, m,
            best["seed"], at.__contains__, track, progress=False,
        )  # fmt: skip
        keys = [key for key in ("simple", "curvature", "preconditioned") if key in run.records[-1]]
        methods[method] = {"B": knee.B if knee else None, "S": knee.S if knee else None, "steps": steps}
        methods[method] |= {"loss": list(run["loss"])} | {key: list(run[key]) for key in keys}
        print(name, method, json.dumps(methods[method]), flush=True)
    return methods


def made(value: Any) -> Any:
    """A setting as it was: a schedule from its description."""
    if isinstance(value, dict) and value.get("kind") == "SutskeverMomentum":
        from minikfac.optim.schedules import SutskeverMomentum

        return SutskeverMomentum(value["maximum"])
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mnist and cifar10; digits alone without it")
    options = parser.parse_args()
    path = RESULTS / "noise-scale.json"
    record = json.loads(path.read_text(encoding="utf-8"))["problems"] if path.exists() else {}
    with one_thread():
        for name in PROBLEMS if options.data else ["digits"]:
            rows = measured(name, options.data)
            record[name] = json.loads(json.dumps(rows), parse_float=lambda text: float(f"{float(text):.4g}"))
            path.write_text(json.dumps({"minikfac": __version__, "problems": record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
