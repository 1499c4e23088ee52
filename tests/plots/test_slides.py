"""Slides are 16:9 in large type; dark ones are light on dark, with images as they were."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, Rectangle
from PIL import Image

from minikfac import plots
from minikfac.plots.slides import BACKGROUND, SLIDE, make_slide
from minikfac.tour.page import save_all
from oracles.figures import NAMES, SIZES, symmetric


def curve():
    return plots.spectra({"K-FAC": [3.0, 1.0]}, 0.1)


@pytest.mark.parametrize("draw", [curve, lambda: plots.block_means(symmetric(12), SIZES, NAMES)])
@pytest.mark.parametrize("dark", [False, True])
def test_a_slide_is_16_to_9_and_whole(draw, dark: bool):
    with plots.style(SLIDE):
        fig = draw().figure
        make_slide(fig, dark)
        fig.canvas.draw()
    width, height = fig.get_size_inches()
    assert width / height == pytest.approx(16 / 9)
    box = fig.get_tightbbox().transformed(fig.dpi_scale_trans)
    assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= fig.bbox.x1 + 1 and box.y1 <= fig.bbox.y1 + 1
    assert fig.axes[0].xaxis.label.get_size() == SLIDE["axes.labelsize"]


def test_a_dark_slide_turns_greys_and_keeps_colours_and_images():
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.plot([0, 1], color="black")
    left.plot([1, 0], color="#0072B2")
    left.set_title("a title")
    right.imshow(np.eye(2), cmap="Greys")
    number = right.text(0, 0, "1", color="white", ha="center")
    make_slide(fig, dark=True)
    black, blue = left.lines
    assert min(to_rgb(black.get_color())) > 0.9 and blue.get_color() == "#0072B2"
    assert min(to_rgb(left.title.get_color())) > 0.9 and max(to_rgb(left.get_facecolor())) < 0.2
    assert number.get_color() == "white"
    assert to_rgb(fig.get_facecolor()) == to_rgb(BACKGROUND)


def test_a_dark_slide_keeps_what_lies_on_coloured_circles_and_images_and_turns_hills():
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 4))
    left.set(xlim=(-2, 2), ylim=(-2, 2))
    left.add_patch(Circle((0, 0), 1.5, facecolor="#d6e9f5"))
    inside, outside = left.text(0, 0, "in", ha="center"), left.text(-1.9, 1.8, "out")
    middle.imshow(np.eye(2), cmap="Greys")
    frame = middle.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor="black"))
    hills = right.contourf(np.outer([1.0, 2, 3], [1.0, 2, 3]), cmap="Greys", levels=4)
    lines = right.contour(np.outer([1.0, 2, 3], [1.0, 2, 3]), colors="white", levels=4)
    low = hills.get_facecolor()[0, 0]
    make_slide(fig, dark=True)
    fig.canvas.draw()
    assert max(to_rgb(inside.get_color())) == 0 and min(to_rgb(outside.get_color())) > 0.9
    assert max(to_rgb(frame.get_edgecolor())) == 0
    assert low > 0.8 and hills.get_facecolor()[0, 0] < 0.2
    assert max(to_rgb(lines.get_edgecolor()[0])) < 0.2


@pytest.mark.parametrize("lines", [1, 2])
def test_a_long_title_is_wrapped(lines: int):
    fig = curve().figure
    fig.suptitle("\n".join(["one statement with its number " * 5] * lines), fontsize=19)
    make_slide(fig)
    assert "\n" in fig.get_suptitle()
    assert fig.texts[0].get_window_extent().width < fig.bbox.width


def test_files_are_twice_as_wide_where_that_is_asked(tmp_path: Path):
    ((name, path),) = save_all({"spectra": curve}, tmp_path, slide="dark", scale=2)
    with Image.open(path) as picture:
        assert name == "spectra" and picture.size == (2560, 1440)
    with pytest.raises(ValueError, match="expected slide among light, dark, got 'blue'"):
        list(save_all({}, tmp_path, slide="blue"))
    with pytest.raises(ValueError, match="expected a format among png, svg, pdf, got 'gif'"):
        list(save_all({}, tmp_path, "gif"))
