"""IAD, SH and SUD: what each set of assumptions costs each convolution's block [GM16].

The rows are those of :func:`minikfac.quality.layer_ledger`; :mod:`.ladder` draws one block under each set.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ... import plots, quality
from ...exploration import Study
from ...network.layers import Conv2d
from ..parts import Chapter, Figure, Section
from .maps import conv_layers

FIGURE = Figure(
    "conv-layers",
    "Each convolution's block under sets of assumptions: error, best scalar, and the step on its parameters. "
    "Without a dot for the step, the matrix has negative eigenvalues beyond the damping.",
)
WORDS = (
    "The covariance of a sum over <i>T</i> locations is a sum over <i>T</i><sup>2</sup> pairs of them: "
    "<i>F</i> = E[Σ<sub><i>t</i></sub> Σ<sub><i>u</i></sub> <i>ā<sub>t</sub> ā<sub>u</sub></i><sup>T</sup> ⊗ "
    "<i>g<sub>t</sub> g<sub>u</sub></i><sup>T</sup>]. Three assumptions make one Kronecker product of it "
    "[GM16]:",
    "<b>IAD, independent activations and derivatives.</b> The inputs of the layer are independent of the "
    "derivatives that come back. The mean of the product is the product of the means: Σ<sub><i>tu</i></sub> "
    "E[<i>ā<sub>t</sub> ā<sub>u</sub></i><sup>T</sup>] ⊗ E[<i>g<sub>t</sub> g<sub>u</sub></i><sup>T</sup>]. "
    "It is the one assumption that a dense layer needs.",
    "<b>SH, spatial homogeneity.</b> No place of the image is special: derivatives vary together in the same "
    "way wherever they are, and only the shift between them matters, E[<i>g<sub>t</sub> "
    "g<sub>u</sub></i><sup>T</sup>] = Γ(<i>u</i> − <i>t</i>).",
    "<b>SUD, spatially uncorrelated derivatives.</b> E[<i>g<sub>t</sub> g<sub>u</sub></i><sup>T</sup>] = 0 "
    "for <i>u</i> ≠ <i>t</i>; without IAD this must hold for every image, not only on average. Of all pairs "
    "only <i>u</i> = <i>t</i> remain.",
    "With all three the block is <i>A</i> ⊗ <i>G</i> with <i>A</i> = E[Σ<sub><i>t</i></sub> <i>ā<sub>t</sub> "
    "ā<sub>t</sub></i><sup>T</sup>] and <i>G</i> = E[Σ<sub><i>t</i></sub> <i>g<sub>t</sub> "
    "g<sub>t</sub></i><sup>T</sup>] / <i>T</i>: this is <b>KFC</b>. An error can fall as an assumption is "
    "added, where two errors cancel. IAD + SH is not the covariance of anything: means over fewer and fewer "
    "pairs at growing distance need not fit together, and its lowest eigenvalue can be negative.",
    "Instead of SUD one can assume its opposite. <b>KFAC-reduce</b> assumes derivatives that are equally "
    "correlated at all distances, as below a mean over locations with 1 × 1 layers between: patches are "
    "summed and derivatives averaged over locations first, <i>a</i> = Σ<sub><i>t</i></sub> "
    "<i>ā<sub>t</sub></i>, and the block is E[<i>a a</i><sup>T</sup>] ⊗ E[<i>g g</i><sup>T</sup>] [EIST23]. "
    "<b>T × KFC</b> assumes derivatives and patches that are the same at all locations.",
)


def chapter(ledgers: dict[str, list[dict[str, Any]]]) -> Chapter:
    """IAD, SH and SUD in words and formulas, and what each costs, by the ledgers of convolutions."""
    section = Section("convassumptions", "What is assumed, and what it costs", [*WORDS, FIGURE], 3)
    draw = partial(plots.layer_ledger, ledgers)
    return Chapter([section], {"conv-layers": draw}, {"convolutions": {"layer_ledgers": ledgers}})


def short(label: str) -> str:
    """The set of assumptions alone."""
    return label.split(":")[0]


def studied_convolutions(study: Study) -> dict[str, Conv2d]:
    """The convolutions among the layers that were studied, by name."""
    names = {study.net.names[layer]: conv for layer, conv in conv_layers(study.net).items()}
    return {name: conv for name, conv in names.items() if name in study.signals.names}


def layer_ledgers(study: Study) -> dict[str, list[dict[str, Any]]]:
    """Rows of :func:`minikfac.quality.layer_ledger` by convolution."""
    return {
        name: quality.layer_ledger(study.signals, name, study.gradient, study.damping)
        for name in studied_convolutions(study)
    }
