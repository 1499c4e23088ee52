"""How good an approximation of the Fisher matrix is, by every measure that someone may care for.

As a matrix: the relative error and the scalar that would mend it best. As an inverse, which is what an
optimizer uses: the step it takes on a gradient, and how much of the exact step's progress that makes.
As a preconditioner: the spectrum that is left, and how many iterations conjugate gradients then need.
As a probabilistic model of the gradient: the Kullback-Leibler divergence between two Gaussians.

Inverse, step, divergence, spectrum and conjugate gradients all use F + lambda I on both sides.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backend import Array, array_module, to_host
from .fisher import (
    DenseMatrix,
    FisherMatrix,
    Operator,
    Signals,
    block_diagonal,
    exact,
    kfac,
)
from .fisher.damping import add_to_diagonal
from .linalg import (
    SingularMatrixError,
    cholesky,
    cholesky_inverse,
    conjugate_gradients,
    extreme_eigenpairs,
    triangular_solve,
)

Row = dict[str, Any]
Approximation = FisherMatrix | Callable[[], FisherMatrix]

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
    "build_seconds": "to build it from the signals, where a function was given",
    "solve_seconds": "to factorize it and solve once",
}
"""What each column of a comparison means."""

_WHOLE = "all"
_SMALL = 2000
"""Up to this many parameters the preconditioned spectrum is computed whole, above it by Lanczos."""


def compare(
    F: DenseMatrix,
    approximations: Mapping[str, Approximation],
    gradient: Array,
    damping: float,
    methods: Mapping[str, str] | None = None,
    cg_limit: int = 500,
    on_progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Measure approximations against the exact Fisher matrix, whole and layer by layer.

    Args:
        F: the exact matrix, of :func:`minikfac.fisher.exact`.
        approximations: by name, matrices or functions that build one (these are timed).
        gradient: of the loss, (P,), on which steps are taken.
        damping: lambda on both sides; 0 only where everything is positive definite.
        methods: how to damp an approximation, by name, where not by its default ("factored" for K-FAC).
        cg_limit: most iterations of conjugate gradients; a row that reaches it has ``math.inf``.
        on_progress: called with the name of each approximation before its turn.

    Returns:
        One row per approximation for all parameters, and one per parameter layer; the columns are
        explained in :data:`COLUMNS`. ``error``, ``spectral_error`` and ``c_star`` are of the undamped matrix,
        except under factored damping and where only a damped one exists: there of the damped matrix
        less lambda I. Layer rows hold the measures that exist for a layer alone: errors of
        the diagonal block of the matrix and of the inverse, and the step on the layer's parameters.

    Raises:
        ValueError: on shapes that do not fit, a gradient with NaN, no approximations, methods for unknown
            ones, negative damping, or a singular matrix without damping.
        TypeError: on what is no Fisher matrix.
    """
    unknown = [name for name in methods or {} if name not in approximations]
    if unknown or not approximations:
        raise ValueError(
            f"expected approximations, and methods for some of them, got approximations "
            f"{list(approximations)} and methods for {list(methods or {})}"
        )
    reference = _Reference.of(F, gradient, damping)
    rows: list[Row] = []
    for name, given in approximations.items():
        if on_progress is not None:
            on_progress(name)
        started = time.perf_counter()
        matrix = given() if callable(given) else given
        build_seconds = time.perf_counter() - started if callable(given) else None
        if not isinstance(matrix, FisherMatrix):
            raise TypeError(f"expected {name!r} to be a Fisher matrix, got {type(matrix).__name__}")
        if matrix.shape != F.shape:
            raise ValueError(f"expected {name!r} of shape {F.shape}, got {matrix.shape}")
        found = _measure(reference, matrix, (methods or {}).get(name), cg_limit)
        found[0]["build_seconds"] = build_seconds
        rows += [{"approximation": name, **row} for row in found]
    return Comparison(rows, damping)


@dataclass(frozen=True)
class _Reference:
    """The exact side of a comparison, computed once."""

    F: DenseMatrix
    damped: Array
    L: Array
    inverse: Array
    norm: float
    inverse_norm: float
    spectral_norm: float
    gradient: Array
    step: Array
    damping: float

    @classmethod
    def of(cls, F: DenseMatrix, gradient: Array, damping: float) -> _Reference:
        if not isinstance(F, DenseMatrix):
            raise TypeError(f"expected the dense matrix of fisher.exact, got {type(F).__name__}")
        if gradient.shape != (F.shape[0],):
            raise ValueError(f"expected a gradient of shape ({F.shape[0]},), got {gradient.shape}")
        if not bool(array_module(gradient).isfinite(gradient).all()):
            raise ValueError("expected a finite gradient, got NaN or infinite entries")
        damped = F.damped(damping).array
        L = cholesky(damped, F.name if damping == 0 else f"{F.name} + damping")
        inverse = cholesky_inverse(L.copy())
        top = extreme_eigenpairs(lambda v: F.array @ v, gradient, tolerance=1e-3)[0]
        return cls(
            F,
            damped,
            L,
            inverse,
            _norm(F.array),
            _norm(inverse),
            float(top[-1]),
            gradient,
            inverse @ gradient,
            damping,
        )


