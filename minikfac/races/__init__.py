"""Races between optimizers on equal terms: problems, contenders, recipes, the search for constants."""

from .problems import PROBLEMS, Problem, problem
from .race import Race, race
from .recipes import RECIPES, Recipe, recipe, recipes_for
from .search import Search, random_search

__all__ = [
    "PROBLEMS",
    "RECIPES",
    "Problem",
    "Race",
    "Recipe",
    "Search",
    "race",
    "problem",
    "random_search",
    "recipe",
    "recipes_for",
]
