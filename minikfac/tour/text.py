"""The report's sentences, made from the numbers of a run.

Nothing here states a result that was not looked up: where a claim holds in one net and fails in another,
the sentence says which it was. Each function makes one section; paragraphs are HTML.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np

from .. import quality
from ..network import outputs
from ..plots.memory import human_bytes
from ..quality import format_cell
from . import (
    text_convolutions as convolutions,
)
from . import (
    text_descent as descent,
)
from . import (
    text_invariance as invariance,
)
from . import (
    text_opening as opening,
)
from .run import Findings
from .run import net_name as plain_net_name
from .words import Figure, Section, Table, count, examples, listing, number, percent

Row = Mapping[str, Any]


def sections(found: Findings) -> list[Section]:
    """All sections for which the findings hold the numbers, in the order of the report."""
    writers: list[Callable[[Findings], Section | None]] = [
        net_and_data,
        forward_and_back,
        mean_gradient,
        sampled_gradients,
        divergence,
        matrices,
        ledger,
        quality_table,
        models,
        spectra,
        damping,
        sampling,
        along_training,
        descent.section,
        memory,
        how_made,
    ]
    written = {write: section for write in writers if (section := write(found)) is not None}
    chapter = convolutions.sections(found)
    # a chapter of the tour before the end; of a convolutional net right after the net itself
    place = list(written).index(memory if found.convnet is not None and memory in written else how_made)
    if found.settings.channels is not None:
        place = 1
    own = list(written.values())
    return [
        *opening.chapter(found), *own[:place], *chapter, *invariance.chapter(found), *own[place:],
    ]  # fmt: skip


def net_name(found: Findings) -> str:
    """64-20-10, in hyphens at which no line is broken."""
    return plain_net_name(found.settings).replace("-", "‑")


def _has(found: Findings, name: str) -> bool:
    return name in found.study.matrices


# what the run is called -------------------------------------------------------------------------------


def title(found: Findings) -> str:
    """The heading of the page."""
    return f"How good is K-FAC? The Fisher matrix of a net for {found.dataset.name}, {net_name(found)}"


def summary(found: Findings) -> tuple[list[str], list[tuple[str, str]], Figure | None]:
    """The main idea: paragraphs, three numbers with what they are, and one figure."""
    study, n_params = found.study, found.study.F.shape[0]
    best = "K-FAC" if _has(found, "K-FAC") else next(iter(study.matrices))
    row, plain = study.comparison[best], None
    if _has(found, "no curvature"):
        plain = study.comparison["no curvature"]
    paragraphs = [
        "Move the weights of a net a little, and its predictions move. The <b>Fisher matrix</b> <i>F</i> "
        "says by how much, for every direction in which the weights can move; the natural gradient divides "
        "the gradient by it, and so takes long steps where predictions hardly change and short ones where "
        f"they change fast. But <i>F</i> has a row and a column for every weight: here {count(n_params)} × "
        f"{count(n_params)}.",
        "<b>K-FAC</b> replaces each layer's part of <i>F</i> by a product of two small matrices: <i>A</i>, "
        "how the numbers that go into the layer vary together, and <i>G</i>, how the derivatives that come "
        "back to it do. This page builds both for one net, and measures what is lost.",
    ]
    length = "" if plain is None else f", where the plain gradient makes {percent(plain['share'])}"
    numbers = [
        (
            f"{count(study.F.floats)} → {count(row['floats'])}",
            f"numbers to store: the exact Fisher matrix, and {best}",
        ),
        (percent(row["error"]), f"of the matrix, by its Frobenius norm, is what {best} gets wrong"),
        (
            percent(row["share"]),
            f"of the exact natural gradient step's progress is what a step with {best} makes{length}",
        ),
    ]
    figure = None
    if found.middle is not None:
        error = found.middle.errors["kronecker"]
        figure = Figure(
            "matrices-kronecker",
            "The idea in one picture. Left: sizes of the entries of the exact Fisher matrix of "
            f"{_layers_and_weights(found)}. Middle: made from products of small matrices. Right: what "
            "differs, on the "
            f"same scale; it is {percent(error)} of the exact matrix (Frobenius norm). "
            + (
                "The coarse structure survives, the fine one does not."
                if 0.2 < error < 1
                else "Little is lost."
                if error <= 0.2
                else "Here the approximation is a bad one."
            ),
        )
    elif found.study.ledger:
        figure = Figure("ledger", "What each assumption on the way from the exact matrix costs.")
    return paragraphs, numbers, figure


def _layers(found: Findings) -> str:
    """Which layers the matrices in pictures belong to."""
    assert found.middle is not None
    names = found.middle.names
    if len(names) == len(found.net.names):
        return "all layers"
    if len(found.net.names) - len(names) == 2 and names[0] == found.net.names[1]:
        return f"the {len(names)} middle layers"
    return names[0] if len(names) == 1 else f"the layers {listing(names)}"


def _layers_and_weights(found: Findings) -> str:
    assert found.middle is not None
    return f"{_layers(found)} ({count(sum(found.middle.sizes))} weights)"


# sections ---------------------------------------------------------------------------------------------


def net_and_data(found: Findings) -> Section:
    """What was studied."""
    settings, data, last = found.settings, found.dataset, found.history.records[-1]
    classes = f"{data.n_classes} classes" if data.n_classes else f"{data.y_train.shape[1]} numbers to predict"
    layers = ", ".join(
        f"{name} ({i - 1} → {o})" for name, (i, o) in zip(found.net.names, found.net.shapes, strict=True)
    )
    weights = "each has a weight for every pair of an input and an output, and a bias for every output."
    size = " × ".join(map(str, data.x_train.shape[1:]))
    if settings.channels is not None:
        layers, weights = convolutions.layers(found), "what a convolution does is said below."
    text = [
        f"The data: <b>{escape(data.name)}</b>, {count(len(data.x_train))} training and "
        f"{count(len(data.x_test))} test examples of {size} numbers each, {classes}. The "
        f"net: {net_name(found)}, {settings.activation} units, {settings.output} output, "
        f"<b>{count(found.net.n_params)} parameters</b>. Its layers are {layers}; {weights}",
    ]
    if settings.steps:
        error = last.get("test_error")
        text.append(
            f"It was trained by {settings.steps} steps of stochastic gradient descent with momentum on "
            f"batches of {min(settings.batch_size, len(data.x_train))}. It ended at a training loss of "
            f"{number(last['loss'])} and a test loss of {number(last['test_loss'])} nats per example"
            + (f", with {percent(error)} of the test examples wrong." if error is not None else ".")
        )
    else:
        text.append("It was not trained: this is the net as it was initialized.")
    text.append(
        f"Everything below is a mean over the first {count(len(found.x))} training examples, with damping λ "
        f"= {number(settings.damping)} where a matrix is inverted."
        + (
            ""
            if found.settings.layers is None
            else f" The study is restricted to {', '.join(found.study.signals.names)}."
        )
    )
    parts: list[str | Figure | Table] = list(text)
    if settings.steps:
        parts.append(Figure("training", "Loss and error while the net was trained."))
    return Section("net", "The net and its data", parts)


def forward_and_back(found: Findings) -> Section | None:
    """One example forward and back: what abar and g are."""
    one = found.passage
    if one is None:
        return None
    parts: list[str | Figure | Table] = [
        "Backpropagation leaves two things behind in every layer. <i>ā</i> is what went into the layer's "
        "weights (the activations of the layer below, and a constant 1 for the bias). <i>g</i> is what "
        "came back: the derivative of the loss by what came out of the weights. For one example, the "
        "gradient of the weights is their outer product <i>ā g</i><sup>T</sup>: entry (<i>i</i>, <i>o</i>) "
        "is <i>ā<sub>i</sub> g<sub>o</sub></i>. Every matrix on this page is made of these two.",
    ]
    if isinstance(found.net.output, outputs.Categorical):
        likely, drawn = int(one.mean.argmax()), int(one.target)
        wrong = "" if drawn != likely else " (the likeliest class itself)"
        parts.append(
            f"Take a test example with label {int(one.label)}. It goes through the net, which gives class "
            f"{likely} a probability of {percent(float(one.mean[likely]))}. For the Fisher matrix the target "
            "is not the label: it is <b>drawn from these probabilities</b>. Here "
            f"{drawn} was drawn{wrong}, which has a probability of {percent(float(one.mean[drawn]))}, and "
            "the derivatives for this target go back through the net."
        )
        if len(one.activations) > 1:
            parts.append(
                Figure(
                    "forward-backward",
                    "First row: one example forward, to probabilities. Second row: derivatives back, for the "
                    "drawn target. Third row: the gradient of each layer's weights, an outer product.",
                )
            )
    return Section("signals", "Forward and back: where the numbers come from", parts)


def mean_gradient(found: Findings) -> Section | None:
    """Mean gradients under the model and under labels."""
    start, end = found.means_start, found.means
    if start is None or end is None:
        return None
    zero = start.model_norm < 1e-6 * max(start.label_norm, 1e-30)
    parts: list[str | Figure | Table] = [
        "If targets are drawn from the model's own predictions, gradients have mean zero: the model is "
        "always right about itself on average. So their covariance, which is <i>F</i>, is the mean of "
        "their products. Before training, with the expectation over targets taken exactly, the mean "
        f"gradient over {examples(len(found.x))} has length {number(start.model_norm)}"
        + (" (zero up to rounding)" if zero else "")
        + f"; with one drawn target per example, {number(start.sampled_norm)}; with the labels, "
        f"<b>{number(start.label_norm)}</b>. "
        + (
            "The labels pull the net away from where it is; that is what training uses."
            if start.label_norm > 2 * start.sampled_norm
            else "Here the labels' mean is hardly longer than chance: there is little for them to pull."
        )
        + (
            f" After training the labels' mean gradient has length {number(end.label_norm)}."
            if found.settings.steps
            else ""
        ),
    ]
    if len(start.model) <= 40:
        inside = int((np.abs(start.model) <= 2 * start.standard_error).sum())
        parts.append(
            Figure(
                "mean-derivatives",
                "Mean derivative by each output, before training. Under the model's own drawn targets, "
                f"{inside} of {len(start.model)} means lie within two standard errors of zero.",
            )
        )
    return Section("mean", "The mean of the gradient", parts)


def sampled_gradients(found: Findings) -> Section | None:
    """The cloud of two weights' gradients and its ellipse."""
    cloud = found.scatter
    if cloud is None or np.linalg.eigvalsh(cloud.F)[0] <= 0:
        return None
    values = np.linalg.eigvalsh(cloud.F)
    ratio = math.sqrt(values[1] / values[0])
    apart = float(np.linalg.norm(cloud.covariance - cloud.F) / np.linalg.norm(cloud.F))
    parts: list[str | Figure | Table] = [
        f"Each dot is the gradient of one example for one drawn target, by two parameters of {cloud.layer}: "
        f"{cloud.names[0]} and {cloud.names[1]}. The 2 × 2 part of <i>F</i> that belongs to them is the "
        f"covariance of this cloud; by it, their correlation is {number(cloud.correlation)}. (As targets are "
        f"drawn, the covariance of the {count(len(cloud.samples))} dots differs from the exact one by "
        f"{percent(apart)}.) Where gradients are long, predictions change fast and the natural gradient "
        "takes "
        "short steps, and the other way round: the ellipse on the right, of steps that change the "
        f"predictions equally, is that of <i>F</i><sup>−1</sup>. Both are {number(ratio)} times as long as "
        "they are wide, with long and short axes exchanged.",
        Figure(
            "gradient-scatter",
            "Left: sampled gradients of two parameters and the ellipse of F. Right: steps of equal "
            "divergence.",
        ),
    ]
    return Section("scatter", "F is the covariance of sampled gradients", parts)


