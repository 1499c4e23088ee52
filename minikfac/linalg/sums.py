"""Sums over chunks of examples: of arrays, and of Gram matrices M^T M.

A Gram matrix is symmetric, so only the tiles on and to the right of the diagonal are computed, and mirrored
once at the end. (BLAS has a routine for this, but called through SciPy it would block other threads.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial

from ..backend import Array, array_module
from ..distributed import SERIAL, Communicator
from ..parallel import blas_threads, for_each

_TILE = 128
"""Columns per tile of a Gram matrix: enough for fast products, few enough to waste little on the diagonal."""
GRAM_SHARE = 0.57
"""Work of a tiled Gram matrix relative to a general product of the same size, for about 800 columns."""


class Sums:
    """Running sums by name, which take ownership of the arrays that are added.

    Until it is complete, a Gram matrix is kept apart, as a sum of tiles and a list of pending rows; then it
    joins the other sums.

    Args:
        whole: whether there is only one chunk, computed on all threads, so that nothing is added in place.
    """

    def __init__(self, whole: bool = False) -> None:
        self._whole = whole
        self._arrays: dict[Hashable, Array] = {}
        self._halves: dict[Hashable, Array] = {}
        self._rows: dict[Hashable, list[Array]] = {}
        self._grams: set[Hashable] = set()

    def add(self, name: Hashable, array: Array) -> None:
        """Add an array."""
        if name in self._arrays:
            self._arrays[name] += array
        else:
            self._arrays[name] = array

    def add_gram(self, name: Hashable, M: Array) -> None:
        """Add M^T M (I, I) for M (rows, I), which must not change, as small M are collected first."""
        self._grams.add(name)
        if self._whole:
            self.add(name, M.T @ M)
            return
        waiting = self._rows.setdefault(name, [])
        waiting.append(M)
        if 2 * sum(map(len, waiting)) >= M.shape[1]:
            self._multiply(name)

    def _multiply(self, name: Hashable) -> None:
        """Multiply the pending rows: only tiles on and to the right of the diagonal are set."""
        waiting = self._rows.pop(name)
        xp = array_module(*waiting)
        M = waiting[0] if len(waiting) == 1 else xp.concatenate(waiting)
        begun = name in self._halves
        if not begun:
            self._halves[name] = xp.empty((M.shape[1],) * 2, dtype=M.dtype)
        half = self._halves[name]
        for start in range(0, len(half), _TILE):
            columns, tiles = M[:, start : start + _TILE], half[start : start + _TILE, start:]
            if begun:
                tiles += columns.T @ M[:, start:]
            else:
                xp.matmul(columns.T, M[:, start:], out=tiles)

    def complete(self, name: Hashable) -> None:
        """Complete a Gram matrix: multiply the pending rows and mirror the tiles."""
        if name in self._rows:
            self._multiply(name)
        half = self._halves.pop(name)
        for start in range(0, len(half), _TILE):
            stop = start + _TILE
            half[stop:, start:stop] = half[start:stop, stop:].T
            tile = half[start:stop, start:stop]
            tile[...] = (tile + tile.T) / 2  # its two sides differ by rounding
        # not in place, so that arrays read earlier do not change
        self._arrays[name] = self._arrays[name] + half if name in self._arrays else half

    @property
    def incomplete(self) -> list[Hashable]:
        """Names of the Gram matrices that still need :meth:`complete`."""
        return list({**self._halves, **self._rows})

    def __getitem__(self, name: Hashable) -> Array:
        """The current sum."""
        if name in self._halves or name in self._rows:
            self.complete(name)
        return self._arrays[name]

    def __contains__(self, name: Hashable) -> bool:
        return name in self._arrays or name in self._halves or name in self._rows

    def merge(self, other: Sums) -> None:
        """Add another object's sums, which must not be used afterwards."""
        self._grams |= other._grams
        for name, array in other._arrays.items():
            self.add(name, array)
        for name, half in other._halves.items():
            if name not in self._halves:
                self._halves[name] = half
                continue
            for start in range(0, len(half), _TILE):
                self._halves[name][start : start + _TILE, start:] += half[start : start + _TILE, start:]
        for name, rows in other._rows.items():
            self._rows.setdefault(name, []).extend(rows)

    def over_ranks(self, comm: Communicator, count: bool = True) -> None:
        """Sum complete sums over all ranks; Gram matrices send only the tiles described above.

        Args:
            comm: the ranks.
            count: whether this rank contributes; otherwise it only takes part in the communication.
        """
        xp = array_module(*self._arrays.values())
        self._arrays = {name: xp.asarray(self._arrays[name]) for name in sorted(self._arrays, key=str)}
        pieces = [piece for name in self._arrays for piece in self._pieces(name)]
        totals = comm.sum(pieces if count else [0 * piece for piece in pieces])
        for piece, total in zip(pieces, totals, strict=True):
            piece[...] = total
        for name in self._grams:
            array = self._arrays[name]
            for start in range(0, len(array), _TILE):
                stop = start + _TILE
                array[stop:, start:stop] = array[start:stop, stop:].T

    def _pieces(self, name: Hashable) -> Iterator[Array]:
        """The independent entries of a sum: all of it, or the tiles on and to the right of the diagonal."""
        array = self._arrays[name]
        if name not in self._grams:
            yield array
            return
        for start in range(0, len(array), _TILE):
            yield array[start : start + _TILE, start:]


def sum_over_chunks(
    add: Callable[[slice, Sums], None], rows: Sequence[slice], like: Array, comm: Communicator = SERIAL
) -> Sums:
    """Sum the contributions of all chunks of examples over all cores and ranks.

    Each thread keeps one set of sums, so memory does not grow with the number of chunks.

    Args:
        add: adds the contribution of a chunk, given its rows, to the sums.
        rows: this rank's chunks, from :meth:`minikfac.Network.chunks`.
        like: an array whose backend is used.
        comm: the ranks.
    """
    some = bool(rows)
    rows = rows or [slice(0, 1)]  # a rank without examples adds nothing, but needs the names of the sums

    def strand(chunks: Sequence[slice]) -> Sums:
        sums = Sums(whole=len(rows) == 1)
        for chunk in chunks:
            add(chunk, sums)
        return sums

    strands = min(len(rows), blas_threads(like))
    total, *others = for_each([partial(strand, rows[s::strands]) for s in range(strands)], like)
    for other in others:
        total.merge(other)
    for_each([partial(total.complete, name) for name in total.incomplete], like)
    if comm.size > 1:
        total.over_ranks(comm, some)
    return total
