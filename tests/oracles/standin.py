"""A stand-in for CuPy on a machine without a GPU: its arrays refuse to mix with those of the host.

As in CuPy, a host array beside a device array is a TypeError, and so is a conversion to the host that nobody
asked for; indices that are out of range wrap around; and a Cholesky factorization that breaks down leaves
finite nonsense unless it is asked to raise. The numbers are NumPy's.

``counted`` counts what a GPU would feel: how often the host waits for an answer, and what is sent.
"""

import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse.linalg


@dataclass
class Traffic:
    """Sizes of what crossed between host and device, in numbers.

    Attributes:
        to_host: one entry for each time that the host waited: arrays fetched, and answers to bool and float.
        to_device: one entry for each array sent.
    """

    to_host: list[int] = field(default_factory=list)
    to_device: list[int] = field(default_factory=list)


_WATCHING: list[Traffic] = []


@contextmanager
def counted(traffic: Traffic | None = None) -> Iterator[Traffic]:
    """Count traffic."""
    traffic = traffic or Traffic()
    _WATCHING.append(traffic)
    try:
        yield traffic
    finally:
        _WATCHING.remove(traffic)


def waited(size: int = 1) -> None:
    for traffic in _WATCHING:
        traffic.to_host.append(size)


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801
    """An array on the pretended device."""

    def __init__(self, host: Any) -> None:
        self._host = np.asarray(host)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed; use .get()")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return on_device(getattr(ufunc, method))(*inputs, **options)

    def __array_function__(self, function: Any, _: Any, args: Any, options: Any) -> Any:
        return on_device(function)(*args, **options)

    def __getattr__(self, name: str) -> Any:  # methods and attributes
        if name.startswith("__"):  # such as __array_interface__, the back door of np.asarray
            raise AttributeError(name)
        attribute = getattr(self._host, name)
        if name in ("item", "tolist"):
            waited(self._host.size)
        return on_device(attribute) if callable(attribute) else to_device(attribute)

    @property
    def device(self) -> Any:
        return _Device(0)

    def __getitem__(self, key: Any) -> Any:
        return ndarray(self._host[_wrapped(to_host(key), self._host.shape)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[to_host(key)] = to_host(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[Any]:
        return (ndarray(row) for row in self._host)

    def __bool__(self) -> bool:
        waited()
        return bool(self._host)

    def __float__(self) -> float:
        waited()
        return float(self._host)

    def __int__(self) -> int:
        waited()
        return int(self._host)

    def __index__(self) -> int:
        return int(self)

    def get(self) -> np.ndarray:
        waited(self._host.size)
        return self._host.copy()


def _wrapped(key: Any, shape: tuple[int, ...]) -> Any:
    """Indices as CuPy takes them; how many a mask chooses must be asked."""
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, np.ndarray) and part.dtype == bool for part in parts):
        waited()
    if any(part is None or part is Ellipsis for part in parts):
        return key
    indices = tuple(
        part % n if isinstance(part, np.ndarray) and part.dtype.kind in "iu" else part
        for part, n in zip(parts, shape, strict=False)
    )
    return indices if isinstance(key, tuple) else indices[0] if len(indices) == 1 else key


def to_host(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        raise TypeError("unsupported type <class 'numpy.ndarray'>: a host array beside a device array")
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(map(to_host, value))
    return value._host if isinstance(value, ndarray) else value


def to_device(value: Any) -> Any:
    """Wrap arrays, and NumPy's scalars, which CuPy leaves on the device as arrays without axes."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(value)
    if isinstance(value, tuple) and any(isinstance(part, np.ndarray) for part in value):
        return tuple(map(to_device, value))
    return value


def on_device(function: Callable) -> Callable:
    def call(*args: Any, **options: Any) -> Any:
        result = function(*map(to_host, args), **{name: to_host(value) for name, value in options.items()})
        out = options.get("out")
        return (out[0] if isinstance(out, tuple) else out) if out is not None else to_device(result)

    return call


class Module(types.ModuleType):
    """A library whose functions are those of another one, for arrays of the device."""

    def __init__(self, name: str, library: Any, **attributes: Any) -> None:
        super().__init__(name)
        self.__dict__.update(attributes, _library=library)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._library, name)
        return on_device(attribute) if callable(attribute) and not isinstance(attribute, type) else attribute


class _Local(threading.local):
    """What CuPy does where a factorization breaks down, and the queue at work; each thread has its own."""

    def __init__(self) -> None:
        self.linalg = ["ignore"]
        self.stream: _Stream | None = None


LOCAL = _Local()


@contextmanager
def _errstate(linalg: str) -> Iterator[None]:
    LOCAL.linalg.append(linalg)
    try:
        yield
    finally:
        LOCAL.linalg.pop()


def _cholesky(M: ndarray) -> ndarray:
    if LOCAL.linalg[-1] == "raise":
        waited()
    try:
        return ndarray(np.linalg.cholesky(to_host(M)))
    except np.linalg.LinAlgError:
        if LOCAL.linalg[-1] == "raise":
            raise
        return ndarray(np.tril(to_host(M)))


def _asarray(array: Any, dtype: Any = None) -> ndarray:
    if isinstance(array, ndarray):
        return array if dtype in (None, array.dtype) else ndarray(array._host.astype(dtype))
    host = np.array(array, dtype)
    for traffic in _WATCHING:
        traffic.to_device.append(host.size)
    return ndarray(host)


def _eigsh(operator: Any, k: int, *, which: str, tol: float, v0: ndarray) -> Any:
    n, product = operator.shape[0], operator.matvec
    host = scipy.sparse.linalg.LinearOperator(
        (n, n), lambda v: product(ndarray(v)).get(), dtype=operator.dtype
    )
    return to_device(scipy.sparse.linalg.eigsh(host, k, which=which, tol=tol, v0=v0.get()))


class _Generator:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Any:
        return on_device(getattr(self._rng, name))


class CUDARuntimeError(RuntimeError):
    """What CuPy raises where there is no GPU of that number."""


class _Device:
    """A GPU; there is one."""

    used: list[int] = []  # noqa: RUF012

    def __init__(self, number: int) -> None:
        self.id = number

    def __enter__(self) -> None:
        if self.id:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __exit__(self, *_: Any) -> None:
        pass

    def use(self) -> None:
        self.__enter__()
        self.used.append(self.id)


class _Event:
    """A mark in the queue of work, which is done at once here."""

    def record(self) -> None:
        self.at = time.perf_counter()
        self.stream = LOCAL.stream

    def synchronize(self) -> None:
        waited()


class _Stream:
    """A queue of work; what happens to it is written down."""

    log: list[str] = []  # noqa: RUF012

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking  # one that blocks would wait for the first queue

    def __enter__(self) -> "_Stream":
        self.before, LOCAL.stream = LOCAL.stream, self
        self.log.append("begin")
        return self

    def __exit__(self, *_: Any) -> None:
        LOCAL.stream = self.before

    def wait_event(self, event: _Event) -> None:
        assert event.stream is not self and event.at < time.perf_counter()
        self.log.append("wait for the first queue")

    def synchronize(self) -> None:
        self.log.append("end")


FREE, POOLED = 2**40, 2**30  # bytes
CUPY = Module(
    "cupy",
    np,
    ndarray=ndarray,
    asarray=_asarray,
    linalg=Module("cupy.linalg", np.linalg, cholesky=_cholesky),
    random=types.SimpleNamespace(default_rng=_Generator),
    get_default_memory_pool=lambda: types.SimpleNamespace(free_bytes=lambda: POOLED),
    cuda=types.SimpleNamespace(
        Device=_Device,
        cublas=None,
        Event=_Event,
        Stream=_Stream,
        get_elapsed_time=lambda first, last: 1000 * (last.at - first.at),
        runtime=types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=lambda: 1,
            memGetInfo=lambda: (FREE, 2 * FREE),
            getDeviceProperties=lambda number: {"name": b"stand-in", "totalGlobalMem": 2 * FREE},
            driverGetVersion=lambda: 0,
            runtimeGetVersion=lambda: 0,
        ),
    ),
)
MODULES: dict[str, Any] = {
    "cupy": CUPY,
    "cupyx": Module("cupyx", None, errstate=_errstate),
    "cupyx.scipy": Module("cupyx.scipy", None),
    "cupyx.scipy.linalg": Module("cupyx.scipy.linalg", scipy.linalg),
    "cupyx.scipy.sparse": Module("cupyx.scipy.sparse", None),
    "cupyx.scipy.sparse.linalg": Module(
        "cupyx.scipy.sparse.linalg",
        None,
        eigsh=_eigsh,
        LinearOperator=lambda shape, matvec, dtype: types.SimpleNamespace(
            shape=shape, matvec=matvec, dtype=dtype
        ),
    ),
}
for _name, _module in MODULES.items():
    if "." in _name:
        _parent, _, _child = _name.rpartition(".")
        setattr(MODULES[_parent], _child, _module)


@contextmanager
def installed() -> Iterator[Module]:
    """Put the stand-in where CuPy would be."""
    before = {name: sys.modules.get(name) for name in MODULES}
    sys.modules.update(MODULES)
    try:
        yield CUPY
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
