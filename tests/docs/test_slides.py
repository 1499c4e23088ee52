"""The decks of docs/slides: their numbers are recorded ones, their code runs, and every slide is whole.

How they look is a matter for eyes; that nothing runs over the edge is tested in a browser.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minikfac import exercises
from oracles.pages import ROOT, script, snippets

build = script("docs/slides/build.py")
DECKS = {deck.stem: deck.read_text(encoding="utf-8") for deck in build.DECKS}
FIGURES = sorted({name for text in DECKS.values() for _, name, *_ in build.FIGURE.findall(text)})
TYPED = r"(?<![\d.,])(?:\d+\.\d+|\d{1,3}(?:,\d{3})+)(?![\d.]*\d)"
"""What could be a number of the record: with a point, or in thousands."""
EXACT = {"0.1", "0.99", "0.005", "0.001", "1,000", "2,000", "2,100", "6.595", "5.108"}
"""Settings, results of arithmetic, and what a checker prints, which another test holds to the checker."""

by_deck = pytest.mark.parametrize("name", DECKS)


def test_there_are_two_decks() -> None:
    assert list(DECKS)[:2] == ["lecture-1", "lecture-2"]


@by_deck
def test_every_slide_has_a_title_a_question_and_its_minutes(name: str) -> None:
    deck = build.slides(DECKS[name])
    assert 20 <= len(deck) <= 30
    assert [slide.opens for slide in deck] == [True] + [False] * (len(deck) - 1)
    assert sum(slide.minutes for slide in deck) == 90
    for slide in deck:
        assert slide.body and "**Ask:**" in slide.notes and "**Expect:**" in slide.notes, slide.title
    assert len({slide.title for slide in deck}) == len(deck)
    assert "lab" in deck[-1].title


@pytest.mark.parametrize(
    "text",
    ["No title\n\ntext\n\nNote: 1 min.\nnotes", "## No notes\n\ntext", "## No minutes\n\ntext\n\nNote: x"],
)
def test_a_slide_that_lacks_something_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected '## title', text, 'Note: 3 min\.' and notes, got"):
        build.slides(text)


@by_deck
def test_syllabus_is_kept_to_the_minute(name: str) -> None:
    """Parts begin when the table of minutes at the beginning says."""
    deck = build.slides(DECKS[name])
    begins = [sum(slide.minutes for slide in deck[:place]) for place in range(len(deck))]
    parts = [int(minute) for minute in re.findall(r"^\| (\d+)–\d+ \|", deck[1].body, re.MULTILINE)]
    assert len(parts) == 6
    assert set(parts) <= set(begins)


# numbers --------------------------------------------------------------------------------------------------


@by_deck
def test_every_number_is_looked_up(name: str) -> None:
    assert DECKS[name].count("{{") >= 15
    assert "{{" not in build.with_numbers(DECKS[name])


@by_deck
def test_no_number_of_the_record_is_typed(name: str) -> None:
    text = re.sub(r"```.*?```|`[^`]*`|\{\{.*?\}\}", "", build.FIGURE.sub("", DECKS[name]), flags=re.DOTALL)
    assert set(re.findall(TYPED, text)) <= EXACT


def test_numbers_are_those_of_the_record() -> None:
    record = build.record()
    assert build.number("quality/K-FAC/error") == f"{record['quality']['K-FAC']['error']:.2f}" == "0.73"
    assert build.number("sizes/floats of F") == f"{record['sizes']['floats of F']:,}"
    last = record["along"]["K-FAC"]["step_cosine"][-1]
    assert build.number("along/K-FAC/step_cosine/2000") == f"{last:.2f}"
    third = record["damped"]["K-FAC"]["share"][record["damped"]["damping"].index(0.003)]
    assert build.number("damped/K-FAC/share/0.003") == f"{third:.2f}"


def test_numbers_of_a_tutorial_are_what_it_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = "a: 1 step (2 to 3), 4,000 of 5\nb, other: -0.5, and 6"
    monkeypatch.setattr(build, "cells", lambda _: [("", printed)])
    names = ("06/a", "06/a/(", "06/a/to", "06/a/3)", "06/a/of", "06/b", "06/b/and")
    assert [build.number(name) for name in names] == ["1", "2", "3", "4,000", "5", "−0.5", "6"]
    with pytest.raises(KeyError, match=r"tutorial 06 prints no number behind 'a ... and'"):
        build.number("06/a/and")


@pytest.mark.parametrize("name", ["quality/K-FAC/eror", "qualities", "quality/K-FACC/error"])
def test_a_number_that_is_not_recorded_is_an_error(name: str) -> None:
    with pytest.raises(KeyError):
        build.number(name)


# figures and code -----------------------------------------------------------------------------------------


def test_every_figure_is_drawn_by_the_package_or_by_one_cell() -> None:
    table = (ROOT / "docs" / "howto" / "figures.md").read_text(encoding="utf-8").split("| statement")[1]
    gallery = set(re.findall(r"`([a-z-]+)`", table.split("\n\n")[0]))
    assert len(FIGURES) > 20
    assert {name for name in FIGURES if "/" not in name} <= gallery
    for name in FIGURES:
        if "/" in name:
            tutorial, place = build.cell_that_draws(name)
            assert name.split("/", 1)[1] in build.cells(tutorial)[place][0]


def test_a_figure_that_no_cell_draws_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected one cell of tutorial 06 with 'no_such\(', got 0"):
        build.cell_that_draws("06/no_such(")


def test_figures_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(build.subprocess, "run", lambda command, check: drawn.append(command[3:6]))
    monkeypatch.setattr(build, "draw_cells", lambda tutorial, files: drawn.append((tutorial, list(files))))
    names = {"memory", "06/drawing.race("}
    build.draw(names, tmp_path)
    assert drawn == [["figures", "--slide", "light"], ("06", [build.cell_that_draws("06/drawing.race(")[1]])]
    for name in names:
        build.file_of(name, tmp_path).touch()
    build.draw(names, tmp_path)
    assert len(drawn) == 2


def test_cells_are_run_and_their_figures_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    first = "import inspect\nimport matplotlib.pyplot as plt\ndef draw(): plt.plot([1, 2])\ndraw()"
    second = "print(inspect.getsource(draw))\nplt.figure(figsize=(10, 2))\ndraw()"
    monkeypatch.setattr(build, "cells", lambda _: [(first, ""), (second, ""), ("raise ValueError", "")])
    monkeypatch.setattr(build.sys, "path", list(build.sys.path))
    monkeypatch.setenv("MINIKFAC_SAVED_RUN", "1")
    build.draw_cells("06", {1: tmp_path / "second.png"})
    assert [path.name for path in tmp_path.iterdir()] == ["second.png"]
    with Image.open(tmp_path / "second.png") as picture:
        assert picture.size == (2560, 1440)
    assert capsys.readouterr().out == ""


def code_slides() -> list[tuple[str, str, list[str]]]:
    """Title, code, and what the slide says that the code prints: in comments, or quoted below it."""
    found = []
    for text in DECKS.values():
        for slide in build.slides(text):
            for code in re.findall(r"```python\n(.*?)```", slide.body, re.DOTALL):
                said = re.findall(r"^print\(.*\)  # (?=L4|\[)(.*)$", code, re.MULTILINE)
                said += re.findall(r"^> (.*)$", slide.body, re.MULTILINE)
                found += [(slide.title, code, said)] if said else []
    return found


@pytest.mark.parametrize(("title", "code", "said"), code_slides(), ids=lambda value: str(value)[:40])
def test_code_prints_what_the_slide_says(
    title: str, code: str, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(code, title, "exec"), {"np": np})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(said)
    for line, expected in zip(printed, said, strict=True):
        assert line.startswith(expected.removesuffix("...").strip())


@by_deck
def test_exercises_that_slides_name_exist(name: str) -> None:
    named = set(re.findall(r'exercises\.(?:find|check)\("([a-z-]+)"', DECKS[name]))
    assert len(named) >= 4
    assert named <= set(exercises.available())


def bare(code: str) -> str:
    """A function as a syntax tree, without its docstring and the arguments `strict=True`."""
    [function] = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)]
    function.body = [line for line in function.body if not isinstance(line, ast.Expr)]
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            node.keywords = [word for word in node.keywords if word.arg != "strict"]
    return ast.dump(function)


def test_the_step_on_the_slide_is_that_of_the_tutorial() -> None:
    [shown] = [code for code in snippets(build.DECKS[1]) if code.startswith("def proposal(")]
    [written] = [code for code, _ in build.cells("06") if code.startswith("def proposal(")]
    assert bare(shown) == bare(written)


# the built decks ------------------------------------------------------------------------------------------


def needs(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"not installed: {package}; make slides installs it")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both decks with a grey area in place of each figure."""
    needs("sphinx_revealjs", "mathjax", "markdown_it", "mdit_py_plugins", "pygments")
    from PIL import Image

    folder = tmp_path_factory.mktemp("slides")
    (folder / "figures").mkdir()
    for name in FIGURES:
        Image.new("RGB", (1280, 720), "grey").save(build.file_of(name, folder))
    made = {deck.stem: folder / f"{deck.stem}.html" for deck in build.DECKS}
    for deck in build.DECKS:
        made[deck.stem].write_text(build.page(deck, folder), encoding="utf-8")
    return made