def _measure(reference: _Reference, matrix: FisherMatrix, method: str | None, cg_limit: int) -> list[Row]:
    F, damping = reference.F, reference.damping
    started = time.perf_counter()
    solver = matrix.inverse(damping, method)
    step = solver @ reference.gradient
    solve_seconds = time.perf_counter() - started

    inverse = solver.to_dense()
    trace = _inner(inverse, reference.damped)  # of (F~ + lambda I)^{-1} (F + lambda I)
    log_det_exact = 2 * float(array_module(step).log(reference.L.diagonal()).sum())
    kl = 0.5 * (trace - len(step) - log_det_exact + matrix.logdet(damping, method))
    inverse_rows = _inverse_errors(reference, inverse)
    low, high = _extremes(reference, matrix.damped(damping, method), solver, inverse)
    del inverse
    cg = conjugate_gradients(
        lambda v: reference.damped @ v, reference.gradient, 1e-6, cg_limit, lambda r: solver @ r
    )
    rows = [
        {**errors, "inverse_error": inverse_error, **_step_row(reference, step, own)}
        for errors, inverse_error, own in zip(
            _matrix_errors(reference, _undamped(matrix, damping, method)),
            inverse_rows,
            _parts(F),
            strict=True,
        )
    ]
    rows[0] |= {
        "share": _share(reference, step),
        "kl": kl,
        "eigenvalue_min": low,
        "eigenvalue_max": high,
        "condition": high / low,
        "cg_iterations": cg.iterations if cg.converged else math.inf,
        "floats": matrix.floats,
        "solve_seconds": solve_seconds,
    }
    names = (_WHOLE, *F.names)
    return [{"layer": name, **row} for name, row in zip(names, rows, strict=True)]


def _parts(F: DenseMatrix) -> list[slice]:
    """All parameters, then each layer's."""
    return [slice(0, F.shape[0]), *F.slices]


def _undamped(matrix: FisherMatrix, damping: float, method: str | None) -> Array:
    """The matrix itself; or, where damping is part of what it is, the damped matrix less lambda I.

    The latter for factored damping, and for block-tridiagonal matrices that do not exist undamped.
    """
    if method is None:
        try:
            return matrix.to_dense()
        except SingularMatrixError:
            pass
    return add_to_diagonal(matrix.damped(damping, method).to_dense(), -damping)


def _matrix_errors(reference: _Reference, dense: Array) -> list[Row]:
    """Errors of the matrix and of its diagonal blocks."""
    F = reference.F.array
    difference = F - dense
    rows = []
    for part, own in enumerate(_parts(reference.F)):
        block, wrong, near = F[own, own], difference[own, own], dense[own, own]
        norm = reference.norm if part == 0 else _norm(block)
        rows.append(
            {
                "error": _ratio(_norm(wrong), norm),
                "spectral_error": _ratio(
                    _spectral_norm(wrong), reference.spectral_norm if part == 0 else _spectral_norm(block)
                ),
                "c_star": _ratio(_inner(near, block), _inner(near, near)),
            }
        )
    return rows


def _inverse_errors(reference: _Reference, inverse: Array) -> list[float]:
    """Relative errors of the damped inverse and of its diagonal blocks."""
    errors = []
    for part, own in enumerate(_parts(reference.F)):
        block = reference.inverse[own, own]
        norm = reference.inverse_norm if part == 0 else _norm(block)
        errors.append(_norm(block - inverse[own, own]) / norm)
    return errors


def _step_row(reference: _Reference, step: Array, own: slice) -> Row:
    cosine, length = _cosine(step[own], reference.step[own])
    return {"step_cosine": cosine, "step_length": length}


def _share(reference: _Reference, step: Array) -> float:
    """Decrease of 1/2 d'(F + lambda I)d - g'd along the step, best scaled, over that of the exact step."""
    along = float(reference.gradient @ step)
    decrease = _ratio(along**2, float(step @ (reference.damped @ step)))
    return _ratio(decrease, float(reference.gradient @ reference.step))


