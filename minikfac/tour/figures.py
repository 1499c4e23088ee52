"""Findings to figures: which function of :mod:`minikfac.plots` draws what, one entry per picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from .. import plots
from ..network import outputs
from . import text_invariance as invariance
from . import text_opening as opening
from .chapters.convolutions import Convolutions
from .chapters.maps import LayerMaps
from .run import Findings
from .text_convolutions import POOLING

FORMATS = ("png", "svg", "pdf")
Candidate = tuple[str, Callable[[Findings], Any], bool]
"""A picture by its file name, what draws it, and whether the findings hold what it takes."""


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


def conv_gradient(found: Findings) -> Any:
    """Two maps, shifted against each other."""
    one = _chapter(found).shifts
    assert one is not None
    return plots.shifted_products(
        one.activation, one.derivative, one.products, one.kernel, padding=one.padding
    )


def conv_layers(found: Findings) -> Any:
    """What each assumption costs each convolution."""
    return plots.layer_ledger(_chapter(found).ledgers)


def conv_ledger(found: Findings) -> Any:
    """What each assumption costs the convolutional net beside."""
    assert found.convnet is not None
    return plots.ledger(found.convnet.study.ledger)


def conv_block(found: Findings) -> Any:
    """One convolution's block, exact and KFC's."""
    block = _chapter(found).block
    assert block is not None
    exact, *_, kfc = block.blocks.values()
    return plots.matrices(
        exact, {"KFC": kfc}, block.parts, block.sizes, reference=f"exact block of {block.name}", cells=150,
        upright=True,
    )  # fmt: skip


def conv_ladder(found: Findings) -> Any:
    """The same block under every set of assumptions."""
    block = _chapter(found).block
    assert block is not None
    names = {label: label.split(":")[0] for label in block.blocks}
    return plots.ladder_blocks({names[label]: M for label, M in block.blocks.items()})


def conv_autocorrelation(found: Findings) -> Any:
    """Correlations in space of activations, and of derivatives below both poolings."""
    chapter = _chapter(found)
    first = _own_maps(found)
    tiles = {
        own.name: {
            "activations in": own.inputs.mean_autocorrelation,
            **{
                f"derivatives,\n{POOLING[pool]}": maps[number].derivatives.mean_autocorrelation
                for pool, maps in chapter.maps.items()
            },
        }
        for number, own in enumerate(first)
    }
    return plots.autocorrelation(tiles)


def conv_offsets(found: Findings) -> Any:
    """How far correlations of derivatives reach."""
    curves = {
        POOLING[pool]: {
            own.name: [own.derivatives.strength(d) for d in range(1, 1 + min(3, own.derivatives.reach))]
            for own in maps
            if own.derivatives.reach
        }
        for pool, maps in _chapter(found).maps.items()
    }
    return plots.correlation_against_offset(curves, title="Correlation of derivatives against distance")


def conv_variance(found: Findings) -> Any:
    """Variances over locations."""
    return plots.variance_maps(
        {
            own.name: {
                "activations in": own.inputs.mean_variance,
                "derivatives": own.derivatives.mean_variance,
            }
            for own in _own_maps(found)
        }
    )


def conv_between(found: Findings) -> Any:
    """Correlations between maps."""
    return plots.between_maps(
        {
            own.name: {"pre-activations": own.outputs.between, "derivatives": own.derivatives.between}
            for own in _own_maps(found)
        }
    )


def conv_exact(found: Findings) -> Any:
    """Walks away from exact cases."""
    return plots.exactness(
        [
            {"values": walk.values, "errors": walk.errors, "knob": walk.knob, "title": walk.net}
            for walk in _chapter(found).walks
        ]
    )


def conv_batchnorm(found: Findings) -> Any:
    """The joint Fisher matrix of a batch, and that with constant statistics."""
    batch = _chapter(found).coupling
    assert batch is not None
    names = ["conv", "norm", "dense"]
    near = {"statistics held constant": batch.constant}
    return plots.matrices(batch.joint, near, names, batch.sizes, reference=f"joint, {batch.shown} examples")


def conv_batchnorm_size(found: Findings) -> Any:
    """The error of constant statistics against the size of the batch."""
    batch = _chapter(found).coupling
    assert batch is not None
    below, *above = batch.layer_errors
    errors = {
        "all parameters": batch.errors,
        "block of the convolution below": below,
        "blocks of scale and shift, and above": np.max(above, axis=0),
    }
    return plots.error_against_batch(batch.batch_sizes, errors)


def valley(found: Findings) -> Any:
    """Gradient descent and a natural step on a quadratic; without the path of momentum, which is high."""
    assert found.descent is not None and found.descent.valley is not None
    run = found.descent.valley
    paths = {name: path for name, path in run.paths.items() if "momentum" not in name}
    return plots.conditioning(run.hessian, run.minimum, paths, run.losses, run.condition_numbers, run.steps)


def improvement(found: Findings) -> Any:
    """What one step improves, by strength of the damping [MG15, fig. 7]."""
    assert found.descent is not None and found.descent.improvement is not None
    at = found.descent.improvement
    title = f"What one step improves, after {at.steps} steps of K-FAC on a small autoencoder"
    return plots.improvement_against_damping(
        at.study.gammas, at.study.improvements, chosen=at.gamma, title=title
    )


def _chapter(found: Findings) -> Convolutions:
    assert found.convolutions is not None
    return found.convolutions


def _own_maps(found: Findings) -> list[LayerMaps]:
    """Maps of the net that was studied, not of the one with the other pooling."""
    return next(iter(_chapter(found).maps.values()))


def _of_convolutions(found: Findings) -> list[Candidate]:
    chapter = found.convolutions
    if chapter is None:
        return []
    maps = bool(chapter.maps)
    finite = maps and any(np.isfinite(own.outputs.between_strength) for own in _own_maps(found))
    return [
        ("conv-gradient", conv_gradient, chapter.shifts is not None),
        ("conv-layers", conv_layers, bool(chapter.ledgers)),
        ("conv-ledger", conv_ledger, found.convnet is not None),
        ("conv-block", conv_block, chapter.block is not None),
        ("conv-ladder", conv_ladder, chapter.block is not None),
        ("conv-autocorrelation", conv_autocorrelation, maps),
        ("conv-offsets", conv_offsets, maps and any(own.derivatives.reach for own in _own_maps(found))),
        ("conv-variance", conv_variance, maps),
        ("conv-between", conv_between, finite),
        ("conv-exact", conv_exact, bool(chapter.walks)),
        ("conv-batchnorm", conv_batchnorm, chapter.coupling is not None),
        ("conv-batchnorm-size", conv_batchnorm_size, chapter.coupling is not None),
    ]


def _of_descent(found: Findings) -> list[Candidate]:
    descent = found.descent
    if descent is None:
        return []
    return [
        ("valley", valley, descent.valley is not None),
        ("improvement-by-damping", improvement, descent.improvement is not None),
    ]


def _of_studies(
    pictures: Mapping[str, Callable[[], Any]],
) -> list[Candidate]:
    """Pictures of what needs none of the other findings."""
    return [(name, partial(_alone, draw), True) for name, draw in pictures.items()]


def _alone(draw: Callable[[], Any], found: Findings) -> Any:
    return draw()


def available(found: Findings) -> dict[str, Callable[[Findings], Any]]:
    """Which figures can be drawn from these findings, by file name, in the order of the report."""
    one, walk, middle = found.passage, found.divergence, found.middle
    classes = isinstance(found.net.output, outputs.Categorical)
    scattered = found.scatter is not None and np.linalg.eigvalsh(found.scatter.F)[0] > 0
    fitted = walk is not None and np.isfinite(walk.slope)
    candidates: list[Candidate] = [
        *_of_studies({} if found.opening is None else opening.pictures(found.opening)),
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
        *_of_descent(found),
        *_of_convolutions(found),
        *_of_studies({} if found.invariance is None else invariance.pictures(found.invariance)),
        ("memory", memory, bool(found.memory)),
    ]
    return {name: draw for name, draw, possible in candidates if possible}


def draw_all(found: Findings, folder: Path, image_format: str = "png") -> Iterator[tuple[str, Path]]:
    """Draw every figure of these findings into a folder, as :func:`save_all` does."""
    pictures = {name: partial(draw, found) for name, draw in available(found).items()}
    yield from save_all(pictures, folder, image_format)


def save_all(
    pictures: Mapping[str, Callable[[], Any]], folder: Path, image_format: str = "png"
) -> Iterator[tuple[str, Path]]:
    """Draw figures into a folder; yields name and file as each is done.

    Args:
        pictures: what draws each, by file name.
        folder: one that is there.
        image_format: one of :data:`FORMATS`.

    Raises:
        ValueError: on another format.
    """
    if image_format not in FORMATS:
        raise ValueError(f"expected a format among {', '.join(FORMATS)}, got {image_format!r}")
    backend = plt.get_backend()
    plt.switch_backend("agg")  # no window, also where there is no display
    try:
        for name, draw in pictures.items():
            path = folder / f"{name}.{image_format}"
            made = draw()
            fig = getattr(made[0] if isinstance(made, list) else made, "figure", made)
            fig.savefig(path)
            plt.close(fig)
            yield name, path
    finally:
        plt.switch_backend(backend)
