"""What every curvature matrix can do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import scipy.sparse.linalg

from ..backend import Array, array_module, check_memory, to_host
from ..display import Display, Shown, by


class Operator(Shown, ABC):
    """A symmetric linear map that can be applied: a curvature matrix or the inverse of one."""

    parts: Sequence[Operator] = ()
    """Those side by side of which it consists, where it does."""

    def _display(self) -> Display:
        return _shown(self, [by(self.shape), *_arrays(self)], self.parts)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P); by default P is the length of :attr:`like`."""
        return (len(self.like), len(self.like))

    @property
    @abstractmethod
    def like(self) -> Array:
        """One of the arrays inside; it tells the dtype and the device."""

    @abstractmethod
    def _product(self, v: Array) -> Array:
        """Apply to v (P,) or (P, m)."""

    def __matmul__(self, v: Array) -> Array:
        """Apply to v (P,) or (P, m).

        Raises:
            ValueError: on another shape.
            TypeError: if v is on another device.
        """
        array_module(self.like, v, names="the matrix, the vector")
        if v.ndim not in (1, 2) or len(v) != self.shape[0]:
            raise ValueError(f"expected a vector ({self.shape[0]},) or ({self.shape[0]}, m), got {v.shape}")
        return self._product(v)

    def to_dense(self) -> Array:
        """Form the (P, P) array, for looking at."""
        return self._product(array_module(self.like).eye(self.shape[0], dtype=self.like.dtype))

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

    ``damping`` is always the lambda of F + lambda I. A solve on a singular matrix without damping
    raises :class:`minikfac.linalg.SingularMatrixError`, a ValueError that names the matrix or factor
    and its rank; ``pseudo_inverse=True`` leaves the null space out instead.
    """

    name: str = "Fisher matrix"
    damping_methods: ClassVar[tuple[str, ...]] = ()
    """What ``method`` may be, where there is a choice of how to damp."""

    @property
    @abstractmethod
    def floats(self) -> int:
        """How many numbers are stored."""

    def _display(self) -> Display:
        return _shown(self, [self.name, by(self.shape), f"{self.floats:,} floats"], self.blocks)

    def plot(self, approximations: Mapping[str, FisherMatrix] | None = None) -> Any:
        """Draw |F|, and beside it approximations by name and what they miss; returns the axes.

        Raises:
            MemoryError: where the dense matrix does not fit.
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
        """About how many multiplications an inverse takes, up to a factor: n^3 of n^2 numbers."""
        return float(self.floats) ** 1.5

    def trace(self) -> float:
        """Sum of the diagonal."""
        return float(self.diagonal().sum())

    def damped(self, lam: float, method: str | None = None) -> FisherMatrix:
        """Return the damped matrix itself, F + lambda I or what ``method`` makes of it."""
        return self._damped(check_damping(lam), check_method(method, self.damping_methods))

    def inverse(
        self,
        damping: float = 0.0,
        method: str | None = None,
        pseudo_inverse: bool = False,
        explicit: bool = False,
    ) -> Operator:
        """Factorize once; the result is applied by ``@``.

        Args:
            damping: lambda >= 0.
            method: how to damp, where there is a choice (Kronecker blocks: "eigen", "factored").
            pseudo_inverse: leave the null space of a singular undamped matrix out.
            explicit: form the inverse itself, which costs more once and less per use.

        Raises:
            ValueError: on negative damping, an unknown method, or a singular matrix without damping.
        """
        method = check_method(method, self.damping_methods)
        return self._inverse(check_damping(damping), method, pseudo_inverse, explicit)

    def solve(
        self, v: Array, damping: float = 0.0, method: str | None = None, pseudo_inverse: bool = False
    ) -> Array:
        """Return (F + damping I)^{-1} v, for v (P,) or (P, m); see :meth:`inverse`."""
        return self.inverse(damping, method, pseudo_inverse) @ v

    def logdet(self, damping: float = 0.0, method: str | None = None) -> float:
        """log det(F + damping I), in nats."""
        return self._logdet(check_damping(damping), check_method(method, self.damping_methods))

    # A kind of matrix defines these three, which get checked arguments, or overrides the three above.

    def _damped(self, lam: float, method: str | None) -> FisherMatrix:
        raise NotImplementedError

    def _inverse(self, damping: float, method: str | None, pseudo_inverse: bool, explicit: bool) -> Operator:
        raise NotImplementedError

    def _logdet(self, damping: float, method: str | None) -> float:
        raise NotImplementedError


def _shown(matrix: Operator, words: Sequence[str], blocks: Sequence[Operator]) -> Display:
    """Kind and a few words, and a row for each block."""
    rows = [[_layer(block), _kind(block), by(block.shape), ", ".join(_arrays(block))] for block in blocks]
    return Display(f"{_kind(matrix)}({', '.join(words)})", ["block", "kind", "rows", "arrays"], rows)


def _kind(matrix: Operator) -> str:
    return type(matrix).__name__.strip("_")


def _layer(block: Operator) -> str:
    """The layer's name, without what its name says of the matrix, as in "the block of dense0"."""
    return getattr(block, "name", "").split(" of ")[-1]


def _arrays(matrix: Operator) -> list[str]:
    """The arrays inside, by name and shape."""
    return [f"{name} {by(x.shape)}" for name, x in vars(matrix).items() if hasattr(x, "dtype")]


def check_damping(damping: float) -> float:
    """Return damping as a float; ValueError unless it is finite and not negative."""
    if not (math.isfinite(damping) and damping >= 0):
        raise ValueError(f"expected finite damping >= 0, got {damping}")
    return float(damping)


def check_method(method: str | None, choices: tuple[str, ...] = ()) -> str | None:
    """Return the method of damping; ValueError if this kind of matrix does not have it."""
    if method is not None and method not in choices:
        names = " or ".join(map(repr, choices)) or "no damping method for this kind of matrix"
        raise ValueError(f"expected {names}, got {method!r}")
    return method
