"""Laplace: a Fisher matrix as the precision of a Gaussian over the weights [MacKay92; DKIEBH21].

With a prior N(0, I / delta) on the P weights, the posterior to second order around trained weights theta is

    p(w | data) ~ N(theta, Sigma),    Sigma^{-1} = (N / s2) F + delta I = (N / s2) (F + lambda I)

F is a mean over examples and the posterior a product over N of them, hence N; s2 is the noise variance of a
Gaussian output, and 1 for others. lambda = delta s2 / N: the damping of optimization is a prior. Any matrix
of :mod:`minikfac.fisher` will do as F: exact, block-diagonal, diagonal, K-FAC [RBB18], ...

The net linearized in its weights, z + J (w - theta), has outputs with covariance J Sigma J^T, and

    log p(data) ~ log p(data | theta) + log p(theta) + (P / 2) log(2 pi) + (1 / 2) log det Sigma

is the evidence for a prior: the larger, the better it explains the data.

Exact for a net that is linear in its weights, under squared error, if F is exact and theta minimizes the
loss with weight decay, (1 / N) sum_n loss_n + (lambda / 2) |theta|^2. Elsewhere not, for up to three
reasons: the posterior is not Gaussian, F is not the Hessian of the loss, and an approximation is not F.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import scipy.optimize

from .backend import Array, array_module, check_generator, real_array, real_number, whole_number
from .display import ShownByFields
from .fisher import FisherMatrix, Operator, signals
from .linalg.psd import resolution
from .network import Network
from .network.outputs import Categorical, Gaussian

_NUMBERS = 2**24
"""About how many numbers of the Jacobian J are formed at once."""


@dataclass(frozen=True, eq=False, repr=False)
class Laplace(ShownByFields):
    """A Gaussian over the weights of a net, with mean theta.

    Attributes:
        net: the network.
        theta: trained weights, (P,).
        F: a curvature matrix (P, P) at theta without damping, of all or some of the examples.
        x, y: the N examples that theta was trained on.
        prior_precision: delta > 0.
        noise_variance: s2 > 0, of a Gaussian output; the loss of the package is that for 1.
        method: how to damp F, where there is a choice; "factored" makes K-FAC's posterior that of [RBB18].
        stats: running statistics of batch normalization; a net that has some needs them.
        log_likelihood: log p(data | theta), in nats.

    Raises:
        ValueError: on numbers that are not positive, a matrix that is damped or of another net, and what
            ``Network.loss`` rejects.
        TypeError: on anything but a matrix of ``minikfac.fisher``.
    """

    net: Network
    theta: Array
    F: FisherMatrix
    x: Array
    y: Array
    prior_precision: float = 1.0
    noise_variance: float = 1.0
    method: str | None = None
    stats: Sequence[Array] | None = None
    log_likelihood: float = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.F, FisherMatrix):
            raise TypeError(f"expected a matrix of minikfac.fisher, got {type(self.F).__name__}")
        if self.F.shape[0] != self.net.n_params:
            size = self.net.n_params
            raise ValueError(f"expected a matrix ({size}, {size}) of this net, got {self.F.shape}")
        if (damping := self.F.damping) > 0:
            raise ValueError(f"expected a matrix without damping, got {damping:g}; the prior takes its place")
        for name in ("prior_precision", "noise_variance"):
            object.__setattr__(self, name, _positive(getattr(self, name), name))
        gaussian = isinstance(self.net.output, Gaussian)
        if self.noise_variance != 1 and not gaussian:
            raise ValueError(f"expected a noise_variance for a Gaussian output only, got {self.net.output}")
        loss = self.net.loss(self.theta, self.x, self.y, self.stats) / self.noise_variance
        if gaussian:  # whose constant the loss leaves out
            loss += self.net.n_outputs(self.x) / 2 * math.log(2 * math.pi * self.noise_variance)
        object.__setattr__(self, "log_likelihood", -len(self.x) * loss)

    @property
    def scale(self) -> float:
        """N / s2, which the mean F is multiplied by."""
        return len(self.x) / self.noise_variance

    @cached_property
    def _inverse(self) -> Operator:
        """(F + lambda I)^{-1}, that is, Sigma times N / s2."""
        return self.F.inverse(self.prior_precision / self.scale, self.method)

    def covariance_product(self, v: Array) -> Array:
        """Sigma v, for v (P,) or (P, m)."""
        return (self._inverse @ v) / self.scale

    def precision_product(self, v: Array) -> Array:
        """Sigma^{-1} v, for v (P,) or (P, m)."""
        return self.scale * (self.F.damped(self.prior_precision / self.scale, self.method) @ v)

    def sample(self, n_samples: int, rng: Any) -> Array:
        """Draw weights (n_samples, P); rng is a ``numpy.random.Generator``."""
        check_generator(rng)
        noise = rng.standard_normal((whole_number(n_samples, "n_samples"), self.net.n_params))
        noise = array_module(self.theta).asarray(noise, dtype=self.theta.dtype)
        return self.theta + (self._inverse.root_product(noise.T) / self.scale**0.5).T

    def outputs(self, x: Array) -> tuple[Array, Array]:
        """Mean (N, C) and covariance J Sigma J^T (N, C, C) of z for inputs x, without noise.

        N C solves with the precision, and J is formed for some examples at a time.
        """
        z = self.net.natural_parameters(self.theta, x, self.stats)
        n_units, P = z.shape[1], self.net.n_params
        # The Fisher matrix of a Gaussian output is J^T J: its signals g are derivatives of z itself.
        plain = Network(self.net.layers, Gaussian())
        chunks = signals(plain, self.theta, x, batch_size=max(1, _NUMBERS // (n_units * P)), stats=self.stats)
        xp, covariances = array_module(z), []
        for chunk in chunks:
            J = xp.concatenate([layer.gradients() for layer in chunk], axis=2)  # (C, n, P)
            SJ = self.covariance_product(J.reshape(-1, P).T).reshape(P, n_units, -1)
            covariances.append(J.transpose(1, 0, 2) @ SJ.transpose(2, 0, 1))
        return z, xp.concatenate(covariances)

    def predict(self, x: Array, n_samples: int | None = None, rng: Any = None) -> Array:
        """Mean of the target under the posterior, (N, C): probabilities, or the Gaussian's mean.

        By MacKay's approximation, the mean of logistic(z) ~ logistic(z / sqrt(1 + pi var(z) / 8)), which for
        a softmax divides each logit so [MacKayClass92]; with n_samples, as the mean over linearized nets with
        drawn weights, which is exact in the limit.
        """
        if n_samples is None:
            z, covariance = self.outputs(x)
            if isinstance(self.net.output, Gaussian):
                return z
            variance = array_module(z).einsum("ncc->nc", covariance)
            return self.net.output.mean(z / (1 + math.pi / 8 * variance) ** 0.5)
        tape = self.net.forward(self.theta, x, self.stats)
        steps = self.sample(n_samples, rng) - self.theta
        p = 0 * tape.z
        for v in steps:
            p += self.net.output.mean(tape.z + self.net.jvp(self.theta, tape, v)) / n_samples
        return p

    def log_evidence(self, prior_precision: float | None = None) -> float:
        """log p(data), in nats, for this prior or another one with the same theta."""
        given = self.prior_precision if prior_precision is None else prior_precision
        delta, P = _positive(given, "prior_precision"), self.net.n_params
        logdet = P * math.log(self.scale) + self.F.logdet(delta / self.scale, self.method)
        return self.log_likelihood + (P * math.log(delta) - delta * self._theta_square - logdet) / 2

    @property
    def _theta_square(self) -> float:
        return float(self.theta @ self.theta)

    def with_best_prior(self) -> Laplace:
        """The posterior with the prior precision of the largest evidence, at the same theta.

        The evidence is a concave function of log delta, and its maximum is below P / |theta|^2. Train on with
        that prior as weight decay, and repeat, for the maximum over both.

        Raises:
            ValueError: for theta = 0, which any large precision explains.
        """
        if not self._theta_square:
            raise ValueError("expected weights other than 0 to choose a prior for, got theta = 0")
        most = self.net.n_params / self._theta_square
        least = 10 * self.scale * resolution(self.F.like) * float(self.F.diagonal().max())
        ready = replace(self, F=self.F.damped(0.0, self.method))  # K-FAC: in its eigenbasis
        best = scipy.optimize.minimize_scalar(
            lambda log_delta: -ready.log_evidence(math.exp(log_delta)),
            bounds=(math.log(min(max(least, 1e-12 * most), most / 2)), math.log(most)),
            method="bounded",
        )
        return replace(self, prior_precision=math.exp(best.x))


def _positive(value: Any, name: str) -> float:
    value = real_number(value, name)
    if not 0 < value < math.inf:
        raise ValueError(f"expected a finite {name} > 0, got {value:g}")
    return value


def calibration_error(p: Array, y: Array, n_bins: int = 15) -> float:
    """Expected calibration error: how far confidence is from accuracy, on average over bins [GPSW17].

    Args:
        p: probabilities of the classes, (N, C).
        y: labels (N,), or probabilities (N, C) of which the most probable label counts.
        n_bins: of confidence, the largest probability of an example; all of the same width.

    Raises:
        ValueError: on labels that do not fit, or rows of p that do not sum to 1.
    """
    p = real_array(p, "p")
    Categorical().check(y, *p.shape)
    xp = array_module(p, y, names="p, y")
    y = y.argmax(1) if y.ndim == 2 else y
    if bool((p < 0).any()) or bool(abs(p.sum(1) - 1).max() > 1e-3):
        raise ValueError("expected rows of p that are probabilities and sum to 1, got others")
    confidence = p.max(1)
    bins = xp.minimum(confidence * whole_number(n_bins, "n_bins"), n_bins - 1).astype(int)
    members = bins[:, None] == xp.arange(n_bins)  # (N, bins)
    surplus = ((p.argmax(1) == y) - confidence) @ members  # accuracy - confidence, times examples
    return float(abs(surplus).sum()) / len(y)
