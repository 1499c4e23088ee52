"""The assumption ledger: the error due to each assumption between the exact Fisher matrix and K-FAC."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from ..backend import Array, fetch
from ..fisher import LADDER, BlockDiagonal, DenseMatrix, FisherMatrix, MatrixFree, Signals, exact, ladder
from ..fisher.block_diagonal import BlockDiagonalOperator
from ..linalg import SingularMatrixError
from .approximations import APPROXIMATIONS
from .measures import Row, frobenius_sums, share, spectrum, step_row
from .norms import ratio, square_distance
from .products import Sums, vectors_and_images
from .reference import ProductReference, Reference, descent_gradient

_EXACT = "exact Fisher matrix"
_BLOCKS = "no correlations between layers"
_INDEPENDENT = "activations independent of derivatives"
_FACTORED = "factored damping"
_SUD, _IAD, _IAD_SUD, _IAD_SH, _KFC = list(LADDER)[1:]


def ledger(
    signals: Signals,
    gradient: Array,
    damping: float,
    F: DenseMatrix | MatrixFree | None = None,
    reference: Reference | None = None,
    built: Mapping[str, FisherMatrix] | None = None,
) -> list[Row]:
    """Compute the error due to each assumption between the exact Fisher matrix and K-FAC.

    Each row adds one assumption to the row named in ``above``, usually the previous one. All rows describe
    damped matrices M + lambda I, whose differences are those of the M, and the last one replaces exact by
    factored damping.

    With shared weights, each set of assumptions in :func:`minikfac.fisher.ladder` has a row, and so have
    two alternatives that follow independence: KFAC-reduce replaces the second moments of derivatives
    at every pair of locations by their mean over all pairs; T x KFC replaces those of derivatives and of
    activations by their means over equal locations, t = u.

    With the matrix-free F of :func:`minikfac.fisher.product`, ledgers are possible for nets of any size.
    Exact blocks then use products with masked vectors, and their steps conjugate gradients. For shared
    weights only the rows of Kronecker products remain, each below the exact blocks.

    Args:
        signals: from :func:`minikfac.fisher.signals`.
        gradient: (P,), for which steps are computed.
        damping: lambda > 0.
        F: the exact matrix, if already computed, or a matrix-free one.
        reference: :meth:`Reference.of` the matrix, if already computed.
        built: approximations already built from these signals, by their names in :data:`APPROXIMATIONS`.

    Returns:
        Rows with ``label``, ``above`` (the label of another row; None for the first), ``error`` (relative
        Frobenius distance from the exact matrix), ``cost`` (distance from the row ``above``, relative to
        the same norm), ``c_star``, ``step_cosine``, ``step_length`` and ``share`` of the exact step's
        progress. If M + lambda I is indefinite, which can happen under IAD + SH, there is no descent step
        and the last three are nan. A matrix-free F adds the standard errors ``error_se``, ``cost_se`` and
        ``c_star_se``.
    """
    gradient = descent_gradient(gradient, signals.slices[-1].stop)
    if isinstance(F, MatrixFree):
        return _rows_by_products(F, gradient, damping, signals, built)
    if reference is None:
        reference = Reference.of(exact(signals) if F is None else F, gradient, damping)
    blocks = _Assumption(_BLOCKS, _EXACT, _matrix("block-diagonal", signals, built))
    return _rows(reference, [blocks, *_assumptions(signals, _BLOCKS, built)])


def layer_ledger(signals: Signals, layer: int | str, gradient: Array, damping: float) -> list[Row]:
    """Compute the assumption ledger of one layer, for its block and the step on its parameters only.

    Args:
        signals: from :func:`minikfac.fisher.signals`.
        layer: index or name.
        gradient: (P,), for all layers.
        damping: lambda > 0.

    Returns:
        Rows like those of :func:`ledger`, without the one for correlations between layers but with
        ``lowest_eigenvalue``: the smallest eigenvalue of M divided by the largest in magnitude, from -1 to
        1 and negative if M is indefinite.
    """
    position, size = signals.index(layer), signals.slices[-1].stop
    gradient = descent_gradient(gradient, size)
    alone = signals.select([position])
    reference = Reference.of(exact(alone), gradient[signals.slices[position]], damping)
    return _rows(reference, list(_assumptions(alone, _EXACT)), eigenvalues=True)


class _Assumption(NamedTuple):
    """A row's label, that of the row above, a function that builds the matrix, and the damping method."""

    label: str
    above: str
    make: Callable[[], FisherMatrix]
    method: str | None = None


