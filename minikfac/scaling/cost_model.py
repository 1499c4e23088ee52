"""What a step costs on W workers: floating-point operations, bytes, and a network with latency and bandwidth.

    computing      operations / rate + bytes of memory / memory rate + calls
    all-reduce     ring: 2 (W - 1) (alpha + b / (W beta))        tree: 2 ceil(log2 W) (alpha + b / beta)
    broadcast      ceil(log2 W) (alpha + b / beta)

for b bytes, alpha seconds of latency and beta bytes a second [TRG05]. Each worker takes ceil(m / W) of a
batch of m; gradients and Kronecker factors are summed by all-reduce; the inverses of a layer are computed by
one worker, the largest first to the worker with the least work, and broadcast. Work that every worker
repeats, such as preconditioning, does not shrink with W.

Factors and inverses are sent whole: that they are symmetric could save half of their bytes.

The model is a sum: nothing overlaps, unless inverses are stale, no worker waits for a slow one, and messages
do not collide. It has no caches, so a rate is that of products as large as those of the net.

Updates and examples of a recorded run do not depend on the machine; :func:`on_machine` gives it the seconds
of another one, which :func:`read_machine` reads from a file.

sizes = layer_sizes(net, x.shape[1:])
step_seconds(sizes, 512, 8, Schedule.of(opt), Machine(5e10), Link(1e-5, 1e9))
"""

from __future__ import annotations

import ast
import json
import math
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import optim
from ..display import ShownByFields
from ..distributed import Communicator
from ..network import Network, layers, outputs
from ..optim import checks
from ..reading import one_error, read_lines
from ..training.records import History

COMPUTING = ("gradient", "factors", "Fisher products", "inverses", "preconditioning")
COMMUNICATING = ("all-reduce of gradients", "all-reduce of factors", "broadcast of inverses")
PARTS = (*COMPUTING, *COMMUNICATING)
"""Parts of a step."""


@dataclass(frozen=True)
class LayerSize:
    """Sizes of one parameter layer: T locations, I inputs with the bias, O outputs.

    Attributes:
        first: whether nothing below it needs a derivative.
    """

    T: int
    I: int
    O: int
    first: bool = False

    @property
    def n_params(self) -> int:
        return self.I * self.O

    def forward(self) -> int:
        """Operations of s = abar W for one example."""
        return 2 * self.T * self.I * self.O

    def weight_gradient(self) -> int:
        """Of sum_t abar g^T."""
        return 2 * self.T * self.I * self.O

    def input_derivative(self) -> int:
        """Of g W^T without the bias's row; none for the first layer."""
        return 0 if self.first else 2 * self.T * (self.I - 1) * self.O

    def factors(self) -> int:
        """Of A and G, symmetry taken for half."""
        return self.T * (self.I * (self.I + 1) + self.O * (self.O + 1))

    def tangent(self) -> int:
        """Of the derivative of s along one direction: abar V, and dx W beyond the first layer."""
        return self.forward() + self.input_derivative()

    def inverses(self) -> int:
        """Of A^-1 and G^-1 by Cholesky, n^3 each; they do not depend on examples."""
        return self.I**3 + self.O**3

    def preconditioning(self) -> int:
        """Of A^-1 grad G^-1."""
        return 2 * self.I * self.O * (self.I + self.O)

    def activations(self) -> int:
        """Numbers that one pass over one example writes and reads again: abar, s and what comes of s."""
        return 2 * self.T * (self.I + 2 * self.O)


Sizes = Sequence[LayerSize]
"""Of a net's parameter layers."""


def measured_rate(size: int = 1000) -> float:
    """Measure operations a second of a product of two square matrices in float32, the median of five."""
    a = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    seconds = []
    for _ in range(6):
        begin = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / float(np.median(seconds[1:]))  # the first one wakes the threads


