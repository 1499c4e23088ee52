"""Short runs on digits: the numbers of docs/when-it-breaks.md, and the race of docs/howto/train-and-race.md.

    python docs/measure_short_runs.py    # some ten minutes

Leaves docs/results/short-runs.json; its lists have an entry per seed:

    runs    K-FAC by setting: loss and lambda at the end, and the first step at which the loss was above that
            of the start, measured every 100 steps; null if there was none
    race    by optimizer: steps to each level, null if not reached; loss at the end; milliseconds a step
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from six_digits import six_digits

from minikfac import optim, races, training
from minikfac.parallel import one_thread
from minikfac.races.race import reached

PATH = Path(__file__).parent / "results" / "short-runs.json"
SEEDS, EVERY = (0, 1, 2, 3, 4), 100


class Setting(NamedTuple):
    """A run of K-FAC."""

    steps: int
    batch_size: int
    arguments: dict[str, Any]
    problem: str = "digits-autoencoder"


SETTINGS = {
    "250": Setting(400, 250, {}),
    "12": Setting(400, 12, {}),
    "12, tau2 = 1": Setting(400, 12, {"tau2": 1.0}),
    "12, tau1 = 1": Setting(400, 12, {"tau1": 1.0}),
    "12, tau1 = tau2 = 1": Setting(400, 12, {"tau1": 1.0, "tau2": 1.0}),
    "digits": Setting(600, 100, {}, "digits"),
    "digits, tau2 = 1": Setting(600, 100, {"tau2": 1.0}, "digits"),
    "100, lam_min = 0": Setting(1500, 100, {"lam_min": 0.0}),
    "100, lam_min": Setting(1500, 100, {}),
    "250, lam_min = 0": Setting(4000, 250, {"lam_min": 0.0}),
    "250, lam_min": Setting(4000, 250, {}),
    "200 steps": Setting(200, 250, {}),
    "lr = 1": Setting(200, 250, {"lr": 1.0}),
    "no momentum": Setting(200, 250, {"momentum": False, "gamma_share": 1.0}),  # as lr = 1, but re-scaled
    "T3 = 1": Setting(200, 250, {"T3": 1}),
    "T2 = T3 = 100": Setting(200, 250, {"T2": 100, "T3": 100}),
    "tau1 = 1, expected": Setting(200, 250, {"tau1": 1.0, "targets": "model"}),
}
RACERS, LEVELS = ("SGD", "Nesterov", "Adam", "K-FAC", "K-FAC tridiagonal"), (28.2, 25.6)


def run(setting: Setting, seed: int) -> dict[str, Any]:
    """Loss and lambda at the end of a run, and where its loss first was above that of the start."""
    p = races.problem(setting.problem)
    opt = optim.KFAC(p.net, **setting.arguments)
    sizes = setting.steps, setting.batch_size, seed, EVERY
    history = training.train(p.net, p.theta(seed), opt, p.dataset, *sizes, progress=False)
    start, end = history.records[0], history.records[-1]
    above = (record["step"] for record in history.records if record["loss"] > start["loss"])
    return {"loss": end["loss"], "lam": end["lam"], "above the start": next(above, None)}


def race(steps: int = 400, seeds: int = len(SEEDS)) -> dict[str, dict[str, list[Any]]]:
    """``minikfac compare --steps 400 --seeds 5 --levels 28.2,25.6``, its numbers by optimizer."""
    p = races.problem("digits-autoencoder")
    racers = {name: races.recipe(p.name, name).make(p.net) for name in RACERS}
    terms: dict[str, Any] = {"steps": steps, "batch_size": 250, "seeds": seeds, "progress": False}
    outcome = races.race(p.net, p.theta, racers, p.dataset, **terms)
    table = {}
    for name, histories in outcome.histories.items():
        steps_to = {str(level): [reached(h, "loss", level, "step") for h in histories] for level in LEVELS}
        ends = [history.records[-1] for history in histories]
        ms = [1e3 * end["seconds"] / end["step"] for end in ends]
        table[name] = steps_to | {"loss": [end["loss"] for end in ends], "ms": ms}
    return table


def main() -> None:
    record: dict[str, Any] = {"seeds": SEEDS, "runs": {}}
    with one_thread():
        for name, setting in SETTINGS.items():
            runs = [run(setting, seed) for seed in SEEDS]
            record["runs"][name] = {key: [each[key] for each in runs] for key in runs[0]}
            print(name, record["runs"][name], flush=True)
        record["race"] = race()
    PATH.write_text(json.dumps(six_digits(record), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
