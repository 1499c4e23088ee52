"""What curvature is good for, on the bundled digits: what reports and ``minikfac figures`` show of progress.

    valley       gradient descent and one natural step on a quadratic of two parameters
    improvement  what one step improves, by matrix and strength of the damping

The last one is of a small autoencoder, where K-FAC has the constants of its recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...parallel import one_thread
from ...races.problems import problem
from ...races.recipes import recipe
from ...training.loop import train
from .conditioning import Conditioning, conditioning
from .damping_study import DampingStudy, damping_study

PROBLEM = "digits-autoencoder"


@dataclass(frozen=True)
class Improvement:
    """A study of damping, and the iterate at which it was made.

    Attributes:
        study: what was found.
        n_params: of the net.
        steps: of K-FAC before it.
        loss: on the training set, after them.
        gamma: strength of the damping that K-FAC had found for itself.
    """

    study: DampingStudy
    n_params: int
    steps: int
    loss: float
    gamma: float

    def best(self, matrix: str, way: str) -> tuple[float, float]:
        """Return the largest improvement in nats, and the gamma where it is."""
        values = self.study.improvements[matrix, way]
        return float(values.max()), float(self.study.gammas[values.argmax()])


@dataclass
class Descent:
    """What the pictures of progress show; parts that were not asked for are None."""

    valley: Conditioning | None = None
    improvement: Improvement | None = None


def improvement(seed: int = 0, width: float = 0.5, steps: int = 100) -> Improvement:
    """Train the autoencoder with K-FAC for a while, and try what one more step improves.

    Args:
        seed: of initialization, order and drawn targets.
        width: scales the net; at 1 the exact Fisher matrix takes most of some 10 seconds.
        steps: of training.
    """
    own, kfac = problem(PROBLEM, width=width), recipe(PROBLEM, "K-FAC")
    data = own.dataset
    with one_thread():
        run = train(
            own.net,
            own.theta(seed),
            kfac.make(own.net),
            data,
            steps,
            kfac.batches(data),
            seed,
            measure_every=max(1, steps),
            progress=False,
        )
    study = damping_study(
        own.net,
        run.theta,
        data.x_train,
        data.y_train,
        gammas=[10 ** (power / 2) for power in range(-6, 3)],
        lam=run.state["lam"],
        l2=kfac.arguments["l2"],
        last=run.state["delta"],
        progress=False,
    )
    return Improvement(study, own.net.n_params, steps, float(run["loss"][-1]), run.state["gamma"])


def stages(found: Descent, seed: int = 0) -> dict[str, Callable[[], None]]:
    """Name the pieces of work that fill ``found``; they do not depend on each other."""

    def valley() -> None:
        found.valley = conditioning(condition_numbers=(1, 3, 10, 30, 100, 300))

    def damped() -> None:
        found.improvement = improvement(seed)

    return {"conditioning": valley, "improvement by damping": damped}
