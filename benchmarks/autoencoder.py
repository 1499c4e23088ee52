"""The autoencoder of K-FAC's experiments: SGD against PyTorch and JAX, K-FAC against three libraries.

784-1000-500-250-30-250-500-1000-784, logistic, the code linear [MG15, sec. 13], on random images:

    SGD                         a step with momentum; PyTorch eagerly and fused, JAX compiled
    K-FAC                       gradient, factors, inverses and step anew; curvlinops, BackPACK, kfac-jax
    K-FAC, the paper's periods  20 steps of the whole algorithm, inverses once in 20 steps; next to SGD

Same weights, inputs, precision and number of threads, in one run, in alternating order; gradients and
velocities are checked to agree, factors and steps of curvlinops too. Prints tables and writes
benchmarks/results/autoencoder.json.
"""

import copy
import os
import statistics
from functools import partial
from typing import Any

import common
import contenders
import nets
import numpy as np
import steps
import torch

import minikfac as mk

LEARNING_RATE, MOMENTUM = 0.01, 0.9
PERIOD = 20
"""Steps of one period: T2 = T3 of K-FAC's defaults, four times T1."""
EXAMPLES_OF_PERIODS = 1024


def run_sgd(n: int, repeats: int, rate: float, jax: str | None, threads: int) -> dict[str, Any]:
    problem = nets.make_autoencoder(n)
    *_, x, y, module = problem
    loss, options = torch.nn.BCEWithLogitsLoss(), {"lr": LEARNING_RATE, "momentum": MOMENTUM}
    data = contenders.torch_input(x), torch.from_numpy(y)
    fused = contenders.torch_sgd(copy.deepcopy(module), *data, loss, **options, fused=True)
    more: dict[str, contenders.Job] = {"PyTorch, fused": fused}
    process = steps.Jax(jax, "SGD", "autoencoder", n, threads, **options) if jax else None
    if process:
        more["JAX, compiled"] = process.step
    run = steps.run("SGD", problem, loss, repeats, rate, more, **options)
    return run | ({"jax": process.close()} if process else {})


def run_kfac(n: int, repeats: int, rate: float, jax: str | None, threads: int) -> dict[str, Any]:
    """With Gaussian outputs: BackPACK's K-FAC has no Bernoulli units."""
    problem = nets.make_autoencoder(n, output=mk.outputs.Gaussian())
    explicit = contenders.minikfac_kfac(*problem[:-1], explicit=True)
    more: dict[str, contenders.Job] = {"minikfac, explicit inverses": explicit}
    process = steps.Jax(jax, "K-FAC", "autoencoder", n, threads, damping=contenders.DAMPING) if jax else None
    if process:
        more["kfac-jax"] = process.step
    run = steps.run("K-FAC", problem, torch.nn.MSELoss(), repeats, rate, more)
    return run | ({"kfac_jax": process.close()} if process else {})


def run_periods(repeats: int, rate: float) -> dict[str, Any]:
    """Ours alone: seconds of a step, of K-FAC with its defaults over one period and of SGD."""
    n = EXAMPLES_OF_PERIODS
    net, _, x, y, _ = nets.make_autoencoder(n)
    theta = net.init(np.random.default_rng(0), "sparse").astype(np.float32)
    optimizers = {
        "K-FAC": mk.optim.KFAC(net, lam=150.0),
        "SGD": mk.optim.SGD(net, LEARNING_RATE, MOMENTUM),
    }

    def advance(who: str, theta: Any, state: Any, count: int) -> tuple[Any, Any]:
        for _ in range(count):
            rng = np.random.default_rng([0, state["step"]])
            theta, state, info = optimizers[who].step(theta, state, (x, y), rng)
            if not np.isfinite(info["loss"]):
                raise SystemExit(f"expected a finite loss of {who} in step {state['step']}")
        return theta, state

    starts = {who: advance(who, theta, opt.init(theta), 3) for who, opt in optimizers.items()}
    jobs: dict[str, contenders.Job] = {
        who: partial(advance, who, *start, PERIOD) for who, start in starts.items()
    }
    seconds = {
        who: [total / PERIOD for total in times] for who, times in common.alternate(jobs, repeats).items()
    }
    medians = {who: statistics.median(times) for who, times in seconds.items()}
    ratio = medians["K-FAC"] / medians["SGD"]
    print(f"A step of K-FAC with the paper's periods: P = {net.n_params:,}, N = {n}, float32")
    for who, median in medians.items():
        print(f"  {who:<28}{median:9.3f} s  ({min(seconds[who]):.3f} to {max(seconds[who]):.3f})")
    print(f"  K-FAC / SGD: {ratio:.2f}.", end="")
    parts = needed_by_periods(net, optimizers["K-FAC"], x.shape)
    floor = steps.print_floor(parts, rate)
    lines = {line: total / PERIOD for line, total in common.line_seconds(jobs["K-FAC"], 1).items()}
    steps.print_lines(lines)
    return {
        "job": "K-FAC, the paper's periods",
        "parameters": net.n_params,
        "examples": n,
        "dtype": "float32",
        "steps": PERIOD,
        "seconds_of_a_step": seconds,
        "medians": medians,
        "ratio_to_sgd": ratio,
        "gflop_needed_in_a_step": parts,
        "floor_seconds": floor,
        "core_seconds_by_line": lines,
    }