def divergence(found: Findings) -> Section | None:
    """KL divergence against its quadratic form."""
    walk = found.divergence
    if walk is None or not math.isfinite(walk.slope):
        return None
    near = min(range(len(walk.lengths)), key=lambda k: abs(math.log(walk.lengths[k] / 0.1)))
    relative = walk.differences[near] / max(walk.kl[near], 1e-300)
    as_said = abs(walk.slope - 3) < 0.15
    parts: list[str | Figure | Table] = [
        "How far apart are two nets? By the mean Kullback-Leibler divergence of their predictions, in "
        "nats. For a small step <i>d</i> in the weights it is ½ <i>d</i><sup>T</sup><i>F d</i>, with an "
        "error of third order: halve the step, and the error falls to an eighth. Along a random direction "
        f"the error had slope <b>{walk.slope:.2f}</b> on log axes"
        + (
            ", as it should. "
            if as_said
            else ", not the expected 3: along this direction other orders matter. "
        )
        + f"For a step of length {number(float(walk.lengths[near]))} the divergence was "
        f"{number(float(walk.kl[near]))} nats and the quadratic form was off by "
        f"{percent(float(relative))}.",
        Figure(
            "kl-divergence",
            "Error of the quadratic form against the length of the step. In the grey band there is only "
            "rounding error.",
        ),
    ]
    return Section("kl", "F measures how predictions change", parts)


