"""Gaps between equivalent nets: which methods are invariant, step by step, and what damping does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from ..backend import Array
from .checks import by_name, checked, some
from .style import BLACK, BLUE, COLORS, GREY, VERMILLION, axes_for, labelled, new_figure, pens, style
from .ticks import log_ticks, short

LOWEST = 1e-16
"""What is drawn for gaps below it, on log axes."""


def tiny(gap: float) -> str:
    """A gap as in the matrix.

    >>> tiny(1.23e-13), tiny(0.5), tiny(0.0)
    ('$10^{-13}$', '0.5', '0')
    """
    digit, _, power = f"{gap:.1g}".partition("e")
    times = "" if digit == "1" else rf"{digit} \times "
    return f"${times}10^{{{int(power)}}}$" if power else digit


@style()
def invariance_matrix(
    gaps: Any,
    expected: Any,
    methods: Sequence[str],
    changes: Sequence[str],
    *,
    tolerance: float = 1e-6,
    rules: Sequence[int] = (),
) -> Any:
    """Draw which methods cannot tell equivalent nets apart: methods down, reparameterizations across.

    A check mark stands for a gap that is rounding, one digit for any other; an exclamation mark follows what
    is not as theory says. The title counts the check marks of K-FAC, SGD and Adam.

    Args:
        gaps: (M, R), over the distance moved; nan where a run does not count.
        expected: (M, R), whether theory says invariant.
        methods: M names.
        changes: R names.
        tolerance: gaps below it are rounding.
        rules: rows above which a line is drawn.

    Returns:
        The axes; their image holds the gaps, masked where they are rounding.

    Raises:
        ValueError: on shapes that do not fit, or gaps below 0.
    """
    gaps = checked(gaps, (len(methods), len(changes)), "gaps", low=0)
    invariant = checked(expected, gaps.shape, "expected").astype(bool)
    same = gaps < tolerance
    fig = new_figure(1.7 + 0.36 * len(methods))
    ax = fig.add_subplot()
    colors = matplotlib.colormaps["Oranges"].with_extremes(bad=BLUE)
    ax.imshow(np.ma.masked_where(same, gaps), cmap=colors, norm=LogNorm(1e-3, 30), aspect="auto")
    _write_cells(ax, gaps, same, invariant)
    ax.set_xticks(np.arange(1, len(changes)) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, len(methods)) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    for row in rules:
        ax.axhline(row - 0.5, color="white", linewidth=7)
    ax.set_xticks(range(len(changes)), [name.replace(" ", "\n", 1) for name in changes])
    ax.set_yticks(range(len(methods)), methods)
    for label in ax.get_yticklabels():
        label.set_weight("bold" if label.get_text() == "K-FAC" else "normal")
    ax.xaxis.tick_top()
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    same_outputs = f"same outputs: gap below {tiny(tolerance)} of the distance moved"
    ax.set_xlabel(f"✓ {same_outputs};  digit: the gap, over that distance", fontsize="medium")
    fig.suptitle(_statement(same, methods))
    return ax


def _write_cells(ax: Any, gaps: Array, same: Array, invariant: Array) -> None:
    """A check mark or a digit per cell, and an exclamation mark where theory says something else."""
    for (row, column), gap in np.ndenumerate(gaps):
        finite = bool(np.isfinite(gap))
        text = "✓" if same[row, column] else tiny(gap) if finite else "failed"
        if not finite or same[row, column] != invariant[row, column]:
            text += " !"
        if not finite:  # no colour stands for it
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color="#dddddd"))
        look = {"color": "white", "weight": "bold"} if text[0] == "✓" else {"color": "black"}
        ax.text(column, row, text, ha="center", va="center", **look)


def _statement(same: Array, methods: Sequence[str]) -> str:
    """Which of K-FAC, SGD and Adam can tell the nets apart, with the check marks in their rows.

    >>> _statement(np.array([[True, True], [True, False]]), ["K-FAC", "SGD"])
    'K-FAC cannot tell two equivalent nets apart (✓ 2 of 2); SGD can (✓ 1 of 2)'
    """
    rows = {name: same[methods.index(name)] for name in ("K-FAC", "SGD", "Adam") if name in methods}
    rows = rows or dict(zip(methods, same, strict=True))
    blind = [name for name, row in rows.items() if row.all()]
    others = [name for name in rows if name not in blind]
    counts = " and ".join(f"{rows[name].sum()}" for name in others)
    parts = [
        f"{' and '.join(blind)} cannot tell two equivalent nets apart (✓ {same.shape[1]} of {same.shape[1]})"
    ]
    parts = parts if blind else []
    if others:
        rest = "can" if blind else "can tell two equivalent nets apart"
        parts.append(f"{' and '.join(others)} {rest} (✓ {counts} of {same.shape[1]})")
    return "; ".join(parts)


@style()
def gap_against_damping(
    dampings: Any,
    curves: Mapping[str, Any],
    *,
    slopes: Mapping[str, float] | None = None,
    tolerance: float = 1e-6,
    ax: Any | None = None,
) -> Any:
    """Draw gaps against damping, with lines of the powers by which they vanish.

    Args:
        dampings: (m,), lambda > 0, ascending.
        curves: gaps (m,) by method.
        slopes: powers of lambda by method; a grey line through the first gap each.
        tolerance: gaps below it are rounding; drawn as a line.
        ax: axes to draw into.

    Raises:
        ValueError: on shapes that do not fit.
    """
    x = checked(dampings, ("m",), "dampings", finite=True)
    ax = axes_for(ax)
    named = by_name(curves, x.shape, "gaps", "curve")
    powers: dict[str, float] = {}
    for (name, gaps), look in zip(named.items(), pens(named).values(), strict=True):
        label = name
        if len(x) > 1 and 0 < gaps[0] < gaps[1]:
            powers[name] = np.log(gaps[1] / gaps[0]) / np.log(x[1] / x[0])
            label += rf": $\lambda^{{{powers[name]:.1f}}}$"
        ax.plot(x, gaps.clip(LOWEST), label=label, **look)
        slope = (slopes or {}).get(name)
        if slope is not None:
            line = gaps[0] * (x / x[0]) ** slope
            kept = line <= 1
            ax.plot(x[kept], line[kept], color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    if slopes:
        ax.plot([], [], color=GREY, linestyle=":", linewidth=1.2, label="what theory says")
    ax.set(xscale="log", yscale="log")
    ax.axhline(tolerance, color=BLACK, linewidth=1, linestyle="--", label="a gap below this counts as none")
    ax.yaxis.set_major_locator(LogLocator(100, numticks=20))
    ax.yaxis.set_minor_formatter(NullFormatter())
    title = f"Damping parts equivalent nets: gaps up to {short(max(map(np.nanmax, named.values())))}"
    if powers:
        ends = (min(powers, key=powers.__getitem__), max(powers, key=powers.__getitem__))
        stated = " to ".join(rf"$\lambda^{{{powers[name]:.1f}}}$ ({name})" for name in dict.fromkeys(ends))
        title = f"Damping parts equivalent nets: the gap grows as\n{stated}"
    return labelled(ax, title, "damping λ", "gap after one step / distance moved", loc="lower right")


@style()
def equivalent_training(
    pairs: Mapping[str, tuple[Any, Any]],
    nets: tuple[str, str],
    *,
    gaps: Mapping[str, float] | None = None,
    title: str = "Two nets that begin as the same function",
) -> list[Any]:
    """Draw two losses each, of nets that are the same function at the start, one picture per method.

    Args:
        pairs: losses (k + 1,) and (k + 1,) by method, from the start on.
        nets: what the two nets are called.
        gaps: at the end, by method, for the title.
        title: of the figure, before the gaps.

    Returns:
        The axes, one per method.

    Raises:
        ValueError: on losses that are not finite.
    """
    fig = new_figure(4.6)
    axes = list(np.atleast_1d(fig.subplots(1, len(some(dict(pairs), "pair")), sharey=True)))
    looks: list[dict[str, Any]] = [
        {"color": COLORS[0], "linewidth": 5, "alpha": 0.45},
        {"color": VERMILLION, "linestyle": "--"},
    ]
    for ax, (name, pair) in zip(axes, pairs.items(), strict=True):
        for run, look in zip(pair, looks, strict=True):
            losses = checked(run, ("k",), f"losses of {name}", finite=True)
            ax.plot(np.arange(len(losses)), losses, **look)
        ax.set(yscale="log", xlabel="step", title=name)
        log_ticks(ax.yaxis)
        ax.grid(True)
    axes[0].set_ylabel("training loss (nats)")
    handles = [Line2D([], [], label=net, **look) for net, look in zip(nets, looks, strict=True)]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    stated = ", ".join(f"{tiny(gap)} under {name}" for name, gap in (gaps or {}).items())
    fig.suptitle(f"{title}: gap {stated}" if stated else title)
    return axes
