"""From options to the runs of ``train``, ``compare`` and ``scaling``: optimizers, arguments and batches."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..network import Network
from ..network.outputs import Categorical
from ..races import Problem, Race
from ..races.contenders import Contender, argument, contender
from ..races.race import BEST
from ..races.recipes import Recipe, recipes_for
from ..training import ExponentialBatches
from ..training.averaging import Averaging
from ..training.batches import BatchSize, size_at
from ..training.loop import Optimizer
from .tables import print_table

SQUARED = ("squared_error", "test_squared_error")
"""Measured where targets are not labels."""
SMALL = 300
"""Nets with at most this many units and inputs in each layer are faster with one thread."""


@dataclass(frozen=True)
class Entrant:
    """An optimizer on a problem, with the given arguments or else those of the recipe, if there is one.

    Attributes:
        contender: the optimizer.
        problem: the problem.
        given: its arguments by ``--set``, and the averaging of its iterates.
        batches: examples per step as text, or None for those of the recipe or the problem.
    """

    contender: Contender
    problem: Problem
    given: Mapping[str, Any] = field(default_factory=dict)
    batches: str | None = None

    @property
    def name(self) -> str:
        """That of the optimizer."""
        return self.contender.name

    @property
    def recipe(self) -> Recipe | None:
        """Of the optimizer on this problem."""
        return recipes_for(self.problem.name).get(self.name)

    @property
    def source(self) -> str:
        """The source of the arguments that were not given, to be printed."""
        return f"; recipe of {self.recipe.source}" if self.recipe else ""

    @property
    def batch_size(self) -> BatchSize:
        """A number, as 250, or growing, as 100:1500:200.

        Raises:
            ValueError: on another text.
        """
        text, n = self.batches, len(self.problem.dataset.x_train)
        if text is None:
            return self.recipe.batches(self.problem.dataset) if self.recipe else self.problem.batch_size
        if re.fullmatch(r"\d+", text):
            return size_at(0, n, int(text))
        grows = re.fullmatch(r"(\d+):(\d+):(\d+)", text)
        if grows is None:
            raise ValueError(
                f"expected a batch size as 250, or FIRST:MOST:STEP as 100:1500:200, got {text!r}"
            )
        first, most, step = map(int, grows.groups())
        size_at(0, n, most)  # refused now, not at that step
        return ExponentialBatches.reaching(most, first, step)

    @property
    def averaging(self) -> Averaging | None:
        """That of the iterates: the one given, else that of the recipe, or none."""
        return self.given.get("averaging", self.recipe.averaging if self.recipe else None)

    @property
    def arguments(self) -> dict[str, Any]:
        """Those given that are the optimizer's."""
        return {key: value for key, value in self.given.items() if key != "averaging"}

    def make(self, net: Network, **tuned: Any) -> Optimizer:
        """Make the optimizer; what was tuned goes before all else."""
        recipe = self.recipe.arguments if self.recipe else {}
        return self.contender.make(net, **{**recipe, **self.arguments, **tuned})


def described(problem: Problem) -> str:
    """Describe a problem in one line."""
    data = problem.dataset
    return (
        f"{problem.name}: {problem.net.n_params:,} parameters, {len(data.x_train):,} training and "
        f"{len(data.x_test):,} test examples, {data.x_train.dtype}"
    )


def sizes_in_words(size: BatchSize) -> str:
    """Describe batches in a few words."""
    if isinstance(size, int):
        return f"batches of {size:,}"
    return f"batches that grow from {size(0):,} to {size(10**9):,}"


def is_small(problem: Problem) -> bool:
    """Whether the net is faster with one thread."""
    return max(max(shape) for shape in problem.net.shapes) <= SMALL


def parse_arguments(texts: Sequence[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE, several times.

    >>> parse_arguments(["lam=10", "structure=block_tridiagonal"])
    {'lam': 10, 'structure': 'block_tridiagonal'}
    """
    arguments = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"expected --set as NAME=VALUE, got {text!r}")
        arguments[name.strip()] = argument(value)
    return arguments


def arguments_by_optimizer(
    texts: Sequence[str] | None, chosen: Sequence[Contender]
) -> dict[str, dict[str, Any]]:
    """Read OPTIMIZER.NAME=VALUE, several times; by the optimizer's name, with an entry for each."""
    given: dict[str, dict[str, Any]] = {each.name: {} for each in chosen}
    for text in texts or ():
        name, rest = of_optimizer(text, chosen, "--set", "VALUE, such as kfac.lam=10")
        given[name] |= parse_arguments([rest])
    return given


def of_optimizer(text: str, chosen: Sequence[Contender], option: str, example: str) -> tuple[str, str]:
    """Split OPTIMIZER.NAME=... after the optimizer, which must be one of those chosen."""
    spelling, dot, rest = text.partition(".")
    if not dot or "=" in spelling:
        raise ValueError(f"expected {option} as OPTIMIZER.NAME={example}, got {text!r}")
    name = contender(spelling).name
    if name not in [each.name for each in chosen]:
        raise ValueError(f"expected {option} for one of the optimizers that race, got {text!r}")
    return name, rest


def parse_optimizers(text: str) -> list[Contender]:
    """Read names of optimizers with commas between them."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"expected --optimizers with commas between them, got {text!r}")
    return [contender(name) for name in names]


def parse_target(text: str | None) -> dict[str, float] | None:
    """Read COLUMN=LEVEL.

    >>> parse_target("loss=0.1")
    {'loss': 0.1}
    """
    if text is None:
        return None
    column, _, level = text.partition("=")
    if not (column and level):
        raise ValueError(f"expected --target as COLUMN=LEVEL, such as loss=0.1, got {text!r}")
    return {column: _number(level, "--target")}


def parse_levels(text: str | None) -> list[float] | None:
    """Read numbers with commas between them; None for no text."""
    return None if text is None else [_number(level, "--levels") for level in text.split(",")]


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected finite numbers for {option}, got {text!r}")
    return number


def check_column(
    column: str, problem: Problem, option: str, averaged: bool = False, best: bool = False
) -> None:
    """Reject a column that is not measured on the problem, before any run.

    Args:
        column: that of the option.
        problem: the problem.
        option: for the error.
        averaged: whether the average of the iterates is measured too.
        best: whether the lower of the two may be named.
    """
    labels = isinstance(problem.net.output, Categorical)
    names = ["loss", "test_loss", *(("train_error", "test_error") if labels else SQUARED)]
    names += [f"{name}_average" for name in names if averaged]
    names += [f"{BEST}{name}" for name in names if best]
    if column not in names:
        raise ValueError(f"expected {option} among {', '.join(names)}, got {column!r}")


def print_targets(race: Race, column: str, levels: Sequence[float] | None, terms: Sequence[str]) -> None:
    """Print when each level was reached, in seconds and in steps."""
    for along, unit in (("seconds", "Seconds"), ("step", "Steps")):
        brackets = "; ".join([f"times sooner than {race.baseline}", *terms])
        title = f"{unit} to a {column.replace('_', ' ')} of ... ({brackets})"
        print_table(title, *race.table(column, along, levels))
