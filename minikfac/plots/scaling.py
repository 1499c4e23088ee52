"""Large batches and many workers: steps to a level by size of the batch, and predicted steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from ..backend import Array
from .checks import by_name, checked, positive, some
from .races import label
from .style import COLORS, DASHES, GREY, axes_for, labelled, marked_pen, new_figure, pen, style
from .ticks import whole_log_ticks


@style()
def batch_scaling(
    batch_sizes: Any,
    steps: Mapping[str, Any],
    *,
    fits: Mapping[str, Any] | None = None,
    level: str = "a level of the loss",
) -> list[Any]:
    """Draw steps and examples to a level by size of the batch, each method tuned at each size.

    Medians with bars from the lowest to the highest run. Dotted lines through each method's first point are
    perfect scaling: twice the batch, half the steps. Thin lines are fits of S (1 + B / m).

    Args:
        batch_sizes: (m,).
        steps: (3, m) by method, median, lowest and highest; nan where the level was not reached.
        fits: (m,) by method, fitted steps, if there are any.
        level: what was reached, for the title.

    Returns:
        The axes: steps, examples.

    Raises:
        ValueError: on shapes that do not fit, or if no run reached the level.
    """
    sizes = positive(batch_sizes, "batch_sizes")
    counts = by_name(steps, (3, len(sizes)), "steps", "method")
    if not any(np.isfinite(ranges[0]).any() for ranges in counts.values()):
        raise ValueError("expected a run that reached the level, got none")
    fitted = {name: checked(fit, (len(sizes),), f"fit of {name}") for name, fit in (fits or {}).items()}
    fig = new_figure(5.4)
    axes = list(fig.subplots(1, 2))
    for ax, per_step, what in zip(axes, (np.ones(len(sizes)), sizes), ("steps", "examples"), strict=True):
        for number, (name, ranges) in enumerate(counts.items()):
            _ranges(ax, sizes, ranges, per_step, name, number)
            if name in fitted:
                look = {"color": marked_pen(number)["color"], "linewidth": 0.8, "linestyle": "--"}
                ax.plot(sizes, fitted[name] * per_step, zorder=2, **look)
        shown = [v for ranges in counts.values() for v in (ranges * per_step)[np.isfinite(ranges)]]
        ax.set_ylim(0.5 * min(shown), 1.8 * max(shown))
        ax.set(xscale="log", yscale="log", xlabel="examples a step", ylabel=f"{what} to the level")
        ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.tick_params(axis="x", rotation=30 if len(sizes) > 5 else 0)
        whole_log_ticks(ax.yaxis)
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


def _ranges(ax: Any, sizes: Array, ranges: Array, per_step: Array, name: str, number: int) -> None:
    """Medians of one method with bars, and perfect scaling from its first point on."""
    middle, low, high = ranges * per_step
    (reached,) = np.nonzero(np.isfinite(middle))
    look = marked_pen(number)
    ax.plot(sizes[reached], middle[reached], label=name, **look)
    for at in reached:  # a run that never got there has no upper end
        ends = [low[at], high[at] if np.isfinite(high[at]) else middle[at]]
        ax.plot([sizes[at]] * 2, ends, color=look["color"], linewidth=1.2)
    if len(reached):
        ideal = ranges[0, reached[0]] * sizes[reached[0]] / sizes
        ax.plot(sizes, ideal * per_step, color=GREY, linestyle=":", linewidth=1.4, zorder=1)


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
    sizes = sorted({m for by_size in some(dict(curves), "method").values() for m in by_size})
    some(sizes, "curve")
    shades = [matplotlib.colormaps["viridis"](share) for share in np.linspace(0.9, 0.0, len(sizes))]
    dashes = ["--", "-", *DASHES[2:]]
    ax = axes_for(ax, 5.8)
    for number, (name, by_size) in enumerate(curves.items()):
        for m, curve in by_size.items():
            x, value = checked(curve, (2, "k"), f"curve of {name} at {m}", finite=True)
            later = x > 0  # a log axis has no 0
            ax.plot(
                x[later], value[later], color=shades[sizes.index(m)], linestyle=dashes[number % len(dashes)]
            )
    if level is not None:
        ax.axhline(level, color=GREY, linewidth=1)
    ax.set(xscale="log", yscale="log")
    whole_log_ticks(ax.yaxis)
    handles = [
        Line2D([], [], color=GREY, linestyle=dashes[number % len(dashes)], label=name)
        for number, name in enumerate(curves)
    ]
    handles += [
        Line2D([], [], color=shade, label=f"{m:,} a step") for m, shade in zip(sizes, shades, strict=True)
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    title = "Each curve is tuned for its size of the batch; it ends at the level"
    return labelled(ax, title, "examples seen", label(y))


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

    Returns:
        The axes.

    Raises:
        ValueError: on shapes that do not fit.
    """
    W = positive(workers, "workers")
    fig = new_figure(6.0, 13.0 if weak else 10.0)
    axes = list(fig.subplots(1, 3 if weak else 2))
    _strong_scaling(axes[0], W, by_name(seconds, (len(W),), "seconds", "method", finite=True))
    _step_parts(axes[1], W, by_name(parts, (len(W),), "seconds", "part", finite=True))
    axes[1].set(ylabel="seconds", title=f"Parts of a step of {parts_of}\n")
    notes = ["workers", *_mark_breaks(axes[1], breaks)]
    if weak:
        for number, (name, y) in enumerate(by_name(weak, (len(W),), "weak scaling", "method").items()):
            axes[2].plot(W, y, label=name, **pen(number))
        axes[2].set(ylabel=weak_label, title="Weak scaling: a batch for each")
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="workers")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(True)
        below = -0.16 - (0.055 * (len(notes) - 1) if ax is axes[1] else 0.0)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=2, fontsize=9)
    axes[1].set_xlabel("\n".join(notes))
    fig.suptitle(title)
    return axes


