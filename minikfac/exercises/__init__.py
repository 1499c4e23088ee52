"""Exercises that check themselves: a task, a function to fill in, hints, and an answer in one sentence.

    >>> from minikfac import exercises
    >>> exercises.available()[:4]
    ['natural-gradient', 'backward', 'exact-fisher', 'kronecker-factors']
    >>> exercise = exercises.find("kronecker-factors")     # or exercises.kronecker_factors
    >>> print(exercise.task.splitlines()[0])
    Write the two factors of K-FAC.

``print(inspect.getsource(exercise.starter))`` shows the function to fill in, ``exercise.hint(1)`` helps, and
``exercise.check(my_factors)`` says what is right or wrong:

    >>> exercise.check(lambda abar, g: (abar.T @ abar, g[0].T @ g[0]))
    A is 11 times what it should be: the sum over examples is not divided by N; G is another matrix (and
    11 times even that): only term 0 of the K target terms went in, and they are to be summed.

Each exercise is one file that makes an :class:`Exercise`, and one line in this one. In :mod:`.bugs` the task
is another: implementations of K-FAC with a bug each, and statements of exactness and scale to find it by.
"""

from __future__ import annotations

from . import bugs
from .affine import reparameterize
from .backprop import backward
from .convolutions import kfc_factors
from .damping import factored_damping
from .eigenbasis import ekfac_scales
from .enumeration import exact_fisher
from .exercise import Answer, Exercise, Verdict
from .factors import kronecker_factors
from .forty_lines import kfac_in_forty_lines
from .gaussian import natural_gradient
from .inverse import kronecker_step
from .neighbours import tridiagonal
from .quadratic import rescale_and_momentum
from .workers import all_reduce

_ALL = {
    exercise.name: exercise
    for exercise in (
        natural_gradient,
        backward,
        exact_fisher,
        kronecker_factors,
        kronecker_step,
        factored_damping,
        kfac_in_forty_lines,
        tridiagonal,
        kfc_factors,
        reparameterize,
        rescale_and_momentum,
        ekfac_scales,
        all_reduce,
    )
}
__all__ = ["Exercise", "Verdict", "available", "bugs", "check", "find"]
__all__ += [name.replace("-", "_") for name in _ALL]


def available() -> list[str]:
    """Names of the exercises, in the order of the course."""
    return list(_ALL)


def find(name: str) -> Exercise:
    """Return an exercise by its name.

    Raises:
        ValueError: on an unknown name.
    """
    if name not in _ALL:
        raise ValueError(f"expected an exercise among {', '.join(_ALL)}, got {name!r}")
    return _ALL[name]


def check(name: str, answer: Answer) -> Verdict:
    """Judge an answer to the exercise of this name; see :meth:`Exercise.check`."""
    return find(name).check(answer)
