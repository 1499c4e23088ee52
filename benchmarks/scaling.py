"""Strong and weak scaling on this machine's cores under mpirun, and a cost model checked against them.

    python benchmarks/scaling.py                      # some ten minutes on two idle cores
    python benchmarks/scaling.py --width 0.1 --batch 256 --each 64 --repeats 1      # a dry run

The net of K-FAC's autoencoder [MG15, sec. 13] at a share of its width, on random images: what is timed does
not depend on them. SGD, K-FAC, and K-FAC with inverses that may be ten steps old. Strong scaling shares one
batch, weak scaling gives each rank one of its own. Every run starts its ranks anew, makes thirteen steps and
then times one period of twenty, rank by rank and part by part; runs take turns over all configurations, so
that a machine that is slow for a while is so for all.

The cost model knows what is measured beforehand and alone: the rate of matrix products of the net's own
shapes, of inverses, of a logistic layer, the time of a call, and latency and bandwidth between two ranks. Its
predictions are no fit. More ranks than cores are run as a negative example, and are no part of the ratio.

Leaves benchmarks/results/scaling.json and figures in docs/images/.
"""

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import numpy as np
import scaling_figures as figures
from threadpoolctl import threadpool_limits

import minikfac as mk
from minikfac import fisher, optim
from minikfac.distributed import Communicator, world
from minikfac.network import presets
from minikfac.scaling import cost_model as model

METHODS = ("SGD", "K-FAC", "K-FAC, stale inverses")
PERIOD, WARM_UP, AGE = 20, 13, 10
"""Steps 14 to 33 are timed: inverses are asked for in step 20, and stale ones in use from step 30 on."""
FEW, REST, MESSAGES = "all-reduce of a few numbers", "other", "messages, with waiting for them"
SPOKEN_FOR = {
    "gradient": "all-reduce of gradients",
    "factors": "all-reduce of factors",
    "inverses": "broadcast of inverses",
}
IMAGES = Path(__file__).parents[1] / "docs" / "images"


# one rank -------------------------------------------------------------------------------------------------


class Timer:
    """Who did what when: spans (part, begin, end), of a thread one after the other."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, float, float, bool]] = []
        self._local = threading.local()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count time to a part; to it alone, while it runs within another one."""
        stack = self._local.__dict__.setdefault("stack", [])
        beside = threading.current_thread() is not threading.main_thread()
        now = time.perf_counter()
        if stack:
            self.spans.append((*stack[-1], now, beside))
        stack.append((name, now))
        try:
            yield
        finally:
            now = time.perf_counter()
            self.spans.append((*stack.pop(), now, beside))
            if stack:
                stack[-1] = (stack[-1][0], now)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*arguments, **options)

        return timed

    @property
    def current(self) -> str:
        stack = self._local.__dict__.get("stack")
        return stack[-1][0] if stack else REST


class Timed(Communicator):
    """A communicator that tells a timer for which part it speaks. Waiting for other ranks counts to it."""

    def __init__(self, comm: Communicator, timer: Timer) -> None:
        self.comm, self.timer, self.rank, self.size = comm, timer, comm.rank, comm.size

    def _name(self) -> str:
        return SPOKEN_FOR.get(self.timer.current, FEW)

    def sum(self, arrays: Any) -> Any:
        with self.timer.part(self._name()):
            return self.comm.sum(arrays)

    def gather(self, value: Any) -> Any:
        with self.timer.part(self._name()):
            return self.comm.gather(value)

    def from_first(self, value: Any) -> Any:
        with self.timer.part(self._name()):
            return self.comm.from_first(value)

    def in_background(self, task: Callable[[Communicator], Any]) -> Any:
        return self.comm.in_background(lambda aside: task(Timed(aside, self.timer)))


def watch(timer: Timer) -> None:
    """Let the parts of SGD and K-FAC tell the timer when they begin and end."""
    for owner, name, part in (
        (optim.sgd, "objective_gradient", "gradient"),
        (optim.kfac, "objective_gradient", "gradient"),
        (optim.kfac, "objective", "gradient"),
        (optim.kfac, "curvature_and_slope", "Fisher products"),
        (optim.KFAC, "_factors", "factors"),
        (optim.KFAC, "_inverse", "inverses"),
        (optim.KFAC, "_directions", "preconditioning"),
        (optim.stale.Background, "inverses", "inverses"),
    ):
        setattr(owner, name, timer.around(part, getattr(owner, name)))