@by_deck
def test_a_deck_is_one_file_with_all_that_it_needs(name: str, pages: dict[str, Path]) -> None:
    html = pages[name].read_text(encoding="utf-8")
    deck = build.slides(DECKS[name])
    assert html.count("<section ") == html.count('<aside class="notes">') == len(deck)
    assert sum(map(int, re.findall(r'data-timing="(\d+)"', html))) == 90 * 60
    shown = html.split('<div class="slides">')[1].split("<script>")[0]
    assert set(re.findall(r'(?:src|href)="([^",]*)', shown)) == {"data:image/png;base64"}
    assert not re.search(r"<(?:script|link)[^>]+(?:src|href)=", html)
    assert "{{" not in shown and "$" not in shown


def test_parts_of_a_figure_and_its_margins_are_cut(tmp_path: Path) -> None:
    import base64
    import io

    from PIL import Image

    whole = Image.new("RGB", (100, 80), "white")
    whole.paste((0, 0, 0), (10, 10, 30, 20))
    whole.paste((0, 0, 0), (10, 50, 60, 70))
    whole.save(tmp_path / "figure.png")
    sizes = {("", ""): (50, 60), ("upper", "50"): (20, 10), ("lower", "50"): (50, 20)}
    for part, size in sizes.items():
        text = build.embedded(tmp_path / "figure.png", *part).split(",")[1]
        assert Image.open(io.BytesIO(base64.b64decode(text))).size == size


