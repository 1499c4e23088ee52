"""Peak memory of the jobs of conv.py, each contender in a process of its own.

Peak memory is that of the process during one pass, less what it held before with everything imported, the
net and the inputs there, and all code run once on tiny images. Prints a table and writes
benchmarks/results/conv_memory.json. Linux.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

JOBS = ("SGD", "K-FAC")
PEERS = {"SGD": ("PyTorch",), "K-FAC": ("curvlinops", "BackPACK")}
LAYOUTS = ("", ", channels last")


def measure(job: str, who: str, n: int, threads: int) -> None:
    """Run one job of one contender in this process and print what it took, as JSON."""
    import common
    import contenders
    import nets
    import torch

    common.use_threads(threads)
    loss, options = torch.nn.CrossEntropyLoss(), {"lr": 0.1} if job == "SGD" else {}
    contenders.make(job, *nets.make_conv(8, (3, 8, 8, 8), 8), loss, **options)[who]()
    work = contenders.make(job, *nets.make_conv(n), loss, **options)[who]
    common.forget_peak()
    baseline = common.resident("VmRSS")
    result = work()
    peak = common.resident("VmHWM")
    del result
    print(json.dumps({"baseline_bytes": baseline, "peak_bytes": peak, "bytes": peak - baseline}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measure(*arguments.case, arguments.examples, arguments.threads)
        return

    import common

    facts = common.machine()
    runs = []
    for job in JOBS:
        by_library = {}
        for who in ("minikfac", *(peer + layout for peer in PEERS[job] for layout in LAYOUTS)):
            sizes = ["--threads", str(arguments.threads), "--examples", str(arguments.examples)]
            command = [sys.executable, __file__, *sizes, "--case", job, who]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{job} step, {who}: {done.stderr}")
            by_library[who] = json.loads(done.stdout)
        least = min(peak["bytes"] for who, peak in by_library.items() if who != "minikfac")
        print(f"{job} step, N = {arguments.examples}, float32")
        for who, peak in by_library.items():
            print(f"  {who:<28}{peak['bytes'] / 2**20:9.0f} MiB")
        ratio = by_library["minikfac"]["bytes"] / least
        print(f"  minikfac / leanest peer: {ratio:.2f}\n", flush=True)
        run: dict[str, Any] = {
            "job": job,
            "examples": arguments.examples,
            "found": by_library,
            "ratio": ratio,
        }
        runs.append(run)
    common.write("conv_memory", {"machine": facts, "threads": arguments.threads, "runs": runs})


if __name__ == "__main__":
    main()
