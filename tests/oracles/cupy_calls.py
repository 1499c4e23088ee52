"""How the package calls functions of an array library and methods of arrays, read off its source."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import minikfac as mk

SOURCE = Path(mk.__file__).parent
HOST_SIDE = (
    "backend.py",
    "cli",
    "datasets",
    "training",
    "races",
    "scaling",
    "invariance",
    "explorer",
    "reading.py",
    "plots",
    "tour",
    "exercises",
    "torch.py",
)
"""What may name NumPy, or never sees an array of a device."""
ON_THE_HOST = (("linalg/psd.py", "max", ("initial",)),)
"""Calls behind ``to_host``."""
METHODS = (
    *(
        "all",
        "any",
        "argmax",
        "argsort",
        "astype",
        "clip",
        "copy",
        "cumsum",
        "diagonal",
        "dot",
        "max",
        "mean",
    ),
    *("min", "nonzero", "ravel", "repeat", "reshape", "std", "sum", "swapaxes", "take", "trace", "transpose"),
    "var",
)
"""Methods of arrays; some are methods of other objects too, and those calls are read along with them."""


class Call(NamedTuple):
    """One call: its name behind ``xp`` or that of a method, and how it is given its arguments."""

    name: str
    is_method: bool
    positional: int
    keywords: tuple[str, ...]
    where: str


def paths() -> list[Path]:
    return [
        path
        for path in sorted(SOURCE.rglob("*.py"))
        if not str(path.relative_to(SOURCE)).startswith(HOST_SIDE) and path.name not in HOST_SIDE
    ]


def calls() -> Iterator[Call]:
    """All calls of ``xp.name(...)``, ``array_module(...).name(...)`` and ``anything.method(...)``."""
    for path in paths():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            parts, root = _taken_apart(node.func)
            of_library = root in ("xp", "array_module")
            if of_library and parts[0] == "cuda":  # where it is known to be CuPy
                continue
            if not of_library and (node.func.attr not in METHODS or root == "scipy"):
                continue
            starred = any(isinstance(argument, ast.Starred) for argument in node.args)
            name = ".".join(parts) if of_library else node.func.attr
            keywords, file = (
                tuple(option.arg for option in node.keywords if option.arg),
                path.relative_to(SOURCE),
            )
            if (str(file), name, keywords) not in ON_THE_HOST:
                positional = 0 if starred else len(node.args)
                yield Call(name, not of_library, positional, keywords, f"{file}:{node.lineno}")


def _taken_apart(node: Any) -> tuple[list[str], str | None]:
    """The dotted name of ``root.a.b``, where the root may be a call of ``array_module``."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    called = node.func if isinstance(node, ast.Call) else None
    return parts, getattr(node, "id", None) or getattr(called, "id", None)
