"""Where the pieces of an array lie, one after the other."""

from collections.abc import Iterable
from itertools import accumulate, pairwise


def consecutive(sizes: Iterable[int]) -> tuple[slice, ...]:
    """Return a slice for each size, the first from 0.

    >>> consecutive([2, 3])
    (slice(0, 2, None), slice(2, 5, None))
    """
    return tuple(slice(start, stop) for start, stop in pairwise(accumulate(sizes, initial=0)))
