"""Eigenvalues of Fisher matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .checks import by_name
from .style import GREY, axes_for, labelled, pens, style
from .ticks import short


@style()
def spectra(eigenvalues: Mapping[str, Any], damping: float | None = None, *, ax: Any | None = None) -> Any:
    """Draw eigenvalues in descending order on a log axis.

    What rounding leaves of zero eigenvalues (below P times the precision times the largest) is not drawn;
    the legend counts it.

    Args:
        eigenvalues: (P,) each, in any order, by name of the matrix.
        damping: lambda, drawn as a level: directions below it are governed by the damping.
        ax: axes to draw into.
    """
    ax = axes_for(ax)
    longest = 0
    spectra = by_name(eigenvalues, ("P",), "eigenvalues", "spectrum", finite=True)
    named = {name: np.sort(values)[::-1] for name, values in spectra.items()}
    looks = pens(named)
    for name, descending in named.items():
        largest = max(float(np.abs(descending).max()), np.finfo(float).tiny)
        floor = len(descending) * np.finfo(float).eps * largest
        seen = descending[descending > floor]
        negative = int((descending < -floor).sum())
        zero = len(descending) - len(seen) - negative
        left_out = [f"{count} {kind}" for count, kind in ((zero, "zero"), (negative, "negative")) if count]
        label = f"{name} ({', '.join(left_out)} of {len(descending)})" if left_out else name
        ax.plot(np.arange(1, len(seen) + 1), seen, label=label, **looks[name])
        longest = max(longest, len(descending))
    if damping is not None:
        ax.axhline(damping, color=GREY, linestyle=":", linewidth=1.5)
        ax.annotate(
            rf"damping $\lambda$ = {short(damping)}", (1, damping), xycoords=("axes fraction", "data"),
            xytext=(-4, 4), textcoords="offset points", ha="right", color="#555555",
        )  # fmt: skip
    ax.set(yscale="log", xlim=(0, longest * 1.01 + 1))
    name, first = next(iter(named.items()))
    title = f"Eigenvalues: the largest of {name} is {short(float(first[0]))}"
    if damping is not None:
        of = "the exact matrix" if name == "exact" else name
        title = (
            f"{int((first > damping).sum()):,} of {len(first):,} eigenvalues of {of} lie above the damping"
        )
    return labelled(ax, title, "rank (1 = largest)", "eigenvalue (nats per squared weight)")
