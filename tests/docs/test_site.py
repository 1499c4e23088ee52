"""What the site is made of fits together: labels, names, tests, figures, modules; Sphinx is not needed.

The whole site is built by `make docs`, where warnings are errors, and by the slow test at the end.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import minikfac as mk
from minikfac.invariance import APPLICATIONS
from minikfac.parallel import one_thread
from minikfac.scaling import sweep as sweeps
from minikfac.tour.animations import GROWING

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE = {"_build", "tutorials", "slides"}
"""Folders that a build leaves, and the decks, which are no pages: see test_slides.py."""
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if not MADE & set(page.relative_to(DOCS).parts)]
DERIVATIONS = [page for page in PAGES if page.parent.name == "derivations" and page.stem != "index"]
RECIPES = [page for page in PAGES if page.parent.name == "howto"] + [DOCS / "index.md"]
API = {
    page.stem: re.findall(r"automodule:: (\S+)", page.read_text(encoding="utf-8"))
    for page in sorted((DOCS / "api").glob("*.md"))
}
CLAIMS = DOCS / "claims.md"
TUTORIALS = 13
OF_RECORDS = {"gradient-models", "quality-across-nets"}
"""Figures of docs/results, besides races and sweeps."""
"""Of the whole course, from 0."""

by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def labels(page: Path) -> list[str]:
    """Labels behind displayed formulas."""
    return re.findall(r"^\$\$ \(([\w-]+)\)$", read(page), re.MULTILINE)


def named_tests(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]*test_\w+\.py)::(test_\w+)`", read(page))


@functools.cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def rows(page: Path) -> list[list[str]]:
    """Cells of the table that ends a derivation, without its head."""
    table = read(page).split("\n## Where it is\n")[1]
    lines = re.findall(r"^\|(.*)\|$", table, re.MULTILINE)[2:]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def resolve(name: str) -> Any:
    """What a dotted name below minikfac is."""
    target: Any = mk
    for part in NESTED.get(name.split(".")[0], name.split(".")[0]).split(".") + name.split(".")[1:]:
        try:
            target = getattr(target, part)
        except AttributeError:
            target = import_module(f"{target.__name__}.{part}")
    return target


NESTED = {"layers": "network.layers", "outputs": "network.outputs", "schedules": "optim.schedules"}


def headings(page: Path) -> set[str]:
    """Anchors as a code host and the site make them."""
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# pages ----------------------------------------------------------------------------------------------------


@by_name
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target), link


@by_name
def test_every_page_names_its_reader_first(page: Path) -> None:
    if page.parent.name != "api" or page.stem == "index":
        opening = re.split(r"\n\n(?!!)", read(page))[1]
        assert re.search(r"\b(readers?|students?|lecturers?)\b", opening), opening


@by_name
def test_every_formula_that_is_referred_to_is_there(page: Path) -> None:
    everywhere = {label for other in PAGES for label in labels(other)}
    assert set(re.findall(r"\{eq\}`([^`]+)`", read(page))) <= everywhere


@by_name
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    for file, name in named_tests(page):
        assert name in functions_of(file), f"{file}::{name}"


def test_labels_are_unique() -> None:
    counts = Counter(label for page in PAGES for label in labels(page))
    assert len(counts) > 40
    assert [label for label, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("page", DERIVATIONS, ids=lambda page: page.stem)
def test_each_equation_leads_to_function_and_test(page: Path) -> None:
    equations = labels(page)
    assert len(equations) == read(page).count("\n$$ ("), "every displayed formula has a label"
    assert read(page).count("\n$$\n") == len(equations), "and none is left without"
    listed = [label for row in rows(page) for label in re.findall(r"\{eq\}`([^`]+)`", row[0])]
    assert sorted(listed) == sorted(equations)
    for _, functions, tests in rows(page):
        names = re.findall(r"`([^`]+)`", functions)
        assert names
        for name in names:
            assert callable(resolve(name)), name
        assert re.findall(r"`[\w/]*test_\w+\.py::test_\w+`", tests), functions


def test_a_name_that_is_not_there_is_noticed() -> None:
    with pytest.raises(ModuleNotFoundError):
        resolve("fisher.no_such_matrix")


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.stem)
def test_snippets_print_what_stands_beside_them(
    page: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with one_thread():
        for snippet in re.findall(r"```python\n(.*?)```", read(page), re.DOTALL):
            exec(compile(snippet, page.name, "exec"), names)
            expected = re.findall(r"^(?:\s*print\(.*\)  )?# (.*)$", snippet, re.MULTILINE)
            assert capsys.readouterr().out.splitlines() == expected, snippet


# the API --------------------------------------------------------------------------------------------------


def test_every_part_with_public_names_has_its_page() -> None:
    documented = {module for modules in API.values() for module in modules}
    files = {path.stem for path in (ROOT / "minikfac").iterdir() if path.suffix == ".py" or path.is_dir()}
    parts = {name for name in files if not name.startswith(("_", "cli"))} - {
        "parallel",
        "reading",
        "writing",
    }  # no public names
    assert {f"minikfac.{part}" for part in parts} <= documented
    assert {"minikfac.network.layers", "minikfac.network.outputs", "minikfac.network.presets"} <= documented


def test_every_api_page_is_listed_and_complete() -> None:
    listed = re.findall(r"^([a-z]+)$", read(DOCS / "api" / "index.md"), re.MULTILINE)
    assert sorted(listed) == sorted(set(API) - {"index"})
    for page in set(API) - {"index", "minikfac"}:
        assert "   :members:\n" in read(DOCS / "api" / f"{page}.md")
        module = import_module(API[page][0])
        assert module.__doc__
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name)


def test_the_package_page_lists_names_in_order() -> None:
    listed = re.findall(r"^\| \[?`(?:\w+\.)?(\w+)`", read(DOCS / "api" / "minikfac.md"), re.MULTILINE)
    assert listed == mk.__all__


# claims ---------------------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """Text of each claim by its number."""
    parts = re.split(r"^## (T\d+)\. ", read(CLAIMS), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def figures() -> set[str]:
    """Names of the files that `minikfac figures` makes."""
    names = re.findall(r'<figure id="([a-z-]+)">', read(ROOT / "minikfac" / "tour" / "words.html"))
    return set(names) | set(APPLICATIONS)


def test_every_claim_has_its_place_and_a_verdict() -> None:
    assert list(sections()) == [f"T{number}" for number in range(1, 18)]
    for claim, text in sections().items():
        if claim not in ("T16", "T17"):  # errors of the write-up, and further reading
            assert re.search(r"\*\*Verdict: (shown|not reached)", text), claim
            assert "**See:**" in text and "**Measured:**" in text, claim


def test_numbers_of_claims_are_those_of_the_record() -> None:
    record = json.loads((DOCS / "results" / "claims.json").read_text(encoding="utf-8"))["numbers"]
    assert len(record) >= 12
    for claim, numbers in record.items():
        for what, number in numbers.items():
            assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d])", sections()[claim]), (
                claim,
                what,
                number,
            )


SWEEPS = DOCS / "results" / "scaling.md"


@pytest.mark.parametrize("name", ["scaling-digits", "scaling-mnist", "scaling-cifar10"])
def test_tables_of_sweeps_are_their_records(name: str) -> None:
    sweep = sweeps.read(DOCS / "results" / name / "scaling.jsonl")
    for method, steps in sweep.to_target().items():
        knee = sweep.knee(method)
        assert knee is not None and knee.bounded
        cells = [sweeps.in_range(*column) for column in steps.T]
        row = f"| {method} | {' | '.join(cells)} | {knee.S:.3g} | {knee.B:.3g} |"
        assert row in read(SWEEPS)
        factor = f"{steps[0, 0] / steps[0, -1]:.1f}"
        for text in (sections()["T15"], read(DOCS / "limits.md"), read(SWEEPS)):
            assert re.search(rf"(?<![\d.]){re.escape(factor)} (times fewer|times from|against)", text)
        assert re.search(rf"\b(at|at a batch of|and) {knee.B:.0f}\b", sections()["T15"])


def test_figures_that_pages_name_are_drawn() -> None:
    drawn = figures()
    assert len(drawn) >= 30
    named = re.findall(r"`([a-z-]+)\.png`", read(CLAIMS))
    assert len(named) >= 20
    assert set(named) <= drawn


def test_the_gallery_lists_every_figure_once() -> None:
    table = read(DOCS / "howto" / "figures.md").split("| statement")[1].split("\n\n")[0]
    counts = Counter(re.findall(r"`([a-z0-9-]+)`", table))
    records = {name for name in counts if name.split("-")[0] in ("scaling", "examples", "race")}
    elsewhere = set(APPLICATIONS) - {"logistic-to-tanh"}  # of nets that the tour does not train
    assert set(counts) - records - OF_RECORDS == figures() - elsewhere
    assert set(counts.values()) == {1}
    folders = {folder.name for folder in (DOCS / "results").iterdir() if folder.is_dir()}
    assert {name.removeprefix("race-").replace("examples", "scaling") for name in records} <= folders
    assert set(re.findall(r"`([a-z-]+)\.gif`", table)) == {*GROWING.values(), "block"}


def test_tutorials_that_claims_name_exist() -> None:
    there = {int(path.name[:2]) for path in (ROOT / "tutorials").glob("[0-9][0-9]-*.ipynb")}
    if missing := sorted(set(range(TUTORIALS)) - there):
        pytest.skip(f"the course is not complete: {missing}")
    named = re.findall(r"tutorials? (\d+)(?: and (\d+))?", read(CLAIMS))
    assert {int(number) for pair in named for number in pair if number} <= there


# the site -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_builds_and_needs_no_network(tmp_path: Path) -> None:
    for library in ("sphinx", "myst_nb", "furo", "mathjax", "sphinx_copybutton"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"not installed: {library}; make docs installs it")
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path),
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|link|iframe)[^>]*?(?:src|href)="(?:https?:)?//[^"]+"', read(page)
        )
        assert not loaded, (page.name, loaded)
    written = read(tmp_path / "gallery.html")
    links = re.findall(r'(?:src|href)="((?:_static/gallery|_chapters|api)/[^"#]+)(?:#([^"]+))?"', written)
    assert len(links) > 150  # pictures, files, functions and chapters
    for path, anchor in links:
        assert (tmp_path / path).exists() and (not anchor or f'id="{anchor}"' in read(tmp_path / path)), path
    assert '<meta property="og:image"' in written
    for notebook in (ROOT / "tutorials").glob("*.ipynb"):
        shown = read(tmp_path / "tutorials" / f"{notebook.stem}.html")
        assert f'href="../_notebooks/{notebook.name}"' in shown
        assert (tmp_path / "_notebooks" / notebook.name).read_bytes() == notebook.read_bytes()
