"""Work that falls into independent pieces, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..backend import Array, array_module


def for_each(tasks: Sequence[Callable[[], None]], like: Array) -> None:
    """Run tasks that write to different places, on as many threads as BLAS would use for a product.

    Each matrix product inside then runs on one thread. That is faster than one task after the other with
    products on all threads, because what NumPy does in between runs on one thread only. On a GPU, or
    where threadpoolctl cannot steer BLAS, the tasks run one after the other.

    Args:
        tasks: functions without arguments.
        like: one of the arrays at work; it tells the device.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        threads = 1
    else:
        blas = ThreadpoolController().select(user_api="blas")
        threads = max((library["num_threads"] for library in blas.info()), default=1)
    if threads == 1 or array_module(like).__name__ != "numpy":
        for task in tasks:
            task()
        return
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda task: task(), tasks):
            pass
