"""Fisher matrices: the exact one and its approximations, each built from the same signals (abar, g).

=====================  ===========================================================================
``exact``              the whole matrix, (P, P)
``block_diagonal``     no correlations between layers
``diagonal``           no correlations at all
``kfac``               block-diagonal, each block a Kronecker product A (x) G
``foof``               A (x) I, K-FAC without its second factor
``ladder``             the assumptions between the exact blocks and K-FAC, in dense blocks
``fully_correlated``   equal instead of uncorrelated derivatives at all locations: T times KFC
``khatri_rao``         Kronecker products also for pairs of layers, (P, P)
``block_tridiagonal``  K-FAC whose inverse couples neighbouring layers
``ekfac``              K-FAC's eigenvectors with the best eigenvalues
``nearest_kronecker``  the A (x) G nearest to each exact block
``low_rank``           the leading eigenvectors
``mixed``              a different approximation for each layer
``joint``              exact for a batch coupled by batch normalization in training, (P, P)
``product``            matrix-free, as are ``gauss_newton`` and ``hessian``
``estimate_trace``     for matrix-free ones, as are ``estimate_diagonal`` and ``spectral_density``
=====================  ===========================================================================

All are averages over examples; a matrix has ``@``, ``solve``, ``inverse``, ``damped``, ``to_dense``,
``diagonal``, ``trace``, ``norm``, ``logdet``, ``to_scipy``, ``blocks`` and ``floats``, and supports ``2 * F``
and ``F + G`` if the result is of the same kind (:class:`FisherMatrix`).
"""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from .block_diagonal import BlockDiagonal
    from .damping import factored_damping, tikhonov_eigenvalues
    from .dense import DenseMatrix
    from .density import SpectralDensity, spectral_density
    from .diagonal import DiagonalBlock, diagonal
    from .eigenblock import EigenBlock
    from .ekfac import ekfac
    from .estimates import Estimate, estimate_diagonal, estimate_trace
    from .exact import block_diagonal, exact
    from .fast import gradient_and_kfac
    from .foof import foof
    from .joint import joint
    from .khatri_rao import khatri_rao
    from .kronecker import kfac
    from .kronecker_block import Kronecker, KroneckerBlock
    from .ladder import LADDER, fully_correlated, ladder
    from .low_rank import LowRank, low_rank
    from .matrix import FisherMatrix, Operator
    from .matrix_free import MatrixFree, gauss_newton, hessian, product
    from .mixed import mixed
    from .nearest_kronecker import nearest_kronecker
    from .signals import LayerSignals, Signals, signals
    from .tridiagonal import BlockTridiagonal, block_tridiagonal

__all__ = on_demand(__name__)
