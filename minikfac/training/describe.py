"""Descriptions of runs as plain data, for the first line of records and for matching checkpoints with runs.

A function, such as a schedule or a batch size, is described by its values at future steps, and by its
parameters: defaults, closure, arguments of a ``partial``. An object of any other class is described by its
public attributes and, if callable, by its values. A run can therefore not be resumed with a different
function of the same name. Functions must depend on the step only: those that draw random numbers or remember
calls are rejected, because a description would not remain valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import isbuiltin, isfunction, ismethod, ismodule
from itertools import zip_longest
from numbers import Real
from typing import Any

import numpy as np

from .. import __version__
from ..backend import Array, on_host, to_host
from ..datasets import Dataset
from ..network import Network
from .averaging import Averaging
from .batches import BatchSize
from .records import encoded

STEPS = (*range(10_000), *(10_000 * 2**k for k in range(11)))
"""Steps at which functions are evaluated for a description; records show those in :data:`SHOWN`."""
SHOWN = (0, 1, 10, 100, 1000)


def describe_run(
    net: Network,
    theta: Array,
    opt: Any,
    dataset: Dataset,
    batch_size: BatchSize,
    seed: int,
    averaging: Averaging | None,
) -> dict[str, Any]:
    """Describe everything on which the parameters after k steps, and their average, depend.

    Parameters and data are represented by their sha256, which distinguishes arrays of the same shape. Ranks
    are not included, since a run may be resumed on a different number of them.
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


def describe(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """Return plain data: a net by its layers, functions and objects as described at the top of this file.

    Args:
        value: the object to describe.
        inside: identities of the objects that contain it, which stops recursion.

    Raises:
        ValueError: on a function whose values depend on more than the step.
    """
    if id(value) in inside:
        return "itself"
    parts = partial(describe, inside=(*inside, id(value)))
    if isinstance(value, Network):
        return {"layers": [_layer(layer) for layer in value.layers], "output": _layer(value.output)}
    if isinstance(value, Mapping):
        return {str(key): parts(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        entries = list(map(parts, value))
        return sorted(entries, key=repr) if isinstance(value, set | frozenset) else entries
    if isinstance(value, np.ndarray) or not on_host(value):
        return {"shape": list(value.shape), "sha256": digest(value)}
    if isinstance(value, type) or (isbuiltin(value) and ismodule(value.__self__)):
        return f"{value.__module__}.{value.__qualname__}"
    with suppress(TypeError):
        return encoded(value)
    about = {
        name: parts(entry) for name, entry in _made_with(value).items() if not isinstance(entry, Network)
    }
    if callable(value) and not _is_ours(value):
        about |= _values(value)
    return about if len(about) > 1 or is_dataclass(value) else about["kind"]


def _is_ours(value: Any) -> bool:
    """Whether its class is from this package, whose behaviour is determined by the version."""
    return type(value).__module__.startswith(f"{__package__.split('.')[0]}.")


def _layer(layer: Any) -> Any:
    """A layer or output of this package as text, or by its attributes if it has foreign parts."""
    inner = all(isinstance(_layer(part), str) for part in getattr(layer, "parts", ()))
    return repr(layer) if _is_ours(layer) and inner else describe(layer)


def _made_with(value: Any) -> dict[str, Any]:
    """The kind of an object or the name of a function, with its parameters."""
    if isinstance(value, partial):
        arguments = {"arguments": value.args, "keywords": value.keywords}
        return {"kind": "partial", "function": value.func, **arguments}
    if ismethod(value) or isbuiltin(value):
        return {"kind": value.__qualname__, "of": value.__self__}
    if isfunction(value):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        closure: dict[str, Any] = {}
        for name, cell in cells:
            with suppress(ValueError):  # an empty closure cell
                closure[name] = cell.cell_contents
        made = {"defaults": value.__defaults__, "keywords": value.__kwdefaults__, "closure": closure}
        kind = f"{value.__module__}.{value.__qualname__}"
        return {"kind": kind, **{name: entry for name, entry in made.items() if entry}}
    settings = fields(value) if is_dataclass(value) else ()
    names = [setting.name for setting in settings if setting.init]
    if not (settings and _is_ours(value)):
        others = (*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ()))
        names += [name for name in others if name not in {setting.name for setting in settings}]
    public = {name: getattr(value, name) for name in names if name[:1] != "_" and hasattr(value, name)}
    return {"kind": getattr(value, "__qualname__", type(value).__name__), **public}


def _values(function: Any) -> dict[str, Any]:
    """A function's values at the steps as far as they exist; none if it is not a function of the step."""
    called = function
    with suppress(Exception):
        called = deepcopy(function)  # so that these calls do not affect the run
    first, again = _values_at(called, STEPS), _values_at(called, STEPS[:100])
    for step, pair in enumerate(zip_longest(first[:100], again, fillvalue="nothing")):
        if repr(pair[0]) != repr(pair[1]):
            name = getattr(function, "__qualname__", type(function).__qualname__)
            raise ValueError(
                f"expected a function of the step only, so that a run can be resumed, got {name}, which at "
                f"step {step} returns {pair[0]} and then {pair[1]}; draw with default_rng([seed, step])"
            )
    if not first:
        return {}
    sha = hashlib.sha256(repr(first).encode()).hexdigest()[:16]
    return {"values": {str(step): first[step] for step in SHOWN if step < len(first)}, "values (sha256)": sha}


def _values_at(function: Any, steps: Sequence[int]) -> list[Any]:
    """The numbers that a function returns, up to the first step without one."""
    values = []
    for step in steps:
        try:
            value = function(step)
        except Exception:
            break
        values.append(float(value) if isinstance(value, Real | np.bool_) else type(value).__name__)
    return values


def digest(*arrays: Array) -> str:
    """Return the first 16 digits of the sha256 of dtypes, shapes and contents."""
    sha = hashlib.sha256()
    for array in arrays:
        host = np.ascontiguousarray(to_host(array))
        sha.update(f"{host.dtype.str}{host.shape}".encode())
        sha.update(host.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()[:16]


def differences(here: Any, there: Any, path: str = "") -> Iterator[str]:
    """Yield the differences of two descriptions, such as ``optimizer.lr: 0.3 here, 0.1 there``."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in dict.fromkeys([*here, *there]):
            yield from differences(here.get(key), there.get(key), f"{path}.{key}" if path else key)
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for number, pair in enumerate(zip(here, there, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif here != there:
        yield f"{path}: {here} here, {there} there"
