"""The command on large batches: ``minikfac scaling``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Option

from .. import races
from ..parallel import one_thread
from ..races import Problem
from ..races.contenders import Contender, argument_range
from ..races.search import Range
from ..scaling import Budget, Scaling, batch_sweep
from ..scaling.sweep import FIXED, batch_sizes
from . import common, runs
from .common import make_folder, on_existing, save_figure, say
from .tables import print_table

RECORD = "scaling.jsonl"
"""The file of a sweep in its folder."""

Optimizers = Annotated[str, Option(help="By name, with commas between them; kfc-pre for convolutional nets.")]
Arguments = Annotated[
    list[str] | None, Option("--set", help="An argument of one of them that is not tuned, as in kfac.T3=5.")
]
Draws = Annotated[
    list[str] | None,
    Option(
        "--draw",
        help="The range of an argument: on a log scale, as in sgd.lr=0.01:1, or values, as in kfac.T3=5,20.",
    ),
]
Sizes = Annotated[str | None, Option(help="Batch sizes, with commas; powers of two by default.")]
Target = Annotated[
    str | None,
    Option(
        help="A column and the level to be reached, as in loss=0.1 or test_error=0.03; some problems "
        "have one."
    ),
]
TestExamples = Annotated[
    int | None, Option(help="Test examples; all by default. Each measurement takes them.", min=1)
]

EXAMPLE = "minikfac scaling --problem digits-convnet --optimizers sgd,kfc-pre --target loss=0.5"


def scaling(
    name: common.ProblemName = "digits",
    folder: Annotated[Path | None, Option("--data", help="Folder of its data, if not the cache.")] = None,
    optimizers: Optimizers = "sgd,kfac",
    arguments: Arguments = None,
    draws: Draws = None,
    sizes: Sizes = None,
    smallest: Annotated[int, Option(help="The smallest of these powers of two.", min=1)] = 64,
    target: Target = None,
    trials: Annotated[int, Option(help="Trials of the random search at each size.", min=1)] = 16,
    steps: Annotated[int, Option(help="Steps of a run at most, unless --epochs are more.", min=1)] = 300,
    epochs: Annotated[float, Option(help="Passes through the data at most, unless --steps are more.")] = 40.0,
    finalists: Annotated[int, Option(help="Best trials to run again from other seeds.", min=1)] = 3,
    seeds: Annotated[int, Option(help="Other seeds for each of these.", min=1)] = 3,
    examples: common.Examples = None,
    test_examples: TestExamples = None,
    width: common.Width = 1.0,
    dtype: common.Dtype = None,
    seed: common.Seed = 0,
    resume: common.Resume = False,
    overwrite: common.Overwrite = False,
    out: Annotated[Path, Option(help="Folder for records and figures.")] = Path("minikfac-scaling"),
) -> None:
    """Count steps and examples to one level by batch size, each method tuned at each size.

    Does a method that uses curvature gain more from large batches than SGD? Every point is the best of a
    random search of its own, on the same budget for all, counted in trials, steps and examples. Writes
    scaling.jsonl, a line per run, and figures on log axes with lines of perfect scaling. Some minutes on the
    digits; an interrupted sweep continues with --resume.
    """
    started = time.perf_counter()
    problem = races.problem(name, folder, n_train=examples, n_test=test_examples, width=width, dtype=dtype)
    methods = _methods(problem, optimizers, arguments, draws)
    chosen = _numbers(sizes) if sizes is not None else batch_sizes(len(problem.dataset.x_train), smallest)
    budget = Budget(trials, steps, epochs, finalists, seeds)
    level = runs.parse_target(target)
    runs.check_column(next(iter(level or {"loss": 0})), problem, "--target")
    make_folder(out)
    existing = on_existing(resume, overwrite, [out / RECORD], "sweep")
    say(f"{runs.described(problem)}; batches of {', '.join(f'{m:,}' for m in chosen)}")
    say(f"Budget at each size, the same for {' and '.join(method.name for method in methods)}: {budget}")
    ranges = [
        [method.name, "; ".join(f"{key}: {values}" for key, values in method.space.items())]
        for method in methods
    ]
    print_table("What arguments are drawn from", ["method", "ranges"], ranges)
    with one_thread(runs.is_small(problem)):
        sweep = batch_sweep(problem, methods, chosen, level, budget, seed, out / RECORD, existing)
    column, reached = sweep.target
    print_table(f"To a {column.replace('_', ' ')} of {reached:g}", *sweep.table())
    _print_knees(sweep)
    figures = _draw(sweep, out)
    say(f"Records: {out / RECORD}  Figures: {', '.join(figures) or 'none, as no run reached the level'}")
    say(f"{time.perf_counter() - started:.0f} s")


def _methods(
    problem: Problem, names: str, arguments: Sequence[str] | None, draws: Sequence[str] | None
) -> list[Contender]:
    """Optimizers by name; arguments that are set are fixed, and those with a range are drawn from it."""
    chosen = runs.parse_optimizers(names)
    given, ranges = runs.arguments_by_optimizer(arguments, chosen), _ranges(draws or (), chosen)
    methods = []
    for each in chosen:
        fixed, ranged = given[each.name], ranges[each.name]
        both = sorted(set(fixed) & set(ranged))
        if both:
            raise ValueError(f"expected --set or --draw for {both[0]} of {each.name}, got both")
        fixed = {key: x for key, x in FIXED.get(each.name, {}).items() if key not in ranged} | fixed
        space = {key: values for key, values in {**each.space, **ranged}.items() if key not in fixed}
        method = replace(each, arguments={**each.arguments, **fixed}, space=space)
        method.make(problem.net)  # what is wrong is better known before the sweep
        for key, values in space.items():
            for extreme in values.extremes:
                method.make(problem.net, **{key: extreme})
        methods.append(method)
    return methods


def _ranges(texts: Sequence[str], chosen: Sequence[Contender]) -> dict[str, dict[str, Range]]:
    """Read OPTIMIZER.NAME=RANGE, several times; by the optimizer's name, with an entry for each."""
    ranges: dict[str, dict[str, Range]] = {each.name: {} for each in chosen}
    for text in texts:
        name, rest = runs.of_optimizer(text, chosen, "--draw", "LOW:HIGH, such as kfac.lam=0.1:10")
        key, equals, values = rest.partition("=")
        if not equals:
            raise ValueError(f"expected --draw as OPTIMIZER.NAME=LOW:HIGH, got {text!r}")
        ranges[name][key.strip()] = argument_range(values)
    return ranges


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"expected --sizes as 64,256,1024, got {text!r}")
    return sorted({int(part) for part in parts})


