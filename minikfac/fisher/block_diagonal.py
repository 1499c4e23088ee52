"""Block-diagonal curvature matrices, which assume that layers are uncorrelated.

Such a matrix is a list of blocks, one per parameter layer: exact, Kronecker-factored or diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from ..backend import Array, array_module
from ..distributed import SERIAL, Communicator
from ..linalg import SingularMatrixError, consecutive
from .matrix import FisherMatrix, Operator, check_method

T = TypeVar("T")


def shared(tasks: Sequence[Callable[[], T]], costs: Sequence[float], comm: Communicator) -> list[T]:
    """Like :meth:`.Communicator.share`, but a singular matrix on one rank raises an error on all ranks."""
    results = comm.share([partial(_result_or_refusal, task) for task in tasks], costs)
    for result in results:
        if isinstance(result, str):
            raise SingularMatrixError(result)
    return results  # type: ignore[return-value]


def _result_or_refusal(task: Callable[[], T]) -> T | str:
    try:
        return task()
    except SingularMatrixError as error:
        return str(error)


class BlockDiagonalOperator(Operator):
    """A block-diagonal operator, whose parts each act on a slice of the vector."""

    def __init__(self, parts: Sequence[Operator]) -> None:
        self.parts = tuple(parts)
        if not self.parts:
            raise ValueError("expected at least one block, got none")
        if wrong := [type(part).__name__ for part in self.parts if not isinstance(part, Operator)]:
            raise TypeError(f"expected blocks that are matrices of minikfac.fisher, got {', '.join(wrong)}")
        self.slices = consecutive(part.shape[0] for part in self.parts)

    @property
    def shape(self) -> tuple[int, int]:
        return (self.slices[-1].stop, self.slices[-1].stop)

    @property
    def like(self) -> Array:
        return self.parts[0].like

    def _product(self, v: Array) -> Array:
        xp = array_module(v)
        return xp.concatenate([block @ v[part] for block, part in zip(self.parts, self.slices, strict=True)])

    def root_product(self, v: Array) -> Array:
        parts = [block.root_product(v[part]) for block, part in zip(self.parts, self.slices, strict=True)]
        return array_module(v).concatenate(parts)

    def to_dense(self) -> Array:
        F = array_module(self.like).zeros(self.shape, dtype=self.like.dtype)
        for block, part in zip(self.parts, self.slices, strict=True):
            F[part, part] = block.to_dense()
        return F


class BlockDiagonal(BlockDiagonalOperator, FisherMatrix):
    """A block-diagonal curvature matrix; ``blocks[l]`` belongs to parameter layer l.

    A damping method that only some blocks support ("factored" for Kronecker blocks next to exact ones)
    applies to those; the others use their default. ``inverse(..., comm=)`` divides the blocks among
    the ranks, and every rank gets all of them.
    """

    blocks: Sequence[FisherMatrix] = ()

    def __init__(self, blocks: Sequence[FisherMatrix]) -> None:
        super().__init__(blocks)
        self.blocks = tuple(blocks)
        self.damping = max(block.damping for block in blocks)
        self.name = f"one {' or '.join(dict.fromkeys(type(block).__name__ for block in blocks))} per layer"

    @property
    def floats(self) -> int:
        return sum(block.floats for block in self.blocks)

    def diagonal(self) -> Array:
        return array_module(self.like).concatenate([block.diagonal() for block in self.blocks])

    def trace(self) -> float:
        return sum(block.trace() for block in self.blocks)

    def eigenvalues(self) -> Array:
        xp = array_module(self.like)
        return xp.sort(xp.concatenate([block.eigenvalues() for block in self.blocks]))

    def norm(self) -> float:
        return math.hypot(*(block.norm() for block in self.blocks))

    def _scaled(self, c: float) -> BlockDiagonal:
        return BlockDiagonal([c * block for block in self.blocks])

    def _plus(self, other: BlockDiagonal) -> BlockDiagonal:
        if other.slices != self.slices:
            raise ValueError("expected blocks of the same sizes to add, got different ones")
        return BlockDiagonal([a + b for a, b in zip(self.blocks, other.blocks, strict=True)])

    def damped(self, lam: float, method: str | None = None) -> BlockDiagonal:
        return BlockDiagonal([block.damped(lam, choice) for block, choice in self._with_methods(method)])

    def inverse(
        self,
        damping: float = 0.0,
        method: str | None = None,
        pseudo_inverse: bool = False,
        explicit: bool = False,
        comm: Communicator = SERIAL,
    ) -> Operator:
        tasks = [
            partial(block.inverse, damping, choice, pseudo_inverse, explicit)
            for block, choice in self._with_methods(method)
        ]
        return BlockDiagonalOperator(shared(tasks, [block.inverse_cost for block in self.blocks], comm))

    def logdet(self, damping: float = 0.0, method: str | None = None) -> float:
        return sum(block.logdet(damping, choice) for block, choice in self._with_methods(method))

    def _with_methods(self, method: str | None) -> list[tuple[FisherMatrix, str | None]]:
        """Each block with the damping method, or with None if the block does not support it."""
        choices = tuple(dict.fromkeys(name for block in self.blocks for name in block.damping_methods))
        check_method(method, choices)
        return [(block, method if method in block.damping_methods else None) for block in self.blocks]