def matrices(found: Findings) -> Section | None:
    """F, its Kronecker products, block-diagonal and chain, and the inverses."""
    middle = found.middle
    if middle is None:
        return None
    errors = middle.errors
    parts: list[str | Figure | Table] = [
        f"Entries of <i>F</i> for {_layers_and_weights(found)}, by size: white is 0. Blue lines part the "
        "layers. The "
        "entry of weights (<i>i</i>, <i>o</i>) and (<i>j</i>, <i>p</i>) is the mean of <i>ā<sub>i</sub> "
        "ā<sub>j</sub> g<sub>o</sub> g<sub>p</sub></i>. K-FAC's first assumption is that activations are "
        "independent of derivatives. Then the mean of the product is the product of the means of "
        "<i>ā<sub>i</sub> ā<sub>j</sub></i> and <i>g<sub>o</sub> g<sub>p</sub></i>: two small matrices "
        "<i>A</i> and <i>G</i> say it all, and a block of <i>F</i> becomes their Kronecker product "
        "<i>A</i> ⊗ <i>G</i>. Done for all pairs of layers, this is <i>F̃</i>. Here it is wrong by "
        f"<b>{percent(errors['kronecker'])}</b> (Frobenius norm of the difference, relative to that of "
        f"<i>F</i>), and by {percent(errors['diagonal blocks'])} on the diagonal blocks alone.",
        Figure(
            "matrices-kronecker",
            "Exact Fisher matrix, Kronecker products for every pair of layers, and their difference [MG15, "
            "fig. 2].",
        ),
    ]
    if len(middle.sizes) < 2:
        return Section("matrices", "The matrices", parts)
    many = len(middle.sizes) > 2
    which = "outside the tridiagonal" if many else "outside the diagonal"
    pairs = (
        "pairs of layers that are not neighbours hold" if many else "what lies between the two layers holds"
    )
    outside, inverse_outside = errors[which], errors[f"inverse {which}"]
    parts += [
        "<i>F̃</i> has entries between layers too. Its inverse, which is what an optimizer needs, is "
        + ("simpler" if inverse_outside < outside else "no simpler here")
        + f": {pairs} {percent(outside)} of the sum of sizes in <i>F̃</i> and {percent(inverse_outside)} of "
        "it "
        "in the inverse. "
        + (
            "So the second assumption is made about the inverse: leave out what lies between layers "
            "(K-FAC, block-diagonal), or keep neighbours only (block-tridiagonal)."
            if inverse_outside < outside
            else "The second assumption of K-FAC, to leave out what lies between layers, is a bold one here."
        )
        + " (In this and the next two pictures the diagonal blocks are damped, as they must be to have an "
        "inverse.)",
        Figure(
            "block-means", "Mean size of the entries, block by block, of F̃ and of its inverse [MG15, fig. 3]."
        ),
    ]
    if middle.tridiagonal is not None:
        kfac, chain = errors["kfac to kronecker"], errors["tridiagonal to kronecker"]
        inv_kfac, inv_chain = (
            errors["inverse kfac to kronecker"],
            errors["inverse tridiagonal to kronecker"],
        )
        own_kfac, own_chain = (
            errors["inverse kfac to kronecker, diagonal blocks"],
            errors["inverse tridiagonal to kronecker, diagonal blocks"],
        )
        parts += [
            f"As matrices: against <i>F̃</i>, block-diagonal is wrong by {percent(kfac)} and "
            f"block-tridiagonal by {percent(chain)}. "
            + (
                "The latter is close even off its three diagonals, where nothing was stored: layers that "
                "are not neighbours are tied through those between them."
                if many and chain < 0.5 * kfac
                else "With two layers there are only neighbours, and nothing is left out."
                if not many
                else "Here the chain helps little."
            ),
            Figure(
                "matrices-chain", "F̃, block-diagonal and block-tridiagonal, and what differs [MG15, fig. 5]."
            ),
            f"As inverses the same two are wrong by {percent(inv_kfac)} and {percent(inv_chain)}"
            + (
                f", and on the diagonal blocks alone by {percent(own_kfac)} and {percent(own_chain)}: "
                "knowing the neighbours helps even there."
                if own_chain < own_kfac
                else f"; on the diagonal blocks alone by {percent(own_kfac)} and {percent(own_chain)}."
            )
            + (
                " All of them are dominated by the damping, so the errors are small."
                if max(inv_kfac, inv_chain) < 0.1
                else ""
            ),
            Figure("matrices-inverse", "The same for the inverses [MG15, fig. 6]."),
        ]
    return Section("matrices", "The matrices", parts)


