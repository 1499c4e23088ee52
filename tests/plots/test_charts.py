"""Pictures of charts: they hold the paths that they are given, and refuse what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import plots
from minikfac.plots.charts import disagreement
from minikfac.plots.globe import orthographic
from minikfac.tour.chapters import ascents, gaussian, globe
from minikfac.tour.chapters.globe import on_sphere
from minikfac.tour.page import save_all

RNG = np.random.default_rng(0)
CIRCLE = np.array([np.cos(t := np.linspace(0, 2 * np.pi, 9)), np.sin(t)]).T
GRID = np.stack(np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-0.5, 1, 5)), -1)
MAPS = [
    {
        "name": name,
        "keeps": "nothing",
        "graticule": [GRID[0]],
        "ellipses": np.array([CIRCLE, CIRCLE + 3]),
        "areas": areas,
        "shapes": shapes,
    }
    for name, areas, shapes in (("a", [1, 1], [1, 2.5]), ("b", [1, 7], [1, 1]))
]
METHODS = ("gradient", "natural gradient")


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


def on_charts(shape: tuple[int, ...], charts: str = "ab") -> dict[str, dict[str, np.ndarray]]:
    return {method: {name: RNG.uniform(0, 1, shape) for name in charts} for method in METHODS}


def climb(**changed: Any) -> dict[str, Any]:
    given = {
        "heights": GRID[..., 0] * GRID[..., 1],
        "sphere": on_sphere(GRID),
        "map_heights": GRID[..., 0] * GRID[..., 1],
        "maps": {"a": GRID, "b": 2 * GRID},
        "on_map": on_charts((4, 2)),
        "on_globe": {m: {n: on_sphere(q) for n, q in maps.items()} for m, maps in on_charts((4, 2)).items()},
        "limit": on_sphere(GRID[0]),
        "steps": [0.1, 0.05, 0.025],
        "apart": {"gradient": [1, 1, 1], "natural gradient": [0.4, 0.2, 0.1]},
        "graticules": {"globe": [on_sphere(GRID[0])], "a": [GRID[0]], "b": []},
        "keeps": {"a": "angles", "b": "areas"},
        "step": 0.1,
    }
    return given | changed


def family(**changed: Any) -> dict[str, Any]:
    given = {
        "losses": (GRID**2).sum(-1),
        "grids": {"a": GRID, "b": 2 * GRID},
        "labels": {"a": ("p", "q"), "b": ("r", "s")},
        "ellipses": {"a": [CIRCLE], "b": [CIRCLE]},
        "in_chart": on_charts((2, 4, 2)),
        "pulled": on_charts((2, 4, 2)),
        "fit": [0, 0],
        "steps": [0.1, 0.05],
        "apart": {"one": [4, 1], "other": [2, 1]},
    }
    return given | changed


DRAW = {
    "projections": lambda: plots.projections(MAPS, on_sphere(0.1 * CIRCLE)[None], [on_sphere(GRID[0])]),
    "globe_ascent": lambda: plots.globe_ascent(**climb()),
    "gaussian_flows": lambda: plots.gaussian_flows(**family()),
}


@pytest.mark.parametrize("name", DRAW)
def test_figures_are_as_wide_as_a_slide(name):
    made = DRAW[name]()[0].figure
    made.canvas.draw()
    assert made.bbox.width == 1280
    box = made.get_tightbbox().transformed(made.dpi_scale_trans)  # nothing is cut off
    assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= made.bbox.x1 + 1 and box.y1 <= made.bbox.y1 + 1


def test_maps_say_what_they_keep():
    globe, a, b = DRAW["projections"]()
    assert a.get_title() == "a\nkeeps nothing"
    assert a.get_xlabel() == "areas kept, axes up to 2.5 : 1"
    assert b.get_xlabel() == "areas here up to × 7, circles kept"
    np.testing.assert_array_equal(a.patches[1].get_xy()[:9], CIRCLE + 3)
    assert len(globe.patches) == 2  # the circle and the globe's edge


def test_circles_on_the_other_side_are_not_seen():
    behind = on_sphere(np.array([np.pi, 0]) + 0.1 * CIRCLE)[None]
    globe = plots.projections(MAPS, behind, [])[0]
    assert len(globe.patches) == 1


def test_a_globe_from_far_away():
    p = RNG.uniform(-3, 3, (50, 2)) / (1, 2)
    seen, visible = orthographic(on_sphere(p), (0, 90))  # from over the north pole
    np.testing.assert_allclose(seen[:, 0], np.cos(p[:, 1]) * np.sin(p[:, 0]), atol=1e-12)
    np.testing.assert_allclose(seen[:, 1], -np.cos(p[:, 1]) * np.cos(p[:, 0]), atol=1e-12)
    assert (visible == (p[:, 1] >= 0)).all()
    centre = on_sphere(np.radians([40.0, 20.0]))
    np.testing.assert_allclose(orthographic(centre, (40, 20))[0], 0, atol=1e-12)
    assert not orthographic(-centre, (40, 20))[1]


def test_paths_are_drawn_as_given():
    given = climb()
    a, b, gradient, natural, _ = plots.globe_ascent(**given)
    drawn = [line.get_xydata() for line in a.lines]
    for method in METHODS:
        assert any(np.array_equal(line, given["on_map"][method]["a"]) for line in drawn)
    for ax, method in ((gradient, "gradient"), (natural, "natural gradient")):
        for path in given["on_globe"][method].values():
            expected = orthographic(path, (0, 30))[0]
            assert any(
                line.get_xydata().shape == (4, 2) and np.allclose(line.get_xydata(), expected)
                for line in ax.lines
            )
    assert a.get_title() == "a\nkeeps angles" and b.get_title() == "b\nkeeps areas"
    given = family()
    chart, _, first, second, _ = plots.gaussian_flows(**given)
    for ax, paths in (
        (chart, given["in_chart"]["natural gradient"]["a"]),
        (first, given["pulled"]["gradient"]["b"]),
        (second, given["pulled"]["natural gradient"]["b"]),
    ):
        assert all(any(np.array_equal(line.get_xydata(), path) for line in ax.lines) for path in paths)
    assert (chart.get_xlabel(), chart.get_ylabel()) == ("p", "q")


def test_slopes_are_those_of_the_smaller_steps():
    h = np.array([0.8, 0.4, 0.2, 0.1, 0.05])
    y = 3 * h**2
    y[:2] = 50
    ax = plt.figure().add_subplot()
    disagreement(ax, h, {"square": y, "flat": np.ones(5)}, "distance")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["square: slope 2.00", "flat: slope 0.00"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), np.stack([h, y], axis=1)[::-1])
    low, high = ax.get_ylim()
    assert low < y.min() and high > 50


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: disagreement(None, [1], {"a": [1]}, ""), "expected at least two steps, got one"),
        (lambda: disagreement(None, [1, 2], {"a": [1]}, ""), r"expected distances of a of shape \(2,\)"),
        (lambda: disagreement(None, [1, 2], {"a": [0, 1]}, ""), "distances of a"),
        (lambda: disagreement(None, [1, 2], {}, ""), "expected at least one curve"),
        (lambda: plots.projections([], [], []), "expected at least one map"),
        (lambda: plots.projections(MAPS, CIRCLE, []), r"expected circles of shape \(n, m, 3\)"),
        (
            lambda: plots.globe_ascent(**climb(maps=dict.fromkeys("abcd", GRID))),
            "expected at most 3 charts, got 4",
        ),
        (lambda: plots.globe_ascent(**climb(sphere=GRID)), r"expected sphere of shape \(5, 6, 3\)"),
        (
            lambda: plots.globe_ascent(**climb(maps={"a": GRID[1:]})),
            r"expected grid of a of shape \(5, 6, 2\), got \(4, 6, 2\)",
        ),
        (
            lambda: plots.gaussian_flows(**family(in_chart=on_charts((4, 2)))),
            r"expected gradient flows in a of shape \(starts, k, 2\), got \(4, 2\)",
        ),
        (lambda: plots.gaussian_flows(**family(fit=[0])), r"expected fit of shape \(2,\)"),
    ],
)
def test_refusals(draw: Any, message: str):
    with pytest.raises(ValueError, match=message):
        draw()


def test_the_opening_as_files(tmp_path: Path):
    no_net: Any = None
    chapters = [module.compute(no_net) for module in (globe, ascents, gaussian)]
    pictures = {name: draw for chapter in chapters for name, draw in chapter.figures.items()}
    drawn = dict(save_all(pictures, tmp_path, "svg"))
    assert list(drawn) == ["map-projections", "map-ascent", "gaussian-charts"]
    assert all(path.stat().st_size > 10_000 and path.suffix == ".svg" for path in drawn.values())
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="expected a format among png, svg, pdf, got 'gif'"):
        next(save_all(pictures, tmp_path, "gif"))
