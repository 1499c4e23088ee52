"""The gallery of the site: every figure as PNG, SVG and PDF, with what it finds and the code that draws it.

    python docs/gallery.py [FOLDER]     # by default docs/_static/gallery, which the build of the site makes

Which figures there are, and in which order, is the table in howto/figures.md; what each finds is its title,
computed from what it draws. Figures of one study take a minute or two, and are drawn again when the code of
figures or chapters is newer. ``figures.json`` has the title, the functions and the chapter of each.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import measure_quality
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from minikfac import datasets, fisher, optim, plots, tour, training
from minikfac.cli.plot import contenders
from minikfac.network import presets
from minikfac.races import Race
from minikfac.scaling import cost_model
from minikfac.scaling import sweep as sweeps
from minikfac.tour.animations import animate

DOCS = Path(__file__).parent
FOLDER = DOCS / "_static" / "gallery"
SMALL = 640
"""Pixels of width of a thumbnail."""
RACES = ("mnist-autoencoder", "cifar10-kfc")

Drawings = dict[str, Callable[[], Any]]


def statements() -> dict[str, list[str]]:
    """Figures by statement: the table in howto/figures.md."""
    text = (DOCS / "howto" / "figures.md").read_text(encoding="utf-8")
    table = text.split("| statement")[1].split("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    plain = [(re.sub(r"\[(.*?)\]\(.*?\)", r"\1", statement).strip(), files) for statement, files in rows]
    return {statement: re.findall(r"`([a-z0-9-]+(?:\.gif)?)`", files) for statement, files in plain}


def race(name: str, column: str) -> Callable[[], Any]:
    """A recorded race."""
    files = (DOCS / "results" / name).glob("*-[0-9].jsonl")
    baseline_first = sorted(files, key=lambda path: (path.name.startswith("k"), "falling" not in path.name))
    runs = Race(contenders(baseline_first)).records
    return lambda: plots.race(runs, column, title=f"({name}, {column.replace('_', ' ')})")


def recorded() -> Drawings:
    """Figures of records in docs/results."""
    drawings: Drawings = {}
    for data in ("digits", "mnist", "cifar10"):
        sweep = sweeps.read(DOCS / "results" / f"scaling-{data}" / "scaling.jsonl")
        drawings[f"scaling-{data}"] = partial(steps_by_size, sweep)
        drawings[f"examples-{data}"] = partial(loss_by_size, sweep)
    models = json.loads((DOCS / "results" / "gradient-models.json").read_text(encoding="utf-8"))
    rows = models["medians"]["sampled"]
    drawings["gradient-models"] = partial(plots.likelihood_against_storage, rows)
    measured = json.loads((DOCS / "results" / "quality.json").read_text(encoding="utf-8"))["measurements"]
    drawings["quality-across-nets"] = partial(
        plots.quality_across_nets, measure_quality.studies(measured, "share")
    )
    return drawings | {f"race-{name}": race(name, "best_loss") for name in RACES}


def beside(study: Any) -> Drawings:
    """Figures that no chapter draws, one for each function that is left: for the page of the API."""
    one = training.example()
    signals = fisher.signals(one.net, one.theta, one.x)
    block, middle = fisher.kfac(signals).blocks[5], signals.select([1, 2, 3, 4])
    exact, whole = fisher.exact(signals.select([5])).to_dense(), fisher.exact(middle).to_dense()
    sizes = [rows.stop - rows.start for rows in middle.slices]
    maps = study.chapters["convolutions"].results["maps"].results
    reach = {
        pool: {layer.name: [layer.derivatives.strength(d) for d in (1, 2, 3)] for layer in layers}
        for pool, layers in maps.items()
    }
    costs, machine = (
        cost_model.layer_sizes(presets.mnist_autoencoder(), (784,)),
        cost_model.Machine(rate=1e12),
    )
    link, counts = cost_model.Link(latency=5e-6, bandwidth=10e9), [2**k for k in range(14)]
    plans = [cost_model.Schedule("SGD"), cost_model.Schedule.of(optim.KFAC(presets.mnist_autoencoder()))]
    seconds = {
        plan.name: cost_model.strong_scaling(costs, 65_536, counts, plan, machine, link) for plan in plans
    }
    kfac = seconds["K-FAC"]
    return {
        "api-kronecker": lambda: plots.kronecker_factors(exact, block.A, block.G, name=signals.names[5]),
        "api-means": lambda: plots.block_means(whole, sizes, middle.names),
        "api-bars": lambda: plots.quality_bars(study.run.study.table.whole()),
        "api-density": lambda: plots.spectral_density(
            {
                "Fisher matrix": fisher.spectral_density(fisher.product(one.net, one.theta, one.x)),
                "Hessian": fisher.spectral_density(fisher.hessian(one.net, one.theta, one.x, one.y)),
            }
        ),
        "api-offsets": lambda: plots.correlation_against_offset(reach),
        "api-workers": lambda: plots.predicted_scaling(
            counts,
            {name: curve.seconds for name, curve in seconds.items()},
            kfac.parts,
            cost_model.breaks(kfac, costs, machine),
        ),
    }


def steps_by_size(sweep: sweeps.Scaling) -> Any:
    """Steps to the level of a sweep."""
    level = f"a loss of {sweep.target[1]:g} on {sweep.about['sweep']}"
    return plots.batch_scaling(sweep.batch_sizes, sweep.to_target(), level=level)


def loss_by_size(sweep: sweeps.Scaling) -> Any:
    """Losses of a sweep against examples."""
    curves = {name: {m: curve[1:] for m, curve in sweep.curves(name).items()} for name in sweep.methods}
    return plots.loss_against_examples(curves, level=sweep.target[1])


def code(name: str, chapter: str) -> str:
    """Lines that draw a figure, to be copied."""
    if chapter:
        return (
            "from minikfac import datasets, tour\n\n"
            f'study = tour.tour(datasets.digits(), tour.Settings(chapters=("{chapter}",)))\n'
            f'study.figures()["{name}"]()'
        )
    kind, _, data = name.partition("-")
    if kind == "race":
        return f"minikfac plot docs/results/{data}/*-1.jsonl --column best_loss"
    drawn = inspect.getsource(steps_by_size if kind == "scaling" else loss_by_size).split('"""')[2]
    read = f'sweep = sweeps.read("docs/results/scaling-{data}/scaling.jsonl")'
    lines = inspect.cleandoc(drawn).replace("return ", "")
    return f"from minikfac import plots\nfrom minikfac.scaling import sweep as sweeps\n\n{read}\n{lines}"


