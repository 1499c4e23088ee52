"""The parts of an exercise: a task, a function to fill in, hints, a solution, and a judge of answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Answer = Callable[..., Any]
"""A function written by a reader."""


@dataclass(frozen=True, repr=False)
class Verdict:
    """The result of a check.

    Attributes:
        correct: whether the answer is right; the truth value of the verdict.
        sentence: what is right or wrong, in one sentence.
        error: the exception raised by the answer, if any; ``raise verdict.error`` shows where.
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
    """Raised by a judge, with a sentence about what is wrong."""


@dataclass(frozen=True, repr=False)
class Exercise:
    """A task that checks its answers.

    Attributes:
        name: for :func:`find`.
        starter: the function to fill in.
        hints: each more explicit than the one before.
        solution: a correct answer, for lecturers.
        judge: takes an answer and the arguments of a case, raises :class:`Wrong` unless it is right there.
        cases: two, by description, with the arguments of each, so that nothing can be hard-coded.
        correct: the sentence for a correct answer.
    """

    name: str
    starter: Answer
    hints: tuple[str, ...]
    solution: Answer
    judge: Callable[..., None]
    cases: dict[str, tuple[Any, ...]]
    correct: str

    def __repr__(self) -> str:
        return f"Exercise({self.name!r}: {self.task.splitlines()[0]})"

    @property
    def task(self) -> str:
        """What to do: the text at the top of the exercise's file."""
        return inspect.getdoc(inspect.getmodule(self.judge)) or ""

    def hint(self, step: int = 1) -> str:
        """Return a hint; later ones say more.

        Raises:
            ValueError: if there is no such hint.
        """
        if not 1 <= step <= len(self.hints):
            raise ValueError(f"expected a hint from 1 to {len(self.hints)}, got {step}")
        return self.hints[step - 1]

    def check(self, answer: Answer) -> Verdict:
        """Judge an answer. Exceptions that it raises are caught, except a keyboard interrupt."""
        right = ""
        for case, arguments in self.cases.items():
            try:
                self.judge(answer, *arguments)
            except Wrong as wrong:
                error = wrong.__cause__
                sentence = f"Right on {right}, but not on {case}: {wrong}" if right else str(wrong)
                return Verdict(False, sentence, error if isinstance(error, Exception) else None)
            right = case
        return Verdict(True, f"Correct: {self.correct}")
