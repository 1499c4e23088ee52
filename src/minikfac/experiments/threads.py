"""Threads: one for each product, several for tasks that do not depend on each other.

A product of matrices of some hundred rows takes microseconds; handing half of it to another thread gains
little on an idle machine and loses much on a busy one, where each product waits for the slower half.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """Let BLAS use one thread while the block runs, where threadpoolctl can steer it."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # a comfort, not a need
        wanted = False
    with threadpool_limits(limits=1, user_api="blas") if wanted else nullcontext():
        yield


def workers(most: int) -> int:
    """How many tasks to run at a time: as many as there are cores, but not more than ``most``."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return max(1, min(cores, most))
