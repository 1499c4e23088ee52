"""What ranks compute together, to be compared with what one computes alone; a script that mpirun starts.

python ranks.py exact FILE FOLDER     all of `together`, and a run that goes on from a checkpoint
python ranks.py HOW FOLDER            a run in which rank 1 ends so in the step after the third, see `ENDS`
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import minikfac as mk
from minikfac import distributed, fisher, optim, parallel, reparam, training
from minikfac.datasets import Dataset
from minikfac.distributed import Communicator
from minikfac.fisher.kronecker import factors
from minikfac.fisher.kronecker_block import factors_of
from minikfac.network import layers, outputs
from minikfac.training import History, Keep
from minikfac.training.evaluation import evaluate

N = 11
"""Examples of a batch: no number of ranks divides it, and an eighth of it, 2, is less than most of them."""
STEPS = 3
SMALL = 300
"""Numbers in a chunk: few, so that a rank has several chunks of its examples."""


def problem(kind: str) -> tuple[mk.Network, np.ndarray, Dataset]:
    """A chain of dense layers with more inputs than a tile of a Gram matrix has, or convolutional nets.

    The small one's factors have no eigenvalue twice, so that their eigenvectors are certain.
    """
    rng = np.random.default_rng(0)
    if kind == "dense":
        net, x = mk.mlp([150, 9, 8, 3]), rng.standard_normal((40, 150))
    else:
        body = [layers.Conv2d(2, 4, 3), layers.Tanh()]
        large = [layers.MaxPool2d(2), layers.Flatten(), layers.Dense(36, 3)]
        small = [layers.GlobalAvgPool(), layers.Dense(4, 3)]
        net = mk.Network([*body, *(large if kind == "conv" else small)], outputs.Categorical())
        x = rng.standard_normal((40, 8, 8, 2))
    y = rng.integers(0, 3, 40)
    return net, net.init(np.random.default_rng(1)), Dataset(x[:30], y[:30], x[30:], y[30:], kind)


def optimizers(comm: Communicator) -> dict[str, tuple[str, Any]]:
    """By name, the problem and the optimizer, with all that adapts at work in three steps."""
    dense, conv, small = (problem(kind)[0].on(comm) for kind in ("dense", "conv", "small"))
    often: dict[str, Any] = {"T1": 2, "T2": 2, "T3": 1}
    return {
        "SGD": ("dense", optim.SGD(dense, 0.1, 0.9, nesterov=True, l2=1e-3)),
        "Adam": ("dense", optim.Adam(dense, 0.01)),
        "diagonal": ("conv", optim.DiagonalNaturalGradient(conv, 0.01, damping=1e-2)),
        "natural gradient": ("conv", optim.NaturalGradient(conv, 0.3, damping=1e-2)),
        "EKFAC": ("small", optim.EKFAC(small, 0.1, damping=1e-2, T3=2)),
        "K-FAC": ("dense", optim.KFAC(dense, **often)),
        "K-FAC tridiagonal": ("dense", optim.KFAC(dense, structure="block_tridiagonal", tau1=1.0, **often)),
        "KFC-pre": ("conv", optim.KFCPre(conv, 0.1, damping=1e-2, Tf=2)),
        "KFC-pre, free clip": ("conv", optim.KFCPre(conv, 0.1, damping=1e-2, Tf=1, Ts=2, clip_norm="kfac")),
        "stale K-FAC": ("dense", optim.KFAC(dense, T1=2, T2=6, T3=3, max_age=2)),
        "stale K-FAC tridiagonal": (
            "dense",
            optim.KFAC(dense, structure="block_tridiagonal", T1=2, T2=6, T3=3, max_age=1),
        ),
        "stale KFC-pre": ("conv", optim.KFCPre(conv, 0.1, damping=1e-2, Tf=2, max_age=1)),
    }


def steps(
    opt: Any, data: Dataset, theta: np.ndarray, count: int = STEPS
) -> tuple[np.ndarray, dict[str, Any]]:
    """Parameters after some steps, and the last one's diagnostics."""
    state, info = opt.init(theta), {}
    for k in range(count):
        rows = np.random.default_rng([3, k]).permutation(30)[:N]
        batch = data.x_train[rows], data.y_train[rows]
        theta, state, info = opt.step(theta, state, batch, np.random.default_rng([4, k]))
    return theta, info


