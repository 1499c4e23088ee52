"""The report's chapters without the tour's own net: the talk's opening, and who sees the net."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import datasets, tour
from minikfac.invariance import study as invariance
from minikfac.invariance.study import METHODS, Invariance, invariance_matrix
from minikfac.plots.invariance import tiny
from minikfac.tour import ascents, figures, gaussian_flows, text
from minikfac.tour import text_invariance as chapter
from minikfac.tour import text_opening as opening
from minikfac.tour.chapters import opening as studies
from minikfac.tour.chapters.charts import order
from minikfac.tour.chapters.opening import Opening
from minikfac.tour.chapters.projections import Lambert, Mercator, tissot
from minikfac.tour.results import results
from minikfac.tour.run import Findings, Settings
from minikfac.tour.words import Section, Table, number

SMALL = Settings(
    sizes=(16, 5, 10), steps=5, n_examples=30, along=False, measures=("matrix",), approximations=("K-FAC",)
)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def start() -> Opening:
    return Opening(tissot(), ascents(duration=2, halvings=3), gaussian_flows(duration=2, halvings=3))


@pytest.fixture(scope="module")
def gaps() -> Invariance:
    chosen = [own for own in METHODS if own.name in ("K-FAC", "EKFAC", "diagonal Fisher", "SGD", "Adam")]
    found = Invariance(invariance_matrix(chosen, most=3, progress=False))
    found.dampings, found.damped = invariance.gap_against_damping()
    found.applications.append(invariance.logistic_for_tanh(3))
    return found


@pytest.fixture(scope="module")
def found(start: Opening, gaps: Invariance) -> Findings:
    own = tour.tour(datasets.digits(components=16), SMALL, False, progress=False)
    return replace(own, opening=start, invariance=gaps)


def words(sections: list[Section]) -> str:
    return " ".join(part for section in sections for part in section.parts if isinstance(part, str))


# the opening ----------------------------------------------------------------------------------------------


def test_numbers_of_the_opening_are_those_of_its_studies(start: Opening, found: Findings) -> None:
    assert start.maps is not None and start.ascents is not None and start.gaussian is not None
    told = words(opening.chapter(found))
    maps = {own.name: own for own in start.maps.maps}
    assert "on 5 maps" in told and "Mercator and stereographic keep angles" in told
    grown = max(maps[name].areas.max() for name in ("Mercator", "stereographic"))
    assert f"up to {number(grown)} times the area" in told
    longest = max(maps[name].shapes.max() for name in ("Lambert", "sinusoidal"))
    assert f"up to {number(longest)} times as long as wide" in told
    assert "Equirectangular keeps neither" in told and "None keeps both" in told
    for own in start.ascents.apart.values():
        assert number(own[0]) in told and number(own[-1]) in told
    assert f"h<sup>{order(start.ascents.steps, start.ascents.apart['natural gradient']):.2f}</sup>" in told
    flow = start.gaussian.one_step["natural gradient"]
    assert f"h<sup>{order(start.gaussian.steps, flow):.2f}</sup> (one step)" in told


def test_maps_are_told_by_what_they_keep(found: Findings) -> None:
    def told(*projections: Any) -> str:
        return words(opening.chapter(replace(found, opening=Opening(tissot(projections)))))

    assert "Mercator keeps angles" in told(Mercator()) and "areas" not in told(Mercator())
    assert "Lambert keeps areas" in told(Lambert()) and "angles" not in told(Lambert())

    class Both(Mercator):
        """As no map can be: as if the globe were flat."""

        name = "flat"

        def stretch(self, p: np.ndarray) -> np.ndarray:
            return np.broadcast_to(np.eye(2), (*p.shape, 2))

    assert "None keeps both" in told(Mercator(), Lambert())
    assert "None keeps both" not in told(Both(), Lambert())


def test_stages_fill_the_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tissot", "ascents", "gaussian_flows"):
        monkeypatch.setattr(studies, name, lambda name=name: name)
    made = Opening()
    for stage in studies.stages(made).values():
        stage()
    assert made == Opening("tissot", "ascents", "gaussian_flows")  # type: ignore[arg-type]


# who sees the net -----------------------------------------------------------------------------------------


def test_numbers_of_the_matrix_are_those_of_the_runs(gaps: Invariance, found: Findings) -> None:
    sections = chapter.chapter(found)
    told = words(sections)
    worst = max(gaps.cell("K-FAC", change).gap for change in gaps.changes)
    assert f"with <b>K-FAC</b>: what parts them is rounding, {number(worst)} of" in told
    assert "Only under “orthogonal” they do with EKFAC and SGD." in told
    assert "Only under “diagonal” they do with diagonal Fisher." in told
    assert "Under none they do with Adam." in told
    seen = [gaps.cell("SGD", change).gap for change in gaps.changes if change != "orthogonal"]
    assert f"{number(min(seen))} to {number(max(seen))} of the distance moved apart" in told
    assert "37 of 37 pairs of nets are as theory says [MG15, sec. 10; GM16, sec. 4.1]." in told
    (rows,) = (part for section in sections for part in section.parts if isinstance(part, Table))
    assert list(rows.header) == ["method", "steps", *gaps.changes]
    (sgd,) = (row for row in rows.cells if row[0] == "SGD")
    assert sgd[1] == "3" and sgd[2] == f"{tiny(gaps.cell('SGD', 'orthogonal').gap)} ="
    assert sgd[4] == tiny(gaps.cell("SGD", "general affine").gap)


def test_steps_and_damping_in_words(gaps: Invariance) -> None:
    told = chapter.by_steps(gaps)
    assert told is not None
    for method in ("K-FAC", "SGD"):
        own = gaps.cell(method, chapter.FOLLOWED)
        assert number(float(own.gaps[0])) in told and f"{number(own.gap)} after 3" in told
    told = chapter.by_damping(gaps)
    assert told is not None
    powers = [float(power) for power in re.findall(r"λ<sup>([\d.]+)</sup>", told)]
    np.testing.assert_allclose(powers, list(chapter.SLOPES.values()), atol=0.05)
    own = gaps.damped["K-FAC, factored damping"][list(gaps.dampings).index(1e-3)]
    assert number(float(own)) in told
    bare = replace(gaps, cells=[cell for cell in gaps.cells if cell.method != "SGD"], damped={})
    assert chapter.by_steps(bare) is None and chapter.by_damping(bare) is None


def test_an_application_in_words(gaps: Invariance) -> None:
    (own,) = gaps.applications
    told = chapter.application(own)
    assert told is not None
    for cell in own.cells:
        assert f"After 3 steps of {cell.method} the gap is {number(cell.gap)}" in told
        assert number(float(cell.losses[0][-1])) in told
    assert "nats with both" in told.split("K-FAC")[1] and "nats (logistic) and" in told
    failed = replace(own, cells=(own.cells[0], replace(own.cells[1], failure="loss not finite")))
    assert chapter.application(failed) is None


def test_what_is_not_as_theory_says_is_named(gaps: Invariance) -> None:
    broken = replace(gaps.cell("K-FAC", "whiten"), gaps=np.array([0.5]))
    cells = [broken if cell is gaps.cell("K-FAC", "whiten") else cell for cell in gaps.cells]
    told = chapter.who(replace(gaps, cells=cells))
    assert "36 of 37 pairs" in told and "not so K-FAC under whiten." in told
    assert "<b>K-FAC</b>" not in told


# in the report --------------------------------------------------------------------------------------------


def test_a_tour_makes_them_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("minikfac.tour.run")  # the package has a function of this name
    asked: list[int] = []
    monkeypatch.setattr(module, "brief", lambda seed: asked.append(seed) or "gaps")
    monkeypatch.setattr(module, "opening_stages", lambda found: {"maps": lambda: setattr(found, "maps", 1)})
    data = datasets.digits(components=16)
    plain = tour.tour(data, SMALL, progress=False)
    assert plain.opening is None and plain.invariance is None and not asked
    made = tour.tour(data, replace(SMALL, opening=True, invariance=True, seed=3), progress=False)
    assert asked == [3] and made.invariance == "gaps" and made.opening == Opening(1)  # type: ignore[arg-type]


def test_the_report_begins_with_the_globe_and_has_all_pictures(found: Findings, tmp_path: Path) -> None:
    names = ["map-projections", "map-ascent", "gaussian-charts"]
    assert list(figures.available(found))[:3] == names
    own = {"invariance", "gap-by-steps", "gap-by-damping", "logistic-to-tanh"}
    assert own < set(figures.available(found))
    assert not own & set(figures.available(replace(found, invariance=None, opening=None)))
    written = tour.write_report(found, tmp_path, progress=False)
    source = written.page.read_text(encoding="utf-8")
    keys = re.findall(r'<section id="([a-z]+)"', source)
    assert keys[:3] == ["globe", "ascent", "gaussian"] and keys[-1] == "made"
    where = keys.index("invariance")
    assert keys[where : where + 4] == ["invariance", "gapsteps", "gapdamping", "equivalent"]
    assert len(set(keys)) == len(keys) and source.count("<img") >= len(written.pictures)
    assert not re.search(r"\bnan\b|\binf\b|None\b(?! keeps)", re.sub(r'src="[^"]*"', "", source))
    assert text.sections(replace(found, opening=None, invariance=None))[0].key == "net"


def test_results_hold_their_numbers(start: Opening, gaps: Invariance, found: Findings) -> None:
    assert start.ascents is not None and start.gaussian is not None
    stored = results(found)
    assert list(stored["opening"]["maps"]["Mercator"]) == ["keeps", "areas", "shapes"]
    assert stored["opening"]["ascents"]["apart"]["gradient"] == start.ascents.apart["gradient"].tolist()
    assert stored["opening"]["gaussian"]["walked"]["gradient"] == start.gaussian.walked["gradient"].tolist()
    assert len(stored["invariance"]["cells"]) == len(gaps.cells)
    bare = results(replace(found, opening=Opening(), invariance=None))
    assert bare["opening"] == {} and "invariance" not in bare
    assert opening.chapter(replace(found, opening=Opening())) == []


def test_the_brief_study_is_the_whole_matrix_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(invariance, "invariance_matrix", lambda **options: asked.update(options) or [])
    monkeypatch.setattr(invariance, "logistic_for_tanh", lambda seed: seed)
    made = invariance.brief(4)
    assert asked == {"seed": 4, "most": 10, "progress": False} and made.applications == [4]
    assert set(made.damped) == set(invariance.DAMPED)
