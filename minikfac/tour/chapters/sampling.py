"""Exact, sampled and empirical: drawn targets converge to the exact expectation, labels do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ... import fisher, plots
from ...backend import Array
from ...network import Network
from ..parts import Chapter, Figure, Finding, Section, examples, listing, number, two_digits

if TYPE_CHECKING:
    from ..run import Run

COUNTS = (1, 2, 4, 8, 16, 32)
"""Targets per example."""
SEEDS = 5
"""Estimates for each number of targets."""


FIGURE = Figure("sampling", "Relative error against the number of drawn targets per example.")


@dataclass(frozen=True)
class Sampling:
    """Errors of Fisher matrices that are estimated from drawn targets.

    Attributes:
        counts: targets per example, (m,).
        fisher: (m, seeds) relative Frobenius errors of the sampled Fisher matrix against the exact one.
        kfac: (m, seeds) of sampled K-FAC against K-FAC with the exact expectation.
        empirical: error of the matrix made with the labels, against the exact one.
        empirical_scale: its best scalar c*; 1 would mean that only its shape is wrong.
        slope: of the median of ``fisher`` on log axes; -1/2 for independent draws.
        names: of the layers that were used.
        n: examples.
    """

    counts: Array
    fisher: Array
    kfac: Array
    empirical: float
    empirical_scale: float
    slope: float
    names: tuple[str, ...]
    n: int


def compute(run: Run) -> Chapter | None:
    """How many targets it takes, and what labels do: for the layers in the pictures, and few examples."""
    if not run.drawn:
        return None
    few = slice(0, 500 if run.settings.channels is None else 200)
    drawn = sampling(run.net, run.theta, run.x[few], run.y[few], run.drawn, run.settings.seed)
    text = (
        "The expectation over targets can be taken exactly, as above (one pass back per output), or by "
        "drawing targets. Independent draws have an error with slope −½ on log axes: four times the "
        f"targets, half the error. Here the slope is {f'{drawn.slope:.2f}'.replace('-', '−')}. K-FAC's "
        "factors are means over all entries of a layer, so the errors of drawn targets partly cancel in "
        "them. Using the labels gives the <i>empirical</i> Fisher matrix, and more passes do not bring "
        f"it closer; the scalar that fits it best to <i>F</i> is {number(drawn.empirical_scale)}, "
        f"above 1 where the net is right more often than it believes. ({listing(drawn.names)}; "
        f"{examples(drawn.n)}.)"
    )
    finding = Finding(
        "The Fisher matrix takes its targets from the model, not from the labels.",
        two_digits(drawn.empirical),
        "is the relative error (Frobenius norm) of the empirical Fisher matrix, which uses the labels.",
        FIGURE,
        ["sampling"],
        "3, The exact Fisher",
    )
    errors = {
        "sampled Fisher matrix": drawn.fisher,
        "sampled K-FAC, against exact K-FAC": drawn.kfac,
        "empirical Fisher matrix (labels)": drawn.empirical,
    }
    draw = partial(plots.monte_carlo_error, drawn.counts, errors, xlabel="sampled targets per example")
    section = Section("sampling", "Exact, sampled and empirical", [text, FIGURE])
    return Chapter([section], {"sampling": draw}, {"sampling": vars(drawn)}, [finding])


def sampling(net: Network, theta: Array, x: Array, y: Array, layers: Sequence[int], seed: int) -> Sampling:
    """Estimate the Fisher matrix of some layers from drawn targets and from labels."""
    signals = fisher.signals(net, theta, x).select(layers)
    F, K = fisher.exact(signals).array, _blocks(signals)
    whole, factors = np.zeros((2, len(COUNTS), SEEDS))
    for row, count in enumerate(COUNTS):
        for column in range(SEEDS):
            rng = np.random.default_rng([seed, 4, column, count])
            drawn = fisher.signals(net, theta, x, targets="sampled", n_samples=count, rng=rng).select(layers)
            whole[row, column] = _error([F], [fisher.exact(drawn).array])
            factors[row, column] = _error(K, _blocks(drawn))
    labels = fisher.exact(fisher.signals(net, theta, x, y, targets="data").select(layers)).array
    return Sampling(
        np.array(COUNTS),
        whole,
        factors,
        _error([F], [labels]),
        float((labels * F).sum() / (labels * labels).sum()),
        float(np.polyfit(np.log(COUNTS), np.log(np.median(whole, axis=1)), 1)[0]),
        signals.names,
        len(x),
    )


def _blocks(signals: fisher.Signals) -> list[Array]:
    return [block.to_dense() for block in fisher.kfac(signals).blocks]


def _error(exact: Sequence[Array], estimates: Sequence[Array]) -> float:
    """Relative Frobenius error of some blocks together."""
    squares = sum(float(((F - M) ** 2).sum()) for F, M in zip(exact, estimates, strict=True))
    return float((squares / sum(float((F**2).sum()) for F in exact)) ** 0.5)