def layer_sizes(net: Network, shape: Sequence[int]) -> list[LayerSize]:
    """Return the sizes of all parameter layers, for inputs of a shape without the batch's axis.

    Raises:
        ValueError: on a layer that scales and shifts: its block is not a Kronecker product.
    """
    theta = np.zeros(net.n_params, dtype=np.float32)
    sizes = []
    for l, abar in enumerate(net.forward(theta, np.zeros((1, *shape), dtype=np.float32)).abar):
        if abar.ndim != 3:
            raise ValueError(f"expected dense and convolutional layers, got {net.names[l]}")
        sizes.append(LayerSize(abar.shape[1], abar.shape[2], net.shapes[l][1], first=l == 0))
    return sizes


@dataclass(frozen=True)
class Schedule:
    """How often a method does what, per step.

    Attributes:
        name: of the method.
        factor_share: of the batch, whose examples enter the factors in a step; 0 for SGD.
        extra_forward: whether those have a forward pass of their own; a backward pass they always have.
        fisher_share: of the batch, on which the exact F is taken.
        directions: along which.
        inverses: how many times all inverses are computed per step.
        proposals: how many gradients are preconditioned.
        evaluations: forward passes over the whole batch beside the gradient's, as for the ratio rho.
        updates: vectors of P numbers that a step reads or writes.
        messages: all-reduces of a few numbers, which cost their latency.
        stale: whether inverses are computed beside the steps, on cores of their own, and used when ready.
    """

    name: str
    factor_share: float = 0.0
    extra_forward: bool = False
    fisher_share: float = 0.0
    directions: int = 0
    inverses: float = 0.0
    proposals: float = 0.0
    evaluations: float = 0.0
    updates: int = 6
    messages: float = 1.0
    stale: bool = False

    @classmethod
    def of(cls, opt: Any) -> Schedule:
        """Return that of an optimizer: SGD, KFAC or KFCPre.

        Raises:
            TypeError: on another one.
            ValueError: on K-FAC's block-tridiagonal inverse, whose cost is not modelled.
        """
        if isinstance(opt, optim.SGD):
            return cls("SGD")
        if isinstance(opt, optim.KFAC):
            if opt.structure != "block_diagonal":
                raise ValueError(
                    f"expected K-FAC's block-diagonal inverse, whose cost is modelled, got {opt.structure!r}"
                )
            # steps with three values of gamma make three inverses; where the two periods meet, once
            both = 3 / opt.T2 + 1 / opt.T3 - 1 / math.lcm(opt.T2, opt.T3)
            return cls(
                "K-FAC",
                opt.tau1,
                extra_forward=True,
                fisher_share=opt.tau2,
                directions=1 + opt.has_momentum,
                inverses=both,
                proposals=1 + 2 / opt.T2,
                evaluations=1 / opt.T1,
                updates=14,
                messages=2 + 1 / opt.T1,
            )
        if isinstance(opt, optim.KFCPre):
            exact = opt.clip is not None and opt.clip_norm == "fisher"
            return cls(
                "KFC-pre",
                1 / opt.Ts,
                fisher_share=opt.clip_share if exact else 0.0,
                directions=1,
                inverses=1 / opt.Tf,
                proposals=1,
                updates=10,
                messages=1 + exact,
            )
        raise TypeError(f"expected SGD, KFAC or KFCPre, got {type(opt).__name__}")


@dataclass(frozen=True)
class Machine:
    """One worker.

    Attributes:
        rate: operations a second of matrix products.
        inverse_rate: of Cholesky inverses, n^3 operations each; that of products by default.
        memory: bytes a second; infinite by default.
        call: seconds of a layer in a pass that are not arithmetic, such as Python's.
        itemsize: bytes of a number.
        name: of the machine.
        source: where its numbers are from.
    """

    rate: float
    inverse_rate: float | None = None
    memory: float = math.inf
    call: float = 0.0
    itemsize: int = 4
    name: str = "a machine"
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("rate", "inverse_rate", "memory"):
            value = getattr(self, name)
            if value is not None and value != math.inf:
                checks.positive(**{name: value})
        checks.not_negative(call=self.call)
        checks.count(itemsize=self.itemsize)


