"""Odd numbers and arrays, for tests that no public function answers them with a wrong value in silence."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

NUMBERS: dict[str, Any] = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "minus one": -1,
    "zero": 0,
    "minus zero": -0.0,
    "denormal": 5e-324,
    "tiny": 1e-300,
    "below float64's rounding": 1e-20,
    "below float32's rounding": 1e-8,
    "huge": 1e300,
    "beyond float64": 10**400,
    "beyond int64": 2**63,
    "one half": 0.5,
    "two and a half": 2.5,
    "True": True,
    "None": None,
    "a word": "x",
    "an empty word": "",
    "a number as a word": "0.1",
    "complex": 1j,
    "a fraction": Fraction(1, 3),
    "NumPy float32": np.float32(0.1),
    "NumPy int": np.int64(3),
    "an array of one": np.array([0.1]),
    "an array of no dimension": np.array(0.1),
    "an array of two": np.array([0.1, 0.2]),
    "a list": [0.1],
    "a dict": {},
    "a function": abs,
}


def vectors(size: int, dtype: Any) -> Iterator[tuple[str, Any]]:
    """Odd vectors in place of one of this size: contents, shapes, types."""
    good = np.linspace(-1, 1, size).astype(dtype)
    for name, value in (("NaN", np.nan), ("infinity", np.inf), ("minus infinity", -np.inf)):
        odd = good.copy()
        odd[size // 2] = value
        yield f"one {name}", odd
    yield "zeros", np.zeros(size, dtype)
    yield "largest", np.full(size, np.finfo(dtype).max)
    yield "denormal", np.full(size, np.finfo(dtype).smallest_subnormal)
    yield "one too short", good[:-1]
    yield "one too long", np.append(good, good[:1])
    yield "empty", good[:0]
    yield "a column", good[:, None]
    yield "a row", good[None]
    yield "no dimension", np.array(1, dtype)
    yield "complex", good + 1j
    yield "integers", np.arange(size)
    yield "Booleans", good > 0
    yield "words", good.astype(str)
    yield "objects", good.astype(object)
    yield "half precision", good.astype(np.float16)
    yield "a list", good.tolist()
    yield "read only", _read_only(good)
    yield "every second entry", np.repeat(good, 2)[::2]
    yield "reversed in memory", good[::-1].copy()[::-1]
    yield "big-endian", good.astype(np.dtype(dtype).newbyteorder(">"))
    yield "masked", np.ma.masked_array(good, good > 0.5)
    yield "None", None


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array
