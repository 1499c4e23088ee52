"""The tour and its report, on a small net."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minikfac as mk
from minikfac import datasets, fisher, quality, tour
from minikfac.parallel import one_thread
from minikfac.plots.memory import human_bytes
from minikfac.tour import CHAPTERS, Settings, Tour
from minikfac.tour.chapters import ELSEWHERE
from minikfac.tour.chapters.matrices import Matrices, pictured
from minikfac.tour.chapters.memory import memory_rows
from minikfac.tour.chapters.scatter import Scatter
from minikfac.tour.page import page, plain, results, save_all
from minikfac.tour.parts import percent, two_digits
from minikfac.tour.settings import make_net, with_targets
from minikfac.tour.studied import picture_layers
from oracles.pages import ROOT

SMALL = Settings(
    sizes=(16, 6, 5, 6, 10),
    steps=30,
    n_examples=60,
    approximations=("block-diagonal", "K-FAC", "block-tridiagonal", "diagonal", "no curvature"),
    chapters=tuple(name for name in CHAPTERS if name not in ELSEWHERE or name == "along"),
)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def dataset() -> datasets.Dataset:
    return datasets.digits(components=16)


@pytest.fixture(scope="module")
def small(dataset: datasets.Dataset) -> Tour:
    return tour.tour(dataset, SMALL, progress=False)


@pytest.fixture(scope="module")
def written(small: Tour, tmp_path_factory: pytest.TempPathFactory) -> tour.Written:
    return tour.write_report(small, tmp_path_factory.mktemp("report") / "new" / "folder", progress=False)


class Page(HTMLParser):
    """What a page loads and where it leads, and whether its tags close."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("iframe", "object", "embed", "link")
        values = {key: value or "" for key, value in attrs}
        if tag not in self.VOID:
            self.open.append(tag)
        if "src" in values:
            self.loads.append(values["src"])
            assert tag == "img" and values["alt"]
        if "href" in values:
            self.links.append(values["href"])
        if "id" in values:
            self.ids.append(values["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h3", "h4"):
            self.headings.append(data)


# the page ------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_loads_nothing(written: tour.Written) -> None:
    source = written.page.read_text(encoding="utf-8")
    page = Page(source)
    assert page.open == []
    assert page.loads and all(address.startswith("data:image/png;base64,") for address in page.loads)
    assert "url(" not in source and "@import" not in source and "http:" not in source
    assert "https:" not in source
    assert 'name="viewport"' in source and "prefers-color-scheme: dark" in source and "@media print" in source


def test_links_lead_to_sections_figures_and_their_files(written: tour.Written) -> None:
    page = Page(written.page.read_text(encoding="utf-8"))
    assert len(set(page.ids)) == len(page.ids)
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {
        path.name for path in written.pictures.values()
    }
    assert all((written.page.parent / path.name).is_file() for path in written.pictures.values())
    contents = [*(f"finding{n}" for n in range(1, 6)), "chapters", *KEYS, "conclusion"]
    assert inside[: len(contents)] == contents


KEYS = [
    "net", "signals", "mean", "scatter", "kl", "matrices", "ledger", "quality", "models", "spectra",
    "sampling", "along", "memory", "made",
]  # fmt: skip


def test_chapters_are_folded_and_numbered(written: tour.Written) -> None:
    source = written.page.read_text(encoding="utf-8")
    assert re.findall(r'<details class="chapter" id="([a-z]+)"><summary>', source) == KEYS
    headings = Page(source).headings
    assert [heading.split()[0] for heading in headings] == [str(n) for n in range(1, len(KEYS) + 1)]


def test_each_figure_stands_once_and_in_few_colours(written: tour.Written) -> None:
    source = written.page.read_text(encoding="utf-8")
    assert len(written.pictures) == 12 == source.count("<figure id=")
    for path in written.pictures.values():
        with Image.open(path) as picture:
            assert picture.format == "PNG" and picture.mode == "P"
    together = sum(path.stat().st_size for path in written.pictures.values())
    assert len(source) < 1.4 * together + 60_000
    # 29 figures of the whole tour, so large on average, are below 4 MB
    assert len(source) / len(written.pictures) < 4e6 / 29
    for number in range(1, 13):
        assert f"<b>Figure {number}.</b>" in source
    assert source.index("Finding 1.") < source.index('id="figure1"') < source.index('<h2 id="chapters">')
    assert 'See <a href="#figure1">Figure 1</a>' in source  # in its chapter


def test_findings_are_those_that_exist(small: Tour) -> None:
    findings = small.head().findings
    for finding in findings:
        number, title = finding.tutorial.split(", ", 1)
        (notebook,) = (ROOT / "tutorials").glob(f"{int(number):02d}-*.ipynb")
        first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"]
        assert "".join(first).startswith(f"# {title}")
    figures = [finding.figure for finding in findings]
    assert figures == ["kfac", "quality", "along-training", "spectra", "sampling"]
    row = small.run.study.table["K-FAC"]
    assert findings[0].value == two_digits(row["error"])
    assert findings[1].value == percent(row["share"])
    along = small.chapters["along"].record["along"]
    cosines = [rows["K-FAC"]["step_cosine"] for rows in along["quality"]]
    at = (cosines[0], cosines[along["steps"].index(30)], cosines[-1])
    assert findings[2].value == " → ".join(map(two_digits, at))
    chapters = {name: chapter for name, chapter in small.chapters.items() if name in ("net", "quality")}
    few = replace(small, chapters=chapters)
    assert [finding.figure for finding in few.head().findings] == ["quality"]


def test_the_page_ends_with_what_speaks_for_and_against_k_fac(small: Tour, written: tour.Written) -> None:
    source = written.page.read_text(encoding="utf-8")
    end = source[source.index('<h2 id="conclusion">') :]
    rows = small.run.study.table
    assert "<b>For K-FAC:</b>" in end and "<b>Against it:</b>" in end and "needs damping" in end
    for name in ("K-FAC", "no curvature"):
        assert f"<b>{rows[name]['cg_iterations']:,.0f}</b>" in end
    assert f"relative error of its matrix is {two_digits(rows['K-FAC']['error'])}." in end


def test_nets_differ_in_numbers_alone(small: Tour, dataset: datasets.Dataset) -> None:
    """No sentence is chosen by comparing numbers: untrained or not, damped or not, the words are the same."""
    for changes in ({"steps": 3, "damping": 10.0, "seed": 5}, {"n_examples": 9, "damping": 1e-6, "lr": 0.01}):
        other = tour.tour(dataset, replace(SMALL, **changes), progress=False)
        assert words(other) == words(small)


def words(made: Tour) -> str:
    """The page without its numbers, and without names that are drawn with them."""
    source = page(made.head(), made.sections(), {})
    source = re.sub(r"Times: [^<]*?\.( |<)", "", source)
    source = source.replace("not reached", "#")  # infinitely many iterations
    power = r"10<sup>−?\d+</sup>"
    source = re.sub(rf"{power}|[−-]?\d+(?:[.,]\d+)*(?: × {power})?%?", "#", source)
    return re.sub(r"(weight # → #|bias of unit #)", "parameter", source)


def test_numbers_in_the_text_are_those_of_the_run(small: Tour, written: tour.Written) -> None:
    source = written.page.read_text(encoding="utf-8")
    n_params = small.run.net.n_params
    row = small.run.study.table["K-FAC"]
    assert f"{n_params:,}&nbsp;×&nbsp;{n_params:,}" in source
    assert f"It stores {row['floats']:,} numbers in place of {small.run.study.F.floats:,}." in source
    assert percent(row["share"]) in source
    assert not re.search(r"\bnan\b|\binf\b|None", re.sub(r'src="[^"]*"', "", source))


def test_names_of_users_are_escaped(small: Tour) -> None:
    run = replace(small.run, dataset=replace(small.run.dataset, name="<b>mine</b> & yours"))
    named = replace(small, run=run, chapters={**small.chapters, "net": CHAPTERS["net"].compute(run)})
    source = page(named.head(), named.sections(), {})
    assert "<b>mine" not in source and "&lt;b&gt;mine&lt;/b&gt; &amp; yours" in source


def test_what_was_left_out_is_said(small: Tour) -> None:
    study = replace(small.run.study, left_out=("spectrum",))
    (section,) = CHAPTERS["quality"].compute(replace(small.run, study=study)).sections
    assert any("Left out" in str(part) and "condition" in str(part) for part in section.parts)


# the numbers ---------------------------------------------------------------------------------------------


def test_results_are_finite_json_with_every_number(small: Tour, written: tour.Written) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    stored = json.loads(written.results.read_text(encoding="utf-8"), parse_constant=refuse)
    assert stored == results(small)
    assert stored["settings"]["sizes"] == [16, 6, 5, 6, 10] and stored["settings"]["seed"] == 0
    assert {"minikfac", "python", "numpy", "scipy"} <= set(stored["versions"])
    assert stored["net"]["parameters"] == small.run.net.n_params
    quality_row = next(row for row in stored["quality"] if row["approximation"] == "K-FAC")
    assert quality_row["error"] == small.run.study.table["K-FAC"]["error"]
    assert len(stored["ledger"]) == 4 and len(stored["memory"]) == 4
    assert stored["divergence"]["slope"] == pytest.approx(3, abs=0.2)


def test_plain_data_hold_no_arrays_and_nothing_infinite() -> None:
    given = {"a": np.arange(2.0), 1: (np.float32(0.5), float("nan")), "c": [float("inf"), None, "text", True]}
    assert plain(given) == {"a": [0.0, 1.0], "1": [0.5, None], "c": [None, None, "text", True]}


def test_the_table_is_written_layer_by_layer(small: Tour, written: tour.Written) -> None:
    lines = written.table.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(SMALL.approximations) * (1 + len(small.run.net.names))


def test_the_same_seed_gives_the_same_numbers(small: Tour, dataset: datasets.Dataset) -> None:
    again = results(tour.tour(dataset, SMALL, progress=False))
    before = results(small)
    for record in (again, before):
        del record["seconds"]
        for row in record["training"]:
            row.pop("seconds", None)
        for row in record["quality"]:
            row.pop("build_seconds", None), row.pop("solve_seconds", None)
    assert again == before


# the chapters --------------------------------------------------------------------------------------------


def test_gradients_have_mean_zero_under_the_model(small: Tour) -> None:
    start = small.chapters["mean_gradient"].record["means_start"]
    assert start["model_norm"] < 1e-12 < start["label_norm"]
    assert 1e-12 < start["sampled_norm"]


def test_the_scatter_shows_its_block_of_the_fisher_matrix(small: Tour) -> None:
    run, cloud = small.run, small.chapters["scatter"].results
    assert isinstance(cloud, Scatter)
    layer = run.net.names.index(cloud.layer)
    F = fisher.exact(fisher.signals(run.net, run.theta, run.x).select([layer])).to_dense()
    units = run.net.shapes[layer][1]
    places = []
    for name in cloud.names:
        numbers = [int(number) for number in re.findall(r"\d+", name)]
        row = run.net.shapes[layer][0] - 1 if name.startswith("bias") else numbers[0]
        places.append(row * units + numbers[-1])
    np.testing.assert_allclose(cloud.F, F[np.ix_(places, places)], rtol=1e-10)
    assert cloud.samples.shape == (4 * len(run.x), 2)


def test_inverses_of_the_middle_layers_are_inverses(small: Tour) -> None:
    middle = small.chapters["matrices"].results
    assert isinstance(middle, Matrices)
    assert middle.names == ("dense1", "dense2")
    assert list(middle.damped) == list(middle.inverses) == ["kronecker", "kfac", "tridiagonal"]
    for name, damped in middle.damped.items():
        np.testing.assert_allclose(damped @ middle.inverses[name], np.eye(len(damped)), atol=1e-8)
    eigenvalues = small.record()["middle_layers"]["eigenvalues"]
    assert set(eigenvalues) == {"exact", "block-diagonal", "K-FAC", "EKFAC", "diagonal"}


@pytest.mark.parametrize("targets", ["model", "sampled"])
def test_matrices_in_pictures_have_the_exact_expectation(dataset: datasets.Dataset, targets: str) -> None:
    """Whether they are taken from the study or, where its targets are others, built."""
    settings = replace(SMALL, targets=targets, chapters=(), measures=("matrix",))
    run = tour.tour(dataset, settings, progress=False).run
    part = pictured(run)
    signals = fisher.signals(run.net, run.theta, run.x).select([1, 2])
    assert run.drawn == (1, 2) and part.signals.names == part.F.names == signals.names
    expected = {name: tour.APPROXIMATIONS[name][0](signals) for name in part.matrices}
    assert list(expected) == ["block-diagonal", "K-FAC", "EKFAC", "diagonal", "block-tridiagonal"]
    for name, matrix in {**expected, "exact": fisher.exact(signals)}.items():
        taken = part.F if name == "exact" else part.matrices[name]
        np.testing.assert_allclose(taken.damped(0.1).to_dense(), matrix.damped(0.1).to_dense(), atol=1e-13)


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [((100,), [0]), ((10, 20), [0, 1]), ((9, 5, 5, 9), [1, 2]), ((9000, 5, 5), [1, 2]), ((5, 9000), [])],
)
def test_layers_for_pictures_are_few_enough(sizes: tuple[int, ...], chosen: list[int]) -> None:
    assert picture_layers(sizes) == chosen


