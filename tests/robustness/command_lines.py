"""Wrong command lines: each command, each of its options, each value that this option cannot have.

A line is a tuple of arguments. Around the wrong option stand settings with which a line that was not refused
would soon end, so that a test of it fails and does not hang.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_args, get_type_hints

from typer.models import OptionInfo

from minikfac import cli

SMALL = {
    "train": ("--steps", "1", "--examples", "50", "--batch-size", "10"),
    "compare": ("--steps", "1", "--examples", "50", "--batch-size", "10", "--optimizers", "sgd"),
    "scaling": ("--steps", "1", "--examples", "50", "--sizes", "10", "--optimizers", "sgd", "--trials", "1")
    + ("--finalists", "1", "--seeds", "1", "--epochs", "0.1", "--target", "loss=1"),
    "fisher": ("--net", "64-3-10", "--steps", "0", "--examples", "20", "--approximations", "diagonal"),
    "workers": ("--problem", "digits", "--gflops", "1", "--most", "4"),
    "plot": ("a.jsonl",),
}
"""What stands before the wrong option; the last of two of the same counts."""
EMPTY = ("", " ")
WORDS = (
    "nosuch",
    "-",
    "$x$",
    "[/red]",
    "ünï",
    "\udcff",
    "a\nb",
    "nan",
    "-" * 3000,
    "1e400",
    "x" * 5000,
    "None",
)
"""What is no name of anything, however it is spelled."""
NO_INTEGER = ("x", "nan", "inf", "1.5", "1e3", "0x10", "True", "--1", "1 2", "one", "[1]", "1,5")
NO_NUMBER = ("x", "nan", "inf", "-inf", "1e999", "0x1p3", "True", "1,5", "1 2", "--1", "[1.0]")
NO_PATH = ("file/below", "file/below/more")
"""Below a file."""
MORE: dict[str, tuple[str, ...]] = {
    "--width": ("0", "-1", "1e300"),
    "--seconds": ("0", "-1"),
    "--tune": ("0", "-1"),
    "--trial": ("0", "-1", "3"),
    "--lr": ("0", "-1"),
    "--damping": ("0", "-1"),
    "--epochs": ("-1",),
    "--latency": ("-1",),
    "--gbytes": ("0", "-1"),
    "--gflops": ("0", "-1"),
    "--samples": ("0", "-1", "2"),
    "--components": ("0", "-1", "62"),
    "--net": ("64", "64-", "-64-10", "64--10", "64-0-10", "64-10-", "64-x-10", "64-5.5-10", "32-10", "64-9")
    + ("conv-", "conv--3", "conv-0", "conv-x", "conv-2-2-2-2", "convolution", "64-9999999999-10"),
    "--sizes": ("0", "64--10", "64,", ",", "1.5", "-3", "51", "1,x", "64-256"),
    "--batch-size": (
        "0",
        "51",
        "1.5",
        "-3",
        "10:",
        "10:20",
        "10:20:",
        "10:20:0",
        "0:20:5",
        "20:10:5",
        "10:51:5",
    ),
    "--target": ("loss", "loss=", "=1", "loss=x", "loss=nan", "loss=inf", "loss=-inf", "lam=1", "loss=1=2")
    + ("nosuch=1", "loss=0.1,test_loss=1", "train_loss=1"),
    "--levels": ("x", "1,", ",", "nan", "1,inf", "1;2"),
    "--column": ("lam", "best_", "loss_", "Loss", "best_best_loss", "loss_average"),
    "--layers": ("-1", "9", "1-", "3-1", "0,9", "1.5", "middle,0", "all,1"),
    "--device": ("cuda:x", "gpu", "cuda:-1", "CPU"),
    "--dtype": ("float16", "int64", "64", "Float64"),
    "--approximations": ("kfac,nosuch", ","),
    "--measures": ("matrix,nosuch", ","),
    "--optimizers": (",", "sgd,nosuch"),
    "--optimizer": ("sgd,adam",),
    "--format": ("gif", "PNG", ".png"),
    "--pool": ("max",),
    "--data": ("file", "none.npz", "mnist.npz"),
    "--out": ("figure.gif", "figure", "folder.png", "nowhere/figure.png"),
}
"""What else these options cannot have."""
SETTINGS = (
    "lam",
    "=1",
    "lam=",
    "lam=abc",
    "lam=nan",
    "lam=inf",
    "lam=-1",
    "lam=True",
    "lam=1e999",
    "lam=[1]",
)
SETTINGS += (
    "nosuch=1",
    "lam=" + "-" * 3000,
    "lam=" + "(" * 3000,
    "lam=Nosuch(1)",
    "lam=Constant(x)",
    "T1=1.5",
)
SETTINGS += (
    "lam=Constant()",
    "T1=0",
    "lam=None",
    "lam={[]: 1}",
    "lam='1'",
    "T3=2.5",
    "T3=inf",
    "lam=1j",
    "net=1",
)
OF_SGD = tuple(
    text.replace("lam", "lr").replace("T1", "momentum").replace("T3", "momentum") for text in SETTINGS
)
NAMED = (
    "--problem",
    "--optimizer",
    "--optimizers",
    "--dtype",
    "--device",
    "--activation",
    "--output",
    "--pool",
)
NAMED += ("--approximations", "--measures", "--targets", "--layers", "--format", "--application", "--sizes")
NAMED += ("--batch-size", "--target", "--levels", "--column", "--net", "--data", "--set", "--draw")


def options(command: str) -> Iterator[tuple[str, set[Any], int | None]]:
    """The options of a command, their types, and the least that they may be, as its function says."""
    function = getattr(import_module(f"minikfac.cli.{command}"), command)
    for name, hint in get_type_hints(function, include_extras=True).items():
        kind, *about = get_args(hint) or (hint,)
        if about and isinstance(about[0], OptionInfo):
            spelled = [text for text in about[0].param_decls or () if text.startswith("--")]
            kinds = set(get_args(kind) or (kind,)) - {type(None)}
            yield (spelled or [f"--{name.replace('_', '-')}"])[0].split("/")[0], kinds, about[0].min


def wrong_values(command: str, name: str, kinds: set[Any], lowest: int | None) -> Iterator[str]:
    """What an option cannot have."""
    yield from EMPTY
    if int in kinds:
        yield from NO_INTEGER
        if lowest is not None:
            yield from (str(lowest - 1), str(lowest - 10**20))
    elif float in kinds:
        yield from NO_NUMBER
    elif name in NAMED:
        yield from WORDS
    if name == "--set":
        of = {"compare": "sgd.", "scaling": "sgd."}.get(command, "")
        yield from (of + text for text in (OF_SGD if of else SETTINGS))
        if of:
            yield from ("lr=1", "kfac.lam=1", "nosuch.lr=1", ".lr=1", "sgd.=1")
    if name == "--draw":
        yield from (
            f"sgd.lr={text}" for text in ("", ":", "1:", ":1", "x:1", "1:x", "0:1", "-1:1", "2:1", "nan:1")
        )
        yield from (f"sgd.lr={text}" for text in ("1:inf", "1,", ",", "1:2:3", "True:2", "-1", "nan", "x,1"))
    if (command, name) != ("workers", "--batch-size") and (name != "--out" or command in ("plot", "workers")):
        yield from MORE.get(name, ())
    if name in ("--out", "--save"):
        yield from NO_PATH


def lines() -> list[tuple[str, ...]]:
    """All of them; ``file``, a folder ``folder.png`` and records in ``a.jsonl`` are where they run."""
    made: list[tuple[str, ...]] = []
    for command in cli.COMMANDS:
        if command == "data":
            continue
        base = (command, *SMALL.get(command, ()))
        for name, kinds, lowest in options(command):
            if kinds == {bool}:
                made += [(*base, f"{name}={value}") for value in ("1", "yes", "nosuch")]
                continue
            made += [(*base, f"{name}={value}") for value in wrong_values(command, name, kinds, lowest)]
            made.append((*base, name))
        made += [(*base, *more) for more in (("--nosuch",), ("--nosuch", "1"), ("-x",), ("---steps", "1"))]
        made += [(command, "extra", "more")] if command not in ("plot", "problems") else []
        if "--resume" in [name for name, *_ in options(command)]:
            made.append((*base, "--resume", "--overwrite"))
    return list(dict.fromkeys(made))
