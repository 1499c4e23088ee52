"""Slices of consecutive pieces of an array."""

from collections.abc import Iterable
from itertools import accumulate, pairwise


def consecutive(sizes: Iterable[int]) -> tuple[slice, ...]:
    """Return one slice per size, the first starting at 0.

    >>> consecutive([2, 3])
    (slice(0, 2, None), slice(2, 5, None))
    """
    return tuple(slice(start, stop) for start, stop in pairwise(accumulate(sizes, initial=0)))
