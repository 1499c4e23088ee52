"""Which array library an array belongs to, and the way from host to device and back.

Compute follows the arrays: a function that needs more than methods and operators opens with
``xp = array_module(x)``. There is no global switch and no ``xp`` in any signature.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from numbers import Integral, Real
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Array: TypeAlias = NDArray[Any]
"""A NumPy or CuPy array; shapes are given in docstrings."""


class DeviceError(RuntimeError):
    """A GPU cannot be used; the message says what is missing and what to do."""


def on_host(array: object) -> bool:
    """Whether this is no array of CuPy: its numbers can be looked at without waiting for a device."""
    cupy = sys.modules.get("cupy")  # an array of CuPy can only exist if CuPy was imported
    return cupy is None or not isinstance(array, cupy.ndarray)


def array_module(*arrays: Any, names: str = "") -> ModuleType:
    """Return the array library, ``numpy`` or ``cupy``, that all arrays belong to.

    Args:
        arrays: any number of them.
        names: what to call them in the error, with commas between them.

    Raises:
        TypeError: that says what is where, unless all arrays live on the host or on one device.
    """
    on_device = [not on_host(array) for array in arrays]
    if not any(on_device):
        return np
    if not all(on_device) or (len(arrays) > 1 and len({array.device.id for array in arrays}) > 1):
        places = [
            f"cuda:{a.device.id}" if there else "the host" for a, there in zip(arrays, on_device, strict=True)
        ]
        called = names.split(", ") if names else [f"array {number}" for number in range(1, len(arrays) + 1)]
        where = ", ".join(f"{name} on {place}" for name, place in zip(called, places, strict=True))
        raise TypeError(
            f"expected all arrays on one device, got {where}; move them with minikfac.to_device or to_host"
        )
    return sys.modules["cupy"]


def check_array(array: object, what: str) -> None:
    """Refuse lists, tensors and whatever else is no array of NumPy or CuPy.

    Raises:
        TypeError: that names what was expected to be one.
    """
    if on_host(array) and not isinstance(array, np.ndarray):
        raise TypeError(f"expected {what} to be a NumPy or CuPy array, got {type(array).__name__}")


def real_array(values: Any, what: str) -> Array:
    """Return values as an array of float32 or float64; one that is one already stays as it is.

    Lists, whole numbers and Booleans are converted.

    Raises:
        TypeError: that names what was expected to be real numbers, on complex ones, words or objects.
        ValueError: on masked entries, or lists of several lengths.
    """
    if on_host(values) and type(values) is not np.ndarray:
        if np.ma.is_masked(values):
            raise ValueError(
                f"expected {what} without masked entries, got {np.ma.count_masked(values)} of them"
            )
        try:
            values = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"expected {what} to be an array of real numbers, got {error}") from error
    if values.dtype.kind not in "biuf":
        kind = f"dtype {values.dtype}" if values.ndim else repr(values.item())
        raise TypeError(f"expected {what} to be an array of real numbers, got {kind}")
    if values.dtype.name not in ("float32", "float64") or not values.dtype.isnative:
        values = values.astype("float32" if values.dtype.name in ("float16", "float32") else "float64")
    return values


def all_finite(array: Array) -> bool:
    """Whether no entry is NaN or infinite, in one pass where the sum is finite; on a device this waits."""
    isfinite = array_module(array).isfinite
    with np.errstate(all="ignore"):
        return bool(isfinite(array.sum())) or bool(isfinite(array).all())


def real_number(value: Any, what: str) -> float:
    """Return a real number as a float; Booleans are none.

    Raises:
        TypeError: that names what was expected to be a number.
        ValueError: if no float is that large.
    """
    is_scalar = getattr(value, "shape", None) == () and getattr(value.dtype, "kind", "O") in "iuf"
    if isinstance(value, bool | np.bool_) or not (isinstance(value, Real) or is_scalar):
        raise TypeError(f"expected {what} to be a real number, got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(
            f"expected {what} that a float can hold, got a number of {len(str(value))} digits"
        ) from error


def whole_number(value: Any, what: str, least: int = 1) -> int:
    """Return a whole number as an int.

    Raises:
        ValueError: that names it, on anything else or a smaller one.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (is_whole and least <= int(value) < 2**63):
        raise ValueError(f"expected {what} to be a whole number >= {least}, got {value!r}")
    return int(value)


def to_device(array: Any, device: str = "cuda") -> Array:
    """Copy an array to a device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        ValueError: for a device of another name, or a number that no GPU has.
        DeviceError: where CuPy, the libraries it needs, a driver or a GPU is missing.
    """
    gpu = _gpu(device)
    if gpu is None:
        return to_host(array)
    with gpu:
        return sys.modules["cupy"].asarray(array)


def use_device(device: str) -> None:
    """Let a GPU do what follows; with several of them CuPy works on one at a time. For "cpu" nothing is done.

    Raises:
        ValueError, DeviceError: as :func:`to_device`.
    """
    gpu = _gpu(device)
    if gpu is not None:
        gpu.use()