def ledger(found: Findings) -> Section:
    """What each assumption costs."""
    rows = found.study.ledger
    by_label = {row["label"]: row for row in rows}
    # alternatives are no steps on the way
    steps = [row for row in rows[1:] if not row["label"].startswith(("KFAC-reduce", "T x KFC"))]
    worst = max(steps, key=lambda row: row["cost"])
    drops = [(by_label[row["above"]]["share"] - row["share"], row["label"]) for row in steps]
    drop, where = max(pair for pair in drops if math.isfinite(pair[0]))
    columns = {
        "label": "assumed",
        "error": "error so far",
        "cost": "this step's",
        "c_star": "c*",
        "step_cosine": "cosine",
        "step_length": "length",
        "share": "share",
    }
    cells = [[str(row["label"]), *(format_cell(row[key]) for key in list(columns)[1:])] for row in rows]
    return Section(
        "ledger",
        "The ledger of assumptions",
        [
            "From the exact matrix to K-FAC as it is used, one assumption after the other, and what each "
            f"costs. As a matrix, the costliest is “{worst['label']}” ({percent(worst['cost'])}). As a step, "
            "it "
            f"is “{where}”: the share of the exact step's progress falls by {100 * drop:.0f} percentage "
            f"points there, and is {percent(rows[-1]['share'])} in the end." + convolutions.branches(rows),
            Figure(
                "ledger",
                "Error of the matrix after each assumption and by it alone; the step that follows from it.",
            ),
            Table(
                list(columns.values()),
                cells,
                "The same as numbers. c* is the scalar that would mend the matrix best.",
            ),
        ],
    )


