"""What each approximation buys for the numbers it stores: progress and direction of its step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import NullLocator

from .checks import by_name, complete, positive
from .style import GREY, name_points, new_figure, pens, style

MEASURES = {
    "share": "progress of the step\n(share of the exact step's)",
    "step_cosine": "direction of the step\n(cosine with the exact one)",
}


@style()
def progress_against_storage(
    rows: Sequence[Mapping[str, Any]],
    exact: int,
    *,
    dampings: Any = None,
    curves: Mapping[str, Mapping[str, Any]] | None = None,
    damping: float | None = None,
) -> list[Any]:
    """Draw progress and cosine of each approximation's step against the numbers that it stores.

    Args:
        rows: as those of ``minikfac.quality.Comparison.whole()``: ``approximation``, ``floats``, ``share``
            and ``step_cosine``.
        exact: numbers of the exact matrix.
        dampings: (m,), lambda > 0, for a second column of pictures.
        curves: per approximation ``share`` and ``step_cosine``, (m,) each.
        damping: lambda of the rows; a line in the second column.

    Returns:
        The axes: progress and cosine against numbers, then against damping.

    Raises:
        ValueError: on no rows, rows that lack a key, or shapes that do not fit.
    """
    complete(rows, ("approximation", "floats", *MEASURES), "row")
    names = [str(row["approximation"]) for row in rows]
    floats = [float(row["floats"]) for row in rows]
    looks = pens(names, marked=True)
    columns = 2 if curves else 1
    fig = new_figure(7.4)
    grid = fig.subplots(
        2, columns, sharey="row", sharex="col", squeeze=False, width_ratios=[1.7, 1][:columns]
    )
    for axes, key in zip(grid, MEASURES, strict=True):
        values = [float(row[key]) for row in rows]
        drawn = list(values)
        if curves:
            named = {name: curve[key] for name, curve in curves.items()}
            drawn += _damped(axes[1], dampings, named, damping)
        low, high = min(drawn), max(*drawn, 1.0)
        axes[0].set(ylabel=MEASURES[key], ylim=(low - 0.08 * (high - low), high + 0.08 * (high - low)))
        _points(axes[0], floats, values, looks, exact)
    grid[-1, 0].set_xlabel("numbers stored")
    if curves:
        grid[0, 1].set_title("markers as on the left", fontsize="small")
        grid[-1, 1].set_xlabel(r"damping $\lambda$ (nats per squared weight)")
    fig.suptitle(_statement(rows, exact))
    x = [*_on_log(floats), exact]
    for ax, key in zip(grid[:, 0], MEASURES, strict=True):
        texts = [name if stored else f"{name} (stores 0)" for name, stored in zip(names, floats, strict=True)]
        points = [*zip(x, [float(row[key]) for row in rows] + [1.0], strict=True)]
        name_points(ax, points, [*texts, "exact"])
    return [*grid.T.ravel()]


def _on_log(floats: Sequence[float]) -> list[float]:
    """Places on a log axis; what stores nothing is left of all others."""
    least = 0.3 * min((stored for stored in floats if stored > 0), default=1.0)
    return [max(stored, least) for stored in floats]


def _statement(rows: Sequence[Mapping[str, Any]], exact: int) -> str:
    """The title: what K-FAC, or the first row, stores and what its step is worth."""
    row = next((row for row in rows if row["approximation"] == "K-FAC"), rows[0])
    name, stored = row["approximation"], f"{row['floats']:,} of {exact:,} numbers"
    return f"{name} stores {stored}; its step makes {row['share']:.2f} of the exact step's progress"


def _points(
    ax: Any,
    floats: Sequence[float],
    values: Sequence[float],
    looks: Mapping[str, dict[str, Any]],
    exact: int,
) -> None:
    """A marker per approximation, and one for the exact matrix."""
    x = _on_log(floats)
    ax.set(xscale="log", xlim=(0.5 * min(x), 8 * exact))
    ax.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    for place, value, (name, look) in zip(x, values, looks.items(), strict=True):
        size = 12 if name == "K-FAC" else 9
        ax.plot(place, value, **{**look, "linestyle": "", "markersize": size, "markeredgecolor": "white"})
    ax.plot(exact, 1, "*", color="black", markersize=14)
    ax.grid(True)
    ax.xaxis.set_minor_locator(NullLocator())


def _damped(ax: Any, dampings: Any, columns: Mapping[str, Any], damping: float | None) -> list[float]:
    """One measure against damping, a curve per approximation; returns lowest and highest."""
    x = positive(dampings, "dampings")
    curves = by_name(columns, x.shape, "curves", "curve", finite=True)
    for name, look in pens(curves, marked=True).items():
        ax.plot(x, curves[name], **{"markersize": 5, "linewidth": 1.6, **look})
    if damping is not None:
        ax.axvline(damping, color=GREY, linestyle=":", linewidth=1.2)
    ax.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    ax.set(xscale="log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(True)
    lowest = min(float(y.min()) for y in curves.values())
    return [lowest, max(float(y.max()) for y in curves.values())]


@style()
def likelihood_against_storage(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Draw the log density that models of the gradient give to held-out gradients against their numbers.

    Args:
        rows: of ``minikfac.quality.held_out``: ``approximation``, ``floats``, ``nats`` and ``behind_se``, the
            half length of the bars: the standard error of the difference from the best.

    Returns:
        The axes.

    Raises:
        ValueError: on no rows, or rows that lack a key.
    """
    complete(rows, ("approximation", "floats", "nats", "behind_se"), "row")
    names = [str(row["approximation"]) for row in rows]
    x = _on_log([float(row["floats"]) for row in rows])
    ax = new_figure(5.6).add_subplot()
    for place, row, look in zip(x, rows, pens(names, marked=True).values(), strict=True):
        plain = {**look, "linestyle": "", "markersize": 9, "linewidth": 1.6, "capsize": 3}
        ax.errorbar(place, row["nats"], row["behind_se"], **plain)
    low = min(row["nats"] - row["behind_se"] for row in rows)
    high = max(row["nats"] + row["behind_se"] for row in rows)
    ax.set(xscale="log", xlim=(0.4 * min(x), 12 * max(x)), xlabel="numbers stored")
    ax.set(ylabel="log density of held-out gradients (nats per example)")
    room = 0.15 * ((high - low) or 1.0)
    ax.set_ylim(low - room, high + room)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(True)
    best, largest = (max(rows, key=lambda row: row[key]) for key in ("nats", "floats"))
    ax.figure.suptitle(
        f"Best model of held-out gradients: {best['approximation']}, {best['floats']:,} numbers, "
        f"{best['nats']:,.0f} nats;\n{largest['approximation']}, {largest['floats']:,} numbers: "
        f"{largest['nats']:,.0f} nats"
    )
    texts = [name if row["floats"] else f"{name} (stores 0)" for name, row in zip(names, rows, strict=True)]
    name_points(ax, [(place, float(row["nats"])) for place, row in zip(x, rows, strict=True)], texts)
    return [ax]