def needed_by_periods(net: mk.Network, kfac: mk.optim.KFAC, shape: tuple[int, ...]) -> dict[str, float]:
    """GFLOP of a step by part, the mean over a period; every part of the batch has its own passes."""
    n, *extents = shape
    whole, S1, S2 = (steps.totals(net, (round(n * share), *extents)) for share in (1, kfac.tau1, kfac.tau2))
    proposals = 1 + 2 / kfac.T2  # three values of gamma once
    tangent = S2["forward"] + S2["derivative by inputs"]  # dW and dx go through every layer but the first
    return {
        **{part: whole[part] for part in ("forward", "weight gradient", "derivative by inputs")},
        "forward and derivative by inputs, S1": S1["forward"] + S1["derivative by inputs"],
        "A and G of S1": S1["A"] + S1["G"],
        "inverses": whole["inverses"] * 3 / kfac.T3,
        "preconditioning": whole["preconditioning"] * proposals,
        "quadratic model, S2": S2["forward"] + tangent * (proposals + 1),
        "reduction ratio": whole["forward"] / kfac.T1,
    }


def main() -> None:
    common.spin_shortly()
    arguments = steps.parser(__doc__, examples=512).parse_args()
    facts = common.machine()
    common.use_threads(arguments.threads)
    if arguments.sgd_alone:
        rate = common.product_rate(np.matmul, *common.operands(np.float32))
        steps.hand_over(
            arguments, run_sgd(arguments.examples, arguments.repeats, rate, arguments.jax, arguments.threads)
        )
        return
    small = nets.make_autoencoder(8, width=0.1, output=mk.outputs.Gaussian())
    differences = steps.compare_with_curvlinops(*small, torch.nn.MSELoss())
    print(f"exact expectation, against curvlinops: largest difference {max(differences.values()):.0e}")
    rate = common.product_rate(np.matmul, *common.operands(np.float32))
    print(f"{facts['cpu']}, {arguments.threads} threads; matrix products in float32: {rate:.0f} GFLOP/s")
    timeout = os.environ["OPENBLAS_THREAD_TIMEOUT"]
    print(f"OPENBLAS_THREAD_TIMEOUT={timeout}\n")
    n, repeats = arguments.examples, arguments.repeats
    races_of_sgd = [
        run_sgd(n, repeats, rate, arguments.jax, arguments.threads),
        steps.keeping_memory(__file__, arguments),
    ]
    record = {
        "machine": facts,
        "threads": arguments.threads,
        "openblas_thread_timeout": timeout,
        "gflop_per_second": rate,
        "differences_from_curvlinops": differences,
        "sgd": steps.better_ratio(races_of_sgd),
        "runs": [
            *races_of_sgd,
            run_kfac(n, repeats, rate, arguments.jax, arguments.threads),
            run_periods(repeats, rate),
        ],
    }
    common.write("autoencoder", record)


if __name__ == "__main__":
    main()
