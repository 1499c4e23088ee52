"""The gradient of a kernel's weights: dot products of two maps, shifted against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from ..backend import Array
from .checks import checked
from .style import BLUE, MAGNITUDE, new_figure, signed_image, style, write_numbers
from .ticks import short


@style()
def shifted_products(
    activation: Any,
    derivative: Any,
    products: Any,
    kernel: Sequence[int],
    *,
    padding: Sequence[int] = (0, 0, 0, 0),
) -> list[Any]:
    """Draw two maps, their dot products for all shifts, and the kernel's gradient among these.

    Args:
        activation: (H, W), with its padding.
        derivative: (Ho, Wo).
        products: (rows, columns), one per shift at which the two overlap.
        kernel: (top, left, kh, kw), which of the products are the gradient of the kernel's weights.
        padding: (above, left, below, right), pixels of ``activation`` that are padding.

    Returns:
        The axes: activation, derivative, products, gradient.

    Raises:
        ValueError: on a kernel that is not inside the products.
    """
    a, g = checked(activation, ("H", "W"), "activation"), checked(derivative, ("Ho", "Wo"), "derivative")
    shape = tuple(one + other - 1 for one, other in zip(a.shape, g.shape, strict=True))
    p = checked(products, shape, "products")
    top, left, kh, kw = (int(extent) for extent in kernel)
    if min(top, left, kh - 1, kw - 1) < 0 or top + kh > shape[0] or left + kw > shape[1]:
        raise ValueError(f"expected a kernel inside the products {shape}, got {tuple(kernel)}")
    fig = new_figure(4.0)
    axes = list(fig.subplots(1, 4))
    _activation(axes[0], a, padding)
    signed_image(axes[1], g)
    signed_image(axes[2], p)
    axes[2].add_patch(Rectangle((left - 0.5, top - 0.5), kw, kh, fill=False, edgecolor="black", linewidth=2))
    _kernel_gradient(axes[3], p[top : top + kh, left : left + kw], float(np.abs(p).max()) or 1.0)
    titles = (
        "activation map $a_j$",
        "derivative map $g_i$",
        "dot products for all shifts",
        "the kernel's shifts:\nweight gradient",
    )
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize="medium")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    fig.suptitle(f"A kernel's gradient: {kh * kw} of the {p.size} shifts at which two maps overlap")
    note = "orange +, purple −, each picture on its own scale; the last on that of the third"
    fig.supxlabel(note + ("; dashed: without padding" if any(padding) else ""), fontsize="small")
    return axes


def _activation(ax: Any, a: Array, padding: Sequence[int]) -> None:
    """A map of activations, signed where it is, with a dashed line around what is not padding."""
    if float(a.min()) < 0:
        signed_image(ax, a)
    else:
        ax.imshow(a, cmap=MAGNITUDE, interpolation="nearest")
        ax.set_xlabel(f"0 to {short(float(a.max()))}")
    if any(padding):
        above, before, below, after = padding
        corner = (before - 0.5, above - 0.5)
        extent = (a.shape[1] - before - after, a.shape[0] - above - below)
        look: dict[str, Any] = {"edgecolor": BLUE, "linewidth": 1.5, "linestyle": "--"}
        ax.add_patch(Rectangle(corner, *extent, fill=False, **look))


def _kernel_gradient(ax: Any, gradient: Array, limit: float) -> None:
    """The gradient of a kernel, with its numbers where these are few."""
    signed_image(ax, gradient, limit)
    if gradient.size <= 25:
        write_numbers(ax, gradient, short, 0.7 * limit, "small")
