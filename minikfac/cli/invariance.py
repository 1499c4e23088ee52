"""The command that asks who sees the net and who its parameters: ``minikfac invariance``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..invariance.study import Application, Cell, Invariance

DISAGREES = 1
"""Exit code where a cell is not what theory says."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: minikfac invariance --application logistic-to-tanh")(invariance)


def invariance(
    application: Annotated[
        str | None,
        typer.Option(
            help="Only one reparameterization, under SGD and K-FAC: logistic-to-tanh, center (mean 0, "
            "variance 1), whiten-colors or center-maps (convolutional nets)."
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Of CIFAR-10's files, for whiten-colors and center-maps; generated images else."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of each method at most; 1 to 100 by default.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of parameters, maps and drawn targets.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder for figures, numbers and the page.")] = Path(
        "minikfac-invariance"
    ),
) -> None:
    """Train pairs of nets that begin as the same function, and measure how far they part, method by method.

    The two have other parameters: rotated, rescaled, centred, tanh for logistic
    units. The natural gradient and K-FAC without damping do not see that, and
    the gap is rounding; gradient descent does. Exit code 1 if a method is not
    what theory says of it. Under a minute.
    """
    from ..invariance import study
    from ..tour.chapters.invariance import application_figures, page_figures, write_page
    from ..tour.page import save_all
    from .main import _say, _writable

    started = time.perf_counter()
    if application is not None and application not in study.APPLICATIONS:
        raise ValueError(f"expected --application among {', '.join(study.APPLICATIONS)}, got {application!r}")
    images = application in ("whiten-colors", "center-maps")
    if folder is not None and not images:
        raise ValueError("expected --folder only with --application whiten-colors or center-maps")
    _writable(out)
    if application is None:
        gaps = study.full_study(seed, steps)
        _print_study(gaps)
        cells, numbers = gaps.all_cells, gaps.record()
        write_page(gaps, dict(save_all(page_figures(gaps), out)), out / "invariance.html")
    else:
        options: dict[str, Any] = {"seed": seed} | ({"folder": folder} if images else {})
        options |= {} if steps is None else {"steps": steps}
        one = study.APPLICATIONS[application](**options)
        _print_application(one)
        cells, numbers = list(one.cells), one.record()
        for _ in save_all(application_figures(one), out):
            pass
    (out / "invariance.json").write_text(_json(numbers), encoding="utf-8")
    wrong = [cell for cell in cells if not cell.as_predicted]
    for cell in wrong:
        what = "Does not count" if cell.failure else "Not what theory says"
        _say(f"{what}: {cell.method}, {cell.change}: {_reason(cell)}")
    _say(
        f"{len(cells) - len(wrong)} of {len(cells)} are what theory says. "
        f"Figures and invariance.json: {out}  ({time.perf_counter() - started:.0f} s)"
    )
    if wrong:
        raise typer.Exit(DISAGREES)


def _json(numbers: dict[str, Any]) -> str:
    from ..training.records import encoded, machine

    return json.dumps(encoded(numbers | {"machine": machine()}), allow_nan=False, indent=1) + "\n"


def _reason(cell: Cell) -> str:
    if cell.failure:
        return cell.failure
    return f"gap {cell.gap:.1e}, expected {'rounding' if cell.expected else 'more than rounding'}"


def _print_study(gaps: Invariance) -> None:
    from .main import _print_table, _say

    rows = []
    for method in gaps.matrix.methods:
        cells = gaps.matrix.row(method)
        steps = max((int(cell.steps[-1]) for cell in cells if len(cell.steps)), default=0)
        rows.append([method, str(steps), *(_entry(cell) for cell in cells)])
    title = "Gap between two nets that began as the same function, over the distance moved"
    _print_table(title, ["method", "steps", *gaps.matrix.changes], rows)
    _say("=  invariant, up to rounding;  !  not what theory says\n")
    for one in gaps.applications:
        _print_application(one)


def _entry(cell: Cell) -> str:
    text = "failed" if cell.failure else f"{cell.gap:.0e}{' =' if cell.invariant else '  '}"
    return text if cell.as_predicted else f"{text} !"


def _print_application(one: Application) -> None:
    from .main import _say

    _say(f"{one.title}:")
    for cell in one.cells:
        if cell.failure:
            _say(f"    {cell.method}: failed; {cell.failure}")
            continue
        ours, theirs = (losses[-1] for losses in cell.losses)
        _say(
            f"    {cell.method}: gap {cell.gap:.0e} after {int(cell.steps[-1])} steps; loss "
            f"{cell.losses[0][0]:.3f} to {ours:.6g} ({one.nets[0]}) and {theirs:.6g} ({one.nets[1]})"
        )
    _say("")