@dataclass(frozen=True)
class Link:
    """The network between workers.

    Attributes:
        latency: seconds of a message, however short (alpha).
        bandwidth: bytes a second (beta).
    """

    latency: float = 0.0
    bandwidth: float = math.inf

    def __post_init__(self) -> None:
        if not (self.latency >= 0 and self.bandwidth > 0):
            raise ValueError(
                f"expected latency >= 0 and bandwidth > 0, got {self.latency} and {self.bandwidth}"
            )

    def all_reduce(self, size: float, W: int) -> float:
        """Seconds in which W workers sum arrays of so many bytes, by ring or by tree, whichever is quicker.

        >>> Link(1e-3, 1e6).all_reduce(1e6, 4), Link(1e-3).all_reduce(8, 4)
        (1.506, 0.004)
        """
        if W == 1 or size == 0:
            return 0.0
        ring = 2 * (W - 1) * (self.latency + size / W / self.bandwidth)
        tree = 2 * _rounds(W) * (self.latency + size / self.bandwidth)
        return min(ring, tree)

    def broadcast(self, size: float, W: int) -> float:
        """Seconds in which one of W workers gives bytes to all."""
        return 0.0 if W == 1 or size == 0 else _rounds(W) * (self.latency + size / self.bandwidth)


def step_seconds(
    sizes: Sizes, m: int, W: int, schedule: Schedule, machine: Machine, link: Link
) -> dict[str, float]:
    """Predict the seconds of a step by part; their sum is the step, unless inverses are stale.

    With ``schedule.stale``, "inverses" and their broadcast are only what the step waits for: whatever takes
    longer than the steps between two inverses.

    Args:
        sizes: of the net's layers.
        m: examples of a step, of all workers together.
        W: workers.
        schedule: the method.
        machine: one worker.
        link: between them.

    Raises:
        ValueError: unless m >= 1 and W >= 1.
    """
    if not (m >= 1 and W >= 1):
        raise ValueError(f"expected m >= 1 and W >= 1, got {m} and {W}")
    numbers = sum(size.n_params for size in sizes)
    squares = [size.I**2 + size.O**2 for size in sizes]
    seconds = dict.fromkeys(PARTS, 0.0) | _computing(sizes, math.ceil(m / W), schedule, machine)
    seconds["all-reduce of gradients"] = link.all_reduce(numbers * machine.itemsize, W)
    seconds["all-reduce of gradients"] += schedule.messages * link.all_reduce(machine.itemsize, W)
    if schedule.factor_share:
        seconds["all-reduce of factors"] = link.all_reduce(sum(squares) * machine.itemsize, W)
    if schedule.inverses:
        costs = inverse_seconds(sizes, machine)
        sent = [0.0] * W
        for worker, square in zip(largest_first(costs, W), squares, strict=True):
            sent[worker] += square * machine.itemsize
        longest, broadcast = max(loads(costs, W)), sum(link.broadcast(size, W) for size in sent)
        if schedule.stale:
            period = sum(seconds.values()) / schedule.inverses
            longest, broadcast = max(0.0, longest - period), max(0.0, broadcast - period)
        seconds["inverses"] = schedule.inverses * longest
        seconds["broadcast of inverses"] = schedule.inverses * broadcast
    return seconds


def _computing(sizes: Sizes, n: int, schedule: Schedule, machine: Machine) -> dict[str, float]:
    """Seconds of what one worker computes for its n examples, but for inverses."""

    def passes(n: float, operations: float, count: float) -> float:
        """Seconds of ``count`` passes that make so many operations for each of n examples."""
        touched = count * n * sum(size.activations() for size in sizes) * machine.itemsize
        return n * operations / machine.rate + touched / machine.memory + count * len(sizes) * machine.call

    def total(operations: Callable[[LayerSize], int]) -> int:
        return sum(operations(size) for size in sizes)

    forward, inputs = total(LayerSize.forward), total(LayerSize.input_derivative)
    read = schedule.updates * total(lambda size: size.n_params) * machine.itemsize
    seconds = {"gradient": passes(n, forward + total(LayerSize.weight_gradient) + inputs, 2)}
    seconds["gradient"] += read / machine.memory + schedule.evaluations * passes(n, forward, 1)
    if schedule.factor_share:
        operations = schedule.extra_forward * forward + inputs + total(LayerSize.factors)
        examples = math.ceil(schedule.factor_share * n)
        seconds["factors"] = passes(examples, operations, 2 + schedule.extra_forward)
    if schedule.fisher_share:
        operations = forward + schedule.directions * total(LayerSize.tangent)
        examples = math.ceil(schedule.fisher_share * n)
        seconds["Fisher products"] = passes(examples, operations, 1 + schedule.directions)
    if schedule.proposals:
        squares = total(lambda size: size.I**2 + size.O**2) * machine.itemsize
        each = total(LayerSize.preconditioning) / machine.rate + squares / machine.memory
        seconds["preconditioning"] = schedule.proposals * each + len(sizes) * machine.call
    return seconds


