"""Findings to figures: which function of :mod:`minikfac.plots` draws what, one entry per picture."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from .. import plots
from ..experiments.tour import Findings
from ..network import outputs

FORMATS = ("png", "svg", "pdf")


def training(found: Findings) -> Any:
    """Loss and, for labels, test error during training."""
    records = found.history.records
    both = isinstance(found.net.output, outputs.Categorical)
    with plots.style():
        fig = plt.figure(figsize=(10, 4.2), layout="constrained")
        axes = fig.subplots(1, 2 if both else 1, squeeze=False)[0]
        plots.training_curve(records, "loss", ax=axes[0])
        if both:
            plots.training_curve(records, "test_error", ax=axes[1])
    return fig


def passage(found: Findings) -> Any:
    """One digit forward to probabilities and back."""
    one, shape = found.passage, found.dataset.image_shape
    assert one is not None
    pixels = one.x.reshape(shape[:2]) if shape is not None and shape[2] == 1 else one.x[None]
    return plots.forward_backward(
        pixels, one.activations[1:], one.mean, int(one.target), int(one.label), one.derivatives
    )


def means(found: Findings) -> Any:
    """Mean derivative by the outputs before training, under the model and under labels."""
    start = found.means_start
    assert start is not None
    return plots.mean_derivatives(start.model, start.labels, start.standard_error, xlabel="output unit")


def scatter(found: Findings) -> Any:
    """Sampled gradients of two weights and the Fisher's ellipse."""
    assert found.scatter is not None
    return plots.gradient_scatter(found.scatter.samples, found.scatter.F, names=found.scatter.names)


def divergence(found: Findings) -> Any:
    """KL against its quadratic model."""
    walk = found.divergence
    assert walk is not None
    return plots.kl_against_quadratic(walk.lengths, walk.differences, floor=walk.floor, fit=walk.fit)


def matrices_kronecker(found: Findings) -> Any:
    """|F|, |F~| and their difference [MG15, fig. 2]."""
    middle = found.middle
    assert middle is not None
    return plots.matrices(middle.F, {"Kronecker products F̃": middle.kronecker}, middle.names, middle.sizes)


def blocks(found: Findings) -> Any:
    """Mean magnitude per block of F~ and of its inverse [MG15, fig. 3]."""
    middle = found.middle
    assert middle is not None
    with plots.style():
        fig = plt.figure(figsize=(10, 4.6), layout="constrained")
        left, right = fig.subplots(1, 2)
        plots.block_means(middle.damped["kronecker"], middle.sizes, middle.names, ax=left)
        plots.block_means(
            middle.inverses["kronecker"], middle.sizes, middle.names, unit="squared weight per nat", ax=right
        )
        for ax, what in ((left, "F̃"), (right, "inverse of F̃")):
            title = ax.get_title()
            ax.set_title(f"{what}: {title[0].lower()}{title[1:]}", fontsize=11)
    return fig


def matrices_chain(found: Findings) -> Any:
    """|F~| against K-FAC and the chain [MG15, fig. 5]."""
    middle = found.middle
    assert middle is not None
    chosen = {NAMES[key]: M for key, M in middle.damped.items() if key != "kronecker"}
    return plots.matrices(middle.damped["kronecker"], chosen, middle.names, middle.sizes, reference="F̃")


def matrices_inverse(found: Findings) -> Any:
    """The same for the inverses [MG15, fig. 6]."""
    middle = found.middle
    assert middle is not None
    chosen = {NAMES[key]: M for key, M in middle.inverses.items() if key != "kronecker"}
    return plots.matrices(
        middle.inverses["kronecker"],
        chosen,
        middle.names,
        middle.sizes,
        reference="inverse of F̃",
        unit="squared weight per nat",
    )


NAMES = {"kfac": "block-diagonal (K-FAC)", "tridiagonal": "block-tridiagonal"}


def ledger(found: Findings) -> Any:
    """What each assumption costs."""
    return plots.ledger(found.study.ledger)


def quality_bars(found: Findings) -> Any:
    """Four columns of the quality table as bars."""
    comparison = found.study.comparison
    rows = comparison.whole()
    columns = [
        key for key in ("error", "step_cosine", "share", "cg_iterations") if rows[0].get(key) is not None
    ]
    spread = None
    if comparison.spread is not None:
        spread = [row for row in comparison.spread if row["layer"] == rows[0]["layer"]]
    return plots.quality_bars(rows, columns, spread=spread)


