"""Linear algebra that knows nothing about networks.

Kronecker products, positive semi-definite and general matrices, conjugate gradients, Krylov subspaces,
extreme eigenvalues, and sums over chunks of examples.
"""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from .cg import CGResult, conjugate_gradients
    from .general import best_scalar, invert, relative_error
    from .kronecker import kron_apply, kron_dense, kron_eigen_dense, kron_sum_solver
    from .krylov import Subspace, krylov_subspace
    from .lanczos import extreme_eigenpairs
    from .psd import (
        SingularMatrixError,
        cholesky,
        cholesky_inverse,
        cholesky_solve,
        damped_choleskys,
        eigh,
        pseudo_inverse,
        rank,
        symmetrize,
        triangular_solve,
    )
    from .slices import consecutive
    from .sums import Sums, sum_over_chunks

__all__ = on_demand(__name__)
