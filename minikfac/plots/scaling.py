"""Large batches and many workers: steps to a level by size of the batch, predicted steps, a step in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from .progress import _ticks
from .races import label
from .spectra import positive
from .style import (
    COLORS,
    DASHES,
    GREY,
    axes_for,
    checked,
    figure_for,
    marked_pen,
    pen,
    short,
    some,
    style,
)

WAIT = "#dddddd"
"""Colour of a rank that waits."""


@style()
def batch_scaling(
    batch_sizes: Any,
    steps: Mapping[str, Any],
    *,
    fits: Mapping[str, Any] | None = None,
    level: str = "a level of the loss",
    fig: Any | None = None,
) -> list[Any]:
    """Draw steps and examples to a level by size of the batch, each method tuned at each size.

    Medians with bars from the lowest to the highest run. Dotted lines through each method's first point are
    perfect scaling: twice the batch, half the steps. Thin lines are fits of S (1 + B / m).

    Args:
        batch_sizes: (m,).
        steps: (3, m) by method, median, lowest and highest; nan where the level was not reached.
        fits: (m,) by method, fitted steps, if there are any.
        level: what was reached, for the title.
        fig: a figure or subfigure to draw into.

    Returns:
        The axes: steps, examples.

    Raises:
        ValueError: on shapes that do not fit, or if no run reached the level.
    """
    sizes = positive(batch_sizes, "batch_sizes")
    found = {
        name: checked(own, (3, len(sizes)), f"steps of {name}")
        for name, own in some(dict(steps), "method").items()
    }
    if not any(np.isfinite(own[0]).any() for own in found.values()):
        raise ValueError("expected a run that reached the level, got none")
    fig = figure_for(fig, 5.4)
    axes = list(fig.subplots(1, 2))
    for ax, per_step, what in zip(axes, (np.ones(len(sizes)), sizes), ("steps", "examples"), strict=True):
        for number, (name, own) in enumerate(found.items()):
            middle, low, high = own * per_step
            (reached,) = np.nonzero(np.isfinite(middle))
            style_of = marked_pen(number)
            ax.plot(sizes[reached], middle[reached], label=name, **style_of)
            for at in reached:  # a run that never got there has no upper end
                ends = [low[at], high[at] if np.isfinite(high[at]) else middle[at]]
                ax.plot([sizes[at]] * 2, ends, color=style_of["color"], linewidth=1.2)
            if len(reached):
                ideal = own[0, reached[0]] * sizes[reached[0]] / sizes
                ax.plot(sizes, ideal * per_step, color=GREY, linestyle=":", linewidth=1.4, zorder=1)
            if fits and name in fits:
                fitted = checked(fits[name], (len(sizes),), f"fit of {name}") * per_step
                ax.plot(sizes, fitted, color=style_of["color"], linewidth=0.8, linestyle="--", zorder=2)
        shown = [v for own in found.values() for v in (own * per_step)[np.isfinite(own)]]
        ax.set_ylim(0.5 * min(shown), 1.8 * max(shown))
        ax.set(xscale="log", yscale="log", xlabel="examples a step", ylabel=f"{what} to the level")
        ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.tick_params(axis="x", rotation=30 if len(sizes) > 5 else 0)
        _ticks(ax.yaxis)
        ax.grid(True)
    handles, labels = axes[0].get_legend_handles_labels()
    handles.append(Line2D([], [], color=GREY, linestyle=":"))
    labels.append("perfect scaling: twice the batch, half the steps")
    if fits:
        handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=0.8))
        labels.append("fit of S (1 + B / m)")
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    fig.suptitle(f"To {level}, each method tuned at each size of the batch")
    return axes


@style()
def loss_against_examples(
    curves: Mapping[str, Mapping[int, Any]],
    *,
    y: str = "loss",
    level: float | None = None,
    ax: Any | None = None,
) -> Any:
    """Draw the loss against examples for each size of the batch, in one picture as in the talk.

    A method has one dash, the first one dashed and the second one solid; a size of the batch has one shade.
    Curves that coincide say that a larger batch costs nothing; where they fan out, examples are wasted.

    Args:
        curves: (2, k), examples and values, by method and size of the batch.
        y: the column drawn.
        level: that was raced to, marked by a line.
        ax: axes to draw into.

    Raises:
        ValueError: on no curves, or other shapes.
    """
    sizes = sorted({m for own in some(dict(curves), "method").values() for m in own})
    some(sizes, "curve")
    shades = [matplotlib.colormaps["viridis"](share) for share in np.linspace(0.9, 0.0, len(sizes))]
    dashes = ["--", "-", *DASHES[2:]]
    ax = axes_for(ax, 5.8)
    for number, (name, own) in enumerate(curves.items()):
        for m, curve in own.items():
            x, value = checked(curve, (2, "k"), f"curve of {name} at {m}", finite=True)
            later = x > 0  # a log axis has no 0
            ax.plot(
                x[later], value[later], color=shades[sizes.index(m)], linestyle=dashes[number % len(dashes)]
            )
    if level is not None:
        ax.axhline(level, color=GREY, linewidth=1)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="examples seen",
        ylabel=label(y),
    )
    _ticks(ax.yaxis)
    ax.grid(True)
    handles = [
        Line2D([], [], color=GREY, linestyle=dashes[number % len(dashes)], label=name)
        for number, name in enumerate(curves)
    ]
    handles += [
        Line2D([], [], color=shade, label=f"{m:,} a step") for m, shade in zip(sizes, shades, strict=True)
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.set_title("Each curve is tuned for its size of the batch; it ends at the level")
    return ax


@style()
def predicted_scaling(
    workers: Any,
    seconds: Mapping[str, Any],
    parts: Mapping[str, Any],
    breaks: Mapping[str, int],
    *,
    parts_of: str = "K-FAC",
    weak: Mapping[str, Any] | None = None,
    weak_label: str = "seconds a step",
    title: str = "Predicted steps by number of workers",
    fig: Any | None = None,
) -> list[Any]:
    """Draw what a cost model predicts: strong scaling, the parts of one method's step, weak scaling.

    Args:
        workers: (k,).
        seconds: of a step of one batch shared by all, (k,) by method.
        parts: of the step of one method, (k,) each; parts that are nowhere a thousandth of it are left out.
        breaks: workers from which something stands in the way, by its name; marked in the second picture.
        parts_of: that method, for a title.
        weak: (k,) by method, where each worker brings a batch of its own; left out if there is none.
        weak_label: what that is.
        title: of the figure.
        fig: a figure or subfigure to draw into.

    Returns:
        The axes.

    Raises:
        ValueError: on shapes that do not fit.
    """
    W = positive(workers, "workers")
    fig = figure_for(fig, 6.0, 13.0 if weak else 10.0)
    axes = list(fig.subplots(1, 3 if weak else 2))
    strong = {
        name: checked(own, (len(W),), f"seconds of {name}", finite=True)
        for name, own in some(dict(seconds), "method").items()
    }
    for number, (name, own) in enumerate(strong.items()):
        axes[0].plot(W, own, label=name, **pen(number))
        axes[0].plot(W, own[0] * W[0] / W, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    lowest = min(float(own.min()) for own in strong.values())
    highest = max(float(own.max()) for own in strong.values())
    axes[0].set_ylim(0.4 * lowest, 2 * highest)
    axes[0].set(ylabel="seconds a step", title="Strong scaling: one batch, shared")
    axes[0].plot([], [], color=GREY, linestyle=":", label="perfect")
    shares = {name: checked(own, (len(W),), f"seconds of {name}", finite=True) for name, own in parts.items()}
    total = sum(shares.values(), start=np.zeros(len(W)))
    seen = {name: own for name, own in shares.items() if (own > 1e-3 * total).any()}
    for number, (name, own) in enumerate(seen.items()):
        style_of = {**marked_pen(number), "markersize": 4.5}
        if number >= len(COLORS):
            style_of |= {"color": GREY, "marker": "*"}
        axes[1].plot(W, np.where(own > 0, own, np.nan), label=name, linewidth=1.4, **style_of)
    axes[1].set_ylim(
        max(1e-4 * total.min(), 0.3 * min(own[own > 0].min() for own in seen.values())), 2 * total.max()
    )
    axes[1].set(ylabel="seconds", title=f"Parts of a step of {parts_of}\n")
    told = ["workers"]
    for letter, (name, at) in zip("abcdefgh", sorted(breaks.items(), key=lambda own: own[1]), strict=False):
        axes[1].axvline(at, color=GREY, linewidth=1, zorder=1)
        place = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "color": "#444444"}
        axes[1].annotate(letter, (at, 1.0), xycoords=("data", "axes fraction"), **place)
        told.append(f"{letter}: from {at:,} on {name}")
    if weak:
        for number, (name, own) in enumerate(weak.items()):
            axes[2].plot(W, checked(own, (len(W),), f"weak scaling of {name}"), label=name, **pen(number))
        axes[2].set(ylabel=weak_label, title="Weak scaling: a batch for each")
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="workers")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(True)
        below = -0.16 - (0.055 * (len(told) - 1) if ax is axes[1] else 0.0)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=2, fontsize=9)
    axes[1].set_xlabel("\n".join(told))
    fig.suptitle(title)
    return axes


@style()
def gantt(
    ranks: Sequence[Sequence[tuple[str, float, float]]],
    *,
    parts: Sequence[str] = (),
    title: str = "One step, rank by rank",
    ax: Any | None = None,
) -> Any:
    """Draw what each rank does when in one step.

    Args:
        ranks: per rank (what, begin, end) in seconds; the same words have the same colour on all ranks.
        parts: words that have the first colours, whether they occur or not.
        title: of the picture.
        ax: axes to draw into.

    Raises:
        ValueError: on no ranks, or something that ends before it begins.
    """
    some(ranks, "rank")
    seen = {what for own in ranks for what, _, _ in own}
    some(seen, "part of a step")
    names = list(dict.fromkeys([*parts, *(what for own in ranks for what, _, _ in own)]))
    first = min(begin for own in ranks for _, begin, _ in own)
    last = max(end for own in ranks for _, _, end in own)
    scale, unit = (1e3, "ms") if last - first < 1 else (1.0, "s")
    ax = axes_for(ax, 1.9 + 0.6 * len(ranks))
    for rank, own in enumerate(ranks):
        ax.barh(rank, scale * (last - first), color=WAIT, height=0.7)
        for what, begin, end in own:
            if not begin <= end:
                raise ValueError(
                    f"expected {what} of rank {rank} to end after it begins, got {begin} and {end}"
                )
            width, left = scale * (end - begin), scale * (begin - first)
            ax.barh(rank, width, left=left, height=0.7, **_fill(names.index(what)))
    ax.set_yticks(range(len(ranks)), [f"rank {rank}" for rank in range(len(ranks))])
    ax.invert_yaxis()
    ax.set(xlabel=f"{unit} since the step began", title=title)
    ax.set_xlim(0, scale * (last - first))
    handles = [Patch(label=name, **_fill(number)) for number, name in enumerate(names) if name in seen]
    handles.append(Patch(facecolor=WAIT, label="other work, or waiting"))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=3)
    return ax


@style()
def predicted_against_measured(
    predicted: Mapping[str, Any],
    measured: Mapping[str, Any],
    *,
    ax: Any | None = None,
) -> Any:
    """Draw measured against predicted seconds of a step, one point a run, with the diagonal.

    Args:
        predicted: (k,) by method.
        measured: the same, medians.
        ax: axes to draw into.

    Raises:
        ValueError: on shapes that do not fit.
    """
    ax = axes_for(ax, 5.4, 6.4)
    low, high = np.inf, 0.0
    for number, (name, own) in enumerate(some(dict(predicted), "method").items()):
        x = positive(own, f"predicted seconds of {name}")
        y = checked(measured[name], (len(x),), f"measured seconds of {name}", finite=True)
        style_of = {**marked_pen(number), "linestyle": ""}
        ratio = short(float(np.median(y / x)))
        ax.plot(x, y, label=f"{name}: measured / predicted {ratio} (median)", **style_of)
        low, high = min(low, x.min(), y.min()), max(high, x.max(), y.max())
    ends = [0.6 * low, 1.6 * high]
    ax.plot(ends, ends, color=GREY, linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="predicted seconds a step", ylabel="measured seconds a step")
    ax.grid(True)
    ax.legend(loc="upper left")
    return ax


@style()
def measured_scaling(
    strong: Mapping[str, tuple[Any, Any, Any]],
    weak: Mapping[str, tuple[Any, Any, Any]],
    *,
    cores: int | None = None,
    fig: Any | None = None,
) -> list[Any]:
    """Draw measured steps by number of ranks next to predicted ones.

    Args:
        strong: ranks (k,), measured seconds of a step (3, k) (median, lowest, highest) and predicted ones
            (k,), by method, one batch for all.
        weak: the same, a batch for each.
        cores: of the machine; more ranks share them, and are shaded.
        fig: a figure or subfigure to draw into.

    Returns:
        The axes: strong, weak.

    Raises:
        ValueError: on shapes that do not fit.
    """
    fig = figure_for(fig, 5.2)
    axes = list(fig.subplots(1, 2))
    for ax, given, what in zip(
        axes,
        (strong, weak),
        ("Strong scaling: one batch, shared", "Weak scaling: a batch for each"),
        strict=True,
    ):
        counts: set[float] = set()
        for number, (name, (ranks, seconds, predicted)) in enumerate(some(dict(given), "method").items()):
            W = positive(ranks, f"ranks of {name}")
            middle, low, high = checked(seconds, (3, len(W)), f"measured seconds of {name}", finite=True)
            expected = checked(predicted, (len(W),), f"predicted seconds of {name}", finite=True)
            style_of = {**marked_pen(number), "linestyle": ""}
            ax.errorbar(W, middle, [middle - low, high - middle], label=name, **style_of)
            ax.plot(W, expected, color=style_of["color"], linewidth=1.2, linestyle="--")
            counts |= set(W.tolist())
        if cores is not None and max(counts) > cores:
            ax.axvspan(cores * 1.2, max(counts) * 1.3, color="#eeeeee", zorder=0)
            place = {"transform": ax.get_xaxis_transform(), "ha": "right", "va": "bottom"}
            ax.text(max(counts) * 1.28, 0.01, "more ranks than cores", fontsize=10, **place)
        ax.set(xscale="log", yscale="log", xlabel="ranks", ylabel="seconds a step", title=what)
        ax.set_xticks(sorted(counts), [f"{count:g}" for count in sorted(counts)])
        ax.xaxis.set_minor_locator(NullLocator())
        _ticks(ax.yaxis)
        ax.grid(True)
    handles, labels = axes[0].get_legend_handles_labels()
    handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1.2))
    fig.legend(handles, [*labels, "predicted"], loc="outside lower center", ncols=5)
    return axes


@style()
def step_shares(
    shares: Mapping[str, Mapping[str, float]],
    *,
    parts: Sequence[str] = (),
    title: str = "Where a step goes",
    ax: Any | None = None,
) -> Any:
    """Draw seconds of a step by part, one bar a run.

    Args:
        shares: seconds by part, by name of the run.
        parts: those that come first and have the first colours.
        title: of the picture.
        ax: axes to draw into.

    Raises:
        ValueError: on no runs.
    """
    some(dict(shares), "run")
    names = list(dict.fromkeys([*parts, *(part for own in shares.values() for part in own)]))
    total = max(sum(own.values()) for own in shares.values())
    scale, unit = (1e3, "ms") if total < 1 else (1.0, "s")
    ax = axes_for(ax, 1.8 + 0.42 * len(shares))
    left = np.zeros(len(shares))
    for number, part in enumerate(names):
        width = scale * np.array([own.get(part, 0.0) for own in shares.values()])
        if width.any():
            ax.barh(range(len(shares)), width, left=left, label=part, **_fill(number))
        left += width
    ax.set_yticks(range(len(shares)), list(shares))
    ax.invert_yaxis()
    ax.set(xlabel=f"{unit} a step", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def _fill(number: int) -> dict[str, Any]:
    """Colour of the part of this number, with stripes where colours begin again."""
    stripes = "//" if number >= len(COLORS) else None
    return {
        "facecolor": COLORS[number % len(COLORS)],
        "hatch": stripes,
        "edgecolor": "white",
        "linewidth": 0.5,
    }
