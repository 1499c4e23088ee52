"""The comparison by products with F alone, for nets of any size: an early answer that gets sharper.

    step      (F + lambda I)^{-1} g by conjugate gradients, with an approximation as preconditioner
    error     ||F - F~||_F^2 = ||(F - F~) Q||_F^2 + E ||(F - F~) z||^2,   z = (I - Q Q^T) random signs
    c_star    <F, F~> / <F~, F~>, both likewise

Q is an orthonormal basis near the leading eigenvectors of F, and of the approximation that preconditions
(:mod:`minikfac.fisher.estimates`): they make up most of the norm, and are not left to chance. All
approximations meet the same vectors. Standard errors of ratios are those of the jackknife.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from ..backend import Array, fetch
from ..fisher import FisherMatrix, MatrixFree
from ..fisher.estimates import Estimate, leading_subspace, random_signs
from .measures import Row, cg_iterations, step_rows, undamped
from .norms import Product, ratio
from .reference import ProductReference

EARLY = 20
"""Iterations of conjugate gradients before the first answer."""
AVAILABLE = ("matrix", "step", "cg")
USUAL = ("matrix", "step")
ABSENT = {
    "inverse error and KL": "they need the dense matrix",
    "spectral error and eigenvalues": "fisher.spectral_density estimates eigenvalues",
    "error and best scale of single layers": "compare F.blocks[l], one by one",
}
"""What a comparison by products lacks, and why."""


@dataclass
class Sums:
    """Squares and products of what several matrices make of the same vectors, (m, statistics)."""

    exact: list[float] = field(default_factory=list)
    samples: list[list[float]] = field(default_factory=list)

    def add(self, values: Sequence[float], random: bool) -> None:
        """Add those of one vector: a random one, or one of the leading subspace."""
        if random:
            self.samples.append(list(values))
        else:
            self.exact = [a + b for a, b in zip(self.exact or len(values) * [0.0], values, strict=True)]

    def estimate(self, statistic: Callable[[Sequence[float]], float]) -> Estimate:
        """A function of the sums, and its standard error by the jackknife."""
        m, columns = len(self.samples), list(zip(*self.samples, strict=True))
        exact = self.exact or len(columns) * [0.0]
        totals = [sum(column) for column in columns]
        value = statistic([e + total / m for e, total in zip(exact, totals, strict=True)])
        without = [
            statistic([e + (t - s) / (m - 1) for e, t, s in zip(exact, totals, sample, strict=True)])
            for sample in self.samples
        ]
        mean = sum(without) / m
        return Estimate(value, ((m - 1) / m * sum((part - mean) ** 2 for part in without)) ** 0.5)


def vectors_and_images(
    F: MatrixFree, K: Product, vectors: int, seed: int
) -> Iterator[tuple[Array, Array, bool]]:
    """Yield v and F v: those of a leading subspace, then ``vectors`` random ones orthogonal to it (True).

    Args:
        F: the exact matrix.
        K: the product with an approximation, whose leading eigenvectors are set apart too.
        vectors: how many; half as many are set apart of F and of K.
        seed: of the random vectors.
    """
    subspace = leading_subspace(F, vectors // 2, seed, [K])
    for v, Fv in zip(subspace.Q, subspace.FQ, strict=True):
        yield v, Fv, False
    for signs in islice(random_signs(F, seed), vectors):
        z = subspace.without(signs)
        yield z, F @ z, True


@dataclass
class _Measured:
    """An approximation so far: its step, its rows, and sums for its distance from F."""

    matrix: FisherMatrix
    method: str | None
    reference: ProductReference
    rows: list[Row] = field(default_factory=list)
    spread: Row = field(default_factory=dict)
    sums: Sums = field(default_factory=Sums)

    def __post_init__(self) -> None:
        started, damping = time.perf_counter(), self.reference.damping
        self.solver = self.matrix.inverse(damping, self.method)
        self.step = self.solver @ self.reference.gradient
        seconds = time.perf_counter() - started
        self.near = undamped(self.matrix, damping, self.method)
        self.rows = [{} for _ in self.reference.parts]
        self.rows[0] |= {"floats": self.matrix.floats, "solve_seconds": seconds}

    def take_step(self, reference: ProductReference) -> None:
        """Measure the step against the exact one of a reference."""
        self.rows = [row | new for row, new in zip(self.rows, step_rows(reference, self.step), strict=True)]

    def add(self, v: Array, Fv: Array, random: bool) -> None:
        """Add what F and the approximation make of one vector."""
        Mv = self.near.product(v)
        difference = Fv - Mv
        self.sums.add(fetch(difference @ difference, Fv @ Fv, Mv @ Fv, Mv @ Mv), random)

    def take_errors(self) -> None:
        """Estimate the error and the best scale from the vectors so far."""
        error = self.sums.estimate(lambda sums: ratio(sums[0], sums[1]) ** 0.5)
        c_star = self.sums.estimate(lambda sums: ratio(sums[2], sums[3]))
        self.rows[0] |= {"error": error.value, "c_star": c_star.value}
        self.spread = {"error": error.standard_error, "c_star": c_star.standard_error}


class Answer(NamedTuple):
    """Rows as those of :func:`.compare`, standard errors in the same rows, and how accurate they are."""

    rows: list[Row]
    spread: list[Row]
    notes: tuple[str, ...]


def answers(
    F: MatrixFree,
    approximations: Mapping[str, FisherMatrix],
    gradient: Array,
    damping: float,
    methods: Mapping[str, str],
    measures: Sequence[str],
    *,
    vectors: int,
    tolerance: float,
    cg_limit: int,
    seed: int,
    on_progress: Callable[[str], None],
) -> Iterator[Answer]:
    """Yield answers of growing precision: a rough step, errors from more and more vectors, the exact step."""
    first = "K-FAC" if "K-FAC" in approximations else next(iter(approximations))
    on_progress(f"conjugate gradients, preconditioned by {first}")
    solver = approximations[first].inverse(damping, methods.get(first))
    reference = ProductReference.of(F, gradient, damping, solver, tolerance, min(EARLY, cg_limit))
    measured: dict[str, _Measured] = {}
    for name, matrix in approximations.items():
        on_progress(name)
        measured[name] = _Measured(matrix, methods.get(name), reference)
        if "step" in measures:
            measured[name].take_step(reference)
    if "step" in measures:
        yield _answer(measured, reference, 0)
    if "matrix" in measures:
        on_progress("leading eigenvectors")
        number = 0
        for v, Fv, random in vectors_and_images(F, measured[first].near.product, vectors, seed):
            for each in measured.values():
                each.add(v, Fv, random)
            number += random
            if random and number >= 2 and (number == vectors or number & (number - 1) == 0):
                for each in measured.values():
                    each.take_errors()
                yield _answer(measured, reference, number)
            on_progress(f"random vector {number} of {vectors}")

    def watch(iteration: int, x: Array, phi: float) -> bool:
        on_progress(
            f"conjugate gradients: iteration {reference.iterations + iteration} of at most {cg_limit}"
        )
        return False

    reference = reference.refined(tolerance, cg_limit, watch)
    for name, each in measured.items():
        if "step" in measures:
            each.take_step(reference)
        if "cg" in measures:
            on_progress(f"conjugate gradients with {name}")
            each.rows[0]["cg_iterations"] = cg_iterations(reference, each.solver, cg_limit)
    yield _answer(measured, reference, vectors if "matrix" in measures else 0)


def _answer(measured: Mapping[str, _Measured], reference: ProductReference, random: int) -> Answer:
    layers = ("all", *reference.F.names)
    rows, spread = [], []
    for name, each in measured.items():
        for layer, row in zip(layers, each.rows, strict=True):
            rows.append({"approximation": name, "layer": layer, **row})
            spread.append({"approximation": name, "layer": layer} | (each.spread if layer == "all" else {}))
    step = (
        f"The exact step by {reference.iterations} conjugate gradients: relative residual "
        f"{reference.residual:.1g}"
    )
    if math.isfinite(bound := reference.step_error) and bound < 1:
        step += f", so its relative error is at most {bound:.1g}"
    notes = [f"{step}."]
    if random:
        notes.append(f"± is the standard error of an estimate, here from {random} random vectors.")
    notes.append("Absent: " + "; ".join(f"{what} ({why})" for what, why in ABSENT.items()) + ".")
    return Answer(rows, spread, tuple(notes))
