"""What the pages say is so: snippets print what stands beside them, commands and links exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from minikfac import cli
from minikfac.parallel import one_thread
from oracles.pages import ROOT, printed, snippets

DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *(page for kind in ("", "howto/", "results/") for page in sorted(DOCS.glob(kind + "*.md"))),
]
OPTIMIZERS = DOCS / "optimizers.md"
RACES = DOCS / "howto" / "train-and-race.md"


def commands(page: Path) -> list[str]:
    """What begins with minikfac in code of its own, on one line or several."""
    text = re.sub(r" \\\n +", " ", page.read_text(encoding="utf-8"))
    return re.findall(r"^    (minikfac .*?)(?: +#.*)?$", text, re.MULTILINE)


def mentioned(page: Path) -> list[str]:
    """What begins with minikfac within a sentence."""
    return re.findall(r"`(minikfac [a-z][^`]*)`", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_pages_name(page: Path) -> None:
    for text in commands(page) + mentioned(page):
        name, *words = shlex.split(text)[1:]
        command = cli.command(name)
        while words and words[0] in getattr(command, "commands", ()):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), text
        options = {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        assert {word for word in words if word.startswith("--")} <= options, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", text)
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize(
    ("page", "count"), [("optimizers.md", 1), ("results/studies.md", 2), ("cost-model.md", 1)]
)
def test_pages_print_what_they_say(page: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    examples = snippets(DOCS / page)
    assert len(examples) == count
    with one_thread():
        for snippet in examples:
            exec(compile(snippet, page, "exec"), names)
            assert capsys.readouterr().out.splitlines() == printed(snippet), snippet


@pytest.mark.slow
def test_the_page_of_races_has_commands_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = commands(RACES)
    assert len(shown) == 8
    for text in shown:
        assert cli.run(shlex.split(text)[1:]) == 0, text


def test_the_page_of_optimizers_has_a_row_for_each() -> None:
    from minikfac import optim

    kinds = {name for name in optim.__all__ if hasattr(getattr(optim, name), "step")}
    rows = re.findall(r"^\| `(\w+)` \|", OPTIMIZERS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rows) == kinds and len(rows) == len(kinds)
