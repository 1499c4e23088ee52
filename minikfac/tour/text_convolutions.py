"""The report's chapter on convolutions: what is assumed of them, in words, formulas and numbers of a run.

As in :mod:`.text`, nothing states a result that was not looked up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ..fisher import LADDER
from ..quality import format_cell
from .chapters.convolutions import Convolutions
from .chapters.exactness import FULL, KFC, REDUCE, Walk
from .chapters.maps import LayerMaps, conv_layers
from .run import Findings, net_name
from .words import Figure, Section, Table, count, listing, number, percent

Row = Mapping[str, Any]

EXACT, SUD, IAD, IAD_SUD, IAD_SH, ALL = LADDER.values()
POOLING = {"max": "max-pooling", "avg": "averages"}


def sections(found: Findings) -> list[Section]:
    """All sections for which the findings hold the numbers; the first is the chapter's."""
    chapter, run = found.convolutions, convolutional(found)
    if chapter is None or run is None:
        return []
    writers: list[Callable[[Convolutions, Findings], Section | None]] = [
        gradient,
        assumptions,
        blocks,
        space,
        places,
        between,
        exact,
        batch_normalization,
    ]
    parts = [section for write in writers if (section := write(chapter, run)) is not None]
    return [opening(found, run), *parts]


def convolutional(found: Findings) -> Findings | None:
    """The findings whose net has the convolutions: these themselves, or those of the net beside."""
    return found if found.settings.channels is not None else found.convnet


def layers(found: Findings) -> str:
    """The layers of a convolutional net in words."""
    words = []
    convolutions = conv_layers(found.net)
    for layer, (name, (i, o)) in enumerate(zip(found.net.names, found.net.shapes, strict=True)):
        if layer in convolutions:
            conv = convolutions[layer]
            kh, kw = conv.windows.kernel
            words.append(f"{name} ({kh}×{kw}, {conv.c_in} → {o} maps)")
        else:
            words.append(f"{name} ({i - 1} → {o})")
    return listing(words)


def branches(rows: Sequence[Row]) -> str:
    """What is to be said of a ledger whose rows do not all follow the row over them."""
    found = {row["label"]: row for row in rows}
    reduce = next((row for label, row in found.items() if label.startswith("KFAC-reduce")), None)
    full = next((row for label, row in found.items() if label.startswith("T x KFC")), None)
    if reduce is None or full is None:
        return ""
    text = (
        " Not every row follows from the one over it: KFAC-reduce and T × KFC are alternatives to the last "
        f"steps of KFC. They are wrong by {wrong_by(reduce['error'])} and {wrong_by(full['error'])}, where "
        "KFC "
        f"is wrong by {wrong_by(found[ALL]['error'])}; their steps make {percent(reduce['share'])} and "
        f"{percent(full['share'])} of the exact step's progress, KFC's {percent(found[ALL]['share'])}."
    )
    if not math.isfinite(found[IAD_SH]["share"]):
        text += (
            " With IAD + SH alone the matrix has negative eigenvalues beyond the damping, and so gives no "
            "step "
            "(a dash)."
        )
    return text


# sections ---------------------------------------------------------------------------------------------


