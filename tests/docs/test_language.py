"""What a user reads is plain English: a short list of phrases that native readers stumbled over."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from oracles.pages import ROOT

MADE = {"_build", "tutorials"}
"""Folders of docs/ that a build leaves."""
IDIOMS = "longer|more|less|larger|smaller|such|doubt|fewer|better|worse|one|need|reason|way|coincidence"
METHOD = "methods?|optimizers?|matrix|matrices|K-FAC|SGD|Adam"
ACTS = "sees?|gains?|notices?|inverts|is invariant"
QUANTITY = "inputs?|outputs?|weights?|parameters?|pre-activations?"
STUMBLES = {
    r"\bforet(ell|old)\w*": "predict",
    r"\bmend(s|ed|ing)?\b": "repair, correct, cancel",
    r"\bdear(er|est)?\b": "expensive",
    r"\bwhere(at|upon|of)\b": "where, of which",
    r"\btak(e|es|ing|en) (it|them|the \w+ of the \w+) for (the|a|an)\b": "mistake for, replace by",
    r"\bwrong by\b": "has a relative error of",
    rf"\b({METHOD}) who\b|\bwho ({ACTS})\b|\bwhose steps notice\b": "which method",
    rf"\b({METHOD}|net|step|gradient) (knows?|sees?|hears?)\b": "depends on, includes, detects",
    rf"\b(derivatives?|gradients?) by (the ({QUANTITY})|what|[szθW])\b": "with respect to",
    rf"(?<![Tt]here )\b(is|are|was|were) no (?!({IDIOMS})\b)\w+": "is not a",
    r"\bwhat ((the|a|each|every) \w+|is|was|it) (told|asked|held|found)\b": "name it",
    r"\b(tells?|told|speaks?) of\b": "reports, states",
    r"\b(nobody|somebody|anybody)\b": "name the process or the reader",
    r"\bno matter of\b|\bat hand when\b": "depends on; where",
    r"\b[Rr]ooms?\b(?! (for|around|to)\b)": "module, part",
}
"""Patterns, and what to write instead."""
FAULTS = [(re.compile(pattern), advice) for pattern, advice in STUMBLES.items()]
ANY = re.compile("|".join(STUMBLES))


def stumbles(text: str) -> list[str]:
    """Each phrase with the words around it, and the advice."""
    plain = " ".join(re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL).split())
    if not ANY.search(plain):
        return []
    return [
        f"{plain[max(0, match.start() - 30) : match.end() + 30]!r}: {advice}"
        for pattern, advice in FAULTS
        for match in pattern.finditer(plain)
    ]


def markdown() -> Iterator[tuple[Path, str]]:
    """Pages, and the text of notebooks."""
    pages = [
        page for page in (ROOT / "docs").rglob("*.md") if not MADE & set(page.relative_to(ROOT).parts[1:-1])
    ]
    for page in (ROOT / "README.md", ROOT / "benchmarks" / "README.md", *pages):
        yield page, page.read_text(encoding="utf-8")
    for notebook in sorted((ROOT / "tutorials").glob("*.ipynb")):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                yield notebook, "".join(cell["source"])


def strings() -> Iterator[tuple[Path, str]]:
    """Docstrings and other texts of the package."""
    for path in sorted((ROOT / "minikfac").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield path, node.value
    for path in sorted((ROOT / "minikfac").rglob("*.html")):
        yield path, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("texts", [markdown, strings], ids=lambda texts: texts.__name__)
def test_texts_are_free_of_stumbles(texts) -> None:
    read = list(texts())
    assert len({path for path, _ in read}) > 50
    assert not [f"{path.relative_to(ROOT)}: {phrase}" for path, text in read for phrase in stumbles(text)]


@pytest.mark.parametrize(
    "sentence",
    [
        "So the model foretells the change.",
        "Two wrong assumptions can mend each other.",
        "The dearest layer goes to the first rank.",
        "K-FAC takes the expectation of the product for the product of the expectations.",
        "The matrix is wrong by 69%.",
        "Here is who sees the net.",
        "SGD who is slow; the gradient knows the curvature.",
        "The derivative by the outputs, and the gradient by s.",
        "A step is no sum over examples.",
        "`info` holds what the step told, and what was asked.",
        "The talk tells of 7.5 times.",
        "Nothing is sent, and nobody waits.",
        "A c* without a cause is no matter of scale.",
        "Each Room has a file.",
    ],
)
def test_a_planted_phrase_is_noticed(sentence) -> None:
    assert stumbles(f"Plain words before it.\n{sentence} And behind it.")


def test_plain_sentences_and_code_pass() -> None:
    text = "There is no switch, and it is no longer slow. It takes `what is told` for a step; room for text."
    assert stumbles(text + "\n```\nwho sees\n```\nReaders who know it differentiate with respect to s.") == []
