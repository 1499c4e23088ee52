"""A convolutional net: SGD against PyTorch; K-FAC against curvlinops, BackPACK and kfac-jax.

Three convolutions of 5 x 5 with ReLU and max-pooling, and a dense layer, on random images; same weights,
inputs, precision and number of threads, in one run, in alternating order. Gradients are checked to agree,
and, with the exact expectation over targets, the Kronecker factors and the preconditioned gradient of
curvlinops too. Says where our time goes and what the matrix products alone would take. Prints tables and
writes benchmarks/results/conv.json.
"""

import argparse
import json
import math
import statistics
import subprocess
from pathlib import Path
from typing import Any

import common
import conv_contenders as contenders
import nets
import numpy as np
import torch

import minikfac as mk
from minikfac import fisher

TOLERANCE = 1e-4
"""Largest difference of two gradients, factors or steps, relative to the largest entry, in float32."""


def difference(found: Any, wanted: Any) -> float:
    return float(abs(found - wanted).max() / abs(wanted).max())


def require(differences: dict[str, float]) -> None:
    for what, found in differences.items():
        if not found < TOLERANCE:
            raise SystemExit(f"{what} differs from minikfac by {found:.1e}")


def compare_with_curvlinops(n: int) -> dict[str, float]:
    """Factors and preconditioned gradients under the exact expectation, on n examples."""
    net, theta, x, y, module = nets.make_conv(n)
    X, labels = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y)
    F = fisher.kfac(fisher.signals(net, theta, x))
    K = contenders.curvlinops_factors(module, X, labels, "type-2")
    K.compute_kronecker_factors()
    found = {}
    orders = nets.torch_inputs(module)
    locations = [cost["T"] for cost in costs(net, x.shape)]
    for l, name in enumerate(K._input_covariances):
        A, G, t = K._input_covariances[name].numpy(), K._gradient_covariances[name].numpy(), locations[l]
        found[f"A of {net.names[l]}"] = difference(A[np.ix_(orders[l], orders[l])] * t, F.blocks[l].A)
        found[f"G of {net.names[l]}"] = difference(G / t, F.blocks[l].G)
    grad = net.gradient(theta, x, y)
    ours = F.solve(grad, damping=contenders.DAMPING, method="factored")
    theirs = contenders.curvlinops_kfac(module, X, labels, "type-2")()
    order = nets.torch_order(module)
    found["gradient"] = difference(contenders.flat(theirs[0], order), grad)
    found["preconditioned gradient"] = difference(contenders.flat(theirs[1], order), ours)
    require(found)
    return found