def opening(found: Findings, run: Findings) -> Section:
    """The chapter's head: what a convolution is, and which net is looked at."""
    net, settings = run.net, run.settings
    shape = run.dataset.x_train.shape[1:]
    before = "A dense layer uses" if found is run else "So far every weight was used"
    before += " every weight once per example. " if found is run else " once per example. "
    parts: list[str | Figure | Table] = [
        before + "A <b>convolution</b> uses each weight at every place "
        "of an image. At location <i>t</i> it cuts out the patch around it, <i>ā<sub>t</sub></i> (with a "
        "constant 1 for the bias), and multiplies it by the same weights everywhere: <i>s<sub>t</sub></i> = "
        "<i>ā<sub>t</sub> W</i>. There are <i>T</i> locations, and the gradient of an example is a sum over "
        "them, Σ<sub><i>t</i></sub> <i>ā<sub>t</sub> g<sub>t</sub></i><sup>T</sup>.",
    ]
    if found is not run:
        last = run.history.records[-1]
        error = last.get("test_error")
        parts.append(
            f"The same {escape(run.dataset.name)}, as images of {shape[0]} × {shape[1]} pixels, and a small "
            "net: "
            f"{net_name(settings)}, {settings.activation} units, <b>{count(net.n_params)} parameters</b>; "
            "its "
            f"layers are {layers(run)}. After {settings.steps} steps its training loss was "
            f"{number(last['loss'])} nats per example"
            + (f", and {percent(error)} of the test examples were wrong." if error is not None else ".")
        )
    convolutions = conv_layers(net)
    cells = []
    for layer, conv in convolutions.items():
        i, o = net.shapes[layer]
        t = _locations(run, layer)
        cells.append([net.names[layer], count(i), count(o), count(t), count(i * o), count(i * i + o * o)])
        assert conv.c_out == o
    parts.append(
        Table(
            ["layer", "patch, bias counted", "maps out", "locations T", "weights", "numbers in A and G"],
            cells,
            "The convolutions. Pooling has no weights: derivatives flow through it.",
        )
    )
    return Section("conv", "Convolutions", parts)


def _locations(run: Findings, layer: int) -> int:
    """T of a layer of the net."""
    tape = run.net.forward(run.theta, run.x[:1])
    return int(tape.abar[layer].shape[1])


def gradient(chapter: Convolutions, run: Findings) -> Section | None:
    """One gradient: two maps, shifted."""
    one = chapter.shifts
    if one is None:
        return None
    kh, kw = one.gradient.shape
    whose = "the image itself" if one.layer == run.net.names[0] else f"map {one.input_map} of its input"
    return Section(
        "convgradient",
        "One gradient: two maps, shifted against each other",
        [
            "Take one map that goes into a convolution, and the derivatives for one map that comes out. Lay "
            "one "
            "over the other, shifted by <i>δ</i>, and add up the products where they overlap: Σ<sub><i>t</i>"
            "</sub> <i>a<sub>j</sub></i>(<i>t</i> + <i>δ</i>) <i>g<sub>i</sub></i>(<i>t</i>) is the "
            "gradient of "
            "the weight from map <i>j</i> to map <i>i</i> at the kernel's place <i>δ</i>. Of all "
            f"{count(one.products.size)} shifts at which the two overlap, the kernel has {kh * kw}. For "
            "other "
            "examples and other drawn targets these numbers come out differently; their covariance is what "
            "the "
            "Fisher matrix holds.",
            Figure(
                "conv-gradient",
                f"{one.layer}, one example: what goes in ({whose}), derivatives for a drawn target, their "
                "dot "
                "products for all shifts, and the kernel's share of these (framed): the gradient that "
                "backpropagation finds.",
            ),
        ],
        3,
    )