def models(found: Findings) -> Any:
    """The computation of a gradient, and three graphical models of it."""
    return plots.graphical_models(3)


def spectra(found: Findings) -> Any:
    """Eigenvalues of the matrices of the middle layers."""
    assert found.middle is not None
    return plots.spectra(found.middle.eigenvalues, found.middle.damping)


def preconditioned(found: Findings) -> Any:
    """Eigenvalues that each approximation's inverse leaves."""
    assert found.middle is not None
    return plots.preconditioned_spectra(found.middle.preconditioned)


def cosines(found: Findings) -> Any:
    """Directions of the damped steps against damping."""
    assert found.cosines is not None
    return plots.cosine_against_damping(found.cosines["dampings"], found.cosines["curves"])


def sampling(found: Findings) -> Any:
    """Errors of sampled Fisher matrices against the number of targets."""
    drawn = found.sampling
    assert drawn is not None
    errors = {
        "sampled Fisher matrix": drawn.fisher,
        "sampled K-FAC, against exact K-FAC": drawn.kfac,
        "empirical Fisher matrix (labels)": drawn.empirical,
    }
    return plots.monte_carlo_error(drawn.counts, errors, xlabel="sampled targets per example")


def along(found: Findings) -> Any:
    """K-FAC's error along training, per layer."""
    steps = found.history["step"]
    curves = {name: found.history[f"error/K-FAC/{name}"] for name in found.net.names}
    return plots.quality_along_training(steps, curves)


def memory(found: Findings) -> Any:
    """The full Fisher matrix against K-FAC's factors."""
    nets = {
        row["name"]: (row["parameters"], row["factor_bytes"] // row["bytes_per_number"])
        for row in found.memory
    }
    return plots.memory(nets, bytes_per_float=found.memory[0]["bytes_per_number"])


def available(found: Findings) -> dict[str, Callable[[Findings], Any]]:
    """Which figures can be drawn from these findings, by file name, in the order of the report."""
    one, walk, middle = found.passage, found.divergence, found.middle
    classes = isinstance(found.net.output, outputs.Categorical)
    scattered = found.scatter is not None and np.linalg.eigvalsh(found.scatter.F)[0] > 0
    fitted = walk is not None and np.isfinite(walk.slope)
    candidates: list[tuple[str, Callable[[Findings], Any], bool]] = [
        ("training", training, len(found.history.records) > 1),
        ("forward-backward", passage, one is not None and classes and len(one.activations) > 1),
        ("mean-derivatives", means, found.means_start is not None and len(found.means_start.model) <= 40),
        ("gradient-scatter", scatter, bool(scattered)),
        ("kl-divergence", divergence, bool(fitted)),
        ("matrices-kronecker", matrices_kronecker, middle is not None),
        ("block-means", blocks, middle is not None and len(middle.sizes) > 1),
        ("matrices-chain", matrices_chain, middle is not None and middle.tridiagonal is not None),
        ("matrices-inverse", matrices_inverse, middle is not None and middle.tridiagonal is not None),
        ("ledger", ledger, True),
        ("quality", quality_bars, True),
        ("graphical-models", models, middle is not None),
        ("spectra", spectra, middle is not None),
        ("preconditioned-spectra", preconditioned, middle is not None),
        ("step-cosines", cosines, found.cosines is not None),
        ("sampling", sampling, found.sampling is not None),
        ("along-training", along, any("error/K-FAC/" in key for key in found.history.records[0])),
        ("memory", memory, bool(found.memory)),
    ]
    return {name: draw for name, draw, possible in candidates if possible}


def draw_all(found: Findings, folder: Path, image_format: str = "png") -> Iterator[tuple[str, Path]]:
    """Draw every figure into a folder; yields name and file as each is done.

    Raises:
        ValueError: on another format than those of :data:`FORMATS`.
    """
    if image_format not in FORMATS:
        raise ValueError(f"expected a format among {', '.join(FORMATS)}, got {image_format!r}")
    backend = plt.get_backend()
    plt.switch_backend("agg")  # no window, also where there is no display
    try:
        for name, draw in available(found).items():
            path = folder / f"{name}.{image_format}"
            made = draw(found)
            fig = getattr(made[0] if isinstance(made, list) else made, "figure", made)
            fig.savefig(path)
            plt.close(fig)
            yield name, path
    finally:
        plt.switch_backend(backend)


def data_address(path: Path) -> str:
    """A PNG file as a data: address, to be embedded."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
