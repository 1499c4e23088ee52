"""The top and the foot of the page: the main idea in three numbers, and how the page was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..parts import Figure, Head, Section, count, number, percent
from .matrices import Matrices
from .net import hyphenated

if TYPE_CHECKING:
    from ..run import Tour


def head(tour: Tour) -> Head:
    """The main idea: paragraphs, three numbers with what they are, and one figure."""
    run, study = tour.run, tour.run.study
    n_params = count(study.F.shape[0])
    best = "K-FAC" if "K-FAC" in study.matrices else next(iter(study.matrices))
    row, plain = study.comparison[best], ""
    if "no curvature" in study.matrices:
        share = percent(study.comparison["no curvature"]["share"])
        plain = f", where the plain gradient makes {share}"
    name = f"{run.dataset.name}, {hyphenated(run.settings.net_name)}"
    return Head(
        f"How good is K-FAC? The Fisher matrix of a net for {name}",
        [
            "Move the weights of a net a little, and its predictions move. The <b>Fisher matrix</b> <i>F</i> "
            "says by how much, for every direction in which the weights can move; the natural gradient "
            "divides the gradient by it, and so takes long steps where predictions hardly change and short "
            "ones where they change fast. But <i>F</i> has a row and a column for every weight: here "
            f"{n_params} × {n_params}.",
            "<b>K-FAC</b> replaces each layer's part of <i>F</i> by a product of two small matrices: "
            "<i>A</i>, how the numbers that go into the layer vary together, and <i>G</i>, how the "
            "derivatives that come back to it do. This page builds both for one net, and measures what is "
            "lost.",
        ],
        [
            (
                f"{count(study.F.floats)} → {count(row['floats'])}",
                f"numbers to store: the exact Fisher matrix, and {best}",
            ),
            (percent(row["error"]), f"of the matrix, by its Frobenius norm, is what {best} gets wrong"),
            (
                percent(row["share"]),
                f"of the exact natural gradient step's progress is what a step with {best} makes{plain}",
            ),
        ],
        [_figure(tour)],
    )


def _figure(tour: Tour) -> Figure:
    matrices = tour.chapters.get("matrices")
    if not isinstance(matrices, Matrices):
        return Figure("ledger", "What each assumption on the way from the exact matrix costs.")
    return Figure(
        "kfac",
        "The idea in one picture. Above: one layer's block of the exact Fisher matrix, two small matrices A "
        "and G, their Kronecker product, and what differs. Below: the exact Fisher matrix of "
        f"{count(len(matrices.whole))} weights, K-FAC with one such block per layer, and what differs.",
    )


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
