"""One self-contained page, pictures inside, nothing loaded from anywhere; and the files beside it."""

from __future__ import annotations

import base64
import json
import math
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from .. import __version__, plots
from ..plots.slides import SLIDE, make_slide
from ..training.progress import progress_bar
from ..writing import replaced_at_once, write_text
from .chapters.summary import head
from .parts import Drawings, Figure, Head, Section, Table

if TYPE_CHECKING:
    from .run import Tour

FORMATS = ("png", "svg", "pdf")
SLIDES = ("light", "dark")

PAGE = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Written:
    """Paths of the page, the numbers, the table, and the pictures by name."""

    page: Path
    results: Path
    table: Path
    pictures: dict[str, Path]


def write_report(tour: Tour, folder: str | Path, progress: bool = True) -> Written:
    """Write report.html, its pictures as PNG files, results.json and quality.csv.

    Args:
        tour: of :func:`minikfac.tour.tour`.
        folder: made if need be; files of these names in it are replaced.
        progress: show a bar.

    Raises:
        OSError: where the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Path] = {}
    drawings = tour.figures()
    with progress_bar("figures", len(drawings), progress) as bar:
        for name, path in save_all(drawings, folder):
            pictures[name] = path
            bar.advance(name)
    written = Written(folder / "report.html", folder / "results.json", folder / "quality.csv", pictures)
    write_text(written.results, json.dumps(results(tour), indent=1, allow_nan=False) + "\n")
    tour.run.study.comparison.to_csv(written.table)
    write_text(written.page, page(head(tour), tour.sections(), pictures))
    return written


def save_all(
    drawings: Drawings, folder: Path, image_format: str = "png", slide: str | None = None, scale: int = 1
) -> Iterator[tuple[str, Path]]:
    """Draw figures into a folder; yields name and file as each is done.

    Args:
        drawings: what draws each, by file name.
        folder: one that is there.
        image_format: one of :data:`FORMATS`.
        slide: "light" or "dark", for 16:9 and large type.
        scale: pixels of a PNG over 1280 in width.

    Raises:
        ValueError: on another format or slide.
    """
    for value, choices, what in ((image_format, FORMATS, "a format"), (slide, (None, *SLIDES), "slide")):
        if value not in choices:
            listed = ", ".join(choice for choice in choices if choice)
            raise ValueError(f"expected {what} among {listed}, got {value!r}")
    backend = plt.get_backend()
    plt.switch_backend("agg")  # no window, also where there is no display
    try:
        for name, draw in drawings.items():
            path = folder / f"{name}.{image_format}"
            with plots.style(SLIDE if slide else None):
                drawn = draw()
                fig: Any = getattr(drawn[0] if isinstance(drawn, list) else drawn, "figure", drawn)
                if slide:
                    make_slide(fig, slide == "dark")
                with replaced_at_once(path) as file:
                    fig.savefig(file, format=image_format, dpi=scale * fig.dpi)
            plt.close(fig)
            yield name, path
    finally:
        plt.switch_backend(backend)


def results(tour: Tour) -> dict[str, Any]:
    """Every number of a tour as plain data, with the versions of what computed them."""
    versions = {"minikfac": __version__, "python": platform.python_version(), "platform": sys.platform}
    versions |= {name: version(name) for name in ("numpy", "scipy", "matplotlib")}
    return dict(plain({"versions": versions} | tour.record()))


def plain(value: Any) -> Any:
    """Arrays to lists, numbers to Python's, and what JSON cannot hold (NaN, infinity) to None.

    >>> plain({"a": np.array([1.0, np.nan]), "b": (np.int64(3), float("inf"))})
    {'a': [1.0, None], 'b': [3, None]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def page(head: Head, sections: Sequence[Section], pictures: Mapping[str, Path]) -> str:
    """Write the page.

    Args:
        head: what it begins with.
        sections: what follows.
        pictures: PNG files by figure name; figures without one are left out.
    """
    top = [f"<p>{text}</p>" for text in head.paragraphs]
    top.append('<ul class="numbers">')
    top += [f"<li><b>{escape(value)}</b><span>{escape(what)}</span></li>" for value, what in head.numbers]
    top.append("</ul>")
    top += [_figure(figure, pictures) for figure in head.figures]
    return PAGE.substitute(
        title=escape(head.title),
        version=escape(__version__),
        summary="\n".join(top),
        contents="\n".join(_entry(section) for section in sections),
        sections="\n".join(_section(section, pictures) for section in sections),
    )


def _entry(section: Section) -> str:
    """A line of the contents; parts of a chapter have no number of their own."""
    kind = ' class="part"' if section.level > 2 else ""
    return f'<li{kind}><a href="#{section.key}">{escape(section.title)}</a></li>'


def _section(section: Section, pictures: Mapping[str, Path]) -> str:
    heading = f"<h{section.level}>{escape(section.title)}</h{section.level}>"
    parts = [f'<section id="{section.key}">', heading]
    for part in section.parts:
        if isinstance(part, Figure):
            parts.append(_figure(part, pictures))
        elif isinstance(part, Table):
            parts.append(_table(part))
        else:
            parts.append(f"<p>{part}</p>")
    return "\n".join([*parts, "</section>"])


def _figure(figure: Figure, pictures: Mapping[str, Path]) -> str:
    path = pictures.get(figure.name)
    if path is None:
        return ""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><label><input type="checkbox" aria-label="Enlarge the picture">'
        f'<img src="data:image/png;base64,{data}" alt="{escape(figure.caption)}"></label>'
        f'<figcaption>{escape(figure.caption)} <span class="hint">Tap the picture to enlarge it.</span>'
        "</figcaption></figure>"
    )


def _table(table: Table) -> str:
    kind = ' class="words"' if len(table.header) == 2 else ""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.cells
    )
    caption = f"<figcaption>{escape(table.caption)}</figcaption>" if table.caption else ""
    return (
        f'<figure class="table"><div tabindex="0"><table{kind}><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>{caption}</figure>"
    )
