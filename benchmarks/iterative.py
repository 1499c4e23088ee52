"""How slow iterative rivals are: Hessian-free and Krylov subspaces against K-FAC, counted in passes.

    python benchmarks/iterative.py --folder MNIST    # half an hour of one core

The K-FAC paper's autoencoder at a quarter of its width, on 10,000 images. A pass is one example forward and
backward: a gradient costs one, a product with F one on each of its examples, drawn targets one. Losses along
the way, of which Hessian-free takes many, are not counted. K-FAC has the constants of the long race, and the
budget of the others is several times what it needs. Each of these gets the same small search from seed 0, by
the training loss at the end, and the best constants three more seeds.

Leaves benchmarks/results/iterative.json.
"""

import argparse
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import common
import numpy as np

from minikfac import races
from minikfac.parallel import one_thread
from minikfac.races.contenders import contender
from minikfac.training.batches import batch_of, batches

LEVELS = (200.0, 130.0, 110.0, 90.0)
SEARCH, BUDGET, SEEDS = 60_000, 200_000, (1, 2, 3)
L2 = 1e-5
Info = dict[str, float]


def of_kfac(opt: Any, m: int, info: Info) -> float:
    return m * (1 + opt.tau1 + 2 * opt.tau2)


def of_hessian_free(opt: Any, m: int, info: Info) -> float:
    return m * (1 + opt.tau1 + opt.tau2 * info["iterations"])


def of_krylov(opt: Any, m: int, info: Info) -> float:
    return m * (
        (1 - opt.search_share) * (1 + opt.tau2 * (1 + opt.K)) + opt.search_share * info["evaluations"]
    )


METHODS: dict[str, tuple[Callable[[Any, int, Info], float], dict[str, tuple[Any, ...]]]] = {
    "K-FAC": (of_kfac, {"lam": (0.0758,), "m": (512,)}),
    "Hessian-free": (of_hessian_free, {"lam": (0.1, 10.0), "tau2": (0.25,), "m": (1000, 4000)}),
    "Krylov subspace": (of_krylov, {"damping": (1e-3, 1e-1), "tau2": (0.5,), "m": (1000, 4000)}),
}
"""What an update costs in passes, and the constants that are tried."""


def run(
    problem: races.Problem, method: str, settings: dict[str, Any], seed: int, budget: float
) -> dict[str, Any]:
    """Training losses after each update, and passes until then, to the last level or the budget."""
    arguments = {**settings}
    m, cost = arguments.pop("m"), METHODS[method][0]
    opt = contender(method).make(problem.net, l2=L2, **arguments)
    data, theta = problem.dataset, problem.theta(seed)
    state, order = opt.init(theta), batches(len(data.x_train), m, seed)
    losses, passes, step = [problem.net.loss(theta, data.x_train, data.y_train)], [0.0], 0
    while passes[-1] < budget and min(losses) > LEVELS[-1]:
        batch = batch_of(data, next(order), theta)
        theta, state, info = opt.step(theta, state, batch, np.random.default_rng([seed, step]))
        step += 1
        passes.append(passes[-1] + cost(opt, m, info))
        losses.append(problem.net.loss(theta, data.x_train, data.y_train))
    return {"seed": seed, "passes": passes, "losses": [float(loss) for loss in losses]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the files of MNIST are, if not in the cache")
    folder = parser.parse_args().folder
    problem = races.problem("mnist-autoencoder", folder, width=0.25, n_train=10_000, n_test=100)
    record: dict[str, Any] = {"levels": LEVELS, "budget of a trial": SEARCH, "budget": BUDGET, "methods": {}}
    with one_thread():
        for method, (_, space) in METHODS.items():
            choices = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
            trials = []
            for choice in choices if len(choices) > 1 else []:
                trial = run(problem, method, choice, 0, SEARCH)
                last = trial["losses"][-1]
                trials.append({"constants": choice, "loss": last if math.isfinite(last) else None})
                print(method, trials[-1], flush=True)
            scores = [math.inf if trial["loss"] is None else trial["loss"] for trial in trials]
            best = choices[int(np.argmin(scores))] if scores else choices[0]
            runs = [run(problem, method, best, seed, BUDGET) for seed in SEEDS]
            record["methods"][method] = {"constants": best, "trials": trials, "runs": runs}
            print(
                method,
                best,
                [(len(r["losses"]) - 1, r["passes"][-1], min(r["losses"])) for r in runs],
                flush=True,
            )
            common.write("iterative", record)


if __name__ == "__main__":
    main()
