"""The command that predicts steps on many workers: ``minikfac workers``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from ..network import Network
from ..network.layers import Dense
from ..quality import format_cell
from ..races.contenders import contender
from ..races.problems import entry
from ..scaling import cost_model as model
from ..scaling.cost_model import Curve
from ..scaling.sweep import read
from . import common
from .common import check_figure, save_figure, say
from .runs import parse_arguments
from .tables import print_table

IMAGES = {"digits": (8, 8, 1), "cifar10": (32, 32, 3), "svhn": (32, 32, 3)}
"""Shapes of images of the problems with convolutions."""

Arguments = Annotated[
    list[str] | None, Option("--set", help="An argument of it, as in T3=50; may stand several times.")
]
Rate = Annotated[
    float | None,
    Option(help="Billions of operations a second of a worker; measured on this machine by default."),
]
Record = Annotated[
    Path | None, Option(help="scaling.jsonl of a sweep on this problem: predicts seconds to its level.")
]

EXAMPLE = "minikfac workers --problem mnist-autoencoder --latency 2e-6 --gbytes 12"


def workers(
    name: common.ProblemName = "mnist-autoencoder",
    optimizer: Annotated[str, Option(help="kfac or kfc-pre; SGD stands beside it.")] = "kfac",
    arguments: Arguments = None,
    batch_size: Annotated[
        int, Option(help="Of all workers together: strong scaling.", min=1, max=10**9)
    ] = 8192,
    each: Annotated[int, Option(help="Of each worker: weak scaling.", min=1, max=10**6)] = 64,
    most: Annotated[int, Option(help="Workers at most.", min=2, max=2**20)] = 8192,
    gflops: Rate = None,
    latency: Annotated[float, Option(help="Of a message, in seconds.")] = 1e-5,
    gbytes: Annotated[float, Option(help="Gigabytes a second of the network.")] = 1.0,
    record: Record = None,
    width: common.Width = 1.0,
    out: common.Figure = Path("minikfac-workers.png"),
) -> None:
    """Predict seconds of a step on up to thousands of workers, and say what stands in the way of more.

    A model, not a measurement: operations over the rate of one worker, bytes over a
    network with latency and bandwidth, inverses shared out over workers.
    """
    from .. import plots  # matplotlib takes a second

    check_figure(out)
    row = entry(name)
    net = row.net(width)
    sizes = model.layer_sizes(net, _input_shape(net, row.data))
    machine = model.Machine(1e9 * gflops if gflops is not None else model.measured_rate())
    link = model.Link(latency, 1e9 * gbytes)
    method = _schedule(net, optimizer, arguments)
    schedules = [model.Schedule("SGD"), method, model.stale(method)]
    counts = [2**k for k in range(most.bit_length())]
    strong = {s.name: model.strong_scaling(sizes, batch_size, counts, s, machine, link) for s in schedules}
    weak = {s.name: model.weak_scaling(sizes, each, counts, s, machine, link) for s in schedules}
    limits = model.breaks(strong[method.name], sizes, machine)
    say(
        f"{name}: {net.n_params:,} parameters; {machine.rate / 1e9:.3g} GFLOP/s a worker, "
        f"{latency * 1e6:.3g} us and {gbytes:g} GB/s between them"
    )
    header = ["workers", *(f"{label} (ms)" for label in strong), "efficiency", "network's share"]
    print_table(f"A step of {batch_size:,} examples", header, _rows(strong, method.name))
    for limit, count in limits.items():
        say(f"From {count:,} workers on: {limit}")
    if record is None:
        seconds, unit = {label: curve.seconds for label, curve in weak.items()}, "seconds a step"
    else:
        seconds, unit = _to_level(record, name, net.n_params, weak), "predicted seconds to the level"
    title = f"{name}: predicted; {batch_size:,} examples shared, or {each:,} for each"
    shown: dict[str, Any] = {"weak": seconds, "weak_label": unit, "parts_of": method.name, "title": title}
    by_name = {label: curve.seconds for label, curve in strong.items()}
    axes = plots.predicted_scaling(counts, by_name, strong[method.name].parts, limits, **shown)
    save_figure(axes[0].figure, out)
    say(f"Figure: {out}")


def _input_shape(net: Network, data: str) -> tuple[int, ...]:
    first = net.parameter_layers[0]
    return (first.n_in,) if isinstance(first, Dense) else IMAGES[data]


def _schedule(net: Network, optimizer: str, arguments: Sequence[str] | None) -> model.Schedule:
    chosen = contender(optimizer)
    if chosen.name not in ("K-FAC", "KFC-pre"):
        raise ValueError(f"expected --optimizer kfac or kfc-pre, whose cost is modelled, got {optimizer!r}")
    return model.Schedule.of(chosen.make(net, **parse_arguments(arguments)))


def _rows(curves: Mapping[str, Curve], method: str) -> list[list[str]]:
    curve = curves[method]
    rows = []
    for number, W in enumerate(curve.workers):
        efficiency = curve.seconds[0] / (curve.seconds[number] * W / curve.workers[0])
        share = curve.communication[number] / curve.seconds[number]
        times = [format_cell(1e3 * other.seconds[number]) for other in curves.values()]
        rows.append([f"{W:,}", *times, f"{efficiency:.0%}", f"{share:.0%}"])
    return rows


def _to_level(record: Path, problem: str, parameters: int, weak: Mapping[str, Curve]) -> dict[str, Any]:
    """Seconds to the level of a sweep: fitted steps at each batch, times predicted seconds of each."""
    sweep = read(record)
    if sweep.about["sweep"] != problem:
        raise ValueError(f"expected --record of a sweep on {problem}, got one on {sweep.about['sweep']}")
    if sweep.about["parameters"] != parameters:
        raise ValueError(
            f"expected --record of a sweep on a net of {parameters:,} parameters, got one of "
            f"{sweep.about['parameters']:,}; give its --width"
        )
    seconds = {}
    for label, curve in weak.items():
        method = label.split(",")[0]
        if method == "SGD" and method not in sweep.methods:
            method = "Nesterov"  # its step costs the same
        knee = sweep.knee(method) if method in sweep.methods else None
        if knee is not None:
            seconds[label] = knee.steps(curve.batch) * curve.seconds
    if not seconds:
        raise ValueError(
            f"expected a sweep of {', '.join(weak)} that reached its level, got none in {record}"
        )
    return seconds