def estimates(comm: Communicator) -> Iterator[tuple[str, Any]]:
    """What is a mean over examples."""
    for kind in ("dense", "conv"):
        net, theta, data = problem(kind)
        net, x, y = net.on(comm), data.x_train[:N], data.y_train[:N]
        loss, grad, *_ = net.gradient_pass(theta, x, y)
        yield f"{kind} loss", np.array([loss, net.loss(theta, x, y)])
        yield f"{kind} gradient", grad
        yield f"{kind} gradient alone", net.gradient(theta, x, y)
        yield f"{kind} probabilities", net.predict(theta, x)
        yield f"{kind} divergence", np.array(net.kl(theta, 0.9 * theta, x))
        yield f"{kind} gram", net.fisher_gram(theta, x, np.stack([grad, theta]))
        estimate = fisher.gradient_and_kfac(net, theta, x, y, rng=np.random.default_rng(2))
        yield f"{kind} gradient beside factors", estimate.gradient
        drawn = fisher.signals(net, theta, x, targets="sampled", rng=np.random.default_rng(2))
        exact = fisher.signals(net, theta, x, batch_size=2)
        for source, pairs in (
            ("with gradient", factors_of(estimate.fisher)),
            ("of signals", drawn.total(factors)),
            ("of chunks", exact.total(factors)),
        ):
            for l, pair in enumerate(pairs):
                for letter, M in zip("AG", pair, strict=True):
                    yield f"{kind} factors {letter}{l} {source}", M
    net, theta, data = problem("conv")
    few = fisher.signals(net.on(comm), theta, data.x_train[:2])
    yield "exact", fisher.exact(few).array
    yield "exact blocks", fisher.block_diagonal(few).to_dense()
    yield "diagonal", fisher.diagonal(few).diagonal()
    yield "independent", fisher.ladder(few, assume={"IAD"}).to_dense()
    mixed = fisher.mixed(few, {0: "kfac"}, default="exact")
    inverse = mixed.inverse(0.1, comm=comm)
    yield "inverse of mixed blocks", inverse @ np.ones(net.n_params)
    centred = reparam.center(net.on(comm), theta, data.x_train[:N])
    yield "means of what enters layers", centred.push(theta)
    for key, value in evaluate(net.on(comm), theta, data).items():
        yield f"evaluation {key}", np.array(value)


def together(comm: Communicator) -> dict[str, np.ndarray]:
    """All that must be the same on any number of ranks."""
    results = dict(estimates(comm))
    for name, (kind, opt) in optimizers(comm).items():
        _, theta, data = problem(kind)
        count = 9 if name.startswith("stale") else STEPS
        results[f"theta {name}"] = steps(opt, data, theta, count)[0]
    averaging = run(None, 5, comm, averaging=2.0 * N)
    results |= {"theta trained": averaging.theta, "theta averaged": averaging.average}
    return results


def run(
    keep: Keep | None, count: int | None, comm: Communicator, make: Any = None, **options: Any
) -> History:
    """Train the dense net with K-FAC, or what ``make`` makes of the net."""
    net, theta, data = problem("dense")
    net = net.on(comm)
    opt = make(net) if make else optim.KFAC(net, T2=4, T3=4, max_age=3)
    options = {"batch_size": N, "seed": 5, "measure_every": 2, "progress": False} | options
    return training.train(net, theta, opt, data, count, keep=keep, **options)


# on ranks only --------------------------------------------------------------------------------------------


