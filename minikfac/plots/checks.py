"""Checks of arguments: shapes, finite numbers, and ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import Array, to_host


def checked(
    array: Any,
    shape: tuple[int | str, ...],
    what: str,
    finite: bool = False,
    low: float = -math.inf,
    high: float = math.inf,
) -> Array:
    """Copy to the host and check the shape.

    Args:
        array: NumPy, CuPy or a list of numbers.
        shape: per axis a length, or a letter for any length.
        what: names the array in the error.
        finite: whether NaN and infinite values are rejected too.
        low: the smallest value allowed, but for rounding.
        high: the largest one.

    Raises:
        ValueError: on another shape, on values that are not finite, or outside their range.

    >>> checked([[1, 2, 3]], ("n", 2), "samples")
    Traceback (most recent call last):
    ValueError: expected samples of shape (n, 2), got (1, 3)
    """
    values = to_host(array)
    values = values if values.dtype.kind == "f" else values.astype(float)
    if values.ndim != len(shape) or any(
        isinstance(extent, int) and extent != length
        for extent, length in zip(shape, values.shape, strict=True)
    ):
        expected = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"expected {what} of shape ({expected}), got {values.shape}")
    if 0 in values.shape:
        raise ValueError(f"expected {what} with at least one entry, got shape {values.shape}")
    if finite and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"expected finite {what}, got NaN or infinite values in {bad} entries")
    outside = values[(values < low - 1e-6 * abs(low)) | (values > high + 1e-6 * abs(high))]
    if outside.size:
        allowed = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ValueError(f"expected {what} {allowed}, got {float(outside[0]):.3g}")
    return values


def positive(values: Any, what: str) -> Array:
    """Check a vector (m,) of positive numbers, for a log axis."""
    vector = checked(values, ("m",), what, finite=True)
    if vector.min() <= 0:
        raise ValueError(f"expected {what} > 0, got {float(vector.min()):.3g}")
    return vector


def by_name(
    arrays: Mapping[str, Any], shape: tuple[int | str, ...], what: str, entry: str, **limits: Any
) -> dict[str, Array]:
    """Check arrays by name, of which there is at least one, as :func:`checked` does.

    >>> by_name({}, ("k",), "losses", "run")
    Traceback (most recent call last):
    ValueError: expected at least one run, got none
    """
    return {
        name: checked(array, shape, f"{what} of {name}", **limits)
        for name, array in some(dict(arrays), entry).items()
    }


def complete(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], what: str) -> None:
    """Check that there are rows, and that each has these keys."""
    for row in some(rows, what):
        missing = [key for key in keys if key not in row]
        if missing:
            raise ValueError(f"expected {', '.join(missing)} in every {what}, got one with {', '.join(row)}")


def some(entries: Any, what: str) -> Any:
    """Return entries; ValueError if there are none."""
    if not entries:
        raise ValueError(f"expected at least one {what}, got none")
    return entries
