"""The tour: one net, one data set, and every number behind the report's tables and figures.

Each chapter is a file in :mod:`.chapters`, whose ``compute(run)`` returns its figures, its sections of the
page and its entries of results.json. ``minikfac tour`` runs all of them for the bundled digits, with a
second, convolutional net for the chapter on convolutions; ``minikfac fisher`` takes your own net and data.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from .. import quality
from ..backend import to_device, use_device
from ..datasets import Dataset
from ..display import ShownByFields
from ..exploration import fisher_study
from ..network.presets import default_channels
from ..parallel import one_thread, workers
from ..training.progress import progress_bar
from .chapters import ALWAYS, CHAPTERS, ELSEWHERE, FIRST
from .chapters.summary import head, how_made
from .parts import Chapter, Drawings, Head, Section
from .settings import Settings
from .studied import Run, prepare


@dataclass(frozen=True, repr=False)
class Tour(ShownByFields):
    """A run and the chapters that were made from it.

    Attributes:
        run: the net and its study.
        chapters: by name, in the order of the page.
        seconds: wall time by stage.
        convnet: the tour of the convolutional net that was studied too.
    """

    run: Run
    chapters: Mapping[str, Chapter]
    seconds: Mapping[str, float]
    convnet: Tour | None = None

    def figures(self) -> Drawings:
        """Functions that draw the figures, by file name, in the order of the page."""
        return {name: draw for part in self.chapters.values() for name, draw in part.figures.items()}

    def head(self) -> Head:
        """Title, opening, findings and conclusion of the page."""
        return head(self)

    def sections(self) -> list[Section]:
        """Sections of the page, chapter by chapter."""
        return [*(section for part in self.chapters.values() for section in part.sections), how_made(self)]

    def record(self) -> dict[str, Any]:
        """The content of results.json: settings and numbers; for matrices, their errors and eigenvalues."""
        record: dict[str, Any] = {"settings": vars(self.run.settings), "seconds": self.seconds}
        for chapter in self.chapters.values():
            for key, value in chapter.record.items():
                record[key] = record[key] | value if key in record else value
        if self.convnet is not None:
            record["convolutional_net"] = self.convnet.record()
        return record


def tour(dataset: Dataset, settings: Settings | None = None, progress: bool = True) -> Tour:
    """Train a net, and study its Fisher matrix and every approximation of it.

    Args:
        dataset: inputs (N, features) or images; a convolutional net needs images.
        settings: what to study; the defaults are those of ``minikfac tour`` with the chapters on its net.
        progress: show bars.

    Raises:
        ValueError: if the settings do not fit each other or the data.
        MemoryError: before any work, if the Fisher matrix does not fit in memory.
    """
    settings = settings or Settings()
    names = _wanted(settings)
    if settings.channels is not None and dataset.image_shape is not None:
        dataset = dataset.as_images()
    seconds: dict[str, float] = {}
    with timed(seconds, "training"), one_thread():
        net, theta0, dataset, history = prepare(settings, dataset, progress)
    x, y = dataset.x_train[: settings.n_examples], dataset.y_train[: settings.n_examples]
    with timed(seconds, "Fisher matrices"):
        theta, inputs, targets = (to_device(array, settings.device) for array in (history.theta, x, y))
        study = fisher_study(net, theta, inputs, targets, progress=progress, **settings.of_study)
    run = Run(settings, net, theta0, history.theta, dataset, x, y, history, study)
    if settings.seeds > 1:
        with timed(seconds, "seeds"):
            run = replace(run, study=replace(study, table=_over_seeds(run, progress)))
    convnet = None
    if "convolutions" in names and settings.channels is None:
        with timed(seconds, "convolutional net"):
            convnet = tour(dataset, _convolutional(settings, dataset), progress)
        run = replace(run, beside=convnet.run)
    return Tour(run, _chapters(run, names, seconds, progress), seconds, convnet)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Record the wall time of a stage."""
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


def _wanted(settings: Settings) -> list[str]:
    """Names of the chapters, in the order of the page."""
    chosen = settings.chapters
    if chosen is None:
        chosen = tuple(name for name in CHAPTERS if name not in ELSEWHERE)
        chosen += ("convolutions",) * (settings.channels is not None)
    unknown = [name for name in chosen if name not in CHAPTERS]
    if unknown:
        raise ValueError(f"expected chapters among {', '.join(CHAPTERS)}; got {', '.join(unknown)}")
    names = [name for name in CHAPTERS if name in chosen or name in ALWAYS]
    if settings.channels is not None:  # what a convolution is comes right after the net
        names.remove("net")
        names = ["net", *sorted(names, key=lambda name: name != "convolutions")]
    return names


def _convolutional(settings: Settings, dataset: Dataset) -> Settings:
    """Settings of a small convolutional net for the same data, which must be images."""
    if dataset.image_shape is None:
        raise ValueError(f"expected images for the study of a convolutional net, got {dataset!r}")
    return replace(
        settings,
        sizes=(),
        channels=default_channels(dataset.image_shape),
        approximations=None,
        layers=None,
        seeds=1,
        chapters=(),
    )


def _over_seeds(run: Run, progress: bool) -> quality.Comparison:
    """Repeat the study with other seeds: other drawn targets or, where none are drawn, other nets."""
    first = run.settings.seed
    with progress_bar("seeds", run.settings.seeds, progress) as bar:

        def again(number: int) -> quality.Comparison:
            comparison = run.study.table
            if number > 0:
                settings, theta = replace(run.settings, seed=first + number), run.theta
                if settings.targets != "sampled":
                    theta = run.alike(seed=settings.seed)[1]
                theta, x, y = to_device(theta, settings.device), run.study.x, run.study.y
                study = fisher_study(run.net, theta, x, y, progress=False, **settings.of_study)
                comparison = study.table
            bar.advance()
            return comparison

        return quality.over_seeds(again, range(run.settings.seeds))


def _chapters(
    run: Run, names: Sequence[str], seconds: dict[str, float], progress: bool
) -> dict[str, Chapter]:
    """Compute chapters, on threads of one BLAS thread each; those that take longest begin."""
    with progress_bar("chapters", len(names), progress) as bar, one_thread():

        def compute(name: str) -> Chapter | None:
            with timed(seconds, name):
                chapter: Chapter | None = CHAPTERS[name].compute(run)
            bar.advance(name)
            return chapter

        device = run.settings.device  # a GPU is chosen for each thread
        with ThreadPoolExecutor(workers(4), initializer=use_device, initargs=(device,)) as pool:
            in_turn = sorted(names, key=lambda name: name not in FIRST)
            computed = dict(zip(in_turn, pool.map(compute, in_turn), strict=True))  # an interrupt ends it
    chapters = {name: computed[name] for name in names}
    return {name: chapter for name, chapter in chapters.items() if chapter is not None}
