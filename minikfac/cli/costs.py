"""The command that takes K-FAC apart: ``minikfac costs``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from typer import Option

from .common import Seed
from .tables import print_table

EXAMPLE = "minikfac costs --updates 50 --set tau1=0.5"


def costs(
    updates: Annotated[int, Option(help="Of K-FAC before the one that is taken apart.")] = 30,
    batch_size: Annotated[int, Option(help="Examples of an update.")] = 250,
    arguments: Annotated[
        list[str] | None, Option("--set", help="An argument of K-FAC, as in lam=10; may stand several times.")
    ] = None,
    seeds: Annotated[int, Option(help="Runs, each with a start, batches and targets of its own.", min=1)] = 3,
    seed: Seed = 0,
) -> None:
    """Measure what each approximation in K-FAC costs in progress per update.

    On the bundled digits, after some updates of K-FAC: the next update once
    more with the exact natural gradient of its batch, then with one
    approximation at a time, and with all of them. Ten seconds for three
    seeds; README's net has 2,298 parameters.
    """
    from ..training.update_costs import costs_on_digits, median_and_range
    from .runs import parse_arguments

    runs = costs_on_digits(
        range(seed, seed + seeds), updates, batch_size=batch_size, **parse_arguments(arguments)
    )
    rows = [
        [row["approximation"], _spread(row["model"], 100, 0), _spread(row["loss"], 1, 3)]
        for row in median_and_range(runs)
    ]
    header = ["approximation", "model (% of exact)", "training loss (nats)"]
    print_table("What one update lowers: median (lowest to highest)", header, rows)


def _spread(numbers: Sequence[float], unit: float, digits: int) -> str:
    median, lowest, highest = (f"{unit * number:.{digits}f}" for number in numbers)
    return f"{median} ({lowest} to {highest})"
