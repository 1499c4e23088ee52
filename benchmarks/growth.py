"""How time and memory grow: the exact Fisher matrix, a step of K-FAC, a step of KFC.

    exact Fisher matrix   with the examples N, and with the parameters P
    K-FAC step            with the width of hidden layers, and with the batch
    KFC step              with the channels, and with the side of the images

Everything in float32. A step is the gradient, the factors from one sampled target, their inverses and the
preconditioned gradient. The exponent is the slope of a straight line through the logarithms; memory is the
peak above what was held before, as NumPy counts what it allocates. Prints a table, writes
benchmarks/results/growth.json and draws docs/images/growth.png.
"""

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import contenders
import numpy as np

import minikfac as mk

Job = Callable[[], Any]
IMAGE = Path(__file__).parent.parent / "docs" / "images" / "growth.png"


def exact(examples: int = 1000, width: int = 20) -> tuple[Job, int]:
    """The exact Fisher matrix of a net of five hidden layers, and P."""
    net = mk.mlp([256, *[width] * 5, 10])
    rng = np.random.default_rng(0)
    theta, x = net.init(rng, dtype=np.float32), rng.standard_normal((examples, 256)).astype(np.float32)
    return lambda: mk.fisher.exact(mk.fisher.signals(net, theta, x)), net.n_params


def dense(batch: int = 512, width: int = 500) -> tuple[Job, int]:
    """A step of K-FAC of a net with three hidden layers, and P."""
    net = mk.mlp([784, width, width, width, 10])
    rng = np.random.default_rng(0)
    theta, x = net.init(rng, dtype=np.float32), rng.standard_normal((batch, 784)).astype(np.float32)
    return contenders.minikfac_kfac(net, theta, x, rng.integers(0, 10, batch)), net.n_params


def convolutional(channels: int = 32, side: int = 16, batch: int = 64) -> tuple[Job, int]:
    """A step of KFC of a net with two convolutions of 5 x 5, and P."""
    layers = [
        *(mk.layers.Conv2d(channels, channels, 5, padding=2), mk.layers.ReLU()),
        *(mk.layers.Conv2d(channels, channels, 5, padding=2), mk.layers.ReLU()),
        *(mk.layers.GlobalAvgPool(), mk.layers.Dense(channels, 10)),
    ]
    net = mk.Network(layers, mk.outputs.Categorical())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, side, side, channels)).astype(np.float32)
    theta = net.init(rng, "he", np.float32)
    return contenders.minikfac_kfac(net, theta, x, rng.integers(0, 10, batch)), net.n_params


STUDIES: dict[str, tuple[Callable[[int], tuple[Job, int]], str, list[int]]] = {
    "exact Fisher matrix, examples": (lambda n: exact(examples=n), "examples N", [500, 1000, 2000, 4000]),
    "exact Fisher matrix, parameters": (lambda w: exact(width=w), "parameters P", [10, 16, 24, 34]),
    "K-FAC step, width": (lambda w: dense(width=w), "width", [250, 500, 1000, 2000]),
    "K-FAC step, batch": (lambda n: dense(batch=n), "batch", [128, 256, 512, 1024, 2048]),
    "KFC step, channels": (lambda c: convolutional(channels=c), "channels", [8, 16, 32, 64]),
    "KFC step, side of the images": (lambda s: convolutional(side=s), "side", [8, 16, 32]),
}


def measured(make: Callable[[int], tuple[Job, int]], size: int, repeats: int) -> dict[str, Any]:
    """Seconds of each run after one that does not count, the peak of memory, and P."""
    job, n_params = make(size)
    job()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    job()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return {"size": size, "parameters": n_params, "seconds": seconds, "peak_bytes": peak}


def exponent(sizes: list[int], values: list[float]) -> float:
    """The slope of the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def summary(name: str, axis: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A study's record: its runs, and the exponents of time and memory."""
    sizes = [run["parameters"] if axis == "parameters P" else run["size"] for run in runs]
    medians = [statistics.median(run["seconds"]) for run in runs]
    return {
        "study": name,
        "axis": axis,
        "sizes": sizes,
        "medians": medians,
        "peak_bytes": [run["peak_bytes"] for run in runs],
        "exponent_of_time": exponent(sizes, medians),
        "exponent_of_memory": exponent(sizes, [run["peak_bytes"] for run in runs]),
        "runs": runs,
    }


def draw(studies: list[dict[str, Any]]) -> Any:
    """Time and memory against size, both as multiples of those at the smallest size; exponents in the key."""
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    from minikfac.plots.style import COLORS, new_figure, style

    @style()
    def panels() -> Any:
        fig = new_figure(5.6)
        marks = dict(zip("EK", ("o", "s"), strict=True)) | {"KFC": "^"}
        for ax, key, what in zip(
            fig.subplots(1, 2), ("medians", "peak_bytes"), ("time", "memory"), strict=True
        ):
            for number, study in enumerate(studies):
                power = study[f"exponent_of_{what}"]
                ax.loglog(
                    np.array(study["sizes"]) / study["sizes"][0],
                    np.array(study[key]) / study[key][0],
                    linestyle="-" if number % 2 else "--",
                    marker=marks["KFC" if study["study"].startswith("KFC") else study["study"][0].upper()],
                    color=COLORS[number // 2],
                    label=f"{study['study']}: power {power:.1f}",
                )
            ax.set(
                xlabel="size, in multiples of the smallest",
                ylabel=f"{what}, likewise",
                title=what.capitalize(),
            )
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_formatter(ScalarFormatter())
                axis.set_minor_formatter(NullFormatter())
            ax.set_xticks([1, 2, 4, 8, 16])
            ax.set_yticks([1, 2, 5, 10, 20, 50])
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize="small", handlelength=3.5)
        return fig

    return panels()


def main() -> None:
    common.spin_shortly()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--draw", action="store_true", help="only draw what is recorded")
    arguments = parser.parse_args()
    if not arguments.draw:
        facts = common.machine()
        common.use_threads(2)
        studies = []
        for name, (make, axis, sizes) in STUDIES.items():
            runs = list(map(partial(measured, make, repeats=arguments.repeats), sizes))
            studies.append(summary(name, axis, runs))
            time_, memory = studies[-1]["exponent_of_time"], studies[-1]["exponent_of_memory"]
            print(f"{name:<34} time ^{time_:.2f}, memory ^{memory:.2f}", flush=True)
        common.write("growth", {"machine": facts, "threads": 2, "studies": studies})
    record = json.loads((common.RESULTS / "growth.json").read_text(encoding="utf-8"))
    draw(record["studies"]).savefig(IMAGE, dpi=160)


if __name__ == "__main__":
    main()
