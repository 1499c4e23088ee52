"""Packages whose names are imported when they are first used, so that a command loads what it needs.

A package lists its names as imports ``if TYPE_CHECKING``, for readers and for tools, and ends with
``on_demand(__name__)``: from then on each of these names is imported when it is used.
"""

from __future__ import annotations

import ast
import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """A package with names that are still to be imported, and the file of each; None for a file itself."""

    _files: dict[str, str | None]

    def __getattr__(self, name: str) -> Any:
        file = self._files.get(name)
        if file is None and name not in {*self._files, *self._files.values()}:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module = import_module(f".{file or name}", self.__name__)
        self.__dict__[name] = module if file is None else getattr(module, name)
        return self.__dict__[name]

    def __setattr__(self, name: str, value: Any) -> None:
        # importing a file that is called as what it holds, such as plots/memory.py, does not hide that
        if not (isinstance(value, ModuleType) and self._files.get(name)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._files})


def on_demand(package: str) -> list[str]:
    """Let the names that a package imports ``if TYPE_CHECKING`` be imported when they are first used.

    Returns:
        These names, for the package's ``__all__`` where it has no others.
    """
    module = sys.modules[package]
    files = {
        alias.name: statement.module and "." * (statement.level - 1) + statement.module
        for block in ast.parse(inspect.getsource(module)).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    module.__dict__["_files"] = files
    module.__class__ = _Package
    return list(files)
