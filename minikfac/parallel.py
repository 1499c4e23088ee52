"""Work that falls into independent pieces, on all cores.

Each matrix product inside a piece then runs on one thread. That is faster than one piece after the other
with products on all threads, because what NumPy does in between runs on one thread only; and for patches
of images, faster and in less memory than one large product by far. A product of matrices of some hundred
rows takes microseconds: handing half of it to another thread gains little on an idle machine and loses much
on a busy one, where each product waits for the slower half.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, TypeVar

from .backend import Array, on_host

T = TypeVar("T")

_CHUNK = 2**20
"""Numbers in the largest array of a chunk: enough for fast matrix products, and few enough that a layer finds
what the last one left in the cache, in memory that is used again and again."""
WORTH_DIVIDING = 10**8
"""Multiplications of a forward pass from which on two threads pay; below, they wait for each other."""


def for_each(tasks: Sequence[Callable[[], T]], like: Array) -> list[T]:
    """Run tasks that do not touch each other's data, on as many threads as BLAS would use for a product.

    On a GPU, or where threadpoolctl cannot steer BLAS, they run one after the other.

    Args:
        tasks: functions without arguments.
        like: one of the arrays at work; it tells the device.

    Returns:
        Their results, in the order of the tasks.
    """
    threads = blas_threads(like) if len(tasks) > 1 else 1
    blas = _controller()
    if threads == 1 or blas is None:
        return [task() for task in tasks]
    with blas.limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda task: task(), tasks))


def blas_threads(like: Array) -> int:
    """How many threads a matrix product of such arrays uses; 1 where that cannot be known or steered."""
    blas = _controller()
    if not on_host(like) or blas is None:
        return 1
    return max(
        (library["num_threads"] for library in blas.info() if library["user_api"] == "blas"), default=1
    )


def _controller() -> Any:
    """What steers the threads of BLAS; None without threadpoolctl."""
    try:
        import threadpoolctl
    except ImportError:
        return None
    return _loaded(threadpoolctl)


@cache
def _loaded(threadpoolctl: ModuleType) -> Any:
    """The BLAS libraries that are loaded: looked up once, since that takes as long as a small step."""
    return threadpoolctl.ThreadpoolController()


def chunks(n: int, example_size: int, like: Array, example_work: int = 0) -> list[slice]:
    """Divide n examples into runs of about equal length whose arrays are of moderate size.

    Args:
        n: how many.
        example_size: numbers in the largest array that one example needs.
        like: one of the arrays at work; on a GPU there is one chunk, which keeps it busy.
        example_work: multiplications that one example takes in a forward pass.
    """
    if not on_host(like):
        return [slice(0, n)]
    count = max(1, math.ceil(n / max(1, _CHUNK // max(1, example_size))))
    if count > 1 or n * example_work >= WORTH_DIVIDING:
        count = min(n, count + count % 2)  # so that two threads end together
    ends = [n * number // count for number in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


_within = 0
"""How many blocks of :func:`one_thread` are open."""


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """Let BLAS use one thread while the block runs, where threadpoolctl can steer it."""
    global _within
    blas = _controller() if wanted and not _within else None
    if blas is None:
        yield
        return
    with blas.limit(limits=1, user_api="blas"):
        _within += 1
        try:
            yield
        finally:
            _within -= 1


def workers(most: int) -> int:
    """How many tasks to run at a time: as many as there are cores, but not more than ``most``."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return max(1, min(cores, most))