def assumptions(chapter: Convolutions, run: Findings) -> Section | None:
    """IAD, SH and SUD in words and formulas, and what each costs."""
    if not chapter.ledgers:
        return None
    parts: list[str | Figure | Table] = [
        "The covariance of a sum over <i>T</i> locations is a sum over <i>T</i><sup>2</sup> pairs of them: "
        "<i>F</i> = E[Σ<sub><i>t</i></sub> Σ<sub><i>u</i></sub> <i>ā<sub>t</sub> "
        "ā<sub>u</sub></i><sup>T</sup> "
        "⊗ <i>g<sub>t</sub> g<sub>u</sub></i><sup>T</sup>]. Three assumptions make one Kronecker product of "
        "it "
        "[GM16]:",
        "<b>IAD, independent activations and derivatives.</b> What goes into the layer says nothing about "
        "what "
        "comes back. The mean of the product is the product of the means: Σ<sub><i>tu</i></sub> "
        "E[<i>ā<sub>t</sub> ā<sub>u</sub></i><sup>T</sup>] ⊗ E[<i>g<sub>t</sub> "
        "g<sub>u</sub></i><sup>T</sup>]. "
        "It is the one assumption that a dense layer needs.",
        "<b>SH, spatial homogeneity.</b> No place of the image is special: derivatives vary together in the "
        "same way wherever they are, and only the shift between them matters, E[<i>g<sub>t</sub> "
        "g<sub>u</sub></i><sup>T</sup>] = Γ(<i>u</i> − <i>t</i>).",
        "<b>SUD, spatially uncorrelated derivatives.</b> Derivatives at two different places have nothing "
        "to do "
        "with each other: Γ(<i>δ</i>) = 0 unless <i>δ</i> = 0. Of all pairs only <i>u</i> = <i>t</i> remain.",
        "With all three the block is <i>A</i> ⊗ <i>G</i> with <i>A</i> = E[Σ<sub><i>t</i></sub> "
        "<i>ā<sub>t</sub> ā<sub>t</sub></i><sup>T</sup>] and <i>G</i> = E[Σ<sub><i>t</i></sub> "
        "<i>g<sub>t</sub> g<sub>t</sub></i><sup>T</sup>] / <i>T</i>: this is <b>KFC</b>. " + _costs(chapter),
        Figure(
            "conv-layers",
            "Each convolution's own block under sets of assumptions: error, best scalar, and the step on its "
            "parameters. "
            + (
                "Where there is no dot for the step, the matrix has negative eigenvalues beyond the damping."
                if any(
                    not math.isfinite(row["step_cosine"]) for rows in chapter.ledgers.values() for row in rows
                )
                else ""
            ),
        ),
        _alternatives(chapter),
    ]
    if run.settings.channels is not None and run.convolutions is not chapter:
        rows = run.study.ledger
        columns = {"error": "error so far", "cost": "this step's", "c_star": "c*", "step_cosine": "cosine"}
        columns["share"] = "share"
        parts += [
            "The same for the net as a whole, where what lies between layers is left out first."
            + branches(rows),
            Figure(
                "conv-ledger", "The whole net's matrix: error so far and by each step, and the step it gives."
            ),
            Table(
                ["assumed", *columns.values()],
                [[str(row["label"]), *(format_cell(row[key]) for key in columns)] for row in rows],
                f"The same as numbers, for all {count(run.study.F.shape[0])} parameters.",
            ),
            Table(
                *run.study.comparison.table(
                    columns=[
                        "error",
                        "c_star",
                        "inverse_error",
                        "step_cosine",
                        "share",
                        "cg_iterations",
                        "floats",
                    ]
                ),
                "Approximations of the whole matrix. Block-tridiagonal is left out: it exists for chains of "
                "dense "
                "layers only.",
            ),
        ]
    return Section("convassumptions", "What is assumed, and what it costs", parts, 3)


def _costs(chapter: Convolutions) -> str:
    """Which assumption costs most, layer by layer; whether errors fall as assumptions are added."""
    sentences, falls = [], []
    for name, rows in chapter.ledgers.items():
        error = {row["label"]: float(row["error"]) for row in rows}
        worse = "SUD" if error[SUD] > error[IAD] else "IAD"
        sentences.append(
            f"in {name} IAD alone is wrong by {percent(error[IAD])} and SUD alone by {percent(error[SUD])} "
            f"({worse} is the costlier), all three together by <b>{percent(error[ALL])}</b>"
        )
        for more, less in ((IAD_SUD, SUD), (IAD_SUD, IAD), (IAD_SH, IAD), (ALL, IAD_SUD), (ALL, IAD_SH)):
            if error[more] < error[less]:
                falls.append(
                    f"{name} from {_short(less)} ({percent(error[less])}) to {_short(more)} "
                    f"({percent(error[more])})"
                )
    text = f"As relative errors of each layer's block: {'; '.join(sentences)}."
    if falls:
        text += (
            f" An error can even fall as an assumption is added, because two wrong ones can mend each other: "
            f"{'; '.join(falls)}."
        )
    lowest = {
        name: float(row["lowest_eigenvalue"])
        for name, rows in chapter.ledgers.items()
        for row in rows
        if row["label"] == IAD_SH
    }
    negative = {name: value for name, value in lowest.items() if value < -1e-6}
    if negative:
        values = listing([f"{percent(-value)} ({name})" for name, value in negative.items()])
        text += (
            " IAD + SH is no covariance of anything: means over fewer and fewer pairs at growing distance "
            f"need not fit together. It has negative eigenvalues, down to {values} of the largest one."
        )
    return text


