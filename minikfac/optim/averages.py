"""Averages of statistics over steps."""

from __future__ import annotations

from collections.abc import Sequence

from ..backend import Array

Groups = Sequence[tuple[Array, ...]]


def moving_average(old: Groups | None, new: Groups, k: int, decay: float) -> list[tuple[Array, ...]]:
    """Return eps old + (1 - eps) new with eps = min(1 - 1/k, decay), group by group [MG15, sec. 5].

    The first step uses only the new arrays, and the first 1 / (1 - decay) steps a uniform mean.

    Args:
        old: averages of the last step, None before the first.
        new: arrays of this step in the same groups.
        k: number of updates including this one, from 1; the step number if every step updates.
        decay: in [0, 1).
    """
    if old is None:
        return list(new)
    eps = min(1 - 1 / k, decay)
    return [
        tuple(_average(a, b, eps) for a, b in zip(before, now, strict=True))
        for before, now in zip(old, new, strict=True)
    ]


def _average(old: Array, new: Array, eps: float) -> Array:
    """eps old + (1 - eps) new."""
    average = eps * old
    average += (1 - eps) * new
    return average
