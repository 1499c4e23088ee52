"""Which array library an array belongs to, and the way from host to device and back.

Compute follows the arrays: a function that needs more than methods and operators opens with
``xp = array_module(x)``. There is no global switch and no ``xp`` in any signature.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""A NumPy or CuPy array; shapes are given in docstrings."""


def _is_device_array(array: object) -> bool:
    cupy = sys.modules.get("cupy")  # an array of CuPy can only exist if CuPy was imported
    return cupy is not None and isinstance(array, cupy.ndarray)


def array_module(*arrays: Any) -> ModuleType:
    """Return the array library, ``numpy`` or ``cupy``, that all arrays belong to.

    Raises:
        TypeError: if some arrays live on the host and some on a device.
    """
    on_device = [_is_device_array(array) for array in arrays]
    if not any(on_device):
        return np
    if not all(on_device):
        places = ", ".join("device" if here else "host" for here in on_device)
        raise TypeError(
            f"expected all arrays on one device, got arrays on: {places}; move them with minikfac.to_device"
        )
    return sys.modules["cupy"]


def check_array(array: object, what: str) -> None:
    """Refuse lists, tensors and whatever else is no array of NumPy or CuPy.

    Raises:
        TypeError: that names what was expected to be one.
    """
    if not (isinstance(array, np.ndarray) or _is_device_array(array)):
        raise TypeError(f"expected {what} to be a NumPy or CuPy array, got {type(array).__name__}")


def to_device(array: Any, device: str = "cuda") -> Array:
    """Copy an array to a device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        ValueError: for a device of another name.
        RuntimeError: where CuPy or a GPU is missing.
    """
    kind, colon, number = device.partition(":")
    if device == "cpu":
        return to_host(array)
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise ValueError(f"expected device 'cpu', 'cuda' or 'cuda:N', got {device!r}")
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError("device 'cuda' needs CuPy: pip install 'minikfac[gpu]'") from error
    try:
        with cupy.cuda.Device(int(number or 0)):
            return cupy.asarray(array)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"no usable GPU for device {device!r}: {error}") from error


def to_host(array: Any) -> Array:
    """Copy an array to the host (a NumPy array; the array itself if it is there already)."""
    if _is_device_array(array):
        return array.get()
    return np.asarray(array)


def finish(array: Array) -> None:
    """Wait until a device has computed an array that was asked for; the host has it already."""
    if _is_device_array(array):
        sys.modules["cupy"].cuda.get_current_stream().synchronize()


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
