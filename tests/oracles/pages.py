"""Code on the pages of the documentation, and what it is said to print."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def printed(snippet: str) -> list[str]:
    """The comments behind prints, and those that have lines of their own."""
    return re.findall(r"^(?:\s*print\(.*\)  )?# (.*)$", snippet, re.MULTILINE)


def script(path: str) -> ModuleType:
    """A script of the repository as a module, which imports its neighbours; ``path`` is from the root."""
    file = ROOT / path
    sys.path.insert(0, str(file.parent))
    try:
        return importlib.import_module(file.stem)
    finally:
        sys.path.pop(0)
