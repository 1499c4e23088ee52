"""What was run, as plain data: it stands above records and tells whether a checkpoint belongs to a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..backend import Array, on_host, to_host
from ..datasets import Dataset
from ..network import Network
from .averaging import Averaging
from .batches import BatchSize
from .records import encoded


def describe_run(
    net: Network,
    theta: Array,
    opt: Any,
    dataset: Dataset,
    batch_size: BatchSize,
    seed: int,
    averaging: Averaging | None,
) -> dict[str, Any]:
    """Describe everything that the parameters after k steps depend on, and their average.

    Parameters and data are given by their sha256, so that others of the same shape are told apart. The ranks
    are left out: a run may be resumed on another number of them.
    """
    parts = [dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test]
    return {
        "version": __version__,
        "net": describe(net),
        "parameters": net.n_params,
        "dtype": theta.dtype.name,
        "initial parameters (sha256)": digest(theta),
        "optimizer": describe(opt),
        "dataset": {
            "name": dataset.name,
            "train": list(dataset.x_train.shape),
            "test": list(dataset.x_test.shape),
            "contents (sha256)": digest(*parts),
        },
        "batch_size": describe(batch_size),
        "seed": seed,
        "averaging": describe(averaging),
    }


def describe(value: Any) -> Any:
    """Return plain data: a dataclass by its class and fields, a net by its layers, a function by its name."""
    if isinstance(value, Network):
        return {"layers": [repr(layer) for layer in value.layers], "output": repr(value.output)}
    if is_dataclass(value) and not isinstance(value, type):
        entries = {setting.name: getattr(value, setting.name) for setting in fields(value) if setting.init}
        plain = {name: describe(entry) for name, entry in entries.items() if not isinstance(entry, Network)}
        return {"kind": type(value).__name__, **plain}
    if isinstance(value, Mapping):
        return {str(key): describe(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [describe(entry) for entry in value]
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, np.ndarray) or not on_host(value):
        return {"shape": list(value.shape), "sha256": digest(value)}
    try:
        return encoded(value)
    except TypeError:
        return type(value).__qualname__


def digest(*arrays: Array) -> str:
    """Return the first 16 digits of the sha256 of dtypes, shapes and contents."""
    sha = hashlib.sha256()
    for array in arrays:
        host = np.ascontiguousarray(to_host(array))
        sha.update(f"{host.dtype.str}{host.shape}".encode())
        sha.update(host.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()[:16]


def differences(here: Any, there: Any, path: str = "") -> Iterator[str]:
    """Yield what differs between two descriptions, as ``optimizer.lr: 0.3 here, 0.1 there``."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in dict.fromkeys([*here, *there]):
            yield from differences(here.get(key), there.get(key), f"{path}.{key}" if path else key)
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for number, pair in enumerate(zip(here, there, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif here != there:
        yield f"{path}: {here} here, {there} there"
