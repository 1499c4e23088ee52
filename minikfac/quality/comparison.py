"""Comparison of Fisher approximations by a range of measures.

As a matrix: the relative error and the best correcting scalar. As an inverse, which is what optimizers use:
the step for a gradient, and its share of the exact step's progress. As a preconditioner: the remaining
spectrum, and the number of iterations of conjugate gradients. As a probabilistic model of the gradient: the
Kullback-Leibler divergence between two Gaussians.

Inverse, step, divergence, spectrum and conjugate gradients all use F + lambda I on both sides. If F is
matrix-free, errors of matrix and step are estimated with standard errors (:mod:`.products`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backend import Array, array_module, check_memory, real_number, whole_number
from ..display import WIDTH, Display, Shown, stacked
from ..fisher import DenseMatrix, FisherMatrix, MatrixFree
from ..fisher.matrix import check_damping
from .measures import BRIEF, COLUMNS, MEASURES, WHOLE, Row, measure
from .products import AVAILABLE, EARLY, ByProducts
from .reference import ProductReference, Reference, descent_gradient
from .tables import mean_and_spread, text_table, with_spread, write_csv


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """The rows of :func:`compare`; prints as a table.

    Attributes:
        rows: dicts with ``approximation``, ``layer`` ("all" or a layer's name) and the columns.
        damping: lambda.
        exact: numbers stored by the exact matrix.
        spread: rows of standard deviations over seeds, from :func:`over_seeds`, or of standard errors of
            estimates from products.
        notes: accuracy and missing columns, if F is matrix-free.
    """

    rows: list[Row]
    damping: float
    exact: int
    spread: list[Row] | None = None
    notes: tuple[str, ...] = ()

    def to_dicts(self) -> list[Row]:
        """Copies of the rows, for a data frame or JSON file."""
        return [dict(row) for row in self.rows]

    def whole(self) -> list[Row]:
        """The rows for all parameters together."""
        return self.layer(WHOLE)

    def layer(self, name: str) -> list[Row]:
        """The rows of one layer."""
        rows = [row for row in self.rows if row["layer"] == name]
        if not rows:
            names = ", ".join(dict.fromkeys(row["layer"] for row in self.rows))
            raise KeyError(f"expected a layer among {names}, got {name!r}")
        return rows

    def __getitem__(self, approximation: str) -> Row:
        """An approximation's row for all parameters."""
        for row in self.whole():
            if row["approximation"] == approximation:
                return row
        names = ", ".join(row["approximation"] for row in self.whole())
        raise KeyError(f"expected an approximation among {names}, got {approximation!r}")

    def to_csv(self, path: str | Path) -> None:
        """Write all rows, one per approximation and layer; with several seeds, also columns ``NAME_sd``."""
        write_csv(path, self.rows, self.spread)

    def table(
        self, layer: str = WHOLE, columns: Sequence[str] = tuple(COLUMNS)
    ) -> tuple[list[str], list[list[str]]]:
        """Header and cells as text, for all parameters or one layer, without empty columns.

        With several seeds a cell has a mean and standard deviation, as in "0.52 ± 0.03"; estimates have a
        value and standard error.
        """
        spread = self.spread and [row for row in self.spread if row["layer"] == layer]
        return text_table(self.layer(layer), spread, columns)

    def to_pandas(self) -> Any:
        """Return all rows as a ``pandas.DataFrame``; with several seeds, also columns ``NAME_sd``.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "expected pandas for to_pandas, got none; pip install pandas, or use to_dicts"
            ) from error
        return pandas.DataFrame(with_spread(self.rows, self.spread))

    def plot(self, columns: Sequence[str] | None = None) -> Any:
        """Plot the progress and cosine of each step against storage; returns the axes.

        Named columns, and tables over seeds or without steps, are plotted as bars.
        """
        from .. import plots

        whole = self.whole()
        if columns is None and self.spread is None and "share" in whole[0]:
            return plots.progress_against_storage(whole, self.exact)
        spread = self.spread and [row for row in self.spread if row["layer"] == WHOLE]
        measured = [column for column in columns or BRIEF[:-1] if column in whole[0]]
        return plots.quality_bars(whole, measured, spread=spread)

    def _display(self) -> Display:
        title = f"Comparison({len(self.whole())} approximations, damping {self.damping:g})"
        note = " ".join([*self.notes, "All columns: print, .plot(), .to_pandas()."])
        return Display(title, *self.table(columns=BRIEF), note)

    def __repr__(self) -> str:
        return self._display().text()

    def __str__(self) -> str:
        """All columns for all parameters, in several tables."""
        return "\n".join([*stacked(*self.table(), WIDTH), *self.notes])


def compare(
    F: DenseMatrix | MatrixFree,
    approximations: Mapping[str, FisherMatrix],
    gradient: Array,
    damping: float,
    methods: Mapping[str, str] | None = None,
    measures: Sequence[str] | None = None,
    reference: Reference | None = None,
    build_seconds: Mapping[str, float] | None = None,
    on_progress: Callable[[str], None] | None = None,
    cg_limit: int = 500,
) -> Comparison:
    """Compare approximations with the exact Fisher matrix, as a whole and layer by layer.

    Args:
        F: the exact matrix from :func:`minikfac.fisher.exact`, or the matrix-free one from
            :func:`minikfac.fisher.product` for nets of any size: see :func:`compare_by_products`.
        approximations: matrices by name.
        gradient: the gradient of the loss, (P,), for which steps are computed.
        damping: lambda on both sides; 0 only if all matrices are positive definite.
        methods: damping methods by name, if not the default ("factored" for K-FAC).
        measures: names from :data:`MEASURES`; by default all that are available for F. Rows lack the
            others.
        reference: :meth:`Reference.of` the same F, gradient and damping, if already computed.
        build_seconds: build time of each matrix by name, if measured.
        on_progress: called with the name of each approximation before it is measured.
        cg_limit: most iterations of conjugate gradients; rows that reach it contain ``math.inf``.

    Returns:
        One row per approximation for all parameters, and one per parameter layer; :data:`COLUMNS` explains
        the columns. ``error``, ``spectral_error`` and ``c_star`` refer to the undamped matrix or, with
        factored damping or if only a damped matrix exists, to the damped matrix minus lambda I. Layer rows
        contain the measures defined for a single layer: errors of the diagonal block of the matrix and of the
        inverse, and the step on the layer's parameters.

    Raises:
        ValueError: on wrong shapes, a gradient with NaN or infinity, no approximations, methods for unknown
            ones, unknown measures, negative damping, or a matrix that is singular to working precision.
        TypeError: on anything but a Fisher matrix.
    """
    if isinstance(F, MatrixFree):
        chosen = ("matrix", "step") if measures is None else measures
        task = (F, approximations, gradient, damping, methods, chosen, on_progress, cg_limit)
        return list(compare_by_products(*task))[-1]
    methods, chosen = methods or {}, tuple(MEASURES if measures is None else measures)
    if not isinstance(F, DenseMatrix):
        raise TypeError(f"expected the dense matrix of fisher.exact, got {type(F).__name__}")
    _check(F, approximations, methods, chosen, tuple(MEASURES))
    cg_limit = whole_number(cg_limit, "cg_limit")
    gradient = descent_gradient(gradient, F.shape[0])
    reference = Reference.of(F, gradient, damping) if reference is None else reference
    rows: list[Row] = []
    for name, matrix in approximations.items():
        if on_progress is not None:
            on_progress(name)
        whole, *layers = measure(reference, matrix, methods.get(name), cg_limit, chosen)
        whole["build_seconds"] = (build_seconds or {}).get(name)
        rows += [{"approximation": name, **row} for row in (whole, *layers)]
    return Comparison(rows, damping, F.shape[0] ** 2)


def compare_by_products(
    F: MatrixFree,
    approximations: Mapping[str, FisherMatrix],
    gradient: Array,
    damping: float,
    methods: Mapping[str, str] | None = None,
    measures: Sequence[str] = ("matrix", "step"),
    on_progress: Callable[[str], None] | None = None,
    cg_limit: int = 500,
    vectors: int = 20,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Iterator[Comparison]:
    """Compare approximations with a matrix-free exact matrix, yielding increasingly accurate results.

    The first result compares steps with 20 iterations towards the exact step. The next ones add the error and
    the best scale from 2, 4, 8, ... random vectors, with standard errors. The last has the exact step to
    ``tolerance``. Rows are those of :func:`compare` as far as products allow; ``notes`` describe their
    accuracy and missing columns. Memory for the leading subspace, its image and intermediate results is about
    3 ``vectors`` times P numbers.

    Args:
        F: from :func:`minikfac.fisher.product`, or another matrix-free positive semi-definite matrix.
        approximations, gradient, methods: as in :func:`compare`. The damped "K-FAC" among the approximations,
            or else the first one, is the preconditioner of conjugate gradients.
        damping: lambda > 0 on both sides.
        measures: a subset of "matrix", "step", "cg"; the first two by default, as the last takes hundreds
            of products.
        on_progress: called with a description of the next computation.
        cg_limit: most iterations of conjugate gradients.
        vectors: number of random vectors, twice the dimension of the leading subspace.
        tolerance: relative residual of the exact step.
        seed: seed of the random vectors.

    Raises:
        ValueError: as :func:`compare`, and if conjugate gradients do not reach the tolerance.
        TypeError: if F is not matrix-free, or an approximation is not a Fisher matrix.
        MemoryError: before any work, if the subspace does not fit.
    """
    if not isinstance(F, MatrixFree):
        raise TypeError(f"expected a matrix-free F such as fisher.product, got {type(F).__name__}")
    methods, note = methods or {}, on_progress or (lambda text: None)
    _check(F, approximations, methods, measures, AVAILABLE)
    vectors, cg_limit = whole_number(vectors, "vectors", least=2), whole_number(cg_limit, "cg_limit")
    if not (check_damping(damping, F.like) > 0 and 0 < real_number(tolerance, "tolerance") < 1):
        got = f"damping {damping} and tolerance {tolerance}"
        raise ValueError(f"expected damping > 0 and a tolerance between 0 and 1 with products, got {got}")
    gradient = descent_gradient(gradient, F.shape[0])
    shape = (3 * vectors + 8, F.shape[0])
    check_memory(shape, F.like.dtype, "the leading subspace", "fewer vectors", array_module(F.like))
    first = "K-FAC" if "K-FAC" in approximations else next(iter(approximations))
    solver = approximations[first].inverse(damping, methods.get(first))
    reference = ProductReference.of(F, gradient, damping, solver, tolerance, min(EARLY, cg_limit))
    study, number = ByProducts(reference, approximations, methods, measures, note), 0
    yield _estimated(study, number, F, damping)
    if "matrix" in measures:
        for number in study.measure_matrices(first, vectors, seed):
            yield _estimated(study, number, F, damping)
    study.refine(tolerance, cg_limit)
    yield _estimated(study, number, F, damping)


def _estimated(study: ByProducts, number: int, F: MatrixFree, damping: float) -> Comparison:
    """The study's results after a number of random vectors."""
    rows, spread, notes = study.answer(number)
    return Comparison(rows, damping, F.shape[0] ** 2, spread, notes)


def _check(
    F: DenseMatrix | MatrixFree,
    approximations: Mapping[str, FisherMatrix],
    methods: Mapping[str, str],
    measures: Sequence[str],
    available: Sequence[str],
) -> None:
    if not isinstance(approximations, Mapping):
        raise TypeError(f"expected approximations by name, got {type(approximations).__name__}")
    if not approximations or not set(methods) <= set(approximations):
        raise ValueError(
            f"expected approximations, and methods for some of them, got approximations "
            f"{list(approximations)} and methods for {list(methods)}"
        )
    unknown = [str(name) for name in measures if not isinstance(name, str) or name not in available]
    if unknown:
        given = f"measures of {F.name}" if len(available) < len(MEASURES) else "measures"
        raise ValueError(f"expected {given} among {', '.join(available)}, got {', '.join(unknown)}")
    for name, matrix in approximations.items():
        if not isinstance(matrix, FisherMatrix):
            raise TypeError(f"expected {name!r} to be a Fisher matrix, got {type(matrix).__name__}")
        if matrix.shape != F.shape:
            raise ValueError(f"expected {name!r} of shape {F.shape}, got {matrix.shape}")


def over_seeds(make: Callable[[int], Comparison], seeds: Iterable[int]) -> Comparison:
    """Repeat a comparison over seeds; cells become means, and ``spread`` their standard deviations.

    Args:
        make: maps a seed to a comparison; all need the same rows.
        seeds: at least two.

    Raises:
        ValueError: on fewer than two seeds, or rows that differ.
    """
    runs = [make(seed) for seed in seeds]
    if len(runs) < 2:
        raise ValueError(f"expected at least two seeds, got {len(runs)}")
    labels = {tuple((row["approximation"], row["layer"]) for row in run.rows) for run in runs}
    if len(labels) > 1:
        raise ValueError(f"expected the same rows for every seed, got {len(labels)} different sets")
    means, spread = mean_and_spread([run.rows for run in runs])
    return Comparison(means, runs[0].damping, runs[0].exact, spread, runs[0].notes)