def _alternatives(chapter: Convolutions) -> str:
    sentences = []
    for name, rows in chapter.ledgers.items():
        found = {str(row["label"]).split(":")[0]: row for row in rows}
        kfc, reduce, full = found[_short(ALL)], found["KFAC-reduce"], found["T x KFC"]
        best = min(
            (kfc, "KFC"), (reduce, "KFAC-reduce"), (full, "T × KFC"), key=lambda pair: pair[0]["error"]
        )
        sentences.append(
            f"{name}: {wrong_by(reduce['error'])} and {wrong_by(full['error'])} (best scalars "
            f"{number(reduce['c_star'])} and {number(full['c_star'])}), against KFC's "
            f"{percent(kfc['error'])} "
            f"({number(kfc['c_star'])}); as a matrix {best[1]} is the closest"
        )
    return (
        "Instead of SUD one can assume its opposite. <b>KFAC-reduce</b> takes derivatives for equally "
        "correlated "
        "at all distances: patches are summed and derivatives averaged over locations first, <i>a</i> = "
        "Σ<sub><i>t</i></sub> <i>ā<sub>t</sub></i>, and the block is E[<i>a a</i><sup>T</sup>] ⊗ E[<i>g g</i>"
        "<sup>T</sup>] [EIST23]. <b>T × KFC</b> takes derivatives and patches for the same at all locations. "
        f"Their errors here: {'; '.join(sentences)}."
    )


def _short(label: str) -> str:
    return label.split(":")[0]


def blocks(chapter: Convolutions, run: Findings) -> Section | None:
    """One block under all assumptions."""
    block = chapter.block
    if block is None:
        return None
    errors = _block_errors(block.blocks)
    return Section(
        "convblocks",
        "One block, assumption by assumption",
        [
            f"Entries of the block of {block.name}, by size. Its weights are ordered by their place in the "
            "kernel (arrows), then by input and output map; “b” are the biases. KFC's picture repeats "
            f"<i>G</i>, a matrix of {block.sizes[-1]} × {block.sizes[-1]}, once per entry of <i>A</i>; the "
            "exact "
            f"block need not repeat anything. KFC is wrong by {percent(errors[ALL])}.",
            Figure("conv-block", "Exact block, KFC's Kronecker product, and their difference, on one scale."),
            Figure(
                "conv-ladder",
                "The same block under every set of assumptions that means something: errors "
                + ", ".join(f"{percent(error)} ({_short(label)})" for label, error in errors.items())
                + ".",
            ),
        ],
        3,
    )


def _block_errors(blocks: Mapping[str, Any]) -> dict[str, float]:
    F = blocks[EXACT]
    norm = float(np.linalg.norm(F))
    return {label: float(np.linalg.norm(F - M)) / norm for label, M in blocks.items() if label != EXACT}


