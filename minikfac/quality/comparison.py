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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

from ..backend import Array, array_module, to_host
from ..fisher import (
    LADDER,
    BlockDiagonal,
    DenseMatrix,
    FisherMatrix,
    Operator,
    Signals,
    block_diagonal,
    exact,
    fully_correlated,
    kfac,
    ladder,
)
from ..fisher.block_diagonal import BlockDiagonalOperator
from ..fisher.damping import add_to_diagonal
from ..linalg import (
    SingularMatrixError,
    cholesky,
    cholesky_inverse,
    cholesky_solve,
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

MEASURES: dict[str, tuple[str, ...]] = {
    "matrix": ("error", "c_star"),
    "spectral": ("spectral_error",),
    "inverse": ("inverse_error",),
    "step": ("step_cosine", "step_length", "share"),
    "kl": ("kl",),
    "spectrum": ("eigenvalue_min", "eigenvalue_max", "condition"),
    "cg": ("cg_iterations",),
}
"""Columns that are computed together, by a name under which they can be asked for."""

_WHOLE = "all"
_SMALL = 2000
"""Up to this many parameters the preconditioned spectrum is computed whole, above it by Lanczos."""
_STRIP = 256
"""Rows of large matrices that are compared at a time, so that no third matrix is needed."""


def compare(
    F: DenseMatrix,
    approximations: Mapping[str, Approximation],
    gradient: Array,
    damping: float,
    methods: Mapping[str, str] | None = None,
    cg_limit: int = 500,
    on_progress: Callable[[str], None] | None = None,
    measures: Sequence[str] | None = None,
    reference: Reference | None = None,
    workers: int = 1,
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
        measures: names among :data:`MEASURES`; all by default. What is left out is absent from the rows.
        reference: :meth:`Reference.of` the same F, gradient and damping, if it is there already.
        workers: approximations that are measured at the same time, each on a thread; worth while where
            products are told to use one thread each. Seconds then mean less.

    Returns:
        One row per approximation for all parameters, and one per parameter layer; the columns are
        explained in :data:`COLUMNS`. ``error``, ``spectral_error`` and ``c_star`` are of the undamped matrix,
        except under factored damping and where only a damped one exists: there of the damped matrix
        less lambda I. Layer rows hold the measures that exist for a layer alone: errors of
        the diagonal block of the matrix and of the inverse, and the step on the layer's parameters.

    Raises:
        ValueError: on shapes that do not fit, a gradient with NaN, no approximations, methods for unknown
            ones, unknown measures, negative damping, or a singular matrix without damping.
        TypeError: on what is no Fisher matrix.
    """
    unknown = [name for name in methods or {} if name not in approximations]
    if unknown or not approximations:
        raise ValueError(
            f"expected approximations, and methods for some of them, got approximations "
            f"{list(approximations)} and methods for {list(methods or {})}"
        )
    chosen = tuple(MEASURES) if measures is None else tuple(measures)
    strange = [name for name in chosen if name not in MEASURES]
    if strange:
        raise ValueError(f"expected measures among {', '.join(MEASURES)}, got {', '.join(strange)}")
    reference = Reference.of(F, gradient, damping) if reference is None else reference

    def rows_of(name: str, given: Approximation) -> list[Row]:
        if on_progress is not None:
            on_progress(name)
        started = time.perf_counter()
        matrix = given() if callable(given) else given
        build_seconds = time.perf_counter() - started if callable(given) else None
        if not isinstance(matrix, FisherMatrix):
            raise TypeError(f"expected {name!r} to be a Fisher matrix, got {type(matrix).__name__}")
        if matrix.shape != F.shape:
            raise ValueError(f"expected {name!r} of shape {F.shape}, got {matrix.shape}")
        found = _measure(reference, matrix, (methods or {}).get(name), cg_limit, chosen)
        found[0]["build_seconds"] = build_seconds
        return [{"approximation": name, **row} for row in found]

    if workers == 1:
        tables = [rows_of(name, given) for name, given in approximations.items()]
    else:
        with ThreadPoolExecutor(workers) as pool:
            tables = list(pool.map(rows_of, approximations, approximations.values()))
    return Comparison([row for table in tables for row in table], damping)


@dataclass(frozen=True, eq=False)
class Reference:
    """The exact side of a comparison, computed once.

    Attributes:
        F: the exact matrix.
        gradient: (P,).
        damping: lambda.
        damped: F + lambda I.
        L: its Cholesky factor.
        step: the exact step (F + lambda I)^{-1} gradient.
        product: v -> F v by the quickest way there is.
        lock: held while the inverse is computed, so that no thread does it twice.
    """

    F: DenseMatrix
    gradient: Array
    damping: float
    damped: Array
    L: Array
    step: Array
    product: Callable[[Array], Array]
    lock: Any = field(default_factory=Lock, repr=False)

    @classmethod
    def of(
        cls,
        F: DenseMatrix,
        gradient: Array,
        damping: float,
        product: Callable[[Array], Array] | None = None,
    ) -> Reference:
        """Factorize F + lambda I and take the exact step.

        Args:
            F: the exact matrix.
            gradient: (P,).
            damping: lambda.
            product: v -> F v, where there is a quicker way than the dense matrix, as that of
                :func:`minikfac.fisher.product` for some thousand parameters.
        """
        if not isinstance(F, DenseMatrix):
            raise TypeError(f"expected the dense matrix of fisher.exact, got {type(F).__name__}")
        if gradient.shape != (F.shape[0],):
            raise ValueError(f"expected a gradient of shape ({F.shape[0]},), got {gradient.shape}")
        if not bool(array_module(gradient).isfinite(gradient).all()):
            raise ValueError("expected a finite gradient, got NaN or infinite entries")
        damped = F.damped(damping).array
        L = cholesky(damped, F.name if damping == 0 else f"{F.name} + damping")
        step = cholesky_solve(L, gradient)
        return cls(F, gradient, damping, damped, L, step, product or (lambda v: F.array @ v))

    @property
    def inverse(self) -> Array:
        """(F + lambda I)^{-1}."""
        with self.lock:
            return self._inverse

    @cached_property
    def _inverse(self) -> Array:
        return cholesky_inverse(self.L.copy())

    @cached_property
    def logdet(self) -> float:
        """log det (F + lambda I)."""
        return 2 * float(array_module(self.L).log(self.L.diagonal()).sum())

    @cached_property
    def parts(self) -> list[slice]:
        """All parameters, then each layer's."""
        return [slice(0, self.F.shape[0]), *self.F.slices]

    @cached_property
    def squares(self) -> list[float]:
        """||F||_F^2 and that of each diagonal block."""
        return [_inner(self.F.array[own, own], self.F.array[own, own]) for own in self.parts]

    @cached_property
    def inverse_squares(self) -> list[float]:
        """The same of the damped inverse."""
        return [_inner(self.inverse[own, own], self.inverse[own, own]) for own in self.parts]

    @cached_property
    def between(self) -> float:
        """||.||_F^2 of what lies between layers in F."""
        return _square_between(self.F.array, self.F.slices)

    @cached_property
    def inverse_between(self) -> float:
        """The same of the damped inverse."""
        return _square_between(self.inverse, self.F.slices)

    @cached_property
    def spectral_norms(self) -> list[float]:
        """||F||_2 and that of each diagonal block."""
        return [
            _spectral_norm(product, like) for product, like in zip(self.products, self.likes, strict=True)
        ]

    @cached_property
    def products(self) -> list[Callable[[Array], Array]]:
        """v -> F v, and the same with each diagonal block."""
        return [self.product, *(_times(self.F.array[own, own]) for own in self.F.slices)]

    @cached_property
    def likes(self) -> list[Array]:
        """Vectors of the lengths of :attr:`parts`."""
        return [self.gradient[own] for own in self.parts]


def _measure(
    reference: Reference, matrix: FisherMatrix, method: str | None, cg_limit: int, measures: Sequence[str]
) -> list[Row]:
    damping = reference.damping
    started = time.perf_counter()
    solver = matrix.inverse(damping, method)
    step = solver @ reference.gradient
    solve_seconds = time.perf_counter() - started

    rows: list[Row] = [{} for _ in reference.parts]
    if "matrix" in measures or "spectral" in measures:
        near = _undamped(matrix, damping, method)
        if "matrix" in measures:
            _update(rows, _matrix_errors(reference, near))
        if "spectral" in measures:
            _update(rows, _spectral_errors(reference, near))
    if "step" in measures:
        _update(rows, [_step_row(reference, step, own) for own in reference.parts])
        rows[0]["share"] = _share(reference, step)
    if "spectrum" in measures:
        low, high = _extremes(reference, matrix.damped(damping, method), solver)
        rows[0] |= {"eigenvalue_min": low, "eigenvalue_max": high, "condition": high / low}
    if "cg" in measures:
        cg = conjugate_gradients(
            lambda v: reference.product(v) + damping * v,
            reference.gradient,
            1e-6,
            cg_limit,
            lambda r: solver @ r,
        )
        rows[0]["cg_iterations"] = cg.iterations if cg.converged else math.inf
    if "inverse" in measures or "kl" in measures:  # last: other threads may still compute the exact inverse
        errors, trace = _inverse_errors(reference, solver, "inverse" in measures)
        _update(rows, errors)
        if "kl" in measures:
            log_dets = matrix.logdet(damping, method) - reference.logdet
            rows[0]["kl"] = max(0.0, 0.5 * (trace - len(step) + log_dets))  # less is rounding
    rows[0] |= {"floats": matrix.floats, "solve_seconds": solve_seconds}
    names = (_WHOLE, *reference.F.names)
    return [{"layer": name, **row} for name, row in zip(names, rows, strict=True)]


def _update(rows: list[Row], found: Sequence[Row]) -> None:
    for row, new in zip(rows, found, strict=True):
        row |= new


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
        """One for each layer, None where there is something between layers too."""
        if not isinstance(self.matrix, BlockDiagonal) or self.matrix.slices != tuple(slices):
            return None
        return [_Shifted(block, self.shift) for block in self.matrix.blocks]


def _undamped(matrix: FisherMatrix, damping: float, method: str | None) -> _Shifted:
    """The matrix itself; or, where damping is part of what it is, the damped matrix less lambda I.

    The latter for factored damping, and for block-tridiagonal matrices that do not exist undamped.
    """
    if method is None:
        try:
            matrix @ (0 * matrix.diagonal())
            return _Shifted(matrix, 0.0)
        except SingularMatrixError:
            pass
    return _Shifted(matrix.damped(damping, method), damping)


def _matrix_errors(reference: Reference, near: _Shifted) -> list[Row]:
    """Errors of the matrix and of its diagonal blocks."""
    F, slices = reference.F.array, reference.F.slices
    blocks = near.blocks(slices)
    if blocks is None:
        dense = near.dense
        sums = [_sums(F[own, own], dense[own, own]) for own in reference.parts]
    else:  # layer by layer: what lies between layers is wrong as a whole
        sums = [_sums(F[own, own], block.dense) for own, block in zip(slices, blocks, strict=True)]
        wrong, inner, square = (sum(parts) for parts in zip(*sums, strict=True))
        sums = [(wrong + reference.between, inner, square), *sums]
    return [
        {"error": _ratio(wrong**0.5, whole**0.5), "c_star": _ratio(inner, square)}
        for (wrong, inner, square), whole in zip(sums, reference.squares, strict=True)
    ]


def _spectral_errors(reference: Reference, near: _Shifted) -> list[Row]:
    """Spectral errors of the matrix and of its diagonal blocks, by Lanczos iteration on the difference."""
    blocks = near.blocks(reference.F.slices)
    if blocks is None:
        dense = near.dense
        others = [near.product, *(_times(dense[own, own]) for own in reference.F.slices)]
    else:
        others = [near.product, *(block.product for block in blocks)]
    return [
        {"spectral_error": _ratio(_spectral_norm(product, like, other), norm)}
        for product, other, like, norm in zip(
            reference.products, others, reference.likes, reference.spectral_norms, strict=True
        )
    ]


def _inverse_errors(reference: Reference, solver: Operator, errors: bool) -> tuple[list[Row], float]:
    """Errors of the damped inverse and of its diagonal blocks, and tr (F~ + lambda I)^{-1} (F + lambda I)."""
    slices, rows, trace = reference.F.slices, [], 0.0
    if isinstance(solver, BlockDiagonalOperator) and solver.slices == slices:
        squares = []
        for own, block in zip(slices, solver.parts, strict=True):
            dense = block.to_dense()
            trace += _inner(dense, reference.damped[own, own])
            squares.append(_square_distance(reference.inverse[own, own], dense) if errors else 0.0)
        squares = [sum(squares) + (reference.inverse_between if errors else 0.0), *squares]
    else:
        dense = solver.to_dense()
        trace = _inner(dense, reference.damped)
        squares = [
            _square_distance(reference.inverse[own, own], dense[own, own]) if errors else 0.0
            for own in reference.parts
        ]
    if errors:
        rows = [
            {"inverse_error": (wrong / whole) ** 0.5}
            for wrong, whole in zip(squares, reference.inverse_squares, strict=True)
        ]
    return rows or [{} for _ in reference.parts], trace


def _step_row(reference: Reference, step: Array, own: slice) -> Row:
    cosine, length = _cosine(step[own], reference.step[own])
    return {"step_cosine": cosine, "step_length": length}


def _share(reference: Reference, step: Array) -> float:
    """Decrease of 1/2 d'(F + lambda I)d - g'd along the step, best scaled, over that of the exact step."""
    along = float(reference.gradient @ step)
    decrease = _ratio(along**2, float(step @ (reference.damped @ step)))
    return _ratio(decrease, float(reference.gradient @ reference.step))


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


def ledger(
    signals: Signals,
    gradient: Array,
    damping: float,
    F: DenseMatrix | None = None,
    reference: Reference | None = None,
    exact_blocks: FisherMatrix | None = None,
) -> list[Row]:
    """The assumption ledger: what each assumption on the way from the exact Fisher to K-FAC costs.

    Each row adds one assumption to another row, the one that ``above`` names: as a rule the one before it.
    All rows hold damped matrices M + lambda I, whose differences are those of the M, and the last replaces
    exact by factored damping.

    Where weights are shared, each set of assumptions in :func:`minikfac.fisher.ladder` has a row, and so
    have two other ways to go on from independence: KFAC-reduce takes the second moments of derivatives
    at every pair of locations for their mean over all pairs; T x KFC takes those of derivatives and of
    activations for their means over equal locations, t = u.

    Args:
        signals: of :func:`minikfac.fisher.signals`.
        gradient: (P,), on which steps are taken.
        damping: lambda > 0.
        F: the exact matrix, if it is there already.
        reference: :meth:`Reference.of` it, if that is there already.
        exact_blocks: of :func:`minikfac.fisher.block_diagonal` on these signals, likewise.

    Returns:
        Rows with ``label``, ``above`` (the label of another row; None for the first), ``error`` (relative
        Frobenius distance from the exact matrix), ``cost`` (distance from the row ``above``, relative to
        the same norm), ``c_star``, ``step_cosine``, ``step_length`` and ``share`` of the exact step's
        progress. Where M + lambda I is indefinite, as under IAD + SH it can be, it gives no step of
        descent: these three are nan.
    """
    if reference is None:
        reference = Reference.of(exact(signals) if F is None else F, gradient, damping)
    first = ("no correlations between layers", _EXACT, exact_blocks or block_diagonal(signals), None)
    return _ledger_rows(reference, [first, *_assumptions(signals, first[0])])


def layer_ledger(signals: Signals, layer: int | str, gradient: Array, damping: float) -> list[Row]:
    """The assumption ledger of one layer: its block of the matrix, and the step on its parameters alone.

    Args:
        signals: of :func:`minikfac.fisher.signals`.
        layer: index or name.
        gradient: (P,), of all layers.
        damping: lambda > 0.

    Returns:
        Rows as those of :func:`ledger`, without one for correlations between layers and with
        ``lowest_eigenvalue``: the smallest eigenvalue of M over the largest in magnitude, from -1 to 1 and
        negative for an indefinite M.
    """
    position, size = signals.index(layer), signals.slices[-1].stop
    if gradient.shape != (size,):
        raise ValueError(f"expected a gradient of shape ({size},), got {gradient.shape}")
    own = signals.select([position])
    reference = Reference.of(exact(own), gradient[signals.slices[position]], damping)
    return _ledger_rows(reference, _assumptions(own, _EXACT), eigenvalues=True)


_EXACT = "exact Fisher matrix"
_Step = tuple[str, str, FisherMatrix | Callable[[], FisherMatrix], str | None]
"""A row's label, that of the row above, the matrix, and how it is damped."""


def _assumptions(signals: Signals, blocks: str) -> list[_Step]:
    """What follows the exact blocks, in a row of label ``blocks``."""
    chunk = next(iter(signals))
    if all(layer.scale_and_shift for layer in chunk):
        return []  # they stay exact
    approximation = kfac(signals)
    if all(layer.scale_and_shift or layer.abar.shape[1] == 1 for layer in chunk):
        label = "activations independent of derivatives"
        return [
            (label, blocks, approximation, None),
            ("factored damping", label, approximation, "factored"),
        ]
    sud, iad, iad_sud, iad_sh, kfc = list(LADDER)[1:]
    steps: list[_Step] = [
        (LADDER[assumed], above, partial(ladder, signals, assumed), None)
        for assumed, above in (
            (sud, blocks),
            (iad, blocks),
            (iad_sud, LADDER[iad]),
            (iad_sh, LADDER[iad]),
        )
    ]
    return [
        *steps,
        (LADDER[kfc], LADDER[iad_sh], approximation, None),
        ("KFAC-reduce: derivatives alike at all distances", LADDER[iad], kfac(signals, reduce=True), None),
        ("T x KFC: the same at all locations", LADDER[iad], fully_correlated(signals), None),
        ("factored damping", LADDER[kfc], approximation, "factored"),
    ]


def _ledger_rows(reference: Reference, steps: Sequence[_Step], eigenvalues: bool = False) -> list[Row]:
    damping = reference.damping
    damped_blocks = [reference.damped[own, own] for own in reference.F.slices]
    rows: list[Row] = [_ledger_row(reference, (_EXACT, None), 0.0, 0.0, 1.0, reference.step)]
    if eigenvalues:
        rows[0]["lowest_eigenvalue"] = _lowest_eigenvalue(reference.F.blocks)
    kept = {_EXACT: damped_blocks}
    for number, (label, above, given, method) in enumerate(steps):
        matrix = given() if callable(given) else given
        blocks = [block.to_dense() for block in matrix.damped(damping, method).blocks]
        wrong, inner, own_square = (
            sum(parts)
            for parts in zip(*(_sums(F, M) for F, M in zip(damped_blocks, blocks, strict=True)), strict=True)
        )
        # all that follows the exact matrix lacks what is between layers
        cost = sum(_square_distance(a, b) for a, b in zip(kept[above], blocks, strict=True))
        cost += reference.between if above == _EXACT else 0.0
        try:
            step = matrix.solve(reference.gradient, damping, method)
        except SingularMatrixError:
            if label != LADDER[frozenset({"IAD", "SH"})]:
                raise
            step = math.nan * reference.gradient
        rows.append(
            _ledger_row(
                reference,
                (label, above),
                (wrong + reference.between) ** 0.5,
                cost**0.5,
                inner / own_square,
                step,
            )
        )
        if eigenvalues:
            undamped = matrix.damped(damping, method).blocks if method else matrix.blocks
            rows[-1]["lowest_eigenvalue"] = _lowest_eigenvalue(undamped, damping if method else 0.0)
        later = {other for _, other, _, _ in steps[number + 1 :]}
        kept = {name: held for name, held in (kept | {label: blocks}).items() if name in later}
    return rows


def _ledger_row(
    reference: Reference,
    labels: tuple[str, str | None],
    error: float,
    cost: float,
    c_star: float,
    step: Array,
) -> Row:
    norm = reference.squares[0] ** 0.5
    return {
        "label": labels[0],
        "above": labels[1],
        "error": error / norm,
        "cost": cost / norm,
        "c_star": c_star,
        **_step_row(reference, step, slice(None)),
        "share": _share(reference, step),
    }


def _lowest_eigenvalue(blocks: Sequence[FisherMatrix], shift: float = 0.0) -> float:
    """Smallest eigenvalue of the blocks less shift I over the largest in magnitude."""
    values = [spectrum(block) - shift for block in blocks]
    low, high = min(float(own[0]) for own in values), max(float(own[-1]) for own in values)
    return _ratio(low, max(high, -low))


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


def _sums(F: Array, M: Array) -> tuple[float, float, float]:
    """||F - M||_F^2, <M, F> and ||M||_F^2."""
    return _square_distance(F, M), _inner(M, F), _inner(M, M)


def _square_distance(A: Array, B: Array) -> float:
    """||A - B||_F^2, strip by strip."""
    total = 0.0
    for start in range(0, len(A), _STRIP):
        difference = A[start : start + _STRIP] - B[start : start + _STRIP]
        total += _inner(difference, difference)
    return total


def _square_between(A: Array, slices: Sequence[slice]) -> float:
    """||.||_F^2 of all blocks off the diagonal, of a symmetric matrix."""
    return 2 * sum(_inner(A[a, b], A[a, b]) for number, a in enumerate(slices) for b in slices[:number])


def _times(A: Array) -> Callable[[Array], Array]:
    """v -> A v."""
    return lambda v: A @ v


def _spectral_norm(
    product: Callable[[Array], Array], like: Array, other: Callable[[Array], Array] | None = None
) -> float:
    """Largest eigenvalue in magnitude of a symmetric matrix, or of the difference of two, to 0.1 %."""
    xp = array_module(like)
    v = xp.random.default_rng(1).standard_normal(len(like)).astype(like.dtype)
    Mv = product(v)
    wrong = Mv if other is None else Mv - other(v)
    rounding = 100 * float(xp.finfo(like.dtype).eps) * float((Mv @ Mv) ** 0.5)
    if float((wrong @ wrong) ** 0.5) <= (0.0 if other is None else rounding):
        return 0.0  # Lanczos would have nothing to begin with, or iterate on rounding errors
    difference = product if other is None else (lambda v: product(v) - other(v))
    values = extreme_eigenpairs(difference, like, 1, "LM", 1e-3)[0]
    return abs(float(to_host(values)[-1]))


def _cosine(step: Array, exact_step: Array) -> tuple[float, float]:
    """Cosine between two steps, and the ratio of their lengths."""
    a, b = float((step @ step) ** 0.5), float((exact_step @ exact_step) ** 0.5)
    return _ratio(float(step @ exact_step), a * b), _ratio(a, b)
