"""The command that lists the problems: ``minikfac problems``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from typer import Argument

from ..races.contenders import CONTENDERS
from ..races.problems import PROBLEMS, entry
from ..races.recipes import Recipe, recipes_for
from .common import say

EXAMPLE = "minikfac problems digits-autoencoder"


def problems(
    name: Annotated[
        str | None, Argument(help="Show the recipes of this problem, with their constants.")
    ] = None,
) -> None:
    """List the problems for train and compare, with the optimizers for which each has a recipe.

    A recipe is what an optimizer begins with on a problem unless --set says
    otherwise: constants of a paper where it gives them, and ours where it does
    not.
    """
    optimizers = [contender.name for contender in CONTENDERS]
    for row in PROBLEMS if name is None else [entry(name)]:
        recipes = recipes_for(row.name)
        say(f"{row.name}  ({row.net(1.0).n_params:,} parameters, {row.dtype}; data: {row.data})")
        say(f"    {row.what}")
        if name is not None:
            for recipe in recipes.values():
                _describe(recipe)
            continue
        say(f"    recipes: {', '.join(title for title in recipes if title in optimizers)}")
        others = [f'"{title}"' for title in recipes if title not in optimizers]
        if others:
            say(f"    in Python alone: {', '.join(others)}")
    if name is None:
        say(f"Optimizers: {', '.join(optimizers)}")


def _describe(recipe: Recipe) -> None:
    say(f"    {recipe.name}: {_batches(recipe)}; {recipe.source}")
    say(f"        {_in_words(recipe.arguments)}")
    if recipe.ours:
        say(f"        ours: {', '.join(recipe.ours)}")


def _batches(recipe: Recipe) -> str:
    if isinstance(recipe.batch_size, int):
        return f"batches of {recipe.batch_size:,}"
    if recipe.batch_size == "growing":
        return "batches that grow to the whole training set"
    return "the whole training set"


def _in_words(arguments: Mapping[str, Any]) -> str:
    """Arguments as --set takes them."""
    return " ".join(f"{key}={value_in_words(value)}" for key, value in arguments.items())


def value_in_words(value: Any) -> str:
    """A number, a word, or a schedule with its numbers, as --set takes it.

    >>> from minikfac.optim.schedules import SutskeverMomentum
    >>> value_in_words(1 / 8), value_in_words(True), value_in_words(SutskeverMomentum(0.99))
    ('0.125', 'True', 'SutskeverMomentum(0.99)')
    """
    if callable(value):
        return f"{type(value).__name__}({','.join(map(value_in_words, vars(value).values()))})"
    return f"{value:.5g}" if isinstance(value, float) else str(value).replace(" ", "")