def space(chapter: Convolutions, run: Findings) -> Section | None:
    """SUD looked at: autocorrelations below both poolings."""
    if not chapter.maps:
        return None
    pools = list(chapter.maps)
    d = {pool: _at(chapter.maps[pool], "derivatives", 1) for pool in pools}
    a = _at(chapter.maps[pools[0]], "inputs", 1)
    other = next((pool for pool in pools if pool != pools[0]), None)
    losses = ", ".join(f"{POOLING[pool]} {number(chapter.records[pool]['loss'])}" for pool in pools)
    text = (
        "Correlate a map with itself, shifted by some pixels. For derivatives SUD says: a dot in the middle, "
        f"and nothing around it. At a distance of one pixel the mean size of the correlation is "
        f"{_by_layer(d[pools[0]])} with {POOLING[pools[0]]}."
    )
    if other is not None:
        text += f" The same net trained alike with {POOLING[other]} instead has {_by_layer(d[other])}. "
        below = {pool: list(d[pool].values()) for pool in pools}
        if {"max", "avg"} <= set(pools):
            if all(m < 0.5 * v for m, v in zip(below["max"], below["avg"], strict=True)):
                text += (
                    "So SUD owes much to max-pooling, as in the paper [GM16, fig. 1]: it sends a derivative "
                    "to one "
                    "pixel of its window, where an average sends it to all of them alike."
                )
            elif all(m < v for m, v in zip(below["max"], below["avg"], strict=True)):
                text += "Max-pooling leaves less of it, though not by as much as in the paper [GM16, fig. 1]."
            else:
                text += "In this run max-pooling does not make derivatives less correlated in every layer."
        text += f" (Training losses, nats per example: {losses}.)"
    less = [name for name in a if a[name] > d[pools[0]][name]]
    words = (
        "Activations are not like that"
        if len(less) == len(a)
        else "Activations are more correlated in some layers only"
        if less
        else "Activations are no more correlated than that"
    )
    text += f" {words}: {_by_layer(a)} for what goes into the layers. KFC does not assume it of them."
    parts: list[str | Figure | Table] = [
        text,
        Figure(
            "conv-autocorrelation",
            "Autocorrelation in space, mean over maps: of what goes into each convolution, and of the "
            "derivatives that come back"
            + (", with max-pooling and with averages." if other is not None else "."),
        ),
        Figure(
            "conv-offsets", "Mean size of the correlation of derivatives at distances of one to three pixels."
        ),
    ]
    paradox = _weak_but_many(chapter, d[pools[0]], run)
    if paradox:
        parts.insert(2, paradox)
    return Section("convspace", "Are derivatives uncorrelated in space?", parts, 3)


def _weak_but_many(chapter: Convolutions, strength: Mapping[str, float], run: Findings) -> str:
    """Why weak correlations may leave a large error, where that is so."""
    for name, rows in chapter.ledgers.items():
        error = next((float(row["error"]) for row in rows if row["label"] == SUD), 0.0)
        if strength.get(name, 1.0) < 0.15 and error > 0.3:
            t = _locations(run, run.net.names.index(name))
            return (
                f"How, then, can SUD alone leave {percent(error)} of the block of {name} wrong, if "
                "correlations "
                f"are as weak as {_two(strength[name])}? There are many of them: against {count(t)} pairs "
                "of "
                f"a location with itself stand {count(t * (t - 1))} of two different ones, and activations, "
                "which multiply them, are far from uncorrelated and have no mean of zero (the constant 1 of "
                "the "
                "bias least of all). Small terms of one sign add up."
            )
    return ""


def _at(maps: Sequence[LayerMaps], signal: str, offset: int) -> dict[str, float]:
    return {
        layer.name: getattr(layer, signal).strength(offset)
        for layer in maps
        if getattr(layer, signal).reach >= offset
    }


def _by_layer(values: Mapping[str, float]) -> str:
    return listing([f"{_two(value)} ({name})" for name, value in values.items()])


def _two(value: float) -> str:
    """Two digits."""
    return number(float(f"{value:.2g}"))


def wrong_by(error: float) -> str:
    """A relative error in words.

    >>> wrong_by(0.25), wrong_by(23.9)
    ('25%', '24 times its size')
    """
    return percent(error) if error < 2 else f"{_two(error)} times its size"


