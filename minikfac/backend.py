"""Which array library an array belongs to, and the way from host to device and back.

Compute follows the arrays: a function that needs more than methods and operators opens with
``xp = array_module(x)``. There is no global switch and no ``xp`` in any signature.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from numbers import Integral, Real
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Array: TypeAlias = NDArray[Any]
"""A NumPy or CuPy array; shapes are given in docstrings."""


NUMBER_CLASSES = "; number classes from 0 by np.unique(y, return_inverse=True)[1]"
"""What to do with labels that are words."""


class DeviceError(RuntimeError):
    """A GPU cannot be used; the message says what is missing and what to do."""


def on_host(array: object) -> bool:
    """Whether this is not an array of CuPy: its numbers can be looked at without waiting for a device."""
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
    """Reject lists, tensors and whatever else is not an array of NumPy or CuPy, or computes differently.

    Raises:
        TypeError: that names what was expected to be one.
    """
    odd = isinstance(array, np.matrix | np.ma.MaskedArray) or not isinstance(array, np.ndarray)
    if odd and on_host(array):
        raise TypeError(f"expected {what} to be a NumPy or CuPy array, got {type(array).__name__}")


def as_array(values: Any, name: str, advice: str = "") -> Array:
    """Return data that a user hands in as a plain array: NumPy's, or CuPy's as it is.

    Lists, pandas tables, PyTorch tensors (from any device), SciPy's sparse matrices, NumPy's matrices, arrays
    of objects and of another byte order are converted, each number as it is, in its own precision.

    Args:
        values: the data.
        name: of the argument, for the error.
        advice: what to do with what is not a number, for the error.

    Raises:
        TypeError: on anything but numbers.
        ValueError: on masked entries, and on rows of different lengths.
    """
    if not on_host(values):
        return values
    kind = type(values).__name__
    try:
        array = values if type(values) is np.ndarray else _read(values)
        array = _of_objects(array) if array.dtype == object else array
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        refusal = ValueError if isinstance(error, ValueError) else TypeError
        reason = f"{kind}: {str(error).splitlines()[0]}" if str(error) else kind
        raise refusal(f"expected {name} to be an array of numbers, got {reason}{advice}") from error
    if array.dtype.kind not in "biufc":
        came = f"{kind} of dtype {array.dtype}"
        raise TypeError(f"expected {name} to be an array of numbers, got {came}{advice}")
    masked = int(np.ma.getmaskarray(array).sum()) if isinstance(array, np.ma.MaskedArray) else 0
    if masked:
        raise ValueError(
            f"expected {name} without masked entries, got {masked} of {array.size} masked; "
            "leave those examples out, or fill the entries in"
        )
    return np.asarray(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))


def _read(values: Any) -> Any:
    """An array of what is not one; a mask is kept."""
    if hasattr(values, "detach"):  # a tensor of PyTorch
        return values.detach().cpu().numpy()
    if hasattr(values, "to_numpy"):  # a table or a column of pandas
        return values.to_numpy()
    if hasattr(values, "toarray"):  # a sparse matrix of SciPy
        return values.toarray()
    if isinstance(values, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in values):
        return np.ma.array(values)
    return np.asanyarray(values)


def _of_objects(array: Array) -> Array:
    """Numbers that are stored as Python objects, as an array of numbers.

    Raises:
        TypeError: where one of the objects is not a real number.
    """
    for value in np.ma.compressed(array):
        if not isinstance(value, Real | np.bool_):
            raise TypeError(f"{value!r:.40} is not a number")
    numbers = array.astype(float) if isinstance(array, np.ma.MaskedArray) else np.array(array.tolist())
    return numbers.astype(float) if numbers.dtype == object else numbers


def label_advice(low: int, high: int, n_classes: int) -> str:
    """What to do with labels from ``low`` to ``high`` that do not fit this number of classes."""
    if 0 < low and high == n_classes:
        return "; if they begin at 1, subtract 1"
    if low < 0:
        return "; leave out examples without a label, and write classes -1 and 1 as 0 and 1, (y + 1) // 2"
    return f"; {high + 1} classes need as many outputs"


def check_generator(rng: object) -> None:
    """Reject seeds, None and NumPy's older generators.

    Raises:
        TypeError: that says how to make a generator.
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"expected rng = numpy.random.default_rng(seed), got {rng!r}")


def real_array(values: Any, what: str) -> Array:
    """Return values as an array of float32 or float64; one that is one already stays as it is.

    Lists, whole numbers and Booleans are converted.

    Raises:
        TypeError: that names what was expected to be real numbers, on complex ones, words or objects.
        ValueError: on masked entries, or lists of several lengths.
    """
    values = as_array(values, what)
    if values.dtype.kind not in "biuf":
        kind = f"dtype {values.dtype}" if values.ndim else repr(values.item())
        raise TypeError(f"expected {what} to be an array of real numbers, got {kind}")
    if values.dtype.name not in ("float32", "float64") or not values.dtype.isnative:
        values = values.astype("float32" if values.dtype.name in ("float16", "float32") else "float64")
    return values


def all_finite(array: Array) -> bool:
    """Whether no entry is NaN or infinite; on a device this waits."""
    flat, isfinite = array.reshape(-1), array_module(array).isfinite
    with np.errstate(over="ignore", invalid="ignore"):
        # one product is some times faster than to look at each number; it can also overflow
        return bool(isfinite(flat.dot(flat)) or isfinite(flat).all())


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


def on_second_stream(task: Callable[..., T], like: Any) -> Callable[..., T]:
    """Return a task for a second thread that on a GPU has a queue of its own, beside that of the first.

    It begins when the GPU has finished the work requested so far, and returns when its own work is done. On
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
    """Reject an array that does not fit before any work is spent on it.

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
