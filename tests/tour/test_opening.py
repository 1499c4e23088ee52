"""The opening: sentences and numbers on maps of the globe, ascent on them, and a Gaussian in three charts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import datasets, tour
from minikfac.tour.chapters import CHAPTERS
from minikfac.tour.chapters.ascents import Ascents
from minikfac.tour.chapters.charts import order
from minikfac.tour.chapters.gaussian import GaussianFlows
from minikfac.tour.chapters.globe import Lambert, Mercator, Tissot, tissot
from minikfac.tour.page import results
from minikfac.tour.parts import number

OPENING = ("globe", "ascents", "gaussian")
SETTINGS = tour.Settings(
    sizes=(16, 5, 10),
    steps=5,
    n_examples=30,
    along=False,
    measures=("matrix",),
    approximations=("K-FAC",),
    chapters=OPENING,
)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def maps() -> Tissot:
    return tissot()


@pytest.fixture(scope="module")
def climb() -> Ascents:
    return tour.ascents(duration=2, halvings=3)


@pytest.fixture(scope="module")
def flows() -> GaussianFlows:
    return tour.gaussian_flows(duration=2, halvings=3)


def words(chapter: Any) -> str:
    return " ".join(part for section in chapter.sections() for part in section.parts if isinstance(part, str))


def test_maps_in_words(maps: Tissot) -> None:
    text = words(maps)
    by_name = {one.name: one for one in maps.maps}
    assert "on 5 maps" in text and "Mercator and stereographic keep angles" in text
    grown = max(by_name[name].areas.max() for name in ("Mercator", "stereographic"))
    assert f"up to {number(grown)} times the area" in text
    longest = max(by_name[name].shapes.max() for name in ("Lambert", "sinusoidal"))
    assert f"up to {number(longest)} times as long as wide" in text
    assert "Equirectangular keeps neither" in text and "None keeps both" in text


def test_ascents_in_words(climb: Ascents) -> None:
    text = words(climb)
    for distances in climb.apart.values():
        assert number(distances[0]) in text and number(distances[-1]) in text
    assert f"h<sup>{order(climb.steps, climb.apart['natural gradient']):.2f}</sup>" in text


def test_flows_in_words(flows: GaussianFlows) -> None:
    power = order(flows.steps, flows.one_step["natural gradient"])
    assert f"h<sup>{power:.2f}</sup> (one step)" in words(flows)


def test_maps_are_named_by_what_they_keep() -> None:
    def text(*projections: Any) -> str:
        return words(tissot(projections))

    assert "Mercator keeps angles" in text(Mercator()) and "areas" not in text(Mercator())
    assert "Lambert keeps areas" in text(Lambert()) and "angles" not in text(Lambert())

    class Both(Mercator):
        """As no map can be: as if the globe were flat."""

        name = "flat"

        def stretch(self, p: np.ndarray) -> np.ndarray:
            return np.broadcast_to(np.eye(2), (*p.shape, 2))

    assert "None keeps both" in text(Mercator(), Lambert())
    assert "None keeps both" not in text(Both(), Lambert())


def test_the_report_begins_with_the_globe(
    maps: Tissot, climb: Ascents, flows: GaussianFlows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, chapter in zip(OPENING, (maps, climb, flows), strict=True):
        monkeypatch.setattr(CHAPTERS[name], "compute", lambda run, chapter=chapter: chapter)
    made = tour.tour(datasets.digits(components=16), SETTINGS, progress=False)
    assert list(made.chapters)[:3] == list(OPENING)
    names = ["map-projections", "map-ascent", "gaussian-charts"]
    assert list(made.figures())[:3] == names
    written = tour.write_report(made, tmp_path, progress=False)
    source = written.page.read_text(encoding="utf-8")
    keys = re.findall(r'<section id="([a-z]+)"', source)
    assert keys[:4] == ["globe", "ascent", "gaussian", "net"] and keys[-1] == "made"
    assert source.count("<img") >= len(written.pictures)
    assert not re.search(r"\bnan\b|\binf\b|None\b(?! keeps)", re.sub(r'src="[^"]*"', "", source))
    stored = results(made)["opening"]
    assert list(stored["maps"]["Mercator"]) == ["keeps", "areas", "shapes"]
    assert stored["ascents"]["apart"]["gradient"] == climb.apart["gradient"].tolist()
    assert stored["gaussian"]["walked"]["gradient"] == flows.walked["gradient"].tolist()


def test_a_tour_makes_them_only_where_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    for name in (*OPENING, "invariance", "convolutions"):
        monkeypatch.setattr(CHAPTERS[name], "compute", lambda run, name=name: computed.append(name))
    tour.tour(datasets.digits(components=16), tour.Settings(sizes=(16, 5, 10), steps=2), progress=False)
    assert computed == []


@pytest.mark.parametrize("name", OPENING)
def test_no_net_is_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    computes = {"globe": "tissot", "ascents": "ascents", "gaussian": "gaussian_flows"}
    monkeypatch.setattr(CHAPTERS[name], computes[name], lambda: name)
    assert CHAPTERS[name].compute(None) == name
