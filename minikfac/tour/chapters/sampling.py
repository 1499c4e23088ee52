"""Exact, sampled and empirical: drawn targets converge to the exact expectation, labels do not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ... import fisher, plots
from ...backend import Array
from ...network import Network
from ..parts import Chapter, Section, examples, listing, number, two_digits
from ..studied import Run
from ..words import finding, words

COUNTS = (1, 2, 4, 8, 16, 32)
"""Targets per example."""
SEEDS = 5
"""Estimates for each number of targets."""


def compute(run: Run) -> Chapter | None:
    """How many targets it takes, and what labels do: for the layers in the pictures, and few examples."""
    if not run.drawn:
        return None
    few = slice(0, 500 if run.settings.channels is None else 200)
    drawn = sampling(run.net, run.theta, run.x[few], run.y[few], run.drawn, run.settings.seed)
    slope = f"{drawn['slope']:.2f}".replace("-", "−")
    text = words(
        "sampling",
        slope=slope,
        scale=number(drawn["empirical_scale"]),
        layers=listing(drawn["names"]),
        examples=examples(drawn["n"]),
    )
    errors = {
        "sampled Fisher matrix": drawn["fisher"],
        "sampled K-FAC, against exact K-FAC": drawn["kfac"],
        "empirical Fisher matrix (labels)": drawn["empirical"],
    }
    draw = partial(plots.monte_carlo_error, drawn["counts"], errors, xlabel="sampled targets per example")
    section = Section("sampling", "Exact, sampled and empirical", text)
    return Chapter(
        [section],
        {"sampling": draw},
        {"sampling": drawn},
        [finding("sampling", two_digits(drawn["empirical"]))],
    )


def sampling(
    net: Network, theta: Array, x: Array, y: Array, layers: Sequence[int], seed: int
) -> dict[str, Any]:
    """Estimate the Fisher matrix of some layers from drawn targets and from labels.

    Returns:
        ``counts``: targets per example, (m,); ``fisher``: (m, seeds) relative Frobenius errors of the sampled
        Fisher matrix against the exact one; ``kfac``: the same of sampled K-FAC against K-FAC with the exact
        expectation; ``empirical``: error of the matrix made with the labels, and ``empirical_scale``, its
        best scalar c*, where 1 would mean that only its shape is wrong; ``slope`` of the median of ``fisher``
        on log axes, -1/2 for independent draws; ``names`` of the layers that were used; ``n`` examples.
    """
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
    return {
        "counts": np.array(COUNTS),
        "fisher": whole,
        "kfac": factors,
        "empirical": _error([F], [labels]),
        "empirical_scale": float((labels * F).sum() / (labels * labels).sum()),
        "slope": float(np.polyfit(np.log(COUNTS), np.log(np.median(whole, axis=1)), 1)[0]),
        "names": signals.names,
        "n": len(x),
    }


def _blocks(signals: fisher.Signals) -> list[Array]:
    return [block.to_dense() for block in fisher.kfac(signals).blocks]


def _error(exact: Sequence[Array], estimates: Sequence[Array]) -> float:
    """Relative Frobenius error of some blocks together."""
    squares = sum(float(((F - M) ** 2).sum()) for F, M in zip(exact, estimates, strict=True))
    return float((squares / sum(float((F**2).sum()) for F in exact)) ** 0.5)
