"""The commands on large batches and many workers: ``minikfac scaling`` and ``workers``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .training import Dtype, Examples, Folder, Overwrite, Problem_, Resume, Seed, Width

if TYPE_CHECKING:
    from ..races.contenders import Contender
    from ..races.search import Range
    from ..scaling.cost_model import Curve
    from ..scaling.sweep import Scaling

IMAGES = {"digits": (8, 8, 1), "cifar10": (32, 32, 3), "svhn": (32, 32, 3)}
"""Shapes of images of the problems with convolutions."""
RECORD = "scaling.jsonl"
"""The file of a sweep in its folder."""


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog="Example: minikfac scaling --problem digits-convnet --optimizers sgd,kfc-pre --target loss=0.5"
    )(scaling)
    app.command(epilog="Example: minikfac workers --problem mnist-autoencoder --latency 2e-6 --gbytes 12")(
        workers
    )


def scaling(
    problem: Problem_ = "digits",
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of its data, if not in the cache.")
    ] = None,
    optimizers: Annotated[
        str, typer.Option(help="By name, with commas between them; kfc-pre for convolutional nets.")
    ] = "sgd,kfac",
    arguments: Annotated[
        list[str] | None,
        typer.Option("--set", help="An argument of one of them that is not tuned, as in kfac.T3=5."),
    ] = None,
    draws: Annotated[
        list[str] | None,
        typer.Option(
            "--draw",
            help="What an argument is drawn from: a range on a log scale, as in sgd.lr=0.01:1, or values, "
            "as in kfac.T3=5,20.",
        ),
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Sizes of the batch, with commas; powers of two by default.")
    ] = None,
    smallest: Annotated[int, typer.Option(help="The smallest of these powers of two.", min=1)] = 64,
    target: Annotated[
        str | None,
        typer.Option(
            help="A column and the level to be reached, as in loss=0.1 or test_error=0.03; some problems "
            "have one."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Of the random search at each size.", min=1)] = 16,
    steps: Annotated[int, typer.Option(help="Of a run at most, or", min=1)] = 300,
    epochs: Annotated[float, typer.Option(help="passes through the training set if those are more.")] = 40.0,
    finalists: Annotated[int, typer.Option(help="Best trials that run again,", min=1)] = 3,
    seeds: Annotated[int, typer.Option(help="from so many other starts.", min=1)] = 3,
    examples: Examples = None,
    test_examples: Annotated[
        int | None,
        typer.Option(help="Test examples; all by default. Each measurement takes them.", min=1),
    ] = None,
    width: Width = 1.0,
    dtype: Dtype = None,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    out: Annotated[Path, typer.Option(help="Folder for records and figures.")] = Path("minikfac-scaling"),
) -> None:
    """Count steps and examples to one level by size of the batch, each method tuned at each size.

    Does a method that uses curvature gain more from large batches than SGD?
    Every point is the best of a random search of its own, on the same budget for
    all, counted in trials, steps and examples. Leaves scaling.jsonl, a line a
    run, and figures on log axes with lines of perfect scaling. Some minutes on
    the digits; a sweep that was interrupted goes on with --resume.
    """
    from .. import races, scaling
    from ..parallel import one_thread
    from ..scaling import sweep as sweeps
    from .main import _print_table, _say, _writable
    from .training import _described, _existing, _is_small, _refuse_existing, _target

    started = time.perf_counter()
    existing = _existing(resume, overwrite)
    if existing == "refuse":
        _refuse_existing([out / RECORD], "sweep")
    own = races.problem(problem, data, n_train=examples, n_test=test_examples, width=width, dtype=dtype)
    methods = _methods(optimizers, arguments or [], draws or [])
    for method in methods:
        method.make(own.net)  # what is wrong is better known before the sweep
        for key, drawn_from in method.space.items():
            for value in drawn_from.extremes:
                method.make(own.net, **{key: value})
    chosen = _numbers(sizes) if sizes else sweeps.batch_sizes(len(own.dataset.x_train), smallest)
    budget = scaling.Budget(trials, steps, epochs, finalists, seeds)
    _writable(out)
    _say(f"{_described(own)}; batches of {', '.join(f'{m:,}' for m in chosen)}")
    _say(f"Budget at each size, the same for {' and '.join(method.name for method in methods)}: {budget}")
    ranges = [
        [method.name, "; ".join(f"{key}: {own_range}" for key, own_range in method.space.items())]
        for method in methods
    ]
    _print_table("What arguments are drawn from", ["method", "ranges"], ranges)
    with one_thread(_is_small(own)):
        found = scaling.batch_sweep(
            own, methods, chosen, _target(target), budget, seed, out / RECORD, existing
        )
    column, level = found.target
    _print_table(f"To a {column.replace('_', ' ')} of {level:g}", *found.table())
    _print_knees(found)
    figures = _draw(found, out)
    _say(f"Records: {out / RECORD}  Figures: {', '.join(figures) or 'none, as no run reached the level'}")
    _say(f"{time.perf_counter() - started:.0f} s")


def workers(
    problem: Problem_ = "mnist-autoencoder",
    optimizer: Annotated[str, typer.Option(help="kfac or kfc-pre; SGD stands beside it.")] = "kfac",
    arguments: Annotated[
        list[str] | None,
        typer.Option("--set", help="An argument of it, as in T3=50; may stand several times."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Of all workers together: strong scaling.", min=1)] = 8192,
    each: Annotated[int, typer.Option(help="Of each worker: weak scaling.", min=1)] = 64,
    most: Annotated[int, typer.Option(help="Workers at most.", min=2)] = 8192,
    gflops: Annotated[
        float | None,
        typer.Option(
            help="Billions of operations a second of a worker; measured on this machine by default."
        ),
    ] = None,
    latency: Annotated[float, typer.Option(help="Of a message, in seconds.")] = 1e-5,
    gbytes: Annotated[float, typer.Option(help="Gigabytes a second of the network.")] = 1.0,
    record: Annotated[
        Path | None,
        typer.Option(help="scaling.jsonl of a sweep on this problem: predicts seconds to its level."),
    ] = None,
    folder: Folder = None,
    width: Width = 1.0,
    out: Annotated[Path, typer.Option(help="The figure: a .png, .svg or .pdf.")] = Path(
        "minikfac-workers.png"
    ),
) -> None:
    """Predict seconds of a step on up to thousands of workers, and say what stands in the way of more.

    A model, no measurement: operations over the rate of one worker, bytes over a
    network with latency and bandwidth, inverses shared out over workers.
    """
    from .. import plots
    from ..network.layers import Dense
    from ..races.contenders import contender
    from ..races.problems import entry
    from ..scaling import cost_model as model
    from .main import _print_table, _say
    from .training import _arguments

    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"expected --out to end in .png, .svg or .pdf, got {out}")
    found = entry(problem)
    net = found.net(width)
    first = net.parameter_layers[0]
    shape = (first.n_in,) if isinstance(first, Dense) else IMAGES[found.data]
    sizes = model.layer_sizes(net, shape)
    machine = model.Machine(1e9 * gflops if gflops is not None else model.measured_rate())
    link = model.Link(latency, 1e9 * gbytes)
    chosen = contender(optimizer)
    if chosen.name not in ("K-FAC", "KFC-pre"):
        raise ValueError(f"expected --optimizer kfac or kfc-pre, whose cost is modelled, got {optimizer!r}")
    method = model.Schedule.of(chosen.make(net, **_arguments(arguments or [])))
    schedules = [model.Schedule("SGD"), method, model.stale(method)]
    counts = [2**k for k in range(most.bit_length())]
    strong = {
        own.name: model.strong_scaling(sizes, batch_size, counts, own, machine, link) for own in schedules
    }
    weak = {own.name: model.weak_scaling(sizes, each, counts, own, machine, link) for own in schedules}
    stand = model.breaks(strong[method.name], sizes, machine)
    _say(
        f"{problem}: {net.n_params:,} parameters; {machine.rate / 1e9:.3g} GFLOP/s a worker, "
        f"{latency * 1e6:.3g} us and {gbytes:g} GB/s between them"
    )
    header = ["workers", *(f"{name} (ms)" for name in strong), "efficiency", "network's share"]
    _print_table(f"A step of {batch_size:,} examples", header, _rows(strong, method.name))
    for what, at in stand.items():
        _say(f"From {at:,} workers on: {what}")
    if record is None:
        shown, what = {name: own.seconds for name, own in weak.items()}, "seconds a step"
    else:
        shown, what = _to_level(record, problem, net.n_params, weak), "predicted seconds to the level"
    axes = plots.predicted_scaling(
        counts,
        {name: own.seconds for name, own in strong.items()},
        strong[method.name].parts,
        stand,
        parts_of=method.name,
        weak=shown,
        weak_label=what,
        title=f"{problem}: predicted; {batch_size:,} examples shared, or {each:,} for each",
    )
    axes[0].figure.savefig(out)
    _say(f"Figure: {out}")


# options to settings, and words ---------------------------------------------------------------------------


def _methods(names: str, arguments: Sequence[str], draws: Sequence[str]) -> list[Contender]:
    """Optimizers by name; what is set is not drawn, and what has a range is drawn from it."""
    from ..races.contenders import contender
    from ..scaling.sweep import FIXED
    from .training import _arguments_by_name, _names

    chosen = [contender(name) for name in _names(names)]
    given, ranges = _arguments_by_name(arguments, chosen), _ranges_by_name(draws, chosen)
    found = []
    for own in chosen:
        fixed, ranged = given.get(own.name, {}), ranges.get(own.name, {})
        both = sorted(set(fixed) & set(ranged))
        if both:
            raise ValueError(f"expected --set or --draw for {both[0]} of {own.name}, got both")
        held = {key: value for key, value in FIXED.get(own.name, {}).items() if key not in ranged}
        fixed = {**held, **fixed}
        space = {key: values for key, values in {**own.space, **ranged}.items() if key not in fixed}
        found.append(replace(own, arguments={**own.arguments, **fixed}, space=space))
    return found


def _ranges_by_name(texts: Sequence[str], chosen: Sequence[Contender]) -> dict[str, dict[str, Range]]:
    from ..races.contenders import argument_range
    from .training import _of_optimizer

    found: dict[str, dict[str, Range]] = {}
    for text in texts:
        name, rest = _of_optimizer(text, chosen, "--draw", "LOW:HIGH, such as kfac.lam=0.1:10")
        key, equals, told = rest.partition("=")
        if not equals:
            raise ValueError(f"expected --draw as OPTIMIZER.NAME=LOW:HIGH, got {text!r}")
        found.setdefault(name, {})[key.strip()] = argument_range(told)
    return found


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"expected --sizes as 64,256,1024, got {text!r}")
    return sorted({int(part) for part in parts})


def _print_knees(found: Scaling) -> None:
    from .main import _say

    for method in found.methods:
        knee = found.knee(method)
        if knee is None:
            _say(f"{method}: fewer than three sizes reached the level; no fit")
        elif not knee.bounded:
            side = "beyond" if knee.B > found.batch_sizes.max() else "below"
            _say(f"{method}: steps = S (1 + B / m) with B {side} all sizes of the batch")
        else:
            _say(f"{method}: steps = S (1 + B / m) with S = {knee.S:.3g} and B = {knee.B:.3g} examples")


def _draw(found: Scaling, out: Path) -> list[str]:
    from .. import plots

    column, level = found.target
    steps = found.to_target()
    written = []
    if any((own[0] > 0).any() for own in steps.values()):  # nan is not
        knees = {method: found.knee(method) for method in found.methods}
        fits = {method: knee.steps(found.batch_sizes) for method, knee in knees.items() if knee is not None}
        told = f"a {column.replace('_', ' ')} of {level:g} on {found.about['sweep']}"
        axes = plots.batch_scaling(found.batch_sizes, steps, fits=fits, level=told)
        axes[0].figure.savefig(out / "scaling.png")
        written.append("scaling.png")
    curves = {method: {m: curve[1:] for m, curve in found.curves(method).items()} for method in found.methods}
    curves = {method: own for method, own in curves.items() if own}
    if curves:
        ax = plots.loss_against_examples(curves, y=column, level=level)
        ax.figure.savefig(out / "examples.png")
        written.append("examples.png")
    return written


def _rows(curves: Mapping[str, Curve], method: str) -> list[list[str]]:
    own = curves[method]
    rows = []
    for number, W in enumerate(own.workers):
        efficiency = own.seconds[0] / (own.seconds[number] * W / own.workers[0])
        share = own.communication[number] / own.seconds[number]
        times = [f"{1e3 * curve.seconds[number]:.3g}" for curve in curves.values()]
        rows.append([f"{W:,}", *times, f"{efficiency:.0%}", f"{share:.0%}"])
    return rows


def _to_level(record: Path, problem: str, parameters: int, weak: Mapping[str, Curve]) -> dict[str, Any]:
    """Seconds to the level of a sweep: fitted steps at each batch, times predicted seconds of each."""
    from ..scaling.sweep import read

    sweep = read(record)
    if sweep.about["sweep"] != problem:
        raise ValueError(f"expected --record of a sweep on {problem}, got one on {sweep.about['sweep']}")
    if sweep.about["parameters"] != parameters:
        raise ValueError(
            f"expected --record of a sweep on a net of {parameters:,} parameters, got one of "
            f"{sweep.about['parameters']:,}; give its --width"
        )
    found = {}
    for name, curve in weak.items():
        method = name.split(",")[0]
        if method == "SGD" and method not in sweep.methods:
            method = "Nesterov"  # its step costs the same
        knee = sweep.knee(method) if method in sweep.methods else None
        if knee is not None:
            found[name] = knee.steps(curve.batch) * curve.seconds
    if not found:
        raise ValueError(
            f"expected a sweep of {', '.join(weak)} that reached its level, got none in {record}"
        )
    return found
