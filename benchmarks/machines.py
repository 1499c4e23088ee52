"""The race on another machine, checked where it can be: one core against two, measured and predicted.

    python benchmarks/machines.py           # under a minute, on two idle cores

The cost model is given what is measured beforehand and alone, for one thread and for two: the rate of matrix
products of the net's own shapes, of inverses, of a logistic layer, and the time of a call. From a step on one
core it predicts that on two, as ``minikfac plot --machine`` does for a whole race: times the ratio of the two
predictions. The net is K-FAC's autoencoder [MG15, sec. 13]; SGD at its batch in the recorded race and at 500,
K-FAC at 500: the mean of 20 steps, one period of K-FAC's inverses, after the first three; the median of three
such runs, which take turns. What NumPy does between products runs on one thread, so two cores have the memory
rate of one.

Leaves benchmarks/results/machines.json.
"""

import time
from typing import Any

import common
import numpy as np
from threadpoolctl import threadpool_limits

from minikfac import optim
from minikfac.network import presets
from minikfac.scaling import cost_model as model
from scaling import PERIOD, measure_machine

NET = presets.mnist_autoencoder()
SIZES = model.layer_sizes(NET, (784,))
OPTIMIZERS = {"SGD": optim.SGD(NET, lr=0.01, momentum=0.9), "K-FAC": optim.KFAC(NET, lam=0.076)}
STEPS = (("SGD", 100), ("SGD", 500), ("K-FAC", 500))
WARM_UP, LAPS = 3, 3


def seconds_of_steps(method: str, m: int) -> float:
    """Mean seconds of one period of steps."""
    opt, rng = OPTIMIZERS[method], np.random.default_rng(0)
    x = rng.random((m, 784), dtype=np.float32)
    theta = NET.init(rng, "sparse", np.float32)
    state = opt.init(theta)
    for step in range(WARM_UP + PERIOD):
        if step == WARM_UP:
            begin = time.perf_counter()
        theta, state, _ = opt.step(theta, state, (x, x), np.random.default_rng(step))
    return (time.perf_counter() - begin) / PERIOD


def main() -> None:
    machines = {threads: measure_machine(NET, SIZES, 500, threads) for threads in (1, 2)}
    measured: dict[tuple[str, int, int], list[float]] = {}
    for threads in LAPS * (2, 1):
        with threadpool_limits(threads):
            for method, m in STEPS:
                measured.setdefault((method, m, threads), []).append(seconds_of_steps(method, m))
    rows: list[dict[str, Any]] = []
    for method, m in STEPS:
        schedule = model.Schedule.of(OPTIMIZERS[method])
        row: dict[str, Any] = {"method": method, "examples": m}
        for threads, each in machines.items():
            predicted = model.step_seconds(SIZES, m, 1, schedule, each, model.Link())
            row[f"{threads}"] = float(np.median(measured[method, m, threads]))
            row[f"{threads} predicted"] = sum(predicted.values())
        row["2 from 1"] = row["1"] * row["2 predicted"] / row["1 predicted"]
        rows.append(row)
        print(row)
    constants = {
        each: {"rate": of.rate, "inverse_rate": of.inverse_rate, "memory": of.memory, "call": of.call}
        for each, of in machines.items()
    }
    common.write("machines", {"machines": constants, "rows": rows})


if __name__ == "__main__":
    main()
