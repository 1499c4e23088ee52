"""Progress of optimizers: over an ill-conditioned valley, and with more or less damping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from .checks import by_name, checked, positive, some
from .style import BLACK, GREY, new_figure, pens, style
from .ticks import short


@style()
def conditioning(
    hessian: Any,
    minimum: Any,
    paths: Mapping[str, Any],
    losses: Mapping[str, Any],
    condition_numbers: Any,
    steps: Mapping[str, Any],
) -> list[Any]:
    """Draw runs on a quadratic of two parameters: paths, losses, and steps against the condition number.

    A method has one colour throughout.

    Args:
        hessian: (2, 2), positive definite.
        minimum: (2,).
        paths: (k + 1, 2) each, theta before and after each step.
        losses: (k + 1,) each, by method; more methods than paths if need be.
        condition_numbers: (m,).
        steps: (m,) each, by method.

    Returns:
        The axes: paths, losses, steps.

    Raises:
        ValueError: on shapes that do not fit, a path without losses, or a Hessian that is not definite.
    """
    fig = new_figure(7.6)
    grid = fig.add_gridspec(2, 2, height_ratios=(1.1, 1))
    axes = [fig.add_subplot(grid[0, :]), fig.add_subplot(grid[1, 0]), fig.add_subplot(grid[1, 1])]
    names = list(dict.fromkeys([*some(dict(losses), "run"), *steps]))
    missing = [name for name in paths if name not in names]
    if missing:
        raise ValueError(f"expected losses of every path, got none of {missing[0]}")
    looks = pens(names, marked=True)  # the same in all pictures
    _valley(axes[0], hessian, minimum, {name: (paths[name], looks[name]) for name in paths})
    runs = by_name(losses, ("k",), "losses", "run", finite=True)
    highest = max(float(run.max()) for run in runs.values())
    for name, run in runs.items():  # zero, but for rounding, has no place on a log axis
        axes[1].plot(np.arange(len(run)), run.clip(1e-12 * highest), **looks[name], markevery=0.1)
    axes[1].set(yscale="log", xlabel="step", ylabel="loss (nats)", title="Loss")
    axes[1].set_ylim(bottom=1e-7 * highest)
    x = positive(condition_numbers, "condition_numbers")
    for name, counts in steps.items():
        y = checked(counts, (len(x),), f"steps of {name}")
        axes[2].plot(x, y, **looks[name])
    axes[2].set(xscale="log", yscale="log", xlabel="condition number", ylabel="steps")
    axes[2].set_title("Steps to a millionth of the loss")
    for ax in axes[1:]:
        ax.grid(True)
    handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    drawn = np.linalg.cond(np.asarray(hessian))  # the condition number of the picture, where it was counted
    at = int(np.abs(np.log(x / drawn)).argmin())
    last = sorted((float(np.asarray(counts)[at]), name) for name, counts in steps.items())
    ends = " against ".join(f"{short(last[place][0])} ({last[place][1]})" for place in (0, -1))
    fig.suptitle(f"Steps with condition number {short(float(x[at]))}: {ends}")
    return axes


def _valley(ax: Any, hessian: Any, minimum: Any, paths: Mapping[str, tuple[Any, Any]]) -> None:
    """Contours of the quadratic, turned so that its valley lies across the picture, and paths."""
    H = checked(hessian, (2, 2), "hessian", finite=True)
    curvatures, U = np.linalg.eigh((H + H.T) / 2)
    if not curvatures[0] > 0:
        raise ValueError(f"expected a positive definite hessian, got eigenvalues {curvatures.tolist()}")
    centre = checked(minimum, (2,), "minimum", finite=True)
    turned = {
        name: ((checked(path, ("k", 2), f"path of {name}", finite=True) - centre) @ U, look)
        for name, (path, look) in some(dict(paths), "path").items()
    }
    # every path begins at the upper left
    first = next(iter(turned.values()))[0][0]
    flip = np.where(first * (-1, 1) < 0, -1.0, 1.0)
    wide, high = (1.15 * max(np.abs(path[:, axis]).max() for path, _ in turned.values()) for axis in (0, 1))
    past = 1.15 * max(float((flip * path)[:, 0].max()) for path, _ in turned.values())  # beyond the minimum
    high = max(high, 1.15 * wide * np.sqrt(curvatures[0] / curvatures[1]))
    a, b = np.meshgrid(np.linspace(-wide, max(0.4 * wide, past), 201), np.linspace(-high, high, 201))
    h = 0.5 * (curvatures[0] * a**2 + curvatures[1] * b**2)
    start = max(0.5 * float(curvatures @ path[0] ** 2) for path, _ in turned.values())
    ax.contour(
        a, b, h, levels=start * np.array([0.001, 0.01, 0.05, 0.2, 0.5, 1, 2]), colors=GREY, linewidths=0.8
    )
    for path, look in turned.values():
        few = len(path) <= 2
        size = {"markersize": 8, "linewidth": 2.2} if few else {"markersize": 4, "linewidth": 1.2}
        ax.plot(*(flip * path).T, **{**look, **size, "zorder": 5 if few else 3})
    ax.plot(0, 0, marker="*", color=BLACK, markersize=14, linestyle="", zorder=6)
    ratio = short(float(curvatures[1] / curvatures[0]))
    ax.set_title(f"One quadratic, condition number {ratio}: contours, paths and the minimum (star)")
    ax.set(xlabel="along the low curvature", ylabel="along the high curvature")


@style()
def improvement_against_damping(
    gammas: Any,
    improvements: Mapping[tuple[str, str], Any],
    *,
    chosen: float | None = None,
    title: str = "One step lowers the objective by",
) -> list[Any]:
    """Draw improvements of the objective against damping, one picture for each use of a proposal.

    All pictures have one scale. What lies below 0 harms; how much is not shown.

    Args:
        gammas: (m,), strengths.
        improvements: (m,) each, in nats, by matrix and use; -inf where the objective is not finite.
        chosen: the strength that K-FAC had at this iterate, marked by a line.
        title: which step it is; the best of all curves is added.

    Returns:
        The axes, one for each use of a proposal.

    Raises:
        ValueError: on shapes that do not fit, or if nothing improves.
    """
    x = positive(gammas, "gammas")
    curves = {
        key: checked(values, (len(x),), f"improvements of {', '.join(key)}")
        for key, values in some(dict(improvements), "curve").items()
    }
    highest = max(float(values.max()) for values in curves.values())
    if not highest > 0:
        raise ValueError(f"expected an improvement above 0 somewhere, got {highest:.3g} at most")
    matrices, uses = (list(dict.fromkeys(key[part] for key in curves)) for part in (0, 1))
    fig = new_figure(5.2)
    axes = list(np.atleast_1d(fig.subplots(1, len(uses), sharey=True)))
    looks = pens(matrices, marked=True)
    for ax, use in zip(axes, uses, strict=True):
        for (matrix, used), values in curves.items():
            if used == use:  # far enough below the picture for a line to leave it
                drawn = values.clip(-10 * highest)
                ax.plot(x, drawn, **{"linewidth": 1.6, **looks[matrix]})
        ax.axhline(0, color=GREY, linewidth=1)
        if chosen is not None:
            ax.axvline(chosen, color=GREY, linestyle=":", linewidth=1.2)
        ax.set(xscale="log", title=use.capitalize(), xlabel=r"damping $\gamma = \sqrt{\lambda}$")
        ax.set_ylim(-0.08 * highest, 1.06 * highest)
        ax.grid(True)
    axes[0].set_ylabel("decrease of the objective (nats)")
    handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    if chosen is not None:
        handles.append(Line2D([], [], color=GREY, linestyle=":", label=r"$\gamma$ of K-FAC here"))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    matrix, use = max(curves, key=lambda key: float(curves[key].max()))
    at = short(float(x[curves[matrix, use].argmax()]))
    fig.suptitle(f"{title}\nat most {short(highest)} nats ({matrix}, {use}, γ = {at})")
    return axes
