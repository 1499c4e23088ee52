"""The top and the end of the page: the findings, what they come to, and how the page was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..parts import Head, Section, count, number, two_digits

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
    n_params = count(study.F.shape[0])
    return Head(
        f"How good is K-FAC? The Fisher matrix of a net for {name}",
        [
            "The <b>Fisher matrix</b> <i>F</i> measures how much a net's predictions change when its weights "
            "do. The natural gradient divides the gradient by it: it takes long steps in directions in which "
            "predictions hardly change, and short ones where they change fast. <i>F</i> has a row and a "
            f"column for every weight, here {n_params}&nbsp;×&nbsp;{n_params}. <b>K-FAC</b> replaces each "
            "layer's block by a Kronecker product of two small matrices: <i>A</i>, the second moments of the "
            "layer's inputs, and <i>G</i>, those of the derivatives with respect to its outputs. This page "
            "compares the two for one net.",
        ],
        findings[:MOST],
        _conclusion(tour),
    )


def _conclusion(tour: Tour) -> list[str]:
    """What speaks for K-FAC, what speaks against it, and of what this page says nothing."""
    study = tour.run.study
    if "K-FAC" not in study.matrices:
        return []
    row, net = study.table["K-FAC"], tour.run.net
    shapes = [net.shapes[layer] for layer in tour.run.layers]
    ratio = study.F.shape[0] ** 3 / sum(i**3 + o**3 for i, o in shapes)
    against = (
        f"<b>Against it:</b> the relative error of its matrix is {two_digits(row['error'])}. It leaves out "
        "the correlations between layers altogether. Its step needs damping, and its quality changes during "
        "training, so the damping has to be adapted."
    )
    plain = study.table["no curvature"] if "no curvature" in study.matrices else {}
    if {"cg_iterations"} <= row.keys() & plain.keys():
        against += (
            " As a preconditioner it need not help. Iterations of conjugate gradients on the damped exact "
            f"matrix: <b>{number(row['cg_iterations'])}</b> with K-FAC, "
            f"<b>{number(plain['cg_iterations'])}</b> without a preconditioner."
        )
    return [
        "<b>For K-FAC:</b> it stores two small matrices per layer. Inverting these takes "
        f"{count(ratio)} times fewer operations than inverting <i>F</i> (by the cubes of the sizes). Without "
        "damping its steps are invariant under affine maps of each layer's inputs and units.",
        against,
        f"These are numbers of one net, one seed and {count(len(tour.run.x))} examples. Whether K-FAC trains "
        "a net faster than SGD or Adam also depends on the time of a step, which this page does not compare; "
        "<code>minikfac compare</code> does.",
    ]


def how_made(tour: Tour) -> Section:
    """Settings, times and source."""
    settings = tour.run.settings
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in tour.seconds.items() if seconds >= 0.05)
    return Section(
        "made",
        "How this page was made",
        [
            f"Seed {settings.seed}, {settings.dtype}, N = {count(settings.n_examples)}, λ = "
            f"{number(settings.damping)}. Times: {stages}. All numbers are in results.json, the quality "
            "table layer by layer in quality.csv, the pictures as files beside this page.",
            "Source of the method: J. Martens and R. Grosse, Optimizing neural networks with "
            "Kronecker-factored approximate curvature, ICML 2015 [MG15]."
            + " For convolutions: R. Grosse and J. Martens, A Kronecker-factored approximate Fisher matrix "
            "for convolution layers, ICML 2016 [GM16]." * (tour.run.convolutional is not None),
        ],
    )
