"""The opening: sentences and numbers on maps of the globe, ascent on them, and a Gaussian in three charts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from minikfac import datasets, tour
from minikfac.tour.chapters import CHAPTERS
from minikfac.tour.chapters.ascents import Ascents
from minikfac.tour.chapters.gaussian import GaussianFlows
from minikfac.tour.chapters.globe import Tissot, tissot
from minikfac.tour.page import results

OPENING = ("globe", "ascents", "gaussian")
SETTINGS = tour.Settings(
    sizes=(16, 5, 10),
    steps=5,
    n_examples=30,
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


def test_the_report_begins_with_the_globe(
    maps: Tissot, climb: Ascents, flows: GaussianFlows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes = {"globe": "tissot", "ascents": "ascents", "gaussian": "gaussian_flows"}
    for (name, function), drawn in zip(computes.items(), (maps, climb, flows), strict=True):
        monkeypatch.setattr(CHAPTERS[name], function, lambda drawn=drawn: drawn)
    made = tour.tour(datasets.digits(components=16), SETTINGS, progress=False)
    assert list(made.chapters)[:3] == list(OPENING)
    names = ["map-projections", "map-ascent", "gaussian-charts"]
    assert list(made.figures())[:3] == names
    written = tour.write_report(made, tmp_path, progress=False)
    source = written.page.read_text(encoding="utf-8")
    keys = re.findall(r'<(?:details class="chapter"|section) id="([a-z]+)"', source)
    assert keys[:4] == ["globe", "ascent", "gaussian", "net"] and keys[-1] == "made"
    assert source.count("<img") >= len(written.pictures)
    assert not re.search(r"\bnan\b|\binf\b|None\b", re.sub(r'src="[^"]*"', "", source))
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
def test_no_net_is_needed(name: str) -> None:
    assert CHAPTERS[name].compute(None).results is not None
