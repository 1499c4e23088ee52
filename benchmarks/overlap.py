"""Does it pay to send while computing? An all-reduce beside a gradient, on ranks that share this machine.

    python benchmarks/overlap.py                                          # a minute on two idle cores
    python benchmarks/overlap.py --width 0.1 --examples 64 --repeats 3    # a dry run

The gradient of K-FAC's autoencoder [MG15, sec. 13] at a share of its width, on random images, and all-reduces
of as many numbers as its gradient has, and the halves of its factors that matter. Each is timed alone, one
after the other, and at once, where a second thread sends, as stale inverses do. What could be gained at most
is the time of the message; the share of it that is gained is

    hidden = (one after the other - at once) / message

1 if the message is free, 0 if nothing is gained, less if both together are slower.

Leaves benchmarks/results/overlap.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
from threadpoolctl import threadpool_limits

from minikfac.distributed import Communicator, world
from minikfac.network import presets


def run_rank(width: float, n: int, repeats: int, path: Path) -> None:
    """Time both messages on this rank; rank 0 writes bytes and seconds of every round, by message."""
    net, comm, rng = presets.mnist_autoencoder(width), world(), np.random.default_rng(0)
    x = rng.random((n, 784)).astype(np.float32)
    theta = net.init(rng, "sparse", np.float32)
    numbers = {
        "gradient": net.n_params,
        "factors": sum(side * (side + 1) // 2 for shape in net.shapes for side in shape),
    }
    with threadpool_limits(1):
        messages = {
            name: {
                "bytes": 4 * size,
                "seconds": in_turn(
                    comm, lambda: net.loss_and_gradient(theta, x, x), np.ones(size, np.float32), repeats
                ),
            }
            for name, size in numbers.items()
        }
    if comm.rank == 0:
        path.write_text(json.dumps(messages), encoding="utf-8")


def in_turn(
    comm: Communicator, compute: Callable[[], Any], message: Any, repeats: int
) -> dict[str, list[float]]:
    """Time computing, an all-reduce, and both, in turn; a round ends with its last rank."""

    def send() -> Any:
        return comm.sum([message])

    def at_once() -> None:
        pending = comm.in_background(lambda aside: aside.sum([message]))
        compute()
        pending.result()

    works: dict[str, Callable[[], Any]] = {
        "computing": compute,
        "message": send,
        "one after the other": lambda: (compute(), send()),
        "at once": at_once,
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for lap in range(repeats + 1):
        for name in works if lap % 2 else reversed(works):
            comm.from_first(None)  # begin together
            begin = time.perf_counter()
            works[name]()
            duration = max(comm.gather(time.perf_counter() - begin))
            if lap:  # the first round does not count
                seconds[name].append(duration)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=float, default=0.5, help="share of the paper's hidden units")
    parser.add_argument("--examples", type=int, default=512, help="of each rank")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=41, help="rounds that are timed")
    parser.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        run_rank(options.width, options.examples, options.repeats, options.rank)
        return
    where = common.machine()
    chosen = {"width": options.width, "examples": options.examples, "repeats": options.repeats}
    arguments = [part for name, value in chosen.items() for part in (f"--{name}", str(value))]
    messages = common.on_ranks(__file__, options.ranks, *arguments)
    for name, own_message in messages.items():
        median = {key: statistics.median(runs) for key, runs in own_message["seconds"].items()}
        gained = median["one after the other"] - median["at once"]
        own_message |= {"median": median, "hidden": gained / median["message"]}
        own_message["at once / one after the other"] = median["at once"] / median["one after the other"]
        shown = ", ".join(f"{key} {1e3 * value:.1f} ms" for key, value in median.items())
        print(f"{name}, {own_message['bytes'] / 1e6:.1f} MB: {shown}; hidden {own_message['hidden']:.0%}")
    common.write("overlap", {"machine": where, "ranks": options.ranks, **chosen, "messages": messages})


if __name__ == "__main__":
    main()
