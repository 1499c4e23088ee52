"""Matrices of any kind: inverses, and how far one is from another."""

from __future__ import annotations

from ..backend import Array, array_module
from .psd import SingularMatrixError


def invert(M: Array, name: str = "matrix") -> Array:
    """Return the inverse of a square matrix (n, n).

    Raises:
        SingularMatrixError: if the condition number exceeds 1 / (n eps), with that number and the name.
    """
    xp = array_module(M)
    values = xp.linalg.svd(M, compute_uv=False)
    largest, smallest = float(values[0]), float(values[-1])
    if not smallest > len(M) * float(xp.finfo(M.dtype).eps) * largest:
        condition = largest / smallest if smallest else float("inf")
        raise SingularMatrixError(
            f"expected {name} ({len(M)} x {len(M)}) to be invertible, got condition number {condition:.1e}"
        )
    return xp.linalg.inv(M)


def relative_error(near: Array, exact: Array) -> float:
    """Return ||near - exact|| / ||exact||, Frobenius norms; the absolute error where exact is 0."""
    wrong, size = (float((M * M).sum()) ** 0.5 for M in (exact - near, exact))
    return wrong / (size or 1.0)


def best_scalar(near: Array, exact: Array) -> float:
    """Return the c for which c near is nearest to exact: <near, exact> / <near, near>."""
    return float((near * exact).sum() / (near * near).sum())
