"""The spectral density, i.e. the distribution of eigenvalues, of a matrix given by products with vectors.

    phi(t) = (1/P) sum_i delta(t - lambda_i),    (1/P) tr f(F) = E[ u^T f(F) u ],    u random, |u| = 1

Lanczos iteration from u gives V F V^T = T (m, m). The eigenvalues of T and the squared first entries of its
eigenvectors are nodes and weights of a Gauss quadrature of u^T f(F) u, exact for polynomials of degree
2 m - 1: stochastic Lanczos quadrature [UCS17; GKX19]. The extreme nodes approximate the extreme eigenvalues.

With a preconditioner B the matrix is B^{-1/2} F B^{-1/2}, whose eigenvalues are those of B^{-1} F.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ..backend import Array, array_module, fetch, whole_number
from ..display import Display, Shown
from ..linalg import eigh, krylov_subspace
from .block_diagonal import BlockDiagonalOperator
from .dense import DenseMatrix
from .diagonal import DiagonalBlock
from .eigenblock import EigenBlock
from .estimates import Estimate, mean_of, random_signs
from .matrix import Operator


@dataclass(frozen=True, eq=False, repr=False)
class SpectralDensity(Shown):
    """The result of :func:`spectral_density`, on the host.

    Attributes:
        nodes, weights: (vectors, steps); the weights of each random vector add up to 1.
        lowest, highest: the extreme nodes with residuals, which bound the distance to an eigenvalue of F.
        size: P.
        name: the matrix's name.
    """

    nodes: Array
    weights: Array
    lowest: tuple[float, float]
    highest: tuple[float, float]
    size: int
    name: str = "the matrix"

    def share(self, low: float, high: float) -> Estimate:
        """Fraction of the eigenvalues in low <= t < high, with its standard error."""
        inside = (self.nodes >= low) & (self.nodes < high)
        return mean_of(float(share) for share in (self.weights * inside).sum(1))

    def _display(self) -> Display:
        infinity = float("inf")
        small = 1e-3 * max(self.highest[0], -self.lowest[0])
        ends = [("lowest eigenvalue", *self.lowest), ("highest eigenvalue", *self.highest)]
        parts = [(f"under -{small:.1g}", -infinity, -small), (f"from there to {small:.1g}", -small, small)]
        shares = [(f"share of eigenvalues {what}", *self.share(low, high)) for what, low, high in parts]
        rows = [[what, f"{value:.3g}", f"{error:.1g}"] for what, value, error in ends + shares]
        note = "± is the residual of an eigenvalue, or the standard error of a share over the random vectors."
        return Display(f"SpectralDensity({self.name}, {self.size:,} eigenvalues)", ["", "", "±"], rows, note)

    def plot(self, ax: Any | None = None) -> Any:
        """Plot the density, its negative part in another colour; returns the axes."""
        from .. import plots

        return plots.spectral_density({self.name: self}, ax=ax)


def spectral_density(
    F: Operator, steps: int = 40, vectors: int = 8, precondition: Operator | None = None, seed: int = 0
) -> SpectralDensity:
    """Estimate the distribution of a matrix's eigenvalues from steps * vectors products with it.

    Args:
        F: any curvature matrix; if it is indefinite, like :func:`.hessian`, the density has a negative part.
        steps: Lanczos iterations per vector; needs memory for (steps, P) numbers.
        vectors: number of random vectors, at least 2 for standard errors.
        precondition: the inverse of an approximation to F with a computable square root: K-FAC, EKFAC,
            diagonals or dense blocks. To damp both matrices, use
            ``spectral_density(F.damped(lam), precondition=K.inverse(lam, explicit=True))``.
        seed: seed of the random vectors.

    Raises:
        ValueError: on too few vectors or steps, or a preconditioner of the wrong shape.
        TypeError: on a preconditioner whose square root is not implemented.

    >>> import numpy as np
    >>> from minikfac import fisher
    >>> density = fisher.spectral_density(fisher.DenseMatrix(np.diag([-1.0, 0.5, 2.0, 4.0])))
    >>> round(density.lowest[0], 6), round(density.highest[0], 6), round(density.share(-9, 0).value, 2)
    (-1.0, 4.0, 0.25)
    """
    steps, vectors = whole_number(steps, "steps"), whole_number(vectors, "vectors", least=2)
    product, name = F.__matmul__, getattr(F, "name", "the matrix")
    if precondition is not None:
        root, name = _root(precondition), f"{name}, preconditioned"
        if root.shape != F.shape:
            raise ValueError(f"expected a preconditioner of shape {F.shape}, got {root.shape}")
        product = lambda v: root @ (F @ (root @ v))  # noqa: E731
    shape = (vectors, min(steps, F.shape[0]))
    nodes, weights = array_module().zeros(shape), array_module().zeros(shape)
    ends: list[tuple[float, float]] = []
    for row, v in enumerate(islice(random_signs(F, seed), vectors)):
        V, T = krylov_subspace(product, v, steps)
        values, U = array_module().linalg.eigh(fetch(T)[0])
        nodes[row, : len(values)], weights[row, : len(values)] = values, U[0] ** 2
        nodes[row, len(values) :] = values[-1]  # padding, weight 0, if Lanczos ends early
        for end in (0, -1):
            y = array_module(v).asarray(U[:, end], dtype=v.dtype) @ V
            r = product(y) - float(values[end]) * y
            ends.append((float(values[end]), float((r @ r) ** 0.5)))
    return SpectralDensity(nodes, weights, min(ends), max(ends), F.shape[0], name)


def _root(M: Operator) -> Operator:
    """M^{1/2}."""
    if isinstance(M, BlockDiagonalOperator):
        return BlockDiagonalOperator([_root(part) for part in M.parts])
    if isinstance(M, EigenBlock):
        return replace(M, s=M.s**0.5)
    if isinstance(M, DiagonalBlock):
        return DiagonalBlock(M.d**0.5, M.name)
    if isinstance(M, DenseMatrix):
        values, U = eigh(M.array)
        return DenseMatrix((U * values**0.5) @ U.T)
    raise TypeError(
        f"expected a preconditioner of eigenblocks, diagonals or dense blocks, such as "
        f"inverse(damping, explicit=True), got {type(M).__name__}"
    )
