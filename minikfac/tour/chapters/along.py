"""Does K-FAC get better or worse as training goes on? Quality per layer, and of the whole matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import fisher, plots, quality
from ...backend import Array, to_device, to_host
from ...datasets import Dataset
from ...network import Network
from ...quality import APPROXIMATIONS, applicable
from ...training.loop import History, Optimizer, train
from ..parts import Drawings, Figure, Finding, Part, Section, count, percent, two_digits
from .mean_gradient import concentration

if TYPE_CHECKING:
    from ..run import Run


def quality_along_training(
    net: Network,
    theta: Array,
    opt: Optimizer,
    dataset: Dataset,
    steps: int,
    every: int,
    approximations: Mapping[str, Callable[[fisher.Signals], fisher.FisherMatrix]] | None = None,
    n_examples: int = 500,
    batch_size: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train, and every k steps compare approximations with the exact blocks of the Fisher matrix.

    Args:
        net: the network.
        theta: (P,), where training starts.
        opt: the optimizer.
        dataset: what is trained on; expectations are over its first ``n_examples`` training inputs.
        steps: of training.
        every: k, steps between two comparisons.
        approximations: block-diagonal ones by name; K-FAC alone by default.
        n_examples: N of the Fisher matrices.
        batch_size: of training.
        seed: of training.
        progress: show a bar.

    Returns:
        A history whose records hold ``error/NAME/LAYER``, the relative Frobenius error of a layer's block,
        and ``c_star/NAME/LAYER``, the best scalar.

    Raises:
        ValueError: on n_examples < 1, or what :func:`train` rejects.
    """
    if n_examples < 1:
        raise ValueError(f"expected n_examples >= 1, got {n_examples}")
    builders = approximations or {"K-FAC": fisher.kfac}
    x = dataset.x_train[:n_examples]

    def track(step: int, theta: Array) -> dict[str, Any]:
        signals = fisher.signals(net, theta, x)
        exact = fisher.block_diagonal(signals)
        record = {}
        for name, build in builders.items():
            for layer, block, near in zip(signals.names, exact.blocks, build(signals).blocks, strict=True):
                F, M = block.to_dense(), near.to_dense()
                norm_F, norm_M = float((F * F).sum()), float((M * M).sum())  # squared; 0 below dead units
                error = (float(((F - M) ** 2).sum()) / norm_F) ** 0.5 if norm_F > 0 else math.nan
                record[f"error/{name}/{layer}"] = error
                record[f"c_star/{name}/{layer}"] = float((M * F).sum()) / norm_M if norm_M > 0 else math.nan
        return record

    return train(net, theta, opt, dataset, steps, batch_size, seed, every, track, progress)


COMPARED = ("K-FAC", "block-diagonal", "block-tridiagonal", "EKFAC", "diagonal", "no curvature")
"""Approximations of the whole matrix that are followed along training."""
MOMENTS = (0, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 10)
"""When they are measured, over the steps of the study's training: beyond its end too."""
_LARGEST = 3000
"""Most parameters for which exact matrices are built at so many moments."""


