"""The report's section on progress: steps over a valley, and what one step of a net's training improves."""

from __future__ import annotations

import numpy as np

from .chapters.conditioning import COUNTED, Conditioning
from .chapters.damping_study import MATRICES, WAYS
from .chapters.descent import Improvement
from .run import Findings
from .words import Figure, Section, Table, count, number

Part = str | Figure | Table


def section(found: Findings) -> Section | None:
    """What curvature is good for, as far as it was tried."""
    if found.descent is None:
        return None
    parts: list[Part] = []
    if found.descent.valley is not None:
        parts += valley(found.descent.valley)
    if found.descent.improvement is not None:
        parts += improvement(found.descent.improvement)
    return Section("progress", "What it is good for: progress", parts) if parts else None


def valley(run: Conditioning) -> list[Part]:
    """Gradient descent, momentum and the natural gradient on a quadratic."""
    where = int(np.abs(run.condition_numbers - run.condition_number).argmin())
    plain, momentum, natural = (int(run.steps[name][where]) for name in COUNTED)
    ratio = number(float(run.condition_numbers[where]))
    return [
        f"What is all this for? Take a loss of two parameters that is curved {ratio} times as much in one "
        "direction as in the other. Gradient descent with its best step size jumps from one side of the "
        f"valley to the other, crawls along it, and takes <b>{count(plain)} steps</b> to a millionth of the "
        f"loss; with its best momentum, {count(momentum)}. The natural gradient divides by the curvature, "
        f"which is <i>F</i> here, and takes <b>{count(natural)} step{'s' * (natural > 1)}</b>, whatever the "
        "ratio.",
        Figure(
            "valley",
            "Above: paths on the quadratic, the vertical axis stretched; momentum, which swings far out, is "
            "not shown there. Below: the loss, step by step, and the steps needed against the condition "
            "number.",
        ),
    ]


def improvement(at: Improvement) -> list[Part]:
    """What one step improves, by damping: the block-diagonal inverse in words, the others beside it."""
    exact, _, kfac, chain = MATRICES
    (raw, raw_at), (scaled, scaled_at), (moved, _) = (at.best(kfac, way) for way in WAYS)
    tried = len(at.study.gammas)
    harmful = int((at.study.improvements[kfac, WAYS[0]] <= 0).sum())
    text = (
        "A net's loss is no quadratic, and K-FAC is not its curvature. So K-FAC damps its matrix, with a "
        f"strength γ&nbsp;=&nbsp;√λ. Here is a small autoencoder of digits ({count(at.n_params)} weights) "
        f"after {count(at.steps)} steps of K-FAC, and what one more step does for different γ. Taken as it "
        "is, the "
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
        others = [at.best(matrix, WAYS[1])[0] for matrix in (chain, exact)]
        text += (
            " The same directions, each as long as the exact Fisher matrix says is best, give up to "
            f"<b>{number(scaled)} nats</b> (γ&nbsp;= {number(scaled_at)}){times}; with the step before as a "
            f"second direction, which is momentum, {number(moved)}. That takes a pass forward for each "
            f"direction, and no inverse. Re-scaled likewise, the block-tridiagonal inverse gives up to "
            f"{number(others[0])} nats, and that of the exact matrix {number(others[1])}."
        )
    return [
        text,
        Figure(
            "improvement-by-damping",
            "What one step improves against the strength of damping: the step as it is, re-scaled, and with "
            "momentum [MG15, fig. 7]. What lies below zero harms. Dotted: the γ that K-FAC had found for "
            "itself.",
        ),
    ]
