"""Write everything that a tour leaves behind into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..training.progress import progress_bar
from . import figures, text
from .page import page
from .results import write_results
from .run import Findings


@dataclass(frozen=True)
class Written:
    """Where things are: the page, the numbers, the table, and the pictures by name."""

    page: Path
    results: Path
    table: Path
    pictures: dict[str, Path]


def write_report(found: Findings, folder: str | Path, progress: bool = True) -> Written:
    """Write report.html, its pictures as PNG files, results.json and quality.csv.

    Args:
        found: of :func:`minikfac.tour.run.tour`.
        folder: made if need be; files of these names in it are replaced.
        progress: show a bar.

    Raises:
        OSError: where the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Path] = {}
    with progress_bar("figures", len(figures.available(found)), progress) as bar:
        for name, path in figures.draw_all(found, folder):
            pictures[name] = path
            bar.advance(name)
    written = Written(folder / "report.html", folder / "results.json", folder / "quality.csv", pictures)
    write_results(found, written.results)
    found.study.comparison.to_csv(written.table)
    html = page(text.title(found), text.summary(found), text.sections(found), pictures, __version__)
    written.page.write_text(html, encoding="utf-8")
    return written
