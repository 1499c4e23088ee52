"""One example on its way through a net and back: where the two signals abar and g come from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.patches import ConnectionPatch

from ..backend import Array
from .checks import checked, some
from .style import BLUE, MAGNITUDE, VERMILLION, new_figure, signed_image, style

DERIVATIVES = "derivatives $g = dL/ds$\nfor the sampled target"
OUTER = "outer products of\n$a$ below and $g$ above\n(orange +, purple −)"


@style()
def forward_backward(
    image: Any,
    activations: Sequence[Any],
    probabilities: Any,
    sampled_target: int,
    label: int,
    derivatives: Sequence[Any],
) -> list[Any]:
    """Draw one image forward to probabilities, and the derivatives of a sampled target back.

    For the Fisher matrix the target is drawn from the model's own probabilities; the label plays no part.
    Bottom: each layer's weight gradient, the outer product of activations below and derivatives above.

    Args:
        image: (H, W), what goes in, in grey from its smallest to its largest value.
        activations: (units,) per hidden layer.
        probabilities: (C,).
        sampled_target: the class that was drawn from them.
        label: the true class, for comparison.
        derivatives: g = dL/ds (units,) per hidden layer, and (C,) for the output.

    Returns:
        The axes: image and probabilities; then activations, derivatives and weight gradients layer by layer.

    Raises:
        ValueError: on shapes or classes that do not fit together.
    """
    image = checked(image, ("H", "W"), "image")
    p = checked(probabilities, ("C",), "probabilities")
    a = [checked(values, ("units",), "activations") for values in some(list(activations), "hidden layer")]
    g = _derivatives(derivatives, [*a, p])
    for name, target in (("sampled_target", sampled_target), ("label", label)):
        if not 0 <= target < len(p):
            raise ValueError(f"expected {name} from 0 to {len(p) - 1}, got {target}")
    depth = len(a)
    fig = new_figure(6.6)
    drawn = f"the target that is drawn: {sampled_target} ({p[sampled_target]:.0%})"
    fig.suptitle(f"An image of the digit {label}, predicted with {p[label]:.0%}; {drawn}")
    grid = fig.add_gridspec(3, depth + 2, width_ratios=[1.7, *[1] * depth, 2.0], height_ratios=[1.5, 1.5, 1])
    first = _input(fig.add_subplot(grid[0, 0]), image, label)
    forward = [_strip(fig.add_subplot(grid[0, l]), a[l - 1], f"$a_{l}$") for l in range(1, depth + 1)]
    bars = _probabilities(fig.add_subplot(grid[0, -1]), p, sampled_target, label)
    backward = [_strip(fig.add_subplot(grid[1, l]), g[l - 1], f"$g_{l}$") for l in range(1, depth + 1)]
    backward.append(_output_derivatives(fig.add_subplot(grid[1, -1]), g[-1], depth + 1))
    gradients = [
        _picture(fig.add_subplot(grid[2, l]), np.outer(below, above), l)
        for l, (below, above) in enumerate(zip([image.ravel(), *a], g, strict=True), start=1)
    ]
    for left, right in pairwise([first, *forward, bars]):
        _join(fig, left, right, BLUE, -0.13 if right is bars else -0.06)
    for left, right in pairwise(backward):
        _join(fig, left, right, VERMILLION, -0.13 if right is backward[-1] else -0.06, leftwards=True)
    _notes(fig.add_subplot(grid[1, 0]), "backward", VERMILLION, DERIVATIVES)
    _notes(fig.add_subplot(grid[2, 0]), "gradient", "black", OUTER)
    return [first, bars, *forward, *backward, *gradients]


def _derivatives(derivatives: Sequence[Any], layers: Sequence[Array]) -> list[Array]:
    """Check that each layer's derivatives have its shape."""
    if len(derivatives) != len(layers):
        raise ValueError(f"expected derivatives of {len(layers)} layers, got {len(derivatives)}")
    return [
        checked(g, values.shape, f"derivatives of layer {l}")
        for l, (g, values) in enumerate(zip(derivatives, layers, strict=True), start=1)
    ]


def _input(ax: Any, image: Array, label: int) -> Any:
    ax.imshow(image, cmap=MAGNITUDE, interpolation="nearest")
    ax.set(xticks=[], yticks=[], title=f"input, label {label}")
    ax.spines[:].set_visible(False)
    ax.set_xlabel("forward: activations", color=BLUE)
    return ax


def _strip(ax: Any, values: Array, name: str) -> Any:
    signed_image(ax, values[:, None], aspect="auto")
    ax.set_box_aspect(3.2)
    ax.set_title(name)
    return ax


def _picture(ax: Any, gradient: Array, layer: int) -> Any:
    signed_image(ax, gradient, aspect="auto")
    ax.set_title(f"$DW_{layer}$, {gradient.shape[0]}×{gradient.shape[1]}", fontsize=11)
    return ax


def _probabilities(ax: Any, p: Array, sampled: int, label: int) -> Any:
    colors = [VERMILLION if number == sampled else BLUE for number in range(len(p))]
    ax.barh(range(len(p)), p, color=colors)
    for number in {int(p.argmax()), sampled, label}:
        roles = [f"{p[number]:.0%}" if p[number] >= 0.01 else f"{p[number]:.1%}"]
        roles += ["label"] * (number == label) + ["sampled"] * (number == sampled)
        ax.text(p[number] + 0.02, number, ", ".join(roles), va="center", fontsize=10)
    ax.set_yticks(range(len(p)), map(str, range(len(p))), fontsize=10)
    ax.set(xlim=(0, 1.6), xticks=[0, 0.5, 1], title="probabilities")
    ax.invert_yaxis()
    return ax


def _output_derivatives(ax: Any, g: Array, layer: int) -> Any:
    ax.barh(range(len(g)), g, color=VERMILLION)
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(range(len(g)), map(str, range(len(g))), fontsize=10)
    ax.set_title(f"$g_{layer}$ = p − target")
    ax.invert_yaxis()
    return ax


def _join(fig: Any, left: Any, right: Any, color: str, margin: float, leftwards: bool = False) -> None:
    """An arrow between the facing sides of two axes; margin is that of the right one."""
    start, end = (1.06, 0.5), (margin, 0.5)
    arrow = ConnectionPatch(
        start, end, left.transAxes, right.transAxes, color=color, linewidth=2,
        arrowstyle="<|-" if leftwards else "-|>", mutation_scale=18,
    )  # fmt: skip
    arrow.set_in_layout(False)
    fig.add_artist(arrow)


def _notes(ax: Any, title: str, color: str, text: str) -> None:
    ax.axis("off")
    ax.text(0.5, 0.62, title, ha="center", va="center", color=color, fontsize=13)
    ax.text(0.5, 0.5, text, ha="center", va="top", color="#444444", fontsize=10).set_in_layout(False)
