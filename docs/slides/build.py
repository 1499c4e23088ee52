"""Build the slides of the two lectures: one HTML file each, which needs no network.

    python docs/slides/build.py [FOLDER]     # by default docs/_build/slides; `make slides` does this

A deck is a Markdown file beside this one, and docs/slides.md says how it is written. Nothing in it is copied
by hand: numbers are looked up in docs/results/example.json and in the saved outputs of the tutorials, and
figures are drawn by the package and by the tutorials' cells.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import linecache
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
DOCS, ROOT = HERE.parent, HERE.parents[1]
FOLDER = DOCS / "_build" / "slides"
DECKS = sorted(HERE.glob("lecture-*.md"))
FIGURE = re.compile(r'^!\[([^\]]*)\]\((.+?)(?: "(upper|lower) (\d+)%")?\)$', re.MULTILINE)
"""A figure on a line of its own: what it shows, its name, and perhaps which part of it."""
WIDTH = 1920
"""Pixels of a figure: a slide is 1280 wide, and projectors have more."""


# the source -----------------------------------------------------------------------------------------------


class Slide(NamedTuple):
    """One slide: Markdown of its title, of what is shown, and of what the lecturer says."""

    title: str
    body: str
    minutes: int
    notes: str
    opens: bool
    """The first slide of a deck, whose title begins with one # and not with two."""


def slides(text: str) -> list[Slide]:
    """Cut a deck into slides at its lines of three dashes.

    Raises:
        ValueError: where a slide has no title, no notes or no minutes.
    """
    cut = []
    for piece in text.split("\n---\n"):
        slide = re.fullmatch(r"\s*(##?) (.+?)\n(.*)\nNote: (\d+) min\.\n(.+)", piece, re.DOTALL)
        if slide is None:
            raise ValueError(f"expected '## title', text, 'Note: 3 min.' and notes, got a slide of {piece!r}")
        mark, title, body, minutes, notes = slide.groups()
        cut.append(Slide(title, body.strip(), int(minutes), notes.strip(), mark == "#"))
    return cut


@cache
def record() -> dict[str, Any]:
    """The numbers of the one net of the course, by their names in docs/results/example.json."""
    return dict(json.loads((DOCS / "results" / "example.json").read_text(encoding="utf-8")))