def make(width: float) -> mk.Network:
    return presets.mnist_autoencoder(width)


def optimizer(method: str, net: mk.Network) -> Any:
    if method == "SGD":
        return optim.SGD(net, 1e-3, 0.9)
    return optim.KFAC(net, lam=150.0, max_age=AGE if "stale" in method else 0)


def run_rank(method: str, width: float, m: int, path: Path) -> None:
    """Time one period of steps on this rank; rank 0 writes what all found."""
    net, timer, comm = make(width), Timer(), world()
    watch(timer)
    rng = np.random.default_rng(0)
    x = rng.random((m, 784)).astype(np.float32)
    theta = net.init(rng, "sparse", np.float32)
    opt = optimizer(method, net.on(Timed(comm, timer)))
    state, steps = opt.init(theta), []
    with threadpool_limits(1):
        for k in range(WARM_UP + PERIOD):
            comm.from_first(None)  # begin together
            timer.spans.clear()
            begin = time.perf_counter()
            theta, state, info = opt.step(theta, state, (x, x), np.random.default_rng([0, k]))
            end = time.perf_counter()
            if not np.isfinite(info["loss"]):
                raise SystemExit(f"expected a finite loss of {method} in step {k + 1}, got {info['loss']}")
            if k >= WARM_UP:
                steps.append({"step": k + 1, "begin": begin, "end": end, "spans": list(timer.spans)})
    gathered = comm.gather(steps)
    if comm.rank == 0:
        path.write_text(json.dumps(gathered), encoding="utf-8")


