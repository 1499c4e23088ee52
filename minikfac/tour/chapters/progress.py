"""What curvature is good for: steps over a valley, and what one step of a net's training improves.

    valley       gradient descent and one natural step on a quadratic of two parameters
    improvement  what one step improves, by matrix and strength of the damping

The second is of a small autoencoder of digits, where K-FAC has the constants of its recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import plots
from ...parallel import one_thread
from ...races.problems import problem
from ...races.recipes import recipe
from ...training.loop import train
from ..parts import Chapter, Finding, Part, Section, count, number
from ..studied import Run
from ..words import finding, words
from .conditioning import COUNTED, Conditioning, conditioning
from .damping_study import MATRICES, STEPS, DampingStudy, damping_study

PROBLEM = "digits-autoencoder"


@dataclass(frozen=True)
class Improvement:
    """A study of damping, and the iterate at which it was made.

    Attributes:
        study: improvements by matrix, kind of step and strength.
        n_params: of the net.
        steps: of K-FAC before it.
        loss: on the training set, after them.
        gamma: strength of the damping that K-FAC had come to by itself.
    """

    study: DampingStudy
    n_params: int
    steps: int
    loss: float
    gamma: float

    def best(self, matrix: str, kind: str) -> tuple[float, float]:
        """Return the largest improvement in nats, and the gamma where it is."""
        values = self.study.improvements[matrix, kind]
        return float(values.max()), float(self.study.gammas[values.argmax()])


def improvement(seed: int = 0, width: float = 0.5, steps: int = 100) -> Improvement:
    """Train the autoencoder with K-FAC for a while, and try what one more step improves.

    Args:
        seed: of initialization, order and drawn targets.
        width: scales the net; at 1 the exact Fisher matrix takes most of some 10 seconds.
        steps: of training.
    """
    autoencoder, kfac = problem(PROBLEM, width=width), recipe(PROBLEM, "K-FAC")
    net, data = autoencoder.net, autoencoder.dataset
    with one_thread():
        run = train(
            net,
            autoencoder.theta(seed),
            kfac.make(net),
            data,
            steps,
            kfac.batches(data),
            seed,
            measure_every=max(1, steps),
            progress=False,
        )
    study = damping_study(
        net,
        run.theta,
        data.x_train,
        data.y_train,
        gammas=[10 ** (power / 2) for power in range(-6, 3)],
        lam=run.state["lam"],
        l2=kfac.arguments["l2"],
        last=run.state["delta"],
        progress=False,
    )
    return Improvement(study, net.n_params, steps, float(run["loss"][-1]), run.state["gamma"])


def compute(run: Run) -> Chapter:
    """Both studies; of the run only the seed matters."""
    valley = conditioning(condition_numbers=(1, 3, 10, 30, 100, 300))
    return chapter(valley, improvement(run.settings.seed))


def chapter(valley: Conditioning, at: Improvement) -> Chapter:
    """Steps on the quadratic, and steps of K-FAC on a net."""
    exact, _, kfac, chain = MATRICES
    _, rescaled, momentum = STEPS
    damping = words(
        "progress",
        weights=count(at.n_params),
        steps=count(at.steps),
        momentum=number(at.best(kfac, momentum)[0]),
        chain=number(at.best(chain, rescaled)[0]),
        exact=number(at.best(exact, rescaled)[0]),
    )
    kept = ("condition_number", "losses", "reduction", "condition_numbers", "steps")
    improvements = [
        {"matrix": matrix, "way": kind, "nats": values}
        for (matrix, kind), values in at.study.improvements.items()
    ]
    numbers = {key: value for key, value in vars(at).items() if key != "study"}
    numbers |= vars(at.study) | {"improvements": improvements}
    record = {"conditioning": {key: getattr(valley, key) for key in kept}, "improvement": numbers}
    return Chapter(
        [Section("progress", "What it is good for: progress", _valley_in_words(valley) + damping)],
        {"valley": lambda: _draw_valley(valley), "improvement-by-damping": lambda: _draw_improvement(at)},
        {"descent": record},
        [_finding(at)],
        results=(valley, at),
    )


def _draw_valley(run: Conditioning) -> Any:
    """Without the path of momentum, which is high."""
    paths = {name: path for name, path in run.paths.items() if "momentum" not in name}
    return plots.conditioning(run.hessian, run.minimum, paths, run.losses, run.condition_numbers, run.steps)


def _draw_improvement(at: Improvement) -> Any:
    title = f"After {at.steps} steps of K-FAC on a small autoencoder, one more lowers the objective by"
    study = at.study
    return plots.improvement_against_damping(study.gammas, study.improvements, chosen=at.gamma, title=title)


def _finding(at: Improvement) -> Finding:
    """K-FAC's step as it is, and re-scaled."""
    (_, _, kfac, _), (as_it_is, rescaled, _) = MATRICES, STEPS
    harmful = int((at.study.improvements[kfac, as_it_is] <= 0).sum())
    best, scaled = (number(at.best(kfac, kind)[0]) for kind in (as_it_is, rescaled))
    return finding("damping", f"{harmful} of {len(at.study.gammas)}", best=best, rescaled=scaled)


def _valley_in_words(run: Conditioning) -> list[Part]:
    where = int(np.abs(run.condition_numbers - run.condition_number).argmin())
    plain, momentum, natural = (count(run.steps[name][where]) for name in COUNTED)
    ratio = number(float(run.condition_numbers[where]))
    return words("progress-valley", ratio=ratio, plain=plain, momentum=momentum, natural=natural)
