"""What curvature is good for: steps over a valley, and what one step of a net's training improves.

    valley       gradient descent and one natural step on a quadratic of two parameters
    improvement  what one step improves, by matrix and strength of the damping

The second is of a small autoencoder of digits, where K-FAC has the constants of its recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import plots
from ...parallel import one_thread
from ...races.problems import problem
from ...races.recipes import recipe
from ...training.loop import train
from ..parts import Drawings, Figure, Part, Section, count, number
from .conditioning import COUNTED, Conditioning, conditioning
from .damping_study import MATRICES, STEPS, DampingStudy, damping_study

if TYPE_CHECKING:
    from ..run import Run

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


@dataclass(frozen=True)
class Progress:
    """Both studies."""

    valley: Conditioning
    improvement: Improvement

    def figures(self) -> Drawings:
        """Paths over the valley, and what one step improves by strength of the damping [MG15, fig. 7]."""
        return {"valley": self._valley, "improvement-by-damping": self._improvement}

    def _valley(self) -> Any:
        run = self.valley  # without the path of momentum, which is high
        paths = {name: path for name, path in run.paths.items() if "momentum" not in name}
        return plots.conditioning(
            run.hessian, run.minimum, paths, run.losses, run.condition_numbers, run.steps
        )

    def _improvement(self) -> Any:
        at = self.improvement
        title = f"What one step improves, after {at.steps} steps of K-FAC on a small autoencoder"
        return plots.improvement_against_damping(
            at.study.gammas, at.study.improvements, chosen=at.gamma, title=title
        )

    def sections(self) -> list[Section]:
        """Steps on the quadratic, and the best steps of K-FAC and of others."""
        parts: list[Part] = [
            self._valley_in_words(),
            Figure(
                "valley",
                "Above: paths on the quadratic, the vertical axis stretched; momentum, which swings far out, "
                "is not shown there. Below: the loss, step by step, and the steps needed against the "
                "condition number.",
            ),
            self._improvement_in_words(),
            Figure(
                "improvement-by-damping",
                "What one step improves against the strength of damping: the step as it is, re-scaled, and "
                "with momentum [MG15, fig. 7]. What lies below zero harms. Dotted: the γ that K-FAC had "
                "found for itself.",
            ),
        ]
        return [Section("progress", "What it is good for: progress", parts)]

    def _valley_in_words(self) -> str:
        run = self.valley
        where = int(np.abs(run.condition_numbers - run.condition_number).argmin())
        plain, momentum, natural = (int(run.steps[name][where]) for name in COUNTED)
        ratio = number(float(run.condition_numbers[where]))
        return (
            f"What is all this for? Take a loss of two parameters that is curved {ratio} times as much in "
            "one direction as in the other. Gradient descent with its best step size jumps from one side of "
            f"the valley to the other, crawls along it, and takes <b>{count(plain)} steps</b> to a millionth "
            f"of the loss; with its best momentum, {count(momentum)}. The natural gradient divides by the "
            f"curvature, which is <i>F</i> here, and takes <b>{count(natural)} "
            f"step{'s' * (natural > 1)}</b>, whatever the ratio."
        )

    def _improvement_in_words(self) -> str:
        at = self.improvement
        exact, _, kfac, chain = MATRICES
        as_it_is, rescaled, _ = STEPS
        (raw, raw_at), (scaled, scaled_at), (moved, _) = (at.best(kfac, kind) for kind in STEPS)
        tried, harmful = len(at.study.gammas), int((at.study.improvements[kfac, as_it_is] <= 0).sum())
        text = (
            "A net's loss is no quadratic, and K-FAC is not its curvature. So K-FAC damps its matrix, with a "
            f"strength γ&nbsp;=&nbsp;√λ. Here is a small autoencoder of digits ({count(at.n_params)} "
            f"weights) after {count(at.steps)} steps of K-FAC, and what one more step does for different γ. "
            "Taken as it is, the "
        )
        if harmful == tried:
            text += f"step harms with each of the {tried} strengths that were tried."
        else:
            text += (
                f"step harms with {harmful} of {tried} strengths, and improves the objective by "
                f"{number(raw)} nats at best, with γ&nbsp;= {number(raw_at)}."
            )
        if scaled > 0:
            times = f", {scaled / raw:.2g} times as much" if raw > 0 else ""
            others = [number(at.best(matrix, rescaled)[0]) for matrix in (chain, exact)]
            text += (
                " The same directions, each as long as the exact Fisher matrix says is best, give up to "
                f"<b>{number(scaled)} nats</b> (γ&nbsp;= {number(scaled_at)}){times}; with the step before "
                f"as a second direction, which is momentum, {number(moved)}. That takes a pass forward for "
                "each direction, and no inverse. Re-scaled likewise, the block-tridiagonal inverse gives up "
                f"to {others[0]} nats, and that of the exact matrix {others[1]}."
            )
        return text

    def record(self) -> dict[str, Any]:
        """Losses and steps on the quadratic, improvements by matrix."""
        kept = ("condition_number", "losses", "reduction", "condition_numbers", "steps")
        valley = {key: getattr(self.valley, key) for key in kept}
        improvement = vars(self.improvement) | vars(self.improvement.study)
        del improvement["study"]
        improvement["improvements"] = [
            {"matrix": matrix, "way": kind, "nats": values}
            for (matrix, kind), values in self.improvement.study.improvements.items()
        ]
        return {"descent": {"conditioning": valley, "improvement": improvement}}


def compute(run: Run) -> Progress:
    """Both studies; of the run only the seed matters."""
    return Progress(conditioning(condition_numbers=(1, 3, 10, 30, 100, 300)), improvement(run.settings.seed))
