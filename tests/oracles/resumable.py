"""A small run that can be killed and resumed; as a script it runs in children of its own and kills them.

python resumable.py at-random FOLDER SEEDS ROUNDS
python resumable.py at-calls FOLDER replace 9
"""

import itertools
import os
import random
import signal
import sys
import time
import warnings
from inspect import signature
from typing import Any

import numpy as np

import minikfac as mk
from minikfac import optim, training
from minikfac.datasets import Dataset
from minikfac.training import checkpoint
from minikfac.training.batches import ExponentialBatches
from minikfac.training.checkpoint import MATRICES
from minikfac.training.keep import Keep

STEPS, EVERY, MEASURE = 30, 3, 4


def problem(dtype: Any = float) -> tuple[mk.Network, np.ndarray, Dataset]:
    """Points in three classes, a net, and where it starts."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((70, 4)).astype(dtype)
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)
    net = mk.mlp([4, 5, 3])
    return (
        net,
        net.init(np.random.default_rng(1), dtype=dtype),
        Dataset(x[:50], y[:50], x[50:], y[50:], "points"),
    )


def run(keep: Keep | None = None, pause: float = 0.0, **options: Any) -> training.History:
    """Train with K-FAC on growing batches."""
    net, theta, data = problem()
    opt = optim.KFAC(net, lam=1.0, T1=2, T2=4, T3=3)

    def track(step: int, theta: Any) -> dict[str, float]:
        time.sleep(pause)
        return {"norm": float(theta @ theta)}

    sizes = ExponentialBatches(10, 12.0, 40)
    return training.train(net, theta, opt, data, STEPS, sizes, 5, MEASURE, track, False, keep=keep, **options)


def same(a: Any, b: Any) -> bool:
    """Whether two states hold the same bits, in containers of the same kinds."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a).__name__ in MATRICES:
        return all(same(getattr(a, name), getattr(b, name)) for name in signature(type(a)).parameters)
    return bool(a == b)


def killed_at_random(folder: str, seeds: int, rounds: int) -> None:
    """Run in children that are killed after a moment each, in a folder per seed.

    Prints the seed, the step of the checkpoint that is left, and whether it was the signal that ended it.
    """
    for seed in range(seeds):
        moments = random.Random(seed)
        keep = Keep(f"{folder}/{seed}", every=EVERY, existing="resume")
        for _ in range(rounds):
            tells, is_told = os.pipe()
            child = os.fork()
            if not child:
                run(keep, pause=0.01, on_record=lambda record: os.write(is_told, b"."))  # noqa: B023
                os._exit(0)
            os.close(is_told)
            for _ in range(moments.choice((1, 2, 2))):  # some measurements later, however slow the machine
                os.read(tells, 1)
            time.sleep(moments.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            os.close(tells)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            left = checkpoint.load(keep.checkpoint).step if keep.checkpoint.exists() else 0
            print(seed, left, int(killed))


def killed_at_calls(folder: str, function: str, calls: int) -> None:
    """Run in children in folders of their own; the n-th dies at its n-th call of os.FUNCTION."""
    inner = getattr(os, function)
    for number in range(1, calls + 1):
        child = os.fork()
        if not child:
            left = itertools.count(number, -1)

            def dying(*arguments: Any) -> Any:
                if next(left) == 1:  # noqa: B023
                    os.kill(os.getpid(), signal.SIGKILL)
                return inner(*arguments)

            setattr(os, function, dying)
            run(Keep(f"{folder}/{number}", every=EVERY))
            os._exit(0)
        print(os.WTERMSIG(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # on forking: no thread is at work yet
    if sys.argv[1] == "at-random":
        killed_at_random(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        killed_at_calls(sys.argv[2], sys.argv[3], int(sys.argv[4]))