def _extremes(
    reference: _Reference, damped: FisherMatrix, solver: Operator, inverse: Array
) -> tuple[float, float]:
    """Extreme eigenvalues of (F~ + lambda I)^{-1} (F + lambda I), those of L^T (F~ + lambda I)^{-1} L."""
    L, xp = reference.L, array_module(reference.L)
    if len(L) <= _SMALL:
        values = xp.linalg.eigvalsh(L.T @ inverse @ L)
        return float(values[0]), float(values[-1])

    def forward(v: Array) -> Array:
        return L.T @ (solver @ (L @ v))

    def backward(v: Array) -> Array:  # its inverse
        return triangular_solve(L, damped @ triangular_solve(L, v, transposed=True))

    high = extreme_eigenpairs(forward, reference.gradient, tolerance=1e-2)[0]
    low = extreme_eigenpairs(backward, reference.gradient, tolerance=1e-2)[0]
    return 1 / float(low[-1]), float(high[-1])


def preconditioned_spectrum(
    F: DenseMatrix, matrix: FisherMatrix, damping: float, method: str | None = None
) -> Array:
    """All eigenvalues, ascending, of (F~ + lambda I)^{-1} (F + lambda I), (P,). All are 1 for F~ = F."""
    L = cholesky(F.damped(damping).array, F.name)
    inverse = matrix.inverse(damping, method).to_dense()
    return array_module(L).linalg.eigvalsh(L.T @ inverse @ L)


def spectrum(matrix: FisherMatrix) -> Array:
    """All eigenvalues of a matrix, ascending, (P,)."""
    dense = matrix.to_dense()
    return array_module(dense).linalg.eigvalsh(dense)


def step_cosines(
    F: DenseMatrix,
    approximations: Mapping[str, FisherMatrix],
    gradient: Array,
    dampings: Sequence[float],
    methods: Mapping[str, str] | None = None,
) -> dict[str, list[float]]:
    """Cosines between each approximation's damped step and the exact one, for each damping."""
    cosines: dict[str, list[float]] = {name: [] for name in approximations}
    for damping in dampings:
        step = F.solve(gradient, damping)
        for name, matrix in approximations.items():
            own = matrix.solve(gradient, damping, (methods or {}).get(name))
            cosines[name].append(_cosine(own, step)[0])
    return cosines


def ledger(signals: Signals, gradient: Array, damping: float, F: DenseMatrix | None = None) -> list[Row]:
    """The assumption ledger: what each assumption on the way from the exact Fisher to K-FAC costs.

    Each row adds one assumption to those above it. All rows hold damped matrices M + lambda I, whose
    differences are those of the M, and the last replaces exact by factored damping.

    Args:
        signals: of :func:`minikfac.fisher.signals`.
        gradient: (P,), on which steps are taken.
        damping: lambda > 0.
        F: the exact matrix, if it is there already.

    Returns:
        Rows with ``label``, ``error`` (relative Frobenius distance from the exact matrix), ``cost``
        (distance from the row above, relative to the same norm), ``c_star``, ``step_cosine``,
        ``step_length`` and ``share`` of the exact step's progress.
    """
    F = exact(signals) if F is None else F
    approximation = kfac(signals)
    steps: list[tuple[str, FisherMatrix, str | None]] = [
        ("exact Fisher matrix", F, None),
        ("no correlations between layers", block_diagonal(signals), None),
        ("activations independent of derivatives", approximation, None),
        ("factored damping", approximation, "factored"),
    ]
    reference = _Reference.of(F, gradient, damping)
    above, rows = reference.damped, []
    for label, matrix, method in steps:
        dense = matrix.damped(damping, method).to_dense()
        step = matrix.solve(gradient, damping, method)
        rows.append(
            {
                "label": label,
                "error": _norm(dense - reference.damped) / reference.norm,
                "cost": _norm(dense - above) / reference.norm,
                "c_star": _inner(dense, reference.damped) / _inner(dense, dense),
                **_step_row(reference, step, slice(None)),
                "share": _share(reference, step),
            }
        )
        above = dense
    return rows


def over_seeds(make: Callable[[int], Comparison], seeds: Iterable[int]) -> Comparison:
    """Repeat a comparison over seeds; cells become means, and ``spread`` their standard deviations.

    Args:
        make: from a seed to a comparison with the same rows each time.
        seeds: at least two.

    Raises:
        ValueError: on fewer than two seeds, or rows that differ.
    """
    runs = [make(seed) for seed in seeds]
    if len(runs) < 2:
        raise ValueError(f"expected at least two seeds, got {len(runs)}")
    means, spreads = [], []
    labels = {tuple((row["approximation"], row["layer"]) for row in run.rows) for run in runs}
    if len(labels) > 1:
        raise ValueError(f"expected the same rows for every seed, got {len(labels)} kinds of comparison")
    for same in zip(*(run.rows for run in runs), strict=True):
        mean, spread = dict(same[0]), dict(same[0])
        for column in COLUMNS:
            values = [row.get(column) for row in same]
            if None in values:
                continue
            numbers = [float(value) for value in values if value is not None]
            centre = sum(numbers) / len(numbers)
            mean[column] = centre
            spread[column] = math.sqrt(sum((n - centre) ** 2 for n in numbers) / (len(numbers) - 1))
        means.append(mean)
        spreads.append(spread)
    return Comparison(means, runs[0].damping, spreads)


