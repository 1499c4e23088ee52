"""Short animations as GIF files: curves that grow, and one layer's block along training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import PillowWriter

from .. import fisher, plots, training
from .parts import Drawings

GROWING = {"valley": "valley", "logistic-to-tanh": "two-nets"}
"""Figures whose curves grow, and the names of their files."""
MOMENTS = (0, 25, 50, 100, 200, 400, 800, 2000)
"""Steps of training at which the block is drawn."""
FRAMES, DPI = 24, 84


def animate(drawings: Drawings, folder: Path) -> Iterator[tuple[str, Path]]:
    """Write the figures whose curves can grow, and the last layer's block and factors during training.

    Args:
        drawings: functions that draw the figures, by file name.
        folder: an existing folder.
    """
    plt.switch_backend("agg")  # no window
    for name, target in GROWING.items():
        if name in drawings:
            drawn = drawings[name]()
            fig = getattr(drawn[0] if isinstance(drawn, list) else drawn, "figure", drawn)
            yield name, grow(fig, folder / f"{target}.gif")
    writer, path = PillowWriter(fps=1), folder / "block.gif"
    for steps in MOMENTS:
        one = training.example(steps)
        signals = fisher.signals(one.net, one.theta, one.x)
        last = len(signals.names) - 1
        factors: Any = fisher.kfac(signals).blocks[last]
        block = fisher.exact(signals.select([last])).to_dense()
        name = f"{signals.names[last]}, {steps:,} steps"
        fig = plots.kronecker_factors(block, factors.A, factors.G, name=name)[0].figure
        if steps == MOMENTS[0]:
            writer.setup(fig, path, dpi=DPI)
        writer.fig = fig
        writer.grab_frame()
        plt.close(fig)
    writer.finish()
    yield "block", path


def grow(fig: Any, path: Path) -> Path:
    """Write a figure whose curves are drawn point by point; the last frame stays for two seconds."""
    fig.canvas.draw()
    fig.set_layout_engine("none")
    curves = [(line, *line.get_data()) for ax in fig.axes for line in ax.lines]
    longest = max(len(x) for _, x, _ in curves)
    writer = PillowWriter(fps=8)
    with writer.saving(fig, path, DPI):
        for shown in [*np.linspace(1, longest, FRAMES).round(), *[longest] * 12]:
            for line, x, y in curves:
                end = max(2, int(np.ceil(shown * len(x) / longest)))
                line.set_data(x[:end], y[:end])
            writer.grab_frame()
    plt.close(fig)
    return path
