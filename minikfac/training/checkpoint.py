"""Checkpoints: one file from which a run goes on bit for bit, as if it had never stopped.

A checkpoint is a NumPy archive (.npz) without pickled objects: the arrays under their own names, as in
``state.factors[0][1]``, and one text of JSON that says how they belong together. It holds seed and step, and
no generator: randomness is by position. It is written beside the old one, flushed to the disk and then
renamed, so that whenever the process is killed one whole checkpoint is there.

The state of an optimizer is plain data: numbers, text, None, arrays, lists, tuples, dicts, and the matrices
of :data:`MATRICES`. Nothing else is written, and a file can name nothing else to be made.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..backend import Array, array_module, on_host, to_host
from ..distributed import the_first_three
from ..fisher.block_diagonal import BlockDiagonal, BlockDiagonalOperator
from ..fisher.dense import CholeskySolver, DenseMatrix
from ..fisher.diagonal import DiagonalBlock
from ..fisher.eigenblock import EigenBlock
from ..fisher.kronecker_block import KroneckerBlock, KroneckerSolver
from ..fisher.low_rank import LowRank
from ..fisher.tridiagonal import BlockTridiagonal, BlockTridiagonalInverse
from ..writing import replaced_at_once
from .describe import differences
from .records import Record, decoded, encoded

FORMAT = 2
"""Before, an optimizer's state held the average of the iterates."""
WITH_ARRAYS = ("theta", "state", "average")
PLAIN = ("step", "examples", "seconds", "info", "records", "about")
"""What a checkpoint holds: what has arrays in it, and the rest."""

MATRICES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(BlockDiagonal, BlockDiagonalOperator, BlockTridiagonal, BlockTridiagonalInverse, CholeskySolver),
        *(DenseMatrix, DiagonalBlock, EigenBlock, KroneckerBlock, KroneckerSolver, LowRank),
    )
}
"""By name, the matrices that a state may hold; their attributes have the names of their arguments."""


@dataclass(frozen=True)
class Checkpoint:
    """A run between two steps.

    Attributes:
        theta: (P,).
        state: the optimizer's.
        step: steps taken.
        examples: examples seen in them.
        seconds: of training.
        info: the last step's diagnostics.
        records: measurements so far.
        about: what is run, see :func:`.describe.describe_run`.
        average: of the iterates, (P,), or None.
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
        """Whether the last record is of here."""
        return bool(self.records) and self.records[-1]["step"] == self.step

    def refuse_another(self, about: Mapping[str, Any], path: str | Path) -> None:
        """Raise ValueError that names what differs if this checkpoint is of another run than ``about``."""
        differing = list(differences(encoded(about), encoded(self.about)))
        if differing:
            named = the_first_three(differing)
            raise ValueError(f"expected a checkpoint of this run in {path}, got one of another: {named}")


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of the one before.

    Raises:
        FloatingPointError: on NaN or infinite parameters or state; the file stays as it is.
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
    members: dict[str, Any] = {"json": np.frombuffer(json.dumps(tree, allow_nan=False).encode(), np.uint8)}
    with replaced_at_once(path) as file:
        np.savez(file, **members | arrays)


def load(path: str | Path, like: Array | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: the file.
        like: an array on the device where theta shall be, and all that was beside it; the host without.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: on a file that is no checkpoint, is damaged, or has the format of another version.
    """
    arrays = _read(path)
    try:
        tree = json.loads(arrays.pop("json").tobytes())
        if tree["format"] != FORMAT:
            raise ValueError(
                f"expected a checkpoint of format {FORMAT} in {path}, got format {tree['format']}, which "
                "another version of minikfac wrote"
            )
        parts = {name: _put_together(tree[name], arrays, like) for name in WITH_ARRAYS}
        plain = {name: decoded(tree[name]) for name in PLAIN}
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"expected a checkpoint of minikfac in {path}, got another archive") from error
    return Checkpoint(**parts, **plain)


def _read(path: str | Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:  # checks each array's CRC
            return {name: stored[name] for name in stored.files}
    except (
        zipfile.BadZipFile,
        EOFError,
        ValueError,
        AttributeError,
        TypeError,
        NotImplementedError,
    ) as error:
        raise ValueError(
            f"expected a whole checkpoint in {path}, got a damaged or another file: {error}"
        ) from error


# state to arrays and back ---------------------------------------------------------------------------------


def _taken_apart(value: Any, path: str, arrays: dict[str, np.ndarray], home: ModuleType) -> Any:
    """Put the arrays inside a value under their paths, and return the rest as what JSON can hold."""
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
