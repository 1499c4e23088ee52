"""Averages of statistics over steps."""

from __future__ import annotations

from collections.abc import Sequence

from ..backend import Array

Groups = Sequence[tuple[Array, ...]]


def moving_average(old: Groups | None, new: Groups, k: int, decay: float) -> list[tuple[Array, ...]]:
    """Return eps old + (1 - eps) new with eps = min(1 - 1/k, decay), group by group [MG15, sec. 5].

    The first step takes the new as it is, the first 1 / (1 - decay) steps a flat mean.

    Args:
        old: of the last step, None before the first.
        new: arrays of this step in the same groups.
        k: how many statistics were taken with this one, from 1: the step, where each step takes some.
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
