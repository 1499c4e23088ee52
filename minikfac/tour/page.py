"""The report: one self-contained page with its pictures inside, and the files beside it."""

from __future__ import annotations

import base64
import io
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
from PIL import Image

from .. import __version__, plots
from ..plots.slides import SLIDE, make_slide
from ..training.progress import progress_bar
from ..writing import replaced_at_once, write_text
from .parts import Drawings, Figure, Finding, Head, Part, Section, Table

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
        folder: created if needed; existing files of these names are replaced.
        progress: show a bar.

    Raises:
        OSError: if the folder cannot be written.
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
    tour.run.study.table.to_csv(written.table)
    write_text(written.page, page(tour.head(), tour.sections(), pictures))
    return written


def save_all(
    drawings: Drawings, folder: Path, image_format: str = "png", slide: str | None = None, scale: int = 1
) -> Iterator[tuple[str, Path]]:
    """Draw figures into a folder; yields name and file as each is done.

    Args:
        drawings: functions that draw them, by file name.
        folder: an existing folder.
        image_format: one of :data:`FORMATS`.
        slide: "light" or "dark" for slides, 16:9 in large type.
        scale: width of a PNG in units of 1280 pixels.

    Raises:
        ValueError: if there is no such format or slide.
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
                buffer = io.BytesIO()
                fig.savefig(buffer, format=image_format, dpi=scale * fig.dpi)
            plt.close(fig)
            image = buffer.getvalue()
            with replaced_at_once(path) as file:
                file.write(shrunk(image) if image_format == "png" else image)
            yield name, path
    finally:
        plt.switch_backend(backend)


def shrunk(png: bytes) -> bytes:
    """Return a picture in 256 colours if that makes it smaller."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)


def results(tour: Tour) -> dict[str, Any]:
    """Return the numbers of a tour as plain data, with the versions of the libraries that computed them."""
    versions = {"minikfac": __version__, "python": platform.python_version(), "platform": sys.platform}
    versions |= {name: version(name) for name in ("numpy", "scipy", "matplotlib")}
    return dict(plain({"versions": versions} | tour.record()))


def plain(value: Any) -> Any:
    """Convert arrays to lists, numbers to Python's, and NaN and infinity, which JSON cannot hold, to None.

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
    """Write the page: findings, chapters that unfold, and the conclusion.

    Args:
        head: title, opening, findings and conclusion.
        sections: those of level 2 begin a chapter.
        pictures: PNG files by figure name, beside the page; figures without one are left out.
    """
    return _Writer(head, sections, pictures).page()


class _Writer:
    """Writes one page, on which each figure appears once; later mentions are links to it.

    Attributes:
        chapters: sections by chapter.
        headings: number and title of each section, by key.
        figures: by name.
        numbers: of the figures that are on the page so far, by name.
    """

    def __init__(self, head: Head, sections: Sequence[Section], pictures: Mapping[str, Path]) -> None:
        self.head, self.pictures = head, pictures
        self.chapters: list[list[Section]] = []
        self.headings: dict[str, str] = {}
        parts = [part for section in sections for part in section.parts]
        self.figures = {part.name: part for part in parts if isinstance(part, Figure)}
        self.numbers: dict[str, int] = {}
        for section in sections:
            if section.level == 2:
                self.chapters.append([])
            chapter = self.chapters[-1]
            chapter.append(section)
            place = f"{len(self.chapters)}.{len(chapter) - 1}".removesuffix(".0")
            self.headings[section.key] = f"{place} {escape(section.title)}"

    def page(self) -> str:
        numbered = list(enumerate(self.head.findings, 1))
        conclusion = [*map(self._part, self.head.conclusion)]
        if conclusion:
            conclusion.insert(0, '<h2 id="conclusion">Conclusion</h2>')
        return PAGE.substitute(
            title=escape(self.head.title),
            version=escape(__version__),
            opening="\n".join(map(self._part, self.head.paragraphs)),
            contents="\n".join(self._contents()),
            findings="\n".join(self._finding(number, finding) for number, finding in numbered),
            chapters="\n".join(self._chapter(chapter) for chapter in self.chapters),
            conclusion="\n".join(conclusion),
        )

    def _contents(self) -> Iterator[str]:
        for number, finding in enumerate(self.head.findings, 1):
            yield f'<li><a href="#finding{number}">Finding {number}. {escape(finding.title)}</a></li>'
        yield '<li class="head"><a href="#chapters">In detail</a></li>'
        for first, *_ in self.chapters:
            yield f'<li><a href="#{first.key}">{self.headings[first.key]}</a></li>'
        if self.head.conclusion:
            yield '<li class="head"><a href="#conclusion">Conclusion</a></li>'

    def _finding(self, number: int, finding: Finding) -> str:
        links = [f'<a href="#{key}">{self.headings[key]}</a>' for key in finding.more if key in self.headings]
        return "\n".join(
            [
                f'<section class="finding" id="finding{number}">',
                f"<h2>Finding {number}. {escape(finding.title)}</h2>",
                f'<p class="number"><b>{finding.value}</b> {finding.meaning}</p>',
                self._figure(self.figures[finding.figure]),
                f'<p class="read">Read on: {", ".join(links)}; tutorial {escape(finding.tutorial)}.</p>',
                "</section>",
            ]
        )

    def _chapter(self, chapter: Sequence[Section]) -> str:
        first, *others = chapter
        lines = [f'<details class="chapter" id="{first.key}"><summary><h3>{self.headings[first.key]}</h3>']
        lines += ["</summary>", *map(self._part, first.parts)]
        for section in others:
            lines += [f'<section id="{section.key}">', f"<h4>{self.headings[section.key]}</h4>"]
            lines += [*map(self._part, section.parts), "</section>"]
        return "\n".join([*lines, "</details>"])

    def _part(self, part: Part) -> str:
        if isinstance(part, Figure):
            return self._figure(part)
        return _table(part) if isinstance(part, Table) else f"<p>{part}</p>"

    def _figure(self, figure: Figure) -> str:
        path = self.pictures.get(figure.name)
        if path is None:
            return ""
        if figure.name in self.numbers:
            number = self.numbers[figure.name]
            return f'<p class="read">See <a href="#figure{number}">Figure {number}</a>.</p>'
        number = self.numbers[figure.name] = len(self.numbers) + 1
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        caption = escape(figure.caption)
        return (
            f'<figure id="figure{number}"><button type="button" aria-label="Enlarge Figure {number}">'
            f'<img src="data:image/png;base64,{data}" alt="{caption}"></button><figcaption>'
            f'<b>Figure {number}.</b> {caption} <a href="{path.name}">{path.name}</a></figcaption></figure>'
        )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.cells
    )
    caption = f"<figcaption>{escape(table.caption)}</figcaption>" if table.caption else ""
    return (
        f'<figure><div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>{caption}</figure>"
    )
