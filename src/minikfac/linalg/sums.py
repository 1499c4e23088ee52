"""Sums over chunks of examples: of arrays, and of Gram matrices M^T M.

A Gram matrix is symmetric, so half of it is computed, and added where the sum lies: no second matrix of
that size is written for every chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import scipy.linalg

from ..backend import Array, array_module
from ..parallel import blas_threads, for_each


class Sums:
    """Running sums by name; an array that is added belongs to the sum from then on."""

    def __init__(self) -> None:
        self._arrays: dict[Hashable, Array] = {}
        self._halves: dict[Hashable, Array] = {}

    def add(self, name: Hashable, array: Array) -> None:
        """Add an array."""
        if name in self._arrays:
            self._arrays[name] += array
        else:
            self._arrays[name] = array

    def add_gram(self, name: Hashable, M: Array) -> None:
        """Add M^T M (I, I) for M (rows, I)."""
        xp = array_module(M)
        if xp.__name__ != "numpy":
            self.add(name, M.T @ M)
            return
        if name not in self._halves:
            self._halves[name] = xp.zeros((M.shape[1],) * 2, dtype=M.dtype, order="F")
        (update,) = scipy.linalg.get_blas_funcs(("syrk",), (M,))
        # M.T lies in columns, as BLAS has it: nothing is copied
        total = update(1.0, M.T, beta=1.0, c=self._halves[name], overwrite_c=1, lower=1)
        self._halves[name] = total

    def __getitem__(self, name: Hashable) -> Array:
        """A sum as it stands."""
        if name not in self._halves:
            return self._arrays[name]
        half = array_module(self._halves[name]).tril(self._halves[name], -1)
        return half + half.T + array_module(half).diag(self._halves[name].diagonal())

    def __contains__(self, name: Hashable) -> bool:
        return name in self._arrays or name in self._halves

    def merge(self, other: Sums) -> None:
        """Add the sums of another."""
        for name, array in other._arrays.items():
            self.add(name, array)
        for name, half in other._halves.items():
            self._halves[name] = self._halves[name] + half if name in self._halves else half


def sum_over_chunks(add: Callable[[slice, Sums], None], rows: Sequence[slice], like: Array) -> Sums:
    """Let ``add`` put what each chunk of the examples contributes into sums, on all cores.

    One set of sums is kept per thread, so the memory does not grow with the number of chunks.

    Args:
        add: takes the rows of a chunk and the sums.
        rows: of :func:`minikfac.parallel.chunks`.
        like: one of the arrays at work.
    """

    def strand(own: Sequence[slice]) -> Sums:
        sums = Sums()
        for part in own:
            add(part, sums)
        return sums

    strands = min(len(rows), blas_threads(like))
    total, *others = for_each([partial(strand, rows[s::strands]) for s in range(strands)], like)
    for other in others:
        total.merge(other)
    return total
