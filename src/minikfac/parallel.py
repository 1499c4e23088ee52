"""Work that falls into independent pieces, on all cores.

Each matrix product inside a piece then runs on one thread. That is faster than one piece after the other
with products on all threads, because what NumPy does in between runs on one thread only; and for patches
of images, whose pieces fit into the cache, faster than one large product by far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import TypeVar

from .backend import Array, array_module

T = TypeVar("T")

_CHUNK = 2**20
"""Numbers in the largest array of a chunk: enough for fast matrix products, few enough for the cache."""


def for_each(tasks: Sequence[Callable[[], T]], like: Array) -> list[T]:
    """Run tasks that do not touch each other's data, on as many threads as BLAS would use for a product.

    On a GPU, or where threadpoolctl cannot steer BLAS, they run one after the other.

    Args:
        tasks: functions without arguments.
        like: one of the arrays at work; it tells the device.

    Returns:
        Their results, in the order of the tasks.
    """
    if len(tasks) < 2 or array_module(like).__name__ != "numpy":
        return [task() for task in tasks]
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return [task() for task in tasks]
    blas = ThreadpoolController().select(user_api="blas")
    threads = max((library["num_threads"] for library in blas.info()), default=1)
    if threads == 1:
        return [task() for task in tasks]
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda task: task(), tasks))


def chunks(n: int, example_size: int, like: Array) -> list[slice]:
    """Divide n examples into runs of about equal length whose arrays fit into the cache.

    Args:
        n: how many.
        example_size: numbers in the largest array that one example needs.
        like: one of the arrays at work; on a GPU there is one chunk, which keeps it busy.
    """
    if array_module(like).__name__ != "numpy":
        return [slice(0, n)]
    count = math.ceil(n / max(1, _CHUNK // max(1, example_size)))
    if count > 1:
        count = min(n, count + count % 2)  # so that two threads end together
    ends = [n * number // count for number in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def sum_over_chunks(
    statistic: Callable[[slice], Sequence[Array]], rows: Sequence[slice], like: Array
) -> list[Array]:
    """Add up the arrays that ``statistic`` gives for each chunk of the examples.

    One running sum is kept per thread, so the memory does not grow with the number of chunks.

    Args:
        statistic: takes the rows of a chunk, returns arrays that it made for the sum alone.
        rows: of :func:`chunks`.
        like: one of the arrays at work.
    """
    if len(rows) == 1:
        return list(statistic(rows[0]))
    strands = min(len(rows), 8)

    def strand(own: Sequence[slice]) -> list[Array]:
        total = list(statistic(own[0]))
        for part in own[1:]:
            for place, found in enumerate(statistic(part)):
                total[place] += found
        return total

    total, *others = for_each([partial(strand, rows[s::strands]) for s in range(strands)], like)
    for other in others:
        for place, found in enumerate(other):
            total[place] += found
    return total
