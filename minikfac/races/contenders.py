"""Optimizers by name: how each is made, and the ranges from which its arguments are drawn in a search.

The ranges are the same width for all: four to five decades for a step size or a damping, and a handful of
values for what is not continuous. Arguments that the method's paper does not tune keep their defaults.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from .. import optim
from ..display import ShownByFields
from ..network import Network
from ..optim import schedules
from ..training.loop import Optimizer
from .search import Choice, LogUniform, Range

MOMENTA = tuple(schedules.SutskeverMomentum(largest) for largest in (0.0, 0.9, 0.99, 0.995, 0.999))
"""Momentum that grows up to each of the values tried in [SMDH13, sec. 3]."""


LONGEST = 200
"""Characters of an argument."""
SCHEDULES: dict[str, type] = {
    name: getattr(schedules, name)
    for name in ("Constant", "Exponential", "InverseTime", "Cosine", "Steps", "SutskeverMomentum")
}


@dataclass(frozen=True, repr=False)
class Contender(ShownByFields):
    """An optimizer that can be named on the command line.

    Attributes:
        name: of it.
        optimizer: its class in :mod:`minikfac.optim`, by name.
        arguments: those that make it what its name says, and what it begins with where nothing else is known.
        space: ranges for a search.
    """

    name: str
    optimizer: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Range] = field(default_factory=dict)

    @property
    def kind(self) -> type:
        """The class of the optimizer."""
        return getattr(optim, self.optimizer)

    def make(self, net: Network, **arguments: Any) -> Optimizer:
        """Make it for a net, with these arguments in place of its own.

        Raises:
            ValueError: on an argument that it does not have, or a value that it rejects.
        """
        names = [f.name for f in fields(self.kind) if f.init and f.name != "net"]
        unknown = ", ".join(name for name in arguments if name not in names)
        if unknown:
            raise ValueError(f"expected arguments of {self.name} among {', '.join(names)}, got {unknown}")
        chosen = {**self.arguments, **arguments}
        try:
            return self.kind(net, **chosen)
        except TypeError as error:  # a word was compared with a number
            odd = ", ".join(f"{key}={x!r}" for key, x in chosen.items() if not isinstance(x, int | float))
            raise ValueError(f"expected values that {self.name} takes, got {odd}: {error}") from error


_STEP, _DAMPING = LogUniform(1e-4, 1.0), LogUniform(1e-5, 1e-1)
_MOMENTUM = Choice((0.0, 0.5, 0.9, 0.95, 0.99))
_PRECONDITIONED: dict[str, Range] = {"lr": _STEP, "damping": _DAMPING, "momentum": _MOMENTUM}
_KFAC: dict[str, Range] = {
    "lam": LogUniform(1e-2, 1e3),
    "tau1": Choice((1 / 8, 1 / 2, 1.0)),
    "tau2": Choice((1 / 4, 1.0)),
    "T3": Choice((5, 20)),
    "gamma_share": LogUniform(1e-2, 1.0),
}

CONTENDERS = (
    Contender("SGD", "SGD", {"lr": 0.05, "momentum": 0.9}, {"lr": _STEP, "momentum": _MOMENTUM}),
    Contender(
        "Nesterov",
        "SGD",
        {"lr": 0.05, "momentum": MOMENTA[2], "nesterov": True},
        {"lr": _STEP, "momentum": Choice(MOMENTA)},
    ),
    Contender(
        "Adam", "Adam", {"lr": 3e-3}, {"lr": LogUniform(1e-5, 1e-1), "beta1": Choice((0.0, 0.5, 0.9, 0.95))}
    ),
    Contender(
        "diagonal", "DiagonalNaturalGradient", {"lr": 0.01, "damping": 1e-2, "momentum": 0.9}, _PRECONDITIONED
    ),
    Contender(
        "low rank",
        "LowRank",
        {"lr": 0.01, "damping": 0.1, "momentum": 0.9},
        {**_PRECONDITIONED, "damping": LogUniform(1e-4, 1.0)},
    ),
    Contender("Krylov subspace", "KrylovSubspace", {}, {"damping": _DAMPING, "K": Choice((5, 10, 20))}),
    Contender(
        "Hessian-free",
        "HessianFree",
        {},
        {"lam": LogUniform(1e-3, 1e2), "max_iterations": Choice((20, 50, 100, 250))},
    ),
    Contender("K-FAC", "KFAC", {}, _KFAC),
    Contender("K-FAC tridiagonal", "KFAC", {"structure": "block_tridiagonal"}, _KFAC),
    Contender("KFC-pre", "KFCPre", {"lr": 0.1, "damping": 1e-2}, {**_PRECONDITIONED, "Tf": Choice((5, 20))}),
    Contender("EKFAC", "EKFAC", {"lr": 0.03, "damping": 0.03}, {**_PRECONDITIONED, "T3": Choice((5, 20))}),
    Contender("natural gradient", "NaturalGradient", {}, {"lr": LogUniform(1e-2, 1.0), "damping": _DAMPING}),
)
"""What :func:`contender` knows."""


def contender(name: str) -> Contender:
    """Find an optimizer by its name, or the name of its class, whatever its case, blanks and hyphens.

    Raises:
        ValueError: if there is none.

    >>> contender("kfac").name, contender("K-FAC Tridiagonal").kind.__name__
    ('K-FAC', 'KFAC')
    """
    spellings = {_letters(each.optimizer): each for each in reversed(CONTENDERS)}
    spellings |= {_letters(each.name): each for each in CONTENDERS}
    if _letters(name) in spellings:
        return spellings[_letters(name)]
    near = get_close_matches(_letters(name), spellings, 1, 0.5)
    hint = f"; did you mean {spellings[near[0]].name}?" if near else ""
    names = ", ".join(each.name for each in CONTENDERS)
    raise ValueError(f"expected an optimizer among {names}, got {name!r}{hint}")


def argument(text: str) -> Any:
    """Read the value of an argument: a number, true or false, None, a word, or a schedule by name.

    >>> argument("1e-3"), argument("block_tridiagonal"), argument("SutskeverMomentum(0.99)")
    (0.001, 'block_tridiagonal', SutskeverMomentum(maximum=0.99))
    >>> argument("true"), argument("False")
    (True, False)

    Raises:
        ValueError: on a schedule that does not exist or rejects its numbers, or a text that is too long.
    """
    if len(text) > LONGEST:  # Python's parser gives up at a few thousand
        raise ValueError(f"expected a value of at most {LONGEST} characters, got {len(text):,}")
    called = re.fullmatch(r"(\w+)\((.*)\)", text.strip())
    if called:
        kind = SCHEDULES.get(called[1])
        if kind is None:
            raise ValueError(f"expected a schedule among {', '.join(SCHEDULES)}, got {called[1]}")
        try:
            numbers = ast.literal_eval(f"({called[2]},)") if called[2].strip() else ()
            return kind(*numbers)
        except (TypeError, SyntaxError, ValueError) as error:
            raise ValueError(f"expected numbers that make a {called[1]}, got {text}: {error}") from error
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (SyntaxError, ValueError, TypeError):  # {[]: 1} is a TypeError
        return text


def argument_range(text: str) -> Range:
    """Read what an argument is drawn from: a range of magnitudes, or values with commas between them.

    >>> argument_range("1e-3:0.1"), argument_range("5, 20")
    (LogUniform(low=0.001, high=0.1), Choice(values=(5, 20)))
    >>> argument_range("SutskeverMomentum(0.9),0.5").values
    (SutskeverMomentum(maximum=0.9), 0.5)

    Raises:
        ValueError: on a range that is not of two positive numbers in order, or no value at all.
    """
    low, colon, high = text.partition(":")
    if colon:
        ends = argument(low.strip()), argument(high.strip())
        if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
            raise ValueError(f"expected a range as 0.01:1, got {text!r}")
        return LogUniform(*ends)
    parts: list[str] = []
    for piece in text.split(","):
        if parts and parts[-1].count("(") > parts[-1].count(")"):  # between the numbers of a schedule
            parts[-1] += f",{piece}"
        else:
            parts.append(piece.strip())
    if not all(parts):
        raise ValueError(f"expected a range as 0.01:1 or values as 5,20, got {text!r}")
    return Choice(tuple(argument(part) for part in parts))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
