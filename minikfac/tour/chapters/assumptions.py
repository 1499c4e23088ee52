"""IAD, SH and SUD: what each set of assumptions costs each convolution's block [GM16].

The rows are those of :func:`minikfac.quality.layer_ledger`; :mod:`.ladder` draws one block under each set.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ... import plots, quality
from ...exploration import Study
from ...network.layers import Conv2d
from ..parts import Chapter, Section
from ..words import words
from .maps import conv_layers


def chapter(ledgers: dict[str, list[dict[str, Any]]]) -> Chapter:
    """IAD, SH and SUD in words and formulas, and what each costs, by the ledgers of convolutions."""
    section = Section("convassumptions", "What is assumed, and what it costs", words("assumptions"), 3)
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
