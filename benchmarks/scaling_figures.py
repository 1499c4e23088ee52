"""The figures of ``scaling.py``: measured and predicted steps by number of ranks, and the parts of a step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from minikfac.plots.checks import checked, positive, some
from minikfac.plots.style import COLORS, GREY, axes_for, new_figure, pens, style
from minikfac.plots.ticks import whole_log_ticks


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
    names = [name for name in names if any(run.get(name) for run in runs.values())]
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
    ratios = [
        y / p
        for ranks, seconds, expected in (*strong.values(), *weak.values())
        for W, y, p in zip(ranks, seconds[0], expected, strict=True)
        if W <= cores
    ]
    where = "where each rank has a core"
    fig.suptitle(f"A step takes {np.median(ratios):.2f} times as long as predicted {where} (median)")
    handles, labels = axes[0].get_legend_handles_labels()
    handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1.2))
    fig.legend(handles, [*labels, "predicted"], loc="outside lower center", ncols=5)
    return axes


def _ranks(ax: Any, methods: Mapping[str, tuple[Any, Any, Any]], cores: int) -> None:
    """Measured seconds with their ranges and predicted ones as lines, by method."""
    counts: set[float] = set()
    for name, look in pens(some(dict(methods), "method"), marked=True).items():
        ranks, seconds, predicted = methods[name]
        W = positive(ranks, f"ranks of {name}")
        middle, low, high = checked(seconds, (3, len(W)), f"measured seconds of {name}", finite=True)
        expected = checked(predicted, (len(W),), f"predicted seconds of {name}", finite=True)
        dots = look | {"linestyle": "", "linewidth": 1.5}
        ax.errorbar(W, middle, [middle - low, high - middle], label=name, **dots)
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
