"""Odd numbers and vectors in every function of fisher and quality: an error that helps, or the right value.

Each case is a function of one argument. What it returns must be what it returns for the plainly converted
argument, in double precision where that is at hand, and finite; what it raises must say what was expected.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from numbers import Real
from typing import Any

import numpy as np
import pytest

from minikfac import fisher, interop, quality
from oracles.fisher import make_case
from oracles.odd import NUMBERS, vectors

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of overflow on the way

P = 31
CASE = make_case(output="bernoulli", n=30)
DTYPES = (np.float32, np.float64)
Function = Callable[[Any], Any]

KINDS: dict[str, Callable[[fisher.Signals], fisher.FisherMatrix]] = {
    "exact": fisher.exact,
    "block_diagonal": fisher.block_diagonal,
    "diagonal": fisher.diagonal,
    "kfac": fisher.kfac,
    "KFAC-reduce": partial(fisher.kfac, reduce=True),
    "khatri_rao": fisher.khatri_rao,
    "block_tridiagonal": fisher.block_tridiagonal,
    "ekfac": fisher.ekfac,
    "nearest_kronecker": fisher.nearest_kronecker,
    "low_rank": lambda signals: fisher.low_rank(signals, 5),
    "mixed": lambda signals: fisher.mixed(signals, {0: "diagonal"}),
    "ladder": lambda signals: fisher.ladder(signals, {"IAD"}),
    "fully_correlated": fisher.fully_correlated,
    "Kronecker": lambda signals: fisher.Kronecker([(b.A, b.G) for b in fisher.kfac(signals).blocks]),
}
BY_PRODUCTS: dict[str, Callable[..., fisher.FisherMatrix]] = {
    "product": lambda net, theta, x, y: fisher.product(net, theta, x),
    "gauss_newton": fisher.gauss_newton,
    "hessian": fisher.hessian,
}
METHODS: dict[str, tuple[str | None, ...]] = {
    kind: (None, "factored") for kind in ("kfac", "nearest_kronecker", "Kronecker")
}
ALL = [*KINDS, "joint", *BY_PRODUCTS]


@cache
def signals(dtype: Any) -> fisher.Signals:
    return fisher.signals(CASE.net, CASE.theta.astype(dtype), CASE.x.astype(dtype))


@cache
def matrix(kind: str, dtype: Any) -> fisher.FisherMatrix:
    if kind in KINDS:
        return KINDS[kind](signals(dtype))
    arrays = CASE.net, CASE.theta.astype(dtype), CASE.x.astype(dtype)
    return fisher.joint(*arrays) if kind == "joint" else BY_PRODUCTS[kind](*arrays, CASE.y)


def direction(dtype: Any) -> np.ndarray:
    return np.cos(np.arange(1, P + 1) ** 2).astype(dtype)


# cases ------------------------------------------------------------------------------------------------------


def damping_cases(kind: str, dtype: Any) -> Iterator[tuple[str, Function]]:
    """What takes a damping, by name."""
    F, v = matrix(kind, dtype), direction(dtype)
    for method in METHODS.get(kind, (None,)):
        yield f"damped {method}", lambda lam, m=method: F.damped(lam, m) @ v
        yield f"inverse {method}", lambda lam, m=method: F.inverse(lam, m) @ v
        yield f"solve {method}", lambda lam, m=method: F.solve(v, lam, m)
        yield f"logdet {method}", lambda lam, m=method: F.logdet(lam, m)
        if kind not in BY_PRODUCTS:
            yield f"explicit {method}", lambda lam, m=method: F.inverse(lam, m, explicit=True) @ v
            yield f"trace {method}", lambda lam, m=method: F.damped(lam, m).trace()
            yield f"diagonal {method}", lambda lam, m=method: F.damped(lam, m).diagonal()
            yield f"dense {method}", lambda lam, m=method: F.damped(lam, m).to_dense()


def vector_cases(kind: str, dtype: Any) -> Iterator[tuple[str, Function]]:
    """What takes a vector, by name."""
    F = matrix(kind, dtype)
    yield "@", lambda v: F @ v
    yield "from the left", lambda v: v @ F
    yield "solve", lambda v: F.solve(v, 0.1)
    yield "inverse", lambda v: F.inverse(0.1) @ v
    for method in METHODS.get(kind, ()):
        yield f"solve {method}", lambda v, m=method: F.solve(v, 0.1, m)


def count_cases(dtype: Any) -> Iterator[tuple[str, Function]]:
    """What takes a count."""
    net, theta, x = CASE.net, CASE.theta.astype(dtype), CASE.x.astype(dtype)
    yield "rank", lambda rank: fisher.low_rank(signals(dtype), rank).diagonal()
    yield "batch_size", lambda n: fisher.exact(fisher.signals(net, theta, x, batch_size=n)).array

    def sampled(n: Any) -> np.ndarray:
        rng = np.random.default_rng(0)
        return fisher.exact(fisher.signals(net, theta, x, targets="sampled", n_samples=n, rng=rng)).array

    yield "n_samples", sampled

    def estimated(n: Any) -> np.ndarray:
        rng = np.random.default_rng(0)
        return fisher.gradient_and_kfac(net, theta, x, CASE.y, "sampled", n, rng).fisher.diagonal()

    yield "gradient_and_kfac n_samples", estimated

    def products(**options: Any) -> np.ndarray:
        return fisher.MatrixFree(matrix("exact", dtype).__matmul__, theta, **options).solve(theta, 1.0)

    yield "tolerance", lambda tolerance: products(tolerance=tolerance)
    yield "max_iterations", lambda n: products(max_iterations=n)
    output = CASE.net.output
    yield "loss_scale n", lambda n: interop.loss_scale("pytorch", output, n, 3)
    yield "loss_scale c", lambda c: interop.loss_scale("pytorch", output, 7, c)
    yield "scale_causes", lambda c_star: len(interop.scale_causes(c_star, 7, 5, 3, 2))
    yield "scale_causes rtol", lambda rtol: len(interop.scale_causes(2.0, 7, 5, 3, 2, rtol))
    for name in ("n", "t", "m", "c"):
        yield f"scale_causes {name}", lambda n, name=name: len(interop.scale_causes(2.0, **{name: n}))
    yield "cg_limit", lambda n: compared(dtype, cg_limit=n)


def compared(dtype: Any, **options: Any) -> list[float]:
    F, K = matrix("exact", dtype), matrix("kfac", dtype)
    arguments = {"gradient": direction(dtype), "damping": 0.1, **options}
    table = quality.compare(F, {"K-FAC": K}, **arguments)
    left_out = ("layer", "approximation", "build_seconds", "solve_seconds", "cg_iterations")
    assert all(row["cg_iterations"] >= 0 for row in table.whole())  # infinity where the limit was reached
    return [value for row in table.whole() for name, value in row.items() if name not in left_out]


def quality_cases(dtype: Any) -> Iterator[tuple[str, Function]]:
    F, g = matrix("exact", dtype), direction(dtype)
    A, G = (np.diag([1.0, 2.0, 3.0]).astype(dtype), np.diag([2.0, 1.0]).astype(dtype))
    yield "factored_damping", lambda lam: np.kron(*fisher.factored_damping(A, G, lam))
    yield "tikhonov", lambda lam: fisher.tikhonov_eigenvalues(A.diagonal(), G.diagonal(), lam)
    yield "compare damping", lambda lam: compared(dtype, damping=lam)
    yield "Reference damping", lambda lam: quality.Reference.of(F, g, lam).step
    yield "ledger damping", lambda lam: measures(quality.ledger(signals(dtype), g, lam))
    yield "layer_ledger damping", lambda lam: measures(quality.layer_ledger(signals(dtype), 1, g, lam))


def gradient_cases(dtype: Any) -> Iterator[tuple[str, Function]]:
    F = matrix("exact", dtype)
    yield "compare gradient", lambda g: compared(dtype, gradient=g)
    yield "Reference gradient", lambda g: quality.Reference.of(F, g, 0.1).step
    yield "ledger gradient", lambda g: measures(quality.ledger(signals(dtype), g, 0.1))
    yield "layer_ledger gradient", lambda g: measures(quality.layer_ledger(signals(dtype), 1, g, 0.1))


def measures(rows: list[dict[str, Any]]) -> list[float]:
    return [value for row in rows for value in row.values() if isinstance(value, float)]


def array_cases(dtype: Any) -> Iterator[tuple[str, Function]]:
    """Constructors, of a vector from which their array is made."""
    yield "DiagonalBlock", lambda d: fisher.DiagonalBlock(d).solve(direction(dtype), 0.1)
    yield (
        "LowRank",
        lambda d: fisher.LowRank(d[:, None] if isinstance(d, np.ndarray) and d.ndim == 1 else d).to_dense(),
    )


# outcomes ---------------------------------------------------------------------------------------------------


def outcome(function: Function, value: Any) -> Any:
    """An array, or the error's message; another kind of error is raised."""
    try:
        return np.asarray(function(value), dtype=float)
    except (ValueError, TypeError, MemoryError, FloatingPointError) as error:
        message = str(error)
        helps = ("expected", "is matrix-free", "GiB are free; use")
        assert any(words in message for words in helps), repr(error)
        return message


