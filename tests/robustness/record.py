"""Counts of the long runs, kept in docs/results/robustness.json: a section per suite."""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "docs" / "results" / "robustness.json"


def write(section: str, counts: dict[str, Any]) -> None:
    """Replace one section; the others stay."""
    record = json.loads(FILE.read_text()) if FILE.exists() else {}
    record[section] = counts
    FILE.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
