"""Measure posteriors over weights by several curvature matrices: a regression, and digits.

    python docs/measure_laplace.py

writes docs/results/laplace.json and its pictures in docs/images; some minutes. The regression: 60 points with
a gap, a net of two hidden layers of 10, theta and prior in turn by the evidence of the exact matrix. Digits:
per seed 500 images to train a net 64-16-10, theta and prior in turn by the evidence of K-FAC, 1,000 others to
judge; far from the data are 500 of those, turned by a quarter or with pixels exchanged between all images.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
from six_digits import six_digits

from minikfac import __version__, datasets, fisher, mlp, optim, plots, training
from minikfac.laplace import Laplace, calibration_error
from minikfac.parallel import one_thread
from minikfac.plots.style import labelled, marked_pen, new_figure

PATH = Path(__file__).parent / "results" / "laplace.json"
KINDS: dict[str, Callable[[fisher.Signals], fisher.FisherMatrix]] = {
    "exact": fisher.exact,
    "block-diagonal": fisher.block_diagonal,
    "K-FAC": fisher.kfac,
    "diagonal": fisher.diagonal,
}
NOISE, ROUNDS, SEEDS = 0.1, 4, 5


def regression_data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = np.r_[rng.uniform(-2, -0.7, 30), rng.uniform(0.8, 2, 30)][:, None]
    return x, 0.8 * np.sin(3 * x) + 0.3 * x + NOISE * rng.standard_normal(x.shape)


def regression() -> dict[str, Any]:
    """Weights and prior in turn, and what :func:`bands` makes of them."""
    x, y = regression_data()
    net, delta = mlp([1, 10, 10, 1], "tanh", "gaussian"), 1.0
    theta = net.init(np.random.default_rng(0))
    for _ in range(ROUNDS):
        opt = optim.HessianFree(net, l2=delta * NOISE**2 / len(x))
        state = opt.init(theta)
        for step in range(100):
            theta, state, _ = opt.step(theta, state, (x, y), np.random.default_rng(step))
        signals = fisher.signals(net, theta, x)
        posterior = Laplace(net, theta, fisher.exact(signals), x, y, delta, NOISE**2)
        delta = posterior.with_best_prior().prior_precision
    return {"delta": delta, "theta": theta.tolist()} | bands(theta, delta)


def bands(theta: Any, delta: float) -> dict[str, Any]:
    """Data, mean, and per matrix the standard deviation with noise and the evidence."""
    (x, y), net, grid = regression_data(), mlp([1, 10, 10, 1], "tanh", "gaussian"), np.linspace(-4, 4, 161)
    signals = fisher.signals(net, theta, x)
    record: dict[str, Any] = {
        "x": x[:, 0].tolist(),
        "y": y[:, 0].tolist(),
        "grid": grid.tolist(),
        "kinds": {},
    }
    for name, build in KINDS.items():
        posterior = Laplace(net, theta, build(signals), x, y, delta, NOISE**2)
        z, covariance = posterior.outputs(grid[:, None])
        sd = (covariance[:, 0, 0] + NOISE**2) ** 0.5
        record["kinds"][name] = {"evidence": posterior.log_evidence(), "sd": sd.tolist()}
        record["mean"] = z[:, 0].tolist()
    return record


def entropy(p: Any) -> Any:
    return -(p * np.log(np.maximum(p, 1e-300))).sum(1)


def nll(p: Any, y: Any) -> float:
    return float(-np.log(p[np.arange(len(y)), y]).mean())


def digits(seed: int, kinds: list[str]) -> list[dict[str, Any]]:
    """Rows of one division of the images."""
    data, rng = datasets.digits(), np.random.default_rng(seed)
    x, y = np.r_[data.x_train, data.x_test], np.r_[data.y_train, data.y_test]
    order = rng.permutation(len(x))
    train, test = order[:500], order[500:1500]
    net, delta = mlp([64, 16, 10], "tanh"), 1.0
    theta, images = net.init(rng), datasets.Dataset(x[train], y[train], x[test], y[test], "digits")
    for _ in range(ROUNDS):
        opt = optim.SGD(net, lr=0.05, momentum=0.9, l2=delta / 500)
        theta = training.train(net, theta, opt, images, 1500, 100, seed, progress=False).theta
        signals = fisher.signals(net, theta, x[train])
        posterior = Laplace(net, theta, fisher.kfac(signals), x[train], y[train], delta)
        delta = posterior.with_best_prior().prior_precision
    some = x[test[:500]]
    turned = np.rot90(some.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
    far = {"turned": turned, "noise": rng.permutation(some.ravel()).reshape(-1, 64)}

    def row(kind: str, predict: Callable[[Any], Any]) -> dict[str, Any]:
        p, near = predict(x[test]), entropy(predict(some))
        scores = {"nll": nll(p, y[test]), "ece": calibration_error(p, y[test], 10)}
        scores |= {"test error": float((p.argmax(1) != y[test]).mean()), "confidence": float(p.max(1).mean())}
        for name, images in far.items():
            scores[name] = float((near[:, None] < entropy(predict(images))).mean())
        return {"kind": kind, "delta": delta, **scores}

    rows = [row("theta alone", lambda images: net.predict(theta, images))]
    for kind in kinds:
        posterior = Laplace(net, theta, KINDS[kind](signals), x[train], y[train], delta)
        rows.append(row(kind, posterior.predict) | {"log evidence": posterior.log_evidence()})
    return rows


def summary(seeds: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Median, least and most over seeds of each number."""
    rows = []
    for same in zip(*seeds, strict=True):
        numbers = {key: [row[key] for row in same] for key in same[0] if key != "kind"}
        ranges = {key: [float(np.median(v)), min(v), max(v)] for key, v in numbers.items()}
        rows.append({"kind": same[0]["kind"]} | ranges)
    return rows


