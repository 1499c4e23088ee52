"""Small work that can be killed and resumed; as a script it runs in children of its own and kills them.

python resumable.py at-random FOLDER SEEDS ROUNDS       runs, killed after some measurements
python resumable.py at-times FOLDER SEEDS ROUNDS sweep  sweeps (or races), killed after some time
python resumable.py at-calls FOLDER replace 9
python resumable.py pairs FOLDER 5                      two runs at once in each of five folders
python resumable.py beside FOLDER 100                   loads of what two others write in turn
"""

import itertools
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

import minikfac as mk
from minikfac import optim, races, training
from minikfac.datasets import Dataset
from minikfac.races import Problem
from minikfac.races.contenders import contender
from minikfac.scaling import Budget, batch_sweep
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


def run(keep: Keep | None = None, pause: float = 0.0, seed: int = 5, **options: Any) -> training.History:
    """Train with K-FAC on growing batches."""
    net, theta, data = problem()
    opt = optim.KFAC(net, lam=1.0, T1=2, T2=4, T3=3)

    def track(step: int, theta: Any) -> dict[str, float]:
        time.sleep(pause)
        return {"norm": float(theta @ theta)}

    sizes = ExponentialBatches(10, 12.0, 40)
    return training.train(
        net, theta, opt, data, STEPS, sizes, seed, MEASURE, track, False, keep=keep, **options
    )


def sweep(folder: str | Path, existing: str = "refuse") -> Any:
    """A sweep over two sizes of the batch, with its file in the folder."""
    net, _, data = problem()
    budget = Budget(trials=4, steps=30, epochs=1.0, finalists=2, seeds=2)
    points = Problem("points", net, data, "glorot", 10)
    path = Path(folder) / "sweep.jsonl"
    return batch_sweep(
        points, [contender("sgd")], [10, 25], {"loss": 0.2}, budget, 0, path, existing, progress=False
    )


def race(folder: str | Path, existing: str = "refuse") -> Any:
    """A race of two optimizers from two seeds, with its files in the folder."""
    net, theta, data = problem()
    racers = {"SGD": optim.SGD(net, 0.1), "K-FAC": optim.KFAC(net, lam=1.0)}
    limits: dict[str, Any] = {"steps": 60, "batch_size": 20, "seeds": 2, "progress": False}
    return races.race(net, theta, racers, data, folder=folder, existing=existing, **limits)


JOBS: dict[str, Any] = {"sweep": sweep, "race": race}


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


def killed_at_times(folder: str, seeds: int, rounds: int, job: str) -> None:
    """Do a job in children that are killed after a part each of the time that it takes, in a folder per seed.

    Prints the seed, and whether it was the signal that ended it.
    """
    with tempfile.TemporaryDirectory() as once:
        started = time.perf_counter()
        JOBS[job](once, "replace")
        part = (time.perf_counter() - started) / rounds
    for seed in range(seeds):
        moments = random.Random(seed)
        for _ in range(rounds):
            child = os.fork()
            if not child:
                JOBS[job](f"{folder}/{seed}", "resume")
                os._exit(0)
            time.sleep(moments.uniform(0.1, 0.9) * part)
            os.kill(child, signal.SIGKILL)
            print(seed, int(os.WIFSIGNALED(os.waitpid(child, 0)[1])))


def at_once(*tasks: Callable[[], int]) -> list[int]:
    """Exit codes of tasks in children that begin at the same moment."""
    waits, tells = os.pipe()
    children = []
    for task in tasks:
        children.append(os.fork())
        if not children[-1]:
            os.close(tells)
            os.read(waits, 1)  # returns when the parent closes its end
            os._exit(task())
    os.close(waits)
    os.close(tells)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def begun(keep: Keep, **options: Any) -> int:
    """0 where the run went to its end, 3 where another one was there."""
    try:
        run(keep, pause=0.003, **options)
    except FileExistsError:
        return 3
    return 0


def pairs(folder: str, count: int) -> None:
    """Two runs at once in each of some folders; prints their exit codes."""
    for number in range(count):
        keep = Keep(f"{folder}/{number}", every=EVERY)
        print(*at_once(lambda: begun(keep), lambda: begun(keep)))  # noqa: B023


def beside(folder: str, loads: int) -> None:
    """Load what two runs write that replace each other in turn; print the seed and the step of each load.

    A load whose numbers are not those of its seed and step is printed as -1.
    """
    keep = Keep(folder, every=1, existing="replace")
    paths = {seed: path_of(seed) for seed in (5, 6)}
    children, seen = [], set()
    for seed in paths:
        children.append(os.fork())
        if not children[-1]:
            while True:
                begun(keep, seed=seed)
                time.sleep(random.uniform(0, 0.02))
    try:
        while loads > 0 or len(seen) < len(paths):
            try:
                stored = checkpoint.load(keep.checkpoint)
            except FileNotFoundError:  # between two runs
                continue
            seed, loads = stored.about["seed"], loads - 1
            whole = paths[seed][stored.step] == stored.theta.tobytes()
            whole = whole and all(row["step"] <= stored.step for row in stored.records)
            print(seed if whole else -1, stored.step)
            seen.add(seed)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def path_of(seed: int) -> dict[int, bytes]:
    """The parameters of the run with this seed after each step."""
    path: dict[int, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        save, checkpoint.save = checkpoint.save, lambda _, at: path.update({at.step: at.theta.tobytes()})
        run(Keep(folder, every=1), seed=seed)
        checkpoint.save = save
    return path


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
    elif sys.argv[1] == "at-times":
        killed_at_times(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    elif sys.argv[1] == "at-calls":
        killed_at_calls(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        {"pairs": pairs, "beside": beside}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
