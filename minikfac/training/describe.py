"""A run described as plain data: the head of its records, and the test whether a checkpoint belongs to it.

A function, such as a schedule or a size of batches, is described by its values at the steps to come, and by
what it was made with: defaults, closure, arguments of a ``partial``. An object of any other class is
described by its public attributes, and by its values if it can be called. So a run is not resumed with
another one of the same name. A function has to be one of the step alone: one that draws at random, or
remembers its calls, is rejected, because no description of it would stay true.
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
"""Where a function is described by its values; a record shows those at :data:`SHOWN`."""
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


def describe(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """Return plain data: a net by its layers, functions and objects as the top of this file says.

    Args:
        value: what is described.
        inside: identities of the objects that it is a part of; one that holds itself ends there.

    Raises:
        ValueError: on a function whose values are not those of the step alone.
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
    """Whether its class belongs to this package: what it does follows from the version."""
    return type(value).__module__.startswith(f"{__package__.split('.')[0]}.")


def _layer(layer: Any) -> Any:
    """A layer or an output of this package as text; one with parts from elsewhere by their attributes."""
    inner = all(isinstance(_layer(part), str) for part in getattr(layer, "parts", ()))
    return repr(layer) if _is_ours(layer) and inner else describe(layer)


def _made_with(value: Any) -> dict[str, Any]:
    """The kind of an object or the name of a function, and what it was made with."""
    if isinstance(value, partial):
        arguments = {"arguments": value.args, "keywords": value.keywords}
        return {"kind": "partial", "function": value.func, **arguments}
    if ismethod(value) or isbuiltin(value):
        return {"kind": value.__qualname__, "of": value.__self__}
    if isfunction(value):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        closure: dict[str, Any] = {}
        for name, cell in cells:
            with suppress(ValueError):  # nothing is in it yet
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
    """What a function returns at the steps; as far as it goes, and nothing if it is not one of the step."""
    called = function
    with suppress(Exception):
        called = deepcopy(function)  # what it remembers of these calls is not in the way of the run
    first, again = _values_at(called, STEPS), _values_at(called, STEPS[:100])
    for step, pair in enumerate(zip_longest(first[:100], again, fillvalue="nothing")):
        if repr(pair[0]) != repr(pair[1]):
            name = getattr(function, "__qualname__", type(function).__qualname__)
            raise ValueError(
                f"expected a function of the step alone, so that a run can be resumed, got {name}, which at "
                f"step {step} returns {pair[0]} and then {pair[1]}; draw by default_rng([seed, step])"
            )
    if not first:
        return {}
    sha = hashlib.sha256(repr(first).encode()).hexdigest()[:16]
    return {"values": {str(step): first[step] for step in SHOWN if step < len(first)}, "values (sha256)": sha}


def _values_at(function: Any, steps: Sequence[int]) -> list[Any]:
    """Numbers that a function returns, up to the first step at which there is none."""
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
    """Yield what differs between two descriptions, as ``optimizer.lr: 0.3 here, 0.1 there``."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in dict.fromkeys([*here, *there]):
            yield from differences(here.get(key), there.get(key), f"{path}.{key}" if path else key)
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for number, pair in enumerate(zip(here, there, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif here != there:
        yield f"{path}: {here} here, {there} there"
