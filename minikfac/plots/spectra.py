"""Eigenvalues of Fisher matrices, and how steps depend on the damping that is added to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backend import Array
from .checks import by_name, positive
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
    named = _descending(eigenvalues)
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


def _descending(eigenvalues: Mapping[str, Any]) -> dict[str, Array]:
    spectra = by_name(eigenvalues, ("P",), "eigenvalues", "spectrum", finite=True)
    return {name: np.sort(values)[::-1] for name, values in spectra.items()}


@style()
def cosine_against_damping(dampings: Any, cosines: Mapping[str, Any], *, ax: Any | None = None) -> Any:
    """Draw how well the direction of each approximate step agrees with the exact one, against damping.

    Args:
        dampings: (m,), lambda > 0.
        cosines: (m,) each, by name: cosine between (F_approx + lambda I)^{-1} grad and
            (F + lambda I)^{-1} grad.
        ax: axes to draw into.
    """
    x = positive(dampings, "dampings")
    ax = axes_for(ax)
    curves = by_name(cosines, (len(x),), "cosines", "curve", low=-1, high=1)
    for (name, y), look in zip(curves.items(), pens(curves, marked=True).values(), strict=True):
        ax.plot(x, y, label=name, **look)
    ax.axhline(1, color=GREY, linestyle=":", linewidth=1.5)
    lowest = min(float(np.nanmin(y)) for y in curves.values())
    ax.set(xscale="log", ylim=(min(0.0, lowest - 0.05), 1.04))
    xlabel = r"damping $\lambda$ (nats per squared weight)"
    name = "K-FAC" if "K-FAC" in curves else next(iter(curves))
    ends = " and ".join(f"{curves[name][at]:.2f} with λ = {short(float(x[at]))}" for at in (0, -1))
    return labelled(ax, f"{name}'s step: cosine {ends}", xlabel, "cosine with the exact step")
