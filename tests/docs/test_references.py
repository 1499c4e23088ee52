"""Every source that a docstring cites, such as [MG15, sec. 4.3], is in docs/references.bib."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "minikfac"

# One citation or several: [MG15], [MG15, sec. 4.3], [MG15, sec. 4.3; GM16, eq. 28]. A line may break inside.
BRACKETS = re.compile(r"\[([A-Z][A-Za-z]*\d{2}(?:[,;]\s[^\]]*)?)\]")
KEY = re.compile(r"(?:^|;\s+)([A-Z][A-Za-z]*\d{2})(?=[,;]|$)")


def cited_keys(text: str) -> list[str]:
    return [key for brackets in BRACKETS.findall(text) for key in KEY.findall(brackets)]


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def citations() -> list[tuple[str, str]]:
    """Pairs (file, key), one per citation in the package."""
    texts = [(path, text) for path in sorted(SOURCE.rglob("*.py")) for text in docstrings(path)]
    texts.append((report := SOURCE / "tour" / "words.html", report.read_text(encoding="utf-8")))
    return [(str(path.relative_to(ROOT)), key) for path, text in texts for key in cited_keys(text)]


def bibliography() -> list[str]:
    text = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    return re.findall(r"^@\w+\{([^,\s]+),", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("as in [MG15].", ["MG15"]),
        ("[MG15, sec. 4.3] and [Amari98, eq. 2]", ["MG15", "Amari98"]),
        ("[MG15,\n    sec. 4.3;\n    PapyanJMLR20]", ["MG15", "PapyanJMLR20"]),
        ("a list [A, G], an index [A12, 3] is one, [0, 1] is not", ["A12"]),
        ("none", []),
    ],
)
def test_citations_are_recognized(text: str, keys: list[str]) -> None:
    assert cited_keys(text) == keys


def test_bibliography_has_each_key_once() -> None:
    keys = bibliography()
    assert keys
    assert sorted(keys) == sorted(set(keys))


def test_every_cited_key_is_in_the_bibliography() -> None:
    cited = citations()
    if any(path.name != "__init__.py" for path in SOURCE.rglob("*.py")):
        assert cited, "no docstring of the package cites anything: is the pattern still right?"
    keys = set(bibliography())
    unknown = sorted({(path, key) for path, key in cited if key not in keys})
    assert not unknown, f"not in docs/references.bib: {unknown}"