def plain_number(value: Any) -> Any:
    """The number that was meant, or None where there is none."""
    if isinstance(value, bool | str | complex | dict | list) or callable(value) or value is None:
        return None
    if isinstance(value, np.ndarray) and value.shape != ():
        return None
    try:
        return float(value) if isinstance(value, float | Fraction | np.floating | np.ndarray) else int(value)
    except OverflowError:
        return None


def plain_vector(value: Any, dtype: Any) -> np.ndarray | None:
    if value is None or np.ma.isMaskedArray(value):
        return None
    array = np.asarray(value)
    if array.dtype == object and all(isinstance(entry, Real) for entry in array.ravel()):
        array = array.astype(dtype)  # numbers all the same
    return array.astype(dtype) if array.dtype.kind in "biuf" else None


@dataclass(frozen=True)
class Row:
    name: str
    function: Function
    dtype: Any
    numbers: bool
    nan_expected: Callable[[np.ndarray], bool] | None = None
    """For which plain arguments NaN is the right value."""


def not_finite(v: np.ndarray) -> bool:
    """A product takes NaN where NumPy does."""
    return not np.isfinite(v).all()


def without_direction(gradient: np.ndarray) -> bool:
    """There is no step to compare for a gradient of 0, nor along a derivative that is 0."""
    return not gradient.any()


