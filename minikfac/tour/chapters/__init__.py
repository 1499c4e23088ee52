"""The chapters of the report, one file each: what it computes, draws, says and records.

A chapter is a module with

    compute(run) -> Chapter | None      None where it does not apply

which has the figures, sections and numbers of :class:`minikfac.tour.parts.Chapter`. A new one is a file, its
name in ``_NAMES``, and its text in ``tour/words.html``. The other files are parts of a chapter, or shared:

    progress        conditioning (the valley), damping_study (what one step improves, against damping)
    convolutions    shifts, assumptions, ladder, maps, exactness, batchnorm
    ascents, gaussian share charts;  summary opens and ends the page
"""

from importlib import import_module
from types import ModuleType

_NAMES = """globe ascents gaussian net signals mean_gradient scatter divergence matrices ledger quality
spectra sampling along progress convolutions invariance memory"""
CHAPTERS: dict[str, ModuleType] = {name: import_module(f".{name}", __name__) for name in _NAMES.split()}
"""By name, in the order of the page."""
ALWAYS = ("net", "ledger", "quality")
"""Chapters that say what was studied: a report always has them."""
ELSEWHERE = ("globe", "ascents", "gaussian", "along", "progress", "convolutions", "invariance")
"""Chapters on other nets, on other moments, or on none: only where they are named."""
FIRST = ("along", "invariance", "convolutions", "matrices")
"""Chapters that take long, and so begin."""
