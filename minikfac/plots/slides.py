"""Figures for slides: 16:9, large type, dark on light or light on dark."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.colors import is_color_like, to_rgba
from matplotlib.contour import ContourSet
from matplotlib.patches import Circle
from matplotlib.text import Text

SLIDE: dict[str, Any] = {
    "font.size": 14,
    "axes.titlesize": 15,
    "axes.labelsize": 14,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "legend.fontsize": 13,
    "figure.titlesize": 19,
}
"""Settings for :func:`minikfac.plots.style`; figures are drawn with them, and then made slides."""
BACKGROUND = "#141414"
"""Of dark slides."""


def make_slide(fig: Any, dark: bool = False) -> None:
    """Widen or heighten a finished figure to 16:9; dark: turn its greys, but not what lies on images.

    Args:
        fig: drawn under ``style(SLIDE)``.
        dark: light on dark.
    """
    width, height = fig.get_size_inches()
    wide = max(width, height * 16 / 9)
    fig.set_size_inches(wide, max(height, width * 9 / 16))
    engine = fig.get_layout_engine()
    if engine is not None and any(ax.images for ax in fig.axes):  # pictures keep their proportions
        engine.set(rect=(0.5 - 0.5 * width / wide, 0, width / wide, 1))
    for title in fig.texts:
        room = 0.96 * fig.bbox.width / title.get_window_extent().width
        if room < 1:
            longest = max(map(len, title.get_text().split("\n")))
            title.set_text(textwrap.fill(title.get_text(), int(room * longest)))
    if dark:
        _turn_greys(fig)
        fig.set_facecolor(BACKGROUND)


def _turn_greys(fig: Any) -> None:
    """Give artists that are grey the opposite grey, but not what lies on images or coloured circles."""
    fig.draw_without_rendering()
    pictures = [ax for ax in fig.axes if ax.images]
    artists = set(fig.findobj()) - {patch for ax in pictures for patch in ax.patches}
    pictures += [circle for circle in fig.findobj(Circle) if not _grey(circle, "facecolor")]
    pictures = [picture.get_window_extent() for picture in pictures]
    for levels in fig.findobj(ContourSet):
        _prepare_contours(levels)
    for text in [artist for artist in artists if isinstance(artist, Text)]:
        box = text.get_window_extent()
        if any(at.containsx(box.x0) and at.containsx(box.x1) and at.containsy(box.y0) for at in pictures):
            artists.remove(text)
        else:
            artists |= _behind(text)
    names = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")
    greys = [(artist, name, grey) for artist in artists for name in names if (grey := _grey(artist, name))]
    for artist, name, (lightness, alpha) in greys:  # all are read before one is set: some share a colour
        getattr(artist, f"set_{name}")((*[0.08 + 0.9 * (1 - lightness)] * 3, alpha))


def _behind(text: Text) -> set[Any]:
    """The box and the arrow of a text, where it has them."""
    return {text.get_bbox_patch(), getattr(text, "arrow_patch", None)} - {None}


def _prepare_contours(levels: Any) -> None:
    """Reverse the colours of filled contours, and give lines one colour, which is turned as any other."""
    if levels.filled:
        levels.set_cmap(levels.get_cmap().reversed())
    else:
        levels.set_edgecolor(levels.get_edgecolor()[:1])


def _grey(artist: Any, name: str) -> tuple[float, float] | None:
    """Lightness and alpha of an artist's colour where that is one, and a grey."""
    if not (hasattr(artist, f"get_{name}") and hasattr(artist, f"set_{name}")):
        return None
    value = getattr(artist, f"get_{name}")()
    value = value[0] if getattr(value, "ndim", 0) == 2 and len(value) == 1 else value
    if not is_color_like(value):
        return None
    *rgb, alpha = to_rgba(value)
    return (rgb[0], alpha) if max(rgb) - min(rgb) < 0.02 and alpha > 0 else None