COLUMN_MEANINGS = {
    "error": "how far the matrix is from the exact one: Frobenius norm of the difference, relative",
    "spectral_error": "the same in the spectral norm: the direction that is worst",
    "c_star": "the number by which to multiply the matrix to come closest; 1 says that the scale is right",
    "inverse_error": "how far the damped inverse is from the exact one",
    "step_cosine": "cosine of the angle between its step and the exact natural gradient step; 1 is best",
    "step_length": "length of its step, relative to the exact one",
    "share": "progress of its step, with the best step size, on the quadratic model: 1 is the exact step's",
    "kl": "Kullback-Leibler divergence, in nats, of the Gaussians that the two matrices are covariances of",
    "eigenvalue_min": "smallest eigenvalue of the exact matrix after division by this one; 1 is best",
    "eigenvalue_max": "largest one",
    "condition": "their ratio, which decides how hard a linear system is that remains",
    "cg_iterations": "iterations of conjugate gradients that remain with it as preconditioner",
    "floats": "numbers to store",
    "build_seconds": "time to build it",
    "solve_seconds": "time to factorize it and solve once",
}


def quality_table(found: Findings) -> Section:
    """The quality table, with what its columns mean."""
    comparison = found.study.comparison
    rows = [row for row in comparison.whole() if row["approximation"] != "no curvature"]
    by_share = max(rows, key=lambda row: row["share"])
    by_error = min(rows, key=lambda row: row["error"])
    text = (
        "Each approximation against the exact Fisher matrix of "
        f"{'all' if found.settings.layers is None else 'the chosen'} {count(found.study.F.shape[0])} "
        f"parameters. Closest as a matrix is {by_error['approximation']} ({percent(by_error['error'])} "
        f"wrong, {count(by_error['floats'])} numbers); the most useful step is that of "
        f"{by_share['approximation']}, with {percent(by_share['share'])} of the exact step's progress and "
        f"{count(by_share['floats'])} numbers."
    )
    limit = 10 * found.study.F.shape[0]
    small = [row for row in rows if row["floats"] <= limit]
    if small and by_share["floats"] > limit:
        best = max(small, key=lambda row: row["share"])
        text += (
            f" Among those that store no more than ten numbers per parameter it is {best['approximation']}, "
            f"with {percent(best['share'])} of the progress and {count(best['floats'])} numbers."
        )
    notes = []
    if _has(found, "no curvature"):
        plain = comparison["no curvature"]
        worse = [row["approximation"] for row in rows if row["share"] <= plain["share"]]
        text += (
            f" “No curvature” is the plain gradient, for comparison: {percent(plain['share'])} of the "
            "progress"
            + (
                f"; {listing(worse)} make{'s' if len(worse) == 1 else ''} no more than that."
                if worse
                else ", less than any of them."
            )
        )
        if plain.get("cg_iterations") is not None:
            slower = [row["approximation"] for row in rows if row["cg_iterations"] > plain["cg_iterations"]]
            if slower:
                notes.append(
                    f"As a preconditioner, {listing(slower)} take{'s' if len(slower) == 1 else ''} more "
                    f"iterations than none at all ({format_cell(plain['cg_iterations'])})."
                    + _few_large_eigenvalues(found)
                )
    if found.study.left_out:
        left_out = listing([column for name in found.study.left_out for column in quality.MEASURES[name]])
        notes.append(f"Left out, as it takes long for so many parameters: {left_out.replace('_', ' ')}.")
    settings = found.settings
    if settings.approximations is None:
        for name, why in (
            ("block-tridiagonal", "it exists for chains of dense layers only"),
            ("low rank", "it takes long for shared weights"),
        ):
            if not _has(found, name):
                notes.append(f"Left out is {name}: {why}.")
    if settings.targets != "model":
        source = (
            f"{settings.n_samples} drawn target{'s' * (settings.n_samples > 1)} per example"
            if settings.targets == "sampled"
            else "the labels (empirical Fisher)"
        )
        notes.append(f"The approximations are built from {source}; the exact matrix is not.")
    parts: list[str | Figure | Table] = [text, *notes, Figure("quality", _bars_caption(found))]
    cut = list(quality.COLUMNS).index("kl")
    for part, caption in (
        (list(quality.COLUMNS)[:cut], "As a matrix, and as a step on the gradient. "),
        (list(quality.COLUMNS)[cut:], "As a model of the gradient, as a preconditioner, and what it takes. "),
    ):
        parts.append(Table(*comparison.table(columns=part), (caption + _spread_note(found)).strip()))
    shown = [key for key in quality.COLUMNS if any(row.get(key) is not None for row in rows)]
    parts.append(
        Table(
            ["column", "meaning"],
            [[key.replace("_", " "), COLUMN_MEANINGS.get(key, quality.COLUMNS[key])] for key in shown],
            "What the columns mean.",
        )
    )
    names = found.study.F.names
    if len(names) > 1:
        by_layer = {name: {r["approximation"]: r["error"] for r in comparison.layer(name)} for name in names}
        parts.append(
            Table(
                ["approximation", *names],
                [
                    [
                        row["approximation"],
                        *(format_cell(by_layer[name][row["approximation"]]) for name in names),
                    ]
                    for row in comparison.whole()
                ],
                "Relative error of each layer's own block. Further columns by layer are in quality.csv.",
            )
        )
    return Section("quality", "How good each approximation is", parts)