@contextmanager
def watched(calls: list[str]) -> Iterator[None]:
    """Note which functions of minikfac.plots are called."""
    originals = {
        name: getattr(plots, name) for name in plots.__all__ if inspect.isfunction(getattr(plots, name))
    }

    def noting(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.extend([name] if name != "style" else [])
            return originals[name](*args, **kwargs)

        return call

    try:
        for name in originals:
            setattr(plots, name, noting(name))
        yield
    finally:
        for name, function in originals.items():
            setattr(plots, name, function)


def title_of(fig: Any) -> str:
    """What a figure states: its title, or those of its axes."""
    headings = [text.get_text() for ax in fig.axes if not ax.axison for text in ax.texts]
    above = [fig.get_suptitle()] if fig.get_suptitle() else headings
    if not re.search(r"\d", "".join(above)):
        above += [ax.get_title() for ax in fig.axes if ax.get_title()]
    titles = above
    return " ".join("; ".join(titles).replace("$", "").split())


def write(folder: Path = FOLDER, study: Any | None = None) -> None:
    """Draw all figures into a folder.

    Args:
        folder: made if need be.
        study: a tour of all chapters, if there is one already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = tour.Settings(chapters=tuple(tour.CHAPTERS))
    study = study or tour.tour(datasets.digits(), settings, progress=False)
    in_chapter = {figure: name for name, chapter in study.chapters.items() for figure in chapter.figures}
    with watched(calls := []):
        drawings = study.figures() | recorded() | beside(study)
        entries = {}
        for name, draw in drawings.items():
            calls.clear()
            with plots.style():
                drawn = draw()
                fig: Any = getattr(drawn[0] if isinstance(drawn, list) else drawn, "figure", drawn)
                for kind in () if name.startswith("api-") else ("svg", "pdf"):
                    fig.savefig(folder / f"{name}.{kind}")
                fig.savefig(folder / f"{name}.png", dpi=2 * fig.dpi)
            entries[name] = {
                "title": title_of(fig),
                "functions": list(dict.fromkeys(calls)),
                "chapter": in_chapter.get(name, ""),
                "size": shrink(folder, name),
            }
            plt.close(fig)
    list(animate(study.figures(), folder))
    social(folder)
    (folder / "figures.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")


def shrink(folder: Path, name: str) -> tuple[int, int]:
    """256 colours, and a thumbnail, whose size is returned."""
    with Image.open(folder / f"{name}.png") as picture:
        whole = picture.convert("RGB")
    small = whole.resize((SMALL, whole.height * SMALL // whole.width), Image.Resampling.LANCZOS)
    small.quantize(256).save(folder / f"{name}-small.png", optimize=True)
    whole.quantize(256).save(folder / f"{name}.png", optimize=True)
    return small.size


def social(folder: Path) -> None:
    """The picture that is shown where somebody sends the link on: the hero on 1200 x 630."""
    with Image.open(DOCS / "images" / "readme.png") as picture:
        hero = picture.convert("RGB")
    hero.thumbnail((1160, 610), Image.Resampling.LANCZOS)
    card = Image.new("RGB", (1200, 630), "white")
    card.paste(hero, ((1200 - hero.width) // 2, (630 - hero.height) // 2))
    card.quantize(256).save(folder / "social.png", optimize=True)


def stale(folder: Path = FOLDER) -> bool:
    """Whether figures are to be drawn again."""
    made = folder / "figures.json"
    parts = [
        *(DOCS.parent / "minikfac" / "plots").glob("*.py"),
        *(DOCS.parent / "minikfac" / "tour").rglob("*.py"),
    ]
    newest = max(path.stat().st_mtime for path in (*parts, Path(__file__)))
    return not made.exists() or made.stat().st_mtime < newest


def entries(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Title, functions and chapter of each figure."""
    return dict(json.loads((folder / "figures.json").read_text(encoding="utf-8")))


def page(folder: Path = FOLDER) -> str:
    """The gallery as Markdown: a heading per statement, a card per figure."""
    made = entries(folder)
    text = ""
    for statement, names in statements().items():
        cards = "\n".join(card(name, made.get(name, {})) for name in names)
        text += f"\n## {statement[0].upper()}{statement[1:]}\n\n"
        text += f'```{{raw}} html\n<div class="gallery">\n{cards}\n</div>\n```\n'
    return text


def card(name: str, entry: dict[str, Any]) -> str:
    """One figure: picture, finding, files, code; of an animation the file alone."""
    at = f"_static/gallery/{name}"
    if not entry:
        return f'<figure id="{name}"><a href="{at}"><img src="{at}" alt="{name}"></a></figure>'
    files = [f'<a href="{at}.{kind}">{kind.upper()}</a>' for kind in ("png", "svg", "pdf")]
    used = entry["functions"]
    links = [(f"api/plots.html#minikfac.plots.{one}", f"<code>plots.{one}</code>") for one in used]
    if chapter := entry["chapter"]:
        links.append((f"_chapters/{chapter}.html", "chapter"))
    files += [f'<a href="{target}">{text}</a>' for target, text in links]
    lines = highlight(code(name, chapter), PythonLexer(), HtmlFormatter())
    title, size = escape(entry["title"], quote=True), 'width="{}" height="{}"'.format(*entry["size"])
    return (
        f'<figure id="{name}"><a href="{at}.png"><img src="{at}-small.png" alt="{title}" {size}></a>'
        f'<figcaption><p>{title}</p><p class="files">{" ".join(files)}</p>'
        f"<details><summary>Code</summary>{lines}</details></figcaption></figure>"
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