def run_link(path: Path) -> None:
    """Seconds of all-reduces between the ranks, by bytes, the median of many."""
    comm, medians = world(), {}
    for size, repeats in ((8, 200), (2**16, 100), (2**20, 40), (2**23, 15)):
        array, seconds = np.ones(size // 4, np.float32), []
        for _ in range(repeats + 1):
            comm.from_first(None)
            begin = time.perf_counter()
            comm.sum([array])
            seconds.append(time.perf_counter() - begin)
        medians[size] = statistics.median(seconds[1:])
    if comm.rank == 0:
        path.write_text(json.dumps(medians), encoding="utf-8")


# the machine ----------------------------------------------------------------------------------------------


def median_seconds(work: Callable[[], Any], repeats: int = 7) -> float:
    seconds = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def measure_machine(net: mk.Network, sizes: list[model.LayerSize], n: int, threads: int = 1) -> model.Machine:
    """Rates of one core, each measured alone with one thread; or of several."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    with threadpool_limits(threads):
        products = [(draw(n, size.I), draw(size.I, size.O)) for size in sizes]
        seconds = median_seconds(lambda: [a @ b for a, b in products])
        rate = n * sum(size.forward() for size in sizes) / seconds
        factors = [
            tuple(d.T @ d + np.eye(k, dtype=np.float32) for k in (size.I, size.O) for d in [draw(2 * k, k)])
            for size in sizes
        ]
        F = fisher.Kronecker(factors, net.names)
        seconds = median_seconds(lambda: F.inverse(1.0, method="factored", explicit=True), 3)
        inverse_rate = sum(size.inverses() for size in sizes) / seconds
        s = draw(n, max(size.O for size in sizes))
        memory = 2 * s.nbytes / median_seconds(lambda: 1 / (1 + np.exp(-s)))
        tiny = make(0.01)
        theta, x = tiny.init(rng, "sparse", np.float32), rng.random((1, 784)).astype(np.float32)
        call = median_seconds(lambda: tiny.loss_and_gradient(theta, x, x), 50) / (2 * len(tiny.names))
    return model.Machine(rate, inverse_rate, memory, call)


def start(ranks: int, *arguments: str) -> Any:
    return common.on_ranks(__file__, ranks, *arguments)


def measure_link() -> tuple[model.Link, dict[str, float]]:
    """Of two ranks, 2 (alpha + b / (2 beta)) by ring: the smallest and the largest message give both."""
    seconds = start(2, "link")
    sizes = sorted(seconds, key=int)
    latency = seconds[sizes[0]] / 2
    bandwidth = (int(sizes[-1]) - int(sizes[0])) / (seconds[sizes[-1]] - seconds[sizes[0]])
    return model.Link(latency, bandwidth), seconds


# what is found --------------------------------------------------------------------------------------------


def step_seconds(ranks: list[list[dict[str, Any]]]) -> float:
    """Mean over the period of the step, which ends with its last rank."""
    return statistics.fmean(
        max(rank["end"] for rank in step) - min(rank["begin"] for rank in step)
        for step in zip(*ranks, strict=True)
    )


def part_seconds(ranks: list[list[dict[str, Any]]]) -> list[dict[str, float]]:
    """By rank, mean seconds of a step by part; what a second thread does is no part of it."""
    parts = []
    for steps in ranks:
        rank: dict[str, float] = {}
        for step in steps:
            for name, begin, end, beside in step["spans"]:
                if not beside:
                    rank[name] = rank.get(name, 0.0) + (end - begin) / len(steps)
        rank[REST] = statistics.fmean(s["end"] - s["begin"] for s in steps) - sum(rank.values())
        parts.append(rank)
    return parts


def schedule(method: str, net: mk.Network) -> model.Schedule:
    plan = model.Schedule.of(optimizer(method, net))
    # of the timed period: one choice among three inverses, and no other
    plan = plan if method == "SGD" else replace(plan, inverses=3 / PERIOD, proposals=1 + 2 / PERIOD)
    return replace(plan, name=method, stale="stale" in method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=float, default=0.5, help="share of the paper's hidden units")
    parser.add_argument("--batch", type=int, default=2048, help="of all ranks: strong scaling")
    parser.add_argument("--each", type=int, default=512, help="of each rank: weak scaling")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each configuration")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the figures")
    parser.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("job", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--redraw", action="store_true", help="figures of the record, without measuring")
    options = parser.parse_args()
    if options.redraw:
        record = json.loads((common.RESULTS / "scaling.json").read_text(encoding="utf-8"))
        rows = record["runs"]
        batch = next(row["examples"] for row in rows if row["kind"] == "strong")
        draw(rows, options.out, batch, record["machine"]["cores"])
        return
    if options.rank is not None:
        if options.job == ["link"]:
            run_link(options.rank)
        else:
            method, width, m = options.job
            run_rank(method, float(width), int(m), options.rank)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    where = common.machine()
    net = make(options.width)
    sizes = model.layer_sizes(net, (784,))
    machine = measure_machine(net, sizes, options.batch // 2)
    link, messages = measure_link()
    assert machine.inverse_rate is not None
    print(
        f"P = {net.n_params:,}; {cores} cores; one of them: {machine.rate / 1e9:.1f} GFLOP/s in products, "
        f"{machine.inverse_rate / 1e9:.1f} in inverses, {machine.memory / 1e9:.2f} GB/s in a logistic layer, "
        f"{machine.call * 1e6:.0f} us a call; between ranks {link.latency * 1e6:.0f} us and "
        f"{link.bandwidth / 1e9:.2f} GB/s"
    )
    plan = [
        (kind, method, W, options.batch if kind == "strong" else options.each * W)
        for kind in ("strong", "weak")
        for method in METHODS
        for W in options.ranks
    ]
    runs: dict[tuple[str, str, int, int], list[Any]] = {key: [] for key in plan}
    for lap in range(options.repeats):
        for number, key in enumerate(plan if lap % 2 == 0 else plan[::-1]):
            kind, method, W, m = key
            common._status(f"  run {number + 1} of {len(plan)}, lap {lap + 1}: {kind}, {method}, {W} ranks")
            runs[key].append(start(W, method, str(options.width), str(m)))
    common._status("")
    rows = []
    for (kind, method, W, m), records in runs.items():
        seconds = [step_seconds(ranks) for ranks in records]
        middle = records[int(np.argsort(seconds)[(len(seconds) - 1) // 2])]
        predicted = model.step_seconds(sizes, m, W, schedule(method, net), machine, link)
        rows.append(
            {"kind": kind, "method": method, "ranks": W, "examples": m, "seconds": seconds}
            | {"median": statistics.median(seconds), "predicted": sum(predicted.values())}
            | {"oversubscribed": W > cores, "parts": part_seconds(middle), "predicted_parts": predicted}
        )
    report(rows)
    draw(rows, options.out, options.batch, cores)
    common.write(
        "scaling",
        {
            "machine": where,
            "parameters": net.n_params,
            "width": options.width,
            "steps_timed": PERIOD,
            "age_of_stale_inverses": AGE,
            "measured": {
                "product_rate": machine.rate,
                "inverse_rate": machine.inverse_rate,
                "logistic_bytes_per_second": machine.memory,
                "seconds_of_a_call": machine.call,
                "all_reduce_seconds_by_bytes": messages,
                "latency": link.latency,
                "bandwidth": link.bandwidth,
            },
            "runs": rows,
        },
    )


def report(rows: list[dict[str, Any]]) -> None:
    for kind in ("strong", "weak"):
        print(f"{kind.capitalize()} scaling: seconds of a step, mean of {PERIOD}; median of the runs")
        for row in rows:
            if row["kind"] != kind:
                continue
            first = next(r for r in rows if (r["kind"], r["method"]) == (kind, row["method"]))
            gain = first["median"] / row["median"] * (row["examples"] / first["examples"])
            more = "   (more ranks than cores)" if row["oversubscribed"] else ""
            print(
                f"  {row['method']:<24}{row['ranks']:>2} ranks {row['examples']:>6} examples "
                f"{row['median']:8.3f} s ({min(row['seconds']):.3f} to {max(row['seconds']):.3f})  "
                f"examples/s x {gain:.2f}  measured / predicted {row['median'] / row['predicted']:.2f}{more}"
            )
    counted = [row["median"] / row["predicted"] for row in rows if not row["oversubscribed"]]
    low, high = min(counted), max(counted)
    print(f"Measured / predicted: median {statistics.median(counted):.2f}, {low:.2f} to {high:.2f}")


def draw(rows: list[dict[str, Any]], out: Path, batch: int, cores: int) -> None:
    out.mkdir(parents=True, exist_ok=True)

    def curves(kind: str) -> dict[str, tuple[Any, Any, Any]]:
        by_method = {}
        for method in METHODS:
            chosen = [row for row in rows if (row["kind"], row["method"]) == (kind, method)]
            seconds = np.array(
                [(row["median"], min(row["seconds"]), max(row["seconds"])) for row in chosen]
            ).T
            by_method[method] = (
                [row["ranks"] for row in chosen],
                seconds,
                [row["predicted"] for row in chosen],
            )
        return by_method

    axes = figures.measured_scaling(curves("strong"), curves("weak"), cores)
    axes[0].figure.savefig(out / "scaling-measured.png")
    shares = {
        f"{row['method']}, {_ranks(row['ranks'])}": _merged(row["parts"][0])
        for row in rows
        if row["kind"] == "strong" and "stale" not in row["method"]
    }
    sent = [
        f"{run[MESSAGES] / sum(run.values()):.0%} on {name.split(', ')[1]}"
        for name, run in shares.items()
        if "K-FAC" in name
    ]
    title = f"K-FAC on {batch:,} examples, share of messages:\n{', '.join(sent)}"
    ax = figures.step_shares(shares, (*model.COMPUTING, MESSAGES, REST), title)
    ax.figure.savefig(out / "scaling-shares.png")
    print(f"figures: {out}")


def _merged(parts: dict[str, float]) -> dict[str, float]:
    """Seconds by part, with all messages as one."""
    sent = {name for name in parts if name.startswith(("all-reduce", "broadcast"))}
    rest = {name: seconds for name, seconds in parts.items() if name not in sent}
    return rest | {MESSAGES: sum(parts[name] for name in sent)}


def _ranks(count: int) -> str:
    return "1 rank" if count == 1 else f"{count} ranks"


if __name__ == "__main__":
    main()