def _gpu(device: str) -> Any:
    """CuPy's device of this name, None for the host."""
    kind, colon, digits = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or (colon and not (digits.isdecimal() and digits.isascii())):
        raise ValueError(f"expected device 'cpu', 'cuda' or 'cuda:N', got {device!r}")
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name not in (None, "cupy"):
            raise DeviceError(_broken(device, error)) from error
        raise DeviceError(f"device {device!r} needs CuPy: pip install 'minikfac[gpu]'") from error
    except ImportError as error:
        raise DeviceError(_broken(device, error)) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"device {device!r} needs an NVIDIA GPU and a driver that suits CuPy's CUDA, got: {error}; "
            "see what nvidia-smi says, or use device 'cpu'"
        ) from error
    if int(digits or 0) >= count:
        present = ", ".join(f"'cuda:{number}'" for number in range(count)) or "no GPU: use device 'cpu'"
        raise ValueError(f"expected a device that is here, {present}; got {device!r}")
    try:
        cupy.cuda.cublas  # noqa: B018  # loaded when it is first used, as all of CUDA's libraries are
    except ImportError as error:
        raise DeviceError(_broken(device, error)) from error
    return cupy.cuda.Device(int(digits or 0))


def _broken(device: str, error: ImportError) -> str:
    reason = (str(error).splitlines() or [""])[0]
    return (
        f"device {device!r} needs CuPy with CUDA's libraries, got: {reason}; "
        "pip install 'cupy-cuda12x[ctk]' brings them"
    )


def to_host(array: Any) -> Array:
    """Copy an array to the host (a NumPy array; the array itself if it is there already)."""
    if not on_host(array):
        return array.get()
    return np.asarray(array)


def finish(array: Array) -> None:
    """Wait until a device has computed an array that was asked for; the host has it already."""
    if not on_host(array):
        sys.modules["cupy"].cuda.get_current_stream().synchronize()


def number(value: Any) -> Any:
    """Return a number as a float; on a device it stays there, as an array without axes, and nothing waits."""
    return float(value) if on_host(value) else value


def fetch(*values: Any) -> list[Any]:
    """Bring numbers and small arrays to the host: floats, and arrays (float64) of their shapes.

    What is on a device comes in one transfer, for each makes the host wait until the device has done all that
    was asked of it. So a step puts together what it wants to know, and asks once.
    """
    waiting = [value for value in values if not on_host(value)]
    if waiting:
        xp = array_module(*waiting)
        together = xp.concatenate([value.reshape(-1).astype(xp.float64) for value in waiting]).get()
        parts = iter(np.split(together, np.cumsum([value.size for value in waiting])[:-1]))
        values = tuple(value if on_host(value) else next(parts).reshape(value.shape) for value in values)
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    return [array if array.ndim else array.item() for array in arrays]


def to_floats(values: Mapping[str, Any]) -> dict[str, float]:
    """Return numbers by name as floats, fetched from a device in one transfer."""
    return dict(zip(values, fetch(*values.values()), strict=True))


def on_second_stream(task: Callable[..., T], like: Any) -> Callable[..., T]:
    """Return a task for a second thread that on a GPU has a queue of its own, beside that of the first.

    It begins when the GPU has done what was asked of it up to now, and returns when its own work is done. On
    the host it is the task itself.

    Args:
        task: a function.
        like: one of the arrays at work.
    """
    if on_host(like):
        return task
    device, ready = like.device, sys.modules["cupy"].cuda.Event()
    ready.record()

    def aside(*arguments: Any) -> T:
        with device, _second_stream(device.id) as stream:
            stream.wait_event(ready)
            result = task(*arguments)
            stream.synchronize()
        return result

    return aside


@cache
def _second_stream(number: int) -> Any:
    """One for each GPU: what the first queue dropped of its memory is used again only after a wait."""
    return sys.modules["cupy"].cuda.Stream(non_blocking=True)


def available_memory(xp: ModuleType = np) -> int:
    """Bytes of memory that can still be had on the host or, for ``xp = cupy``, on the current GPU."""
    if xp is not np:
        # what CuPy's pool keeps for reuse counts as taken to the driver, and is free to us
        return int(xp.cuda.runtime.memGetInfo()[0]) + int(xp.get_default_memory_pool().free_bytes())
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):  # no such call on Windows
            return 2**63 - 1


def check_memory(shape: tuple[int, ...], dtype: Any, what: str, instead: str, xp: ModuleType = np) -> None:
    """Refuse an array that does not fit before any work is spent on it.

    Args:
        shape: of the array that would be made.
        dtype: of its entries.
        what: names the array in the error, as in "the exact Fisher matrix".
        instead: what to use instead.
        xp: the library that would hold it.

    Raises:
        MemoryError: with the size in GiB, what is free, and what to use instead.
    """
    size = np.dtype(dtype).itemsize
    for extent in shape:
        size *= int(extent)
    free = available_memory(xp)
    if size > free:
        by = " x ".join(f"{extent:,}" for extent in shape)
        raise MemoryError(
            f"{what} ({by}, {np.dtype(dtype).name}) needs {size / 2**30:,.1f} GiB, "
            f"{free / 2**30:,.1f} GiB are free; use {instead}"
        )
