"""K-FAC with small batches on the digits autoencoder: the numbers of docs/when-it-breaks.md.

    python docs/measure_small_batches.py    # a few minutes

Leaves docs/results/small-batches.json: losses after 400 steps by batch, tau1 and tau2, from five starts;
null where the loss became infinite.
"""

import json
from pathlib import Path
from typing import Any

from minikfac import optim, races, training
from minikfac.parallel import one_thread

PATH = Path(__file__).parent / "results" / "small-batches.json"
STEPS, SEEDS = 400, (0, 1, 2, 3, 4)
SETTINGS: dict[str, tuple[int, dict[str, float]]] = {
    "250": (250, {}),
    "12": (12, {}),
    "12, tau2 = 1": (12, {"tau2": 1.0}),
    "12, tau1 = 1": (12, {"tau1": 1.0}),
    "12, tau1 = tau2 = 1": (12, {"tau1": 1.0, "tau2": 1.0}),
}


def loss(setting: str, seed: int, steps: int = STEPS) -> float | None:
    """Training loss after so many steps from one start."""
    batch_size, shares = SETTINGS[setting]
    problem = races.problem("digits-autoencoder")
    try:
        run = training.train(
            problem.net,
            problem.theta(seed),
            optim.KFAC(problem.net, **shares),
            problem.dataset,
            steps,
            batch_size,
            seed,
            lambda step: False,
            progress=False,
        )
    except FloatingPointError:
        return None
    return float(run.records[-1]["loss"])


def main() -> None:
    record: dict[str, Any] = {"steps": STEPS, "seeds": SEEDS, "losses": {}}
    with one_thread():
        for setting in SETTINGS:
            record["losses"][setting] = [loss(setting, seed) for seed in SEEDS]
            print(setting, record["losses"][setting], flush=True)
    PATH.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
