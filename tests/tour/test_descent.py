"""What curvature is good for: the studies on the bundled digits, their pictures and the report's section."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import datasets, races, tour, training
from minikfac.parallel import one_thread
from minikfac.tour import figures
from minikfac.tour import text_descent as descent
from minikfac.tour.chapters import descent as studies
from minikfac.tour.chapters.conditioning import METHODS, conditioning
from minikfac.tour.chapters.damping_study import MATRICES, WAYS
from minikfac.tour.chapters.descent import Descent, Improvement
from minikfac.tour.results import plain, results
from minikfac.tour.run import Findings, Settings
from minikfac.tour.words import number
from oracles import EXACT, close

SMALL = Settings(
    sizes=(16, 5, 10), steps=5, n_examples=30, along=False, measures=("matrix",), approximations=("K-FAC",)
)
KFAC = list(MATRICES)[2]


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def at() -> Improvement:
    return studies.improvement(width=0.2, steps=30)


@pytest.fixture(scope="module")
def whole(at: Improvement) -> Descent:
    valley = conditioning(steps=20, condition_numbers=[10, 100])
    return Descent(valley, at)


@pytest.fixture(scope="module")
def found(whole: Descent) -> Findings:
    return replace(tour.tour(datasets.digits(components=16), SMALL, False, progress=False), descent=whole)


def words(section: Any) -> str:
    assert section is not None
    return " ".join(part for part in section.parts if isinstance(part, str))


# the studies ----------------------------------------------------------------------------------------------


def test_the_iterate_is_one_of_k_fac_by_its_recipe(at: Improvement) -> None:
    own, kfac = races.problem(studies.PROBLEM, width=0.2), races.recipe(studies.PROBLEM, "K-FAC")
    with one_thread():
        run = training.train(
            own.net,
            own.theta(),
            kfac.make(own.net),
            own.dataset,
            30,
            kfac.batches(own.dataset),
            progress=False,
        )
    l2 = kfac.arguments["l2"]
    close(at.loss, run["loss"][-1], **EXACT)
    close(at.study.objective, at.loss + l2 / 2 * float(run.theta @ run.theta), **EXACT)
    assert (at.n_params, at.steps) == (own.net.n_params, 30)
    assert (at.gamma, at.study.lam) == (run.state["gamma"], run.state["lam"])
    assert set(at.study.improvements) == {(matrix, way) for matrix in MATRICES for way in WAYS}
    assert studies.improvement(1, 0.2, 30).loss != at.loss


def test_the_best_step_is_the_largest_improvement(at: Improvement) -> None:
    study = replace(
        at.study, gammas=np.array([0.1, 1.0, 3.0]), improvements={("F", "so"): [-np.inf, 2.0, 1.0]}
    )
    study = replace(study, improvements={key: np.array(v) for key, v in study.improvements.items()})
    assert replace(at, study=study).best("F", "so") == (2.0, 1.0)


def test_a_tour_makes_them_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(studies, "improvement", lambda seed: asked.append(seed) or "improved")
    data = datasets.digits(components=16)
    assert tour.tour(data, SMALL, progress=False).descent is None and not asked
    made = tour.tour(data, replace(SMALL, descent=True, seed=3), progress=False).descent
    assert made is not None and asked == [3] and made.improvement == "improved"
    assert made.valley is not None and set(made.valley.steps) < set(METHODS)


# the section ----------------------------------------------------------------------------------------------


def test_numbers_in_the_section_are_those_of_the_studies(whole: Descent, found: Findings) -> None:
    text = words(descent.section(found))
    assert whole.valley is not None and whole.improvement is not None
    assert "curved 100 times as much" in text and "<b>346 steps</b>" in text
    assert "with its best momentum, 58" in text and "takes <b>1 step</b>, whatever the ratio" in text
    at = whole.improvement
    harmful = (at.study.improvements[KFAC, WAYS[0]] <= 0).sum()
    assert f"({at.n_params:,} weights) after 30 steps" in text
    assert f"harms with {harmful} of 9 strengths" in text
    for way in WAYS:
        assert number(at.best(KFAC, way)[0]) in text
    for matrix in MATRICES:
        assert (number(at.best(matrix, WAYS[1])[0]) in text) == (matrix != "K-FAC, exact damping")
    names = [part.name for part in descent.section(found).parts if hasattr(part, "name")]  # type: ignore[union-attr]
    assert names == ["valley", "improvement-by-damping"]


def test_the_section_says_what_was_found_and_no_more(at: Improvement, found: Findings) -> None:
    turned = {key: -np.abs(values) for key, values in at.study.improvements.items()}
    worse = replace(at, study=replace(at.study, improvements=turned))
    text = words(descent.section(replace(found, descent=Descent(improvement=worse))))
    assert "harms with each of the 9 strengths" in text and "times as much" not in text
    assert "nats" not in text and "346" not in text
    only_raw = {key: values for key, values in turned.items() if key[1] == WAYS[0]}
    helped = replace(at, study=replace(at.study, improvements=at.study.improvements | only_raw))
    text = words(descent.section(replace(found, descent=Descent(improvement=helped))))
    assert "harms with each" in text and "nats</b>" in text and "times as much" not in text
    assert descent.section(replace(found, descent=Descent())) is None
    assert descent.section(replace(found, descent=None)) is None


def test_pictures_of_progress_are_available_where_they_were_made(
    at: Improvement, whole: Descent, found: Findings
) -> None:
    own = ["valley", "improvement-by-damping"]
    assert [name for name in figures.available(found) if name in own] == own
    assert not set(own) & set(figures.available(replace(found, descent=None)))
    few = replace(found, descent=Descent(improvement=at))
    assert set(own) & set(figures.available(few)) == {"improvement-by-damping"}
    drawn = figures.available(found)
    above = drawn["valley"](found)[0]
    assert len(above.lines) == len(METHODS)  # the star in the place of momentum
    assert max(np.abs(line.get_ydata()).max() for line in above.lines) < 0.31
    title = drawn["improvement-by-damping"](found)[0].figure.get_suptitle()
    assert title == "What one step improves, after 30 steps of K-FAC on a small autoencoder"


def test_the_report_and_its_numbers_hold_the_section(found: Findings, tmp_path: Path) -> None:
    written = tour.write_report(found, tmp_path, progress=False)
    source = written.page.read_text(encoding="utf-8")
    keys = re.findall(r'<section id="([a-z]+)"', source)
    assert "progress" in keys and keys[-1] == "made"
    assert {"valley", "improvement-by-damping"} <= set(written.pictures)
    stored = json.loads(written.results.read_text(encoding="utf-8"))
    assert stored == results(found)
    assert found.descent is not None and found.descent.improvement is not None
    own = stored["descent"]
    assert own["conditioning"]["steps"]["gradient, the best step"] == [35, 346]
    assert own["improvement"]["gamma"] == found.descent.improvement.gamma
    rows = {(row["matrix"], row["way"]): row["nats"] for row in own["improvement"]["improvements"]}
    assert rows[KFAC, "re-scaled"] == plain(found.descent.improvement.study.improvements[KFAC, "re-scaled"])
