"""The text of the report: chapters use all of it, and each paragraph is whole."""

import re
from pathlib import Path

import pytest

from minikfac.tour import words

CHAPTERS = Path(words.__file__).parent / "chapters"


def test_chapters_use_every_text() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted(CHAPTERS.glob("*.py")))
    used = set(re.findall(r'words\(\s*"([\w-]+)"', source))
    used |= {f"exactness-{walk}" for walk in ("correlation", "inputs", "nonlinearity", "pooled")}
    used |= {f"finding-{key}" for key in re.findall(r'finding\(\s*"([\w-]+)"', source)}
    used |= {"quality-figure", "quality-of-seeds"}
    assert used == set(words._TEXTS)


def test_paragraphs_hold_what_is_filled_in() -> None:
    first, second = words.words(
        "made", seed=3, dtype="float32", examples="1,000", damping="0.01", times="a 1.0 s", convolutions=""
    )
    assert isinstance(first, str) and isinstance(second, str)
    assert first.startswith("Seed 3, float32, N = 1,000, λ = 0.01. Times: a 1.0 s. All numbers")
    assert second.endswith("ICML 2015 [MG15].")
    with pytest.raises(KeyError, match="layer"):
        words.words("ladder", maps=4)
