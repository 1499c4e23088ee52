"""How an answer is judged, and an array told from what it should be.

A judge stops at the first thing that is wrong, in the order in which a person would look: does it run, what
does it return, which shapes, which numbers. Numbers are compared with the right array, with multiples of it
by factors that have a cause, and with the arrays that known slips lead to.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from ..backend import as_array
from .exercise import Wrong

ROUNDING = 1e-9
"""Relative error up to which two matrices count as the same: float64, summed in another order."""
SINGLE_PRECISION = 1e-5
"""The same for float32."""

Shape = tuple[int, ...]


def call(answer: Callable[..., Any], **arrays: Any) -> Any:
    """Call an answer on copies of arrays and numbers.

    Raises:
        Wrong: if it cannot be called, raises, or changes its arguments.
    """
    if not callable(answer):
        raise Wrong(
            f"Expected a function of {', '.join(arrays)}, got {kind_of(answer)}: hand over the function "
            "itself, without calling it."
        )
    copies = copy.deepcopy(arrays)
    try:
        returned = answer(*copies.values())
    except NotImplementedError as error:
        raise Wrong("Nothing is filled in yet: replace the line that raises NotImplementedError.") from error
    except Exception as error:  # whatever it is, the sentence names it
        raise Wrong(
            f"Your function raises {type(error).__name__}{_place(answer, error)}: {_one_line(error)}."
        ) from error
    changed = [name for name, value in arrays.items() if _changed(copies[name], value)]
    if changed:
        raise Wrong(f"Your function changes {' and '.join(changed)} in place: work on a new array instead.")
    return returned


def _changed(copy: Any, value: Any) -> bool:
    """Whether an array, or one in a list, is no longer what it was; a generator or a state may change."""
    if isinstance(value, list):
        return any(_changed(*pair) for pair in zip(copy, value, strict=False)) or len(copy) != len(value)
    return isinstance(value, np.ndarray) and not np.array_equal(copy, value)


def _place(answer: Callable[..., Any], error: Exception) -> str:
    """The line of the answer's own file that raised, quoted."""
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" at `{lines[-1]}`" if lines and lines[-1] else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or "without a message"


def as_numbers(name: str, returned: Any) -> np.ndarray:
    """Return an array of floats.

    Raises:
        Wrong: on anything but an array of real numbers.
    """
    try:
        array = as_array(returned, name)
    except TypeError:
        raise Wrong(f"{name} should be an array of real numbers, got {kind_of(returned)}.") from None
    except ValueError as error:  # rows of unequal length, masked entries
        raise Wrong(f"E{_one_line(error)[1:]}.") from error
    if array.dtype.kind not in "fiu":
        raise Wrong(f"{name} should be an array of real numbers, got {kind_of(returned)}.")
    return array.astype(float)


def parts(returned: Any, *names: str, what: str = "arrays") -> dict[str, Any]:
    """Return the parts of a tuple or list by their names.

    Raises:
        Wrong: on anything else.
    """
    expected = f"Expected {'two three four'.split()[len(names) - 2]} {what} ({', '.join(names)})"
    if returned is None:
        raise Wrong(f"{expected}, got None: is there a return at the end?")
    if not isinstance(returned, tuple | list):
        raise Wrong(f"{expected}, got {kind_of(returned)}.")
    if len(returned) != len(names):
        raise Wrong(f"{expected}, got a {type(returned).__name__} of {len(returned)}.")
    return dict(zip(names, returned, strict=True))


def shaped(name: str, returned: Any, shape: Shape, slips: Mapping[Any, str] | None = None) -> np.ndarray:
    """Return a finite array of this shape.

    Args:
        name: of the array.
        returned: what the answer made.
        shape: what it should have.
        slips: maps wrong shapes to what leads to them.

    Raises:
        Wrong: on anything else.
    """
    if returned is None:
        raise Wrong(f"Expected {name}, got None: is there a return at the end?")
    array = as_numbers(name, returned)
    if array.shape != shape:
        why = (slips or {}).get(array.shape, "")
        if not why and len(shape) == 2 and array.shape == shape[::-1]:
            why = "it is transposed"
        if not why and shape and array.ndim > len(shape):
            why = "one axis is left that is to be averaged or summed over"
        came = f"got {array.shape}" + (f": {why}" if why else "")
        raise Wrong(f"Expected {name} {f'of shape {shape}' if shape else 'to be a number'}, {came}.")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise Wrong(f"{name} has NaN or infinite entries ({bad} of {array.size}): is something divided by 0?")
    return array


@dataclass(frozen=True)
class Part:
    """An array or a number that an answer returns, and how it goes wrong.

    Attributes:
        name: of the array.
        right: what it should be, an array or a number.
        causes: maps what leads to a wrong scale to the factor that it leads to.
        slips: maps what leads to another array or number to that one.
        shapes: maps wrong shapes to what leads to them.
    """

    name: str
    right: Any
    causes: Mapping[str, float] = field(default_factory=dict)
    slips: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[Any, str] = field(default_factory=dict)

    def diagnose(self, returned: Any) -> str | None:
        """Say what is wrong, as :func:`diagnose` does; None if nothing.

        Raises:
            Wrong: on what is not a finite array of the right shape.
        """
        array = shaped(self.name, returned, np.shape(self.right), self.shapes)
        if array.ndim == 0:
            return diagnose_number(self.name, array, self.right, self.slips)
        return diagnose(self.name, array, self.right, self.causes, self.slips)


