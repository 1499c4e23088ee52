"""How an answer is judged, and how a wrong array is explained.

A judge stops at the first thing that is wrong, in the order in which a person would look: does it run, what
does it return, which shapes, which numbers. An array is compared with the right one, with multiples of it by
factors that have a known cause, and with the arrays that result from known slips.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations_with_replacement, permutations
from typing import Any

import numpy as np

from ..backend import Array, as_array
from .exercise import Answer, Wrong

ROUNDING = 1e-9
"""Relative error up to which two matrices count as equal in float64."""
SINGLE_PRECISION = 1e-5
"""The same for float32."""
CONSTANTS = {"the sign is turned": -1.0, "a factor 2 is too much": 2.0, "a factor 2 is missing": 0.5}
"""Causes of a wrong scale, and the factors that result."""

Shape = tuple[int, ...]


def call(answer: Answer, **arrays: Any) -> Any:
    """Call an answer on copies of arrays and numbers.

    Raises:
        Wrong: if it cannot be called, raises an error, changes its arguments, or is not deterministic.
    """
    if not callable(answer):
        raise Wrong(
            f"Expected a function of {', '.join(arrays)}, got {kind_of(answer)}: hand over the function "
            "itself, without calling it."
        )
    copies, others = copy.deepcopy(arrays), copy.deepcopy(arrays)
    try:
        returned, again = answer(*copies.values()), answer(*others.values())
    except NotImplementedError as error:
        raise Wrong("Nothing is filled in yet: replace the line that raises NotImplementedError.") from error
    except Exception as error:  # whatever it is, the sentence names it
        raise Wrong(
            f"Your function raises {type(error).__name__}{_place(answer, error)}: {_one_line(error)}."
        ) from error
    changed = [name for name, value in arrays.items() if _changed(copies[name], value)]
    if changed:
        raise Wrong(f"Your function changes {' and '.join(changed)} in place: work on a new array instead.")
    if _changed(again, returned):
        advice = "draw from the rng that is handed in" if "rng" in arrays else "nothing is to be drawn here"
        raise Wrong(f"Two calls with the same arguments give different results: {advice}.")
    return returned


def _changed(copy: Any, value: Any) -> bool:
    """Whether an array, or one in a list, has changed; generators and states may change."""
    if isinstance(value, list | tuple):
        return any(_changed(*pair) for pair in zip(copy, value, strict=False)) or len(copy) != len(value)
    plain = isinstance(value, np.ndarray) and value.dtype != object
    return plain and np.asarray(copy).tobytes() != np.asarray(value).tobytes()  # NaN is what it was, too


def _place(answer: Answer, error: Exception) -> str:
    """The line of the answer's file that raised the error, quoted."""
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" at `{lines[-1]}`" if lines and lines[-1] else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or "without a message"


def as_numbers(name: str, returned: Any) -> Array:
    """Return an array of floats.

    Raises:
        Wrong: unless it is an array of real numbers.
    """
    if returned is None:
        raise Wrong(f"Expected {name}, got None: is there a return at the end?")
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


def shaped(name: str, returned: Any, shape: Shape, slips: Mapping[Any, str] | None = None) -> Array:
    """Return a finite array of this shape.

    Args:
        name: of the array.
        returned: the result of the answer.
        shape: the right shape.
        slips: maps wrong shapes to their causes.

    Raises:
        Wrong: on anything else.
    """
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
    """An array or a number that an answer returns, and known ways to get it wrong.

    Attributes:
        name: of the array.
        right: the right array or number.
        causes: maps causes of a wrong scale to the resulting factor.
        slips: maps known slips to the resulting array or number; or a function that makes this map of the
            answer.
        shapes: maps wrong shapes to their causes.
        bias: axes whose last entry belongs to the constant 1.
    """

    name: str
    right: Any
    causes: Mapping[str, float] = field(default_factory=dict)
    slips: Mapping[str, Any] | Callable[[Array], Mapping[str, Any]] = field(default_factory=dict)
    shapes: Mapping[Any, str] = field(default_factory=dict)
    bias: tuple[int, ...] = ()

    def diagnose(self, returned: Any) -> str | None:
        """Say what is wrong, in part of a sentence; None if nothing.

        Raises:
            Wrong: on what is not a finite array of the right shape.
        """
        array = shaped(self.name, returned, np.shape(self.right), self.shapes)
        if close(array, self.right):
            return None
        slips = dict(self.slips(array) if callable(self.slips) else self.slips)
        if array.ndim == 0:
            return self._diagnose_number(array, slips)
        if self.bias:
            slips["the bias comes first, and should be the last"] = np.roll(self.right, 1, axis=self.bias)
            slips["the bias row is zero, and its input is the constant 1"] = without = self.right.copy()
            for axis in self.bias:
                without.swapaxes(0, axis)[-1] = 0
        return self._diagnose_array(array, slips)

    def _diagnose_array(self, array: Array, slips: Mapping[str, Array]) -> str:
        """Say what is wrong with an array of the right shape; any multiple of a slip is recognized."""
        name, right = self.name, self.right
        if not array.any():
            return f"{name} is all zeros"
        c = multiple(array, right)
        if c is not None:
            cause = cause_of(c, self.causes)
            why = f": {cause}" if cause else ", and right up to that factor"
            return f"{name} is {times(c)} what it should be{why}"
        kind, square = "matrix" if right.ndim == 2 else "vector", right.shape == (len(right), len(right))
        if square:
            slips = {**slips, "only the diagonal is filled in": np.diag(right.diagonal())}
        scales = {slip: multiple(array, wrong) for slip, wrong in slips.items()}
        for slip, scale in scales.items():
            if scale is not None and same(scale, 1):
                return f"{name} is another {kind}: {slip}"
        for slip, scale in scales.items():
            if scale is not None:
                return f"{name} is another {kind} (and {times(scale)} even that): {slip}"
        if square:
            if close(right.T, right) and not close(array.T, array):
                return f"{name} is not symmetric, which a mean of outer products v v^T always is"
            if close(array, right.T):
                return f"{name} is transposed"
        at = tuple(int(i) for i in np.unravel_index(abs(array - right).argmax(), right.shape))
        distance = np.linalg.norm(array - right) / np.linalg.norm(right)
        if distance < SINGLE_PRECISION:
            return (
                f"{name} is right only up to {distance:.1g} of its norm, as if computed in single precision"
            )
        return (
            f"{name} is off by {distance:.2g} of its norm, most at {list(at)}, "
            f"where it is {array[at]:.4g} and should be {right[at]:.4g}"
        )

    def _diagnose_number(self, array: Array, slips: Mapping[str, float]) -> str:
        """Say what is wrong with one number."""
        value = float(array)
        matching = (slip for slip, other in slips.items() if same(value, other))
        why = next(matching, None) or cause_of(value / self.right, {})
        return f"{self.name} is {value:.4g} and should be {self.right:.4g}" + (f": {why}" if why else "")