def _few_large_eigenvalues(found: Findings) -> str:
    """Why conjugate gradients may do well by themselves, if that is so."""
    middle = found.middle
    if middle is None:
        return ""
    values = middle.eigenvalues["exact"]
    above = int((values > middle.damping).sum())
    if above > len(values) / 5:
        return ""
    return (
        f" At this damping that is no wonder: only {count(above)} of the {count(len(values))} eigenvalues of "
        "the "
        "layers in the pictures lie above it, and conjugate gradients deal with few large eigenvalues by "
        "themselves."
    )


def _bars_caption(found: Findings) -> str:
    seeds = found.settings.seeds
    bars = f" Bars are means over {seeds} seeds, whiskers standard deviations." if seeds > 1 else ""
    return "Four columns of the table." + bars


def _spread_note(found: Findings) -> str:
    if found.study.comparison.spread is None:
        return ""
    what = (
        "drawn targets" if found.settings.targets == "sampled" else "initializations and orders of training"
    )
    return f"Means over {found.settings.seeds} seeds of {what}."


def models(found: Findings) -> Section | None:
    """Graphical models of the gradient."""
    if found.middle is None:
        return None
    return Section(
        "models",
        "What is assumed about the gradient",
        [
            "The Fisher matrix is the covariance of a random vector: the gradient for a drawn target. To "
            "approximate <i>F</i> is to fit a simpler probability distribution to it. The upper graph shows "
            "how the gradient is computed; the three below it, which layers' gradients are taken to be tied "
            "directly. Where there is no edge, the inverse covariance has a block of zeros.",
            Figure(
                "graphical-models",
                "The computation of a gradient, for three layers, and three models of the outcome: the "
                "exact Fisher matrix, K-FAC, and the chain of the block-tridiagonal version [MG15, fig. 4].",
            ),
        ],
    )


