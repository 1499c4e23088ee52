"""The exact side of a comparison: F, its damped inverse, the exact step and norms for relative errors.

:class:`Reference` uses the dense matrix, :class:`ProductReference` a matrix-free one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from ..backend import Array, all_finite, array_module, real_array
from ..display import ShownByFields
from ..fisher import DenseMatrix, MatrixFree, Operator
from ..fisher.dense import CholeskySolver
from ..fisher.matrix import check_damping
from ..linalg import cholesky, cholesky_inverse, conjugate_gradients
from .norms import Product, inner, spectral_norm, square_between, times

Watch = Callable[[int, Array, float], bool]
"""The function that :func:`minikfac.linalg.conjugate_gradients` calls with each iterate."""


def descent_gradient(gradient: Array, size: int) -> Array:
    """Return a valid gradient (P,) for comparing steps; if it is 0, measures of steps are nan.

    Raises:
        ValueError: on a wrong shape, NaN or infinity, or a gradient whose square underflows or overflows.
        TypeError: if it is not an array of real numbers.
    """
    gradient = _finite_gradient(gradient, size)
    largest, limits = float(abs(gradient).max()), array_module(gradient).finfo(gradient.dtype)
    if largest and not float(limits.tiny) ** 0.5 < largest < (float(limits.max) / size) ** 0.5:
        raise ValueError(
            f"expected a gradient whose square {gradient.dtype} can hold, got up to {largest:.3g}"
        )
    return gradient


def _finite_gradient(gradient: Array, size: int) -> Array:
    gradient = real_array(gradient, "the gradient")
    if gradient.shape != (size,):
        raise ValueError(f"expected a gradient of shape ({size},), got {gradient.shape}")
    if not all_finite(gradient):
        raise ValueError("expected a finite gradient, got NaN or infinite entries")
    return gradient


@dataclass(frozen=True, eq=False, repr=False)
class Reference(ShownByFields):
    """The exact side of a comparison, computed once.

    Attributes:
        F: the exact matrix.
        gradient: (P,).
        damping: lambda.
        damped: F + lambda I.
        L: its Cholesky factor.
        step: the exact step (F + lambda I)^{-1} gradient.
        product: v -> F v, computed in the fastest available way.
    """

    F: DenseMatrix
    gradient: Array
    damping: float
    damped: Array
    L: Array
    step: Array
    product: Product

    @classmethod
    def of(cls, F: DenseMatrix, gradient: Array, damping: float, product: Product | None = None) -> Reference:
        """Factorize F + lambda I and compute the exact step.

        Args:
            F: the exact matrix.
            gradient: (P,).
            damping: lambda.
            product: v -> F v, if it is faster than the dense matrix, as
                :func:`minikfac.fisher.product` is for several thousand parameters.
        """
        if not isinstance(F, DenseMatrix):
            raise TypeError(f"expected the dense matrix of fisher.exact, got {type(F).__name__}")
        gradient = _finite_gradient(gradient, F.shape[0])
        damping = check_damping(damping, F.array)
        most = float(array_module(F.array).finfo(F.array.dtype).tiny) ** -0.25
        if damping > most:  # squares of its inverse would underflow
            raise ValueError(f"expected damping up to {most:.1e} in {F.array.dtype}, got {damping:.3g}")
        damped = F.damped(damping).to_dense()
        L = cholesky(damped, F.name, damping=damping)
        step = CholeskySolver(L) @ gradient
        return cls(F, gradient, damping, damped, L, step, product or times(F.array))

    @cached_property
    def inverse(self) -> Array:
        """(F + lambda I)^{-1}."""
        return cholesky_inverse(self.L.copy())

    @cached_property
    def logdet(self) -> float:
        """log det (F + lambda I)."""
        return 2 * float(array_module(self.L).log(self.L.diagonal()).sum())

    @cached_property
    def parts(self) -> list[slice]:
        """Slices of all parameters, then of each layer."""
        return [slice(0, self.F.shape[0]), *self.F.slices]

    @cached_property
    def gradients(self) -> list[Array]:
        """The gradient for each of :attr:`parts`."""
        return [self.gradient[part] for part in self.parts]

    @cached_property
    def products(self) -> list[Product]:
        """v -> F v, and likewise for each diagonal block."""
        return [self.product, *(times(self.F.array[layer, layer]) for layer in self.F.slices)]

    @cached_property
    def squares(self) -> list[float]:
        """||.||_F^2 of F and of each diagonal block."""
        return [inner(self.F.array[part, part], self.F.array[part, part]) for part in self.parts]

    @cached_property
    def inverse_squares(self) -> list[float]:
        """The same of the damped inverse."""
        return [inner(self.inverse[part, part], self.inverse[part, part]) for part in self.parts]

    @cached_property
    def between(self) -> float:
        """||.||_F^2 of the blocks between layers in F."""
        return square_between(self.F.array, self.F.slices)

    @cached_property
    def inverse_between(self) -> float:
        """The same of the damped inverse."""
        return square_between(self.inverse, self.F.slices)

    @cached_property
    def spectral_norms(self) -> list[float]:
        """||.||_2 of F and of each diagonal block."""
        return [spectral_norm(*pair) for pair in zip(self.products, self.gradients, strict=True)]


@dataclass(frozen=True, eq=False, repr=False)
class ProductReference(ShownByFields):
    """The exact side of a matrix-free comparison.

    Attributes:
        F: the exact matrix, such as :func:`minikfac.fisher.product`.
        gradient: (P,).
        damping: lambda > 0.
        step: (F + lambda I)^{-1} gradient by preconditioned conjugate gradients.
        residual: ||gradient - (F + lambda I) step|| / ||gradient||, recomputed.
        iterations: number of conjugate gradient iterations.
        precondition: the inverse of an approximation, used as preconditioner.
    """

    F: MatrixFree
    gradient: Array
    damping: float
    step: Array
    residual: float
    iterations: int
    precondition: Operator

    @classmethod
    def of(
        cls,
        F: MatrixFree,
        gradient: Array,
        damping: float,
        precondition: Operator,
        tolerance: float = 1e-6,
        limit: int = 500,
    ) -> ProductReference:
        """Run conjugate gradients to a relative residual of ``tolerance``, or ``limit`` iterations.

        Raises:
            ValueError: on negative curvature.
        """
        start = cls(F, gradient, damping, 0 * gradient, 1.0, 0, precondition)
        return start._continued(tolerance, limit)

    def refined(self, tolerance: float, limit: int, watch: Watch | None = None) -> ProductReference:
        """Continue to a relative residual of ``tolerance``, with at most ``limit`` iterations in all.

        Raises:
            ValueError: if the tolerance is not reached.
        """
        end = self._continued(tolerance, limit - self.iterations, watch)
        rounding = float(array_module(self.step).finfo(self.step.dtype).eps) ** 0.5
        if not end.residual <= max(2 * tolerance, rounding):
            raise ValueError(
                f"expected a relative residual of {tolerance:.1e} from conjugate gradients on "
                f"{self.F.name}, got {end.residual:.1e} after {end.iterations} iterations; use more damping, "
                f"a cg_limit above {limit}, or a better approximation as preconditioner"
            )
        return end

    def _continued(self, tolerance: float, limit: int, watch: Watch | None = None) -> ProductReference:
        M, g = self.F.damped(self.damping), self.gradient
        x, iterations, *_ = conjugate_gradients(
            M.__matmul__, g, tolerance, limit, self.precondition.__matmul__, self.step, watch
        )
        r = g - M @ x
        residual = float(r @ r) ** 0.5 / (float(g @ g) ** 0.5 or 1.0)
        return replace(self, step=x, residual=residual, iterations=self.iterations + iterations)

    def product(self, v: Array) -> Array:
        """F v."""
        return self.F @ v

    @property
    def parts(self) -> list[slice]:
        """Slices of all parameters, then of each layer."""
        return [slice(0, self.F.shape[0]), *self.F.slices]

    @property
    def note(self) -> str:
        """The step's accuracy; its error is bounded, as no eigenvalue of F + lambda I is below lambda."""
        sizes = [float(v @ v) ** 0.5 for v in (self.gradient, self.step)]
        bound = self.residual * sizes[0] / (self.damping * sizes[1] or 1.0)
        limits = f", so its relative error is at most {bound:.1g}" if bound < 1 else ""
        residual = f"a relative residual of {self.residual:.1g}{limits}"
        return f"The exact step is from {self.iterations} iterations of conjugate gradients: {residual}."
