"""What the benchmarks share: alternating timings, facts about the machine, and records."""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("minikfac", "numpy", "scipy", "torch", "curvlinops-for-pytorch", "nngeometry")


def use_threads(n: int) -> None:
    """Give both sides the same number of threads, for the rest of the process."""
    threadpool_limits(n)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)


def alternate(
    contenders: dict[str, Callable[[], Any]], repeats: int, check: Callable[[str, Any], None] | None = None
) -> dict[str, list[float]]:
    """Time functions in turn, in an order that is reversed each round, after one round that is not timed.

    After three timed rounds, a function that has taken more than a minute in all sits out.

    Args:
        contenders: by name; each returns its result.
        repeats: rounds that are timed.
        check: is given the name and the result of the first round; raises where they disagree.

    Returns:
        Seconds of every round, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for lap in range(repeats + 1):
        for name in names if lap % 2 else reversed(names):
            if len(seconds[name]) >= 3 and sum(seconds[name]) > 60:
                continue
            _status(f"  round {lap} of {repeats}: {name}")
            start = time.perf_counter()
            result = contenders[name]()
            duration = time.perf_counter() - start
            if lap > 0:
                seconds[name].append(duration)
            elif check is not None:
                check(name, result)
            del result
    _status("")
    return seconds


def _status(text: str) -> None:
    if sys.stderr.isatty():
        print(f"{text:<70}", end="\r", file=sys.stderr, flush=True)


def product_rate(matmul: Callable[[Any, Any], Any], a: Any, b: Any, repeats: int = 9) -> float:
    """Measure billions of floating-point operations per second of a matrix product, the median run's."""
    seconds = alternate({"matrix product": lambda: matmul(a, b)}, repeats)["matrix product"]
    return 2 * a.shape[0] * a.shape[1] * b.shape[1] / statistics.median(seconds) / 1e9


def operands(dtype: Any, n: int = 1000, size: int = 2000) -> tuple[Any, Any]:
    """Make two NumPy matrices of the shapes that matter here: a sum over ``n`` examples."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((size, n)).astype(dtype), rng.standard_normal((n, size)).astype(dtype)


def machine() -> dict[str, Any]:
    """Where and with what versions a record was made."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "commit": _commit(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write(name: str, record: dict[str, Any]) -> None:
    """Write ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path.relative_to(Path(__file__).parent.parent)}")