@dataclass(frozen=True)
class Along:
    """Errors of K-FAC's blocks while the net was trained, and of all of each matrix further on.

    Attributes:
        steps: at which they were measured (m,).
        errors: by layer (m,), relative Frobenius errors.
        concentration: of the derivatives at the start and at the end, see :func:`.concentration`.
        moments: steps at which whole matrices were compared; none for large nets.
        rows: per moment and approximation the columns of the quality table.
        now: steps of the study.
        pictures: the first layer's steps (units, H, W) by name; none where inputs are not grey images.
    """

    steps: Array
    errors: Mapping[str, Array]
    concentration: tuple[float, float]
    moments: list[int]
    rows: list[dict[str, dict[str, Any]]]
    now: int
    pictures: Mapping[str, Array]

    def figures(self) -> Drawings:
        """Errors and cosines along training, per layer for large nets, and the first layer's steps."""
        drawings: Drawings = {"along-training": self._matrices if self.moments else self._layers}
        if self.pictures:
            drawings["first-steps"] = lambda: plots.steps_as_pictures(self.pictures)
        return drawings

    def _layers(self) -> Any:
        return plots.quality_along_training(self.steps, self.errors)

    def _matrices(self) -> Any:
        errors, cosines = (self._curves(column) for column in ("error", "step_cosine"))
        errors.pop("no curvature", None)
        return plots.approximations_along_training(self.moments, errors, cosines, now=self.now)

    def _curves(self, column: str) -> dict[str, list[float]]:
        return {name: [row[name][column] for row in self.rows] for name in self.rows[0]}

    @property
    def caption(self) -> str:
        """Of the figure along training."""
        if self.moments:
            return "Error of each matrix and cosine of its step; dotted: the moment that is studied here."
        return "Relative error of K-FAC's block, layer by layer, while the net was trained."

    def findings(self, run: Run) -> Iterator[Finding]:
        """What changes along training."""
        yield Finding(
            "The quality of an approximation changes during training.",
            *self._stated(),
            Figure("along-training", self.caption),
            ["along"],
            "4, Down to K-FAC",
        )

    def _stated(self) -> tuple[str, str]:
        """Numbers at the start and at the end, and what they are."""
        if self.moments and "K-FAC" in self.rows[0]:
            cosines = self._curves("step_cosine")["K-FAC"]
            at = (0, self.moments.index(self.now), -1)
            return (
                " → ".join(two_digits(cosines[place]) for place in at),
                "is the cosine of K-FAC's step with the exact one before training, after "
                f"{count(self.now)} steps and after {count(self.moments[-1])}.",
            )
        name, errors = next(iter(self.errors.items()))
        return (
            f"{two_digits(errors[0])} → {two_digits(errors[-1])}",
            f"is the relative error (Frobenius norm) of K-FAC's block of {name} before training and after "
            f"{count(self.now)} steps.",
        )

    def sections(self) -> list[Section]:
        """Why quality changes, and the first layer's steps."""
        start, end = self.concentration
        text = (
            "K-FAC needs activations that are independent of derivatives, averaged over examples. The fewer "
            "examples have large derivatives, the fewer are averaged over. The tenth of the examples with "
            f"the largest derivatives holds {percent(start)} of the sum of their squares before training and "
            f"{percent(end)} after {count(self.now)} steps."
        )
        parts: list[Part] = [text, Figure("along-training", self.caption)]
        if self.pictures:
            caption = (
                "What one step changes in the weights of the first units, as images of the inputs: orange +, "
                "purple −, each row on a scale of its own."
            )
            parts.append(Figure("first-steps", caption))
        return [Section("along", "Along training", parts)]

    def record(self) -> dict[str, Any]:
        """Whole matrices; errors by layer stand in the records of training."""
        return {"along": {"steps": self.moments, "quality": self.rows}} if self.moments else {}


def compute(run: Run) -> Along | None:
    """Read the errors off the history, if they were measured; train on for whole matrices of small nets."""
    history = run.history
    if "error/K-FAC/" not in " ".join(history.records[0]) or len(history.records) < 2:
        return None
    moments = sorted({round(share * run.settings.steps) for share in MOMENTS})
    if run.study.F.shape[0] > _LARGEST or run.settings.channels or run.settings.layers is not None:
        moments = []
    return Along(
        history["step"],
        {name: history[f"error/K-FAC/{name}"] for name in run.net.names},
        (concentration(run.net, run.theta0, run.x), concentration(run.net, run.theta, run.x)),
        moments,
        [_compared(run, steps) for steps in moments],
        run.settings.steps,
        _pictures(run),
    )


def _compared(run: Run, steps: int) -> dict[str, dict[str, Any]]:
    """The quality table after so many steps, with the exact expectation over targets."""
    theta = run.theta if steps == run.settings.steps else run.alike(steps=steps)[1]
    theta, x, y = (to_device(array, run.settings.device) for array in (theta, run.x, run.y))
    signals = fisher.signals(run.net, theta, x)
    names = [name for name in COMPARED if name in applicable(signals)]
    matrices = {name: APPROXIMATIONS[name][0](signals) for name in names}
    gradient = run.net.gradient(theta, x, y)
    table = quality.compare(
        fisher.exact(signals), matrices, gradient, run.study.damping, measures=("matrix", "step")
    )
    columns = ("error", "step_cosine", "share")
    return {name: {column: table[name][column] for column in columns} for name in names}


def _pictures(run: Run) -> dict[str, Array]:
    """The first layer's part of three steps, as images of the inputs."""
    study, shape = run.study, run.dataset.image_shape
    if shape is None or shape[2] != 1 or run.settings.channels or 0 not in run.layers:
        return {}
    if study.F.shape[0] > _LARGEST or len(study.signals[0].abar[0, 0]) != shape[0] * shape[1] + 1:
        return {}
    kfac = fisher.kfac(study.signals)
    steps = {
        "natural gradient": study.F.solve(study.gradient, damping=study.damping),
        "gradient": study.gradient,
        "K-FAC": kfac.solve(study.gradient, damping=study.damping),
    }
    first, (_, units) = study.signals.slices[0], run.net.shapes[0]
    return {
        name: -to_host(step[first]).reshape(-1, units)[:-1].T.reshape(units, *shape[:2])
        for name, step in steps.items()
    }
