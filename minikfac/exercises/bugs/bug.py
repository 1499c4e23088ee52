"""What has a bug, what the statements find of it, and the judge of answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..exercise import Verdict
from . import planted
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
    """What all statements find of one implementation; prints as a table."""

    title: str
    by_statement: dict[str, Finding]

    def __getitem__(self, statement: str) -> Finding:
        return self.by_statement[statement]

    @property
    def failing(self) -> list[str]:
        """Names of the statements that fail."""
        return [name for name, finding in self.by_statement.items() if not finding.holds]

    def __str__(self) -> str:
        lines = [self.title]
        for name, finding in self.by_statement.items():
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
        for what, given, choices in (("statement", statement, STATEMENTS), ("cause", cause, CAUSES)):
            if given not in choices:
                return Verdict(False, f"Expected a {what} among {', '.join(choices)}, got {given!r}.")
        findings = self.look()
        if findings[statement].holds:
            says = STATEMENTS[statement].says
            return Verdict(False, f"{statement} holds of {self.name} ({says}): name a statement that fails.")
        if cause == self.cause:
            return Verdict(True, f"Correct: {statement} fails, as {CAUSES[cause]}; {self.why}.")
        return Verdict(False, f"{statement} fails, but not for that cause: {self._instead(findings, cause)}.")

    def _instead(self, findings: Findings, cause: str) -> str:
        """What a cause would lead to that is not so here."""
        other = next(bug for bug in _ALL.values() if bug.cause == cause).look()
        for name, finding in findings.by_statement.items():
            if finding.holds != other[name].holds:
                here, there = ("holds", "fail") if finding.holds else ("fails", "hold")
                return f"{name} would {there} then, and here it {here}"
        name = next(name for name in findings.failing if findings[name] != other[name])
        return (
            f"the same statements would fail then, but of {name} one would find {other[name].measured}; here "
            f"{findings[name].measured}"
        )


def _bug(
    name: str,
    cause: str,
    why: str,
    kind: str = "a Kronecker-factored Fisher matrix",
    **parts: Callable[..., Any],
) -> Bug:
    """Make an implementation with other parts than the right ones; the first of them holds the bug."""
    return Bug(name, kind, planted.implementation(**parts), next(iter(parts.values())), cause, why)


_ALL = {
    bug.name: bug
    for bug in (
        _bug(
            "ash",
            "bias",
            "biases have no curvature then, and their steps are gradient over damping: far too long",
            factors=planted.factors_without_bias,
        ),
        _bug(
            "birch",
            "locations",
            "convolutions get T times too little curvature beside dense layers, so damping hits them T times "
            "as hard",
            factors=planted.factors_mean_over_locations,
        ),
        _bug(
            "cedar",
            "labels",
            "it goes to zero where the net fits its data, just where steps should be short",
            targets=planted.label_targets,
        ),
        _bug(
            "elm",
            "order",
            "trace and eigenvalues are right then, which hides it: only a comparison entry by entry shows it",
            matrix=planted.matrix_swapped,
        ),
        _bug(
            "fir",
            "batch-gradient",
            "gradients of different examples cancel in the mean, so it is about N times too small and noisy",
            kind="a diagonal Fisher matrix",
            factors=planted.squared_mean_gradient,
            matrix=planted.diagonal_matrix,
        ),
        _bug(
            "hazel",
            "samples",
            "with M samples it is M times too small, and one sample hides it",
            targets=planted.targets_over_m,
        ),
        _bug(
            "larch",
            "centred",
            "A is a second moment, and the constant 1 of the bias has no variance: its row is lost",
            factors=planted.factors_centred,
        ),
        _bug(
            "maple",
            "mean-loss",
            "squared, the matrix is N^2 times too small; the direction of a step survives, and damping does "
            "not mean what it says",
            targets=planted.targets_of_mean_loss,
        ),
        _bug(
            "oak",
            "sum-first",
            "locations are taken for fully correlated then, and KFC takes them for uncorrelated",
            factors=planted.factors_summed_first,
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
