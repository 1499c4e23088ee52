"""The interface of every curvature matrix."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import scipy.sparse.linalg

from ..backend import Array, all_finite, array_module, check_memory, on_host, real_array, real_number, to_host
from ..display import Display, Shown, by
from ..linalg import cholesky
from ..linalg.psd import no_pattern


class Operator(Shown, ABC):
    """A symmetric linear map that can be applied: a curvature matrix or the inverse of one.

    ``v`` may be anything that NumPy converts to an array of real numbers. ``np.asarray(F)`` is
    ``F.to_dense()``.
    """

    __array_ufunc__ = None
    """Makes NumPy and CuPy arrays defer ``v @ F`` to :meth:`__rmatmul__`."""

    parts: Sequence[Operator] = ()
    """Diagonal blocks of which the operator consists, if any."""

    def _display(self) -> Display:
        return _shown(self, [by(self.shape), *_arrays(self)], self.parts)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P); by default P is the length of :attr:`like`."""
        return (len(self.like), len(self.like))

    @property
    @abstractmethod
    def like(self) -> Array:
        """One of the matrix's arrays, which determines the dtype and device."""

    @abstractmethod
    def _product(self, v: Array) -> Array:
        """Apply to v (P,) or (P, m)."""

    def __matmul__(self, v: Array) -> Array:
        """Apply to v (P,) or (P, m).

        NaN and infinity in v propagate as in NumPy.

        Raises:
            ValueError: on a wrong shape, or if a product of finite numbers overflows (on the host).
            TypeError: if v is on another device, or not an array of real numbers.
        """
        v = real_array(v, "the vector")
        array_module(self.like, v, names="the matrix, the vector")
        if v.ndim not in (1, 2) or len(v) != self.shape[0]:
            raise ValueError(f"expected a vector ({self.shape[0]},) or ({self.shape[0]}, m), got {v.shape}")
        result = self._product(v)
        if on_host(result) and not all_finite(result) and all_finite(v):
            raise ValueError(f"expected a product that {result.dtype} can hold, got NaN or infinity")
        return result

    def __rmatmul__(self, v: Array) -> Array:
        """v F for v (P,) or (m, P), the transpose of F v^T."""
        v = real_array(v, "the vector")
        if v.ndim not in (1, 2) or v.shape[-1] != self.shape[0]:
            raise ValueError(f"expected a vector ({self.shape[0]},) or (m, {self.shape[0]}), got {v.shape}")
        return (self @ v.T).T

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """The dense array, for NumPy."""
        return self.to_dense().astype(dtype or self.like.dtype, copy=bool(copy))

    def to_dense(self) -> Array:
        """Form the (P, P) array, for inspection."""
        return self._product(array_module(self.like).eye(self.shape[0], dtype=self.like.dtype))

    def root_product(self, v: Array) -> Array:
        """R v for v (P,) or (P, m), with R R^T this operator: it gives white noise this covariance.

        By the dense array where a kind of operator has no shorter way.

        Raises:
            ValueError: if the operator is not positive definite.
        """
        return cholesky(self.to_dense(), "the operator") @ v

    def to_scipy(self) -> scipy.sparse.linalg.LinearOperator:
        """Wrap as a SciPy linear operator; vectors pass through the host."""

        def apply(v: Any) -> Any:
            return to_host(self @ array_module(self.like).asarray(v, dtype=self.like.dtype))

        def apply_to_one(v: Any) -> Any:
            return apply(v.reshape(-1))

        return scipy.sparse.linalg.LinearOperator(
            self.shape,
            matvec=apply_to_one,
            rmatvec=apply_to_one,  # symmetric
            matmat=apply,
            rmatmat=apply,
            dtype=self.like.dtype,
        )


