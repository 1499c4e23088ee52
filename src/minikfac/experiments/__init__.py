"""Running things: the training loop, its records, the study of a net's Fisher matrix, and the tour.

from minikfac import datasets, experiments, report
found = experiments.tour(datasets.digits(), experiments.Settings(sizes=(64, 20, 20, 10)))
report.write_report(found, "my-net")
"""

from .along import quality_along_training
from .study import APPROXIMATIONS, Study, fisher_study
from .tour import Findings, Settings, tour
from .training import History, train

__all__ = [
    "APPROXIMATIONS",
    "Findings",
    "History",
    "Settings",
    "Study",
    "fisher_study",
    "quality_along_training",
    "tour",
    "train",
]
