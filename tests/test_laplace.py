"""Laplace: against dense posteriors, linear regression in closed form, and integrals by quadrature."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minikfac as mk
from minikfac import fisher, laplace, layers, outputs
from minikfac.laplace import Laplace
from oracles import SOLVE, close, error, random_net

CLOSED_FORM = 1e-10
KINDS: dict[str, Callable[[fisher.Signals], fisher.FisherMatrix]] = {
    "exact": fisher.exact,
    "block-diagonal": fisher.block_diagonal,
    "diagonal": fisher.diagonal,
    "K-FAC": fisher.kfac,
    "EKFAC": fisher.ekfac,
    "nearest Kronecker": fisher.nearest_kronecker,
    "low rank": lambda signals: fisher.low_rank(signals, 5),
}


@cache
def linear() -> SimpleNamespace:
    """Bayesian linear regression with two targets: the posterior and the evidence, in closed form."""
    rng = np.random.default_rng(0)
    x, delta, s2 = rng.standard_normal((30, 3)), 0.7, 0.25
    y = x @ rng.standard_normal((3, 2)) + 0.5 * rng.standard_normal((30, 2))
    phi = np.c_[x, np.ones(30)]

    def minimum(delta: float) -> np.ndarray:
        return np.linalg.solve(phi.T @ phi / s2 + delta * np.eye(4), phi.T @ y / s2).ravel()

    def evidence(delta: float) -> float:
        covariance = s2 * np.eye(30) + phi @ phi.T / delta
        squares = (y * np.linalg.solve(covariance, y)).sum()
        return -(squares + 2 * np.linalg.slogdet(2 * math.pi * covariance)[1]) / 2

    covariance = np.kron(np.linalg.inv(phi.T @ phi / s2 + delta * np.eye(4)), np.eye(2))
    net = mk.Network([layers.Dense(3, 2)], outputs.Gaussian())
    return SimpleNamespace(**locals())


@cache
def nonlinear(output: str = "categorical") -> SimpleNamespace:
    net, theta, x, y = random_net(np.random.default_rng(1), (3, 4, 3), output=output, n=20)
    return SimpleNamespace(net=net, theta=theta, x=x, y=y, signals=fisher.signals(net, theta, x))


def posterior(kind: str, of: SimpleNamespace, **settings: Any) -> Laplace:
    return Laplace(
        of.net, of.theta, KINDS[kind](of.signals), of.x, of.y, **{"prior_precision": 2.0} | settings
    )


# where it is exact ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "block-diagonal", "K-FAC", "nearest Kronecker"])
def test_bayesian_linear_regression(kind: str) -> None:
    """One layer under squared error: F is a Kronecker product, so all of these are exact."""
    of = linear()
    theta = of.minimum(of.delta)
    F = KINDS[kind](fisher.signals(of.net, theta, of.x))
    p = Laplace(of.net, theta, F, of.x, of.y, of.delta, of.s2)
    gradient = of.net.gradient(theta, of.x, of.y) + of.delta * of.s2 / 30 * theta
    assert abs(gradient).max() < CLOSED_FORM  # theta is the posterior's mean: the minimum with weight decay
    close(p.covariance_product(np.eye(8)), of.covariance, CLOSED_FORM)
    assert p.log_evidence() == pytest.approx(of.evidence(of.delta), rel=CLOSED_FORM)
    z, covariance = p.outputs(of.x[:5])
    close(z, of.phi[:5] @ theta.reshape(4, 2), CLOSED_FORM)
    variance = np.einsum("ni,ij,nj->n", of.phi[:5], of.covariance[::2, ::2], of.phi[:5])
    close(covariance, variance[:, None, None] * np.eye(2), CLOSED_FORM)


def test_a_diagonal_matrix_is_not_exact_there() -> None:
    of = linear()
    theta = of.minimum(of.delta)
    p = Laplace(
        of.net, theta, fisher.diagonal(fisher.signals(of.net, theta, of.x)), of.x, of.y, of.delta, of.s2
    )
    assert error(p.covariance_product(np.eye(8)), of.covariance) > 0.05
    assert p.log_evidence() < of.evidence(of.delta) - 0.05  # Hadamard: its determinant is too large


def test_prior_and_weights_in_turn_find_the_best_prior_of_the_linear_model() -> None:
    of, delta = linear(), 1.0
    for _ in range(20):
        theta = of.minimum(delta)
        F = fisher.exact(fisher.signals(of.net, theta, of.x))
        delta = Laplace(of.net, theta, F, of.x, of.y, delta, of.s2).with_best_prior().prior_precision
    grid = delta * np.exp(np.linspace(-1, 1, 2001))
    best = grid[np.argmax([of.evidence(at) for at in grid])]
    assert delta == pytest.approx(best, rel=2e-3)


# against the dense posterior --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", ["categorical", "gaussian"])
def test_every_kind_is_the_posterior_of_its_dense_matrix(kind: str, output: str) -> None:
    of = nonlinear(output)
    settings = {"noise_variance": 0.3} if output == "gaussian" else {}
    p = posterior(kind, of, **settings)
    size, s2 = of.net.n_params, p.noise_variance
    precision = 20 / s2 * p.F.to_dense() + 2.0 * np.eye(size)
    covariance = np.linalg.inv(precision)
    close(p.covariance_product(np.eye(size)), covariance, SOLVE)
    close(p.precision_product(np.eye(size)), precision)
    R = p._inverse.root_product(np.eye(size)) / p.scale**0.5
    close(R @ R.T, covariance, SOLVE)
    close(p._inverse.root_product(np.ones(size)), R.sum(1) * p.scale**0.5)
    constant = 20 * 3 / 2 * math.log(2 * math.pi * s2) if output == "gaussian" else 0.0
    likelihood = -20 * of.net.loss(of.theta, of.x, of.y) / s2 - constant
    prior = size / 2 * math.log(2.0) - of.theta @ of.theta  # without (2 pi)^(-P/2), which cancels
    evidence = likelihood + prior - np.linalg.slogdet(precision)[1] / 2
    assert p.log_evidence() == pytest.approx(evidence, rel=SOLVE)
    tape = of.net.forward(of.theta, of.x)
    J = np.stack([of.net.jvp(of.theta, tape, v) for v in np.eye(size)], axis=2)  # (N, C, P)
    close(p.outputs(of.x)[1], J @ covariance @ J.transpose(0, 2, 1), SOLVE)


def test_factored_damping_is_another_posterior() -> None:
    of = nonlinear()
    exact, factored = (posterior("K-FAC", of, method=method) for method in ("eigen", "factored"))
    eye = np.eye(of.net.n_params)
    damped = 20 * factored.F.damped(0.1, "factored").to_dense()
    close(factored.precision_product(eye), damped)
    close(factored.covariance_product(eye), np.linalg.inv(damped), SOLVE)
    R = factored._inverse.root_product(eye)
    close(R @ R.T / 20, np.linalg.inv(damped), SOLVE)
    assert error(factored.covariance_product(eye), exact.covariance_product(eye)) > 0.05
    assert factored.log_evidence() < exact.log_evidence()  # it adds to the precision


def test_a_matrix_that_is_known_by_products() -> None:
    of = nonlinear()
    dense = posterior("exact", of)
    p = replace(dense, F=fisher.product(of.net, of.theta, of.x))
    close(p.predict(of.x), dense.predict(of.x), SOLVE)
    with pytest.raises(ValueError, match="has no log-determinant"):
        p.log_evidence()


def test_block_tridiagonal_has_factored_damping() -> None:
    of = nonlinear("bernoulli")
    F = fisher.block_tridiagonal(of.signals)
    p = Laplace(of.net, of.theta, F, of.x, of.y, 2.0)
    covariance = np.linalg.inv(F.damped(0.1).to_dense()) / 20
    close(p.covariance_product(np.eye(of.net.n_params)), covariance, SOLVE)
    R = p._inverse.root_product(np.eye(of.net.n_params))
    close(R @ R.T / 20, covariance, SOLVE)


def test_images_in_pieces_and_batch_normalization(monkeypatch: pytest.MonkeyPatch) -> None:
    net = mk.Network(
        [layers.Conv2d(1, 2, 2), layers.BatchNorm(2), layers.Tanh(), layers.Flatten(), layers.Dense(8, 3)],
        outputs.Categorical(),
    )
    rng = np.random.default_rng(0)
    theta, x, y = net.init(rng), rng.standard_normal((6, 3, 3, 1)), rng.integers(0, 3, 6)
    stats = net.batch_stats(theta, x)
    F = fisher.kfac(fisher.signals(net, theta, x, stats=stats))
    p = Laplace(net, theta, F, x, y, stats=stats)
    tape = net.forward(theta, x, stats)
    J = np.stack([net.jvp(theta, tape, v) for v in np.eye(net.n_params)], axis=2)
    expected = J @ p.covariance_product(np.eye(net.n_params)) @ J.transpose(0, 2, 1)
    close(p.outputs(x)[1], expected, SOLVE)
    monkeypatch.setattr(laplace, "_NUMBERS", 2 * 3 * net.n_params)  # two images at a time
    close(p.outputs(x)[1], expected, SOLVE)


# samples and probabilities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "K-FAC"])
def test_samples_have_mean_and_covariance(kind: str) -> None:
    p, n = posterior(kind, nonlinear()), 4000
    R = np.linalg.cholesky(p.covariance_product(np.eye(p.net.n_params)))
    white = np.linalg.solve(R, (p.sample(n, np.random.default_rng(0)) - p.theta).T)
    assert abs(white.mean(1) * n**0.5).max() < 5
    moments = white @ white.T / n - np.eye(len(R))
    errors = np.sqrt((1 + np.eye(len(R))) / n)
    assert abs(moments / errors).max() < 5


def bernoulli(n_samples: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The mean probability of a net with one Bernoulli unit, and the same by quadrature."""
    net, theta, x, y = random_net(np.random.default_rng(3), (2, 3, 1), output="bernoulli", n=15)
    F = fisher.exact(fisher.signals(net, theta, x))
    p = Laplace(net, 3 * theta, F, x, y, 0.3)
    z, covariance = p.outputs(x)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    at = z + covariance[:, 0] ** 0.5 * nodes
    expected = (weights / weights.sum() / (1 + np.exp(-at))).sum(1)
    return p.predict(x, n_samples, n_samples and np.random.default_rng(0))[:, 0], expected