class FisherMatrix(Operator):
    """A symmetric positive semi-definite curvature matrix, a mean over examples.

    ``damping`` is always the lambda of F + lambda I. Solving with a matrix that is singular to working
    precision raises :class:`minikfac.linalg.SingularMatrixError`, a ValueError that names the matrix or
    factor and gives its rank or, if damped, its condition number; ``pseudo_inverse=True`` omits the null
    space of an undamped matrix instead. The criterion is the same for all kinds: the smallest eigenvalue of
    the damped matrix must exceed 10 eps times its largest diagonal entry. Within that limit, relative
    residuals of solves are a small multiple of eps times the condition number, at most 0.2. On a device,
    checks that would make the host wait are omitted, and results are NaN instead of an error.
    """

    name: str = "Fisher matrix"
    damping_methods: ClassVar[tuple[str, ...]] = ()
    """Permitted values of ``method``, if there are several ways of damping."""
    damping: float = 0.0
    """The lambda that :meth:`damped` has added already."""

    @property
    @abstractmethod
    def floats(self) -> int:
        """Number of stored floating-point numbers."""

    def _display(self) -> Display:
        return _shown(self, [self.name, by(self.shape), f"{self.floats:,} floats"], self.blocks)

    def plot(self, approximations: Mapping[str, FisherMatrix] | None = None) -> Any:
        """Plot |F| next to the named approximations and their errors; returns the axes.

        Raises:
            MemoryError: if the dense matrix does not fit.
        """
        from .. import plots

        size = self.shape[0]
        check_memory((3, size, size), self.like.dtype, f"the picture of {self.name}", "one of its blocks")
        names, sizes = [_layer(block) for block in self.blocks], [block.shape[0] for block in self.blocks]
        others = {name: to_host(matrix.to_dense()) for name, matrix in (approximations or {}).items()}
        return plots.matrices(to_host(self.to_dense()), others, names, sizes, reference=self.name)

    @property
    def blocks(self) -> Sequence[FisherMatrix]:
        """Diagonal blocks, one per parameter layer."""
        return [self]

    @abstractmethod
    def diagonal(self) -> Array:
        """The diagonal, (P,)."""

    @property
    def inverse_cost(self) -> float:
        """Relative cost of an inverse: n^3 multiplications for each array of n^2 numbers."""
        return float(self.floats) ** 1.5

    def trace(self) -> float:
        """Sum of the diagonal."""
        return float(self.diagonal().sum())

    def norm(self) -> float:
        """Frobenius norm, computed from the dense array unless the kind of matrix overrides it."""
        dense = self.to_dense()
        return float(array_module(dense).einsum("ij,ij->", dense, dense)) ** 0.5

    def eigenvalues(self) -> Array:
        """All eigenvalues, ascending, (P,); those of each layer are ``F.blocks[l].eigenvalues()``.

        By the dense array where a kind of matrix has no shorter way; K-FAC's are products of its factors'.
        """
        dense = self.to_dense()
        return array_module(dense).linalg.eigvalsh(dense)

    def __mul__(self, c: float) -> FisherMatrix:
        """The matrix times a number c >= 0, a matrix of the same kind.

        Raises:
            ValueError: on a negative number, NaN or infinity.
            TypeError: on anything but a number, or if the product is not of the same kind.
        """
        c = real_number(c, "the factor of a matrix")
        if not 0 <= c < math.inf:
            raise ValueError(f"expected a finite factor >= 0 of {self.name}, got {c}")
        return self._scaled(c)._after(c * self.damping)

    __rmul__ = __mul__

    def __add__(self, other: FisherMatrix) -> FisherMatrix:
        """The sum with a matrix of the same kind, if it is again of that kind, unlike for Kronecker products.

        Raises:
            ValueError: on a different shape or different blocks.
            TypeError: on a different kind, or a kind that is not closed under addition.
        """
        if type(other) is not type(self):
            raise TypeError(f"expected a {_kind(self)} to add to {self.name}, got {type(other).__name__}")
        if other.shape != self.shape:
            raise ValueError(f"expected shape {self.shape} to add to {self.name}, got {other.shape}")
        array_module(self.like, other.like, names="the matrix, the one added to it")
        return self._plus(other)._after(self.damping + other.damping)

    def _after(self, damping: float) -> Self:
        """This matrix, which was just made, with a note of the damping in it."""
        object.__setattr__(self, "damping", damping)
        return self

    def damped(self, lam: float, method: str | None = None) -> FisherMatrix:
        """Return the damped matrix, F + lambda I or its approximation according to ``method``."""
        matrix = self._damped(check_damping(lam, self.like), check_method(method, self.damping_methods))
        return matrix._after(self.damping + lam)

    def inverse(
        self,
        damping: float = 0.0,
        method: str | None = None,
        pseudo_inverse: bool = False,
        explicit: bool = False,
    ) -> Operator:
        """Factorize once; apply the result with ``@``.

        Args:
            damping: lambda >= 0.
            method: way of damping, if there are several (Kronecker blocks: "eigen", "factored").
            pseudo_inverse: omit the null space of a singular undamped matrix.
            explicit: form the inverse itself, which costs more once and less per use.

        Raises:
            ValueError: on negative damping, an unknown method, or a singular matrix without damping.
        """
        method = check_method(method, self.damping_methods)
        return self._inverse(check_damping(damping, self.like), method, pseudo_inverse, explicit)

    def solve(
        self, v: Array, damping: float = 0.0, method: str | None = None, pseudo_inverse: bool = False
    ) -> Array:
        """Return (F + damping I)^{-1} v for v (P,) or (P, m); see :meth:`inverse`.

        Raises:
            ValueError: as :meth:`inverse`, and on NaN or infinity in v (on the host).
        """
        v = real_array(v, "the vector")
        if on_host(v) and not all_finite(v):
            raise ValueError("expected a finite vector to solve for, got NaN or infinite entries")
        return self.inverse(damping, method, pseudo_inverse) @ v

    def logdet(self, damping: float = 0.0, method: str | None = None) -> float:
        """log det(F + damping I), in nats."""
        return self._logdet(check_damping(damping, self.like), check_method(method, self.damping_methods))

    def _scaled(self, c: float) -> FisherMatrix:
        raise TypeError(f"expected a kind of matrix that is closed under scaling, got {_kind(self)}")

    def _plus(self, other: Any) -> FisherMatrix:
        raise TypeError(
            f"expected a kind of matrix that is closed under addition, got {_kind(self)}; add the results of "
            "to_dense() or of products instead"
        )

    # Subclasses define these three, whose arguments are already checked, or override the three above.

    def _damped(self, lam: float, method: str | None) -> FisherMatrix:
        raise NotImplementedError

    def _inverse(self, damping: float, method: str | None, pseudo_inverse: bool, explicit: bool) -> Operator:
        raise NotImplementedError

    def _logdet(self, damping: float, method: str | None) -> float:
        raise NotImplementedError


