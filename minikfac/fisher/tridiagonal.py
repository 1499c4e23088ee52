"""Block-tridiagonal K-FAC: the inverse couples neighbouring layers [MG15, sec. 4.3].

Model the gradient as a Gaussian graphical model in which the gradient of layer l, given that of layer l + 1,
does not depend on the layers above. This is a chain,

    DW_l = Psi_l DW_{l+1} + noise of covariance Sigma_l,

with Psi_l and Sigma_l computed from the Kronecker products of the two layers. The chain's covariance Fhat
agrees with the Khatri-Rao matrix on the three middle block diagonals; the chain determines all other blocks.
Fhat is dense, but its inverse is block-tridiagonal and consists of products of small matrices:

    Fhat^{-1} = Xi^T Lambda Xi,    Xi = I with -Psi_l above the diagonal,    Lambda = diag(Sigma_l^{-1})

    PsiA_l = A_{l,l+1} A_{l+1}^{-1},   PsiG_l = G_{l,l+1} G_{l+1}^{-1},   Psi_l = PsiA_l (x) PsiG_l
    Sigma_l = A_l (x) G_l - (PsiA_l A_{l+1} PsiA_l^T) (x) (PsiG_l G_{l+1} PsiG_l^T),   Sigma_last = A (x) G

Here A_l belongs to layer l's inputs, G_l to its outputs, and a block acts on V (I, O) as A V G^T. Damping
replaces A_l and G_l by their factored-damped versions and leaves the cross factors unchanged. The undamped
chain is undefined if a G is singular, as with softmax, or if neighbouring derivatives determine each other
(0/0), as in deep linear nets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, ClassVar

from ..backend import Array, all_finite, array_module, on_host
from ..distributed import SERIAL, Communicator
from ..linalg import (
    cholesky,
    cholesky_inverse,
    cholesky_solve,
    consecutive,
    kron_apply,
    kron_dense,
    kron_eigen_dense,
    kron_sum_solver,
)
from ..linalg.psd import check_product
from .block_diagonal import shared
from .damping import factored_damping
from .khatri_rao import check_dense, cross_factors
from .kronecker import factors
from .kronecker_block import KroneckerBlock
from .matrix import FisherMatrix, Operator, check_damping, check_method
from .signals import LayerSignals, Signals


def block_tridiagonal(signals: Signals) -> BlockTridiagonal:
    """K-FAC whose inverse couples neighbouring layers; chains of dense layers only.

    Raises:
        ValueError: on a net that is not such a chain.
    """
    if not signals.dense_chain:
        raise ValueError(
            "expected a chain of dense layers for block_tridiagonal, got convolutions, sequences, branches "
            "or layers that are not neighbours; use kfac"
        )
    check_dense(signals, "block_tridiagonal")
    last = len(signals) - 1

    def contribution(chunk: list[LayerSignals], n: int) -> list[tuple[Array, ...]]:
        neighbours = [cross_factors(chunk[layer], chunk[layer + 1], n) for layer in range(last)]
        return [*(factors(layer, n) for layer in chunk), *neighbours]

    means = [(pair[0], pair[1]) for pair in signals.total_of_chunks(contribution)]
    return BlockTridiagonal(tuple(means[: last + 1]), tuple(means[last + 1 :]), signals.names)


Pair = tuple[Array, Array]


@dataclass(frozen=True, eq=False, repr=False)
class BlockTridiagonal(FisherMatrix):
    """Fhat, from factors (A_l, G_l) of each layer and cross factors (A_{l,l+1}, G_{l,l+1}).

    ``F @ v`` and ``to_dense`` use Fhat, the dense covariance of the chain; ``inverse`` is the
    block-tridiagonal matrix. Damping is always factored damping of the diagonal factors; ``damping`` is the
    lambda that they already contain, only for errors.
    ``inverse(..., comm=)`` divides the layers among the ranks, and every rank gets all results.
    """

    factors: tuple[Pair, ...]
    cross: tuple[Pair, ...]
    names: tuple[str, ...]
    name: str = "the block-tridiagonal matrix"
    damping: float = 0.0
    damping_methods: ClassVar[tuple[str, ...]] = ("factored",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple((block.A, block.G) for block in self.blocks))  # checked
        if not all(all_finite(M) for pair in self.cross for M in pair if on_host(M)):
            raise ValueError("expected finite cross factors, got NaN or infinity")

    @property
    def shape(self) -> tuple[int, int]:
        size = sum(len(A) * len(G) for A, G in self.factors)
        return (size, size)

    @property
    def like(self) -> Array:
        return self.factors[0][0]

    @property
    def floats(self) -> int:
        return sum(A.size + G.size for A, G in self.factors + self.cross)

    @property
    def blocks(self) -> Sequence[KroneckerBlock]:
        """Diagonal blocks of Fhat, which are K-FAC's."""
        return [KroneckerBlock(A, G, name) for (A, G), name in zip(self.factors, self.names, strict=True)]

    def diagonal(self) -> Array:
        return array_module(self.like).concatenate([block.diagonal() for block in self.blocks])

    def damped(self, lam: float, method: str | None = None) -> BlockTridiagonal:
        check_method(method, self.damping_methods)
        lam = check_damping(lam, self.like)
        if lam == 0:
            return self
        damped = tuple(factored_damping(A, G, lam) for A, G in self.factors)
        return BlockTridiagonal(damped, self.cross, self.names, self.name, self.damping + lam)

    def inverse(
        self,
        damping: float = 0.0,
        method: str | None = None,
        pseudo_inverse: bool = False,
        explicit: bool = False,
        comm: Communicator = SERIAL,
    ) -> BlockTridiagonalInverse:
        if pseudo_inverse and damping == 0:
            raise ValueError("expected damping > 0: the block-tridiagonal matrix has no pseudo-inverse here")
        return self.damped(damping, method)._inverted(comm)

    @cached_property
    def _inverse_alone(self) -> BlockTridiagonalInverse:
        return self._inverted(SERIAL)

    def _inverted(self, comm: Communicator) -> BlockTridiagonalInverse:
        tasks: list[Callable[[], Any]] = [partial(self._given_above, l) for l in range(len(self.cross))]
        costs = [block.inverse_cost for block in self.blocks]
        *lower, top = shared([*tasks, self._top], costs, comm)
        psi, sigma = (tuple(given[part] for given in lower) for part in range(2))
        return BlockTridiagonalInverse(psi, sigma, top)

    def _given_above(self, layer: int) -> tuple[Pair, tuple[Array, Array, Array]]:
        """Psi of a layer, and the solver for its Sigma from :func:`minikfac.linalg.kron_sum_solver`."""
        (A_up, G_up), (L_A, L_G) = self.cross[layer], self._roots(layer + 1)
        PsiA, PsiG = cholesky_solve(L_A, A_up.T).T, cholesky_solve(L_G, G_up.T).T
        names = (f"A of {self.names[layer]}", f"G of {self.names[layer]}")
        # PsiA A_{l+1} PsiA^T and likewise for G, since PsiA A_{l+1} = A_{l,l+1}
        explained = (PsiA @ A_up.T, PsiG @ G_up.T)
        return (PsiA, PsiG), kron_sum_solver(*self.factors[layer], *explained, -1, names, self.damping)

    def _top(self) -> Pair:
        L_A, L_G = self._roots(-1)
        check_product((L_A, L_G), f"A of {self.names[-1]}, times its G,", self.damping)
        return cholesky_inverse(L_A), cholesky_inverse(L_G)

    def _roots(self, layer: int) -> Pair:
        (A, G), name = self.factors[layer], self.names[layer]
        of_A, of_G = f"A of {name}", f"G of {name}"
        return cholesky(A, of_A, damping=self.damping), cholesky(G, of_G, damping=self.damping)

    def _product(self, v: Array) -> Array:
        """Fhat v = Xi^{-1} Lambda^{-1} Xi^{-T} v, layer by layer."""
        inverse = self._inverse_alone
        parts = [v[part] for part in inverse.slices]
        for layer, (PsiA, PsiG) in enumerate(inverse.psi):  # Xi^{-T}: from the bottom up
            parts[layer + 1] = parts[layer + 1] + kron_apply(PsiA.T, PsiG.T, parts[layer])
        for layer, (A, G) in enumerate(self.factors):  # Lambda^{-1}: the covariances Sigma
            total = kron_apply(A, G, parts[layer])
            if layer < len(self.cross):
                (PsiA, PsiG), (A_up, G_up) = inverse.psi[layer], self.cross[layer]
                total = total - kron_apply(PsiA @ A_up.T, PsiG @ G_up.T, parts[layer])
            parts[layer] = total
        for layer in reversed(range(len(self.cross))):  # Xi^{-1}: from the top down
            parts[layer] = parts[layer] + kron_apply(*inverse.psi[layer], parts[layer + 1])
        return array_module(v).concatenate(parts)

    def logdet(self, damping: float = 0.0, method: str | None = None) -> float:
        """Sum of the log-determinants of the Sigma_l, since Xi has determinant 1."""
        return -self.inverse(damping, method).logdet()


