"""The predicted critical batch: against dense matrices, and against steps on a quadratic with known noise."""

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher
from minikfac.scaling import noise_scale
from oracles import close, random_psd

RNG = np.random.default_rng(0)
P, N = 6, 50
H, C = random_psd(RNG, P), random_psd(RNG, P)  # curvature; preconditioner
DRAWN = RNG.standard_normal((N, P)) @ random_psd(RNG, P) + RNG.standard_normal(P)
G, S = DRAWN.mean(0), np.cov(DRAWN.T, bias=True)


def apply(M: np.ndarray):
    return lambda v: M @ v


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_it_is_the_ratio_of_the_traces(curved: bool, preconditioned: bool) -> None:
    M, inverse = (H if curved else np.eye(P)), (np.linalg.inv(C) if preconditioned else np.eye(P))
    expected = np.trace(inverse @ M @ inverse @ S) / (G @ inverse @ M @ inverse @ G)
    product, precondition = apply(H) if curved else None, apply(inverse) if preconditioned else None
    close(noise_scale(DRAWN, G, product, precondition), expected, 1e-9)


@pytest.mark.parametrize("m", [1, 4, 16, 64])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_the_best_step_of_a_batch_makes_one_over_one_plus_B_over_m_of_the_progress(
    m: int, preconditioned: bool
) -> None:
    """h(theta) = g'd + d'Hd / 2 with the mean of m drawn gradients; the expectation by the moments of d."""
    inverse = np.linalg.inv(C) if preconditioned else np.eye(P)
    draws = DRAWN[np.random.default_rng(1).integers(0, N, (40_000, m))].mean(1) @ inverse.T
    slope, curvature = draws @ G, np.einsum("np,pq,nq->n", draws, H, draws)
    eps = slope.mean() / curvature.mean()  # the best in expectation
    progress = eps * slope - eps**2 / 2 * curvature
    u = inverse @ G
    whole = (G @ u) ** 2 / (u @ H @ u) / 2
    B = noise_scale(DRAWN, G, apply(H), apply(inverse))
    expected = whole / (1 + B / m)
    assert abs(progress.mean() - expected) < 5 * progress.std() / len(draws) ** 0.5


def test_a_preconditioner_of_the_curvature_changes_the_noise_that_counts() -> None:
    """Noise along sharp directions only: after one natural step less of it counts."""
    sharp, g = np.diag([100.0, 1.0]), np.array([1.0, 1.0])
    noise = np.array([[3.0, 0.0], [-3.0, 0.0]])
    close(noise_scale(g + noise, g, apply(sharp)), 900 / 101)
    close(noise_scale(g + noise, g, apply(sharp), apply(np.linalg.inv(sharp))), 0.09 / 1.01)


def test_of_a_net_with_matrix_free_products() -> None:
    rng = np.random.default_rng(2)
    net = mk.mlp([4, 5, 3])
    theta, x, y = net.init(rng), rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    signals = fisher.signals(net, theta, x, y, targets="data")
    D = np.concatenate([layer.gradients()[0] for layer in next(iter(signals))], axis=1)
    g, F = net.gradient(theta, x, y), fisher.exact(fisher.signals(net, theta, x)).array
    kfac = fisher.kfac(fisher.signals(net, theta, x)).inverse(0.1, "factored")
    inverse = kfac.to_dense()
    expected = np.trace(inverse @ F @ inverse @ np.cov(D.T, bias=True)) / (g @ inverse @ F @ inverse @ g)
    free = noise_scale(D, g, lambda v: fisher.product(net, theta, x) @ v, lambda v: kfac @ v)
    close(free, expected, 1e-8)


@pytest.mark.parametrize(
    ("gradients", "gradient", "message"),
    [
        (
            DRAWN[0],
            G,
            r"expected gradients of shape \(N, P\) and a mean of shape \(P,\), got \(6,\) and \(6,\)",
        ),
        (DRAWN, G[1:], r"got \(50, 6\) and \(5,\)"),
        (DRAWN, 0 * G, "expected a gradient along which the curvature is positive, got 0"),
    ],
)
def test_wrong_input_is_refused(gradients: np.ndarray, gradient: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_scale(gradients, gradient)
