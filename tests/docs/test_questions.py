"""Twenty questions for lecturers: each has an answer, and each answer a place in the thread that is there."""

import json
import re

from oracles.pages import ROOT

QUESTIONS = re.split(
    r"^### \d+\. ", (ROOT / "docs" / "questions.md").read_text(encoding="utf-8"), flags=re.M
)[1:]


def headings(number: str) -> set[str]:
    """Numbers of the sections of a notebook."""
    [path] = (ROOT / "tutorials").glob(f"{number}-*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return set(re.findall(r"^## (\d+)\. ", text, flags=re.M))


def test_there_are_twenty_with_folded_answers_of_two_to_five_sentences():
    assert len(QUESTIONS) == 20
    for question in QUESTIONS:
        [answer] = re.findall(r"<details><summary>Answer</summary>\n(.*?)\n\*Where:\*", question, flags=re.S)
        sentences = re.findall(r"[^\d][.?](?=\s)|:\n", answer)
        assert 2 <= len(sentences) <= 5, question
        assert (
            question.rstrip()
            .removesuffix("## Lecture 2: from a matrix to an optimizer")
            .rstrip()
            .endswith("</details>")
        )


def test_each_answer_names_sections_that_are_there():
    places = [
        (number, section)
        for question in QUESTIONS
        for number, section in re.findall(r"(0\d), section (\d+)", question.split("*Where:*")[1])
    ]
    assert len(places) >= len(QUESTIONS)
    sections = {number: headings(number) for number, _ in places}
    assert not [place for place in places if place[1] not in sections[place[0]]]
    assert {number for number, _ in places} == {"01", "02", "03", "04", "05", "06", "07"}
