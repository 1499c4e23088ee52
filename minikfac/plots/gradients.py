"""The Fisher matrix as what it is: the covariance of sampled gradients, and the metric of KL divergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .checks import checked, positive
from .style import BLACK, BLUE, GREEN, GREY, SKY, VERMILLION, axes_for, labelled, new_figure, style
from .ticks import short

DIVERGENCE = 0.01
"""Of the ellipse of updates, in nats; the outer one is four times it."""


@style()
def gradient_scatter(
    samples: Any, covariance: Any, *, names: Sequence[str] = ("$w_1$", "$w_2$")
) -> list[Any]:
    """Draw sampled gradients of two weights with the Fisher ellipse, and the updates of equal divergence.

    Left: gradients of the log-likelihood for targets drawn from the model, and the ellipses of one and two
    standard deviations of N(0, F): {u : u^T F^{-1} u = 1, 4}. Right: the steps d with 1/2 d^T F d =
    0.01 nats, the ellipse of F^{-1}: short where gradients are long.

    Args:
        samples: (n, 2), gradients of single examples (nats per weight).
        covariance: F (2, 2), the exact Fisher matrix of the two weights.
        names: of the two weights.

    Returns:
        The two axes.
    """
    samples = checked(samples, ("n", 2), "samples")
    F = checked(covariance, (2, 2), "covariance", finite=True)
    values, vectors = np.linalg.eigh(F)
    if values[0] <= 0:
        raise ValueError(f"expected a positive definite covariance, got eigenvalues {values}")
    left, right = new_figure(5.9).subplots(1, 2)
    circle = np.array([np.cos(angles := np.linspace(0, 2 * np.pi, 200)), np.sin(angles)])

    for radius, dash in ((1, "-"), (2, "--")):
        left.plot(*vectors @ (np.sqrt(values)[:, None] * circle) * radius, dash, color=BLUE)
    reach = 1.05 * max(2 * np.sqrt(np.diag(F)).max(), float(np.percentile(np.abs(samples), 99)))
    outside = int((np.abs(samples) > reach).any(axis=1).sum())
    left.plot(*samples.T, ".", color=SKY, markersize=5, alpha=0.7, zorder=1)
    drawn = f"{len(samples):,} sampled gradients" + (f" ({outside} outside)" if outside else "")
    left.set_title(f"{drawn}\nellipses: $F$, 1 and 2 standard deviations")
    left.set_xlabel(f"derivative for {names[0]} (nats per unit)")
    left.set_ylabel(f"derivative for {names[1]} (nats per unit)")

    for factor, dash in ((1, "-"), (4, "--")):
        d = vectors @ (np.sqrt(2 * factor * DIVERGENCE / values)[:, None] * circle)
        right.plot(*d, dash, color=VERMILLION)
    levels = f"{short(DIVERGENCE)} and {short(4 * DIVERGENCE)}"
    right.set_title(f"Steps of KL {levels} nats\nellipses: $F^{{-1}}$")
    right.set_xlabel(f"change of {names[0]}")
    right.set_ylabel(f"change of {names[1]}")
    # the same directions in both pictures, long and short exchanged
    _principal_axes(left, 2 * np.sqrt(values), vectors, reach)
    _principal_axes(right, np.sqrt(8 * DIVERGENCE / values), vectors, 1.5 * float(np.abs(d).max()))
    right.legend(loc="upper right")
    stretch = float(np.sqrt(values[1] / values[0]))
    title = f"Both ellipses are {stretch:.2f} times as long as wide: steps are short where gradients are long"
    left.figure.suptitle(title)
    return [left, right]


def _principal_axes(ax: Any, lengths: Any, vectors: Any, extent: float) -> None:
    """The axes of an ellipse, in a square picture of this half-width."""
    for length, direction, color, name in zip(
        lengths, vectors.T, (GREEN, BLACK), ("low curvature", "high curvature"), strict=True
    ):
        ends = np.outer([-length, length], direction)
        ax.plot(*ends.T, color=color, linewidth=1.5, label=name)
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
    ax.grid(True)


@style()
def kl_against_quadratic(
    lengths: Any,
    differences: Any,
    *,
    floor: float = 1e-16,
    fit: tuple[float, float] | None = None,
    ax: Any | None = None,
) -> Any:
    """Draw |KL(theta || theta + d) - 1/2 d^T F d| against |d|: slope 3, as F is the second derivative.

    Args:
        lengths: (m,), |d| > 0.
        differences: (m,), absolute differences in nats; zeros are left out.
        floor: what rounding leaves, in nats; below it lies nothing but rounding error.
        fit: lengths between which the slope is fitted; else the 1.5 decades from where differences exceed
            30 times the floor.
        ax: axes to draw into.

    Returns:
        The axes.

    Raises:
        ValueError: on shapes that do not fit, or fewer than two points to fit.
    """
    x = positive(lengths, "lengths")
    y = checked(differences, (len(x),), "differences")
    order = np.argsort(x)
    x, y = x[order], np.abs(y[order])
    if fit is None:
        clean = x[y > 30 * floor]
        fit = (float(clean.min()), float(clean.min()) * 10**1.5) if len(clean) else (np.inf, np.inf)
    chosen = (x >= fit[0]) & (x <= fit[1] * (1 + 1e-9)) & (y > 0)
    if chosen.sum() < 2:
        raise ValueError(f"expected at least two lengths in the fit's range {fit}, got {int(chosen.sum())}")
    slope, offset = np.polyfit(np.log(x[chosen]), np.log(y[chosen]), 1)
    ax = axes_for(ax)
    seen = y > 0
    ax.axhspan(y[seen].min() / 10, floor, color="#e6e6e6", zorder=0)
    ax.plot(x[seen & ~chosen], y[seen & ~chosen], "o", color=BLUE, fillstyle="none", label="not in the fit")
    ax.plot(x[chosen], y[chosen], "o", color=BLUE, label="in the fit")
    span = np.array([x[chosen].min(), x[chosen].max()])
    ax.plot(span, np.exp(offset) * span**slope, color=VERMILLION, label=f"fitted slope {slope:.3f}")
    middle = np.sqrt(x[chosen][0] * x[chosen][-1])
    line = np.array([x[0], x[-1]])
    level = np.exp(offset) * middle**slope / 4
    ax.plot(line, level * (line / middle) ** 3, "--", color=GREY, linewidth=1.5, label="slope 3")
    ax.set(xscale="log", yscale="log", ylim=(y[seen].min() / 3, 5 * y[seen].max()))
    ax.text(x[-1], floor / 1.5, "rounding error", ha="right", va="top", color="#555555")
    title = f"KL divergence minus its quadratic form: slope {slope:.2f}"
    xlabel = r"length of the step $|d|$ (Euclidean, in weights)"
    ylabel = r"$|\mathrm{KL} - \frac{1}{2} d^\top F d\,|$ (nats)"
    return labelled(ax, title, xlabel, ylabel, loc="upper left")


@style()
def mean_derivatives(
    model_mean: Any,
    label_mean: Any,
    standard_error: Any | None = None,
    *,
    xlabel: str = "output unit",
    ax: Any | None = None,
) -> Any:
    """Draw the mean of g over examples: zero for the model's own targets, not zero for labels.

    Args:
        model_mean: (units,), mean derivative for targets from the model (nats per unit of pre-activation).
        label_mean: (units,), the same for labels.
        standard_error: (units,), of ``model_mean`` where targets were sampled; bars show two of it.
        xlabel: what the units are.
        ax: axes to draw into.
    """
    model = checked(model_mean, ("units",), "model_mean")
    labels = checked(label_mean, model.shape, "label_mean")
    error = None if standard_error is None else 2 * checked(standard_error, model.shape, "standard_error")
    ax = axes_for(ax)
    places = np.arange(len(model))
    sampled = "targets from the model" + (", bars: 2 standard errors" if error is not None else "")
    ax.bar(places - 0.2, model, 0.38, color=BLUE, label=sampled)
    if error is not None:
        ax.errorbar(places - 0.2, model, error, fmt="none", color="black", capsize=4, elinewidth=1.2)
    ax.bar(places + 0.2, labels, 0.38, color=VERMILLION, hatch="//", edgecolor="white", label="labels")
    ax.axhline(0, color="black", linewidth=1)
    ax.set_xticks(places, [str(unit) for unit in places])
    norms = f"{np.linalg.norm(model):.2g} for targets from the model, {np.linalg.norm(labels):.2g} for labels"
    ax.set(xlabel=xlabel, title=f"Norm of the mean derivative: {norms}")
    ax.set_ylabel("mean of g (nats per unit)")
    ax.legend()
    return ax
