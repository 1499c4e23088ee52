"""The computation of a gradient as a graph, and the probabilistic models that are fitted to it.

The Fisher matrix is a covariance, that of the gradients DW_l for targets drawn from the model. An
approximation is a structured Gaussian fitted to them; its structure says which gradients are tied to
which [MG15, sec. 4 and fig. 4].
"""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

from matplotlib.patches import Circle, FancyArrowPatch

from .style import BLUE, GREY, ORANGE, SKY, VERMILLION, WIDTH, new_figure, style

MODELS = {
    "exact F": "all layers tied",
    "block-diagonal (K-FAC)": "layers independent",
    "block-tridiagonal": "a chain: layers tied to neighbours",
}
ARROW: dict[str, Any] = {
    "arrowstyle": "-|>",
    "mutation_scale": 14,
    "linewidth": 1.6,
    "shrinkA": 1,
    "shrinkB": 1,
}
FORWARD, BACKWARD, WEIGHTS, LOSS = "#d6e9f5", "#f8ddc9", "#fdf0d0", "#e6e6e6"


@style()
def graphical_models(n_layers: int = 3) -> list[Any]:
    """Draw how one example's gradient is computed, and three graphical models of the result.

    Above: activations a and pre-activations s going forward, their derivatives Da and Ds coming back from a
    target y drawn from the model's probabilities p, and each weight gradient DW as the outer product of
    the activations below and the derivatives above. Below: nodes are the DW_l, an edge ties two of them
    given all others, which is a non-zero block of the inverse covariance.

    Args:
        n_layers: from 2 to 5.

    Returns:
        The axes: the computation, then the full, block-diagonal and chain model.
    """
    if not 2 <= n_layers <= 5:
        raise ValueError(f"expected n_layers from 2 to 5, got {n_layers}")
    # heights in inches, from the limits of the drawings: their aspect is fixed
    above, below = WIDTH * 2.95 / (2 * n_layers + 3.5), WIDTH / 3 * (0.5 + 0.31 * n_layers) / (n_layers + 0.2)
    fig = new_figure(above + below + 1.4)
    grid = fig.add_gridspec(2, 3, height_ratios=[above, below])
    top = fig.add_subplot(grid[0, :])
    _draw_computation(top, n_layers)
    axes = [top]
    every, chain = list(combinations(range(n_layers), 2)), list(pairwise(range(n_layers)))
    edges: list[list[tuple[int, int]]] = [every, [], chain]
    for column, ((name, structure), pairs) in enumerate(zip(MODELS.items(), edges, strict=True)):
        ax = fig.add_subplot(grid[1, column])
        _draw_model(ax, n_layers, pairs)
        ax.set_title(f"{name}:\n{structure}", fontsize="medium")
        axes.append(ax)
    return axes


def _node(ax: Any, x: float, y: float, text: str, color: str, radius: float = 0.33) -> Circle:
    circle = ax.add_patch(Circle((x, y), radius, facecolor=color, edgecolor="black", linewidth=1.2))
    ax.text(x, y, text, ha="center", va="center")
    return circle


def _arrow(ax: Any, start: Circle, end: Circle, color: str, bend: float = 0.0, **options: Any) -> None:
    look = {**ARROW, "color": color, "connectionstyle": f"arc3,rad={bend}", **options}
    ax.add_patch(FancyArrowPatch(start.center, end.center, patchA=start, patchB=end, **look))


def _draw_computation(ax: Any, n_layers: int) -> None:
    """Forward nodes on the upper row, derivatives below them, weight gradients at the bottom."""
    forward = [_node(ax, 0, 2, "$x$", FORWARD)]
    back: dict[int, Circle] = {}
    for layer in range(1, n_layers + 1):
        x = 2 * layer - 1
        forward.append(_node(ax, x, 2, f"$s_{layer}$", FORWARD))
        back[x] = _node(ax, x, 1, f"$Ds_{layer}$", BACKWARD)
        if layer < n_layers:
            forward.append(_node(ax, x + 1, 2, f"$a_{layer}$", FORWARD))
            back[x + 1] = _node(ax, x + 1, 1, f"$Da_{layer}$", BACKWARD)
    last = 2 * n_layers - 1
    p = _node(ax, last + 1, 2, "$p$", LOSS)
    y = _node(ax, last + 1, 1, "$y$", LOSS)
    for here, there in pairwise([*forward, p]):
        _arrow(ax, here, there, BLUE)
    _arrow(ax, p, y, GREY, linestyle="--")
    ax.text(last + 1.45, 1.5, "$y \\sim p$\nsampled", va="center", color="#444444")
    _arrow(ax, y, back[last], VERMILLION)
    for x in range(last, 1, -1):
        _arrow(ax, back[x], back[x - 1], VERMILLION)
    for layer in range(1, n_layers + 1):
        x = 2 * layer - 1
        gradient = _node(ax, x - 0.5, 0, f"$DW_{layer}$", WEIGHTS, 0.36)
        _arrow(ax, forward[x - 1], gradient, SKY, bend=-0.24)
        _arrow(ax, back[x], gradient, ORANGE)
        ax.text(x - 0.5, 2.12, f"$W_{layer}$", ha="center", va="bottom")
    notes = ((2, BLUE, "forward"), (1, VERMILLION, "backward"), (0, "black", "gradient:\nouter product"))
    for height, color, text in notes:
        ax.text(-0.65, height, text, ha="right", va="center", color=color)
    ax.set(xlim=(-2.1, last + 2.4), ylim=(-0.45, 2.5), aspect="equal")
    ax.set_title("How the gradient of one example is computed")
    ax.axis("off")


def _draw_model(ax: Any, n_layers: int, edges: list[tuple[int, int]]) -> None:
    nodes = [_node(ax, layer, 0, f"$DW_{layer + 1}$", WEIGHTS, 0.32) for layer in range(n_layers)]
    for a, b in edges:
        bend = 0.0 if b == a + 1 else -0.62
        _arrow(ax, nodes[a], nodes[b], "black", bend, arrowstyle="-")
    ax.set(xlim=(-0.6, n_layers - 0.4), ylim=(-0.4, 0.15 + 0.31 * (n_layers - 1)), aspect="equal")
    ax.axis("off")
