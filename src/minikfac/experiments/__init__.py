"""Running things: the training loop, its records, the study of a net's Fisher matrix, and the tour.

The tour of a net of your own, and its report:

    from minikfac import datasets, experiments, report
    found = experiments.tour(datasets.digits(), experiments.Settings(sizes=(64, 20, 20, 10)))
    report.write_report(found, "my-net")
"""

from .along import quality_along_training
from .batch_study import batch_study
from .batches import ExponentialBatches
from .compare import Race, compare
from .conditioning import conditioning
from .convolutions import convnet
from .coupling import coupling
from .damping_study import damping_study
from .exactness import exactness
from .gaussian_family import gaussian_flows
from .globe import ascents
from .keep import Keep
from .maps import layer_maps, map_statistics
from .problems import PROBLEMS, Problem, problem
from .projections import PROJECTIONS, tissot
from .recipes import RECIPES, Recipe, recipe, recipes_for
from .scaling import Budget, Scaling, batch_sweep
from .search import Search, random_search
from .shifts import shifted_products
from .study import APPROXIMATIONS, Study, fisher_study
from .tour import Findings, Settings, tour
from .training import History, train

__all__ = [
    "APPROXIMATIONS",
    "Budget",
    "Findings",
    "ExponentialBatches",
    "History",
    "Keep",
    "PROBLEMS",
    "Problem",
    "PROJECTIONS",
    "RECIPES",
    "Recipe",
    "Race",
    "Scaling",
    "Search",
    "Settings",
    "Study",
    "ascents",
    "compare",
    "batch_study",
    "batch_sweep",
    "conditioning",
    "convnet",
    "coupling",
    "damping_study",
    "exactness",
    "fisher_study",
    "gaussian_flows",
    "layer_maps",
    "map_statistics",
    "problem",
    "quality_along_training",
    "recipe",
    "recipes_for",
    "random_search",
    "shifted_products",
    "tissot",
    "tour",
    "train",
]
