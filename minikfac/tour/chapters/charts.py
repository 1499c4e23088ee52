"""Steps and flows in the coordinates of a chart, and how far those of several charts are apart.

    flow:  d xi / dt = v(xi),        steps:  xi <- xi + h v(xi)

The field v is the gradient of a function, or the natural gradient G^{-1} grad. In other coordinates xi' with
J = d xi' / d xi the gradient is J^{-T} grad and the metric J^{-T} G J^{-1}: so the natural gradient is
J G^{-1} grad, a velocity like any other, and its *flow* is the same curve in all charts. A *step* is straight
in its own chart and bent in another: it agrees up to O(h^2), a walk of fixed duration up to O(h). Only where
charts differ by a linear map do steps agree exactly. Gradients are not velocities, and agree in no sense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.integrate import solve_ivp

from ...backend import Array

METHODS = ("gradient", "natural gradient")
Field = Callable[[Array], Array]
"""Of coordinates (n,): a velocity (n,), or a metric (n, n)."""


def fields(gradient: Field, metric: Field) -> dict[str, Field]:
    """The gradient in some coordinates, and the natural gradient for a metric (n, n) of these coordinates."""
    return {
        "gradient": gradient,
        "natural gradient": lambda xi: np.linalg.solve(metric(xi), gradient(xi)),
    }


def walk(field: Field, start: Array, step: float, count: int) -> Array:
    """Take steps xi <- xi + h v(xi).

    Returns:
        The path (count + 1, n), from the start on.
    """
    path = [np.asarray(start, dtype=float)]
    for _ in range(count):
        path.append(path[-1] + step * field(path[-1]))
    return np.array(path)


def flow(field: Field, start: Array, times: Array) -> Array:
    """Follow d xi / dt = v(xi) by an adaptive Runge-Kutta method of order 8.

    Args:
        field: v.
        start: (n,), where the path is at ``times[0]``.
        times: (k,), ascending.

    Returns:
        The path (k, n).

    Raises:
        ArithmeticError: where the solution cannot be followed to the last time.
    """
    precision = {"rtol": 1e-10, "atol": 1e-12}
    span = times[0], times[-1]
    solved = solve_ivp(lambda _, xi: field(xi), span, start, "DOP853", t_eval=times, **precision)
    if not solved.success:
        raise ArithmeticError(f"expected a flow up to time {times[-1]}, got: {solved.message}")
    return solved.y.T


def distances(
    walks: Mapping[str, Mapping[str, Sequence[Array]]],
    distance: Callable[[Array, Array], Array],
    length: int | None = None,
) -> dict[str, Array]:
    """How far the walks of several charts are apart, by method, for each step size (s,).

    Args:
        walks: by method and chart, a path (k, n) per step size, in coordinates that all charts share.
        distance: of two paths, at each place (k,).
        length: of each path so many places are compared; all by default.
    """
    by_step = {method: zip(*by_chart.values(), strict=True) for method, by_chart in walks.items()}
    return {
        method: np.array([apart([path[:length] for path in paths], distance) for paths in steps])
        for method, steps in by_step.items()
    }


def apart(paths: Sequence[Array], distance: Callable[[Array, Array], Array]) -> float:
    """The largest distance, over pairs of paths (k, n) and over times, of what should be one path."""
    if len(paths) < 2:
        raise ValueError(f"expected at least two paths, got {len(paths)}")
    return max(float(np.max(distance(a, b))) for a, b in combinations(paths, 2))