def ordered(returned: Mapping[str, Any], *wanted: Part) -> None:
    """Reject the right parts in another order, recognized by their shapes or their numbers.

    Raises:
        Wrong: with both orders.
    """
    arrays, names = [as_numbers(*pair) for pair in returned.items()], tuple(returned)
    right = {part.name: np.asarray(part.right) for part in wanted}
    pairs = {o: [(a, right[name]) for a, name in zip(arrays, o, strict=True)] for o in permutations(names)}
    orders = [order for order in pairs if all(a.shape == b.shape for a, b in pairs[order])]
    if names in orders or len(orders) > 1:
        orders = [order for order in orders if all(close(*pair) for pair in pairs[order])]
    if len(orders) == 1 and orders[0] != names:
        moved = [name for name, other in zip(names, orders[0], strict=True) if name != other]
        raise Wrong(f"{_listed(moved)} swapped: expected ({', '.join(names)}), got ({', '.join(orders[0])}).")


def in_order(returned: Mapping[str, Any], *wanted: Part) -> None:
    """Stop at the first wrong part; errors in later ones may follow from it.

    Args:
        returned: results of the answer, by name.
        wanted: in the order of judging.

    Raises:
        Wrong: with the parts that are right before it, and what is wrong.
    """
    ordered(returned, *wanted)
    right: list[str] = []
    for part in wanted:
        wrong = part.diagnose(returned[part.name])
        if wrong:
            raise Wrong(f"{_listed(right)} right, but {wrong}." if right else f"{wrong}.")
        right.append(part.name)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]} are" if names[1:] else f"{names[0]} is"


def multiple(array: Array, right: Array) -> float | None:
    """Return the scalar c with array = c right up to rounding, or None if there is none."""
    c = float((array * right).sum() / (right * right).sum())
    return c if np.linalg.norm(array - c * right) <= ROUNDING * np.linalg.norm(array) else None


def same(a: float, b: float) -> bool:
    """Whether two scalars agree up to rounding."""
    return abs(a - b) <= ROUNDING * abs(b)


def close(array: Array, right: Any) -> bool:
    """Whether two arrays of one shape agree up to rounding, relative to the norm of the second."""
    return bool(np.linalg.norm(array - right) <= ROUNDING * np.linalg.norm(right))


def cause_of(c: float, causes: Mapping[str, float]) -> str | None:
    """Return the cause of a wrong scale: one, the same one twice, or two; None if there is none."""
    causes = {**causes, **CONSTANTS}
    pairs = combinations_with_replacement(causes.items(), 2)
    both = {f"{one}; and {'that twice' if one == other else other}": f * h for (one, f), (other, h) in pairs}
    return next((cause for cause, factor in {**causes, **both}.items() if same(c, factor)), None)


def times(c: float) -> str:
    """Write a factor in words: "11 times", "1/3 of", "-1 times"."""
    near = Fraction(c).limit_denominator(1000)
    if near != 0 and same(float(near), c):
        return f"1/{near.denominator} of" if near.numerator == 1 and near != 1 else f"{near} times"
    return f"{c:.4g} times"


def moment(v: Array, n: int) -> Array:
    """Sum of v v^T over all axes of v but the last, over n."""
    rows = v.reshape(-1, v.shape[-1])
    return rows.T @ rows / n


def mixed(name: str, v: Array, n: int) -> dict[str, Array]:
    """The second moment of v (..., D) if it was reshaped where its transpose is meant."""
    rows = v.reshape(v.shape[-1], -1)
    return {f"{name} was reshaped, which mixes the examples, and a transpose is meant": rows @ rows.T / n}


def drawn(array: Array, total: float, sizes: Array) -> dict[str, Array]:
    """The slip of using one target per example, if one of its sizes (K, N) per example sums to the total."""
    sums = np.zeros(1)
    for column in sizes.T:
        sums = (sums[:, None] + column).ravel()
    one = (abs(sums - total) <= ROUNDING * total).any()
    return {"one target of each example went in, and all of them are to be summed": array} if one else {}


def causes_of_mean(n: int) -> dict[str, float]:
    """Causes of a wrong scale of a second moment, a mean over n examples, and the resulting factors."""
    return {
        "the sum over examples is not divided by N": n,
        "it is divided by N twice": 1 / n,
    }


def kind_of(value: Any) -> str:
    """Describe the type of a value in a sentence."""
    if value is None:
        return "None"
    name = type(value).__name__
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
