"""Find the bug: implementations of K-FAC that are wrong in one place, and statements to find it by.

    >>> from minikfac.exercises import bugs
    >>> bugs.available()
    ['ash', 'birch', 'cedar', 'elm', 'fir', 'hazel', 'larch', 'maple', 'oak']
    >>> bug = bugs.find("birch")
    >>> F = bug.implementation        # F(net, theta, x, y) is a Fisher matrix; n_samples=, rng= draw targets
    >>> print(bug.look())             # runs the statements: where K-FAC must be exact, and how it must scale
    birch: a Kronecker-factored Fisher matrix
      S1  holds  one example of a dense net: exact
                 exact up to rounding
    ...

Which statement fails, and for which cause of ``bugs.CAUSES``?

    >>> bug.check("S1", "locations")
    S1 holds of birch (one example of a dense net: exact): name a statement that fails.

``print(bug.source())`` shows the lines with the bug, for those who have found it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import planted
from .exercise import Verdict
from .statements import STATEMENTS, Finding, Implementation

CAUSES = {
    "samples": "the weight of M sampled gradients is 1/M, and should be 1/sqrt(M)",
    "labels": "targets are the labels of the data: it is the empirical Fisher matrix",
    "mean-loss": "derivatives are those of the mean loss, so that N divides them once more",
    "locations": "both factors of a convolution are means over locations, and one should be a sum",
    "sum-first": "derivatives are summed over locations before the outer product, and not after",
    "bias": "the row of the bias is missing from A",
    "order": "the order of the Kronecker product is swapped",
    "centred": "the mean is subtracted from the activations",
    "batch-gradient": "the mean gradient of the batch is squared, and not that of each example",
}
"""What can be wrong."""


@dataclass(frozen=True)
class Findings:
    """What all statements found of one implementation; prints as a table."""

    title: str
    found: dict[str, Finding]

    def __getitem__(self, statement: str) -> Finding:
        return self.found[statement]

    @property
    def failing(self) -> list[str]:
        """Names of the statements that fail."""
        return [name for name, finding in self.found.items() if not finding.holds]

    def __str__(self) -> str:
        lines = [self.title]
        for name, finding in self.found.items():
            lines.append(f"  {name}  {'holds' if finding.holds else 'FAILS'}  {STATEMENTS[name].says}")
            lines.append(f"             {finding.measured}")
        return "\n".join(lines)

    __repr__ = __str__


def look(make: Implementation, title: str = "an implementation") -> Findings:
    """Run all statements on an implementation, also one of your own."""
    return Findings(title, {name: statement.check(make) for name, statement in STATEMENTS.items()})


@dataclass(frozen=True, repr=False)
class Bug:
    """An implementation with a bug.

    Attributes:
        name: by which it is found; it says nothing.
        kind: what it claims to make.
        implementation: a function of (net, theta, x, y, n_samples=None, rng=None).
        part: the function that holds the bug.
        cause: among :data:`CAUSES`.
        why: what the bug does, and what that does to those who rely on it.
    """

    name: str
    kind: str
    implementation: Implementation
    part: Callable[..., Any]
    cause: str
    why: str

    def __repr__(self) -> str:
        return f"Bug({self.name!r}: {self.kind} with a bug)"

    def look(self) -> Findings:
        """Run all statements on it."""
        return self._findings

    @cached_property
    def _findings(self) -> Findings:
        return look(self.implementation, f"{self.name}: {self.kind}")

    def source(self) -> str:
        """The lines with the bug. Find it first."""
        return inspect.getsource(self.part)

    def check(self, statement: str, cause: str) -> Verdict:
        """Judge a statement that is said to fail, and the cause that is said to make it fail."""
        for what, given, known in (("statement", statement, STATEMENTS), ("cause", cause, CAUSES)):
            if given not in known:
                return Verdict(False, f"Expected a {what} among {', '.join(known)}, got {given!r}.")
        found = self.look()
        if found[statement].holds:
            says = STATEMENTS[statement].says
            return Verdict(False, f"{statement} holds of {self.name} ({says}): name a statement that fails.")
        if cause == self.cause:
            return Verdict(True, f"Correct: {statement} fails, as {CAUSES[cause]}; {self.why}.")
        return Verdict(False, f"{statement} fails, but not for that cause: {self._instead(found, cause)}.")

    def _instead(self, found: Findings, cause: str) -> str:
        """What a cause would lead to that is not so here."""
        other = next(bug for bug in _ALL.values() if bug.cause == cause).look()
        for name, finding in found.found.items():
            if finding.holds != other[name].holds:
                here, there = ("holds", "fail") if finding.holds else ("fails", "hold")
                return f"{name} would {there} then, and here it {here}"
        name = next(name for name in found.failing if found[name] != other[name])
        return (
            f"the same statements would fail then, but of {name} one would find {other[name].measured}; here "
            f"{found[name].measured}"
        )


_KFAC, _DIAGONAL = "a Kronecker-factored Fisher matrix", "a diagonal Fisher matrix"

_ALL = {
    bug.name: bug
    for bug in (
        Bug(
            "ash",
            _KFAC,
            planted.implementation(factors=planted.factors_without_bias),
            planted.factors_without_bias,
            "bias",
            "biases have no curvature then, and their steps are gradient over damping: far too long",
        ),
        Bug(
            "birch",
            _KFAC,
            planted.implementation(factors=planted.factors_mean_over_locations),
            planted.factors_mean_over_locations,
            "locations",
            "convolutions get T times too little curvature beside dense layers, so damping hits them T times "
            "as hard",
        ),
        Bug(
            "cedar",
            _KFAC,
            planted.implementation(targets=planted.label_targets),
            planted.label_targets,
            "labels",
            "it goes to zero where the net fits its data, just where steps should be short",
        ),
        Bug(
            "elm",
            _KFAC,
            planted.implementation(matrix=planted.matrix_swapped),
            planted.matrix_swapped,
            "order",
            "trace and eigenvalues are right then, which hides it: only a comparison entry by entry shows it",
        ),
        Bug(
            "fir",
            _DIAGONAL,
            planted.implementation(factors=planted.squared_mean_gradient, matrix=planted.diagonal_matrix),
            planted.squared_mean_gradient,
            "batch-gradient",
            "gradients of different examples cancel in the mean, so it is about N times too small and noisy",
        ),
        Bug(
            "hazel",
            _KFAC,
            planted.implementation(targets=planted.targets_over_m),
            planted.targets_over_m,
            "samples",
            "with M samples it is M times too small, and one sample hides it",
        ),
        Bug(
            "larch",
            _KFAC,
            planted.implementation(factors=planted.factors_centred),
            planted.factors_centred,
            "centred",
            "A is a second moment, and the constant 1 of the bias has no variance: its row is lost",
        ),
        Bug(
            "maple",
            _KFAC,
            planted.implementation(targets=planted.targets_of_mean_loss),
            planted.targets_of_mean_loss,
            "mean-loss",
            "squared, the matrix is N^2 times too small; the direction of a step survives, and damping does "
            "not mean what it says",
        ),
        Bug(
            "oak",
            _KFAC,
            planted.implementation(factors=planted.factors_summed_first),
            planted.factors_summed_first,
            "sum-first",
            "locations are taken for fully correlated then, and KFC takes them for uncorrelated",
        ),
    )
}


def available() -> list[str]:
    """Names of the implementations."""
    return list(_ALL)


def find(name: str) -> Bug:
    """Return an implementation with a bug by its name.

    Raises:
        ValueError: on an unknown name.
    """
    if name not in _ALL:
        raise ValueError(f"expected one of {', '.join(_ALL)}, got {name!r}")
    return _ALL[name]
