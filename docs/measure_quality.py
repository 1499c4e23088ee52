"""Measure how good K-FAC is on nets too large for the exact matrix: by width, by depth, along training.

    python docs/measure_quality.py --mnist FOLDER --cifar10 FOLDER     # hours; goes on where it was stopped
    python docs/measure_quality.py --quick                             # the same on small nets, a minute

writes docs/results/quality.json after every measurement, and at the end its picture in docs/images. One is of
the autoencoder of MNIST, or of the residual net on CIFAR-10, at one width, depth and step of training. What
is there already is not measured again, and training goes on from the checkpoints in --work. Without a folder
the data come from the cache.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from six_digits import six_digits

from minikfac import Network, datasets, fisher, optim, plots, presets, quality, training
from minikfac.datasets import Dataset
from minikfac.races.problems import reconstruction, standardized
from minikfac.writing import write_text

PATH = Path(__file__).parent / "results" / "quality.json"
DAMPING = 0.01
MOMENTS = (0, 20, 100, 500)
COMPARED = 100
"""Step at which widths and depths are compared: later the exact step takes thousands of products."""
APPROXIMATIONS = (
    "K-FAC",
    "K-FAC (factored damping)",
    "EKFAC",
    "block-tridiagonal",
    "diagonal",
    "no curvature",
)
COLUMNS = ("error", "c_star", "step_cosine", "step_length", "share", "floats")
DRAWN = 10
"""Targets per example for the approximations."""
EXPLAINED = "residual width 8"
"""Its errors are attributed to assumptions, the exact blocks by products with masked vectors, in float64."""
WIDTHS, DEPTHS = (0.125, 0.25, 0.5), (1, 2)
"""Of the autoencoder: shares of the paper's width, and hidden layers before the code (the paper: 3)."""
CHANNELS, BLOCKS = (8, 24), (2, 3)
"""Of the residual net: channels of the first stage and blocks of each, where the others have 16 and 1."""


class Setup(NamedTuple):
    """One net: its name in the record, what is varied, and how it is trained."""

    name: str
    net: Network
    data: str
    scheme: str
    optimizer: Callable[[Network], Any]
    batch_size: int
    examples: int
    vectors: int
    moments: tuple[int, ...]


def autoencoder(name: str, sizes: list[int], moments: tuple[int, ...]) -> Setup:
    """784 units, hidden layers, a code of 30, and back, as in [MG15, sec. 13]."""
    net = presets.autoencoder([784, *sizes, 30])

    def make(net: Network) -> Any:
        return optim.KFAC(net, lam=150.0, l2=1e-5)

    return Setup(f"autoencoder {name}", net, "mnist", "sparse", make, 500, 500, 20, moments)


def residual(name: str, width: int, blocks: int, moments: tuple[int, ...]) -> Setup:
    """The residual net of presets, with normalization over groups: it has no running statistics."""
    net = presets.small_resnet(width=width, blocks=blocks, normalization="group")

    def make(net: Network) -> Any:
        return optim.SGD(net, lr=0.05, momentum=0.9)

    return Setup(f"residual {name}", net, "cifar10", "he", make, 128, 100, 10, moments)


