"""Conditions that the derivations state: each with a case where it holds and one where it fails."""

import math

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, layers, linalg, optim, outputs
from minikfac.fisher.damping import factored_damping, pi_ratio
from minikfac.training import example
from oracles import EXACT, close, error
from oracles.pages import ROOT

FAR = 0.05
"""Relative distance above which two matrices count as different."""


def sud_error(abar, g):
    """Relative error of the block without pairs of different locations."""
    signals = fisher.Signals.from_layers([fisher.LayerSignals(abar, g, (1, 2))])
    exact = fisher.block_diagonal(signals).to_dense()
    return error(fisher.ladder(signals, {"SUD"}).to_dense(), exact)


def test_sud_alone_needs_derivatives_uncorrelated_given_the_input():
    """Four examples at two locations, one input and one output; the mean of g_1 g_2 is 0 in both cases."""
    abar = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])[:, :, None]
    on_average = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [1.0, -1.0]])[None, :, :, None]
    given_x = np.stack([np.full((4, 2), 1.0), np.tile([1.0, -1.0], (4, 1))])[..., None]
    for g in (on_average, given_x):
        assert (g[..., 0, 0] * g[..., 1, 0]).mean() == 0
    assert sud_error(abar, on_average) > FAR
    assert sud_error(abar, given_x) < EXACT


@pytest.mark.parametrize(
    ("kernel", "padding", "constant", "exact"),
    [
        (1, 0, False, True),
        (3, 0, False, False),
        (3, 1, False, False),
        (3, (1, 0), False, False),
        (3, 0, True, True),
    ],
)
def test_reduce_is_exact_only_with_layers_of_one_pixel_below_the_mean(kernel, padding, constant, exact):
    """Or on constant images without padding, where it does not matter which location a derivative is from."""
    rng = np.random.default_rng(0)
    net = mk.Network(
        [layers.Conv2d(2, 3, 2), layers.Conv2d(3, 3, kernel, padding=padding), layers.GlobalAvgPool()],
        outputs.Gaussian(),
    )
    theta = net.init(rng) + 0.2 * rng.standard_normal(net.n_params)
    x = rng.standard_normal((6, 1, 1, 2) if constant else (6, 6, 6, 2)) + 0.3
    signals = fisher.signals(net, theta, np.broadcast_to(x, (6, 6, 6, 2)).copy())
    block = fisher.kfac(signals, reduce=True).blocks[0].to_dense()
    difference = error(block, fisher.block_diagonal(signals).blocks[0].to_dense())
    assert (difference < EXACT) if exact else (difference > FAR)
    correlated = fisher.fully_correlated(signals).blocks[0].to_dense()
    assert error(correlated, fisher.block_diagonal(signals).blocks[0].to_dense()) > FAR


def test_the_clip_bounds_predictions_only_without_momentum():
    """c / 2 nats, to second order; the velocity of momentum 0.9 adds up ten proposals."""
    clip, seen = 1e-4, {}
    at = example()
    for momentum in (0.0, 0.9):
        opt = optim.KFCPre(at.net, lr=1.0, momentum=momentum, clip=clip, clip_share=1)
        theta, state, kl = at.theta0, opt.init(at.theta0), []
        for step in range(20):
            after, state, info = opt.step(theta, state, (at.x, at.y), np.random.default_rng(step))
            if info["scale"] < 1:
                kl.append(at.net.kl(theta, after, at.x))
            theta = after
        seen[momentum] = max(kl)
    assert 0.95 * clip / 2 < seen[0.0] < 1.1 * clip / 2
    assert seen[0.9] > 50 * clip / 2


def test_only_the_damped_products_have_a_nearly_tridiagonal_inverse():
    """The table of block-tridiagonal.md: mean entries by distance from the diagonal blocks."""
    at, lam = example(), 1e-4
    signals = fisher.signals(at.net, at.theta, at.x).select([1, 2, 3, 4])
    parts, products = signals.slices, fisher.khatri_rao(signals).array
    damped = products.copy()
    for part, block in zip(parts, fisher.kfac(signals).damped(lam, "factored").blocks, strict=True):
        damped[part, part] = block.to_dense()
    identity = lam * np.eye(len(products))
    page = (ROOT / "docs" / "derivations" / "block-tridiagonal.md").read_text()
    for matrix in (damped, products + identity, fisher.exact(signals).array + identity):
        inverse = np.abs(np.linalg.inv(matrix))
        sizes = np.array([[inverse[row, column].mean() for column in parts] for row in parts])
        shares = [np.diagonal(sizes, distance).mean() / np.diagonal(sizes).mean() for distance in (1, 2, 3)]
        assert "| " + " | ".join(f"{share:.2f}" for share in shares) + " |" in page


def preconditioned(scale, exponent):
    """Three CG iterations on F' = J F J, preconditioned by diag(F')^exponent, mapped back: J d'."""
    rng = np.random.default_rng(0)
    R = rng.standard_normal((8, 8))
    F, b = R @ R.T + np.eye(8), rng.standard_normal(8)
    F, b = scale[:, None] * F * scale, scale * b
    inverse = np.diagonal(F) ** -exponent
    result = linalg.conjugate_gradients(F.__matmul__, b, 0, 3, lambda r: inverse * r)
    return scale * result.x


def test_only_the_inverse_of_the_diagonal_is_invariant_under_diagonal_maps():
    scale = np.random.default_rng(1).uniform(0.2, 5, 8)
    for exponent, invariant in ((1.0, True), (0.75, False)):
        here, there = (preconditioned(s, exponent) for s in (np.ones(8), scale))
        assert (error(there, here) < 1e-10) == invariant


def test_pi_minimizes_the_trace_of_the_surplus():
    """The surplus is positive semi-definite: its trace norm is its trace, and pi its minimum."""
    rng = np.random.default_rng(0)
    A, G = ((lambda R: R @ R.T)(rng.standard_normal((size, size))) for size in (4, 3))
    lam, pi = 0.3, pi_ratio(A, G)

    def surplus(share):
        damped = np.kron(A + share * lam**0.5 * np.eye(4), G + lam**0.5 / share * np.eye(3))
        return damped - np.kron(A, G) - lam * np.eye(12)

    assert np.linalg.eigvalsh(surplus(pi)).min() > 0
    assert all(np.trace(surplus(pi)) < np.trace(surplus(pi * factor)) for factor in (0.9, 0.99, 1.01, 1.1))
    close(np.kron(*factored_damping(A, G, lam)), np.kron(A, G) + lam * np.eye(12) + surplus(pi))
    close(np.trace(surplus(pi)), 2 * math.sqrt(lam * 3 * np.trace(A) * 4 * np.trace(G)))
