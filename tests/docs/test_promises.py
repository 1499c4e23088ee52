"""The page of promises has the counts of the last long runs, and no others."""

import json
import re
from typing import Any

import pytest

from oracles.pages import ROOT

PAGE = ROOT / "docs" / "promises.md"
RECORD: dict[str, Any] = json.loads((ROOT / "docs/results/robustness.json").read_text(encoding="utf-8"))


def rows() -> dict[str, list[str]]:
    """The cells of each row with counts, by the name of its section in the record."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| **")
    ]
    return {re.findall(r"^`(\w+)`", row[-1])[0]: row for row in cells if row[-1].startswith("`")}


def totals(section: dict[str, Any]) -> set[int]:
    """Its numbers, and the sum of each group of numbers."""
    numbers = set()
    for value in section.values():
        if isinstance(value, int | float):
            numbers.add(value)
        elif all(isinstance(count, int) for count in value.values()):
            numbers.add(sum(value.values()))
    return numbers


def test_each_section_of_the_record_is_on_the_page() -> None:
    assert set(RECORD) <= set(rows())


@pytest.mark.parametrize("section", rows())
def test_counts_are_those_of_the_last_long_run(section: str) -> None:
    _, tests, counts = rows()[section]
    if section not in RECORD:
        assert counts == f"`{section}`: not recorded yet"
        return
    shown = {float(number.replace(",", "")) for number in re.findall(r"\d[\d,.]*(?<![,.])", counts)}
    assert shown == totals(RECORD[section])
    for path in re.findall(r"`(tests/\S+\.py)`", tests):
        assert (ROOT / path).exists()


def test_nothing_failed_in_the_last_long_run() -> None:
    damaged = RECORD["damaged_files"]
    assert damaged["failures"] == 0 and damaged["files"] >= 40_000


def test_mutants_are_counted_as_recorded() -> None:
    modules = json.loads((ROOT / "docs/results/mutation.json").read_text(encoding="utf-8"))["modules"]
    sums = {column: sum(row[column] for row in modules.values()) for column in modules["linalg/psd"]}
    mutants, survivors, *kinds = sums.values()
    assert survivors == sum(kinds)
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    assert f"of {mutants} random mutants of {len(modules)} modules" in text
    assert f"killed {mutants - survivors}; {kinds[0]} of the {survivors} others changed type hints" in text
    assert f"{kinds[2]} became tests, {kinds[1]} fell to the whole folder, and {kinds[3]} change" in text