def inverse_seconds(sizes: Sizes, machine: Machine) -> list[float]:
    """Return seconds of the inverses of each layer, which one worker computes."""
    rate = machine.rate if machine.inverse_rate is None else machine.inverse_rate
    return [size.inverses() / rate + machine.call for size in sizes]


def largest_first(costs: Sequence[float], W: int) -> list[int]:
    """Give tasks to W workers, the largest first, each to whoever has least to do; return the worker of each.

    This is how ranks share inverses, :meth:`.Communicator.owners`. The last to end needs at most
    4/3 - 1/(3 W) of the time of the best possible assignment [Graham69].

    >>> largest_first([3, 5, 2, 4], 2)
    [1, 0, 0, 1]
    """
    if W < 1:
        raise ValueError(f"expected W >= 1, got {W}")
    ranks = Communicator()
    ranks.size = W
    return ranks.owners(costs)


def loads(costs: Sequence[float], W: int) -> list[float]:
    """Return the work of each of W workers, largest first."""
    seconds = [0.0] * W
    for cost, worker in zip(costs, largest_first(costs, W), strict=True):
        seconds[worker] += cost
    return seconds


@dataclass(frozen=True, repr=False)
class Curve(ShownByFields):
    """Predicted steps over numbers of workers.

    Attributes:
        workers: (k,).
        batch: examples a step, (k,).
        parts: seconds by part, (k,) each.
    """

    workers: np.ndarray
    batch: np.ndarray
    parts: Mapping[str, np.ndarray]

    @property
    def seconds(self) -> np.ndarray:
        """Of a step, (k,)."""
        return sum((self.parts[name] for name in PARTS), start=np.zeros(len(self.workers)))

    @property
    def communication(self) -> np.ndarray:
        """Seconds of it that are spent on the network, (k,)."""
        return sum((self.parts[name] for name in COMMUNICATING), start=np.zeros(len(self.workers)))


def strong_scaling(
    sizes: Sizes, m: int, workers: Sequence[int], schedule: Schedule, machine: Machine, link: Link
) -> Curve:
    """Predict steps of one batch shared by ever more workers."""
    return _curve(sizes, [m] * len(workers), workers, schedule, machine, link)


def weak_scaling(
    sizes: Sizes, each: int, workers: Sequence[int], schedule: Schedule, machine: Machine, link: Link
) -> Curve:
    """Predict steps where each worker brings a batch of its own size."""
    return _curve(sizes, [each * W for W in workers], workers, schedule, machine, link)


def breaks(curve: Curve, sizes: Sizes, machine: Machine) -> dict[str, int]:
    """Return the number of workers from which each limit applies; limits that never apply are left out.

    - "network takes half the step": communication is at least as long as all else;
    - "what all repeat takes half the step": preconditioning is, which every worker repeats;
    - "one layer is all the inverses' time": another worker has nothing to take over;
    - "one example a worker": there is nothing left to share.
    """
    first: dict[str, int] = {}
    for what, part in (
        ("network takes half the step", curve.communication),
        ("what all repeat takes half the step", curve.parts["preconditioning"]),
    ):
        half = 2 * part >= curve.seconds
        if half.any():
            first[what] = int(curve.workers[half.argmax()])
    costs = inverse_seconds(sizes, machine)
    alone = np.array([max(loads(costs, int(W))) <= max(costs) * (1 + 1e-9) for W in curve.workers])
    if curve.parts["inverses"].any() and alone.any():
        first["one layer is all the inverses' time"] = int(curve.workers[alone.argmax()])
    single = curve.workers >= curve.batch
    if single.any():
        first["one example a worker"] = int(curve.workers[single.argmax()])
    return first


