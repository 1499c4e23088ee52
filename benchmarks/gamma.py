"""Where K-FAC's gamma should begin, and what the tridiagonal inverse brings beside it, counted in updates.

    python benchmarks/gamma.py start --folder FOLDER    # FOLDER/mnist and FOLDER/cifar10; minutes
    python benchmarks/gamma.py tridiagonal

The paper begins at sqrt(lambda + eta) and lets gamma fall by a factor of 0.6 every 20 steps. ``start`` counts
the updates to a training loss from a share of that, from several starts; ``tridiagonal`` compares the two
inverses by gamma and by the number of examples of the factors. Each study is a part of
docs/results/gamma.json. Updates do not depend on the machine, but for rounding.
"""

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minikfac import optim, races
from minikfac.linalg import SingularMatrixError
from minikfac.parallel import one_thread
from minikfac.training.batches import batch_of, batches

PATH = Path(__file__).parent.parent / "docs" / "results" / "gamma.json"
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Of sqrt(lambda + eta), where gamma begins."""


@dataclass(frozen=True)
class Study:
    """A problem, K-FAC's constants there, and the training losses to which updates are counted.

    Attributes:
        problem: its name.
        lam: where lambda begins: that of the recipe or of the recorded race, else the default.
        batch_size: examples of an update.
        levels: training losses, the last one ends a run.
        steps: at most.
        seeds: of start, order and drawn targets.
        settings: of the problem.
        data: folder of its data in FOLDER.
    """

    problem: str
    lam: float
    batch_size: int
    levels: tuple[float, ...]
    steps: int
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    settings: dict[str, Any] = field(default_factory=dict)
    data: str | None = None

    def load(self, folder: Path | None) -> races.Problem:
        data = None if self.data is None or folder is None else folder / self.data
        return races.problem(self.problem, data, **self.settings)


STUDIES = {
    "digits": Study("digits", 0.1, 250, (0.2, 0.1), 100),
    "digits-autoencoder": Study("digits-autoencoder", 1.0, 250, (24.0, 20.0), 200),
    "digits-convnet": Study("digits-convnet", 0.1, 250, (0.2, 0.1), 100),
    "cifar10-kfc, quarter width": Study(
        "cifar10-kfc",
        1.0,
        128,
        (1.7, 1.5),
        100,
        (0, 1, 2),
        {"n_train": 1000, "n_test": 100, "width": 0.25},
        "cifar10",
    ),
    "mnist-autoencoder, quarter width": Study(
        "mnist-autoencoder",
        0.0758,
        512,
        (110.0, 90.0),
        150,
        (0, 1, 2),
        {"n_train": 10_000, "n_test": 100, "width": 0.25},
        "mnist",
    ),
}
EVALUATED = 2000
"""Training examples of the loss that is compared with the levels."""


def updates(
    study: Study, problem: races.Problem, seed: int, share: float, **settings: Any
) -> list[int | None]:
    """After how many updates each level is reached for the first time, None where it is not."""
    net, data = problem.net, problem.dataset
    gamma = share * math.sqrt(study.lam + 1e-5)
    opt = optim.KFAC(net, lam=study.lam, gamma=gamma, **settings)
    theta, x, y = problem.theta(seed), data.x_train[:EVALUATED], data.y_train[:EVALUATED]
    state, order = opt.init(theta), batches(len(data.x_train), study.batch_size, seed)
    reached: list[int | None] = [None] * len(study.levels)
    for step in range(study.steps):
        batch = batch_of(data, next(order), theta)
        try:
            theta, state, _ = opt.step(theta, state, batch, np.random.default_rng([seed, step]))
        except SingularMatrixError:  # float32 does not resolve so small a gamma
            break
        loss = net.loss(theta, x, y)
        reached = [
            step + 1 if at is None and loss <= level else at
            for at, level in zip(reached, study.levels, strict=True)
        ]
        if reached[-1] is not None:
            break
    return reached


def summary(runs: Iterable[list[int | None]]) -> list[dict[str, Any]]:
    """Median and range over the seeds, a level each; runs that did not get there count as later than all."""
    rows = []
    for of_a_level in zip(*runs, strict=True):
        counts = [math.inf if count is None else count for count in of_a_level]
        ends = {"median": np.median(counts), "lowest": min(counts), "highest": max(counts)}
        finite = {name: float(end) if math.isfinite(end) else None for name, end in ends.items()}
        rows.append({"updates": of_a_level, **finite})
    return rows


def start(folder: Path | None) -> dict[str, Any]:
    """Updates by problem and share."""
    record = {}
    for name, study in STUDIES.items():
        problem = study.load(folder)
        record[name] = {
            "lam": study.lam,
            "batch_size": study.batch_size,
            "levels": study.levels,
            "shares": {},
        }
        for share in SHARES:
            rows = summary([updates(study, problem, seed, share) for seed in study.seeds])
            record[name]["shares"][f"{share:g}"] = rows
            print(
                f"{name:<34}{share:6g}",
                *(f"{r['median']} [{r['lowest']}, {r['highest']}]" for r in rows),
                flush=True,
            )
    return record


def tridiagonal(_: Path | None) -> dict[str, Any]:
    """Updates of both inverses on the digits autoencoder by share and by tau1."""
    study = STUDIES["digits-autoencoder"]
    problem = study.load(None)
    record: dict[str, Any] = {
        "lam": study.lam,
        "batch_size": study.batch_size,
        "levels": study.levels,
        "rows": [],
    }
    for tau1 in (1 / 8, 1 / 2, 1.0):
        for share in (1.0, 0.3, 0.1, 0.03):
            row = {"tau1": tau1, "examples": math.ceil(tau1 * study.batch_size), "share": share}
            for structure in ("block_diagonal", "block_tridiagonal"):
                runs = [
                    updates(study, problem, seed, share, tau1=tau1, structure=structure) for seed in (0, 1, 2)
                ]
                row[structure] = summary(runs)
            record["rows"].append(row)
            print(
                {
                    key: value if not isinstance(value, list) else [v["updates"] for v in value]
                    for key, value in row.items()
                },
                flush=True,
            )
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", choices=("start", "tridiagonal"))
    parser.add_argument(
        "--folder", type=Path, help="where the files of MNIST and CIFAR-10 are, if not in the cache"
    )
    arguments = parser.parse_args()
    with one_thread():
        study = {"start": start, "tridiagonal": tridiagonal}[arguments.study](arguments.folder)
    record = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    record[arguments.study] = study
    PATH.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
