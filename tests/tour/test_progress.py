"""What curvature is good for: the studies on the bundled digits, their pictures and the report's section."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minikfac import datasets, races, tour, training
from minikfac.parallel import one_thread
from minikfac.plots.ticks import short
from minikfac.tour import Settings, Tour
from minikfac.tour.chapters import progress
from minikfac.tour.chapters.conditioning import METHODS, conditioning
from minikfac.tour.chapters.damping_study import MATRICES, STEPS
from minikfac.tour.chapters.progress import Improvement
from minikfac.tour.page import plain, results
from minikfac.tour.parts import Chapter, Figure, number
from oracles import close

SMALL = Settings(
    sizes=(16, 5, 10), steps=5, n_examples=30, measures=("matrix",), approximations=("K-FAC",),
    chapters=(),
)  # fmt: skip
KFAC = list(MATRICES)[2]


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def at() -> Improvement:
    return progress.improvement(width=0.2, steps=30)


@pytest.fixture(scope="module")
def chapter(at: Improvement) -> Chapter:
    return progress.chapter(conditioning(steps=20, condition_numbers=[10, 100]), at)


@pytest.fixture(scope="module")
def small(chapter: Chapter) -> Tour:
    made = tour.tour(datasets.digits(components=16), SMALL, progress=False)
    return replace(made, chapters={**made.chapters, "progress": chapter})


def words(chapter: Chapter) -> str:
    (section,) = chapter.sections
    return " ".join(part for part in section.parts if isinstance(part, str))


# the studies ----------------------------------------------------------------------------------------------


def test_the_iterate_is_one_of_k_fac_by_its_recipe(at: Improvement) -> None:
    autoencoder, kfac = races.problem(progress.PROBLEM, width=0.2), races.recipe(progress.PROBLEM, "K-FAC")
    net, data = autoencoder.net, autoencoder.dataset
    with one_thread():
        run = training.train(
            net, autoencoder.theta(), kfac.make(net), data, 30, kfac.batches(data), progress=False
        )
    l2 = kfac.arguments["l2"]
    close(at.loss, run["loss"][-1])
    close(at.study.objective, at.loss + l2 / 2 * float(run.theta @ run.theta))
    assert (at.n_params, at.steps) == (net.n_params, 30)
    assert (at.gamma, at.study.lam) == (run.state["gamma"], run.state["lam"])
    assert set(at.study.improvements) == {(matrix, kind) for matrix in MATRICES for kind in STEPS}
    assert progress.improvement(1, 0.2, 30).loss != at.loss


def test_the_best_step_is_the_largest_improvement(at: Improvement) -> None:
    improvements = {("F", "so"): np.array([-np.inf, 2.0, 1.0])}
    study = replace(at.study, gammas=np.array([0.1, 1.0, 3.0]), improvements=improvements)
    assert replace(at, study=study).best("F", "so") == (2.0, 1.0)


def test_only_a_tour_that_names_it_computes_it(at: Improvement, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    monkeypatch.setattr(progress, "improvement", lambda seed: seeds.append(seed) or at)
    data = datasets.digits(components=16)
    assert "progress" not in tour.tour(data, replace(SMALL, chapters=None), progress=False).chapters
    assert not seeds
    made = tour.tour(data, replace(SMALL, chapters=("progress",), seed=3), progress=False)
    valley, improved = made.chapters["progress"].results
    assert seeds == [3] and improved is at
    assert set(valley.steps) < set(METHODS)


# the section ----------------------------------------------------------------------------------------------


def test_numbers_in_the_section_are_those_of_the_studies(chapter: Chapter, at: Improvement) -> None:
    text = words(chapter)
    assert "curved 100 times as much" in text and "<b>346</b> steps" in text
    assert "with its best momentum, 58" in text and "whatever the ratio: <b>1</b>." in text
    assert f"({at.n_params:,} weights) after 30 steps" in text
    for matrix, kind in ((KFAC, STEPS[2]), *((name, STEPS[1]) for name in MATRICES if "K-FAC" not in name)):
        assert number(at.best(matrix, kind)[0]) in text
    (section,) = chapter.sections
    names = [part.name for part in section.parts if isinstance(part, Figure)]
    assert names == ["valley", "improvement-by-damping"] == list(chapter.figures)


def test_the_finding_states_how_many_steps_harm(chapter: Chapter, at: Improvement) -> None:
    (finding,) = chapter.findings
    assert finding.value == f"{(at.study.improvements[KFAC, STEPS[0]] <= 0).sum()} of 9"
    for kind in STEPS[:2]:
        assert f"{number(at.best(KFAC, kind)[0])} nats" in finding.meaning
    harmful = {key: -np.abs(values) for key, values in at.study.improvements.items()}
    study = replace(at.study, improvements=harmful)
    valley, _ = chapter.results
    (finding,) = progress.chapter(valley, replace(at, study=study)).findings
    assert finding.value == "9 of 9"


def test_pictures_of_progress_show_the_studies(chapter: Chapter, at: Improvement) -> None:
    drawings = chapter.figures
    above = drawings["valley"]()[0]
    assert len(above.lines) == len(METHODS)  # the star in the place of momentum
    assert max(np.abs(line.get_ydata()).max() for line in above.lines) < 0.31
    title = drawings["improvement-by-damping"]()[0].figure.get_suptitle()
    best = max(float(values.max()) for values in at.study.improvements.values())
    stated = "After 30 steps of K-FAC on a small autoencoder, one more lowers the objective by\nat most "
    assert title.startswith(f"{stated}{short(best)} nats (")


def test_the_report_and_its_numbers_hold_the_section(small: Tour, at: Improvement, tmp_path: Path) -> None:
    written = tour.write_report(small, tmp_path, progress=False)
    source = written.page.read_text(encoding="utf-8")
    assert source.index('class="chapter" id="progress"') < source.index('class="chapter" id="made"')
    assert {"valley", "improvement-by-damping"} <= set(written.pictures)
    stored = json.loads(written.results.read_text(encoding="utf-8"))
    assert stored == results(small)
    record = stored["descent"]
    assert record["conditioning"]["steps"]["gradient, the best step"] == [35, 346]
    assert record["improvement"]["gamma"] == at.gamma
    rows = {(row["matrix"], row["way"]): row["nats"] for row in record["improvement"]["improvements"]}
    assert rows[KFAC, "re-scaled"] == plain(at.study.improvements[KFAC, "re-scaled"])
