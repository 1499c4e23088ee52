"""A convolutional net: SGD against PyTorch and JAX; K-FAC against curvlinops, BackPACK and kfac-jax.

Three convolutions of 5 x 5 with ReLU and max-pooling, and a dense layer, on random images; same weights,
inputs, precision and number of threads, in one run, in alternating order. Gradients are checked to agree,
and, with the exact expectation over targets, the Kronecker factors and the preconditioned gradient of
curvlinops too. Says where our time goes and what the matrix products alone would take. Prints tables and
writes benchmarks/results/conv.json.
"""

import argparse
import copy
import os
from typing import Any

import common
import contenders
import nets
import numpy as np
import steps
import torch

LOSS = torch.nn.CrossEntropyLoss()


def run_sgd(arguments: argparse.Namespace, rate: float) -> dict[str, Any]:
    n, threads = arguments.examples, arguments.threads
    problem = nets.make_conv(n)
    *_, x, y, module = problem
    form = torch.channels_last
    data = contenders.torch_input(x).contiguous(memory_format=form), torch.from_numpy(y)
    compiled = torch.compile(copy.deepcopy(module).to(memory_format=form))
    options = {"lr": 0.1, "momentum": 0.0}
    more = {
        "PyTorch, channels last, compiled": contenders.torch_sgd(compiled, *data, LOSS, **options, fused=True)
    }
    process = steps.Jax(arguments.jax, "SGD", "conv", n, threads, **options) if arguments.jax else None
    if process:
        more["JAX, compiled"] = process.step
    run = steps.run("SGD", problem, LOSS, arguments.repeats, rate, more, **options)
    return run | ({"jax": process.close()} if process else {})


def run_kfac_jax(python: str, n: int, threads: int) -> dict[str, Any]:
    """One step after the one that compiles."""
    process = steps.Jax(python, "K-FAC", "conv", n, threads, damping=contenders.DAMPING)
    process.step()
    run = process.close()
    print(f"kfac-jax: {run['seconds'][0]:.1f} s a K-FAC step, {run['with_compiling']:.1f} s the first")
    return run


def main() -> None:
    common.spin_shortly()
    arguments = steps.parser(__doc__, examples=128).parse_args()
    facts = common.machine()
    common.use_threads(arguments.threads)
    rate = common.product_rate(np.matmul, *common.operands(np.float32))
    if arguments.sgd_alone:
        steps.hand_over(arguments, run_sgd(arguments, rate))
        return
    differences = steps.compare_with_curvlinops(*nets.make_conv(16), LOSS)
    print(f"exact expectation, against curvlinops: largest difference {max(differences.values()):.0e}")
    print(f"{facts['cpu']}, {arguments.threads} threads; matrix products in float32: {rate:.0f} GFLOP/s\n")
    n = arguments.examples
    races_of_sgd = [run_sgd(arguments, rate), steps.keeping_memory(__file__, arguments)]
    record = {
        "machine": facts,
        "threads": arguments.threads,
        "openblas_thread_timeout": os.environ["OPENBLAS_THREAD_TIMEOUT"],
        "gflop_per_second": rate,
        "differences_from_curvlinops": differences,
        "sgd": steps.better_ratio(races_of_sgd),
        "runs": [
            *races_of_sgd,
            steps.run("K-FAC", nets.make_conv(n), LOSS, arguments.repeats, rate),
        ],
    }
    if arguments.jax:
        record["kfac_jax"] = run_kfac_jax(arguments.jax, n, arguments.threads)
    common.write("conv", record)


if __name__ == "__main__":
    main()
