"""The top and the end of the page: findings, conclusion, and how the page was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..parts import Head, Part, Section, count, number, two_digits
from ..words import words

if TYPE_CHECKING:
    from ..run import Tour

CHAPTERS = ("matrices", "convolutions", "quality", "along", "progress", "invariance", "spectra", "sampling")
"""Chapters with findings, in the order of the page."""
MOST = 5
"""Findings on a page."""


def head(tour: Tour) -> Head:
    """The question, the first five findings that exist for this tour, and the conclusion."""
    run, study = tour.run, tour.run.study
    chapters = [tour.chapters[name] for name in CHAPTERS if name in tour.chapters]
    findings = [finding for chapter in chapters for finding in chapter.findings]
    name = f"{run.dataset.name}, {run.settings.net_name}"
    return Head(
        f"How good is K-FAC? The Fisher matrix of a net for {name}",
        words("opening", weights=count(study.F.shape[0])),
        findings[:MOST],
        _conclusion(tour),
    )


def _conclusion(tour: Tour) -> list[Part]:
    """The case for and against K-FAC, and the limits of this page."""
    study = tour.run.study
    if "K-FAC" not in study.matrices:
        return []
    row, net = study.table["K-FAC"], tour.run.net
    shapes = [net.shapes[layer] for layer in tour.run.layers]
    ratio = study.F.shape[0] ** 3 / sum(i**3 + o**3 for i, o in shapes)
    plain = study.table["no curvature"] if "no curvature" in study.matrices else {}
    preconditioner = ""
    if {"cg_iterations"} <= row.keys() & plain.keys():
        preconditioner = (
            " As a preconditioner it need not help. Iterations of conjugate gradients on the damped exact "
            f"matrix: <b>{number(row['cg_iterations'])}</b> with K-FAC, "
            f"<b>{number(plain['cg_iterations'])}</b> without a preconditioner."
        )
    return words(
        "conclusion",
        ratio=count(ratio),
        error=two_digits(row["error"]),
        preconditioner=preconditioner,
        examples=count(len(tour.run.x)),
    )


def how_made(tour: Tour) -> Section:
    """Settings, times and source."""
    settings = tour.run.settings
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in tour.seconds.items() if seconds >= 0.05)
    convolutions = (
        " For convolutions: R. Grosse and J. Martens, A Kronecker-factored approximate Fisher matrix "
        "for convolution layers, ICML 2016 [GM16]."
    )
    text = words(
        "made",
        seed=settings.seed,
        dtype=settings.dtype,
        examples=count(settings.n_examples),
        damping=number(settings.damping),
        times=stages,
        convolutions=convolutions * (tour.run.convolutional is not None),
    )
    return Section("made", "How this page was made", text)
