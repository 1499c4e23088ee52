"""The tour: a net's Fisher matrix, every approximation of it, and the page that shows what each costs.

The tour of a net of your own, and its page:

    from minikfac import datasets, tour
    mine = tour.tour(datasets.digits(), tour.Settings(sizes=(64, 20, 20, 10)))
    tour.write_report(mine, "my-net")
"""

from .chapters import CHAPTERS
from .chapters.along import quality_along_training
from .chapters.conditioning import conditioning
from .chapters.damping_study import damping_study
from .page import Written, write_report
from .run import Run, Tour, tour
from .settings import Settings, convnet
from .study import APPROXIMATIONS, Study, fisher_study

__all__ = [
    "APPROXIMATIONS",
    "CHAPTERS",
    "Run",
    "Settings",
    "Study",
    "Tour",
    "Written",
    "conditioning",
    "convnet",
    "damping_study",
    "fisher_study",
    "quality_along_training",
    "tour",
    "write_report",
]
