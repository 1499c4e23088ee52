"""Running things: the training loop, its records, and the study of a net's Fisher matrix."""

from .along import quality_along_training
from .study import APPROXIMATIONS, Study, fisher_study
from .training import History, train

__all__ = ["APPROXIMATIONS", "History", "Study", "fisher_study", "quality_along_training", "train"]
