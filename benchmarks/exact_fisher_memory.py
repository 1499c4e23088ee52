"""Peak memory and time of the exact Fisher matrix, each case in a process of its own.

Peak memory is that of the process less what the interpreter holds with everything imported; it is given
as a multiple of the (P, P) result. Prints a table and writes benchmarks/results/exact_fisher_memory.json.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

CASES: list[dict[str, Any]] = [
    {"sizes": [256, 20, 20, 20, 20, 20, 10], "dtype": "float32", "examples": 1000},
    {"sizes": [256, 20, 20, 20, 20, 20, 10], "dtype": "float64", "examples": 1000},
    {"sizes": [824, 24, 8], "dtype": "float64", "examples": 1000},  # P = 20,000
    {"sizes": [99, 120, 40, 60, 12], "dtype": "float64", "examples": 1000},  # P = 20,032, wide layers
]


def measure(case: dict[str, Any], threads: int) -> None:
    """Run one case in this process and print what it took, as JSON."""
    import common
    import numpy as np

    import minikfac as mk
    from minikfac import fisher

    common.use_threads(threads)
    rng = np.random.default_rng(0)
    net = mk.mlp(case["sizes"])
    theta = net.init(rng).astype(case["dtype"])
    x = rng.standard_normal((case["examples"], case["sizes"][0])).astype(case["dtype"])
    small = mk.mlp([3, 2])  # touches all code once, so that it counts as imported
    fisher.exact(fisher.signals(small, small.init(rng), rng.standard_normal((5, 3))))
    baseline = common.resident("VmRSS")
    start = time.perf_counter()
    signals = fisher.signals(net, theta, x)
    F = fisher.exact(signals).array
    seconds = time.perf_counter() - start
    peak = common.resident("VmHWM")
    assert np.isfinite(F.trace()) and F.shape == (net.n_params, net.n_params)
    record = {
        "parameters": net.n_params,
        "seconds": seconds,
        "baseline_bytes": baseline,
        "peak_bytes": peak,
        "result_bytes": F.nbytes,
        "signals_bytes": sum(layer.abar.nbytes + layer.g.nbytes for layer in next(iter(signals))),
        "peak_over_result": (peak - baseline) / F.nbytes,
    }
    print(json.dumps(record))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measure(json.loads(arguments.case), arguments.threads)
        return

    import common

    facts = common.machine()
    runs = []
    print(
        f"{'net':<28}{'P':>8}  {'dtype':<8}{'seconds':>9}{'result':>11}{'signals':>10}{'peak':>11}   multiple"
    )
    for case in CASES:
        command = [sys.executable, __file__, "--threads", str(arguments.threads), "--case", json.dumps(case)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{case}: {done.stderr}")
        record = json.loads(done.stdout)
        gib = {key: record[f"{key}_bytes"] / 2**30 for key in ("result", "signals", "peak", "baseline")}
        print(
            f"{'-'.join(map(str, case['sizes'])):<28}{record['parameters']:>8,}  {case['dtype']:<8}"
            f"{record['seconds']:>9.2f}{gib['result']:>7.2f} GiB{gib['signals']:>6.2f} GiB"
            f"{gib['peak'] - gib['baseline']:>7.2f} GiB{record['peak_over_result']:>10.2f} x",
            flush=True,
        )
        runs.append({**case, **record})
    common.write("exact_fisher_memory", {"machine": facts, "threads": arguments.threads, "runs": runs})


if __name__ == "__main__":
    main()