def places(chapter: Convolutions, run: Findings) -> Section | None:
    """SH looked at: variances over locations."""
    if not chapter.maps:
        return None
    maps = chapter.maps[run.settings.pool]
    derivatives = {own.name: own.derivatives.border for own in maps if math.isfinite(own.derivatives.border)}
    inputs = {own.name: own.inputs.border for own in maps if math.isfinite(own.inputs.border)}
    if not derivatives:
        return None
    spread = {
        own.name: (float(np.nanmin(v)), float(np.nanmax(v)))
        for own in maps
        for v in (own.derivatives.mean_variance,)
    }
    far = max(abs(math.log(max(value, 1e-9))) for value in derivatives.values())
    verdict = (
        "Here SH is not far off at the border"
        if far < 0.25
        else "So SH does not hold at the border"
        if far < 1
        else "So SH is far from true at the border"
    )
    ranges = listing([f"{_two(a)} to {_two(b)} ({name})"
                      for name, (a, b) in spread.items()])  # fmt: skip
    return Section(
        "convplaces",
        "Is no place special?",
        [
            "SH says that variances are the same at all locations. Relative to their mean, those of "
            "derivatives "
            f"range over {ranges}. On the outermost locations they are {_by_layer(derivatives)} times those "
            f"inside. {verdict}: patches there reach into the padding, which holds zeros, and few things of "
            f"interest lie there. For activations, of which KFC needs no such thing (<i>A</i> is made of the "
            f"real, padded patches), the ratio is {_by_layer(inputs)}.",
            Figure(
                "conv-variance", "Variance at each location, mean over maps, relative to the mean location."
            ),
        ],
        3,
    )


def between(chapter: Convolutions, run: Findings) -> Section | None:
    """Correlations between maps at one location."""
    if not chapter.maps:
        return None
    maps = chapter.maps[run.settings.pool]
    of = {
        signal: {
            own.name: value for own in maps if math.isfinite(value := getattr(own, signal).between_strength)
        }
        for signal in ("outputs", "derivatives")
    }
    if not of["derivatives"]:
        return None
    weaker = all(of["derivatives"][name] < of["outputs"].get(name, 0) for name in of["derivatives"])
    return Section(
        "convbetween",
        "Between maps",
        [
            "At one location, different maps may vary together too. Of this KFC loses nothing: <i>A</i> and "
            "<i>G</i> hold it. The mean size of the correlation between two maps is "
            f"{_by_layer(of['outputs'])} for pre-activations and {_by_layer(of['derivatives'])} for "
            "derivatives"
            + (
                ": derivatives are the less correlated ones."
                if weaker
                else "; derivatives are not the less correlated ones in every layer."
            ),
            Figure("conv-between", "Correlations between the maps of a layer, at the same location."),
        ],
        3,
    )


STATEMENTS = {
    "correlation": (
        "Images between white noise and one colour each. With a mean over locations above and nothing but "
        "linear maps, derivatives are the same everywhere, so KFAC-reduce is always exact. For white noise "
        "(and patches that do not overlap) pairs of different locations cancel out, and KFC is exact; for "
        "constant images it misses a factor of T, and T × KFC is exact."
    ),
    "inputs": (
        "Constant images and a nonlinear net. As long as there is only one, nothing varies: T × KFC and "
        "KFAC-reduce are exact. With a second one, activations and derivatives depend on each other."
    ),
    "nonlinearity": (
        "Noise, and an error at every location. In a linear net derivatives at two locations are "
        "uncorrelated "
        "and do not depend on the image: KFC is exact. Bend the net, and it is not."
    ),
    "pooled": (
        "Noise, and a mean over locations below the error. In a linear net KFAC-reduce is exact, and KFC is "
        "far off. Bend the net, and neither is."
    ),
}