def exact(file: str, folder: str) -> None:
    comm = distributed.world()
    parallel._CHUNK = SMALL
    results = together(comm)
    (dense, theta, data), n = problem("dense"), comm.size
    dense = dense.on(comm)

    opt = optim.KFAC(dense, T1=2, T2=2, T3=1)
    results["same bits, inverses by cost"] = steps(opt, data, theta)[0]
    owners = comm.owners
    comm.owners = lambda costs: [(owner + 1) % n for owner in reversed(owners(costs))]  # type: ignore[method-assign]
    results["same bits, inverses otherwise"] = steps(opt, data, theta)[0]
    comm.owners = owners  # type: ignore[method-assign]

    own_noise = fisher.gradient_and_kfac(
        dense, theta, data.x_train[:N], data.y_train[:N], rng=np.random.default_rng([2, comm.rank])
    )
    results["control: noise of ranks"] = factors_of(own_noise.fisher)[-1][1]

    resumed = run(Keep(folder, existing="resume"), 4, comm, averaging=2.0 * N)
    results |= {"resumed theta": resumed.theta, "resumed average": resumed.average}

    faster = {"clock": lambda: time.perf_counter() * (1 + comm.rank)}  # on each rank
    results["steps in time"] = np.array(run(None, None, comm, max_seconds=0.05, **faster).state["step"])

    if n > 1:
        results |= {f"refused {what}": np.array(message) for what, message in refusals(comm)}
    different = [a for a in comm.gather(results) if any((a[key] != results[key]).any() for key in results)]
    results["ranks that differ"] = np.array(len(different))
    if comm.rank == 0:
        np.savez(file, **results)


def refusals(comm: Communicator) -> Iterator[tuple[str, str]]:
    """What rank 1 does otherwise, and what all of them say to that."""
    net, theta, data = problem("dense")
    net, odd = net.on(comm), comm.rank == 1
    opt = optim.SGD(net, 0.1)
    other = replace(data, x_train=data.x_train + 1e-9)
    cases: dict[str, Callable[[], Any]] = {
        "data": lambda: training.train(net, theta, opt, other if odd else data, 2, 5, progress=False),
        "optimizer": lambda: run(None, 2, comm, lambda net: optim.SGD(net, 0.1 + odd)),
        "seed": lambda: run(None, 2, comm, seed=int(odd)),
        "steps": lambda: run(None, 2 + odd, comm),
        "averaging": lambda: run(None, 2, comm, averaging=50.0 + odd),
        "dtype": lambda: training.train(
            net, theta.astype(np.float32 if odd else float), opt, data, 2, 5, progress=False
        ),
        "drift": lambda: run(None, 2, comm, lambda net: Drifting(net, 0.1)),
        "statistics": lambda: normalized(comm),
    }
    for what, case in cases.items():
        try:
            case()
            yield what, "nothing"
        except (ValueError, RuntimeError) as error:
            yield what, str(error)


def normalized(comm: Communicator) -> Any:
    body = [layers.Conv2d(2, 4, 3), layers.BatchNorm(4), layers.Flatten(), layers.Dense(144, 3)]
    net, data = mk.Network(body, outputs.Categorical()).on(comm), problem("conv")[2]
    opt = optim.KFCPre(net, 0.1)
    return training.train(net, net.init(np.random.default_rng(0)), opt, data, 1, 5, progress=False)


@dataclass(frozen=True)
class Drifting(optim.SGD):
    """Rounds otherwise on rank 1."""

    def step(self, *arguments: Any) -> Any:
        theta, state, info = super().step(*arguments)
        return theta * (1 + 1e-15 * self.net.comm.rank), state, info


@dataclass(frozen=True)
class Failing(optim.SGD):
    """Ends on rank 1 after three steps."""

    how: str = "raises"

    def step(self, theta: Any, state: Any, *arguments: Any) -> Any:
        if state["step"] == 3 and self.net.comm.rank == 1:
            print(time.time(), flush=True)
            ENDS[self.how]()
        return super().step(theta, state, *arguments)


class ReturnError(Exception):
    """Caught at the end of the program."""


def throws(error: BaseException) -> None:
    raise error


ENDS: dict[str, Callable[[], Any]] = {
    "raises": lambda: throws(RuntimeError("there is no room for this")),
    "is interrupted": lambda: throws(KeyboardInterrupt()),
    "exits": lambda: sys.exit(),
    "exits with 3": lambda: sys.exit(3),
    "returns": lambda: throws(ReturnError()),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "is terminated": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "leaves with 3": lambda: os._exit(3),
    "leaves with 0": lambda: os._exit(0),
}
"""How a rank can end."""


def fails(folder: str, how: str) -> None:
    with contextlib.suppress(ReturnError):
        run(Keep(folder, every=1), 1000, distributed.world(), lambda net: Failing(net, 0.1, how=how))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["exact", file, folder]:
            exact(file, folder)
        case [how, folder] if how in ENDS:
            fails(folder, how)
