"""The README's example prints the numbers that stand beside it."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_example_prints_what_its_comments_say(capsys):
    example = re.search(r"```python\n(import.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    expected = re.findall(r"print\(.*\)  # ([\d.]+)", example)
    exec(compile(example, "README.md", "exec"), {})
    assert len(expected) == 3
    assert capsys.readouterr().out.split() == expected


def test_the_links_lead_somewhere():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not (README.parent / link).exists()]