@cache
def cells(number: str) -> list[tuple[str, str]]:
    """Code and printed text of each code cell of a tutorial."""
    [path] = (ROOT / "tutorials").glob(f"{number}-*.ipynb")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [
        ("".join(cell["source"]), "".join(line for out in cell["outputs"] for line in out.get("text", [])))
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def number(name: str) -> str:
    """The number that stands in a deck as ``{{name}}``, as it is to be shown.

    ``quality/K-FAC/error`` leads through the record; with ``along`` and ``damped`` the last part is a number
    of steps or a damping. ``06/K-FAC, λ = 0.1/to`` leads through what tutorial 6 printed: the number behind
    these words, in this order.

    Raises:
        KeyError: where the record has no such name, or the tutorial did not print it.
    """
    first, *rest = name.split("/")
    if first.isdigit():
        text = "\n".join(printed for _, printed in cells(first))
        words = ".*?".join(map(re.escape, rest))
        if not (match := re.search(words + r"[^\d\n]*?(-?\d+(?:,\d{3})*(?:\.\d+)?)", text)):
            raise KeyError(f"tutorial {first} prints no number behind {' ... '.join(rest)!r}")
        return match[1].replace("-", "−")
    value: Any = record()[first]
    for key in rest:
        if isinstance(value, list):
            value = value[record()[first]["steps" if first == "along" else "damping"].index(float(key))]
        else:
            value = value[key]
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def with_numbers(text: str) -> str:
    """Replace every ``{{name}}`` by its number."""
    return re.sub(r"\{\{(.+?)\}\}", lambda match: number(match[1]), text)


def cell_that_draws(name: str) -> tuple[str, int]:
    """Tutorial and position of the code cell of a figure such as ``06/drawing.race(``.

    Raises:
        ValueError: where not exactly one cell contains these words.
    """
    tutorial, words = name.split("/", 1)
    places = [place for place, (code, _) in enumerate(cells(tutorial)) if words in code]
    if len(places) != 1:
        raise ValueError(f"expected one cell of tutorial {tutorial} with {words!r}, got {len(places)}")
    return tutorial, places[0]


# figures --------------------------------------------------------------------------------------------------


def file_of(name: str, folder: Path) -> Path:
    """Where the picture of a figure lies."""
    return folder / "figures" / (re.sub(r"[^\w-]+", "-", name).strip("-") + ".png")


def draw(names: set[str], folder: Path) -> None:
    """Draw figures that are missing or older than their code."""
    missing = {name for name in names if stale(name, folder)}
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    if any("/" not in name for name in missing):
        command = [sys.executable, "-m", "minikfac.cli", "figures", "--slide", "light", "--out"]
        subprocess.run([*command, str(folder / "figures")], check=True)
    places: dict[str, dict[int, Path]] = {}
    for name in sorted(name for name in missing if "/" in name):
        tutorial, place = cell_that_draws(name)
        places.setdefault(tutorial, {})[place] = file_of(name, folder)
    for tutorial, files in places.items():
        print(f"figures of tutorial {tutorial} ...")
        draw_cells(tutorial, files)


def stale(name: str, folder: Path) -> bool:
    """Whether a figure is to be drawn."""
    path = file_of(name, folder)
    if "/" in name:
        code = [*(ROOT / "tutorials").glob(f"{name[:2]}-*.ipynb"), ROOT / "tutorials" / "drawing.py"]
    else:
        parts = (ROOT / "minikfac" / "plots", ROOT / "minikfac" / "tour")
        code = [file for part in parts for file in part.rglob("*.py")]
    return not path.exists() or path.stat().st_mtime < max(file.stat().st_mtime for file in code)


def draw_cells(tutorial: str, files: dict[int, Path]) -> None:
    """Run a tutorial down to the last cell that is needed, and save the figures of these cells as slides."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from minikfac import plots
    from minikfac.plots.slides import SLIDE, make_slide

    sys.path.insert(0, str(ROOT / "tutorials"))
    os.environ["MINIKFAC_SAVED_RUN"] = "1"  # pictures in place of sliders
    names: dict[str, Any] = {"__name__": f"tutorial {tutorial}"}
    with plots.style(SLIDE | {"axes.titlesize": 13}), redirect_stdout(io.StringIO()):
        for place, (code, _) in enumerate(cells(tutorial)[: max(files) + 1]):
            file = f"tutorial {tutorial}, code cell {place}"
            linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)  # for getsource
            exec(compile(code, file, "exec"), names)
            if place in files:
                fig = plt.gcf()
                make_slide(fig)
                fig.savefig(files[place], dpi=fig.dpi * 2560 / fig.bbox.width)
            plt.close("all")


def embedded(path: Path, part: str, percent: str) -> str:
    """A picture as text: without white margins, in 256 colours; of its height the upper or lower part."""
    from PIL import Image, ImageChops

    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    cut = whole.height * int(percent or 100) // 100
    top = whole.height - cut if part == "lower" else 0
    piece = whole.crop((0, top, whole.width, top + cut))
    piece = piece.crop(ImageChops.invert(piece).getbbox())
    piece.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    piece.quantize(256, dither=Image.Dither.NONE).save(buffer := io.BytesIO(), "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# HTML -----------------------------------------------------------------------------------------------------


@cache
def markdown() -> Callable[[str], str]:
    """Markdown to HTML: CommonMark, tables, formulas for MathJax, code in colours."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    def coloured(code: str, language: str, _: str) -> str:
        return highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)) if language == "python" else ""

    def formula(code: str, options: dict[str, Any]) -> str:
        return rf"\[{escape(code)}\]" if options["display_mode"] else rf"\({escape(code)}\)"

    parser = MarkdownIt("commonmark", {"html": True, "highlight": coloured}).enable("table")

    def item(renderer: Any, tokens: Any, place: int, *_: Any) -> str:
        return '<li class="fragment">' if tokens[place].markup == "+" else "<li>"  # + one by one, - at once

    parser.use(dollarmath_plugin, renderer=formula, allow_space=False)
    parser.add_render_rule("list_item_open", item)
    return lambda text: str(parser.render(text))


