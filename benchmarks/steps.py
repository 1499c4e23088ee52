"""What conv.py and autoencoder.py share: steps of SGD and of K-FAC, checked, raced and accounted for."""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import contenders
import nets
import numpy as np
import torch

import minikfac as mk
from minikfac import fisher

TOLERANCE = 1e-4
"""Largest difference of two gradients, factors or steps, relative to the largest entry, in float32."""

KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(2**31), "MALLOC_MMAP_THRESHOLD_": str(2**31)}
"""Variables of glibc with which a process keeps the memory it frees."""

Problem = tuple[mk.Network, Any, Any, Any, torch.nn.Module]
"""Net, theta, inputs and targets, and the net in PyTorch, as the makers of nets.py return them."""


def parser(doc: str | None, examples: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--examples", type=int, default=examples)
    parser.add_argument(
        "--jax", metavar="PYTHON", help="an interpreter that has JAX and kfac-jax; see jax_steps.py"
    )
    parser.add_argument("--sgd-alone", metavar="FILE", help=argparse.SUPPRESS)  # see keeping_memory
    return parser


def keeping_memory(script: str, arguments: argparse.Namespace) -> Any:
    """Run the race of SGD in a process that keeps the memory it frees, and return its record.

    By default the C library of Linux hands large arrays back to the system and takes them anew, page by page,
    in the next step. Raised thresholds of ``malloc`` serve both sides, PyTorch most.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        command = [sys.executable, script, "--sgd-alone", str(path), "--examples", str(arguments.examples)]
        command += ["--repeats", str(arguments.repeats), "--threads", str(arguments.threads)]
        command += ["--jax", arguments.jax] if arguments.jax else []
        print("SGD in a process that keeps the memory it frees:")
        subprocess.run(command, env=os.environ | KEEPING, check=True)
        return json.loads(path.read_text(encoding="utf-8"))


def better_ratio(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the same race in several processes each side's best median, and the best peer's over ours."""
    medians: dict[str, float] = {}
    for run in runs:
        for who, median in run["medians"].items():
            medians[who] = min(median, medians.get(who, math.inf))
    best = min((who for who in medians if not ours(who)), key=medians.__getitem__)
    seconds = f"minikfac {medians['minikfac']:.3f} s, {best} {medians[best]:.3f} s"
    ratio = medians["minikfac"] / medians[best]
    print(f"SGD, the better of both processes: {seconds}: {ratio:.2f} times as long\n")
    return {"medians": medians, "best_peer": best, "ours_over_best_peer": ratio}


def hand_over(arguments: argparse.Namespace, run: dict[str, Any]) -> None:
    """Write the race of SGD for the process that :func:`keeping_memory` runs in."""
    text = json.dumps(run | {"environment": KEEPING})
    Path(arguments.sgd_alone).write_text(text, encoding="utf-8")


def difference(actual: Any, wanted: Any) -> float:
    return float(abs(actual - wanted).max() / abs(wanted).max())


def require(differences: dict[str, float]) -> None:
    for what, error in differences.items():
        if not error < TOLERANCE:
            raise SystemExit(f"{what} differs from minikfac by {error:.1e}")


def compare_with_curvlinops(
    net: mk.Network, theta: Any, x: Any, y: Any, module: torch.nn.Module, loss: torch.nn.Module
) -> dict[str, float]:
    """Factors and preconditioned gradients under the exact expectation."""
    X, targets, scale = contenders.torch_input(x), torch.from_numpy(y), contenders.times_ours(loss, y)
    F = fisher.kfac(fisher.signals(net, theta, x))
    K = contenders.curvlinops_factors(module, X, targets, loss, "type-2")
    K.compute_kronecker_factors()
    differences = {}
    orders = nets.torch_inputs(module)
    locations = [cost["T"] for cost in costs(net, x.shape)]
    for l, name in enumerate(K._input_covariances):
        A, G, t = K._input_covariances[name].numpy(), K._gradient_covariances[name].numpy(), locations[l]
        differences[f"A of {net.names[l]}"] = difference(A[np.ix_(orders[l], orders[l])] * t, F.blocks[l].A)
        differences[f"G of {net.names[l]}"] = difference(G / (t * scale), F.blocks[l].G)
    grad = net.gradient(theta, x, y)
    ours = F.solve(grad, damping=contenders.DAMPING, method="factored")
    theirs = contenders.curvlinops_kfac(module, X, targets, loss, "type-2")()
    order = nets.torch_order(module)
    differences["gradient"] = difference(contenders.flat(theirs[0], order) / scale, grad)
    differences["preconditioned gradient"] = difference(contenders.flat(theirs[1], order), ours)
    require(differences)
    return differences


def costs(net: mk.Network, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """GFLOP of the matrix products of each parameter layer, for inputs of a shape, as images (N, H, W, C).

    Symmetry of A and G is taken for half; an inverse is I^3, by Cholesky.
    """
    layers: list[dict[str, Any]] = []
    n, extents = shape[0], shape[1:]
    for layer in net.layers:
        extents = layer.output_shape(extents)  # type: ignore[assignment]
        if not layer.parameter_layers:
            continue
        t, (i, o) = math.prod(extents[:-1]), layer.weight_shapes[0]
        flop = {
            "forward": 2 * n * t * i * o,
            "weight gradient": 2 * n * t * i * o,
            "derivative by inputs": 2 * n * t * (i - 1) * o if layers else 0,
            "A": n * t * i * (i + 1),
            "G": n * t * o * (o + 1),
            "inverses": i**3 + o**3,
            "preconditioning": 2 * i * o * (i + o),
        }
        layers.append({"T": t, "I": i, "O": o, **{part: 1e-9 * count for part, count in flop.items()}})
    return layers


def totals(net: mk.Network, shape: tuple[int, ...]) -> dict[str, float]:
    """GFLOP by part, all layers together."""
    layers = costs(net, shape)
    return {part: sum(layer[part] for layer in layers) for part in layers[0] if part not in "TIO"}


def needed(net: mk.Network, shape: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """GFLOP of each job by part; the sampled target has a backward pass of its own."""
    total = totals(net, shape)
    sgd = {part: total[part] for part in ("forward", "weight gradient", "derivative by inputs")}
    extra = {part: total[part] for part in ("A", "G", "inverses", "preconditioning")}
    again = {"derivative by inputs, sampled target": total["derivative by inputs"]}
    return {"SGD": sgd, "K-FAC": {**sgd, **again, **extra}}


def ours(who: str) -> bool:
    return who.startswith("minikfac")


def run(
    job: str,
    problem: Problem,
    loss: torch.nn.Module,
    repeats: int,
    rate: float,
    more: dict[str, contenders.Job] | None = None,
    lr: float = 0.1,
    momentum: float = 0.0,
) -> dict[str, Any]:
    """Race a job's contenders, and print and return what came out.

    Args:
        job: "SGD" or "K-FAC".
        problem: of nets.py.
        loss: in PyTorch.
        repeats: timed rounds.
        rate: GFLOP/s of a large matrix product.
        more: further contenders; their results are checked unless they are None.
        lr, momentum: of SGD.
    """
    net, theta, x, y, module = problem
    n, order, scale = len(x), nets.torch_order(module), contenders.times_ours(loss, y)
    options = {"lr": lr, "momentum": momentum} if job == "SGD" else {}
    competing = {**contenders.make(job, *problem, loss, **options), **(more or {})}
    gradient = net.gradient(theta, x, y)
    before, velocity = theta, gradient  # in units of the gradient
    if momentum:  # the job is the second step
        before = theta - lr * gradient
        velocity = momentum * gradient + net.gradient(before, x, y)
    differences = {}

    def check(who: str, result: Any) -> None:
        if result is None:
            return
        if job == "SGD":
            after = result if ours(who) else contenders.flat(result, order)
            error = difference((before - after) / lr, velocity)
        else:
            grad, step = result if ours(who) else (contenders.flat(part, order) for part in result)
            if not np.isfinite(step).all() or not step @ grad > 0:
                raise SystemExit(f"expected a finite descent direction of {who}")
            error = difference(grad if ours(who) else grad / scale, gradient)
        differences[who] = error
        require({f"gradient of {who}": error})

    print(f"{job} step: P = {net.n_params:,}, N = {n}, float32")
    seconds = common.alternate(competing, repeats, check)
    medians = {who: statistics.median(times) for who, times in seconds.items()}
    best_peer = min((who for who in medians if not ours(who)), key=medians.__getitem__)
    for who, median in medians.items():
        agreed = f"   difference {differences[who]:.0e}" if who in differences else ""
        print(
            f"  {who:<28}{median:9.3f} s  ({min(seconds[who]):.3f} to {max(seconds[who]):.3f})"
            f"{median / medians['minikfac']:8.2f} x{agreed}"
        )
    parts = needed(net, x.shape)[job]
    print(f"  best peer / minikfac: {medians[best_peer] / medians['minikfac']:.2f}.", end="")
    floor = print_floor(parts, rate)
    lines = common.line_seconds(competing["minikfac"], max(1, repeats // 3))
    print_lines(lines)
    return {
        "job": job,
        "parameters": net.n_params,
        "examples": n,
        "dtype": "float32",
        "seconds": seconds,
        "medians": medians,
        "relative_differences": differences,
        "best_peer": best_peer,
        "ratio": medians[best_peer] / medians["minikfac"],
        "gflop_needed": parts,
        "floor_seconds": floor,
        "core_seconds_by_line": lines,
    }


def print_floor(parts: dict[str, float], rate: float) -> float:
    """Print what matrix products alone would take, and return their sum in seconds."""
    floor = sum(parts.values()) / rate
    print(f"  Floor: {sum(parts.values()):.1f} GFLOP at {rate:.0f} GFLOP/s = {floor:.3f} s, of which")
    for part, gflop in parts.items():
        print(f"    {gflop / rate:7.4f} s  {gflop:6.2f} GFLOP  {part}")
    return floor


def print_lines(lines: dict[str, float]) -> None:
    print("  Where our time goes, in seconds of a core by line of code:")
    for line, spent in list(lines.items())[:12]:
        print(f"    {spent:7.4f} s  {line}")
    print()


class Jax:
    """A process of another interpreter that takes a step in JAX when it is asked to.

    Attributes:
        facts: its versions, the kinds of kfac-jax's blocks, and the seconds of a first step with compiling.
        seconds: of every step after that, by its own clock.
    """

    def __init__(self, python: str, job: str, net: str, n: int, threads: int, **options: float) -> None:
        script = Path(__file__).with_name("jax_steps.py")
        settings = [f"--{name}={value}" for name, value in options.items()]
        self._command = [python, str(script), job, net, f"--examples={n}", *settings]
        env = {"NPROC": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}  # of XLA and of its LAPACK
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | env
        )
        self.facts: dict[str, Any] = self._answer()
        self.seconds: list[float] = []

    def step(self) -> None:
        """Take a step; its weights are its own, so there is nothing to compare."""
        assert self._process.stdin is not None
        print("step", file=self._process.stdin, flush=True)
        self.seconds.append(self._answer())

    def close(self) -> dict[str, Any]:
        """End the process; return what is to be recorded of it."""
        self._process.communicate()
        return {**self.facts, "seconds": self.seconds}

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"expected an answer of {' '.join(self._command)}")
        return json.loads(line)