def judge(row: Row, value: Any, plain: Any) -> None:
    """What comes for the value is what comes for the plain one, and finite unless NaN is right."""
    result = outcome(row.function, value)
    if isinstance(result, str):
        return
    assert plain is not None, f"accepted as {result}"
    expected = outcome(row.function, plain)
    assert not isinstance(expected, str), expected
    assert np.isfinite(result).all() or (row.nan_expected and row.nan_expected(plain)), result
    np.testing.assert_allclose(result, expected, rtol=1e-3 if row.dtype == np.float32 else 1e-10, atol=1e-30)


# tables -----------------------------------------------------------------------------------------------------


def table() -> Iterator[Row]:
    for dtype in DTYPES:
        for kind in ALL:
            for name, function in damping_cases(kind, dtype):
                yield Row(f"{kind} {name}", function, dtype, True)
            for name, function in vector_cases(kind, dtype):
                may_pass = None if "solve" in name else not_finite
                yield Row(f"{kind} {name}", function, dtype, False, may_pass)
        for name, function in (*count_cases(dtype), *quality_cases(dtype)):
            yield Row(name, function, dtype, True)
        for name, function in gradient_cases(dtype):
            yield Row(name, function, dtype, False, without_direction)
        for name, function in array_cases(dtype):
            yield Row(name, function, dtype, False)


DEFAULTS = ("batch_size", "max_iterations", *(f"scale_causes {name}" for name in "ntmc"))
"""Where None is the default."""


def faults(rows: list[Row], every: int = 1) -> list[str]:
    """What goes wrong in some of the cases of the table."""
    wrong, count = [], 0
    for row in rows:
        odd = NUMBERS.items() if row.numbers else vectors(P, row.dtype)
        for name, value in odd:
            count += 1
            if count % every:
                continue
            if value is None and row.name in DEFAULTS:
                continue
            plain = plain_number(value) if row.numbers else plain_vector(value, row.dtype)
            try:
                judge(row, value, plain)
            except Exception as error:  # all are faults
                wrong.append(
                    f"{row.name} {np.dtype(row.dtype)}, {name}: {type(error).__name__} {error}"[:300]
                )
    assert count > len(rows)
    return wrong


def test_some_odd_numbers_and_vectors_are_refused_or_right() -> None:
    assert faults(list(table()), every=23) == []


@pytest.mark.slow
def test_all_odd_numbers_and_vectors_are_refused_or_right() -> None:
    assert faults(list(table())) == []
