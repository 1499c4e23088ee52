"""Large batches and many workers: steps to a level by size of the batch, and predicted steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from ..backend import Array
from ..races.race import reached
from ..training import History
from .checks import by_name, checked, positive, some
from .races import label
from .style import COLORS, GREY, axes_for, labelled, new_figure, pens, style
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
        for name, look in pens(counts, marked=True).items():
            _ranges(ax, sizes, counts[name], per_step, name, look | {"linestyle": "-"})
            if name in fitted:
                thin = {"color": look["color"], "linewidth": 0.8, "linestyle": "--"}
                ax.plot(sizes, fitted[name] * per_step, zorder=2, **thin)
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
    saved = [
        f"{name} {middle[0] / middle[-1]:.1f} times fewer steps"
        for name, (medians, _, _) in counts.items()
        if len(middle := medians[np.isfinite(medians)])
    ]
    fig.suptitle(f"{sizes[0]:,.0f} to {sizes[-1]:,.0f} examples a step: {', '.join(saved)}\nto {level}")
    return axes


def _ranges(ax: Any, sizes: Array, ranges: Array, per_step: Array, name: str, look: Any) -> None:
    """Medians of one method with bars, and perfect scaling from its first point on."""
    middle, low, high = ranges * per_step
    (reached,) = np.nonzero(np.isfinite(middle))
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

    A method has one dash and one colour, light for the smallest size of the batch and dark for the largest.
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
    ax, looks, waste = axes_for(ax, 5.8), pens(curves), []
    for name, by_size in curves.items():
        to_level = []
        for m, curve in by_size.items():
            x, value = checked(curve, (2, "k"), f"curve of {name} at {m}", finite=True)
            later = x > 0  # a log axis has no 0
            shade = _shade(looks[name]["color"], sizes.index(m), len(sizes))
            ax.plot(x[later], value[later], color=shade, linestyle=looks[name]["linestyle"])
            run = History([{"examples": at, y: one} for at, one in zip(x, value, strict=True)])
            to_level.append(np.nan if level is None else reached(run, y, level, "examples"))
        if len(to_level) > 1 and np.isfinite(to_level[0] + to_level[-1]):
            waste.append(f"{name} {to_level[-1] / to_level[0]:.3g} times the examples")
    if level is not None:
        ax.axhline(level, color=GREY, linewidth=1)
    ax.set(xscale="log", yscale="log")
    whole_log_ticks(ax.yaxis)
    handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    handles += [
        Line2D([], [], color=_shade(GREY, number, len(sizes)), label=f"{m:,} a step")
        for number, m in enumerate(sizes)
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    title = f"{sizes[0]:,} to {sizes[-1]:,} examples a step, each tuned"
    title += f":\n{', '.join(waste)}" * bool(waste)
    return labelled(ax, title, "examples seen", label(y))


def _shade(color: str, number: int, count: int) -> tuple[float, ...]:
    """This colour, lighter for the first of so many and darker for the last."""
    share = number / max(1, count - 1)
    mixed = [
        (c + 0.62 * (1 - 2 * share) * (1 - c)) if share < 0.5 else c * (1.55 - 1.1 * share)
        for c in to_rgb(color)
    ]
    return tuple(mixed)


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
    title: str = "Predicted",
) -> list[Any]:
    """Draw what a cost model predicts: strong scaling, weak scaling, the shares of one method's step.

    Args:
        workers: (k,).
        seconds: of a step of one batch shared by all, (k,) by method.
        parts: of the step of one method, (k,) each; parts that are nowhere a hundredth of it are left out.
        breaks: workers from which something stands in the way, by its name; marked among the shares.
        parts_of: that method, for the titles.
        weak: (k,) by method, where each worker brings a batch of its own; left out if there is none.
        weak_label: what that is.
        title: second line of the figure's title.

    Returns:
        The axes: strong scaling, shares, weak scaling.

    Raises:
        ValueError: on shapes that do not fit.
    """
    W = positive(workers, "workers")
    shared = by_name(seconds, (len(W),), "seconds", "method", finite=True)
    fig = new_figure(8.0)
    places = fig.subplot_mosaic([["strong", "weak" if weak else "strong"], ["parts", "parts"]])
    axes = [places[key] for key in ("strong", "parts", "weak") if key in places]
    everything = np.array(list(shared.values()))
    for name, look in pens(shared).items():
        axes[0].plot(W, shared[name], label=name, **look)
        axes[0].plot(W, shared[name][0] * W[0] / W, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    axes[0].plot([], [], color=GREY, linestyle=":", label="perfect")
    axes[0].set_ylim(0.4 * float(everything.min()), 2 * float(everything.max()))
    axes[0].set(ylabel="seconds a step", title="Strong scaling: one batch, shared")
    axes[0].legend(fontsize="small")
    _shares(axes[1], W, by_name(parts, (len(W),), "seconds", "part", finite=True))
    axes[1].set(ylabel="share of the step", title=f"What a step of {parts_of} is spent on\n")
    if weak:
        for name, y in by_name(weak, (len(W),), "weak scaling", "method").items():
            axes[2].plot(W, y, **pens(weak)[name])
        axes[2].set(ylabel=weak_label, title="Weak scaling: a batch for each")
    for ax in axes:
        ax.set(xscale="log", xlabel="workers")
        if ax is not axes[1]:
            ax.set_yscale("log")
            ax.grid(True)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[1].set_xlabel("\n".join(["workers", *_mark_breaks(axes[1], breaks)]))
    fig.suptitle(f"{_fastest(W, shared, parts_of)}\n{title}")
    return axes


def _fastest(W: Array, seconds: Mapping[str, Array], method: str) -> str:
    """On how many workers a method's step is shortest, and how much that gains."""
    name = method if method in seconds else next(iter(seconds))
    best = int(seconds[name].argmin())
    gain = seconds[name][0] / seconds[name][best]
    return f"{name}'s step is shortest on {W[best]:,.0f} workers, {gain:.0f} times as fast as on {W[0]:,.0f}"


def _shares(ax: Any, W: Array, parts: Mapping[str, Array]) -> None:
    """Parts of a step that are anywhere a hundredth of it, on top of each other."""
    total = sum(parts.values(), start=np.zeros(len(W)))
    shown = {name: y / total for name, y in parts.items() if (y > 1e-2 * total).any()}
    colors = [(*COLORS, GREY)[number % (len(COLORS) + 1)] for number in range(len(shown))]
    ax.stackplot(W, *shown.values(), labels=list(shown), colors=colors, edgecolor="white", linewidth=0.8)
    ax.set(ylim=(0, 1), xlim=(W[0], W[-1]))
    handles, names = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))


def _mark_breaks(ax: Any, breaks: Mapping[str, int]) -> list[str]:
    """Lines with letters where something stands in the way; return what the letters mean."""
    notes = []
    for letter, (name, at) in zip("abcdefgh", sorted(breaks.items(), key=lambda item: item[1]), strict=False):
        ax.axvline(at, color="black", linewidth=1.2)
        place = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "color": "#444444"}
        ax.annotate(letter, (at, 1.0), xycoords=("data", "axes fraction"), **place)
        notes.append(f"{letter}: from {at:,} on {name}")
    return notes