def section(slide: Slide, folder: Path) -> str:
    """One slide as HTML."""
    render = markdown()

    def figure(match: re.Match[str]) -> str:
        shows, name, part, percent = match.groups()
        source = embedded(file_of(name, folder), part, percent)
        return f'<figure><img src="{source}" alt="{escape(with_numbers(shows), quote=True)}"></figure>'

    shown = render(FIGURE.sub(figure, with_numbers(slide.body)))
    heading = render(f"{'#' if slide.opens else '##'} {with_numbers(slide.title)}")
    notes = render(f"*{slide.minutes} min.* {with_numbers(slide.notes)}")
    kind = "opening" if slide.opens else "words" if not re.search("<(figure|pre)", shown) else "shows"
    return (
        f'<section class="{kind}" data-timing="{60 * slide.minutes}">{heading}{shown}'
        f'<aside class="notes">{notes}</aside></section>'
    )


def package_file(package: str, *parts: str) -> Path:
    """A file that a package brings along.

    Raises:
        ModuleNotFoundError: where the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"slides need the package {package}: make slides installs it")
    return Path(spec.origin).parent.joinpath(*parts)


def reveal(*parts: str) -> Path:
    return package_file("sphinx_revealjs", "_static", "revealjs", *parts)


def fonts() -> Iterator[str]:
    """Source Sans Pro, so that slides have the same lines on every machine."""
    kinds = (400, "normal", "regular"), (400, "italic", "italic"), (600, "normal", "semibold")
    for weight, slant, name in kinds:
        path = reveal("dist", "theme", "fonts", "source-sans-pro", f"source-sans-pro-{name}.woff")
        data = base64.b64encode(path.read_bytes()).decode()
        yield (
            f"@font-face {{ font-family: 'Source Sans Pro'; font-weight: {weight}; font-style: {slant};"
            f" src: url(data:font/woff;base64,{data}) format('woff'); }}"
        )


def page(deck: Path, folder: Path) -> str:
    """A deck as one HTML file."""
    from pygments.formatters import HtmlFormatter

    sources = slides(deck.read_text(encoding="utf-8"))
    scripts = [
        reveal("dist", "reveal.js"),
        reveal("plugin", "notes", "notes.js"),
        package_file("mathjax", "static", "mathjax", "es5", "tex-svg.js"),
    ]
    styles = [reveal("dist", "reveal.css"), HERE / "slides.css"]
    parts = {
        "title": escape(sources[0].title),
        "styles": "\n".join([*fonts(), *map(read, styles), HtmlFormatter(style="friendly").get_style_defs()]),
        "slides": "\n".join(section(slide, folder) for slide in sources),
        "reveal": "\n".join(read(path).replace("</script", r"<\/script") for path in scripts[:2]),
        "mathjax": read(scripts[2]).replace("</script", r"<\/script"),
    }
    return re.sub(r"<!-- (\w+) -->", lambda match: parts[match[1]], read(HERE / "slides.html"))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def write(folder: Path = FOLDER) -> list[Path]:
    """Draw figures and write all decks into a folder; the paths of the decks."""
    texts = [read(deck) for deck in DECKS]
    draw({name for text in texts for _, name, *_ in FIGURE.findall(text)}, folder)
    written = []
    for deck in DECKS:
        path = folder / f"{deck.stem}.html"
        path.write_text(page(deck, folder), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for made in write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(f"{made} ({made.stat().st_size / 1e6:.1f} MB)")
