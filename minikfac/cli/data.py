"""The commands on data sets: ``minikfac data list``, ``fetch`` and ``check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import datasets
from .common import Command, say

app = typer.Typer(add_completion=False)


@app.callback(epilog="Example: minikfac data fetch usps")
def data() -> None:
    """List, fetch and check data sets.

    The digits come with the package; others are downloaded once, with checksums.
    """


@app.command("list", cls=Command, epilog="Example: minikfac data list")
def list_all() -> None:
    """List the data sets that can be named, with their sizes, sources and terms."""
    for row in datasets.available():
        say(f"{row.name}  ({row.where})")
        say(f"    {row.what}; {row.images} images, {row.size}")
        say(f"    {row.licence}; {row.source}")


@app.command(cls=Command, epilog="Example: minikfac data fetch mnist")
def fetch(name: Annotated[str, typer.Argument(help="digits, mnist, usps, cifar10 or svhn.")]) -> None:
    """Download a data set into the cache and verify its checksums; does nothing where it is there already."""
    say(f"{name}: {datasets.fetch(name)}")


@app.command(cls=Command, epilog="Example: minikfac data check usps --folder my-data/usps")
def check(
    name: Annotated[str, typer.Argument(help="digits, mnist, usps, cifar10, svhn, curves or FILE.npz.")],
    folder: Annotated[Path | None, typer.Option(help="The folder to check; the cache by default.")] = None,
) -> None:
    """Verify the structure and the checksums of a data set's files, one line per file; downloads nothing."""
    rows = datasets.check(name, folder)
    for file, status in rows:
        say(f"{file}: {status}")
    bad = sum(not status.startswith("ok") for _, status in rows)
    if bad:
        raise ValueError(f"{bad} of {len(rows)} files of {name} are not in order")
