"""Pictures and tables of the notebooks, and the bookkeeping of races: what they are not about.

Arrays in, a figure or printed lines out; what is shown is computed in the notebooks' cells. Figures that are
of use beyond the course are in ``minikfac.plots``.
"""

from __future__ import annotations

import copy
import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import ScalarFormatter

from minikfac import plots
from minikfac.plots.matrices import pool_magnitudes

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


def live(draw: Callable[[float], None], name: str, values: Sequence[float], shown: float) -> None:
    """A slider that redraws while it is dragged; a saved notebook, which cannot, gets one picture."""
    if os.environ.get("MINIKFAC_SAVED_RUN"):
        draw(shown)
        return
    from ipywidgets import SelectionSlider, interact

    def position(value: float) -> None:
        draw(value)
        plt.show()

    options = [(f"{value:.3g}", value) for value in values]
    nearest = min(values, key=lambda value: abs(value - shown))
    interact(position, value=SelectionSlider(options=options, value=nearest, description=name))


@plots.style()
def kronecker_in_numbers(X: np.ndarray, Y: np.ndarray) -> None:
    """X, Y and their Kronecker product with their numbers, and the grid of the copies of Y."""
    product = np.kron(X, Y)
    widths = [len(X) + 1, len(Y) + 1, len(product)]
    _, axes = plt.subplots(1, 3, figsize=(10, 4.3), width_ratios=widths, layout="constrained")
    titles = ("$X$", "$Y$", r"$X \otimes Y$: four copies of $Y$, each times an entry of $X$")
    for ax, M, title in zip(axes, (X, Y, product), titles, strict=True):
        limit = 1.3 * abs(M).max()
        ax.imshow(M, cmap="PuOr_r", vmin=-limit, vmax=limit)
        for (row, column), value in np.ndenumerate(M):
            ax.text(column, row, f"{value:g}".replace("-", "−"), ha="center", va="center", fontsize=13)
        ax.set(title=title, xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    for line in range(len(Y), len(product), len(Y)):
        axes[2].axhline(line - 0.5, color="black", linewidth=2)
        axes[2].axvline(line - 0.5, color="black", linewidth=2)


@plots.style()
def activations_and_derivatives(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """A scatter per pair (a, g), with the mean of the product and the product of the means."""
    _, axes = plt.subplots(1, len(pairs), figsize=(10, 3.9), layout="constrained", squeeze=False)
    for ax, (title, (a, g)) in zip(axes[0], pairs.items(), strict=True):
        both, apart = (a**2 * g**2).mean(), (a**2).mean() * (g**2).mean()
        ax.plot(a, g, ".", markersize=4, alpha=0.4)
        ax.axhline(0, color="black", linewidth=1)
        means = f"E[a²g²] = {both:.2g}\nE[a²] E[g²] = {apart:.2g}"
        ax.set(title=f"{title}\n{means}", xlabel="activation a")
    axes[0, 0].set_ylabel("derivative g")


@plots.style()
def formula_and_error(errors: np.ndarray, formulas: Mapping[str, np.ndarray]) -> None:
    """K-FAC's error of each entry against what a formula says, a panel per formula."""
    _, axes = plt.subplots(
        1, len(formulas), figsize=(10, 4.4), sharex=True, sharey=True, layout="constrained"
    )
    for ax, (title, values) in zip(axes, formulas.items(), strict=True):
        ax.axline((0, 0), slope=1, color=GREY, linestyle="--", linewidth=1.2)
        ax.plot(values, errors, "o", fillstyle="none", markersize=4, alpha=0.5)
        ax.set(title=title, xlabel="by the formula")
        ax.grid(True)
    axes[0].set_ylabel("error of an entry of A ⊗ G")


@plots.style()
def three_fields(
    grid: np.ndarray, losses: np.ndarray, fields: Mapping[str, np.ndarray], best: np.ndarray
) -> None:
    """Paths along which three rules move over a loss of two parameters; only level lines that close."""
    _, axes = plt.subplots(1, len(fields), figsize=(10, 3.9), sharey=True, layout="constrained")
    edge = min(losses[0].min(), losses[-1].min(), losses[:, 0].min(), losses[:, -1].min())
    levels = np.linspace(losses.min(), edge, 7)[1:]
    for ax, (title, field) in zip(axes, fields.items(), strict=True):
        ax.contour(grid[..., 0], grid[..., 1], losses, levels=levels, colors="#555555", linewidths=1)
        x, y = grid[0, :, 0], grid[:, 0, 1]
        ax.streamplot(x, y, field[..., 0], field[..., 1], color="#0072B2", density=0.55, linewidth=1.3)
        ax.plot(*best, "*", color="#D55E00", markersize=15)
        ax.set(title=title, xlabel="slope w", aspect="equal")
    axes[0].set_ylabel("offset b")


@plots.style()
def two_spectra(eigenvalues: Mapping[str, np.ndarray], title: str) -> None:
    """Eigenvalues by rank, on an axis that is logarithmic away from zero and shows negative ones too."""
    _, ax = plt.subplots(figsize=(10, 4.4), layout="constrained")
    for (name, values), dash in zip(eigenvalues.items(), ("-", "--"), strict=True):
        ax.plot(np.arange(1, len(values) + 1), values, dash, label=name)
    ax.axhline(0, color="black", linewidth=1)
    ax.set_yscale("symlog", linthresh=1e-3)
    ax.set(xlabel="rank (1 = largest)", ylabel="eigenvalue (nats per squared weight)", title=title)
    ax.grid(True)
    ax.legend()


@plots.style()
def same_model_in_other_units(
    at: tuple[np.ndarray, np.ndarray],
    losses: np.ndarray,
    paths: Mapping[str, tuple[np.ndarray, np.ndarray]],
    metric: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Paths (k, 2) of a rule in two sets of weights, brought to the first; ellipses of equal divergence."""
    fig, axes = plt.subplots(1, len(paths), figsize=(10, 4.8), layout="constrained", sharey=True)
    angles = np.linspace(0, 2 * np.pi, 73)
    for ax, (name, (first, second)) in zip(axes, paths.items(), strict=True):
        ax.contour(*at, losses, levels=12, colors="#aaaaaa", linewidths=0.8)
        for place in first[:4:3]:  # d with d^T F d constant
            half = np.linalg.cholesky(metric(place))
            ball = 0.25 * np.linalg.solve(half.T, [np.cos(angles), np.sin(angles)])
            ax.fill(*(place[:, None] + ball), color=plots.COLORS[5], alpha=0.5)
        ax.plot(*first.T, "-o", color=plots.COLORS[0], linewidth=5, alpha=0.45, label="in these weights")
        label = "in the other net's weights, brought back"
        ax.plot(*second.T, "--.", color=plots.COLORS[1], label=label)
        ax.set(
            title=name, xlabel="weight 1", xlim=(at[0].min(), at[0].max()), ylim=(at[1].min(), at[1].max())
        )
    axes[0].set_ylabel("weight 2")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    fig.suptitle("Logistic regression, two weights: the same model in other units")


@plots.style()
def losses_at_equal_divergence(divergences: np.ndarray, losses: Mapping[str, Sequence[float]]) -> None:
    """The loss along several directions, against how much each changes the predictions."""
    _, ax = plt.subplots(figsize=(10, 4.2), layout="constrained")
    for (name, values), dash in zip(losses.items(), ("-.", "--", "-"), strict=True):
        ax.plot(divergences, values, dash, label=name)
    ax.set(xlabel="change of the predictions: ½ dᵀFd (nats)", ylabel="loss (nats)")
    ax.set_title("Three directions, the same change of the predictions")
    ax.grid(True)
    ax.legend()


@plots.style()
def patches(image: np.ndarray, pixels: np.ndarray) -> None:
    """An image (H, W), and the 3 x 3 patches (H W, 9) around its pixels with a line between them."""
    height, width = image.shape
    tiles = np.full((4 * height, 4 * width), np.nan)
    for t, patch in enumerate(pixels):
        row, column = divmod(t, width)
        tiles[4 * row : 4 * row + 3, 4 * column : 4 * column + 3] = patch.reshape(3, 3)
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
    left.imshow(image, cmap="Greys", vmin=0, vmax=1)
    left.set(title=f"an image, {height} × {width}", xticks=[], yticks=[])
    right.imshow(tiles[:-1, :-1], cmap="Greys", vmin=0, vmax=1)
    right.set(title=f"its {len(pixels)} patches $\\bar a_t$, 3 × 3 each", xticks=[], yticks=[])
    right.set_facecolor("lightskyblue")  # the lines
    for ax in (left, right):
        ax.spines[:].set_visible(True)


@plots.style()
def two_units(values: Mapping[str, np.ndarray], conditions: Mapping[str, float]) -> None:
    """Two activations (N, 2) against each other, a panel per parametrization, with the condition number."""
    _, axes = plt.subplots(1, len(values), figsize=(10, 3.3), layout="constrained", sharex=True, sharey=True)
    for ax, (name, pairs) in zip(axes, values.items(), strict=True):
        ax.plot(*pairs.T, ".", markersize=3, alpha=0.4)
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.axvline(0, color=GREY, linewidth=0.8)
        ax.set(title=f"{name}, κ = {conditions[name]:.3g}", xlabel="one unit", aspect="equal")
    axes[0].set_ylabel("another one")


@plots.style()
def gaps(values: Mapping[str, float], rounding: float) -> None:
    """How far two equivalent nets have parted, a row per variant; circles are rounding errors."""
    _, ax = plt.subplots(figsize=(10, 1.4 + 0.34 * len(values)), layout="constrained")
    for row, value in enumerate(values.values()):
        number = int(value > rounding)
        ax.hlines(row, 1e-16, value, color="#bbbbbb")
        ax.plot(value, row, "os"[number], color=plots.COLORS[number], markersize=9)
    ax.axvline(rounding, color="black", linestyle="--", linewidth=1)
    ax.set(xscale="log", xlim=(1e-16, 10), xlabel="gap: distance / distance moved, after 5 steps")
    ax.set_yticks(range(len(values)), list(values))
    ax.invert_yaxis()


@plots.style()
def along_the_proposal(panels: Mapping[str, tuple[Any, Any, Any, float, float]]) -> None:
    """Objective and model along a direction: factors, both curves, the model's best factor, h there."""
    fig, axes = plt.subplots(1, len(panels), figsize=(10, 4), layout="constrained", sharey=True)
    for ax, (title, (factors, objective, model, best, at_best)) in zip(axes, panels.items(), strict=True):
        ax.plot(factors, objective, label="objective h")
        ax.plot(factors, model, "--", label="model M")
        ax.plot(best, at_best, "o", color="black", label="h at the model's minimum")
        ax.axvline(1, color=GREY, linestyle=":", label="the proposal as it is, α = 1")
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(title=title, xlabel="factor α in front of Δ", ylim=(-0.15, 0.3))
    axes[0].set_ylabel("change of h (nats)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


@plots.style()
def two_directions(
    alphas: np.ndarray, mus: np.ndarray, M: np.ndarray, best: tuple[float, float], alone: float
) -> None:
    """The quadratic model over two factors, its minimum, and that without momentum."""
    fig, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
    fig.colorbar(ax.contourf(alphas, mus, M, 20, cmap="Greys_r"), label="M (nats)")
    ax.plot(*best, "o", color=plots.COLORS[1], markersize=10, label="minimum: α and μ")
    ax.plot(alone, 0, "s", color=plots.COLORS[0], markersize=9, label="minimum without momentum")
    ax.axhline(0, color=plots.COLORS[0], linestyle="--")
    ax.set(xlabel="α, factor in front of Δ", ylabel=r"μ, factor in front of the last step $\delta_0$")
    ax.set_title("The quadratic model in two directions")
    ax.legend(loc="upper right", frameon=True)


@plots.style()
def dampings_and_ratios(trace: Sequence[Mapping[str, float]]) -> None:
    """What K-FAC's steps report: both dampings, the reduction ratio, and alpha and mu."""
    _, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    step = np.arange(1, len(trace) + 1)
    axes[0].plot(step, [row["lam"] for row in trace], label="λ", drawstyle="steps-post")
    axes[0].plot(step, [row["gamma"] for row in trace], "--", label="γ", drawstyle="steps-post")
    axes[0].set(yscale="log", title="dampings")
    checked = [k for k, row in enumerate(trace) if "rho" in row]
    axes[1].plot(step[checked], [trace[k]["rho"] for k in checked], "o", markersize=4, label="ρ")
    axes[1].axhspan(0.25, 0.75, color="#dddddd", label="λ stays")
    axes[1].set(title="reduction ratio")
    axes[2].plot(step, [row["alpha"] for row in trace], label="α")
    axes[2].plot(step[1:], [row["mu"] for row in trace[1:]], "--", label="μ")
    axes[2].set(title="factors α and μ")
    for ax in axes:
        ax.set_xlabel("step")
        ax.grid(True)
        ax.legend()


@plots.style()
def losses_by_step(
    runs: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], level: float, title: str
) -> None:
    """Training losses (steps, losses): a thin line per seed, the median of the seeds thick."""
    _, ax = plt.subplots(figsize=(10, 4.6), layout="constrained")
    for number, (name, seeds) in enumerate(runs.items()):
        color, dash = plots.COLORS[number], ("-", "--", "-.", ":")[number % 4]
        for steps, losses in seeds:
            ax.plot(steps, losses, color=color, linewidth=0.8, alpha=0.5)
        median = np.median([losses for _, losses in seeds], axis=0)
        ax.plot(seeds[0][0], median, dash, color=color, linewidth=2.6, label=name)
    ax.axhline(level, color="black", linewidth=1, linestyle=":")
    ax.set(yscale="log", xlabel="steps", ylabel="training loss (nats)")
    if max(losses.max() for _, losses in seeds) < 20 * level:  # a decade or so has too few powers of ten
        ax.yaxis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_formatter(ScalarFormatter())
    ax.set_title(f"{title}; thick: median, thin: each seed; dotted: {level:g} nats")
    ax.grid(True)
    ax.legend()


@plots.style()
def scales_and_products(products: np.ndarray, scales: np.ndarray) -> None:
    """Second moments of the gradient in the eigenbasis against K-FAC's eigenvalues, a dot per direction."""
    _, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    limits = np.array([1e-6, 2 * products.max()])
    ax.loglog(products, scales, ".", markersize=4)
    ax.plot(limits, limits, "--", color=plots.COLORS[1], label="equal")
    ax.set(
        xlim=limits, ylim=limits, xlabel="K-FAC's eigenvalue, a γ", ylabel="mean square of the gradient, s"
    )
    ax.set_title(f"{len(products)} directions of one layer")
    ax.legend()


@plots.style()
def sums_of_products(errors: np.ndarray) -> None:
    """Relative error of the best sum of 1, 2, ... Kronecker products."""
    _, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    ax.plot(np.arange(1, len(errors) + 1), errors, "o-")
    ax.set(xlabel="number of Kronecker products in the sum", ylabel="relative error", ylim=(0, None))
    ax.set_xticks([1, *range(5, len(errors) + 1, 5)])
    ax.grid(True)


@plots.style()
def singular_values(before: np.ndarray, after: np.ndarray) -> None:
    """Singular values of a gradient, and of what Newton-Schulz makes of it."""
    _, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
    ranks = np.arange(1, len(before) + 1)
    ax.semilogy(ranks, before, "o-", label="gradient, scaled to norm 1")
    ax.semilogy(ranks, after, "s-", label="after Newton-Schulz")
    ax.axhline(1, color=GREY, linestyle=":", label=r"exact $U V^\top$")
    ax.set(xlabel="rank (1 = largest)", ylabel="singular value", xticks=[1, *range(5, len(before) + 1, 5)])
    ax.set_title("A gradient, and Muon's step")
    ax.grid(True)
    ax.legend()


@plots.style()
def noise_by_batch(sizes: np.ndarray, noise: Mapping[str, tuple[np.ndarray, np.ndarray, float]]) -> None:
    """Squared errors (sizes, draws) of batches' gradients, and their formula, over the squared length."""
    _, ax = plt.subplots(figsize=(10, 4.6), layout="constrained")
    for number, (name, (squares, formula, square)) in enumerate(noise.items()):
        ax.plot(sizes, squares.mean(1) / square, "os"[number], color=plots.COLORS[number], label=name)
        (line,) = ax.plot(sizes, formula / square, "k:")
    line.set_label("the formula of section 1")
    ax.axhline(1, color=GREY, linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="examples in the batch, m", ylabel="noise / signal")
    ax.set_title("Squared error of the batch's gradient over its squared length")
    ax.set_xticks(sizes, [str(m) for m in sizes])
    ax.minorticks_off()
    ax.legend()


@plots.style()
def step_against_damping(
    lams: np.ndarray, panels: Mapping[str, Mapping[str, np.ndarray]], highest: float
) -> None:
    """Four panels against damping, a curve per matrix; the lower two, of progress, have one scale."""
    fig, axes = plt.subplots(2, 2, figsize=(10, 7.4), layout="constrained", sharex=True)
    for ax, (title, curves) in zip(axes.flat, panels.items(), strict=True):
        for number, (name, values) in enumerate(curves.items()):
            pen = {"color": plots.COLORS[number], "marker": "os^D"[number], "markersize": 4}
            ax.plot(lams, values.clip(-2), label=name, **pen)
        ax.set(xscale="log", title=title)
        ax.grid(True)
    axes[0, 0].set_yscale("log")
    for ax in axes[1]:
        ax.set(ylim=(-0.5 * highest, 1.1 * highest), xlabel="damping λ")
        ax.axhline(0, color=GREY, linewidth=1)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


@plots.style()
def damped_step(
    at: tuple[np.ndarray, np.ndarray],
    losses: np.ndarray,
    start: np.ndarray,
    lams: np.ndarray,
    steps: np.ndarray,
    progress: np.ndarray,
    lam: float,
) -> None:
    """Left, where one step leads as its damping grows, and at this lambda; right, what it improves."""
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    left.contour(*at, np.sqrt(losses - losses.min()), levels=14, colors="#aaaaaa", linewidths=0.8)
    now = np.abs(np.log(lams / lam)).argmin()
    left.plot(*(start + steps).T, color=plots.COLORS[0], linewidth=1.2)
    left.plot(*(start + steps[now]), "o", color=plots.COLORS[0], markersize=9)
    left.plot(*start, "o", color="white", markeredgecolor="black", markersize=8)
    left.set(xlim=at[0].flat[[0, -1]], ylim=at[1].flat[[0, -1]], xlabel="weight 1", ylabel="weight 2")
    left.set_title(f"from the white point, λ = {lam:.2g}")
    right.plot(lams, progress.clip(-2), color=plots.COLORS[0])
    right.plot(lams[now], progress[now].clip(-2), "o", color=plots.COLORS[0], markersize=9)
    right.axhline(0, color=GREY, linewidth=1)
    top = progress.max()
    right.set(
        xscale="log", ylim=(-0.6 * top, 1.1 * top), xlabel="damping λ", ylabel="decrease of the loss (nats)"
    )
    right.grid(True)


@plots.style()
def eigenvalues_and_surplus(
    plain: np.ndarray, damped: Mapping[str, np.ndarray], pis: np.ndarray, surplus: np.ndarray, pi: float
) -> None:
    """Left, what damping makes of each eigenvalue; right, the trace of the surplus of factored damping."""
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for number, (name, values) in enumerate(damped.items()):
        pen = {"color": plots.COLORS[number + 1], "markersize": 4, "alpha": 0.7}
        left.plot(plain.clip(1e-4), values, "os^"[number], label=name, **pen)
    left.plot([1e-4, plain.max()], [1e-4, plain.max()], color=GREY, linewidth=1, label="no damping")
    left.set(xscale="log", yscale="log", xlabel="eigenvalue of A ⊗ G", ylabel="with damping")
    left.legend()
    right.plot(pis, surplus, color="black")
    right.axvline(pi, color=plots.COLORS[2], linestyle="--")
    right.axvline(1, color=plots.COLORS[3], linestyle=":")
    right.set(xscale="log", xlabel="π", ylabel="trace of the surplus", ylim=(0, surplus.max()))
    right.set_title(f"dashed: π = {pi:.2f} by the formula; dotted: π = 1")


@plots.style()
def by_step(panels: Mapping[str, Mapping[str, Sequence[float]]], log: Sequence[str] = ()) -> list[Any]:
    """Curves against steps, a panel per quantity; those named in ``log`` have a logarithmic axis."""
    fig, axes = plt.subplots(1, len(panels), figsize=(10, 3.9), layout="constrained")
    for ax, (title, curves) in zip(axes, panels.items(), strict=True):
        for number, (name, values) in enumerate(curves.items()):
            pen = {"color": plots.COLORS[number], "linestyle": ("-", "--", "-.", ":")[number]}
            ax.plot(values, label=name, marker="o" if len(values) < 20 else None, markersize=5, **pen)
        ax.set(title=title, xlabel="step", yscale="log" if title in log else "linear")
        ax.grid(True)
    handles, names = axes[0].get_legend_handles_labels()
    if len(names) > 1:
        fig.legend(handles, names, loc="outside lower center", ncols=len(names))
    return list(axes)


@plots.style()
def outer_product(abar: np.ndarray, g: np.ndarray) -> None:
    """abar (I,), g (O,) and abar g^T (I, O) with their values."""
    limit = max(abs(abar).max(), abs(g).max(), abs(np.outer(abar, g)).max())
    parts = [abar[:, None], g[None], np.outer(abar, g)]
    titles = [r"$\bar a$: what goes in", r"$g$: derivative, what comes out", r"gradient $\bar a\, g^\top$"]
    _, axes = plt.subplots(1, 3, figsize=(10, 4.2), width_ratios=[1, 2.2, 2.2], layout="constrained")
    for ax, M, title in zip(axes, parts, titles, strict=True):
        ax.imshow(M, cmap="PuOr_r", vmin=-limit, vmax=limit)
        for (row, column), value in np.ndenumerate(M):
            color = "white" if abs(value) > 0.6 * limit else "black"
            ax.text(column, row, f"{value:.2f}".replace("-", "−"), ha="center", va="center", color=color)
        ax.set(title=title, xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    inputs = range(len(abar) - 1)
    axes[0].set_yticks(range(len(abar)), [*(f"input {i}" for i in inputs), "constant 1"])
    axes[2].set_yticks(range(len(abar)), [*(f"weights of {i}" for i in inputs), "bias"])
    axes[2].set_xticks(range(len(g)), [f"unit {o}" for o in range(len(g))])


@plots.style()
def matrix_and_inverse(pairs: Mapping[str, np.ndarray], sizes: Sequence[int], names: Sequence[str]) -> None:
    """Each matrix in absolute values, and beside it the means of its blocks, relative to all entries."""
    _, axes = plt.subplots(1, 2 * len(pairs), figsize=(10, 3.3), layout="constrained")
    for left, right, (title, M) in zip(axes[::2], axes[1::2], pairs.items(), strict=True):
        grey = pool_magnitudes(M, 8)
        left.imshow(grey, cmap="Greys", vmax=np.percentile(grey, 93))
        middles = (np.cumsum(sizes) - np.array(sizes) / 2) / 8
        left.set(xticks=middles, yticks=middles, xticklabels=names, yticklabels=names)
        left.set(title=title, xlabel="layer")
        plots.block_means(M / abs(M).mean(), sizes, names, unit="means of all", ax=right)
        right.set_title("block means")


@plots.style()
def three_in_a_row(
    x1: np.ndarray, x2: np.ndarray, x3: np.ndarray, rest3: np.ndarray, rest1: np.ndarray
) -> None:
    """Draws of a chain: all of them, with x2 fixed, and what x2 does not explain."""
    _, axes = plt.subplots(1, 3, figsize=(10, 3.8), layout="constrained")
    axes[0].plot(x3, x1, ".", markersize=3, alpha=0.4)
    axes[0].set(title="all draws", xlabel="$x_3$", ylabel="$x_1$")
    for centre, color, marker in zip((-1.2, 0, 1.2), plots.COLORS[:3], "o^s", strict=True):
        chosen = abs(x2 - centre) < 0.1
        label = f"$x_2 \\approx {centre}$"
        axes[1].plot(x3[chosen], x1[chosen], marker, color=color, markersize=4, alpha=0.6, label=label)
    axes[1].set(title="with $x_2$ fixed", xlabel="$x_3$", ylabel="$x_1$")
    axes[1].legend(loc="lower right", fontsize=9, handletextpad=0.2)
    axes[2].plot(rest3, rest1, ".", markersize=3, alpha=0.4)
    axes[2].set(title="what $x_2$ does not explain", xlabel="rest of $x_3$", ylabel="rest of $x_1$")
    for ax in axes:
        ax.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")


@plots.style()
def numbers(matrices: Mapping[str, np.ndarray]) -> None:
    """Small matrices with their numbers, rows and columns x1, x2, ..."""
    _, axes = plt.subplots(1, len(matrices), figsize=(3.4 * len(matrices), 3.4), layout="constrained")
    for ax, (title, M) in zip(axes, matrices.items(), strict=True):
        limit = abs(M).max()
        ax.imshow(M, cmap="PuOr_r", vmin=-limit, vmax=limit)
        for (row, column), value in np.ndenumerate(M):
            text = f"{value if abs(value) > 1e-12 else 0:.2f}".replace("-", "−")
            color = "white" if abs(value) > 0.6 * limit else "black"
            ax.text(column, row, text, ha="center", va="center", color=color)
        labels = [f"$x_{i + 1}$" for i in range(len(M))]
        ax.set(xticks=range(len(M)), yticks=range(len(M)), xticklabels=labels, yticklabels=labels)
        ax.set_title(title)


def lines_of_code(functions: Sequence[Callable[..., Any]]) -> int:
    """Print and return how many lines functions have together, without docstrings and empty lines."""
    sources = {function.__name__: inspect.getsource(function).splitlines() for function in functions}
    counts = {
        name: sum(bool(line.strip()) and '"""' not in line for line in lines)
        for name, lines in sources.items()
    }
    print(counts, "together", sum(counts.values()))
    return sum(counts.values())


def batches(data: Any, seed: int, size: int = 500) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Mini-batches in a random order, epoch after epoch."""
    rng = np.random.default_rng([seed, 1])
    while True:
        order = rng.permutation(len(data.x_train))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            yield data.x_train[rows], data.y_train[rows]


class Run(NamedTuple):
    """One run of a race: loss after each step, seconds and notes of each step, steps to the target or inf."""

    losses: list[float]
    seconds: list[float]
    notes: list[Any]
    steps: float


def run(
    step: Callable[..., Any],
    *,
    forward: Callable[..., Any],
    at: Any,
    seed: int,
    target: float,
    limit: int,
    measure: Callable[..., Any] | None = None,
) -> Run:
    """Take steps from a net of this seed until its training loss is below the target, or up to a limit.

    ``step`` takes weights, state, x, y and rng, and returns new weights and state; ``measure`` takes the same
    before each step, with a copy of rng, and what it returns becomes a note.
    """
    Ws, state = at.net.unpack(at.net.init(np.random.default_rng(seed))), None
    rng, done = np.random.default_rng([seed, 2]), Run([], [], [], np.inf)
    x_train, y_train = at.data.x_train, at.data.y_train
    for k, (x, y) in zip(range(1, limit + 1), batches(at.data, seed), strict=False):
        if measure:
            done.notes.append(measure(Ws, state, x, y, copy.deepcopy(rng)))
        began = time.perf_counter()
        Ws, state = step(Ws, state, x, y, rng)
        done.seconds.append(time.perf_counter() - began)
        p = forward(Ws, x_train)[1]
        done.losses.append(-np.log(p[np.arange(len(p)), y_train]).mean())
        if done.losses[-1] < target:
            return done._replace(steps=k)
    return done


def runs(step: Callable[..., Any], *, seeds: Sequence[int], **how: Any) -> list[Run]:
    """A run per seed; see :func:`run`."""
    return [run(step, seed=seed, **how) for seed in seeds]


def step_of(opt: Any, net: Any) -> Callable[..., Any]:
    """A step of an optimizer of the library on a list of weights, for :func:`run`."""

    def step(Ws: Any, state: Any, x: np.ndarray, y: np.ndarray, rng: Any) -> tuple[Any, Any]:
        theta = net.pack(Ws)
        theta, state, _ = opt.step(theta, state or opt.init(theta), (x, y), rng)
        return net.unpack(theta), state

    return step


def print_arrivals(steps: Mapping[str, Sequence[float]], limit: int) -> None:
    """Median and range of the steps to the target."""
    for name, counts in steps.items():
        summary = f"{np.median(counts):.0f} steps ({min(counts)} to {max(counts)})"
        if min(counts) == np.inf:
            summary = f"no seed in {limit} steps"
        print(f"{name:>{max(map(len, steps))}}: {summary}")


def print_seconds(runs: Mapping[str, Sequence[Run]]) -> None:
    """Milliseconds of a step, and seconds to the target, medians."""
    for name, several in runs.items():
        cost = np.median([second for run in several for second in run.seconds])
        total = cost * np.median([run.steps for run in several])
        print(f"{name:>20}: {1e3 * cost:.1f} ms a step, {total:.3f} s to the target")


def print_distances(
    matrices: Mapping[str, np.ndarray], parts: Sequence[slice]
) -> dict[str, tuple[np.ndarray, float]]:
    """Mean of |M| over blocks by distance, relative to the diagonal ones, and the share beyond neighbours."""
    L, result = len(parts), {}
    for name, M in matrices.items():
        sums = np.array([[abs(M[a, b]).sum() for b in parts] for a in parts])
        means = np.array([np.trace(sums, d) / (L - d) for d in range(L)])
        share = (sums - sum(np.diag(np.diag(sums, d), d) for d in (-1, 0, 1))).sum() / sums.sum()
        result[name] = means / means[0], float(share)
        print(
            f"{name:>27}: {(means / means[0]).round(2)} at distance 0, 1, ...; beyond neighbours {share:.0%}"
        )
    return result


def print_errors(
    what: str, M: np.ndarray, near: Mapping[str, np.ndarray], parts: Sequence[slice]
) -> dict[str, tuple[float, float]]:
    """Relative Frobenius distances from M: of the whole, and of the diagonal blocks alone."""
    on_diagonal = np.zeros(M.shape, dtype=bool)
    for part in parts:
        on_diagonal[part, part] = True
    norm, errors = np.linalg.norm, {}
    for name, other in near.items():
        whole, blocks = norm(M - other) / norm(M), norm((M - other)[on_diagonal]) / norm(M[on_diagonal])
        errors[name] = float(whole), float(blocks)
        print(f"distance from {what}: {name:>5} {whole:5.1%}, diagonal blocks {blocks:5.1%}")
    return errors


def print_quality(rows: Sequence[Mapping[str, Any]]) -> None:
    """What a quality table says of whole matrices, a line for each."""
    for row in rows:
        print(
            f"{row['approximation']:>25}: error {row['error']:.2f}, cosine {row['step_cosine']:.2f}, "
            f"share {row['share']:.2f}, CG iterations {row['cg_iterations']:.0f}"
        )


def print_losses(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], steps: Sequence[int]
) -> dict[str, list[float]]:
    """Print and return the losses of runs after some of their steps."""
    by_step = {name: {row["step"]: row["loss"] for row in records} for name, records in runs.items()}
    losses = {name: [values[step] for step in steps] for name, values in by_step.items()}
    for name, values in losses.items():
        print(f"{name:>18}: loss after {', '.join(map(str, steps))} steps: {np.round(values, 4)}")
    return losses
