"""How good an approximation of the Fisher matrix is, by every measure that someone may care for.

As a matrix: the relative error and the scalar that would correct it best. As an inverse, which is what an
optimizer uses: the step it takes on a gradient, and how much of the exact step's progress that makes.
As a preconditioner: the spectrum that is left, and how many iterations conjugate gradients then need.
As a probabilistic model of the gradient: the Kullback-Leibler divergence between two Gaussians.

Inverse, step, divergence, spectrum and conjugate gradients all use F + lambda I on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backend import Array, whole_number
from ..display import WIDTH, Display, Shown, stacked
from ..fisher import DenseMatrix, FisherMatrix
from .measures import BRIEF, COLUMNS, MEASURES, WHOLE, Row, measure
from .reference import Reference, descent_gradient
from .tables import mean_and_spread, text_table, with_spread, write_csv


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """The rows of :func:`compare`; prints as a table.

    Attributes:
        rows: dicts with ``approximation``, ``layer`` ("all" or a layer's name) and the columns.
        damping: lambda.
        exact: numbers of the exact matrix.
        spread: standard deviations over seeds in the same rows, of :func:`over_seeds`.
    """

    rows: list[Row]
    damping: float
    exact: int
    spread: list[Row] | None = None

    def to_dicts(self) -> list[Row]:
        """Copies of the rows, for a data frame or JSON."""
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
        """The row of an approximation for all parameters."""
        for row in self.whole():
            if row["approximation"] == approximation:
                return row
        names = ", ".join(row["approximation"] for row in self.whole())
        raise KeyError(f"expected an approximation among {names}, got {approximation!r}")

    def to_csv(self, path: str | Path) -> None:
        """Write all rows, one per approximation and layer; over seeds with columns ``NAME_sd`` too."""
        write_csv(path, self.rows, self.spread)

    def table(
        self, layer: str = WHOLE, columns: Sequence[str] = tuple(COLUMNS)
    ) -> tuple[list[str], list[list[str]]]:
        """Header and cells as text, for all parameters or one layer; empty columns are left out.

        Over seeds a cell is a mean and a standard deviation, as in "0.52 ± 0.03".
        """
        spread = self.spread and [row for row in self.spread if row["layer"] == layer]
        return text_table(self.layer(layer), spread, columns)

    def to_pandas(self) -> Any:
        """Return all rows as a ``pandas.DataFrame``, over seeds with columns ``NAME_sd`` too.

        Raises:
            ImportError: where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "expected pandas for to_pandas, got none; pip install pandas, or use to_dicts"
            ) from error
        return pandas.DataFrame(with_spread(self.rows, self.spread))

    def plot(self, columns: Sequence[str] | None = None) -> Any:
        """Draw progress and cosine of each step against the numbers stored; returns the axes.

        Named columns, or a table over seeds or without steps, are drawn as bars side by side.
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
        return Display(title, *self.table(columns=BRIEF), "All columns: print, .plot(), .to_pandas().")

    def __repr__(self) -> str:
        return self._display().text()

    def __str__(self) -> str:
        """All columns for the parameters as a whole, in tables one below the other."""
        return "\n".join(stacked(*self.table(), WIDTH))


def compare(
    F: DenseMatrix,
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
    """Measure approximations against the exact Fisher matrix, whole and layer by layer.

    Args:
        F: the exact matrix, of :func:`minikfac.fisher.exact`.
        approximations: matrices by name.
        gradient: of the loss, (P,), on which steps are taken.
        damping: lambda on both sides; 0 only where everything is positive definite.
        methods: how to damp an approximation, by name, where not by its default ("factored" for K-FAC).
        measures: names among :data:`MEASURES`; all by default. What is left out is absent from the rows.
        reference: :meth:`Reference.of` the same F, gradient and damping, if it is there already.
        build_seconds: what building each matrix took, by name, where that was timed.
        on_progress: called with the name of each approximation before its turn.
        cg_limit: most iterations of conjugate gradients; a row that reaches it has ``math.inf``.

    Returns:
        One row per approximation for all parameters, and one per parameter layer; the columns are
        explained in :data:`COLUMNS`. ``error``, ``spectral_error`` and ``c_star`` are of the undamped matrix,
        except under factored damping and where only a damped one exists: there of the damped matrix
        less lambda I. Layer rows hold the measures that exist for a layer alone: errors of
        the diagonal block of the matrix and of the inverse, and the step on the layer's parameters.

    Raises:
        ValueError: on shapes that do not fit, a gradient with NaN or infinity, no approximations, methods
            for unknown ones, unknown measures, negative damping, or a matrix that is singular to working
            precision.
        TypeError: on anything but a Fisher matrix.
    """
    methods, chosen = methods or {}, tuple(MEASURES if measures is None else measures)
    _check(F, approximations, methods, chosen)
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


def _check(
    F: DenseMatrix,
    approximations: Mapping[str, FisherMatrix],
    methods: Mapping[str, str],
    measures: Sequence[str],
) -> None:
    if not isinstance(F, DenseMatrix):
        raise TypeError(f"expected the dense matrix of fisher.exact, got {type(F).__name__}")
    if not isinstance(approximations, Mapping):
        raise TypeError(f"expected approximations by name, got {type(approximations).__name__}")
    if not approximations or not set(methods) <= set(approximations):
        raise ValueError(
            f"expected approximations, and methods for some of them, got approximations "
            f"{list(approximations)} and methods for {list(methods)}"
        )
    unknown = [str(name) for name in measures if not isinstance(name, str) or name not in MEASURES]
    if unknown:
        raise ValueError(f"expected measures among {', '.join(MEASURES)}, got {', '.join(unknown)}")
    for name, matrix in approximations.items():
        if not isinstance(matrix, FisherMatrix):
            raise TypeError(f"expected {name!r} to be a Fisher matrix, got {type(matrix).__name__}")
        if matrix.shape != F.shape:
            raise ValueError(f"expected {name!r} of shape {F.shape}, got {matrix.shape}")


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
    labels = {tuple((row["approximation"], row["layer"]) for row in run.rows) for run in runs}
    if len(labels) > 1:
        raise ValueError(f"expected the same rows for every seed, got {len(labels)} kinds of comparison")
    means, spread = mean_and_spread([run.rows for run in runs])
    return Comparison(means, runs[0].damping, runs[0].exact, spread)
