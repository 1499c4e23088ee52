"""Freeze what arguments CuPy's functions take, for a test that runs where CuPy is not installed.

    pip install cupy-cuda12x          # no GPU is needed
    PYTHONPATH=tests python tests/data/make/freeze_cupy.py

writes tests/data/cupy_signatures.json: the version, and for every function and method that the package calls,
how many arguments it takes by position (null: any number) and which by name.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import cupy

from oracles.cupy_calls import calls

TARGET = Path(__file__).parents[3] / "tests" / "data" / "cupy_signatures.json"
KINDS = inspect.Parameter


def of_function(name: str) -> dict[str, Any]:
    target: Any = cupy
    for part in name.split("."):
        target = getattr(target, part)
    if isinstance(target, cupy.ufunc):
        return {"positional": target.nin + target.nout, "keywords": ["out", "dtype", "casting"]}
    if isinstance(target, type):  # types of numbers, and iinfo
        return {"positional": 1, "keywords": []}
    return taken_by(inspect.signature(target))


def of_method(name: str) -> dict[str, Any]:
    """By the first line of its help: compiled methods have no other signature."""
    text = getattr(cupy.ndarray, name).__doc__.splitlines()[0]
    inside = re.sub(r"\b(Py_ssize_t|_ndarray_base) (?=\w)", "", text.split("(", 1)[1].rsplit(")", 1)[0])
    scope: dict[str, Any] = {}
    exec(f"def method({inside}): pass", scope)
    taken = taken_by(inspect.signature(scope["method"]))
    return {**taken, "positional": taken["positional"] and taken["positional"] - 1}


def taken_by(signature: inspect.Signature) -> dict[str, Any]:
    parameters = signature.parameters.values()
    by_position = [
        one for one in parameters if one.kind in (KINDS.POSITIONAL_ONLY, KINDS.POSITIONAL_OR_KEYWORD)
    ]
    many = any(one.kind == KINDS.VAR_POSITIONAL for one in parameters)
    names = [one.name for one in parameters if one.kind in (KINDS.KEYWORD_ONLY, KINDS.POSITIONAL_OR_KEYWORD)]
    return {"positional": None if many else len(by_position), "keywords": [n for n in names if n != "self"]}


def table() -> dict[str, Any]:
    """The version, and what is taken by all that the package calls."""
    used = sorted({(call.is_method, call.name) for call in calls()})
    return {
        "cupy": cupy.__version__,
        "functions": {name: of_function(name) for is_method, name in used if not is_method},
        "methods": {name: of_method(name) for is_method, name in used if is_method},
    }


if __name__ == "__main__":
    TARGET.write_text(json.dumps(table(), indent=1) + "\n", encoding="utf-8")
    print(f"written: {TARGET}")