def _matrix(
    name: str, signals: Signals, built: Mapping[str, FisherMatrix] | None
) -> Callable[[], FisherMatrix]:
    """A function that returns an approximation, the existing one if there is one."""
    return lambda: built[name] if built and name in built else APPROXIMATIONS[name][0](signals)


def _assumptions(
    signals: Signals, blocks: str, built: Mapping[str, FisherMatrix] | None = None, dense: bool = True
) -> Iterator[_Assumption]:
    """Assumptions after the exact blocks, whose row is ``blocks``; only Kronecker products if not dense."""
    chunk = next(iter(signals))
    if all(layer.scale_and_shift for layer in chunk):
        return  # they stay exact
    K = _matrix("K-FAC", signals, built)()
    if all(layer.scale_and_shift or layer.abar.shape[1] == 1 for layer in chunk):
        yield _Assumption(_INDEPENDENT, blocks, lambda: K)
        yield _Assumption(_FACTORED, _INDEPENDENT, lambda: K, "factored")
        return
    independent, homogeneous = (LADDER[_IAD], LADDER[_IAD_SH]) if dense else (blocks, blocks)
    pairs = ((_SUD, blocks), (_IAD, blocks), (_IAD_SUD, independent), (_IAD_SH, independent))
    for assumed, above in pairs if dense else ():
        yield _Assumption(LADDER[assumed], above, partial(ladder, signals, assumed))
    yield _Assumption(LADDER[_KFC], homogeneous, lambda: K)
    for name, label in (
        ("KFAC-reduce", "KFAC-reduce: derivatives alike at all distances"),
        ("T x KFC", "T x KFC: the same at all locations"),
    ):
        yield _Assumption(label, independent, _matrix(name, signals, built))
    yield _Assumption(_FACTORED, LADDER[_KFC], lambda: K, "factored")


def _rows(reference: Reference, assumptions: Sequence[_Assumption], eigenvalues: bool = False) -> list[Row]:
    damping, norm = reference.damping, reference.squares[0] ** 0.5
    damped_blocks = [reference.damped[layer, layer] for layer in reference.F.slices]
    rows: list[Row] = [_row(reference, (_EXACT, None), 0.0, 0.0, 1.0, reference.step)]
    if eigenvalues:
        rows[0]["lowest_eigenvalue"] = _lowest_eigenvalue(reference.F.blocks)
    kept = {_EXACT: damped_blocks}
    for number, (label, above, make, method) in enumerate(assumptions):
        matrix = make()
        blocks = [block.to_dense() for block in matrix.damped(damping, method).blocks]
        sums = [frobenius_sums(F, M) for F, M in zip(damped_blocks, blocks, strict=True)]
        wrong, product, square = (sum(terms) for terms in zip(*sums, strict=True))
        # all rows after the exact matrix lack the blocks between layers
        cost = sum(square_distance(a, b) for a, b in zip(kept[above], blocks, strict=True))
        cost += reference.between if above == _EXACT else 0.0
        step = _step(reference, label, matrix, method)
        error = (wrong + reference.between) ** 0.5
        rows.append(_row(reference, (label, above), error / norm, cost**0.5 / norm, product / square, step))
        if eigenvalues:
            undamped = matrix.damped(damping, method).blocks if method else matrix.blocks
            rows[-1]["lowest_eigenvalue"] = _lowest_eigenvalue(undamped, damping if method else 0.0)
        later = {assumption.above for assumption in assumptions[number + 1 :]}
        kept = {name: dense for name, dense in (kept | {label: blocks}).items() if name in later}
    return rows


