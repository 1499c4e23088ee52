"""Animations: curves grow to what the figure has, a page per moment, and files are small."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from minikfac.tour import animations


def test_curves_grow_point_by_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(animations, "FRAMES", 4)
    fig, ax = plt.subplots()
    (long,), (short,) = ax.plot(np.arange(10.0)), ax.plot([0.0, 1.0])
    grab = animations.PillowWriter.grab_frame

    def noting(writer: animations.PillowWriter, **options: object) -> None:
        shown.append((len(long.get_xdata()), len(short.get_xdata())))
        grab(writer, **options)

    monkeypatch.setattr(animations.PillowWriter, "grab_frame", noting)
    path = animations.grow(fig, tmp_path / "curve.gif")
    assert shown[:4] == [(2, 2), (4, 2), (7, 2), (10, 2)] and set(shown[4:]) == {(10, 2)}
    with Image.open(path) as film:
        assert film.format == "GIF" and film.n_frames >= 3
    assert not plt.get_fignums()


def test_figures_that_grow_and_the_block_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animations, "MOMENTS", (0, 3))
    monkeypatch.setattr(animations, "FRAMES", 2)
    drawings = {"valley": lambda: plt.subplots()[1].plot([0, 1, 2], [0, 1, 4]), "ledger": lambda: None}
    written = dict(animations.animate(drawings, tmp_path))
    assert [path.name for path in written.values()] == ["valley.gif", "block.gif"]
    with Image.open(written["block"]) as film:
        assert film.n_frames == 2 and film.width > 800
    assert all(path.stat().st_size < 1.5e6 for path in written.values())