def stale(schedule: Schedule) -> Schedule:
    """The same method with inverses computed beside the steps."""
    return replace(schedule, name=f"{schedule.name}, stale inverses", stale=True)


def _curve(
    sizes: Sizes, batch: list[int], workers: Sequence[int], schedule: Schedule, machine: Machine, link: Link
) -> Curve:
    rows = [step_seconds(sizes, m, W, schedule, machine, link) for m, W in zip(batch, workers, strict=True)]
    parts = {name: np.array([row[name] for row in rows]) for name in PARTS}
    return Curve(np.array(workers), np.array(batch), parts)


def _rounds(W: int) -> int:
    """ceil(log2 W)."""
    return (W - 1).bit_length()


# recorded runs ----------------------------------------------------------------------------------------------


def read_machine(path: str | Path) -> Machine:
    """Read a machine from a file in TOML, or in JSON where its name ends in .json.

    Entries are the attributes of :class:`Machine`, of which only ``rate`` must be there.

    Raises:
        ValueError: on a file that is neither, or on an entry that is missing, unknown or out of range.
    """
    text = b"".join(read_lines(path, 2**16, 2**16))
    names = [field.name for field in fields(Machine)]
    with one_error(
        path, f"a machine in TOML or JSON, with rate and perhaps {', '.join(names[1:])}", "another"
    ):
        entries = json.loads(text) if Path(path).suffix == ".json" else tomllib.loads(text.decode())
        return Machine(**entries)


def on_machine(run: History, machine: Machine, name: str = "the record") -> History:
    """Return a recorded run with the seconds that one machine would take: the same updates and examples.

    Between two measurements the batch is the mean of those steps.

    Args:
        run: with the first line of its file in ``about``.
        machine: that runs it alone.
        name: of the run, for errors.

    Raises:
        ValueError: on the record of a net or an optimizer whose cost is not modelled.
    """
    with one_error(name, "dense and convolutional layers, and SGD, KFAC or KFCPre", "a run of another kind"):
        net = _recorded_net(run.about["net"])
        sizes = layer_sizes(net, run.about["dataset"]["train"][1:])
        schedule = Schedule.of(_recorded_optimizer(net, run.about["optimizer"]))
    seconds, before = 0.0, {"step": 0, "examples": 0}
    records = []
    for record in run.records:
        steps = record["step"] - before["step"]
        m = max(1, round((record["examples"] - before["examples"]) / max(1, steps)))
        seconds += steps * sum(step_seconds(sizes, m, 1, schedule, machine, Link()).values())
        records.append({**record, "seconds": seconds})
        before = record
    return replace(run, records=records)


def _recorded_net(about: Mapping[str, Any]) -> Network:
    """The net of a record's first line, whose layers are text, as "Dense(n_in=784, n_out=30, bias=True)"."""

    def part(module: Any, text: str) -> Any:
        call: Any = ast.parse(text, mode="eval").body
        arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        return getattr(module, call.func.id)(**arguments)

    return Network([part(layers, text) for text in about["layers"]], part(outputs, about["output"]))


def _recorded_optimizer(net: Network, about: Mapping[str, Any]) -> Any:
    """The optimizer of a record's first line, with some number for a rate or momentum that was a schedule."""
    kind = {"SGD": optim.SGD, "KFAC": optim.KFAC, "KFCPre": optim.KFCPre}[about["kind"]]
    names = {field.name for field in fields(kind) if field.init}
    plain = {name: 0.5 if isinstance(value, dict) else value for name, value in about.items()}
    if plain.get("rescale"):  # older records; now lr=None says so
        plain["lr"] = None
    return kind(net, **{name: value for name, value in plain.items() if name in names})