BEYOND = """() => {
  const slide = Reveal.getCurrentSlide(), frame = slide.getBoundingClientRect(), beyond = [];
  for (const element of slide.querySelectorAll('h1, h2, p, li, pre, code, table, img, svg, blockquote')) {
    const box = element.getBoundingClientRect();
    if (!box.width || element.closest('aside, mjx-assistive-mml')) continue;
    const inside = box.left >= frame.left && box.right <= frame.right - 40 && box.bottom <= frame.bottom - 20;
    if (!inside || element.scrollWidth > element.clientWidth + 1 && element.tagName == 'PRE')
      beyond.push(element.tagName + ': ' + element.textContent.slice(0, 40));
  }
  return beyond;
}"""


@pytest.mark.browser
@by_deck
def test_no_slide_runs_over_and_nothing_is_asked_of_a_network(name: str, pages: dict[str, Path]) -> None:
    from playwright.sync_api import sync_playwright

    requests: list[str] = []
    said: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(pages[name].as_uri() + "?fragments=false")
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        beyond: dict[int, Any] = {}
        for place in range(page.evaluate("Reveal.getTotalSlides()")):
            page.evaluate(f"Reveal.slide({place})")
            if found := page.evaluate(BEYOND):
                beyond[place + 1] = found
        images = page.evaluate("[...document.querySelectorAll('.slides img')].map(one => one.naturalWidth)")
        formulas = page.evaluate("document.querySelectorAll('mjx-container, mjx-merror').length")
        wrong = page.evaluate("document.querySelectorAll('mjx-merror, [data-mjx-error]').length")
        browser.close()
    assert beyond == {}
    assert min(images) > 0 and formulas > 20 and wrong == 0
    assert said == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
