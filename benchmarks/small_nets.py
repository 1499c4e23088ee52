"""Small nets: a step with one thread of BLAS and with two, which must not be in each other's way.

Products of some hundred rows take microseconds, and two threads wait for each other longer than that. So a
step of a small net runs on one thread however many there are. Prints a table and writes
benchmarks/results/small_nets.json.
"""

import argparse
import statistics
import time
from typing import Any

import common
import numpy as np
from threadpoolctl import threadpool_limits

import minikfac as mk

NETS = {
    "digits, dense": (lambda: mk.presets.digits_mlp(), (64,), 10, 500),
    "8 x 8 images": (lambda: convolutions(8), (8, 8, 1), 10, 256),
    "16 x 16 images": (lambda: convolutions(16), (16, 16, 1), 10, 256),
}
OPTIMIZERS = {
    "SGD": lambda net: mk.optim.SGD(net, 0.01, 0.9),
    "KFC-pre": lambda net: mk.optim.KFCPre(net, 0.01, Tf=1),
    "K-FAC": lambda net: mk.optim.KFAC(net),
}
STEPS = 20


def convolutions(side: int) -> mk.Network:
    """Two convolutions of 3 x 3 with 8 and 16 channels, each with a pool, and a dense layer."""
    return mk.Network(
        [
            *(mk.layers.Conv2d(1, 8, 3, padding=1), mk.layers.Tanh(), mk.layers.MaxPool2d(2)),
            *(mk.layers.Conv2d(8, 16, 3, padding=1), mk.layers.Tanh(), mk.layers.MaxPool2d(2)),
            *(mk.layers.Flatten(), mk.layers.Dense(16 * (side // 4) ** 2, 10)),
        ],
        mk.outputs.Categorical(),
    )


def seconds_of_a_step(opt: Any, theta: Any, batch: tuple[Any, Any], threads: int) -> float:
    """The mean over some steps after three that are not timed."""
    state, rng = opt.init(theta), np.random.default_rng(0)
    with threadpool_limits(threads):
        for count in (3, STEPS):
            start = time.perf_counter()
            for _ in range(count):
                theta, state, _info = opt.step(theta, state, batch, rng)
            duration = time.perf_counter() - start
    return duration / STEPS


def main() -> None:
    common.spin_shortly()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    facts = common.machine()
    common.use_threads(2)
    runs = []
    print(f"{'milliseconds a step':<32}{'one thread':>12}{'two threads':>13}{'two / better':>14}")
    for name, (make, shape, classes, n) in NETS.items():
        net, rng = make(), np.random.default_rng(0)
        batch = rng.standard_normal((n, *shape)).astype(np.float32), rng.integers(0, classes, n)
        theta = net.init(rng, dtype=np.float32)
        for optimizer, of in OPTIMIZERS.items():
            seconds: dict[int, list[float]] = {1: [], 2: []}
            for lap in range(arguments.repeats):
                for threads in (1, 2) if lap % 2 else (2, 1):
                    seconds[threads].append(seconds_of_a_step(of(net), theta, batch, threads))
            one, two = (statistics.median(seconds[threads]) for threads in (1, 2))
            ratio = two / min(one, two)
            runs.append(
                {"net": name, "optimizer": optimizer, "examples": n, "seconds": seconds, "ratio": ratio}
            )
            print(f"{name + ', ' + optimizer:<32}{1e3 * one:12.2f}{1e3 * two:13.2f}{ratio:14.2f}")
    common.write("small_nets", {"machine": facts, "steps": STEPS, "runs": runs})


if __name__ == "__main__":
    main()
