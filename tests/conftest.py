"""Hypothesis profiles, and the markers that skip where hardware or a library is missing."""

import functools
import importlib.util
import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")

# Speed is never a reason to fail: machines differ.
settings.register_profile(
    "default", max_examples=20, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", settings.get_profile("default"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def missing(*libraries: str) -> str | None:
    """Why a test that needs these libraries must be skipped, or None."""
    absent = [name for name in libraries if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def no_gpu() -> str | None:
    if reason := missing("cupy"):
        return reason
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no CUDA device: {error}"
    return None if count else "no CUDA device"


def no_mpi() -> str | None:
    if reason := missing("mpi4py"):
        return reason
    import mpi4py

    from minikfac.distributed import mpirun

    mpi4py.rc.initialize = False  # or this process would be a rank, and could start no others
    try:
        importlib.import_module("mpi4py.MPI")
        mpirun(1, [])
    except (ImportError, RuntimeError) as error:
        return f"mpi4py finds no MPI library: {error}"
    except FileNotFoundError as error:
        return str(error)
    return None


def no_browser() -> str | None:
    return missing("playwright") or (None if shutil.which("chromium") else "no chromium on the path")


REASON_TO_SKIP = {
    "browser": no_browser,
    "gpu": functools.cache(no_gpu),
    "mpi": functools.cache(no_mpi),
    "oracle": functools.cache(lambda: missing("torch", "curvlinops", "nngeometry")),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, reason_to_skip in REASON_TO_SKIP.items():
        if item.get_closest_marker(marker) and (reason := reason_to_skip()):
            pytest.skip(reason)
