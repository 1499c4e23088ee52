"""Comparison with a matrix-free F, for nets of any size: early results that become more accurate.

    step      (F + lambda I)^{-1} g by conjugate gradients, with an approximation as preconditioner
    error     ||F - F~||_F^2 = ||(F - F~) Q||_F^2 + E ||(F - F~) z||^2,   z = (I - Q Q^T) random signs
    c_star    <F, F~> / <F~, F~>, both estimated likewise

Q is an orthonormal basis near the leading eigenvectors of F and of the preconditioning approximation
(:mod:`minikfac.fisher.estimates`), which contribute most of the norm and are treated exactly. All
approximations use the same random vectors. Standard errors of ratios are from the jackknife.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from ..backend import Array, fetch
from ..fisher import FisherMatrix, MatrixFree
from ..fisher.estimates import Estimate, leading_subspace, random_signs
from .measures import Row, cg_iterations, step_rows, undamped
from .norms import Product, ratio
from .reference import ProductReference

EARLY = 20
"""Iterations of conjugate gradients before the first result."""
AVAILABLE = ("matrix", "step", "cg")
ABSENT = (
    "Absent: inverse error and KL (they need the dense matrix); spectral error and eigenvalues (see "
    "fisher.spectral_density); error and best scale of single layers (compare F.blocks[l])."
)
"""Measures that are not available for a matrix-free F, and reasons."""


class Sums:
    """Squared norms and inner products of images of vectors, both from a leading subspace and random."""

    def __init__(self) -> None:
        self.exact: list[float] = []
        self.samples: list[list[float]] = []

    def add(self, values: Sequence[float], random: bool) -> None:
        """Add the values for one vector."""
        if random:
            self.samples.append(list(values))
        else:
            self.exact = [a + b for a, b in zip(self.exact or len(values) * [0.0], values, strict=True)]

    def estimate(self, statistic: Callable[[Sequence[float]], float]) -> Estimate:
        """A function of the sums, and its standard error by the jackknife."""
        m = len(self.samples)
        exact = self.exact or len(self.samples[0]) * [0.0]

        def of(samples: Sequence[Sequence[float]]) -> float:
            sums = zip(exact, *samples, strict=True)
            return statistic([e + sum(values) / len(samples) for e, *values in sums])

        without = [of(self.samples[:i] + self.samples[i + 1 :]) for i in range(m)]
        mean = sum(without) / m
        return Estimate(of(self.samples), ((m - 1) / m * sum((part - mean) ** 2 for part in without)) ** 0.5)


def vectors_and_images(
    F: MatrixFree, K: Product, vectors: int, seed: int
) -> Iterator[tuple[Array, Array, bool]]:
    """Yield v and F v for a leading subspace, then for ``vectors`` random vectors orthogonal to it (True).

    Args:
        F: the exact matrix.
        K: the product with an approximation, whose leading eigenvectors are also in the subspace.
        vectors: number of random vectors; half as many leading ones are used for each of F and K.
        seed: seed of the random vectors.
    """
    subspace = leading_subspace(F, vectors // 2, seed, [K])
    for v, Fv in zip(subspace.Q, subspace.FQ, strict=True):
        yield v, Fv, False
    for signs in islice(random_signs(F, seed), vectors):
        z = subspace.without(signs)
        yield z, F @ z, True


class _Approximation:
    """Results so far for one approximation: rows, their standard errors, sums for its distance."""

    def __init__(self, matrix: FisherMatrix, method: str | None, reference: ProductReference) -> None:
        started = time.perf_counter()
        self.solver = matrix.inverse(reference.damping, method)
        self.step = self.solver @ reference.gradient
        seconds = time.perf_counter() - started
        self.near, self.sums = undamped(matrix, reference.damping, method), Sums()
        self.rows: list[Row] = [{} for _ in reference.parts]
        self.rows[0] = {"floats": matrix.floats, "solve_seconds": seconds}
        self.spread: Row = {}

    def measure_step(self, reference: ProductReference) -> None:
        self.rows = [row | new for row, new in zip(self.rows, step_rows(reference, self.step), strict=True)]

    def add(self, v: Array, Fv: Array, random: bool) -> None:
        Mv = self.near.product(v)
        difference = Fv - Mv
        self.sums.add(fetch(difference @ difference, Fv @ Fv, Mv @ Fv, Mv @ Mv), random)

    def measure_matrix(self) -> None:
        error = self.sums.estimate(lambda sums: ratio(sums[0], sums[1]) ** 0.5)
        c_star = self.sums.estimate(lambda sums: ratio(sums[2], sums[3]))
        self.rows[0] |= {"error": error.value, "c_star": c_star.value}
        self.spread = {"error": error.standard_error, "c_star": c_star.standard_error}


class ByProducts:
    """A matrix-free comparison, in which the exact step is computed to increasing accuracy."""

    def __init__(
        self,
        reference: ProductReference,
        approximations: Mapping[str, FisherMatrix],
        methods: Mapping[str, str],
        measures: Sequence[str],
        on_progress: Callable[[str], None],
    ) -> None:
        self.reference, self.measures, self.on_progress = reference, measures, on_progress
        self.approximations: dict[str, _Approximation] = {}
        for name, matrix in approximations.items():
            on_progress(name)
            self.approximations[name] = _Approximation(matrix, methods.get(name), reference)
        self.measure_steps()

    def measure_steps(self) -> None:
        """Compare all steps with the current approximation to the exact one."""
        for each in self.approximations.values():
            if "step" in self.measures:
                each.measure_step(self.reference)

    def measure_matrices(self, first: str, vectors: int, seed: int) -> Iterator[int]:
        """Compare all matrices using random vectors; yield 2, 4, 8, ... and finally the total number."""
        self.on_progress("leading eigenvectors")
        product, number = self.approximations[first].near.product, 0
        for v, Fv, random in vectors_and_images(self.reference.F, product, vectors, seed):
            number += random
            for each in self.approximations.values():
                each.add(v, Fv, random)
            if number > 1 and (number == vectors or number & (number - 1) == 0):
                for each in self.approximations.values():
                    each.measure_matrix()
                yield number
            self.on_progress(f"random vector {number} of {vectors}")

    def refine(self, tolerance: float, limit: int) -> None:
        """Continue to the exact step, compare all steps with it, and count iterations if requested."""

        def watch(iteration: int, x: Array, phi: float) -> bool:
            self.on_progress(f"conjugate gradients: {iteration} more")
            return False

        self.reference = self.reference.refined(tolerance, limit, watch)
        self.measure_steps()
        for name, each in self.approximations.items() if "cg" in self.measures else ():
            self.on_progress(f"conjugate gradients with {name}")
            each.rows[0]["cg_iterations"] = cg_iterations(self.reference, each.solver, limit)

    def answer(self, random: int) -> tuple[list[Row], list[Row], tuple[str, ...]]:
        """Rows so far, their standard errors, and notes on their accuracy."""
        layers, rows, spread = ("all", *self.reference.F.names), [], []
        for name, each in self.approximations.items():
            for layer, row in zip(layers, each.rows, strict=True):
                names = {"approximation": name, "layer": layer}
                rows.append(names | row)
                spread.append(names | (each.spread if layer == "all" else {}))
        note = f"± is the standard error of an estimate, here from {random} random vectors."
        return rows, spread, (self.reference.note, *[note][: random and 1], ABSENT)
