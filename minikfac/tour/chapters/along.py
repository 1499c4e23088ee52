"""Does K-FAC get better or worse during training? Whole matrices and their steps."""

from __future__ import annotations

from functools import partial
from typing import Any

from ... import fisher, plots, quality
from ...backend import Array, to_device, to_host
from ...quality import APPROXIMATIONS, applicable
from ..parts import Chapter, Drawings, Section, count, percent, two_digits
from ..studied import Run
from ..words import finding, words
from .mean_gradient import concentration

COMPARED = ("K-FAC", "block-diagonal", "block-tridiagonal", "EKFAC", "diagonal", "no curvature")
"""Approximations of the whole matrix that are followed along training."""
MOMENTS = (0, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 10)
"""When they are measured, in units of the training of the study, and beyond its end."""
_LARGEST = 3000
"""Most parameters for which exact matrices are built at so many moments."""


def compute(run: Run) -> Chapter | None:
    """Compare whole matrices before, during and beyond training; for small dense nets only."""
    settings, study = run.settings, run.study
    if study.F.shape[0] > _LARGEST or settings.channels or settings.layers is not None or not settings.steps:
        return None
    now, moments = settings.steps, sorted({round(share * settings.steps) for share in MOMENTS})
    rows, pictures = [_compared(run, steps) for steps in moments], _pictures(run)
    start, end = (concentration(run.net, theta, run.x) for theta in (run.theta0, run.theta))
    errors, cosines = (
        {name: [row[name][column] for row in rows] for name in rows[0]} for column in ("error", "step_cosine")
    )
    errors.pop("no curvature")
    draw = partial(plots.approximations_along_training, moments, errors, cosines, now=now)
    parts = words("along", start=percent(start), end=percent(end), steps=count(now))
    drawings: Drawings = {"along-training": draw}
    if pictures:
        parts += words("along-steps")
        drawings["first-steps"] = partial(plots.steps_as_pictures, pictures)
    value = " → ".join(two_digits(cosines["K-FAC"][place]) for place in (0, moments.index(now), -1))
    findings = [finding("along", value, steps=count(now), last=count(moments[-1]))]
    record = {"along": {"steps": moments, "quality": rows}}
    return Chapter([Section("along", "Along training", parts)], drawings, record, findings)


def _compared(run: Run, steps: int) -> dict[str, dict[str, Any]]:
    """The quality table after a number of steps, with the exact expectation over targets."""
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