def spectra(found: Findings) -> Section | None:
    """Eigenvalues, as they are and as preconditioned."""
    middle = found.middle
    if middle is None:
        return None
    values = np.sort(middle.eigenvalues["exact"])[::-1].clip(0)
    above = int((values > middle.damping).sum())
    total = float(values.sum()) or 1.0
    few = max(1, len(values) // 100)
    conditions = {name: float(v.max() / v.min()) for name, v in middle.preconditioned.items()}
    plain = conditions.pop("none")
    better = [name for name, condition in conditions.items() if condition < plain]
    worse = [name for name in conditions if name not in better]
    verdict = listing(
        [f"{how} with {listing(names)}" for how, names in (("smaller", better), ("larger", worse)) if names]
    )
    return Section(
        "spectra",
        "Eigenvalues",
        [
            f"A few directions in weight space decide nearly everything: of the {count(len(values))} "
            f"eigenvalues of the exact matrix of {_layers(found)}, the largest {count(few)} hold "
            f"{percent(float(values[:few].sum()) / total)} of the sum, and {count(above)} lie above the "
            f"damping λ = {number(middle.damping)}. In all other directions the damping decides how long a "
            "step is."
            if above < len(values) / 2
            else f"Of the {count(len(values))} eigenvalues of the exact matrix of {_layers(found)}, "
            f"{count(above)} lie above the damping λ = {number(middle.damping)}.",
            Figure("spectra", "Eigenvalues of the exact matrix and of approximations, largest first."),
            "Divide the exact damped matrix by an approximation, and all eigenvalues should be 1. Their "
            "ratio of largest to smallest, the condition number, is "
            + ", ".join(f"{number(condition)} with {name}" for name, condition in conditions.items())
            + f", and {number(plain)} with none: it is {verdict} than with damping alone.",
            Figure(
                "preconditioned-spectra",
                "Eigenvalues after division by an approximation; a flat line at 1 is perfect.",
            ),
        ],
    )


def damping(found: Findings) -> Section | None:
    """Cosines of steps against damping."""
    if found.cosines is None:
        return None
    dampings, curves = found.cosines["dampings"], found.cosines["curves"]
    small = {name: values[0] for name, values in curves.items()}
    best = max(small, key=lambda name: small[name])
    top = dampings[-1]
    large = min(values[-1] for values in curves.values())
    where = "all parameters" if found.cosines["where"] == "all" else "the layers in the pictures"
    return Section(
        "damping",
        "Steps against damping",
        [
            f"Add more damping, and every step turns towards the plain gradient: for λ = {number(top)} all "
            f"directions agree with the exact one to a cosine of {number(large)} or more"
            + (", and the approximation hardly matters" if large > 0.95 else "")
            + f". For λ = {number(dampings[0])} the cosines are "
            + ", ".join(f"{number(cosine)} ({name})" for name, cosine in small.items())
            + f"; {best} is the closest. An approximation needs damping not only because data are few, but "
            f"to cover for its own errors. (For {where}.)",
            Figure(
                "step-cosines",
                "Cosine between approximate and exact natural gradient steps, for each damping.",
            ),
        ],
    )


def sampling(found: Findings) -> Section | None:
    """Exact, sampled and empirical Fisher matrices."""
    drawn = found.sampling
    if drawn is None:
        return None
    first, last = float(np.median(drawn.fisher[0])), float(np.median(drawn.fisher[-1]))
    kfac = float(np.median(drawn.kfac[0]))
    as_said = abs(drawn.slope + 0.5) < 0.1
    scale = drawn.empirical_scale
    return Section(
        "sampling",
        "Exact, sampled and empirical",
        [
            "The expectation over targets can be taken exactly, as above (one pass back per output), or by "
            f"drawing targets. With {drawn.counts[0]} per example the Fisher matrix is off by "
            f"{percent(first)}, with {drawn.counts[-1]} by {percent(last)}; the slope on log axes is "
            f"{f'{drawn.slope:.2f}'.replace('-', '−')}"
            + (
                ", close to −½: four times the targets, half the error. "
                if as_said
                else ", where −½ was expected. "
            )
            + f"K-FAC's small factors, averaged over everything, need fewer: {percent(kfac)} with "
            f"{drawn.counts[0]}. "
            * (kfac < first)
            + "Using the labels instead is often called the Fisher matrix too. It is not: this "
            f"<i>empirical</i> one is off by <b>{percent(drawn.empirical)}</b>, and no number of passes "
            "changes that. "
            + (
                f"Multiplied by {number(scale)} it would come closest: "
                + (
                    "gradients for labels are smaller than those for targets drawn from the model, as if the "
                    "net were right more often than it believes."
                    if scale > 1.1
                    else "gradients for labels are larger than those for targets drawn from the model, as if "
                    "the net were wrong more often than it believes."
                )
                if abs(scale - 1) > 0.1
                else f"Its best scalar is {number(scale)}, so the scale is right and the directions are not."
            )
            + f" ({listing(drawn.names)}; {examples(drawn.n)}.)",
            Figure("sampling", "Relative error against the number of drawn targets per example."),
        ],
    )


def along_training(found: Findings) -> Section | None:
    """K-FAC's error along training."""
    records = found.history.records
    keys = [key for key in records[0] if key.startswith("error/K-FAC/")]
    if not keys or len(records) < 2:
        return None
    names = [key.rsplit("/", 1)[1] for key in keys]
    first = [records[0][key] for key in keys]
    last = [records[-1][key] for key in keys]
    up = sum(b > a for a, b in zip(first, last, strict=True))
    verdict = (
        "it got worse in every layer"
        if up == len(keys)
        else "it got better in every layer"
        if up == 0
        else f"it got worse in {up} of {len(keys)} layers"
    )
    worst, best = int(np.argmax(last)), int(np.argmin(last))
    why, start, end = "", found.means_start, found.means
    if start is not None and end is not None:
        why = (
            " Meanwhile the derivatives of fewer examples came to count: the tenth of the examples with the "
            f"largest ones held {percent(start.concentration)} of all their squares at first, and "
            f"{percent(end.concentration)} at last."
        )
        if end.concentration > start.concentration and up == len(keys):
            why += (
                " These are the examples that the net is unsure of, and they have activations of their own: "
                "activations and derivatives are less independent than they were."
            )
        elif end.concentration <= start.concentration:
            why = why.replace("fewer examples came", "no fewer examples came")
    return Section(
        "along",
        "Along training",
        [
            f"Does K-FAC get better or worse as training goes on? In this run {verdict}. At the start its "
            f"blocks were wrong by {percent(min(first))} to {percent(max(first))}, at the end by "
            f"{percent(last[best])} ({names[best]}) to {percent(last[worst])} ({names[worst]}).{why}",
            Figure(
                "along-training",
                "Relative error of K-FAC's block, layer by layer, while the net was trained.",
            ),
        ],
    )


def memory(found: Findings) -> Section | None:
    """Memory of F and of the factors."""
    if not found.memory:
        return None
    own = found.memory[0]
    largest = max(found.memory, key=lambda row: row["parameters"])
    widest = max(found.memory, key=lambda row: row["largest_layer"])
    cells = [
        [
            row["name"],
            count(row["parameters"]),
            human_bytes(row["fisher_bytes"]),
            human_bytes(row["bytes_per_number"] * row["largest_layer"] ** 2),
            human_bytes(row["factor_bytes"]),
        ]
        for row in found.memory
    ]
    return Section(
        "memory",
        "Why not simply use F?",
        [
            f"For this net the exact matrix takes {human_bytes(own['fisher_bytes'])} and K-FAC's factors "
            f"take {human_bytes(own['factor_bytes'])} (numbers of {8 * own['bytes_per_number']} bits). But "
            f"its size grows with the square of the number of weights: for {_the(largest['name'])} "
            f"({count(largest['parameters'])} weights) it would "
            f"take <b>{human_bytes(largest['fisher_bytes'])}</b>, and the factors "
            f"<b>{human_bytes(largest['factor_bytes'])}</b>. Leaving out what is between layers is not "
            "enough: "
            f"the largest layer of {_the(widest['name'])} has {count(widest['largest_layer'])} weights, and "
            "its "
            f"block alone takes {human_bytes(widest['bytes_per_number'] * widest['largest_layer'] ** 2)}.",
            Figure("memory", "Memory of the full Fisher matrix and of K-FAC's factors."),
            Table(["net", "parameters", "full F", "largest block", "factors A and G"], cells),
        ],
    )


def _the(name: str) -> str:
    return name if name.startswith(("this", "the", "KFC's")) else f"the {name}"


def how_made(found: Findings) -> Section:
    """Settings, times and source."""
    settings = found.settings
    stages = ", ".join(
        f"{name} {seconds:.1f} s" for name, seconds in found.seconds.items() if seconds >= 0.05
    )
    return Section(
        "made",
        "How this page was made",
        [
            f"Seed {settings.seed}, {settings.dtype}, N = {count(settings.n_examples)}, λ = "
            f"{number(settings.damping)}. Times: {stages}. All numbers are in results.json, the quality "
            "table layer by layer in quality.csv, the pictures as files beside this page.",
            "Source of the method: J. Martens and R. Grosse, Optimizing neural networks with "
            "Kronecker-factored approximate curvature, ICML 2015 [MG15]."
            + (
                " For convolutions: R. Grosse and J. Martens, A Kronecker-factored approximate Fisher matrix "
                "for convolution layers, ICML 2016 [GM16]."
                if found.convolutions is not None or settings.channels is not None
                else ""
            ),
        ],
    )
