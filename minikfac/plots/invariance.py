"""Gaps between equivalent nets: who is invariant to what, step by step, and what damping does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from .checks import by_name, checked, some
from .style import BLACK, COLORS, DASHES, GREY, VERMILLION, axes_for, labelled, marked_pen, new_figure, style
from .ticks import log_ticks

LOWEST, HIGHEST = 1e-16, 10.0
"""Ends of the scale of colours."""


def tiny(gap: float) -> str:
    """A gap as in the matrix.

    >>> tiny(1.23e-13), tiny(0.5), tiny(0.0)
    ('1e-13', '5e-01', '0')
    """
    return f"{gap:.0e}" if gap else "0"


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
    """Draw gaps as numbers on a log scale of colours, methods down, reparameterizations across.

    Cells in a frame are those of which theory says that the gap is rounding; a cross marks a cell that is
    not what theory says.

    Args:
        gaps: (M, R), over the distance moved; nan where a run does not count.
        expected: (M, R), whether theory says invariant.
        methods: M names.
        changes: R names.
        tolerance: gaps below it are rounding.
        rules: rows above which a line is drawn.

    Returns:
        The axes; its image holds the gaps.

    Raises:
        ValueError: on shapes that do not fit, or gaps below 0.
    """
    gaps = checked(gaps, (len(methods), len(changes)), "gaps", low=0)
    invariant = checked(expected, gaps.shape, "expected").astype(bool)
    fig = new_figure(1.9 + 0.36 * len(methods))
    ax = fig.add_subplot()
    colors = matplotlib.colormaps["cividis"].with_extremes(bad="#ffffff")
    drawn = np.ma.masked_invalid(gaps).clip(LOWEST, HIGHEST)
    image = ax.imshow(drawn, cmap=colors, norm=LogNorm(LOWEST, HIGHEST), aspect="auto")
    for (row, column), gap in np.ndenumerate(gaps):
        _cell(ax, row, column, float(gap), bool(invariant[row, column]), tolerance)
    for row in rules:
        ax.axhline(row - 0.5, color="white", linewidth=5)
    ax.set_xticks(range(len(changes)), [name.replace(" ", "\n", 1) for name in changes])
    ax.set_yticks(range(len(methods)), methods)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    bar = fig.colorbar(image, ax=ax, pad=0.02, label="gap / distance moved")
    bar.ax.yaxis.set_major_locator(LogLocator(100))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.axhline(tolerance, color="white", linewidth=2)
    look: dict[str, Any] = {"edgecolor": "white", "linewidth": 1.8}
    frame = Patch(facecolor=colors(0.2), label="framed: invariant, theory says", **look)
    bare = Patch(facecolor=colors(0.95), label="no frame: not invariant")
    fig.legend(handles=[frame, bare], loc="outside lower center", ncols=2)
    fig.suptitle("Gap between two nets that began as the same function")
    return ax


def _cell(ax: Any, row: int, column: int, gap: float, invariant: bool, tolerance: float) -> None:
    """The number of a cell, a cross where it is not what theory says, and a frame for invariance."""
    finite = bool(np.isfinite(gap))
    share = np.log10(np.clip(gap, LOWEST, HIGHEST) / LOWEST) / np.log10(HIGHEST / LOWEST)
    wrong = not finite or (gap < tolerance) != invariant
    text = (tiny(gap) if finite else "failed") + (" ×" if wrong else "")
    ink = "black" if not finite or share > 0.55 else "white"
    ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=11)
    if invariant:
        place = (column - 0.46, row - 0.42)
        ax.add_patch(Rectangle(place, 0.92, 0.84, fill=False, edgecolor="white", linewidth=1.8))


@style()
def gap_against_steps(
    curves: Mapping[str, tuple[Any, Any]],
    *,
    tolerance: float = 1e-6,
    title: str = "Gap between equivalent nets, step by step",
    ax: Any | None = None,
) -> Any:
    """Draw gaps against steps, each curve with its name behind it.

    Args:
        curves: steps and gaps (m,) by method.
        tolerance: gaps below it are rounding; drawn as a line.
        title: of the axes.
        ax: axes to draw into.

    Raises:
        ValueError: on shapes that do not fit.
    """
    ax = axes_for(ax)
    for number, (name, (given, values)) in enumerate(some(dict(curves), "curve").items()):
        steps = checked(given, ("m",), f"steps of {name}")
        gaps = checked(values, steps.shape, f"gaps of {name}")
        dash = DASHES[number // len(COLORS) % len(DASHES)]
        ax.plot(steps, gaps.clip(LOWEST), **marked_pen(number), linestyle=dash, label=name, clip_on=False)
    ax.set(xscale="log")
    log_ticks(ax.xaxis)
    return _gap_axis(ax, tolerance, title, "steps", loc="center left", bbox_to_anchor=(1.0, 0.5))


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
    for number, (name, gaps) in enumerate(by_name(curves, x.shape, "gaps", "curve").items()):
        ax.plot(x, gaps.clip(LOWEST), **marked_pen(number), label=name)
        power = (slopes or {}).get(name)
        if power is not None:
            line = gaps[0] * (x / x[0]) ** power
            kept = line <= 1
            ax.plot(x[kept], line[kept], color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    if slopes:
        powers = " and ".join(
            f"λ^{power:g}" if power != 1 else "λ" for power in dict.fromkeys(slopes.values())
        )
        ax.plot([], [], color=GREY, linestyle=":", linewidth=1.2, label=f"proportional to {powers}")
    ax.set(xscale="log")
    title = "Damping has a metric of its own: gap after one step"
    return _gap_axis(ax, tolerance, title, "damping λ", loc="lower right")


def _gap_axis(ax: Any, tolerance: float, title: str, xlabel: str, **legend: Any) -> Any:
    ax.set(yscale="log")
    ax.axhline(tolerance, color=BLACK, linewidth=1, linestyle="--", label="below: rounding")
    ax.yaxis.set_major_locator(LogLocator(100, numticks=20))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return labelled(ax, title, xlabel, "gap / distance moved", **legend)


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
        gaps: at the end, by method, for the titles.
        title: of the figure.

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
        gap = f": gap {tiny(gaps[name])}" if gaps and name in gaps else ""
        ax.set(yscale="log", xlabel="step", title=f"{name}{gap}")
        log_ticks(ax.yaxis)
        ax.grid(True)
    axes[0].set_ylabel("training loss (nats)")
    handles = [Line2D([], [], label=net, **look) for net, look in zip(nets, looks, strict=True)]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    fig.suptitle(title)
    return axes
