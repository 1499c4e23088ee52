"""Linear algebra without a network in sight.

Kronecker products, positive semi-definite matrices, conjugate gradients, extreme eigenvalues.
"""

from .cg import CGResult, conjugate_gradients
from .kronecker import kron_apply, kron_dense, kron_eigen_dense, kron_sum_solver
from .lanczos import extreme_eigenpairs
from .psd import (
    SingularMatrixError,
    cholesky,
    cholesky_inverse,
    cholesky_solve,
    eigh,
    pseudo_inverse,
    rank,
    symmetrize,
    triangular_solve,
)
from .sums import Sums, sum_over_chunks

__all__ = [
    "CGResult",
    "SingularMatrixError",
    "Sums",
    "cholesky",
    "cholesky_inverse",
    "cholesky_solve",
    "conjugate_gradients",
    "eigh",
    "extreme_eigenpairs",
    "kron_apply",
    "kron_dense",
    "kron_eigen_dense",
    "kron_sum_solver",
    "pseudo_inverse",
    "rank",
    "sum_over_chunks",
    "symmetrize",
    "triangular_solve",
]
