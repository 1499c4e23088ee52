"""Checkpoints: one file from which a run continues bit for bit, as if it had never stopped.

A checkpoint is a NumPy archive (.npz) without pickled objects: arrays with names such as
``state.factors[0][1]``, a JSON text that describes their structure, and a digest of all of these, so that
parts of different files cannot be mixed. It contains the seed and step but no generator, since randomness
depends only on them. The file is written next to the old one, flushed to disk and then renamed, so a complete
checkpoint exists whenever the process is killed.

An optimizer's state is plain data: numbers, text, None, arrays, lists, tuples, dicts, and the matrices in
:data:`MATRICES`. Nothing else is written, and loading a file cannot create any other objects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..backend import Array, array_module, on_host, to_host
from ..display import ShownByFields
from ..distributed import the_first_three
from ..fisher.block_diagonal import BlockDiagonal, BlockDiagonalOperator
from ..fisher.dense import CholeskySolver, DenseMatrix
from ..fisher.diagonal import DiagonalBlock
from ..fisher.eigenblock import EigenBlock
from ..fisher.kronecker_block import KroneckerBlock, KroneckerSolver
from ..fisher.low_rank import LowRank
from ..fisher.tridiagonal import BlockTridiagonal, BlockTridiagonalInverse
from ..reading import one_error, read_npz
from ..writing import replaced_at_once
from .describe import differences
from .records import Record, decoded, encoded

FORMAT = 3
"""Before 2, an optimizer's state held the average of the iterates; before 3, there was no digest."""
JSON, DIGEST = "json", "sha256"
"""The two members besides the run's arrays: a description of their structure, and a digest of all."""
WITH_ARRAYS = ("theta", "state", "average")
PLAIN = ("step", "examples", "seconds", "info", "records", "about")
"""The entries of a checkpoint: those with arrays, and the others."""

MATRICES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(BlockDiagonal, BlockDiagonalOperator, BlockTridiagonal, BlockTridiagonalInverse, CholeskySolver),
        *(DenseMatrix, DiagonalBlock, EigenBlock, KroneckerBlock, KroneckerSolver, LowRank),
    )
}
"""The matrices that a state may contain, by name; their attributes are named like their arguments."""


@dataclass(frozen=True, repr=False)
class Checkpoint(ShownByFields):
    """A run between two steps.

    Attributes:
        theta: (P,).
        state: the optimizer's state.
        step: number of steps taken.
        examples: number of examples seen.
        seconds: training time.
        info: the last step's diagnostics.
        records: measurements so far.
        about: description of the run, see :func:`.describe.describe_run`.
        average: average of the iterates, (P,), or None.
    """

    theta: Array
    state: Any
    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    info: Record = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    average: Array | None = None

    @property
    def is_measured(self) -> bool:
        """Whether the last record is of this step."""
        return bool(self.records) and self.records[-1]["step"] == self.step

    def refuse_another(self, about: Mapping[str, Any], path: str | Path) -> None:
        """Raise a ValueError listing differences if this checkpoint is of a different run than ``about``."""
        differing = list(differences(encoded(about), encoded(self.about)))
        if differing:
            named = the_first_three(differing)
            raise ValueError(f"expected a checkpoint of this run in {path}, got one of another run: {named}")


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Replace the previous checkpoint by a new one.

    Raises:
        FloatingPointError: on NaN or infinite parameters or state; the file remains unchanged.
        TypeError: on a state that is not plain data.
    """
    arrays: dict[str, np.ndarray] = {}
    home = array_module(checkpoint.theta)
    tree = {
        "format": FORMAT,
        **{name: _taken_apart(getattr(checkpoint, name), name, arrays, home) for name in WITH_ARRAYS},
        **{name: encoded(getattr(checkpoint, name)) for name in PLAIN},
    }
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and array.ndim and not np.isfinite(array).all():
            raise FloatingPointError(
                f"expected finite numbers in {name} after step {checkpoint.step}, got NaN or infinite ones"
            )
    arrays[JSON] = np.frombuffer(json.dumps(tree, allow_nan=False).encode(), np.uint8)
    members: dict[str, Any] = arrays | {DIGEST: np.frombuffer(_digest(arrays), np.uint8)}
    with replaced_at_once(path) as file:
        np.savez(file, **members)


def load(path: str | Path, like: Array | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: the file.
        like: an array on the device to which device arrays such as theta are restored; None for the host.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: on a file that is not a checkpoint, is damaged, mixes parts of different files, or has the
            format of another version.
    """
    arrays = read_npz(path)
    with one_error(path, "a checkpoint of minikfac", "another archive"):
        tree = json.loads(arrays[JSON].tobytes())
        number = int(tree["format"])
    if number != FORMAT:
        raise ValueError(
            f"{path}: expected a checkpoint of format {FORMAT}, got format {number}, written by another "
            "version of minikfac"
        )
    with one_error(path, "a checkpoint of minikfac", "another archive"):
        if arrays.pop(DIGEST).tobytes() != _digest(arrays):
            raise ValueError("parts of different checkpoints")
        parts = {name: _put_together(tree[name], arrays, like) for name in WITH_ARRAYS}
        plain = {name: decoded(tree[name]) for name in PLAIN}
    return Checkpoint(**parts, **plain)


def _digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the sha256 of names, types, shapes, memory orders and contents."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"{name} {array.dtype.str} {array.shape} {array.flags.fnc}\n".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.digest()


# state to arrays and back ---------------------------------------------------------------------------------


def _taken_apart(value: Any, path: str, arrays: dict[str, np.ndarray], home: ModuleType) -> Any:
    """Store the arrays inside a value under their paths, and return the rest as JSON data."""
    if isinstance(value, np.generic):
        arrays[path] = np.asarray(value)
        return {"scalar": path}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": encoded(value)}
    if isinstance(value, np.ndarray) or not on_host(value):
        if value.dtype.kind == "O":
            raise TypeError(f"expected an array of numbers in {path}, got one of Python objects")
        arrays[path] = to_host(value)
        return {"array": path, "beside theta": array_module(value) is home}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if type(value) in (list, tuple):
        entries = [_taken_apart(part, f"{path}[{number}]", arrays, home) for number, part in enumerate(value)]
        return {type(value).__name__: entries}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: _taken_apart(v, f"{path}.{key}", arrays, home) for key, v in value.items()}}
    if MATRICES.get(type(value).__name__) is not type(value):
        raise TypeError(
            f"expected plain data in {path}, that is numbers, text, arrays, lists, tuples, dicts by text, or "
            f"matrices of minikfac.fisher; got {type(value).__qualname__}"
        )
    names = signature(type(value)).parameters
    parts = [_taken_apart(getattr(value, name), f"{path}.{name}", arrays, home) for name in names]
    return {"matrix": type(value).__name__, "parts": parts}


def _put_together(tree: Any, arrays: Mapping[str, np.ndarray], like: Array | None) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "matrix" in tree:
        return MATRICES[tree["matrix"]](*(_put_together(part, arrays, like) for part in tree["parts"]))
    if "array" in tree:
        array, moves = arrays[tree["array"]], like is not None and tree["beside theta"]
        return array_module(like).asarray(array) if moves else array
    ((what, content),) = tree.items()
    if what == "float":
        return float(content)
    if what == "scalar":
        return arrays[content][()]
    if what == "slice":
        return slice(*content)
    if what == "dict":
        return {key: _put_together(entry, arrays, like) for key, entry in content.items()}
    made = [_put_together(entry, arrays, like) for entry in content]
    return {"list": list, "tuple": tuple}[what](made)