def test_memory_of_the_autoencoder() -> None:
    shapes = mk.mlp([784, 1000, 500, 250, 30, 250, 500, 1000, 784]).shapes
    row = memory_rows({"x": shapes})[0]
    assert row["largest_layer"] == 785 * 1000
    assert row["parameters"] == 2_837_314
    assert row["fisher_bytes"] == 4 * 2_837_314**2
    assert human_bytes(row["factor_bytes"]) == "26 MB"


def test_gaussian_outputs_have_pictures_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    y = np.tanh(x @ rng.normal(size=(4, 2)))
    data = datasets.Dataset(x[:40], y[:40], x[40:], y[40:], "mine")
    settings = Settings(sizes=(4, 3, 2), output="gaussian", steps=0, n_examples=40, approximations=("K-FAC",))
    made = tour.tour(data, settings, progress=False)
    assert {"signals", "mean_gradient"} < set(made.chapters)
    written = tour.write_report(made, tmp_path, progress=False)
    assert "as it was initialized" in written.page.read_text(encoding="utf-8")
    assert "training" not in written.pictures and "forward-backward" not in written.pictures


def test_error_bars_over_seeds(dataset: datasets.Dataset) -> None:
    settings = replace(
        SMALL, sizes=(16, 5, 10), seeds=2, approximations=("K-FAC",), measures=("matrix",),
        chapters=(),
    )  # fmt: skip
    for targets in ("model", "sampled"):
        comparison = tour.tour(dataset, replace(settings, targets=targets), progress=False).run.study.table
        assert comparison.spread is not None and comparison.spread[0]["error"] > 0
        assert "kl" not in comparison["K-FAC"]