def setups(quick: bool) -> Iterator[Setup]:
    """All nets; those of one study differ in one number."""
    scale = 16 if quick else 1
    moments, compared = ((0, 4), (4,)) if quick else (MOMENTS, (COMPARED,))
    hidden = [1000 // scale, 500 // scale, 250 // scale]
    yield autoencoder("along training", hidden, moments)
    for width in WIDTHS:
        yield autoencoder(f"width {width:g}", [round(width * size) for size in hidden], compared)
    for depth in DEPTHS:
        yield autoencoder(f"depth {depth}", hidden[:depth], compared)
    base = 8 if quick else 16
    yield residual("along training", base, 1, moments)
    for width in (base // 2, 3 * base // 2) if quick else CHANNELS:
        yield residual(f"width {width}", width, 1, compared)
    for blocks in BLOCKS:
        yield residual(f"depth {6 * blocks + 2}", base, blocks, compared)


def load(name: str, folder: Path | None, quick: bool) -> Dataset:
    """Training data as a net takes them."""
    options: dict[str, Any] = {"n_train": 2000 if quick else None, "n_test": 500, "dtype": "float32"}
    if folder is not None:
        options["folder"] = folder
    data = datasets.load(name, **options)
    return reconstruction(data) if name == "mnist" else standardized(data)


def measure(setup: Setup, theta: np.ndarray, data: Dataset) -> dict[str, Any]:
    """All approximations at one moment, with standard errors, and what it took."""
    started = time.process_time()
    x, y = data.x_train[: setup.examples], data.y_train[: setup.examples]
    targets = {"targets": "sampled", "n_samples": DRAWN, "rng": np.random.default_rng(0)}
    signals = fisher.signals(setup.net, theta, x, batch_size=50, **targets)
    names = [name for name in APPROXIMATIONS if name in quality.applicable(signals, large=True)]
    matrices = {name: quality.APPROXIMATIONS[name][0](signals) for name in names}
    methods = {name: method for name in names if (method := quality.APPROXIMATIONS[name][1])}
    F, gradient = fisher.product(setup.net, theta, x), setup.net.gradient(theta, x, y)
    task = F, matrices, gradient, DAMPING, methods
    for table in quality.compare_by_products(*task, vectors=setup.vectors, tolerance=1e-4, cg_limit=5000):
        row = table["K-FAC"]
        print("   ", *(f"{key} {row[key]:.4f}" for key in COLUMNS[:5] if key in row), flush=True)
    assert table.spread is not None
    errors = [row for row in table.spread if row["layer"] == "all"]
    return {
        "parameters": setup.net.n_params,
        "examples": len(x),
        "loss": setup.net.loss(theta, x, y),
        "notes": table.notes[0],
        "cpu_seconds": time.process_time() - started,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "quality": {
            row["approximation"]: {key: row[key] for key in COLUMNS}
            | {f"{key}_se": error[key] for key in ("error", "c_star")}
            for row, error in zip(table.whole(), errors, strict=True)
        },
    }


def assumptions(setup: Setup, theta: np.ndarray, data: Dataset) -> list[dict[str, Any]]:
    """The rows of the ledger of assumptions."""
    x, y = data.x_train[: setup.examples].astype(np.float64), data.y_train[: setup.examples]
    theta, net = theta.astype(np.float64), setup.net
    targets = {"targets": "sampled", "n_samples": DRAWN, "rng": np.random.default_rng(0)}
    signals = fisher.signals(net, theta, x, batch_size=50, **targets)
    return quality.ledger(signals, net.gradient(theta, x, y), DAMPING, fisher.product(net, theta, x))


def studies(measurements: dict[str, Any], column: str) -> dict[str, dict[str, dict[float, dict[str, float]]]]:
    """A column by kind of net, what is varied, its value, and approximation."""

    def rows(names: dict[float, str]) -> dict[float, dict[str, float]]:
        found = {value: measurements[names[value]] for value in sorted(names) if names[value] in measurements}
        return {
            value: {name: columns[column] for name, columns in of["quality"].items()}
            for value, of in found.items()
        }

    def along(kind: str) -> dict[float, str]:
        return {step: f"{kind} along training, step {step}" for step in MOMENTS}

    def compared(kind: str, what: str, values: tuple[float, ...], base: float) -> dict[float, str]:
        others = {value: f"{kind} {what} {value:g}, step {COMPARED}" for value in values}
        return others | {base: along(kind)[COMPARED]}

    after, layers = f"(after {COMPARED} updates)", tuple(6 * blocks + 2 for blocks in BLOCKS)
    return {
        "autoencoder": {
            "updates": rows(along("autoencoder")),
            f"share of the paper's width\n{after}": rows(compared("autoencoder", "width", WIDTHS, 1)),
            f"hidden layers before the code\n{after}": rows(compared("autoencoder", "depth", DEPTHS, 3)),
        },
        "residual net": {
            "updates": rows(along("residual")),
            f"channels of the first stage\n{after}": rows(compared("residual", "width", CHANNELS, 16)),
            f"layers\n{after}": rows(compared("residual", "depth", layers, 8)),
        },
    }


def draw(record: dict[str, Any], path: Path) -> None:
    """The shares of progress, in 256 colours."""
    shares = studies(record["measurements"], "share")
    plots.quality_across_nets(shares)[0].figure.savefig(path, dpi=200)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mnist", type=Path, help="folder of the files of MNIST")
    parser.add_argument("--cifar10", type=Path, help="folder of the files of CIFAR-10")
    parser.add_argument("--work", type=Path, default=Path("quality-work"), help="folder for checkpoints")
    parser.add_argument("--out", type=Path, default=PATH, help="the record")
    parser.add_argument("--quick", action="store_true", help="small nets, few steps")
    options = parser.parse_args()
    record: dict[str, Any] = {"damping": DAMPING, "targets": DRAWN, "measurements": {}}
    if options.out.exists():
        record = json.loads(options.out.read_text(encoding="utf-8"))
    loaded: dict[str, Dataset] = {}
    for setup in setups(options.quick):
        missing = [
            step for step in setup.moments if f"{setup.name}, step {step}" not in record["measurements"]
        ]
        if not missing:
            continue
        if setup.data not in loaded:
            loaded[setup.data] = load(setup.data, getattr(options, setup.data), options.quick)
        data, net = loaded[setup.data], setup.net
        theta = net.init(np.random.default_rng(0), setup.scheme, np.float32)
        opt = setup.optimizer(net)
        for step in missing:  # a checkpoint may be of a later one than those that are there
            keep = training.Keep(options.work, name=setup.name.replace(" ", "-"), existing="resume")
            at = theta
            if step:
                run = {"batch_size": setup.batch_size, "keep": keep, "measure_every": step}
                at = training.train(net, theta, opt, data, step, **run).theta
            print(f"{setup.name}, step {step}", flush=True)
            measured = measure(setup, at, data)
            if setup.name == EXPLAINED:
                measured["assumptions"] = assumptions(setup, at, data)
            record["measurements"][f"{setup.name}, step {step}"] = six_digits(measured)
            write_text(options.out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if options.out == PATH:
        draw(record, PATH.parents[1] / "images" / "quality-across-nets.png")


if __name__ == "__main__":
    main()
