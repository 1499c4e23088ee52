"""Pictures of the notebooks: drawing that is not what they are about.

Arrays in, a figure out; what is drawn is computed in the notebooks' cells. Figures that are of use beyond the
course are in ``minikfac.plots``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from minikfac import plots

GREY = "#767676"


@plots.style()
def step_of_a_layer(V: np.ndarray, A: np.ndarray, G: np.ndarray, D: np.ndarray) -> None:
    """The gradient V (I, O) of a layer, the factors A and G, and the step D (I, O)."""
    _, axes = plt.subplots(1, 4, figsize=(10, 3.4), layout="constrained")
    titles = (
        "$A$: second moments\nof the inputs",
        "$V$: the gradient",
        "$G$: second moments\nof the derivatives",
        "$-A^{-1}\\, V\\, G^{-1}$: the step",
    )
    for ax, M, title in zip(axes, (A, V, G, D), titles, strict=True):
        limit = abs(M).max()
        ax.imshow(M, cmap="PuOr_r", vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set(title=title, xticks=[], yticks=[], xlabel=f"{M.shape[0]} × {M.shape[1]}, ±{limit:.2g}")
        ax.spines[:].set_visible(True)


@plots.style()
def race(losses: Mapping[str, Sequence[Sequence[float]]], target: float) -> None:
    """Training loss against steps: a thin line per seed, their median thick, by name of the contender."""
    _, ax = plt.subplots(figsize=(10, 4.6), layout="constrained")
    for number, (name, runs) in enumerate(losses.items()):
        color, dash = plots.COLORS[number], ("-", "--", "-.", ":")[number % 4]
        for run in runs:
            ax.plot(range(1, len(run) + 1), run, color=color, linewidth=0.9, alpha=0.5)
        longest = max(map(len, runs))
        filled = [[*run, *[run[-1]] * (longest - len(run))] for run in runs]
        median = np.median(filled, axis=0)
        ax.plot(range(1, longest + 1), median, dash, color=color, linewidth=2.6, label=name)
    ax.axhline(target, color="black", linewidth=1, linestyle=":")
    ax.set(yscale="log", xlabel="steps", ylabel="training loss (nats)", ylim=(0.8 * target, 3))
    ax.set_title("thick: median of the seeds, thin: each seed; dotted: the target")
    ax.grid(True)
    ax.legend()


@plots.style()
def arrivals(steps: Mapping[str, Sequence[float]], limit: int) -> None:
    """Steps to the target, a dot per seed and a bar at the median; inf stands at the right edge."""
    _, ax = plt.subplots(figsize=(10, 1.2 + 0.42 * len(steps)), layout="constrained")
    late = 1.15 * limit
    for row, (name, counts) in enumerate(steps.items()):
        color = plots.COLORS[0 if "K-FAC" in name else 1]
        at = np.minimum(counts, late)
        spread = row + 0.22 * (np.arange(len(at)) - (len(at) - 1) / 2) / max(1, len(at) - 1)
        ax.plot(at, spread, "o", color=color, fillstyle="none", markersize=7)
        ax.plot([min(np.median(counts), late)] * 2, [row - 0.35, row + 0.35], color=color, linewidth=3)
    ax.axvline(limit, color=GREY, linewidth=1, linestyle=":")
    ax.set(
        yticks=range(len(steps)), yticklabels=list(steps), xlabel="steps to the target", xlim=(0, 1.2 * limit)
    )
    ticks = range(0, limit + 1, 20)
    ax.set_xticks([*ticks, late], [*map(str, ticks), "not\nthere"])
    ax.invert_yaxis()
    ax.grid(True, axis="x")
    ax.set_title("each seed a ring, the bar their median")


@plots.style()
def curvature_ratios(ratios: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Curvature of F along the step over that of K-FAC's matrix, against steps; a line per seed."""
    _, ax = plt.subplots(figsize=(10, 4.2), layout="constrained")
    for number, (name, runs) in enumerate(ratios.items()):
        pen = {"color": plots.COLORS[number], "linestyle": ("-", "--", "-.", ":")[number % 4]}
        for k, run in enumerate(runs):
            label = name if k == 0 else None
            ax.plot(range(1, len(run) + 1), run, linewidth=1.4, alpha=0.8, label=label, **pen)
    ax.axhline(1, color="black", linewidth=1)
    ax.set(yscale="log", xlabel="step", ylabel=r"$v^\top F v \;/\; v^\top(\tilde F + \mathrm{damping})\, v$")
    ax.set_title("Curvature along K-FAC's step: by the exact Fisher matrix over by K-FAC's own")
    ax.grid(True)
    ax.legend()
