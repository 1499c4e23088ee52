"""Measures of an approximation as a matrix, an inverse, a step, a preconditioner and a model.

All use F + lambda I on both sides, except the errors of the matrix, which refer to the undamped one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..backend import Array, array_module
from ..fisher import BlockDiagonal, FisherMatrix, MatrixFree, Operator
from ..fisher.block_diagonal import BlockDiagonalOperator
from ..fisher.damping import add_to_diagonal
from ..linalg import SingularMatrixError, conjugate_gradients, extreme_eigenpairs, triangular_solve
from .norms import inner, ratio, spectral_norm, square_distance, times
from .reference import ProductReference, Reference

Row = dict[str, Any]

COLUMNS: dict[str, str] = {
    "error": "||F - F~||_F / ||F||_F",
    "spectral_error": "||F - F~||_2 / ||F||_2",
    "c_star": "best scalar c in c F~, <F~, F> / <F~, F~>; 1 says that the scale is right",
    "inverse_error": "relative Frobenius error of the damped inverse",
    "step_cosine": "cosine between F~'s damped step on the gradient and the exact one",
    "step_length": "its length relative to the exact one",
    "share": "share of the exact step's decrease of the quadratic model, with its own best step size",
    "kl": "KL( N(0, F + lambda I) || N(0, F~ + lambda I) ), nats",
    "eigenvalue_min": "smallest eigenvalue of (F~ + lambda I)^{-1} (F + lambda I)",
    "eigenvalue_max": "largest eigenvalue of it",
    "condition": "their ratio",
    "cg_iterations": "conjugate gradients on F + lambda I to 1e-6 with F~ as preconditioner",
    "floats": "numbers stored",
    "build_seconds": "to build it from the signals, where that was timed",
    "solve_seconds": "to factorize it and solve once",
}
"""The meaning of each column of a comparison."""

MEASURES: dict[str, tuple[str, ...]] = {
    "matrix": ("error", "c_star"),
    "spectral": ("spectral_error",),
    "inverse": ("inverse_error",),
    "step": ("step_cosine", "step_length", "share"),
    "kl": ("kl",),
    "spectrum": ("eigenvalue_min", "eigenvalue_max", "condition"),
    "cg": ("cg_iterations",),
}
"""The columns computed for each measure."""

BRIEF = ("error", "step_cosine", "share", "cg_iterations", "floats")
"""The leading columns."""

HEADINGS = {
    "step_cosine": "cosine",
    "step_length": "length",
    "c_star": "best scale",
    "kl": "KL (nats)",
    "eigenvalue_min": "smallest eigenvalue",
    "eigenvalue_max": "largest eigenvalue",
    "cg_iterations": "CG iterations",
    "build_seconds": "build (s)",
    "solve_seconds": "solve (s)",
}
"""Headings of columns whose names are not words."""

WHOLE = "all"
"""The layer name in rows for all parameters."""
_SMALL = 2000
"""Most parameters for which the full preconditioned spectrum is computed; above, Lanczos is used."""


def measure(
    reference: Reference, matrix: FisherMatrix, method: str | None, cg_limit: int, measures: Sequence[str]
) -> list[Row]:
    """Measure one approximation: a row for all parameters, then one per layer."""
    damping = reference.damping
    started = time.perf_counter()
    solver = matrix.inverse(damping, method)
    step = solver @ reference.gradient
    solve_seconds = time.perf_counter() - started

    rows: list[Row] = [{} for _ in reference.parts]
    if "matrix" in measures or "spectral" in measures:
        near = undamped(matrix, damping, method)
        if "matrix" in measures:
            _update(rows, _matrix_errors(reference, near))
        if "spectral" in measures:
            _update(rows, _spectral_errors(reference, near))
    if "step" in measures:
        _update(rows, step_rows(reference, step))
    if "spectrum" in measures:
        low, high = _extremes(reference, matrix.damped(damping, method), solver)
        rows[0] |= {"eigenvalue_min": low, "eigenvalue_max": high, "condition": high / low}
    if "cg" in measures:
        rows[0]["cg_iterations"] = cg_iterations(reference, solver, cg_limit)
    if "inverse" in measures or "kl" in measures:
        errors, trace = _inverse_errors(reference, solver, "inverse" in measures)
        _update(rows, errors)
        if "kl" in measures:
            log_dets = matrix.logdet(damping, method) - reference.logdet
            rows[0]["kl"] = max(0.0, 0.5 * (trace - len(step) + log_dets))  # rounding may be negative
    rows[0] |= {"floats": matrix.floats, "solve_seconds": solve_seconds}
    names = (WHOLE, *reference.F.names)
    return [{"layer": name, **row} for name, row in zip(names, rows, strict=True)]


def _update(rows: list[Row], columns: Sequence[Row]) -> None:
    for row, new in zip(rows, columns, strict=True):
        row |= new


# the matrix -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shifted:
    """matrix - shift I, and whether it consists of one block per layer."""

    matrix: FisherMatrix
    shift: float

    def product(self, v: Array) -> Array:
        return self.matrix @ v - self.shift * v

    @cached_property
    def dense(self) -> Array:
        dense = self.matrix.to_dense()
        return add_to_diagonal(dense, -self.shift) if self.shift else dense

    def blocks(self, slices: Sequence[slice]) -> list[_Shifted] | None:
        """One block per layer, or None if there are also blocks between layers."""
        if not isinstance(self.matrix, BlockDiagonal) or self.matrix.slices != tuple(slices):
            return None
        return [_Shifted(block, self.shift) for block in self.matrix.blocks]


def undamped(matrix: FisherMatrix, damping: float, method: str | None) -> _Shifted:
    """The matrix itself, or the damped matrix minus lambda I if damping cannot be separated.

    The latter applies to factored damping, and to block-tridiagonal matrices that exist only if damped.
    """
    if method is None:
        try:
            if not isinstance(matrix, BlockDiagonal | MatrixFree):
                matrix @ (0 * matrix.diagonal())
            return _Shifted(matrix, 0.0)
        except SingularMatrixError:
            pass
    return _Shifted(matrix.damped(damping, method), damping)


def frobenius_sums(F: Array, M: Array) -> tuple[float, float, float]:
    """||F - M||_F^2, <M, F> and ||M||_F^2."""
    return square_distance(F, M), inner(M, F), inner(M, M)


def _matrix_errors(reference: Reference, near: _Shifted) -> list[Row]:
    """Errors of the matrix and of its diagonal blocks."""
    F, slices = reference.F.array, reference.F.slices
    blocks = near.blocks(slices)
    if blocks is None:
        dense = near.dense
        sums = [frobenius_sums(F[part, part], dense[part, part]) for part in reference.parts]
    else:  # layer by layer: all blocks between layers are missing
        sums = [
            frobenius_sums(F[layer, layer], block.dense) for layer, block in zip(slices, blocks, strict=True)
        ]
        wrong, product, square = (sum(terms) for terms in zip(*sums, strict=True))
        sums = [(wrong + reference.between, product, square), *sums]
    return [
        {"error": ratio(wrong**0.5, whole**0.5), "c_star": ratio(product, square)}
        for (wrong, product, square), whole in zip(sums, reference.squares, strict=True)
    ]


def _spectral_errors(reference: Reference, near: _Shifted) -> list[Row]:
    """Spectral errors of the matrix and of its diagonal blocks, by Lanczos iteration on the difference."""
    blocks = near.blocks(reference.F.slices)
    if blocks is None:
        dense = near.dense
        others = [near.product, *(times(dense[layer, layer]) for layer in reference.F.slices)]
    else:
        others = [near.product, *(block.product for block in blocks)]
    return [
        {"spectral_error": ratio(spectral_norm(product, like, other), norm)}
        for product, other, like, norm in zip(
            reference.products, others, reference.gradients, reference.spectral_norms, strict=True
        )
    ]


def spectrum(matrix: FisherMatrix) -> Array:
    """All eigenvalues of a matrix, ascending, (P,)."""
    return matrix.eigenvalues()


# the inverse ------------------------------------------------------------------------------------------------


def _inverse_errors(reference: Reference, solver: Operator, errors: bool) -> tuple[list[Row], float]:
    """Errors of the damped inverse and its diagonal blocks, and tr (F~ + lambda I)^{-1} (F + lambda I)."""
    slices = reference.F.slices
    by_layer = isinstance(solver, BlockDiagonalOperator) and solver.slices == slices
    if by_layer:
        parts, blocks = list(slices), [block.to_dense() for block in solver.parts]  # type: ignore[attr-defined]
    else:
        dense, parts = solver.to_dense(), reference.parts
        blocks = [dense[part, part] for part in parts]
    pairs = list(zip(parts, blocks, strict=True))
    traces = [inner(block, reference.damped[part, part]) for part, block in pairs]
    trace = sum(traces) if by_layer else traces[0]
    if not errors:
        return [{} for _ in reference.parts], trace
    squares = [square_distance(reference.inverse[part, part], block) for part, block in pairs]
    if by_layer:
        squares = [sum(squares) + reference.inverse_between, *squares]
    rows = [
        {"inverse_error": (wrong / whole) ** 0.5}
        for wrong, whole in zip(squares, reference.inverse_squares, strict=True)
    ]
    return rows, trace


# the step ---------------------------------------------------------------------------------------------------


def step_rows(reference: Reference | ProductReference, step: Array) -> list[Row]:
    """Cosines and lengths of a step for all parameters and each layer, and its progress."""
    rows = [step_row(reference, step, part) for part in reference.parts]
    rows[0]["share"] = share(reference, step)
    return rows


def step_row(reference: Reference | ProductReference, step: Array, part: slice) -> Row:
    """Cosine of a step with the exact one, and its relative length, on a part of the parameters."""
    cosine, length = _cosine(step[part], reference.step[part])
    return {"step_cosine": cosine, "step_length": length}


def share(reference: Reference | ProductReference, step: Array) -> float:
    """Decrease of 1/2 d'(F + lambda I)d - g'd by the optimally scaled step, divided by the exact step's."""
    along = float(reference.gradient @ step)
    decrease = ratio(along**2, float(step @ (reference.product(step) + reference.damping * step)))
    return ratio(decrease, float(reference.gradient @ reference.step))


