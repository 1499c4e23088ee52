"""The Kronecker product nearest to the exact block, against a singular value decomposition."""

import sys

import numpy as np
import pytest

from minikfac import fisher
from oracles import EXACT, error
from oracles.fisher import Case, make_case, random_signals, synthetic_fisher

NEAREST = 1e-8
"""Relative error of the power iteration at its tolerance."""

CASES = {
    "categorical": make_case((3, 4, 3, 3)),
    "bernoulli": make_case((3, 4, 2), "logistic", "bernoulli"),
    "gaussian": make_case((4, 3, 2), "relu", "gaussian"),
    "no bias": make_case((3, 4, 3), bias=False),
}
LOCATIONS = ((3, 4, 2), (1, 3, 4), (5, 2, 3))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def synthetic_blocks(signals: fisher.Signals) -> list[np.ndarray]:
    F = synthetic_fisher(signals)
    return [F[part, part] for part in signals.slices]


def van_loan(F: np.ndarray, inputs: int, outputs: int) -> np.ndarray:
    """The nearest Kronecker product, by the leading singular pair of the rearranged block [VanLoan00]."""
    R = F.reshape(inputs, outputs, inputs, outputs).transpose(0, 2, 1, 3).reshape(inputs**2, outputs**2)
    U, s, V = np.linalg.svd(R)
    A, G = U[:, 0].reshape(inputs, inputs), V[0].reshape(outputs, outputs)
    return s[0] * np.kron(A, G)


def test_nearest_kronecker_is_the_leading_singular_pair(case: Case) -> None:
    exact = fisher.exact(case.signals()).to_dense()
    blocks = fisher.nearest_kronecker(case.signals(batch_size=3)).blocks
    for block, part, W in zip(blocks, case.slices, case.Ws, strict=True):
        assert error(block.to_dense(), van_loan(exact[part, part], *W.shape)) < NEAREST


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_kronecker_over_locations(k: int) -> None:
    signals = random_signals(shapes=LOCATIONS, k=k)
    blocks = fisher.nearest_kronecker(signals).blocks
    for block, F, shape in zip(blocks, synthetic_blocks(signals), signals.shapes, strict=True):
        assert error(block.to_dense(), van_loan(F, *shape)) < NEAREST


def test_nearest_kronecker_shares_its_scale_out_as_kfac_does(case: Case) -> None:
    pairs = zip(
        fisher.nearest_kronecker(case.signals()).blocks, fisher.kfac(case.signals()).blocks, strict=True
    )
    for nearest, block in pairs:
        assert nearest.A.trace() == pytest.approx(block.A.trace(), rel=EXACT)


def test_nearest_kronecker_says_when_it_did_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["minikfac.fisher.nearest_kronecker"], "_MAX_ITERATIONS", 1)
    with pytest.raises(ValueError, match=r"expected convergence in 1 iterations, got a last change of"):
        fisher.nearest_kronecker(CASES["categorical"].signals())