def _print_knees(sweep: Scaling) -> None:
    for method in sweep.methods:
        knee = sweep.knee(method)
        if knee is None:
            say(f"{method}: fewer than three sizes reached the level; no fit")
        elif not knee.bounded:
            side = "beyond" if knee.B > sweep.batch_sizes.max() else "below"
            say(f"{method}: steps = S (1 + B / m) with B {side} all sizes of the batch")
        else:
            say(f"{method}: steps = S (1 + B / m) with S = {knee.S:.3g} and B = {knee.B:.3g} examples")


def _draw(sweep: Scaling, out: Path) -> list[str]:
    from .. import plots

    column, level = sweep.target
    steps = sweep.to_target()
    written = []
    if any((medians > 0).any() for medians, _, _ in steps.values()):  # nan is not
        knees = {method: sweep.knee(method) for method in sweep.methods}
        fits = {method: knee.steps(sweep.batch_sizes) for method, knee in knees.items() if knee is not None}
        words = f"a {column.replace('_', ' ')} of {level:g} on {sweep.about['sweep']}"
        axes = plots.batch_scaling(sweep.batch_sizes, steps, fits=fits, level=words)
        save_figure(axes[0].figure, out / "scaling.png")
        written.append("scaling.png")
    curves = {method: {m: curve[1:] for m, curve in sweep.curves(method).items()} for method in sweep.methods}
    curves = {method: by_size for method, by_size in curves.items() if by_size}
    if curves:
        ax = plots.loss_against_examples(curves, y=column, level=level)
        save_figure(ax.figure, out / "examples.png")
        written.append("examples.png")
    return written
