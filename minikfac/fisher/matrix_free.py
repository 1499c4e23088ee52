"""Matrix-free curvature matrices, whose products with vectors take a few passes through the net.

    Fisher         F v = (1/N) J^T F_z J v      F_z the Fisher matrix of the outputs z
    Gauss-Newton   G v = (1/N) J^T H J v        H the second derivative of the loss with respect to z
    Hessian        H v = d/de gradient(theta + e v)

J v is computed by the R-operator, J^T u by a backward pass [Pearlmutter94, Schraudolph02]. The first two
agree here, since z are natural parameters of an exponential family; the Hessian has one more term.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..backend import NUMBER_CLASSES, Array, array_module, as_array, real_number, whole_number
from ..display import Display, by
from ..linalg import conjugate_gradients
from ..linalg.psd import ill_conditioned
from ..network import Network, Tape
from ..network.network import Stats
from .matrix import FisherMatrix, Operator, check_damping, check_method

Product = Callable[[Array], Array]
"""v (P,) -> M v."""


def product(
    net: Network, theta: Array, x: Array, stats: Stats = None, train: bool = False, weights: Any = None
) -> MatrixFree:
    """The exact Fisher matrix, matrix-free; needs the memory of a single pass, independent of K.

    Its ``blocks`` are the layers' exact blocks, also matrix-free: products use masked vectors.

    Args:
        net: the network.
        theta: (P,).
        x: inputs, (N, features) or (N, H, W, C).
        stats: running statistics of batch normalization; those of ``net.init_stats()`` by default.
        train: use the batch's statistics, which depend on theta, as in
            :func:`minikfac.fisher.joint`.
        weights: of examples or of terms of their targets, as in :meth:`minikfac.Network.loss`.
    """
    tape = net.forward(theta, x, stats, train)
    apply = partial(
        _fisher_product, net, theta, tape, net.output.check_weights(weights, theta, *tape.z.shape)
    )
    return MatrixFree(apply, theta, "the Fisher matrix", names=net.names, slices=net.slices)


def _fisher_product(net: Network, theta: Array, tape: Tape, weights: Array | None, v: Array) -> Array:
    u = net.output.fisher_product(tape.z, net.jvp(theta, tape, v), weights)
    return net.vjp(theta, tape, u) / len(tape.z)


def gauss_newton(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    stats: Stats = None,
    train: bool = False,
    weights: Any = None,
) -> MatrixFree:
    """The generalized Gauss-Newton matrix of the mean loss, matrix-free [Schraudolph02].

    See :func:`product` for ``stats``, ``train`` and ``weights``.
    """
    tape = net.forward(theta, x, stats, train)
    y = as_array(y, "y", NUMBER_CLASSES)
    net.output.check(y, *tape.z.shape)

    weights = net.output.check_weights(weights, theta, *tape.z.shape)
    apply = partial(_gauss_newton_product, net, theta, tape, y, weights)
    return MatrixFree(apply, theta, "the Gauss-Newton matrix", names=net.names, slices=net.slices)


def _gauss_newton_product(
    net: Network, theta: Array, tape: Tape, y: Array, weights: Array | None, v: Array
) -> Array:
    u = net.output.hessian_product(tape.z, y, net.jvp(theta, tape, v), weights)
    return net.vjp(theta, tape, u) / len(tape.z)


def hessian(
    net: Network,
    theta: Array,
    x: Array,
    y: Array,
    stats: Stats = None,
    train: bool = False,
    weights: Any = None,
) -> MatrixFree:
    """The Hessian of the mean loss, matrix-free [Pearlmutter94]. It can be indefinite.

    ``stats``, ``train`` and ``weights`` are those of :func:`product`.
    """
    tape = net.forward(theta, x, stats, train)
    y = as_array(y, "y", NUMBER_CLASSES)
    net.output.check(y, *tape.z.shape)
    net.output.check_weights(weights, theta, *tape.z.shape)
    apply = partial(net.hessian_product, theta, tape, y, weights=weights)
    return MatrixFree(apply, theta, "the Hessian", names=net.names, slices=net.slices)


@dataclass(frozen=True, eq=False, repr=False)
class MatrixFree(FisherMatrix):
    """A symmetric matrix given by ``apply``, v (P,) -> M v, plus ridge I.

    Solves run conjugate gradients to a relative residual of ``tolerance``. The diagonal, trace, norm and
    log-determinant are not available and raise a ValueError; :func:`.estimate_trace` and
    :func:`.estimate_diagonal` estimate two of them. ``blocks`` uses the layers' ``names`` and ``slices``.
    """

    apply: Product
    like_array: Array
    name: str = "the matrix"
    ridge: float = 0.0
    tolerance: float = 1e-10
    max_iterations: int | None = None
    names: tuple[str, ...] = ()
    slices: tuple[slice, ...] = ()

    @property
    def like(self) -> Array:
        return self.like_array

    def _display(self) -> Display:
        return Display(f"MatrixFree({self.name}, {by(self.shape)}, matrix-free)")

    @property
    def floats(self) -> int:
        return 0

    @property
    def blocks(self) -> Sequence[MatrixFree]:
        if not self.slices:
            raise self._refuse("blocks")
        of_cg = self.ridge, self.tolerance, self.max_iterations
        return [
            MatrixFree(partial(self._masked, part), self.like[part], f"the block of {name}", *of_cg)
            for part, name in zip(self.slices, self.names, strict=True)
        ]

    def _masked(self, part: slice, v: Array) -> Array:
        """The product of a diagonal block with v (P_l,), computed by padding v with zeros."""
        whole = 0 * self.like
        whole[part] = v
        return self.apply(whole)[part]

    def _refuse(self, what: str) -> ValueError:
        return ValueError(
            f"{self.name} is matrix-free and has no {what}; form it with to_dense(), or use "
            "fisher.exact or an approximation"
        )

    def _product(self, v: Array) -> Array:
        if v.ndim == 1:
            product = self.apply(v)
            if product.shape != v.shape:
                raise ValueError(f"expected {self.name} to map {v.shape} to {v.shape}, got {product.shape}")
            return product + self.ridge * v
        xp = array_module(v)
        return xp.stack([self._product(column) for column in v.T], axis=1)

    def diagonal(self) -> Array:
        raise self._refuse("diagonal")

    def trace(self) -> float:
        raise self._refuse("trace")

    def norm(self) -> float:
        raise self._refuse("norm")

    def _scaled(self, c: float) -> MatrixFree:
        return replace(self, apply=partial(_weighted, [(c, self.apply)]), ridge=c * self.ridge)

    def _plus(self, other: MatrixFree) -> MatrixFree:
        both = partial(_weighted, [(1.0, self.apply), (1.0, other.apply)])
        return replace(self, apply=both, ridge=self.ridge + other.ridge)

    def _logdet(self, damping: float, method: str | None) -> float:
        raise self._refuse("log-determinant")

    def _damped(self, lam: float, method: str | None) -> MatrixFree:
        return replace(self, ridge=self.ridge + lam)

    def inverse(
        self,
        damping: float = 0.0,
        method: str | None = None,
        pseudo_inverse: bool = False,
        explicit: bool = False,
        precondition: Operator | None = None,
    ) -> CGSolver:
        """Return an inverse that runs conjugate gradients each time it is applied.

        Args:
            damping: lambda >= 0.
            method: not available.
            pseudo_inverse: not available, since conjugate gradients need a definite matrix.
            explicit: not available.
            precondition: the inverse of a similar matrix, such as K-FAC's.

        Raises:
            ValueError: if an unavailable option is used.
        """
        if pseudo_inverse or explicit:
            raise self._refuse("pseudo-inverse or explicit inverse")
        return CGSolver(self._damped(check_damping(damping, self.like), check_method(method)), precondition)


def _weighted(terms: Sequence[tuple[float, Product]], v: Array) -> Array:
    """Weighted sum of products; at module level, so that matrices can be pickled."""
    return sum((c * apply(v) for c, apply in terms), start=0 * v)


@dataclass(frozen=True, eq=False, repr=False)
class CGSolver(Operator):
    """M^{-1} by conjugate gradients."""

    matrix: MatrixFree
    precondition: Operator | None = None

    @property
    def like(self) -> Array:
        return self.matrix.like

    def _product(self, v: Array) -> Array:
        if v.ndim == 2:
            return array_module(v).stack([self._product(column) for column in v.T], axis=1)
        M, B = self.matrix, self.precondition
        v = v.astype((v[:1] + M.like[0]).dtype)
        limit = 10 * len(v) if M.max_iterations is None else whole_number(M.max_iterations, "max_iterations")
        tolerance = real_number(M.tolerance, "tolerance")
        solution = conjugate_gradients(
            lambda p: M @ p, v, tolerance, limit, None if B is None else lambda r: B @ r
        )
        if not solution.converged:
            raise ValueError(
                f"expected a relative residual of {M.tolerance:.1e} from conjugate gradients on {M.name}, "
                f"got {solution.residual:.1e} after {solution.iterations} iterations; use more damping"
            )
        self._check(solution.x, v)
        return solution.x

    def _check(self, x: Array, v: Array) -> None:
        """Reject a solution whose recomputed relative residual exceeds 0.2, where the recurrence has drifted.

        The residual then lies along large eigenvalues, so a product with it estimates them.
        """
        M = self.matrix
        r = v - M @ x
        if not float(r @ r) <= 0.04 * float(v @ v):
            Mr = M @ r
            condition = float((Mr @ Mr) / (r @ r)) ** 0.5 / M.ridge if M.ridge else math.inf
            raise ill_conditioned(M.name, v, condition, M.ridge)