def main() -> None:
    with one_thread():
        record: dict[str, Any] = {"minikfac": __version__, "regression": regression(), "seeds": []}
        for seed in range(SEEDS):
            record["seeds"].append(digits(seed, list(KINDS)))
            print(*record["seeds"][-1], sep="\n", flush=True)
    record["digits"] = summary(record["seeds"])
    text = json.dumps(six_digits(record)).replace('{"kind"', '\n{"kind"').replace('], "', '],\n"')
    PATH.write_text(text + "\n", encoding="utf-8")
    draw()


def draw() -> None:
    """Draw the record, in 256 colours."""
    record = json.loads(PATH.read_text(encoding="utf-8"))
    of = record["regression"]
    x, y, grid, mean = (np.array(of[key]) for key in ("x", "y", "grid", "mean"))
    curves = {name: (mean, np.array(each["sd"])) for name, each in of["kinds"].items()}
    save(plots.regression_bands(x, y, grid, curves)[0].figure, "laplace-regression")
    rows = record["digits"]
    with plots.style():
        figure = new_figure(4.2)
        left, right = figure.subplots(1, 2)
        draw_ranges(left, rows, {"ece": "expected calibration error", "nll": "NLL (nats)"})
        draw_ranges(right, rows, {"turned": "turned by a quarter", "noise": "noise"})
        labelled(left, "Test digits", "", "")
        labelled(right, "Share of pairs: more uncertain than a test digit", "", "", loc="lower center")
        save(figure, "laplace-digits")


def draw_ranges(ax: Any, rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    """Median and range over seeds of some columns, per kind."""
    for number, (key, name) in enumerate(columns.items()):
        medians, lowest, highest = np.array([row[key] for row in rows]).T
        places = np.arange(len(rows)) + 0.2 * number - 0.1
        look = marked_pen(number)
        ax.errorbar(places, medians, [medians - lowest, highest - medians], linestyle="", label=name, **look)
    ax.set_xticks(range(len(rows)), [row["kind"] for row in rows], rotation=20)


def save(figure: Any, name: str) -> None:
    path = PATH.parents[1] / "images" / f"{name}.png"
    figure.savefig(path, dpi=160)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