def test_a_study_of_some_layers(dataset: datasets.Dataset) -> None:
    settings = replace(SMALL, layers=(1, 2))
    made = tour.tour(dataset, settings, progress=False)
    study = made.run.study
    assert study.F.names == ("dense1", "dense2") and made.run.drawn == (1, 2)
    assert study.gradient.shape == (study.F.shape[0],)
    assert made.chapters["matrices"].results.names == ("dense1", "dense2")


def test_a_tour_has_the_chapters_that_are_named(dataset: datasets.Dataset) -> None:
    settings = replace(SMALL, chapters=("memory", "divergence"))
    made = tour.tour(dataset, settings, progress=False)
    assert list(made.chapters) == ["net", "divergence", "ledger", "quality", "memory"]
    keys = [section.key for section in made.sections()]
    assert keys == ["net", "kl", "ledger", "quality", "memory", "made"]
    assert set(CHAPTERS) > set(made.chapters)
    with pytest.raises(ValueError, match=r"expected chapters among .*net, .*memory; got nets"):
        tour.tour(dataset, replace(SMALL, chapters=("nets",)), progress=False)


# targets and refusals ------------------------------------------------------------------------------------


def test_labels_become_targets_of_the_output(dataset: datasets.Dataset) -> None:
    assert with_targets(dataset, mk.mlp([16, 10])) is dataset
    rows = with_targets(dataset, mk.mlp([16, 10], output="bernoulli")).y_train
    assert rows.shape == (1500, 10)
    np.testing.assert_array_equal(rows.argmax(1), dataset.y_train)
    np.testing.assert_array_equal(
        with_targets(dataset, mk.mlp([16, 3, 16], output="gaussian")).y_test, dataset.x_test
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": (64, 10)}, r"net with 16 inputs, as digits has, got one with 64"),
        ({"sizes": (16, 9)}, r"net with 10 outputs, one per class of digits, got 9"),
        ({"sizes": (16, 9), "output": "gaussian"}, r"10 outputs, .* or 16, its inputs again"),
        ({"steps": -1}, "steps to be a whole number >= 0, got -1"),
        ({"damping": 0.0}, "damping > 0, got 0"),
        ({"damping": float("nan")}, "damping > 0, got nan"),
        ({"n_examples": 0}, "examples from 1 to 1500, .* got 0"),
        ({"n_examples": 1501}, "examples from 1 to 1500, .* got 1501"),
        ({"targets": "labels"}, "targets 'model' or 'sampled' or 'data', got 'labels'"),
        ({"n_samples": 2}, "samples >= 1, and other than 1 only with targets 'sampled', got 2"),
        ({"layers": (4,)}, "layers among dense0, .* or 0 to 3, got 4"),
        ({"layers": ()}, "at least one layer among dense0"),
    ],
)
def test_settings_that_cannot_be_studied(
    dataset: datasets.Dataset, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_net(replace(SMALL, **changes), dataset)


def test_a_matrix_too_large_for_memory_is_refused_before_training(dataset: datasets.Dataset) -> None:
    with pytest.raises(MemoryError, match=r"GiB are free; use fewer parameters .* fisher.product"):
        tour.tour(dataset, replace(SMALL, sizes=(16, 5000, 5000, 10)), progress=False)


def test_training_that_diverges_is_said(dataset: datasets.Dataset) -> None:
    settings = replace(SMALL, lr=1e4, activation="relu")
    with np.errstate(all="ignore"), pytest.raises((ValueError, FloatingPointError), match="loss"):
        tour.tour(dataset, settings, progress=False)


def test_unknown_approximations_and_measures_are_listed(dataset: datasets.Dataset) -> None:
    with pytest.raises(ValueError, match=r"among block-diagonal, .*got \['foo'\]"):
        tour.tour(dataset, replace(SMALL, approximations=("foo",)), progress=False)
    with pytest.raises(ValueError, match=r"measures among matrix, .*, got foo"):
        tour.tour(dataset, replace(SMALL, measures=("foo",)), progress=False)


def test_figures_in_other_formats(small: Tour, tmp_path: Path) -> None:
    few = {name: draw for name, draw in small.figures().items() if name in ("ledger", "memory")}
    drawn = dict(save_all(few, tmp_path, "svg"))
    assert list(drawn) == ["ledger", "memory"]
    assert drawn["ledger"].read_text(encoding="utf-8").startswith("<?xml")
    with pytest.raises(ValueError, match="format among png, svg, pdf, got 'gif'"):
        next(save_all(few, tmp_path, "gif"))


def test_a_comparison_has_the_measures_that_are_named(small: Tour) -> None:
    F, gradient = small.run.study.F, small.run.study.gradient
    matrices = {name: small.run.study.matrices[name] for name in ("K-FAC", "diagonal", "block-tridiagonal")}
    whole = quality.compare(F, matrices, gradient, 1e-2)
    for group, columns in quality.MEASURES.items():
        part = quality.compare(F, matrices, gradient, 1e-2, measures=[group])
        for name in matrices:
            columns_there = set(part[name]) & set(quality.COLUMNS)
            assert columns_there - {"floats", "solve_seconds", "build_seconds"} == set(columns)
            for column in columns:
                assert part[name][column] == pytest.approx(whole[name][column], rel=1e-9)


def test_a_quicker_product_gives_the_same_comparison(small: Tour) -> None:
    run, F, gradient = small.run, small.run.study.F, small.run.study.gradient
    product = fisher.product(run.net, run.theta, run.x)
    matrices = {"K-FAC": run.study.matrices["K-FAC"]}
    # of dozens of iterations rounding decides how many; with much damping they are few, and the same
    for damping, columns in ((1e-2, ("spectral_error", "error", "kl")), (1.0, ("cg_iterations",))):
        reference = quality.Reference.of(F, gradient, damping, lambda v: product @ v)
        quick = quality.compare(F, matrices, gradient, damping, reference=reference)["K-FAC"]
        slow = quality.compare(F, matrices, gradient, damping)["K-FAC"]
        for column in columns:
            assert quick[column] == pytest.approx(slow[column], rel=1e-6)
        assert slow["cg_iterations"] > 5


def test_along_training_whole_matrices_are_followed(small: Tour) -> None:
    along = small.record()["along"]
    assert along["steps"] == [0, 4, 8, 15, 30, 60, 120, 300]
    assert {tuple(row) for row in along["quality"]} == {
        ("K-FAC", "block-diagonal", "block-tridiagonal", "EKFAC", "diagonal", "no curvature")
    }
    studied = small.run.study.table["K-FAC"]
    at = along["steps"].index(30)
    assert along["quality"][at]["K-FAC"]["error"] == pytest.approx(studied["error"])
    some = replace(small.run, settings=replace(small.run.settings, layers=(1,)))
    assert CHAPTERS["along"].compute(some) is None


def test_the_first_layers_steps_are_pictures(small: Tour, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = {"natural gradient": np.eye(2)[None], "K-FAC": np.eye(2)[None]}
    monkeypatch.setattr(CHAPTERS["along"], "_pictures", lambda run: pictures)
    along = CHAPTERS["along"].compute(small.run)
    assert list(along.figures) == ["along-training", "first-steps"]
    (section,) = along.sections
    assert section.parts[-1].name == "first-steps"
