"""The chapter on equivalent nets: its sentences follow the gaps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import datasets, tour
from minikfac.invariance import METHODS, Invariance, gap_against_damping, invariance_matrix, study
from minikfac.tour.chapters import CHAPTERS
from minikfac.tour.chapters import invariance as chapter
from minikfac.tour.page import results
from minikfac.tour.parts import Section, number


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def gaps() -> Invariance:
    chosen = [row for row in METHODS if row.name in ("K-FAC", "EKFAC", "diagonal Fisher", "SGD", "Adam")]
    matrix = invariance_matrix(chosen, most=3, progress=False)
    return Invariance(matrix, *gap_against_damping(), [study.logistic_for_tanh(3)])


def words(sections: list[Section]) -> str:
    return " ".join(part for section in sections for part in section.parts if isinstance(part, str))


def test_numbers_of_the_finding_are_those_of_the_runs(gaps: Invariance) -> None:
    (finding,) = chapter.chapter(gaps).findings
    kept = max(cell.gap for cell in gaps.all_cells if cell.expected)
    broken = min(cell.gap for cell in gaps.all_cells if not cell.expected)
    assert finding.value == "37 of 37"
    assert f"is {number(kept)} of the distance moved" in finding.meaning
    assert f"the smallest of the latter {number(broken)}." in finding.meaning


def test_what_is_not_as_theory_says_is_counted(gaps: Invariance) -> None:
    broken = replace(gaps.matrix.cell("K-FAC", "whiten"), gaps=np.array([0.5]))
    cells = [
        broken if (cell.method, cell.change) == ("K-FAC", "whiten") else cell for cell in gaps.matrix.cells
    ]
    (finding,) = chapter.chapter(replace(gaps, matrix=study.GapMatrix(cells))).findings
    assert finding.value == "36 of 37" and "is 0.5 of the distance moved" in finding.meaning


def test_an_application_that_failed_has_no_section(gaps: Invariance) -> None:
    (one,) = gaps.applications
    failed = replace(one, cells=(one.cells[0], replace(one.cells[1], failure="loss not finite")))
    for application, shown in ((one, True), (failed, False)):
        sections = chapter.chapter(replace(gaps, applications=[application])).sections
        assert ("logistic-to-tanh" in [section.key for section in sections]) == shown


def test_the_report_has_the_chapter(
    gaps: Invariance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CHAPTERS["invariance"], "compute", lambda run: chapter.chapter(gaps))
    settings = tour.Settings(
        sizes=(16, 5, 10), steps=5, n_examples=30, measures=("matrix",),
        approximations=("K-FAC",), chapters=("invariance",),
    )  # fmt: skip
    made = tour.tour(datasets.digits(components=16), settings, progress=False)
    names = {"invariance", "gap-by-damping", "logistic-to-tanh"}
    assert names < set(made.figures())
    written = tour.write_report(made, tmp_path, progress=False)
    source = written.page.read_text(encoding="utf-8")
    keys = re.findall(r'<(?:details class="chapter"|section) id="([a-z-]+)"', source)
    where = keys.index("invariance")
    assert keys[where : where + 3] == ["invariance", "gapdamping", "logistic-to-tanh"]
    assert len(set(keys)) == len(keys) and names < set(written.pictures)
    assert not re.search(r"\bnan\b|\binf\b|None\b", re.sub(r'src="[^"]*"', "", source))
    assert len(results(made)["invariance"]["cells"]) == len(gaps.matrix.cells)


def test_the_chapter_is_the_brief_study(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}
    monkeypatch.setattr(study, "invariance_matrix", lambda **given: options.update(given) or [])
    monkeypatch.setattr(study, "logistic_for_tanh", lambda seed: seed)
    monkeypatch.setattr(chapter, "chapter", lambda gaps: gaps)
    made: Any = chapter.compute(SimpleNamespace(settings=tour.Settings(seed=4)))  # type: ignore[arg-type]
    assert options == {"seed": 4, "most": 10, "progress": False} and made.applications == [4]
    assert set(made.damped) == set(study.DAMPED)
