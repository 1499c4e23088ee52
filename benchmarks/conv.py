"""A convolutional net: SGD against PyTorch; K-FAC against curvlinops, BackPACK and kfac-jax.

Three convolutions of 5 x 5 with ReLU and max-pooling, and a dense layer, on random images; same weights,
inputs, precision and number of threads, in one run, in alternating order. Gradients are checked to agree,
and, with the exact expectation over targets, the Kronecker factors and the preconditioned gradient of
curvlinops too. Says where our time goes and what the matrix products alone would take. Prints tables and
writes benchmarks/results/conv.json.
"""

from typing import Any

import common
import nets
import numpy as np
import steps
import torch

LOSS = torch.nn.CrossEntropyLoss()


def run_kfac_jax(python: str, n: int, threads: int) -> dict[str, Any]:
    """One step after the one that compiles."""
    process = steps.KfacJax(python, "conv", n, threads)
    process.step()
    process.close()
    run = {**process.facts, "seconds": process.seconds}
    print(f"kfac-jax: {run['seconds'][0]:.1f} s a K-FAC step, {run['with_compiling']:.1f} s the first")
    return run


def main() -> None:
    arguments = steps.parser(__doc__, examples=128).parse_args()
    facts = common.machine()
    common.use_threads(arguments.threads)
    differences = steps.compare_with_curvlinops(*nets.make_conv(16), LOSS)
    print(f"exact expectation, against curvlinops: largest difference {max(differences.values()):.0e}")
    rate = common.product_rate(np.matmul, *common.operands(np.float32))
    print(f"{facts['cpu']}, {arguments.threads} threads; matrix products in float32: {rate:.0f} GFLOP/s\n")
    n = arguments.examples
    record = {
        "machine": facts,
        "threads": arguments.threads,
        "gflop_per_second": rate,
        "differences_from_curvlinops": differences,
        "runs": [
            steps.run(job, nets.make_conv(n), LOSS, arguments.repeats, rate) for job in ("SGD", "K-FAC")
        ],
    }
    if arguments.kfac_jax:
        record["kfac_jax"] = run_kfac_jax(arguments.kfac_jax, n, arguments.threads)
    common.write("conv", record)


if __name__ == "__main__":
    main()
