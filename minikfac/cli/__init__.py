"""The command line, ``minikfac``: one file per command, imported when the command is called.

A command is thin: it reads options, calls the package, and prints. Wrong input ends in one line on standard
error and exit code 2, an interrupt in 130, a pipe that is no longer read in 141.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .. import __version__, _interrupt, distributed
from ..backend import DeviceError
from .common import FOLDERS, Command

_STUDIES = "tour explore fisher quality costs figures"
COMMANDS = f"{_STUDIES} train compare plot problems invariance scaling workers data".split()
"""In the order in which ``minikfac --help`` lists them; each is the file beside this one."""
EXPECTED = (ArithmeticError, DeviceError, ImportError, KeyError, MemoryError, OSError, TypeError, ValueError)
"""Errors for wrong input, too little memory or a missing library; any other is a bug of the package."""

LESS_MEMORY = {
    "fisher": "--layers (one of them, as in 2), a smaller --net or --dtype float32",
    "quality": "fewer --vectors, fewer --examples, fewer --samples or --dtype float32",
    "train": "a smaller --net or --width, a smaller --batch-size, fewer --examples or --dtype float32",
    "compare": "a smaller --width or --batch-size, fewer --examples or --dtype float32",
    "scaling": "a smaller --width, smaller --sizes, fewer --examples or --dtype float32",
}
"""Options of a command that take less memory."""


def command(name: str) -> Any:
    """Import the file of a command, and make a typer command of its app or the function of its name."""
    module = import_module(f".{name}", __name__)
    group: typer.Typer = getattr(module, "app", None) or typer.Typer(add_completion=False)
    if not group.registered_commands:
        function = getattr(module, name)
        text = re.sub(r"(?<=\S)\n(?=\S)", " ", inspect.getdoc(function) or "")  # a line per paragraph
        group.command(cls=Command, help=text, epilog=f"Example: {module.EXAMPLE}")(function)
    return typer.main.get_command(group)


def first_line(name: str) -> str:
    """First line of the help of a command, read from its file without importing it."""
    text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    line = re.search(rf'^def {name}\(.*?"""(.+?)(?:"""|$)', text, re.DOTALL | re.MULTILINE)
    return line[1] if line else ""


class Commands(TyperGroup):
    """The commands by name and first line; their files are imported by the one that is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands.update({name: TyperCommand(name, help=first_line(name)) for name in COMMANDS})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, command(name) if name else None, rest


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="The Fisher matrix of a neural net, K-FAC and its relatives. Start with [bold]minikfac tour[/bold].",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"minikfac {__version__}")
        raise typer.Exit()


@app.callback(epilog="Example: minikfac tour --out minikfac-tour")
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from; allowed anywhere on the line.")
    ] = False,
) -> None:
    """Take the options that all commands share."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0, 2 on wrong input, 130 on an interrupt, 141 without a reader."""
    code = run(list(sys.argv[1:] if arguments is None else arguments))
    distributed.end(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    if sys.stdout is None:  # closed from the start
        sys.stdout = open(os.devnull, "w")
    with FOLDERS:
        code = _run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again at its end
        code = code or _fail(_message(error))
    return code


def _run(arguments: list[str]) -> int:
    _interrupt.end()
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments == ["data"]:
        arguments.append("--help")
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows another, and no error
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    if not debug:
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # what matters of overflow is an error
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # in the name of a file
    try:
        _refuse_empty(arguments)
        code = app(args=arguments, prog_name="minikfac", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except (BrokenPipeError, SystemExit):  # which typer makes of it
        return _fail("the output was closed before the end", 141)
    except EXPECTED as error:
        if debug:
            raise
        return _fail(_with_options(_message(error), error, arguments[0]))
    except Exception as error:  # click's own: unknown options and commands
        if debug or not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        hint = " minikfac --help lists the commands." if message.startswith("No such command") else ""
        return _fail(message + hint)
    if code == 130:
        print("minikfac: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _with_options(message: str, error: BaseException, command: str) -> str:
    """Add to a lack of memory the options of the command that need less."""
    if isinstance(error, MemoryError) and command in LESS_MEMORY:
        return f"{message.split('; use ')[0]}; use {LESS_MEMORY[command]}"
    return message


def _refuse_empty(arguments: Sequence[str]) -> None:
    for before, argument in pairwise(["minikfac", *arguments]):
        empty = re.fullmatch(r"(--[\w-]+)=\s*|\s*", argument)
        if empty:
            raise ValueError(f"expected a value after {empty[1] or before}, got an empty one")


def _message(error: BaseException) -> str:
    """The message of an error, without the quotes of a KeyError and the numbers of the operating system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__


def _fail(message: str, code: int = 2) -> int:
    print(f"minikfac: {distributed.name_of_failing_rank()}{' '.join(message.split())}", file=sys.stderr)
    return code