def _cosine(step: Array, exact_step: Array) -> tuple[float, float]:
    """Cosine between two steps, and the ratio of their lengths."""
    sizes = [float(abs(d).max()) or 1.0 for d in (step, exact_step)]
    step, exact_step = step / sizes[0], exact_step / sizes[1]  # squares could underflow
    a, b = float((step @ step) ** 0.5), float((exact_step @ exact_step) ** 0.5)
    return ratio(float(step @ exact_step), a * b), ratio(a, b) * (sizes[0] / sizes[1])


# the preconditioner -----------------------------------------------------------------------------------------


def _extremes(reference: Reference, damped: FisherMatrix, solver: Operator) -> tuple[float, float]:
    """Extreme eigenvalues of (F~ + lambda I)^{-1} (F + lambda I), those of L^T (F~ + lambda I)^{-1} L."""
    L, xp = reference.L, array_module(reference.L)
    if len(L) <= _SMALL:
        values = xp.linalg.eigvalsh(L.T @ solver.to_dense() @ L)
        return float(values[0]), float(values[-1])

    def forward(v: Array) -> Array:
        return L.T @ (solver @ (L @ v))

    def backward(v: Array) -> Array:  # its inverse
        return triangular_solve(L, damped @ triangular_solve(L, v, transposed=True))

    high = extreme_eigenpairs(forward, reference.gradient, tolerance=1e-2)[0]
    low = extreme_eigenpairs(backward, reference.gradient, tolerance=1e-2)[0]
    return 1 / float(low[-1]), float(high[-1])


def cg_iterations(reference: Reference | ProductReference, solver: Operator, limit: int) -> float:
    """Iterations of preconditioned conjugate gradients to 1e-6; infinity if the limit was reached."""
    result = conjugate_gradients(
        lambda v: reference.product(v) + reference.damping * v,
        reference.gradient,
        1e-6,
        limit,
        lambda r: solver @ r,
    )
    return result.iterations if result.converged else math.inf
