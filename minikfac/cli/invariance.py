"""The command that measures which methods depend on the parametrization: ``minikfac invariance``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

from typer import Exit, Option

from ..invariance import study
from ..invariance.study import Application, Cell, Invariance
from ..training.records import encoded, machine
from ..writing import write_text
from .common import make_folder, say
from .tables import print_table

DISAGREES = 1
"""Exit code where a cell is not what theory says."""

Change = Annotated[
    str | None,
    Option(
        "--application",
        help="Only one reparameterization, under SGD and K-FAC: logistic-to-tanh, center (mean 0, "
        "variance 1), whiten-colors or center-maps (convolutional nets).",
    ),
]
Folder = Annotated[
    Path | None,
    Option(help="Of CIFAR-10, for whiten-colors and center-maps; by default images are generated."),
]
Out = Annotated[Path, Option(help="Folder for figures, numbers and the page.")]

EXAMPLE = "minikfac invariance --application logistic-to-tanh"


def invariance(
    name: Change = None,
    folder: Folder = None,
    steps: Annotated[int | None, Option(help="Steps of each at most; 1 to 100 by default.", min=1)] = None,
    seed: Annotated[int, Option(help="Seed of parameters, maps and drawn targets.", min=0)] = 0,
    out: Out = Path("minikfac-invariance"),
) -> None:
    """Train pairs of nets that start as the same function, and measure how far each method lets them diverge.

    The two differ in their parameters: rotated, rescaled, centred, tanh for logistic units. The natural
    gradient and K-FAC without damping do not depend on them, and the gap is rounding error; gradient descent
    does. Exit code 1 if a method contradicts the theory. Under a minute.
    """
    from ..tour.chapters import invariance as chapter  # matplotlib takes a second
    from ..tour.page import save_all

    started = time.perf_counter()
    _check(name, folder)
    make_folder(out)
    if name is None:
        gaps = study.full_study(seed, steps)
        _print_matrix(gaps)
        cells, numbers = gaps.all_cells, gaps.record()
        made = chapter.chapter(gaps)
        chapter.write_page(made, dict(save_all(made.figures, out)), out / "invariance.html")
    else:
        options: dict[str, Any] = {} if folder is None else {"folder": folder}
        options |= {} if steps is None else {"steps": steps}
        application = study.APPLICATIONS[name](seed=seed, **options)
        _print_application(application)
        cells, numbers = list(application.cells), application.record()
        list(save_all(chapter.application_figures(application), out))
    text = json.dumps(encoded(numbers | {"machine": machine()}), allow_nan=False, indent=1)
    write_text(out / "invariance.json", f"{text}\n")
    wrong = [cell for cell in cells if not cell.as_predicted]
    for cell in wrong:
        verdict = "Does not count" if cell.failure else "Not what theory says"
        say(f"{verdict}: {cell.method}, {cell.change}: {_outcome(cell)}")
    say(
        f"{len(cells) - len(wrong)} of {len(cells)} are what theory says. "
        f"Figures and invariance.json: {out}  ({time.perf_counter() - started:.0f} s)"
    )
    if wrong:
        raise Exit(DISAGREES)


def _check(name: str | None, folder: Path | None) -> None:
    if name is not None and name not in study.APPLICATIONS:
        raise ValueError(f"expected --application among {', '.join(study.APPLICATIONS)}, got {name!r}")
    if folder is not None and name not in ("whiten-colors", "center-maps"):
        raise ValueError("expected --folder only with --application whiten-colors or center-maps")


def _outcome(cell: Cell) -> str:
    if cell.failure:
        return cell.failure
    return f"gap {cell.gap:.1e}, expected {'rounding' if cell.expected else 'more than rounding'}"


def _print_matrix(gaps: Invariance) -> None:
    rows = []
    for method in gaps.matrix.methods:
        cells = gaps.matrix.row(method)
        steps = max((int(cell.steps[-1]) for cell in cells if len(cell.steps)), default=0)
        rows.append([method, str(steps), *(_entry(cell) for cell in cells)])
    title = "Gap between two nets that began as the same function, over the distance moved"
    print_table(title, ["method", "steps", *gaps.matrix.changes], rows)
    say("=  invariant, up to rounding;  !  not what theory says\n")
    for application in gaps.applications:
        _print_application(application)


def _entry(cell: Cell) -> str:
    text = "failed" if cell.failure else f"{'= ' if cell.invariant else ''}{cell.gap:.0e}"
    return text if cell.as_predicted else f"! {text}"


def _print_application(application: Application) -> None:
    say(f"{application.title}:")
    for cell in application.cells:
        if cell.failure:
            say(f"    {cell.method}: failed; {cell.failure}")
            continue
        ours, theirs = (losses[-1] for losses in cell.losses)
        say(
            f"    {cell.method}: gap {cell.gap:.1g} after {int(cell.steps[-1])} steps; loss "
            f"{cell.losses[0][0]:.4g} to {ours:.4g} ({application.nets[0]}) and {theirs:.4g} "
            f"({application.nets[1]})"
        )
    say("")