def test_the_mean_probability_by_the_probit() -> None:
    approximate, expected = bernoulli(None)
    assert 1e-4 < abs(approximate - expected).max() < 0.02


def test_the_mean_probability_by_samples() -> None:
    n = 4000
    sampled, expected = bernoulli(n)
    assert (abs(sampled - expected) / np.sqrt(expected * (1 - expected) / n)).max() < 5
    assert abs(sampled - expected).max() > 1e-6


def test_probabilities_of_classes() -> None:
    of = nonlinear()
    p = posterior("K-FAC", of)
    z, covariance = p.outputs(of.x)
    scaled = z / np.sqrt(1 + math.pi / 8 * covariance.diagonal(axis1=1, axis2=2))
    expected = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
    close(p.predict(of.x), expected)
    close(p.predict(of.x, 500, np.random.default_rng(0)).sum(1), np.ones(20))
    certain = replace(p, prior_precision=1e9)
    close(certain.predict(of.x), of.net.predict(of.theta, of.x), 1e-6)


def test_the_mean_of_a_gaussian_is_the_net() -> None:
    of = nonlinear("gaussian")
    close(posterior("K-FAC", of).predict(of.x), of.net.predict(of.theta, of.x))


# the prior --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "diagonal", "K-FAC", "low rank"])
def test_the_best_prior_is_that_of_a_grid(kind: str) -> None:
    p = posterior(kind, nonlinear())
    best = p.with_best_prior()
    grid = best.prior_precision * np.exp(np.linspace(-6, 6, 241))
    values = np.array([p.log_evidence(delta) for delta in grid])
    assert values.argmax() == 120 and best.log_evidence() == pytest.approx(values.max())
    assert (np.diff(values, 2) < 0).all()  # concave in log delta
    assert best.prior_precision < p.net.n_params / (p.theta @ p.theta)


# bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior_precision": -1.0}, "expected a finite prior_precision > 0, got -1"),
        ({"prior_precision": 0.0}, "expected a finite prior_precision > 0, got 0"),
        ({"prior_precision": math.inf}, "expected a finite prior_precision > 0, got inf"),
        ({"noise_variance": 0.5}, "expected a noise_variance for a Gaussian output only, got Categorical"),
        ({"y": np.zeros(20)}, "expected whole-number labels"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(posterior("exact", nonlinear()), **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damped_matrix_is_rejected(kind: str) -> None:
    p = posterior(kind, nonlinear())
    damped = p.F.damped(0.1)
    for F in (damped, damped.damped(0.0), 1.0 * damped if kind != "nearest Kronecker" else damped):
        with pytest.raises(ValueError, match=r"expected a matrix without damping, got 0\.1; the prior takes"):
            replace(p, F=F)
    assert replace(p, F=p.F.damped(0.0)).log_evidence() == pytest.approx(p.log_evidence())


def test_products_and_chains_know_their_damping() -> None:
    of = nonlinear("bernoulli")
    for F in (fisher.product(of.net, of.theta, of.x), fisher.block_tridiagonal(of.signals)):
        with pytest.raises(ValueError, match=r"expected a matrix without damping, got 0\.3"):
            Laplace(of.net, of.theta, F.damped(0.1).damped(0.2), of.x, of.y)
    both = fisher.exact(of.signals).damped(0.1) + fisher.exact(of.signals)
    with pytest.raises(ValueError, match=r"expected a matrix without damping, got 0\.1"):
        Laplace(of.net, of.theta, both, of.x, of.y)


def test_what_is_no_matrix_of_this_net() -> None:
    of, other = nonlinear(), linear()
    with pytest.raises(TypeError, match=r"expected a matrix of minikfac\.fisher, got ndarray"):
        Laplace(of.net, of.theta, np.eye(31), of.x, of.y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected a matrix \(8, 8\) of this net, got \(31, 31\)"):
        Laplace(other.net, other.minimum(1.0), posterior("exact", of).F, other.x, other.y)
    with pytest.raises(TypeError, match="expected prior_precision to be a real number"):
        posterior("exact", of, prior_precision="1")


def test_bad_arguments_of_methods() -> None:
    p = posterior("exact", nonlinear())
    with pytest.raises(TypeError, match=r"expected rng = numpy\.random\.default_rng\(seed\), got 0"):
        p.sample(3, 0)
    with pytest.raises(ValueError, match="expected n_samples to be a whole number >= 1, got 0"):
        p.sample(0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="expected a finite prior_precision > 0, got -1"):
        p.log_evidence(-1.0)
    with pytest.raises(ValueError, match="expected weights other than 0 to choose a prior for, got"):
        replace(p, theta=0 * p.theta).with_best_prior()


# calibration ------------------------------------------------------------------------------------------------


def test_calibration_error_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.5, 0.5, 0.5], 200)
    p[0] = [1, 0, 0]  # the last bin, its right edge
    y = rng.integers(0, 3, 200)
    expected = 0.0
    for low in range(10):
        rows = [n for n in range(200) if low / 10 <= p[n].max() and (p[n].max() < (low + 1) / 10 or low == 9)]
        if rows:
            right = np.mean([p[n].argmax() == y[n] for n in rows])
            expected += len(rows) / 200 * abs(right - np.mean([p[n].max() for n in rows]))
    assert laplace.calibration_error(p, y, 10) == pytest.approx(expected)
    assert laplace.calibration_error(p, np.eye(3)[y], 10) == laplace.calibration_error(p, y, 10)
    assert laplace.calibration_error(np.eye(3)[y], y) == 0


def test_calibration_needs_probabilities() -> None:
    with pytest.raises(ValueError, match="expected rows of p that are probabilities and sum to 1"):
        laplace.calibration_error(np.ones((3, 2)), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"expected labels of shape \(3,\)"):
        laplace.calibration_error(np.full((3, 2), 0.5), np.zeros(2, int))
