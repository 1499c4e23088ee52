"""How much memory the Fisher matrix takes, and K-FAC's factors instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator

from .checks import some
from .style import BLUE, GREEN, GREY, VERMILLION, axes_for, labelled, style

UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def human_bytes(count: float) -> str:
    """Write a number of bytes in units of 1000.

    >>> human_bytes(26e6), human_bytes(3.22e13), human_bytes(512)
    ('26 MB', '32 TB', '512 B')
    """
    if count < 1:
        return f"{count:.1g} B"
    power = min(int(np.log10(count) + 1e-9) // 3, len(UNITS) - 1)
    value = count / 1000.0**power
    digits = 1 if value < 9.95 and value % 1 > 0.04 else 0
    return f"{value:.{digits}f} {UNITS[power]}"


@style()
def memory(
    nets: Mapping[str, tuple[int, int]],
    *,
    bytes_per_float: int = 4,
    budgets: Mapping[str, float] | None = None,
    ax: Any | None = None,
) -> Any:
    """Draw the memory of the full Fisher matrix, P^2 numbers, against K-FAC's factors, net by net.

    Args:
        nets: by name, the number of parameters P and of floats in all A and G.
        bytes_per_float: 4 for float32.
        budgets: bytes by name, drawn as levels: what a machine has.
        ax: axes to draw into.
    """
    some(dict(nets), "net")
    P = np.array([float(p) for p, _ in nets.values()])
    factors = np.array([float(floats) for _, floats in nets.values()])
    if P.min() < 1 or factors.min() < 1:
        raise ValueError(f"expected counts >= 1, got {dict(nets)}")
    ax = axes_for(ax, 5.8)
    span = np.array([P.min() / 3, P.max() * 20])
    ax.plot(span, bytes_per_float * span**2, color=VERMILLION)
    ax.plot(span, bytes_per_float * span, "--", color=GREY, linewidth=1.5)
    ax.plot(P, bytes_per_float * P**2, "s", color=VERMILLION, label="full Fisher matrix: $P^2$ numbers")
    ax.plot(P, bytes_per_float * factors, "o", color=BLUE, label="K-FAC: all factors A and G", zorder=5)
    ax.plot([], [], "--", color=GREY, linewidth=1.5, label="parameters or a diagonal: $P$ numbers")
    for name, p, floats in zip(nets, P, factors, strict=True):
        full, small = bytes_per_float * p**2, bytes_per_float * floats
        ax.annotate(
            human_bytes(full), (p, full), (-9, 3), textcoords="offset points", ha="right", color=VERMILLION
        )
        ax.annotate(
            f"{name}: {human_bytes(small)}", (p, small), (8, 4), textcoords="offset points", va="bottom",
            color=BLUE,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85},
        )  # fmt: skip
    for name, level in (budgets or {}).items():
        ax.axhline(level, color=GREEN, linestyle=":", linewidth=1.5)
        ax.annotate(name, (1, level), (-4, 4), ("axes fraction", "data"), "offset points", ha="right")
    ends = bytes_per_float * P.min() / 4, bytes_per_float * P.max() ** 2 * 8
    low, high = (int(np.floor(np.log10(limit) / 3)) for limit in ends)
    ax.set(xscale="log", yscale="log", xlim=span, yticks=1000.0 ** np.arange(max(low, 0), high + 1))
    ax.set_ylim(ends)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: human_bytes(count)))
    ylabel = f"memory ({8 * bytes_per_float}-bit numbers)"
    full, small = (human_bytes(bytes_per_float * count) for count in (P.max() ** 2, factors[P.argmax()]))
    title = f"{P.max():,.0f} parameters: {full} for the Fisher matrix, {small} for K-FAC's factors"
    return labelled(ax, title, "parameters P", ylabel, loc="upper left")
