"""EKFAC: the diagonal of the block in the eigenbasis of the Kronecker factors."""

import numpy as np
import pytest

from minikfac import fisher
from oracles import EXACT, error
from oracles.fisher import cross_factors, make_case, random_signals, synthetic_factors, synthetic_fisher

LOCATIONS = ((3, 4, 2), (1, 3, 4), (5, 2, 3))


def synthetic_blocks(signals: fisher.Signals) -> list[np.ndarray]:
    F = synthetic_fisher(signals)
    return [F[part, part] for part in signals.slices]


def in_the_eigenbasis(F: np.ndarray, A: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Keep the diagonal of F in the basis of the eigenvectors of A (x) G."""
    U = np.kron(np.linalg.eigh(A)[1], np.linalg.eigh(G)[1])
    return U @ np.diag((U.T @ F @ U).diagonal()) @ U.T


@pytest.mark.parametrize("k", [1, 3])
def test_ekfac_is_the_diagonal_of_the_block_in_the_eigenbasis(k: int) -> None:
    signals = random_signals(shapes=LOCATIONS, k=k)
    for block, F, layer in zip(
        fisher.ekfac(signals).blocks, synthetic_blocks(signals), next(iter(signals)), strict=True
    ):
        assert error(block.to_dense(), in_the_eigenbasis(F, *synthetic_factors(layer))) < EXACT


def test_ekfac_reads_chunks_twice() -> None:
    case = make_case((3, 4, 2), output="bernoulli", n=40)
    signals = case.signals(batch_size=7)
    exact = fisher.exact(case.signals()).to_dense()
    for layer, (block, part) in enumerate(zip(fisher.ekfac(signals).blocks, case.slices, strict=True)):
        expected = in_the_eigenbasis(exact[part, part], *cross_factors(case, layer, layer))
        assert error(block.to_dense(), expected) < EXACT
