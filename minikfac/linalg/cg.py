"""Preconditioned conjugate gradients for matrices given by matrix-vector products."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..backend import Array


class CGResult(NamedTuple):
    """The solution of :func:`conjugate_gradients`."""

    x: Array
    iterations: int
    converged: bool
    residual: float
    """||b - M x|| / ||b||, from the recurrence."""


def conjugate_gradients(
    product: Callable[[Array], Array],
    b: Array,
    tolerance: float = 1e-6,
    max_iterations: int | None = None,
    precondition: Callable[[Array], Array] | None = None,
    x0: Array | None = None,
    watch: Callable[[int, Array, float], bool] | None = None,
) -> CGResult:
    """Solve M x = b for a symmetric positive definite M given by matrix-vector products.

    Each iterate minimizes phi(x) = x^T M x / 2 - b^T x over a space that grows by one dimension.

    Args:
        product: v -> M v.
        b: (n,).
        tolerance: stop when ||b - M x|| <= tolerance ||b||.
        max_iterations: n by default.
        precondition: v -> B^{-1} v for a positive definite B that resembles M.
        x0: initial guess; 0 by default.
        watch: called with each iterate's number (0 for x0), the iterate and phi; stops if it returns True.

    Raises:
        ValueError: on a direction of zero or negative curvature, which shows that M is not positive
            definite; likewise for the preconditioner.
    """
    limit = len(b) if max_iterations is None else max_iterations
    norm_b = float((b @ b) ** 0.5)
    x, r = (0 * b, b) if x0 is None or norm_b == 0 else (x0, b - product(x0))
    z = r if precondition is None else precondition(r)
    p, rz = z, float(r @ z)
    residual = float((r @ r) ** 0.5) / (norm_b or 1)
    iteration = 0
    while True:
        # phi from r = b - M x, which saves a product
        enough = watch is not None and watch(iteration, x, -0.5 * float(x @ (r + b)))
        if enough or residual <= tolerance or iteration == limit:
            return CGResult(x, iteration, residual <= tolerance, residual)
        if rz <= 0:
            raise ValueError(
                f"expected a positive definite preconditioner, got r^T B^-1 r = {rz:.3g} "
                f"for a residual r (iteration {iteration})"
            )
        Mp = product(p)
        curvature = float(p @ Mp)
        if not curvature > 0:
            raise ValueError(
                f"expected a positive definite matrix, got curvature {curvature:.3g} along a direction "
                f"of conjugate gradients (iteration {iteration}); use more damping"
            )
        alpha = rz / curvature
        x = x + alpha * p
        r = r - alpha * Mp
        residual = float((r @ r) ** 0.5) / norm_b
        z = r if precondition is None else precondition(r)
        rz, rz_old = float(r @ z), rz
        p = z + (rz / rz_old) * p
        iteration += 1