def _rows_by_products(
    F: MatrixFree,
    gradient: Array,
    damping: float,
    signals: Signals,
    built: Mapping[str, FisherMatrix] | None,
    vectors: int = 20,
) -> list[Row]:
    """The same rows for a matrix-free F, with norms of differences estimated from shared random vectors."""
    K, F = _matrix("K-FAC", signals, built)(), replace(F, tolerance=1e-6)
    solver = K.inverse(damping)
    reference = ProductReference.of(F, gradient, damping, solver, limit=0).refined(1e-6, 500)
    exact_blocks = BlockDiagonal(F.blocks)
    assumptions = [
        _Assumption(_BLOCKS, _EXACT, lambda: exact_blocks),
        *_assumptions(signals, _BLOCKS, {"K-FAC": K, **(built or {})}, dense=False),
    ]
    matrices = {label: make() for label, _, make, _ in assumptions}
    damped = {label: matrices[label].damped(damping, method) for label, _, _, method in assumptions}
    sums = {label: Sums() for label in damped}
    for v, Fv, random in vectors_and_images(F, K.__matmul__, vectors, seed=0):
        images = {_EXACT: Fv + damping * v} | {label: M @ v for label, M in damped.items()}
        for label, above, *_ in assumptions:
            Mv, wrong, step_down = (
                images[label],
                images[label] - images[_EXACT],
                images[label] - images[above],
            )
            squares = wrong @ wrong, step_down @ step_down, Fv @ Fv, Mv @ images[_EXACT], Mv @ Mv
            sums[label].add(fetch(*squares), random)
    rows = [_row(reference, (_EXACT, None), 0.0, 0.0, 1.0, reference.step)]
    for label, above, _, method in assumptions:
        if label == _BLOCKS:
            inverses = [
                block.inverse(damping, precondition=part)
                for block, part in zip(F.blocks, solver.parts, strict=True)
            ]
            step = BlockDiagonalOperator(inverses) @ gradient
        else:
            step = matrices[label].solve(gradient, damping, method)
        error = sums[label].estimate(lambda s: ratio(s[0], s[2]) ** 0.5)
        cost = sums[label].estimate(lambda s: ratio(s[1], s[2]) ** 0.5)
        c_star = sums[label].estimate(lambda s: ratio(s[3], s[4]))
        row = _row(reference, (label, above), error.value, cost.value, c_star.value, step)
        errors = {"error_se": error, "cost_se": cost, "c_star_se": c_star}
        rows.append(row | {name: estimate.standard_error for name, estimate in errors.items()})
    return rows


def _step(reference: Reference, label: str, matrix: FisherMatrix, method: str | None) -> Array:
    """The damped step; nan if the matrix is indefinite."""
    try:
        return matrix.solve(reference.gradient, reference.damping, method)
    except SingularMatrixError:
        if label != LADDER[_IAD_SH]:
            raise
        return math.nan * reference.gradient


def _row(
    reference: Reference | ProductReference,
    labels: tuple[str, str | None],
    error: float,
    cost: float,
    c_star: float,
    step: Array,
) -> Row:
    return {
        "label": labels[0],
        "above": labels[1],
        "error": error,
        "cost": cost,
        "c_star": c_star,
        **step_row(reference, step, slice(None)),
        "share": share(reference, step),
    }


def _lowest_eigenvalue(blocks: Sequence[FisherMatrix], shift: float = 0.0) -> float:
    """Smallest eigenvalue of the blocks minus shift I, divided by the largest in magnitude."""
    values = [spectrum(block) - shift for block in blocks]
    low, high = min(float(block[0]) for block in values), max(float(block[-1]) for block in values)
    return ratio(low, max(high, -low))