def in_order(returned: Mapping[str, Any], *wanted: Part) -> None:
    """Stop at the first of several parts that is wrong; later ones may follow from it.

    Args:
        returned: what the answer made, by name.
        wanted: in the order of judging.

    Raises:
        Wrong: with what is right before it, and what is wrong.
    """
    right: list[str] = []
    for part in wanted:
        wrong = part.diagnose(returned[part.name])
        if wrong:
            raise Wrong(f"{_listed(right)} right, but {wrong}." if right else f"{wrong}.")
        right.append(part.name)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]} are" if names[1:] else f"{names[0]} is"


def multiple(array: np.ndarray, right: np.ndarray) -> float | None:
    """The scalar c for which array = c right up to rounding, or None if there is no such."""
    c = float((array * right).sum() / (right * right).sum())
    return c if np.linalg.norm(array - c * right) <= ROUNDING * np.linalg.norm(array) else None


def same(a: float, b: float) -> bool:
    """Whether two scalars agree up to rounding."""
    return abs(a - b) <= ROUNDING * abs(b)


def times(c: float) -> str:
    """Write a factor as a person would: "11 times", "1/3 of", "-1 times"."""
    near = Fraction(c).limit_denominator(1000)
    if near != 0 and same(float(near), c):
        return f"1/{near.denominator} of" if near.numerator == 1 and near != 1 else f"{near} times"
    return f"{c:.4g} times"


def diagnose(
    name: str,
    array: np.ndarray,
    right: np.ndarray,
    causes: Mapping[str, float],
    slips: Mapping[str, np.ndarray],
) -> str | None:
    """Say what is wrong with an array of the right shape, in part of a sentence; None if nothing.

    Args:
        name: of the array.
        array: what the answer made.
        right: what it should be; more than one number, so that a multiple of it says something.
        causes: maps what leads to a wrong scale to the factor that it leads to.
        slips: maps what leads to another array to that array; any multiple of it is recognized.
    """
    if np.linalg.norm(array - right) <= ROUNDING * np.linalg.norm(right):
        return None
    if not array.any():
        return f"{name} is all zeros"
    c = multiple(array, right)
    if c is not None:
        for cause, factor in causes.items():
            if same(c, factor):
                return f"{name} is {times(c)} what it should be: {cause}"
        return f"{name} is {times(c)} what it should be, and right up to that factor"
    kind = "matrix" if right.ndim == 2 else "vector"
    scales = {slip: multiple(array, wrong) for slip, wrong in slips.items()}
    for slip, scale in scales.items():
        if scale is not None and same(scale, 1):
            return f"{name} is another {kind}: {slip}"
    for slip, scale in scales.items():
        if scale is not None:
            return f"{name} is another {kind} (and {times(scale)} even that): {slip}"
    if right.ndim == 2 and right.shape[0] == right.shape[1]:
        if _symmetric(right) and not _symmetric(array):
            return f"{name} is not symmetric, which a mean of outer products v v^T always is"
        if np.linalg.norm(array - right.T) <= ROUNDING * np.linalg.norm(right):
            return f"{name} is transposed"
    at = tuple(int(i) for i in np.unravel_index(abs(array - right).argmax(), right.shape))
    distance = np.linalg.norm(array - right) / np.linalg.norm(right)
    if distance < SINGLE_PRECISION:
        return f"{name} is right only up to {distance:.1g} of its norm, as if computed in single precision"
    return (
        f"{name} is off by {distance:.2g} of its norm, most at {list(at)}, "
        f"where it is {array[at]:.4g} and should be {right[at]:.4g}"
    )


def _symmetric(matrix: np.ndarray) -> bool:
    return bool(np.linalg.norm(matrix - matrix.T) <= ROUNDING * np.linalg.norm(matrix))


def moment(v: np.ndarray, n: int) -> np.ndarray:
    """Sum of v v^T over all axes of v but the last, over n."""
    rows = v.reshape(-1, v.shape[-1])
    return rows.T @ rows / n


def causes_of_mean(n: int) -> dict[str, float]:
    """What leads to a wrong scale of a second moment, a mean over n examples, and the factor it leads to."""
    return {
        "the sum over examples is not divided by N": n,
        "it is divided by N twice": 1 / n,
        "the sign is turned, and a mean of squares is positive": -1.0,
    }


def diagnose_number(name: str, returned: np.ndarray, right: float, slips: Mapping[str, float]) -> str | None:
    """The same for one number; slips map what leads to another number to that number."""
    value = float(returned)
    if same(value, right):
        return None
    for slip, other in slips.items():
        if same(value, other):
            return f"{name} is {value:.4g} and should be {right:.4g}: {slip}"
    return f"{name} is {value:.4g} and should be {right:.4g}"


def kind_of(value: Any) -> str:
    """What something is, for a sentence."""
    if value is None:
        return "None"
    name = type(value).__name__
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
