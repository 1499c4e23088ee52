"""What an exercise is made of, and how a matrix is told from what it should be.

A checker returns at the first thing that is wrong, in the order in which a person would look: does it run,
what does it return, which shapes, which numbers. Numbers are compared with the right matrix, with multiples
of it by factors that have a cause, and with the matrices that known slips lead to.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

ROUNDING = 1e-9
"""Relative error up to which two matrices count as the same: float64, summed in another order."""
SINGLE_PRECISION = 1e-5
"""The same for float32."""


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a checker found.

    Attributes:
        correct: whether the answer is right; a verdict is true where it is.
        sentence: one sentence that says what is right or wrong.
        error: the exception that the answer raised, if it did; ``raise verdict.error`` shows where.
    """

    correct: bool
    sentence: str
    error: Exception | None = None

    def __str__(self) -> str:
        return self.sentence

    __repr__ = __str__  # so that a notebook shows the sentence

    def __bool__(self) -> bool:
        return self.correct


class Wrong(Exception):  # noqa: N818
    """Raised by a judge with the sentence that says what is wrong."""


@dataclass(frozen=True, repr=False)
class Exercise:
    """A task that checks its answers.

    Attributes:
        name: by which it is found.
        task: what to do, as text.
        starter: the function to fill in.
        hints: from a nudge to nearly the answer.
        solution: a right answer, for lecturers.
        judge: takes an answer, returns the sentence for a right one, raises :class:`Wrong` for others.
    """

    name: str
    task: str
    starter: Callable[..., Any]
    hints: tuple[str, ...]
    solution: Callable[..., Any]
    judge: Callable[[Callable[..., Any]], str]

    def __repr__(self) -> str:
        return f"Exercise({self.name!r}: {self.task.splitlines()[0]})"

    def hint(self, step: int = 1) -> str:
        """Return a hint; later ones say more.

        Raises:
            ValueError: on a step that there is no hint for.
        """
        if not 1 <= step <= len(self.hints):
            raise ValueError(f"expected a hint from 1 to {len(self.hints)}, got {step}")
        return self.hints[step - 1]

    def check(self, answer: Callable[..., Any]) -> Verdict:
        """Judge an answer. Nothing that it does raises here, save an interrupt from the keyboard."""
        try:
            return Verdict(True, self.judge(answer))
        except Wrong as wrong:
            error = wrong.__cause__
            return Verdict(False, str(wrong), error if isinstance(error, Exception) else None)


def call(answer: Callable[..., Any], **arrays: np.ndarray) -> Any:
    """Call an answer on copies of arrays.

    Raises:
        Wrong: if it cannot be called, raises, or changes its arguments.
    """
    if not callable(answer):
        raise Wrong(
            f"Expected a function of {', '.join(arrays)}, got {kind_of(answer)}: hand over the function "
            "itself, without calling it."
        )
    copies = {name: array.copy() for name, array in arrays.items()}
    try:
        returned = answer(*copies.values())
    except NotImplementedError as error:
        raise Wrong("Nothing is filled in yet: replace the line that raises NotImplementedError.") from error
    except Exception as error:  # whatever it is, the sentence names it
        raise Wrong(
            f"Your function raises {type(error).__name__}{_place(answer, error)}: {_one_line(error)}."
        ) from error
    changed = [name for name, array in arrays.items() if not np.array_equal(copies[name], array)]
    if changed:
        raise Wrong(f"Your function changes {' and '.join(changed)} in place: work on a new array instead.")
    return returned


def _place(answer: Callable[..., Any], error: Exception) -> str:
    """The line of the answer's own file that raised, quoted."""
    own = getattr(getattr(answer, "__code__", None), "co_filename", None)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    return f" at `{lines[-1]}`" if lines and lines[-1] else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or "without a message"


def as_numbers(name: str, returned: Any) -> np.ndarray:
    """Return an array of floats.

    Raises:
        Wrong: on what is no array of real numbers.
    """
    try:
        array = np.asarray(returned)
    except ValueError as error:  # rows of unequal length
        raise Wrong(f"{name} is no array: {_one_line(error)}.") from error
    if array.dtype.kind not in "fiu":
        raise Wrong(f"{name} should be an array of real numbers, got {kind_of(returned)}.")
    return array.astype(float)


def check_finite(name: str, found: np.ndarray) -> None:
    """Refuse NaN and infinite entries."""
    bad = int((~np.isfinite(found)).sum())
    if bad:
        raise Wrong(f"{name} has NaN or infinite entries ({bad} of {found.size}): is something divided by 0?")


def multiple(found: np.ndarray, right: np.ndarray) -> float | None:
    """The scalar c for which found = c right up to rounding, or None if there is no such."""
    c = float((found * right).sum() / (right * right).sum())
    return c if np.linalg.norm(found - c * right) <= ROUNDING * np.linalg.norm(found) else None


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
    found: np.ndarray,
    right: np.ndarray,
    causes: Mapping[str, float],
    slips: Mapping[str, np.ndarray],
) -> str | None:
    """Say what is wrong with a symmetric matrix of the right shape, in part of a sentence; None if nothing.

    Args:
        name: of the matrix.
        found: what the answer made.
        right: what it should be.
        causes: maps what leads to a wrong scale to the factor that it leads to.
        slips: maps what leads to another matrix to that matrix; any multiple of it is recognized.
    """
    if np.linalg.norm(found - right) <= ROUNDING * np.linalg.norm(right):
        return None
    if not found.any():
        return f"{name} is all zeros"
    c = multiple(found, right)
    if c is not None:
        for cause, factor in causes.items():
            if same(c, factor):
                return f"{name} is {times(c)} what it should be: {cause}"
        return f"{name} is {times(c)} what it should be, and right up to that factor"
    if np.linalg.norm(found - found.T) > ROUNDING * np.linalg.norm(found):
        return f"{name} is not symmetric, which a mean of outer products v v^T always is"
    for slip, matrix in slips.items():
        c = multiple(found, matrix)
        if c is not None:
            size = "" if same(c, 1) else f" (and {times(c)} even that)"
            return f"{name} is another matrix{size}: {slip}"
    at = tuple(int(i) for i in np.unravel_index(abs(found - right).argmax(), right.shape))
    distance = np.linalg.norm(found - right) / np.linalg.norm(right)
    if distance < SINGLE_PRECISION:
        return f"{name} is right only up to {distance:.1g} of its norm, as if computed in single precision"
    return (
        f"{name} is off by {distance:.2g} of its norm, most at {list(at)}, "
        f"where it is {found[at]:.4g} and should be {right[at]:.4g}"
    )


def kind_of(thing: Any) -> str:
    """What something is, for a sentence."""
    if thing is None:
        return "None"
    name = type(thing).__name__
    if isinstance(thing, np.ndarray):
        return f"an array of shape {thing.shape} and dtype {thing.dtype}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