def _strong_scaling(ax: Any, W: Array, seconds: Mapping[str, Array]) -> None:
    """Seconds of a step by method, and perfect scaling from one worker on."""
    for number, (name, y) in enumerate(seconds.items()):
        ax.plot(W, y, label=name, **pen(number))
        ax.plot(W, y[0] * W[0] / W, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    everything = np.array(list(seconds.values()))
    ax.set_ylim(0.4 * float(everything.min()), 2 * float(everything.max()))
    ax.set(ylabel="seconds a step", title="Strong scaling: one batch, shared")
    ax.plot([], [], color=GREY, linestyle=":", label="perfect")


def _step_parts(ax: Any, W: Array, parts: Mapping[str, Array]) -> None:
    """Parts of a step that are anywhere a thousandth of it."""
    total = sum(parts.values(), start=np.zeros(len(W)))
    shown = {name: y for name, y in parts.items() if (y > 1e-3 * total).any()}
    for number, (name, y) in enumerate(shown.items()):
        look = {**marked_pen(number), "markersize": 4.5}
        if number >= len(COLORS):
            look |= {"color": GREY, "marker": "*"}
        ax.plot(W, np.where(y > 0, y, np.nan), label=name, linewidth=1.4, **look)
    lowest = min(y[y > 0].min() for y in shown.values())
    ax.set_ylim(max(1e-4 * total.min(), 0.3 * lowest), 2 * total.max())


def _mark_breaks(ax: Any, breaks: Mapping[str, int]) -> list[str]:
    """Lines with letters where something stands in the way; return what the letters mean."""
    notes = []
    for letter, (name, at) in zip("abcdefgh", sorted(breaks.items(), key=lambda item: item[1]), strict=False):
        ax.axvline(at, color=GREY, linewidth=1, zorder=1)
        place = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "color": "#444444"}
        ax.annotate(letter, (at, 1.0), xycoords=("data", "axes fraction"), **place)
        notes.append(f"{letter}: from {at:,} on {name}")
    return notes
