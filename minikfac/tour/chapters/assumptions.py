"""IAD, SH and SUD: what each set of assumptions costs each convolution's block [GM16].

The rows are those of :func:`minikfac.quality.layer_ledger`; :mod:`.ladder` draws one block under each set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import plots, quality
from ...network.layers import Conv2d
from ..parts import Drawings, Figure, Part, Section, Table, count, listing, number, percent, wrong_by
from ..study import Study
from .ledger import ALL, COLUMNS, IAD, IAD_SH, IAD_SUD, SUD, branches, table
from .maps import conv_layers

if TYPE_CHECKING:
    pass

QUALITY = ["error", "c_star", "inverse_error", "step_cosine", "share", "cg_iterations", "floats"]
"""Columns of the table on the whole net."""
WORDS = (
    "The covariance of a sum over <i>T</i> locations is a sum over <i>T</i><sup>2</sup> pairs of them: "
    "<i>F</i> = E[Σ<sub><i>t</i></sub> Σ<sub><i>u</i></sub> <i>ā<sub>t</sub> ā<sub>u</sub></i><sup>T</sup> ⊗ "
    "<i>g<sub>t</sub> g<sub>u</sub></i><sup>T</sup>]. Three assumptions make one Kronecker product of it "
    "[GM16]:",
    "<b>IAD, independent activations and derivatives.</b> What goes into the layer says nothing about what "
    "comes back. The mean of the product is the product of the means: Σ<sub><i>tu</i></sub> "
    "E[<i>ā<sub>t</sub> ā<sub>u</sub></i><sup>T</sup>] ⊗ E[<i>g<sub>t</sub> g<sub>u</sub></i><sup>T</sup>]. "
    "It is the one assumption that a dense layer needs.",
    "<b>SH, spatial homogeneity.</b> No place of the image is special: derivatives vary together in the same "
    "way wherever they are, and only the shift between them matters, E[<i>g<sub>t</sub> "
    "g<sub>u</sub></i><sup>T</sup>] = Γ(<i>u</i> − <i>t</i>).",
    "<b>SUD, spatially uncorrelated derivatives.</b> Derivatives at two different places have nothing to do "
    "with each other: Γ(<i>δ</i>) = 0 unless <i>δ</i> = 0. Of all pairs only <i>u</i> = <i>t</i> remain.",
)
KFC = (
    "With all three the block is <i>A</i> ⊗ <i>G</i> with <i>A</i> = E[Σ<sub><i>t</i></sub> <i>ā<sub>t</sub> "
    "ā<sub>t</sub></i><sup>T</sup>] and <i>G</i> = E[Σ<sub><i>t</i></sub> <i>g<sub>t</sub> "
    "g<sub>t</sub></i><sup>T</sup>] / <i>T</i>: this is <b>KFC</b>. "
)


@dataclass(frozen=True)
class Assumptions:
    """What each set of assumptions costs.

    Attributes:
        ledgers: rows of :func:`minikfac.quality.layer_ledger` by convolution, one or more.
        study: of their net.
        beside: whether this net was studied beside another one, whose ledger the report has already.
    """

    ledgers: dict[str, list[dict[str, Any]]]
    study: Study
    beside: bool

    def figures(self) -> Drawings:
        """What each assumption costs each convolution, and the net as a whole."""
        drawings: Drawings = {"conv-layers": lambda: plots.layer_ledger(self.ledgers)}
        if self.beside:
            drawings["conv-ledger"] = lambda: plots.ledger(self.study.ledger)
        return drawings

    def sections(self) -> list[Section]:
        """IAD, SH and SUD in words and formulas, and what each costs."""
        caption = (
            "Each convolution's own block under sets of assumptions: error, best scalar, and the step on its "
            "parameters. "
        )
        if any(not math.isfinite(row["step_cosine"]) for rows in self.ledgers.values() for row in rows):
            caption += (
                "Where there is no dot for the step, the matrix has negative eigenvalues beyond the damping."
            )
        parts: list[Part] = [
            *WORDS,
            KFC + self._costs(),
            Figure("conv-layers", caption),
            self._alternatives(),
        ]
        if self.beside:
            parts += self._whole_net()
        return [Section("convassumptions", "What is assumed, and what it costs", parts, 3)]

    def _costs(self) -> str:
        """Which assumption costs most, layer by layer; whether errors fall as assumptions are added."""
        costs, falls, negative = [], [], []
        for name, rows in self.ledgers.items():
            error = {row["label"]: row["error"] for row in rows}
            lowest = {row["label"]: row["lowest_eigenvalue"] for row in rows}[IAD_SH]
            worse = "SUD" if error[SUD] > error[IAD] else "IAD"
            costs.append(
                f"in {name} IAD alone is wrong by {percent(error[IAD])} and SUD alone by "
                f"{percent(error[SUD])} ({worse} is the costlier), all three together by "
                f"<b>{percent(error[ALL])}</b>"
            )
            for more, less in ((IAD_SUD, SUD), (IAD_SUD, IAD), (IAD_SH, IAD), (ALL, IAD_SUD), (ALL, IAD_SH)):
                if error[more] < error[less]:
                    falls.append(
                        f"{name} from {short(less)} ({percent(error[less])}) to {short(more)} "
                        f"({percent(error[more])})"
                    )
            if lowest < -1e-6:
                negative.append(f"{percent(-lowest)} ({name})")
        text = f"As relative errors of each layer's block: {'; '.join(costs)}."
        if falls:
            text += (
                " An error can even fall as an assumption is added, because two wrong ones can mend each "
                f"other: {'; '.join(falls)}."
            )
        if negative:
            text += (
                " IAD + SH is no covariance of anything: means over fewer and fewer pairs at growing "
                f"distance need not fit together. It has negative eigenvalues, down to {listing(negative)} "
                "of the largest one."
            )
        return text

    def _alternatives(self) -> str:
        """The opposite of SUD: KFAC-reduce and T x KFC."""
        sentences = []
        for name, rows in self.ledgers.items():
            by_label = {short(row["label"]): row for row in rows}
            near = {
                "KFC": by_label[short(ALL)],
                "KFAC-reduce": by_label["KFAC-reduce"],
                "T × KFC": by_label["T x KFC"],
            }
            error = {kind: row["error"] for kind, row in near.items()}
            scale = {kind: number(row["c_star"]) for kind, row in near.items()}
            sentences.append(
                f"{name}: {wrong_by(error['KFAC-reduce'])} and {wrong_by(error['T × KFC'])} (best scalars "
                f"{scale['KFAC-reduce']} and {scale['T × KFC']}), against KFC's {percent(error['KFC'])} "
                f"({scale['KFC']}); as a matrix {min(error, key=lambda kind: error[kind])} is the closest"
            )
        return (
            "Instead of SUD one can assume its opposite. <b>KFAC-reduce</b> takes derivatives for equally "
            "correlated at all distances: patches are summed and derivatives averaged over locations first, "
            "<i>a</i> = Σ<sub><i>t</i></sub> <i>ā<sub>t</sub></i>, and the block is E[<i>a "
            "a</i><sup>T</sup>] ⊗ E[<i>g g</i><sup>T</sup>] [EIST23]. <b>T × KFC</b> takes derivatives and "
            f"patches for the same at all locations. Their errors here: {'; '.join(sentences)}."
        )

    def _whole_net(self) -> list[Part]:
        rows = self.study.ledger
        columns = {key: name for key, name in COLUMNS.items() if key != "step_length"}
        return [
            "The same for the net as a whole, where what lies between layers is left out first."
            + branches(rows),
            Figure(
                "conv-ledger", "The whole net's matrix: error so far and by each step, and the step it gives."
            ),
            table(rows, columns, f"The same as numbers, for all {count(self.study.F.shape[0])} parameters."),
            Table(
                *self.study.comparison.table(columns=QUALITY),
                "Approximations of the whole matrix. Block-tridiagonal is left out: it exists for chains of "
                "dense layers only.",
            ),
        ]

    def record(self) -> dict[str, Any]:
        """The rows."""
        return {"convolutions": {"layer_ledgers": self.ledgers}}


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
