"""Notebooks: the saved copy is a clean run from top to bottom, and each runs again without an error.

What a notebook claims it asserts in its own cells; here it is enough that they run.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from oracles.pages import script

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(cell: dict[str, Any]) -> list[str]:
    """Sorts of outputs, each with its richest form; split prints do not count twice.

    Progress bars, which come where something takes two seconds, are left out.
    """
    kinds: list[str] = []
    for output in cell["outputs"]:
        if output.get("name") == "stderr":
            continue
        data = output.get("data", {})
        image = next((kind for kind in data if kind.startswith("image/")), None)
        kind = image or output.get("name") or output["output_type"]
        if not kinds or kinds[-1] != kind or image:
            kinds.append(kind)
    return kinds


@each
def test_the_saved_copy_is_a_clean_run(path: Path) -> None:
    cells = code(read(path))
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), "run tutorials/run.py"
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert not [output for cell in cells for output in cell["outputs"] if output.get("name") == "stderr"]


@each
def test_figures_come_early_and_claims_are_asserted(path: Path) -> None:
    cells = read(path)["cells"]
    first = [output for cell in cells[:5] for output in cell.get("outputs", [])]
    assert [output for output in first if any(kind.startswith("image/") for kind in output.get("data", {}))]
    sources = ["".join(cell["source"]) for cell in code({"cells": cells})]
    assert sum(len(re.findall(r"^\s*assert ", source, re.MULTILINE)) for source in sources) >= 3


@each
def test_it_names_what_a_reader_looks_for(path: Path) -> None:
    text = "\n".join(
        "".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown"
    )
    headings = [line.strip("# ").lower() for line in text.splitlines() if line.startswith("#")]
    for heading in ("what you will see", "what you need", "on your own", "further reading"):
        assert heading in headings, headings
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", text)
    assert not [link for link in links if not (path.parent / link).exists()]


STAND_INS = {"own", "found", "asked", "told", "known", "held", "ways", "things"}


@each
def test_it_says_what_it_needs_what_it_gives_and_how_long_it_takes(path: Path) -> None:
    text = "\n".join("".join(cell["source"]) for cell in read(path)["cells"][:3])
    assert re.search(r"\*\*Needs:\*\*.+\*\*Gives:\*\*.+\*\*Minutes:\*\* \d+", text)


@each
def test_questions_have_folded_answers(path: Path) -> None:
    """Each list under "On your own" is followed by answers to some of its numbers."""
    text = "\n".join(
        "".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown"
    )
    [section] = re.findall(r"## On your own\n(.*?)\n## ", text, re.DOTALL)
    questions = re.findall(r"^(\d)\. ", section, re.MULTILINE)
    [answers] = re.findall(r"<details><summary>Answers? to ([\d, and]+)</summary>", section)
    assert section.count("</details>") == 1
    assert set(re.findall(r"\d", answers)) <= set(questions)
    for number in re.findall(r"\d", answers)[1:]:
        assert f"\n{number}: " in section


def test_the_course_is_complete_and_has_its_exercises_where_the_idea_is() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02d}" for number in range(13)]
    in_cells: list[str] = []
    for path in NOTEBOOKS:
        for cell in code(read(path)):
            in_cells += re.findall(r"exercises\.(?:check|find)\(\"([a-z-]+)\"", "".join(cell["source"]))
    order = list(dict.fromkeys(in_cells))
    assert order == [
        "natural-gradient",
        "backward",
        "exact-fisher",
        "kronecker-step",
        "kronecker-factors",
        "factored-damping",
        "kfac-in-forty-lines",
        "tridiagonal",
        "kfc-factors",
        "reparameterize",
        "rescale-and-momentum",
        "ekfac-scales",
        "all-reduce",
    ]


@each
def test_it_needs_nothing_outside_its_folder(path: Path) -> None:
    sources = ["".join(cell["source"]) for cell in code(read(path))]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    roots = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    roots |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    allowed = {"minikfac", "numpy", "scipy", "matplotlib", "drawing", *sys.stdlib_module_names}
    assert {root.split(".")[0] for root in roots} <= allowed
    assert not [source for source in sources if "../" in source]


@each
def test_the_mathematics_is_in_sight(path: Path) -> None:
    """Some 150 lines of code; what only draws is in drawing.py or minikfac.plots."""
    if path.stem[:2] < "08":
        pytest.skip("the thread has its own measure")
    lines = [line.strip() for cell in code(read(path)) for line in "".join(cell["source"]).splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 150


@each
def test_names_say_what_they_hold(path: Path) -> None:
    nodes = [node for cell in code(read(path)) for node in ast.walk(ast.parse("".join(cell["source"])))]
    names = [getattr(node, "id", None) or getattr(node, "arg", None) or "" for node in nodes]
    assert not [name for name in names if STAND_INS & set(name.lower().split("_"))]


def test_a_saved_notebook_gets_one_picture_of_a_slider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIKFAC_SAVED_RUN", "1")
    drawn: list[float] = []
    script("tutorials/drawing.py").live(drawn.append, "λ", [0.1, 1.0, 10.0], shown=1.0)
    assert drawn == [1.0]


def test_a_live_notebook_gets_a_slider_that_draws_while_it_is_dragged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ipywidgets = pytest.importorskip("ipywidgets", reason="sliders need the extra: minikfac[tutorials]")
    monkeypatch.delenv("MINIKFAC_SAVED_RUN", raising=False)
    sliders: list[Any] = []
    monkeypatch.setattr(ipywidgets, "interact", lambda position, value: sliders.append((position, value)))
    drawn: list[float] = []
    script("tutorials/drawing.py").live(drawn.append, "λ", [0.1, 1.0, 10.0], shown=0.9)
    [(position, slider)] = sliders
    assert slider.value == 1.0 and [value for _, value in slider.options] == [0.1, 1.0, 10.0]
    assert slider.continuous_update
    position(10.0)
    assert drawn == [10.0]


@pytest.mark.tutorial
@each
def test_it_runs_from_top_to_bottom_in_a_copy_of_its_folder(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="notebooks need the extra: pip install 'minikfac[tutorials]'")
    runner = script("tutorials/run.py")
    copy = shutil.copytree(path.parent, tmp_path / "tutorials")
    again, saved = runner.execute(copy / path.name), read(path)
    assert [kinds(cell) for cell in code(again)] == [kinds(cell) for cell in code(saved)]
    assert ["".join(cell["source"]) for cell in again["cells"]] == [
        "".join(cell["source"]) for cell in saved["cells"]
    ]