def exact(chapter: Convolutions, run: Findings) -> Section | None:
    """Walks away from exact cases."""
    walks = chapter.walks
    if not walks:
        return None
    wrong = [walk for walk in walks if not walk.as_predicted]
    largest = max(walk.errors[name][place] for walk in walks for name, place in walk.exact)
    total = sum(len(walk.exact) for walk in walks)
    verdict = (
        f"All {total} points that theory says are exact are so here (errors of {number(float(largest))} or "
        "less), "
        "and no other one is."
        if not wrong
        else "Not all of it came out as theory says here: see the walk" + "s" * (len(wrong) > 1)
        + f" along {listing([walk.knob for walk in wrong])}."
    )  # fmt: skip
    return Section(
        "convexact",
        "When is it exact?",
        [
            "Each of the three approximations is exact somewhere. These are small nets and images made for "
            "the "
            "purpose, and one knob each that leads away from such a case. " + verdict,
            Figure(
                "conv-exact",
                "Error of the convolution's block along four knobs. Filled symbols on the line “exact”: "
                "rounding errors.",
            ),
            Table(["knob", "what it shows"], [[walk.knob, _statement(walk)] for walk in walks]),
        ],
        3,
    )


def _statement(walk: Walk) -> str:
    far = {name: values[-1] for name, values in walk.errors.items()}
    where = ", ".join(f"{name} {percent(float(far[name]))}" for name in (KFC, FULL, REDUCE))
    return (
        f"{STATEMENTS[walk.key]} Errors at the far end: {where.replace('<sup>', '').replace('</sup>', '')}."
    )


def batch_normalization(chapter: Convolutions, run: Findings) -> Section | None:
    """What constant statistics cost."""
    found = chapter.coupling
    if found is None:
        return None
    medians = np.median(found.errors, axis=1)
    first, last = float(medians[0]), float(medians[-1])
    falls = last < 0.5 * first
    above = float(np.max(found.layer_errors[1:]))
    scale = float(np.median(found.scales[-1]))
    return Section(
        "convbatch",
        "Batch normalization: examples that are not alone",
        [
            "Batch normalization subtracts a mean and divides by a standard deviation that are those of the "
            "batch. In training the prediction of one example then depends on all others, and no example has "
            "a gradient of its own. Libraries take the statistics for constants all the same, or refuse "
            "such a net. The exact "
            "Fisher matrix is that of all targets of the batch together. For a small net (convolution, batch "
            "normalization, tanh, pooling, softmax; as initialized) the matrix with constant statistics is "
            "wrong by "
            f"<b>{wrong_by(first)}</b> in batches of {found.batch_sizes[0]} and by <b>{wrong_by(last)}</b> "
            "in "
            f"batches of {found.batch_sizes[-1]}"
            + (
                ": the difference falls as batches grow. "
                if falls
                else ": larger batches do not make the difference go away. "
            )
            + f"Its best scalar is {number(scale)}. "
            + (
                "All of it belongs to the convolution below, whose weights change the statistics; the "
                "blocks of "
                "scale, shift and the layer above are the same in both. "
                if above < 1e-9
                else ""
            )
            + "Take the convolution's weights longer or shorter: the normalization takes it back and "
            "predictions "
            "stay as they are. The joint matrix knows ("
            + (
                "nearly zero"
                if float(found.flat.max()) < 1e-2
                else f"{percent(float(found.flat.max()))} of what the other says"
            )
            + " along that direction), the other does not. With group normalization, which looks at one "
            "example at "
            f"a time, the two differ by {number(found.control)}"
            + (", by rounding." if found.control < 1e-9 else "."),
            Figure(
                "conv-batchnorm",
                f"Fisher matrix of a batch of {found.shown}: joint, with the batch's statistics as "
                "constants, and "
                "the difference.",
            ),
            Figure(
                "conv-batchnorm-size",
                "Error of the matrix with constant statistics against the size of the batch.",
            ),
        ],
        3,
    )
