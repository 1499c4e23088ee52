"""What the benchmarks share: timings in turn, memory, where time goes, the machine, records."""

import concurrent.futures.thread
import importlib.metadata
import json
import linecache
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).parent / "results"
LIBRARIES = (
    "minikfac",
    "cupy-cuda12x",
    "numpy",
    "scipy",
    "torch",
    "curvlinops-for-pytorch",
    "backpack-for-pytorch",
    "nngeometry",
)


def use_threads(n: int) -> None:
    """Give both sides the same number of threads, for the rest of the process.

    SciPy brings an OpenBLAS beside NumPy's, which is limited only where it is loaded by then.
    """
    import scipy.linalg  # noqa: F401

    threadpool_limits(n)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)


def spin_shortly() -> None:
    """Start the script anew with ``OPENBLAS_THREAD_TIMEOUT=14``, unless the variable is set.

    After a product the threads of OpenBLAS wait for the next one at full speed, by default for many
    milliseconds; with 14 for 2^14 cycles. The wheels of NumPy and SciPy bring an OpenBLAS each, and where
    both are used in turn, the waiting threads of one are in the way of the other. It is read when NumPy is
    imported.
    """
    if "OPENBLAS_THREAD_TIMEOUT" not in os.environ:
        os.environ["OPENBLAS_THREAD_TIMEOUT"] = "14"
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


PAUSE = 0.2
"""Seconds before each timed function."""


def alternate(
    contenders: dict[str, Callable[[], Any]], repeats: int, check: Callable[[str, Any], None] | None = None
) -> dict[str, list[float]]:
    """Time functions in turn, in an order that is reversed each round, after one round that is not timed.

    Before each there is a pause: threads of the last one's library wait for work at full speed for a while.
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
            time.sleep(PAUSE)
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


def line_seconds(work: Callable[[], Any], runs: int, package: str = "minikfac") -> dict[str, float]:
    """Find the lines of a package that take the time, by looking every millisecond where each thread is.

    Args:
        work: is run ``runs`` times, after once that does not count.
        package: a line of it answers for all that it calls.

    Returns:
        Seconds per run by "function: line", added up over threads, the longest first, those above half a
        percent. Lines that wait for other threads are left out.
    """
    waiting = {threading.__file__, concurrent.futures.thread.__file__}
    seconds_by_line: Counter[str] = Counter()
    done = threading.Event()

    def watch() -> None:
        last = time.perf_counter()
        while not done.wait(1e-3):
            now = time.perf_counter()
            for thread, frame in sys._current_frames().items():
                if thread == threading.get_ident() or frame.f_code.co_filename in waiting:
                    continue
                at: Any = frame
                while at is not None and not at.f_globals.get("__name__", "").startswith(package):
                    at = at.f_back
                if at is not None:
                    line = linecache.getline(at.f_code.co_filename, at.f_lineno or 0).strip()
                    seconds_by_line[f"{at.f_code.co_qualname}: {line}"] += (now - last) / runs
            last = now

    work()
    watcher = threading.Thread(target=watch)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # the watcher is let in soon
    watcher.start()
    try:
        for _ in range(runs):
            work()
    finally:
        done.set()
        watcher.join()
        sys.setswitchinterval(interval)
    total = seconds_by_line.total()
    return {line: seconds for line, seconds in seconds_by_line.most_common() if seconds > 0.005 * total}


def resident(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most so far, or since :func:`forget_peak`."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"expected {field} in /proc/self/status")


def forget_peak() -> None:
    """Let VmHWM begin anew at what the process holds now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def on_ranks(script: str, ranks: int, *arguments: str) -> Any:
    """Run a script under mpirun, as ``script --rank FILE arguments``; return what rank 0 wrote into FILE."""
    from minikfac.distributed import mpirun

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command, environment = mpirun(ranks, [sys.executable, script, "--rank", str(path), *arguments])
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"mpirun -n {ranks} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return json.loads(path.read_text(encoding="utf-8"))


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


def write(name: str, record: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write ``benchmarks/results/<name>.json``, or into another folder."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path.relative_to(Path(__file__).parent.parent) if folder == RESULTS else path}")
