"""The figures of ``scaling.py``: measured and predicted steps by number of ranks, and the parts of a step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from minikfac.plots.checks import checked, positive, some
from minikfac.plots.style import COLORS, GREY, axes_for, marked_pen, new_figure, style
from minikfac.plots.ticks import short, whole_log_ticks

WAIT = "#dddddd"
"""Colour of a rank that waits."""
Span = tuple[str, float, float]
"""What, begin and end in seconds."""


@style()
def gantt(ranks: Sequence[Sequence[Span]], parts: Sequence[str], title: str) -> Any:
    """Draw what each rank does when in one step.

    Args:
        ranks: spans of each rank; the same words have the same colour on all ranks.
        parts: words that have the first colours, whether they occur or not.
        title: of the picture.

    Raises:
        ValueError: on no ranks, or something that ends before it begins.
    """
    spans = [span for rank in some(ranks, "rank") for span in rank]
    names = list(dict.fromkeys([*parts, *(what for what, _, _ in some(spans, "part of a step"))]))
    first, last = min(begin for _, begin, _ in spans), max(end for _, _, end in spans)
    scale, unit = (1e3, "ms") if last - first < 1 else (1.0, "s")
    ax = axes_for(None, 1.9 + 0.6 * len(ranks))
    for number, rank in enumerate(ranks):
        ax.barh(number, scale * (last - first), color=WAIT, height=0.7)
        for what, begin, end in rank:
            if not begin <= end:
                raise ValueError(
                    f"expected {what} of rank {number} to end after it begins, got {begin} and {end}"
                )
            width, left = scale * (end - begin), scale * (begin - first)
            ax.barh(number, width, left=left, height=0.7, **_fill(names.index(what)))
    ax.set_yticks(range(len(ranks)), [f"rank {number}" for number in range(len(ranks))])
    ax.invert_yaxis()
    ax.set(xlabel=f"{unit} since the step began", title=title)
    ax.set_xlim(0, scale * (last - first))
    drawn = {what for what, _, _ in spans}
    handles = [Patch(label=name, **_fill(number)) for number, name in enumerate(names) if name in drawn]
    handles.append(Patch(facecolor=WAIT, label="other work, or waiting"))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=3)
    return ax


@style()
def step_shares(shares: Mapping[str, Mapping[str, float]], parts: Sequence[str], title: str) -> Any:
    """Draw seconds of a step by part, one bar a run.

    Args:
        shares: seconds by part, by name of the run.
        parts: those that come first and have the first colours.
        title: of the picture.

    Raises:
        ValueError: on no runs.
    """
    runs = some(dict(shares), "run")
    names = list(dict.fromkeys([*parts, *(part for run in runs.values() for part in run)]))
    scale, unit = (1e3, "ms") if max(sum(run.values()) for run in runs.values()) < 1 else (1.0, "s")
    ax = axes_for(None, 1.8 + 0.42 * len(runs))
    left = np.zeros(len(runs))
    for number, part in enumerate(names):
        width = scale * np.array([run.get(part, 0.0) for run in runs.values()])
        if width.any():
            ax.barh(range(len(runs)), width, left=left, label=part, **_fill(number))
        left += width
    ax.set_yticks(range(len(runs)), list(runs))
    ax.invert_yaxis()
    ax.set(xlabel=f"{unit} a step", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


@style()
def predicted_against_measured(predicted: Mapping[str, Any], measured: Mapping[str, Any]) -> Any:
    """Draw measured against predicted seconds of a step, one point a run, with the diagonal.

    Args:
        predicted: (k,) by method.
        measured: the same, medians.

    Raises:
        ValueError: on shapes that do not fit.
    """
    ax = axes_for(None, 5.4, 6.4)
    low, high = np.inf, 0.0
    for number, (name, seconds) in enumerate(some(dict(predicted), "method").items()):
        x = positive(seconds, f"predicted seconds of {name}")
        y = checked(measured[name], (len(x),), f"measured seconds of {name}", finite=True)
        look = {**marked_pen(number), "linestyle": ""}
        ratio = short(float(np.median(y / x)))
        ax.plot(x, y, label=f"{name}: measured / predicted {ratio} (median)", **look)
        low, high = min(low, x.min(), y.min()), max(high, x.max(), y.max())
    ends = [0.6 * low, 1.6 * high]
    ax.plot(ends, ends, color=GREY, linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="predicted seconds a step", ylabel="measured seconds a step")
    ax.grid(True)
    ax.legend(loc="upper left")
    return ax


@style()
def measured_scaling(
    strong: Mapping[str, tuple[Any, Any, Any]], weak: Mapping[str, tuple[Any, Any, Any]], cores: int
) -> list[Any]:
    """Draw measured steps by number of ranks next to predicted ones.

    Args:
        strong: ranks (k,), measured seconds of a step (3, k) (median, lowest, highest) and predicted ones
            (k,), by method, one batch for all.
        weak: the same, a batch for each.
        cores: of the machine; more ranks share them, and are shaded.

    Returns:
        The axes: strong, weak.

    Raises:
        ValueError: on shapes that do not fit.
    """
    fig = new_figure(5.2)
    axes = list(fig.subplots(1, 2))
    _ranks(axes[0], strong, cores)
    _ranks(axes[1], weak, cores)
    axes[0].set_title("Strong scaling: one batch, shared")
    axes[1].set_title("Weak scaling: a batch for each")
    handles, labels = axes[0].get_legend_handles_labels()
    handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1.2))
    fig.legend(handles, [*labels, "predicted"], loc="outside lower center", ncols=5)
    return axes


def _ranks(ax: Any, methods: Mapping[str, tuple[Any, Any, Any]], cores: int) -> None:
    """Measured seconds with their ranges and predicted ones as lines, by method."""
    counts: set[float] = set()
    for number, (name, (ranks, seconds, predicted)) in enumerate(some(dict(methods), "method").items()):
        W = positive(ranks, f"ranks of {name}")
        middle, low, high = checked(seconds, (3, len(W)), f"measured seconds of {name}", finite=True)
        expected = checked(predicted, (len(W),), f"predicted seconds of {name}", finite=True)
        look = {**marked_pen(number), "linestyle": ""}
        ax.errorbar(W, middle, [middle - low, high - middle], label=name, **look)
        ax.plot(W, expected, color=look["color"], linewidth=1.2, linestyle="--")
        counts |= set(W.tolist())
    if max(counts) > cores:
        ax.axvspan(cores * 1.2, max(counts) * 1.3, color="#eeeeee", zorder=0)
        place = {"transform": ax.get_xaxis_transform(), "ha": "right", "va": "bottom"}
        ax.text(max(counts) * 1.28, 0.01, "more ranks than cores", fontsize=10, **place)
    ax.set(xscale="log", yscale="log", xlabel="ranks", ylabel="seconds a step")
    ax.set_xticks(sorted(counts), [f"{count:g}" for count in sorted(counts)])
    ax.xaxis.set_minor_locator(NullLocator())
    whole_log_ticks(ax.yaxis)
    ax.grid(True)


def _fill(number: int) -> dict[str, Any]:
    """Colour of the part of this number, with stripes where colours begin again."""
    return {
        "facecolor": COLORS[number % len(COLORS)],
        "hatch": "//" if number >= len(COLORS) else None,
        "edgecolor": "white",
        "linewidth": 0.5,
    }