def costs(net: mk.Network, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """GFLOP of the matrix products of each parameter layer, for images (N, H, W, C).

    Symmetry of A and G is taken for half; an inverse is I^3, by Cholesky.
    """
    found: list[dict[str, Any]] = []
    n, own = shape[0], shape[1:]
    for layer in net.layers:
        own = layer.output_shape(own)  # type: ignore[assignment]
        if not layer.parameter_layers:
            continue
        t, (i, o) = math.prod(own[:-1]), layer.weight_shapes[0]
        flop = {
            "forward": 2 * n * t * i * o,
            "weight gradient": 2 * n * t * i * o,
            "derivative by inputs": 2 * n * t * (i - 1) * o if found else 0,
            "A": n * t * i * (i + 1),
            "G": n * t * o * (o + 1),
            "inverses": i**3 + o**3,
            "preconditioning": 2 * i * o * (i + o),
        }
        found.append({"T": t, "I": i, "O": o, **{part: 1e-9 * count for part, count in flop.items()}})
    return found


def needed(net: mk.Network, shape: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """GFLOP of each job by part, all layers together; the sampled target has a backward pass of its own."""
    layers = costs(net, shape)
    total = {part: sum(layer[part] for layer in layers) for part in layers[0] if part not in "TIO"}
    sgd = {part: total[part] for part in ("forward", "weight gradient", "derivative by inputs")}
    extra = {part: total[part] for part in ("A", "G", "inverses", "preconditioning")}
    again = {"derivative by inputs, sampled target": total["derivative by inputs"]}
    return {"SGD": sgd, "K-FAC": {**sgd, **again, **extra}}


def run(job: str, n: int, repeats: int, rate: float) -> dict[str, Any]:
    net, theta, x, y, module = nets.make_conv(n)
    order = nets.torch_order(module)
    competing = contenders.make(job, net, theta, x, y, module)
    gradient = net.gradient(theta, x, y)
    differences = {}

    def check(who: str, result: Any) -> None:
        if job == "SGD":
            after = result if who == "minikfac" else contenders.flat(result, order)
            grad = (theta - after) / contenders.LEARNING_RATE
        else:
            grad = result[0] if who == "minikfac" else contenders.flat(result[0], order)
            step = result[1] if who == "minikfac" else contenders.flat(result[1], order)
            if not np.isfinite(step).all() or not step @ grad > 0:
                raise SystemExit(f"expected a finite descent direction of {who}")
        differences[who] = difference(grad, gradient)
        require({f"gradient of {who}": differences[who]})

    print(f"{job} step: P = {net.n_params:,}, N = {n}, float32")
    seconds = common.alternate(competing, repeats, check)
    medians = {who: statistics.median(times) for who, times in seconds.items()}
    best_peer = min((who for who in medians if who != "minikfac"), key=medians.__getitem__)
    for who, median in medians.items():
        print(
            f"  {who:<28}{median:9.3f} s  ({min(seconds[who]):.3f} to {max(seconds[who]):.3f})"
            f"{median / medians['minikfac']:8.2f} x   difference {differences[who]:.0e}"
        )
    parts = needed(net, x.shape)[job]
    lines = common.line_seconds(competing["minikfac"], max(1, repeats // 3))
    floor = sum(parts.values()) / rate
    print(
        f"  best peer / minikfac: {medians[best_peer] / medians['minikfac']:.2f}."
        f"  Floor: {sum(parts.values()):.1f} GFLOP at {rate:.0f} GFLOP/s = {floor:.3f} s, of which"
    )
    for part, gflop in parts.items():
        print(f"    {gflop / rate:7.4f} s  {gflop:6.2f} GFLOP  {part}")
    print("  Where our time goes, in seconds of a core by line of code:")
    for line, own in list(lines.items())[:12]:
        print(f"    {own:7.4f} s  {line}")
    print()
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


def run_kfac_jax(python: str, n: int) -> dict[str, Any]:
    """One step after the one that compiles; it takes all cores."""
    script = Path(__file__).with_name("conv_kfac_jax.py")
    command = [python, str(script), "--examples", str(n), "--damping", str(contenders.DAMPING)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"kfac-jax: {found['seconds'][0]:.1f} s a K-FAC step, {found['with_compiling']:.1f} s the first")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument(
        "--kfac-jax", metavar="PYTHON", help="an interpreter that has kfac-jax; minutes; see conv_kfac_jax.py"
    )
    arguments = parser.parse_args()
    facts = common.machine()
    common.use_threads(arguments.threads)
    differences = compare_with_curvlinops(16)
    print(f"exact expectation, against curvlinops: largest difference {max(differences.values()):.0e}")
    rate = common.product_rate(np.matmul, *common.operands(np.float32))
    print(f"{facts['cpu']}, {arguments.threads} threads; matrix products in float32: {rate:.0f} GFLOP/s\n")
    n = arguments.examples
    record = {
        "machine": facts,
        "threads": arguments.threads,
        "gflop_per_second": rate,
        "differences_from_curvlinops": differences,
        "runs": [run(job, n, arguments.repeats, rate) for job in contenders.OURS],
    }
    if arguments.kfac_jax:
        record["kfac_jax"] = run_kfac_jax(arguments.kfac_jax, n)
    common.write("conv", record)


if __name__ == "__main__":
    main()