@dataclass(frozen=True)
class Comparison:
    """The rows of :func:`compare`; prints as a table.

    Attributes:
        rows: dicts with ``approximation``, ``layer`` ("all" or a layer's name) and the columns.
        damping: lambda.
        spread: standard deviations over seeds in the same rows, of :func:`over_seeds`.
    """

    rows: list[Row]
    damping: float
    spread: list[Row] | None = None

    def to_dicts(self) -> list[Row]:
        """Copies of the rows, for a data frame or JSON."""
        return [dict(row) for row in self.rows]

    def whole(self) -> list[Row]:
        """The rows for all parameters together."""
        return self.layer(_WHOLE)

    def layer(self, name: str) -> list[Row]:
        """The rows of one layer."""
        found = [row for row in self.rows if row["layer"] == name]
        if not found:
            known = ", ".join(dict.fromkeys(row["layer"] for row in self.rows))
            raise KeyError(f"expected a layer among {known}, got {name!r}")
        return found

    def __getitem__(self, approximation: str) -> Row:
        """The row of an approximation for all parameters."""
        for row in self.whole():
            if row["approximation"] == approximation:
                return row
        known = ", ".join(row["approximation"] for row in self.whole())
        raise KeyError(f"expected an approximation among {known}, got {approximation!r}")

    def to_csv(self, path: str | Path) -> None:
        """Write all rows, one per approximation and layer; over seeds with columns ``NAME_sd`` too."""
        columns, rows = ["approximation", "layer", *COLUMNS], self.rows
        if self.spread is not None:
            columns += [f"{column}_sd" for column in COLUMNS]
            rows = [
                row | {f"{column}_sd": spread.get(column) for column in COLUMNS}
                for row, spread in zip(rows, self.spread, strict=True)
            ]
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)

    def table(
        self, layer: str = _WHOLE, columns: Sequence[str] = tuple(COLUMNS)
    ) -> tuple[list[str], list[list[str]]]:
        """Header and cells as text, for all parameters or one layer; empty columns are left out.

        Over seeds a cell is a mean and a standard deviation, as in "0.52 ± 0.03".
        """
        rows = self.layer(layer)
        spreads = [row for row in self.spread or self.rows if row["layer"] == layer]

        def cell(row: Row, spread: Row, column: str) -> str:
            text = format_cell(row.get(column))
            return f"{text} ± {format_cell(spread[column])}" if text and self.spread else text

        shown = [column for column in columns if any(row.get(column) is not None for row in rows)]
        header = ["approximation", *(column.replace("_", " ") for column in shown)]
        return header, [
            [row["approximation"], *(cell(row, spread, column) for column in shown)]
            for row, spread in zip(rows, spreads, strict=True)
        ]

    def __str__(self) -> str:
        """Two tables, one over the other, for the parameters as a whole."""
        columns = list(COLUMNS)
        cut = columns.index("kl")
        return "\n\n".join(_aligned(*self.table(columns=part)) for part in (columns[:cut], columns[cut:]))


def _aligned(header: list[str], cells: list[list[str]]) -> str:
    lines = [header, *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def format_cell(value: Any) -> str:
    """A number as a person would write it in a table."""
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return "not reached" if value == math.inf else "-"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) >= 100):
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def _inner(A: Array, B: Array) -> float:
    return float(array_module(A).einsum("ij,ij->", A, B))


def _ratio(a: float, b: float) -> float:
    """a / b; nan where there is nothing to compare with, as in the block of a layer of dead units."""
    return a / b if b != 0 else math.nan


def _norm(A: Array) -> float:
    """Frobenius norm of a matrix, without a copy of it."""
    return math.sqrt(_inner(A, A))


def _spectral_norm(A: Array) -> float:
    """Largest eigenvalue in magnitude of a symmetric matrix, to 0.1 %."""
    if not bool(A.any()):
        return 0.0
    values = extreme_eigenpairs(lambda v: A @ v, array_module(A).empty(len(A), dtype=A.dtype), 1, "LM", 1e-3)[
        0
    ]
    return abs(float(to_host(values)[-1]))


def _cosine(step: Array, exact_step: Array) -> tuple[float, float]:
    """Cosine between two steps, and the ratio of their lengths."""
    a, b = float((step @ step) ** 0.5), float((exact_step @ exact_step) ** 0.5)
    return _ratio(float(step @ exact_step), a * b), _ratio(a, b)