@dataclass(frozen=True, eq=False, repr=False)
class BlockTridiagonalInverse(Operator):
    """Xi^T Lambda Xi.

    Attributes:
        psi: (PsiA (I_l, I_{l+1}), PsiG (O_l, O_{l+1})) for all layers but the last.
        sigma: K1, K2 and inverse denominators from :func:`minikfac.linalg.kron_sum_solver`, likewise.
        top: inverses of A and G of the last layer.
    """

    psi: tuple[Pair, ...]
    sigma: tuple[tuple[Array, Array, Array], ...]
    top: Pair

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Slices of the layers' parameters."""
        sizes = [scale.size for _, _, scale in self.sigma]
        return consecutive([*sizes, len(self.top[0]) * len(self.top[1])])

    @property
    def shape(self) -> tuple[int, int]:
        return (self.slices[-1].stop, self.slices[-1].stop)

    @property
    def like(self) -> Array:
        return self.top[0]

    def _product(self, v: Array) -> Array:
        parts = [v[part] for part in self.slices]
        u = [  # Xi v: the residual of each layer given the layer above
            part - kron_apply(PsiA, PsiG, above)
            for part, above, (PsiA, PsiG) in zip(parts[:-1], parts[1:], self.psi, strict=True)
        ]
        u = [self._solve_sigma(layer, part) for layer, part in enumerate([*u, parts[-1]])]  # Lambda
        below = [
            kron_apply(PsiA.T, PsiG.T, part) for part, (PsiA, PsiG) in zip(u[:-1], self.psi, strict=True)
        ]
        return array_module(v).concatenate(
            [u[0], *(part - lower for part, lower in zip(u[1:], below, strict=True))]  # Xi^T
        )

    def _solve_sigma(self, layer: int, v: Array) -> Array:
        if layer == len(self.sigma):
            return kron_apply(*self.top, v)
        K1, K2, scale = self.sigma[layer]
        rotated = kron_apply(K1.T, K2.T, v)
        return kron_apply(K1, K2, scale.reshape((-1,) + (1,) * (v.ndim - 1)) * rotated)

    def to_dense(self) -> Array:
        """Form the block-tridiagonal array, (P, P).

        Block (l, l) is Sigma_l^{-1} + Psi_{l-1}^T Sigma_{l-1}^{-1} Psi_{l-1},
        block (l, l+1) is -Sigma_l^{-1} Psi_l.
        """
        xp = array_module(self.like)
        F = xp.zeros(self.shape, dtype=self.like.dtype)
        for (here, above), psi, sigma in zip(pairwise(self.slices), self.psi, self.sigma, strict=True):
            Lambda, Psi = kron_eigen_dense(*sigma), kron_dense(*psi)
            F[here, here] += Lambda
            F[here, above] = -Lambda @ Psi
            F[above, here] = F[here, above].T
            F[above, above] -= Psi.T @ F[here, above]
        F[self.slices[-1], self.slices[-1]] += kron_dense(*self.top)
        return F

    def logdet(self) -> float:
        """log det(Xi^T Lambda Xi) = sum of log det Sigma_l^{-1}."""
        xp = array_module(self.like)
        total = 0.0
        for K1, K2, scale in self.sigma:
            total += float(xp.log(scale).sum())
            # K1 = A^{-T/2} E1 with E1 orthogonal: log |det K1|, O times; likewise K2, I times
            total += 2 * len(K2) * float(xp.linalg.slogdet(K1)[1])
            total += 2 * len(K1) * float(xp.linalg.slogdet(K2)[1])
        A, G = (float(xp.linalg.slogdet(M)[1]) for M in self.top)
        return total + len(self.top[1]) * A + len(self.top[0]) * G
