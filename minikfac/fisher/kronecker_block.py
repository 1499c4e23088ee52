"""The matrix A (x) G with A (I, I) and G (O, O): products, damping, inverses.

(A (x) G) vec(V) = vec(A V G),    (A (x) G)^{-1} = A^{-1} (x) G^{-1},    V (I, O) in the shape of the weights
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..backend import Array, array_module
from ..distributed import SERIAL, Communicator
from ..linalg import (
    cholesky_inverse,
    cholesky_solve,
    damped_choleskys,
    eigh,
    kron_apply,
    kron_dense,
    triangular_solve,
)
from ..linalg import pseudo_inverse as pinv
from ..linalg.psd import Damped, check_psd
from .block_diagonal import BlockDiagonal, BlockDiagonalOperator
from .damping import add_to_diagonal, factored_damping, factored_shares, tikhonov_eigenvalues
from .dense import DenseMatrix
from .eigenblock import EigenBlock
from .matrix import FisherMatrix, Operator, symmetric


def Kronecker(factors: Sequence[tuple[Array, ...]], names: Sequence[str] | None = None) -> BlockDiagonal:
    """The K-FAC matrix from averaged factors (A, G) or full blocks (F,).

    Raises:
        ValueError: on factors, with their name, that are not square, finite, symmetric and positive
            semi-definite, or if the numbers of names and factors differ.
        TypeError: on factors that are not arrays of real numbers.
    """
    F = kronecker_blocks([tuple(matrices) for matrices in factors], names)
    for block in F.blocks:
        for M, name in block.named_factors if isinstance(block, KroneckerBlock) else ():
            check_psd(M, name)
    return F


def kronecker_blocks(
    factors: Sequence[tuple[Array, ...]], names: Sequence[str] | None = None
) -> BlockDiagonal:
    """Like :func:`Kronecker`, for factors that are known to be positive semi-definite."""
    names = names or [f"layer{number}" for number in range(len(factors))]
    if len(names) != len(factors):
        raise ValueError(f"expected {len(factors)} names, one per pair of factors, got {len(names)}")
    blocks: list[FisherMatrix] = []
    for matrices, name in zip(factors, names, strict=True):
        if len(matrices) not in (1, 2):
            raise ValueError(f"expected A and G, or a whole block, for {name}, got {len(matrices)} arrays")
        if len(matrices) == 2:
            blocks.append(KroneckerBlock(matrices[0], matrices[1], name))
        else:
            blocks.append(DenseMatrix(matrices[0], name=f"the block of {name}"))
    return BlockDiagonal(blocks)


def factors_of(F: BlockDiagonal) -> list[tuple[Array, ...]]:
    """The arguments of :func:`Kronecker`: (A, G) of each Kronecker block, (F,) of each dense one."""
    return [
        (block.A, block.G) if isinstance(block, KroneckerBlock) else (block.to_dense(),) for block in F.blocks
    ]


@dataclass(frozen=True, eq=False, repr=False)
class KroneckerBlock(FisherMatrix):
    """A (x) G, acting on weights V (I, O) as A V G; A (I, I) and G (O, O) are symmetric.

    In damped solves, ``method="eigen"`` (default) computes the exact (A (x) G + lambda I)^{-1} by two
    eigendecompositions; ``method="factored"`` inverts the factors of factored Tikhonov damping.
    """

    A: Array
    G: Array
    name: str = "layer"
    damping_methods: ClassVar[tuple[str, ...]] = ("eigen", "factored")

    def __post_init__(self) -> None:
        for field in ("A", "G"):
            object.__setattr__(self, field, symmetric(getattr(self, field), f"{field} of {self.name}"))
        array_module(self.A, self.G, names=f"A of {self.name}, G of {self.name}")

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self.A) * len(self.G),) * 2

    @property
    def like(self) -> Array:
        return self.A

    @property
    def floats(self) -> int:
        return self.A.size + self.G.size

    def _product(self, v: Array) -> Array:
        return kron_apply(self.A, self.G, v)

    def to_dense(self) -> Array:
        return kron_dense(self.A, self.G)

    def diagonal(self) -> Array:
        return array_module(self.A).outer(self.A.diagonal(), self.G.diagonal()).reshape(-1)

    def trace(self) -> float:
        return float(self.A.trace() * self.G.trace())

    def eigenvalues(self) -> Array:
        xp = array_module(self.A)
        return xp.sort(xp.outer(eigh(self.A)[0], eigh(self.G)[0]).reshape(-1))

    def norm(self) -> float:
        return float((self.A**2).sum() * (self.G**2).sum()) ** 0.5

    def _scaled(self, c: float) -> KroneckerBlock:
        return KroneckerBlock(self.A, c * self.G, self.name)

    def _damped(self, lam: float, method: str | None) -> FisherMatrix:
        if method == "factored":
            return KroneckerBlock(*factored_damping(self.A, self.G, lam), self.name)
        (a, U_A), (g, U_G) = (eigh(M, name) for M, name in self.named_factors)
        return EigenBlock(U_A, U_G, tikhonov_eigenvalues(a, g, lam), self.name)

    def _inverse(self, damping: float, method: str | None, pseudo_inverse: bool, explicit: bool) -> Operator:
        if damping > 0 and method != "factored":
            return self.damped(0.0).inverse(damping)
        if damping == 0 and pseudo_inverse:
            A, G = (pinv(M, name) for M, name in self.named_factors)
            return KroneckerBlock(A, G, self.name)
        ((L_A, L_G),) = damped_choleskys([self.damped_factors(damping)], damping)
        return self.from_choleskys(L_A, L_G, explicit)

    @property
    def named_factors(self) -> tuple[tuple[Array, str], tuple[Array, str]]:
        """A and G with their names in errors."""
        return (self.A, f"A of {self.name}"), (self.G, f"G of {self.name}")

    def damped_factors(self, lam: float) -> tuple[Damped, Damped]:
        """Damped A and G, with their names and the amounts added."""
        shares = factored_shares(self.A, self.G, lam)
        pairs = zip(self.named_factors, shares, strict=True)
        A, G = ((add_to_diagonal(M, share), name, share) for (M, name), share in pairs)
        return A, G

    def from_choleskys(self, L_A: Array, L_G: Array, explicit: bool) -> Operator:
        """The inverse from the Cholesky factors of damped A and G."""
        if explicit:
            return KroneckerBlock(cholesky_inverse(L_A), cholesky_inverse(L_G), self.name)
        return KroneckerSolver(L_A, L_G)

    def _logdet(self, damping: float, method: str | None) -> float:
        if damping > 0 and method != "factored":
            return self.damped(0.0).logdet(damping)
        ((L_A, L_G),) = damped_choleskys([self.damped_factors(damping)], damping)
        return KroneckerSolver(L_A, L_G).logdet()


def factored_inverse(
    F: BlockDiagonal, damping: float, explicit: bool = False, comm: Communicator = SERIAL
) -> Operator:
    """``F.inverse(damping, method="factored", ...)`` with one device synchronization for all layers.

    Blocks that are not Kronecker products are inverted one by one; with several ranks, layers are divided.
    """
    if comm.size > 1:
        return F.inverse(damping, "factored", explicit=explicit, comm=comm)
    products = [block for block in F.blocks if isinstance(block, KroneckerBlock)]
    Ls = iter(damped_choleskys((block.damped_factors(damping) for block in products), damping))
    return BlockDiagonalOperator(
        [
            block.from_choleskys(*next(Ls), explicit)
            if isinstance(block, KroneckerBlock)
            else block.inverse(damping, explicit=explicit)
            for block in F.blocks
        ]
    )


@dataclass(frozen=True, eq=False, repr=False)
class KroneckerSolver(Operator):
    """(A (x) G)^{-1} by the Cholesky factors L_A (I, I) and L_G (O, O)."""

    L_A: Array
    L_G: Array

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self.L_A) * len(self.L_G),) * 2

    @property
    def like(self) -> Array:
        return self.L_A

    def _product(self, v: Array) -> Array:
        i, o = len(self.L_A), len(self.L_G)
        if v.ndim == 1:
            return cholesky_solve(self.L_G, cholesky_solve(self.L_A, v.reshape(i, o)).T).T.reshape(-1)
        V = cholesky_solve(self.L_A, v.reshape(i, -1)).reshape(i, o, -1).swapaxes(0, 1)
        return cholesky_solve(self.L_G, V.reshape(o, -1)).reshape(o, i, -1).swapaxes(0, 1).reshape(v.shape)

    def root_product(self, v: Array) -> Array:
        """(L_A^{-T} (x) L_G^{-T}) v."""
        i, o = len(self.L_A), len(self.L_G)
        V = triangular_solve(self.L_A, v.reshape(i, -1), transposed=True)
        V = V.reshape(i, o, -1).swapaxes(0, 1).reshape(o, -1)
        V = triangular_solve(self.L_G, V, transposed=True)
        return V.reshape(o, i, -1).swapaxes(0, 1).reshape(v.shape)

    def to_dense(self) -> Array:
        return kron_dense(cholesky_inverse(self.L_A), cholesky_inverse(self.L_G))

    def logdet(self) -> float:
        """log det(A (x) G) = O log det A + I log det G."""
        log = array_module(self.L_A).log
        log_det_a, log_det_g = (2 * float(log(L.diagonal()).sum()) for L in (self.L_A, self.L_G))
        return len(self.L_G) * log_det_a + len(self.L_A) * log_det_g