def _shown(matrix: Operator, words: Sequence[str], blocks: Sequence[Operator]) -> Display:
    """Display with the kind, a few words, and a row for each block."""
    rows = [[_layer(block), _kind(block), by(block.shape), ", ".join(_arrays(block))] for block in blocks]
    return Display(f"{_kind(matrix)}({', '.join(words)})", ["block", "kind", "rows", "arrays"], rows)


def _kind(matrix: Operator) -> str:
    return type(matrix).__name__.strip("_")


def _layer(block: Operator) -> str:
    """The layer's name, taken from names such as "the block of dense0"."""
    return getattr(block, "name", "").split(" of ")[-1]


def _arrays(matrix: Operator) -> list[str]:
    """Names and shapes of the matrix's arrays."""
    return [f"{name} {by(x.shape)}" for name, x in vars(matrix).items() if hasattr(x, "dtype")]


def symmetric(M: Array, what: str) -> Array:
    """Return a symmetric (n, n) array of real numbers; on the host, symmetry is tested with one vector.

    Raises:
        ValueError: with its name, if it is not square, finite and symmetric.
        TypeError: if it is not an array of real numbers.
    """
    M = real_array(M, what)
    if M.ndim != 2 or M.shape[0] != M.shape[1] or not len(M):
        raise ValueError(f"expected a square array for {what}, got shape {M.shape}")
    if on_host(M):
        if not all_finite(M):
            raise ValueError(f"expected finite numbers in {what}, got NaN or infinity")
        v = no_pattern(M) / (2 * len(M))  # scaled to avoid overflow
        right, left = M @ v, v @ M
        if abs(right - left).max() > float(array_module(M).finfo(M.dtype).eps) ** 0.5 * abs(right).max():
            raise ValueError(f"expected {what} to be symmetric, got M != M^T")
    return M


def not_negative(d: Array, what: str) -> Array:
    """Return an array of real numbers >= 0, which are not checked on a device.

    Raises:
        ValueError: with its name, on negative numbers, NaN or infinity.
        TypeError: if it is not an array of real numbers.
    """
    d = real_array(d, what)
    if on_host(d) and not (all_finite(d) and (d >= 0).all()):
        least = float(d.min()) if all_finite(d) else "NaN or infinity"
        raise ValueError(f"expected finite {what} >= 0, got one of {least}")
    return d


def check_damping(damping: float, like: Array) -> float:
    """Return damping as a float: 0, or a normal number in the dtype of ``like``.

    Raises:
        ValueError: on any other number.
        TypeError: on anything but a real number.
    """
    damping = real_number(damping, "damping")
    if not (math.isfinite(damping) and damping >= 0):
        raise ValueError(f"expected finite damping >= 0, got {damping}")
    limits = array_module(like).finfo(like.dtype)
    least, most = float(limits.tiny), float(limits.max)
    if damping and not least <= damping <= most:
        between = f"from {least:.1e} to {most:.1e} for {like.dtype}"
        raise ValueError(f"expected damping 0, or {between}, got {damping:.3g}")
    return damping


def check_method(method: str | None, choices: tuple[str, ...] = ()) -> str | None:
    """Return the damping method; raise ValueError if this kind of matrix does not support it."""
    if method is not None and not (isinstance(method, str) and method in choices):
        names = " or ".join(map(repr, choices)) or "no damping method for this kind of matrix"
        raise ValueError(f"expected {names}, got {method!r}")
    return method
