"""Races between optimizers on equal terms: problems, contenders, recipes, the search for constants."""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from .problems import PROBLEMS, Problem, problem
    from .race import Race, race
    from .recipes import RECIPES, Recipe, recipe, recipes_for
    from .search import Search, random_search

__all__ = on_demand(__name__)
