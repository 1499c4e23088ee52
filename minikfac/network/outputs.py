"""Output distributions: distributions of the target whose natural parameters are the last pre-activations z.

                 p(y | z)                  -log p(y | z)              mean         Fisher matrix of z
    Categorical  softmax(z)_y              logsumexp(z) - z_y         softmax(z)   diag(p) - p p^T
    Bernoulli    prod p_c^y_c (1-p_c)^...  sum softplus(z_c) - y z_c  logistic(z)  diag(p (1 - p))
    Gaussian     N(y; z, I)                1/2 ||y - z||^2 + const    z            I

All three are exponential families with natural parameters z, so d(-log p)/dz = mean - y, and the second
derivative does not depend on y. It is therefore the Fisher matrix of z, and the generalized Gauss-Newton
matrix of the loss is the Fisher matrix of the net [MG15, sec. 2.2]. A fourth, CategoricalPerPosition, is a
categorical distribution at each of T positions, z (N, T C).

Losses are in nats, per example, summed over the C output units and never divided by N. The Gaussian's
constant C/2 log(2 pi) is omitted.

A target consists of independent terms: one label, C units, or T labels. Where ``weights`` are given, (N,) or
(N, terms), losses, their derivatives and Fisher matrices are multiplied by them, term by term.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from ..backend import (
    Array,
    array_module,
    as_array,
    check_array,
    check_generator,
    label_advice,
    on_host,
    to_host,
)
from .layers.base import check_positive
from .layers.pointwise import logistic, softplus


class Output(ABC):
    """A distribution of targets y given natural parameters z (N, C)."""

    @abstractmethod
    def terms(self, z: Array, y: Array) -> Array:
        """Negative log-likelihood of each independent term of a target, (N, terms), in nats."""

    def n_terms(self, n_units: int) -> int:
        """How many independent terms a target has: the C units, or 1."""
        return n_units

    def nll(self, z: Array, y: Array) -> Array:
        """Negative log-likelihood of each example, (N,), in nats."""
        return self.terms(z, y).sum(-1)

    @abstractmethod
    def errors(self, z: Array, y: Array) -> Array:
        """Error of each example, (N,): 1 for a wrong label (the share of wrong ones), or squared error."""

    @abstractmethod
    def mean(self, z: Array) -> Array:
        """Mean of the (one-hot) target, (N, C): probabilities, or the Gaussian's mean."""

    @abstractmethod
    def encode(self, y: Array, z: Array) -> Array:
        """Targets as sufficient statistics (N, C): one-hot labels, or y itself."""

    def gradient(self, z: Array, y: Array, weights: Array | None = None) -> Array:
        """d(-log p(y | z)) / dz = mean - y, (N, C), per example."""
        return weighted(self.mean(z) - self.encode(y, z), weights)

    def hessian_product(self, z: Array, y: Array, u: Array, weights: Array | None = None) -> Array:
        """Second derivative of -log p(y | z) with respect to z, times u (N, C), independent of y here."""
        return self.fisher_product(z, u, weights)

    def fisher_product(self, z: Array, u: Array, weights: Array | None = None) -> Array:
        """The Fisher matrix of z times u (N, C), example by example."""
        return weighted(self._variance_product(self.mean(z), u), weights)

    @abstractmethod
    def _variance_product(self, mean: Array, u: Array) -> Array:
        """d mean / dz times u, (N, C)."""

    @abstractmethod
    def fisher_root(self, z: Array) -> Array:
        """Square root of the output's Fisher matrix: b (K, N, C) with sum_k b_k b_k^T = fisher(z)."""

    def fisher(self, z: Array) -> Array:
        """Fisher matrix of z, (N, C, C): the covariance of d log p / dz under the model."""
        b = self.fisher_root(z)
        return array_module(z).einsum("knc,knd->ncd", b, b)

    @abstractmethod
    def kl(self, z1: Array, z2: Array) -> Array:
        """KL( p(. | z1) || p(. | z2) ) of each example, (N,), in nats."""

    @abstractmethod
    def noise(self, rng: Any, n: int, n_samples: int, n_units: int) -> Array:
        """Draw on the host the random numbers that ``sample`` turns into targets: (n, n_samples, 1 or C).

        Chunks of the examples, and workers, use their rows of it, so that targets depend on the seed
        and not on the division of the work.
        """

    @abstractmethod
    def transform_noise(self, z: Array, noise: Array) -> Array:
        """Turn noise (N, n_samples, ...) into targets (n_samples, N) or (n_samples, N, C)."""

    def sample(self, z: Array, rng: Any) -> Array:
        """Draw one target per example from the model: (N,) labels or (N, C) values.

        Args:
            z: (N, C).
            rng: a ``numpy.random.Generator``.

        Raises:
            TypeError: if rng is not a generator but, for example, a seed.
        """
        check_generator(rng)
        return self.transform_noise(z, self.noise(rng, len(z), 1, z.shape[1]))[0]

    def check(self, y: Array, n: int, n_units: int) -> None:
        """Reject targets that this distribution does not allow.

        On a device values are not checked, because that would stall the queue. Instead an invalid target
        makes its loss NaN (:meth:`losses`), and :meth:`check_values` raises the error.

        Raises:
            ValueError: with the expected and the actual targets.
            TypeError: if y is not an array.
        """
        self.check_form(y, n, n_units)
        if on_host(y):
            self.check_values(y, n_units)

    @abstractmethod
    def check_form(self, y: Array, n: int, n_units: int) -> None:
        """Reject targets of the wrong type or shape."""

    @abstractmethod
    def check_values(self, y: Array, n_units: int) -> None:
        """Reject targets with values that this distribution does not allow."""

    @abstractmethod
    def has(self, y: Array, n_units: int) -> Array:
        """Whether each target is in the distribution's support, (N,), bool."""

    def losses(self, z: Array, y: Array, weights: Array | None = None) -> Array:
        """Like :meth:`nll`, but weighted, and on a device NaN for targets that are not allowed."""
        xp = array_module(z, y, names="the outputs z, the targets y")
        nll = weighted(self.terms(z, y), weights).sum(-1)
        return nll if on_host(y) else xp.where(self.has(y, z.shape[1]), nll, xp.nan)

    def check_weights(self, weights: Any, like: Array, n: int, n_units: int) -> Array | None:
        """Return weights as (N, 1) or (N, terms) in the dtype and on the device of ``like``; None for none.

        Raises:
            ValueError: on other shapes, negative or non-finite weights, or none above 0.
        """
        if weights is None:
            return None
        xp, weights, terms = array_module(like), as_array(weights, "weights"), self.n_terms(n_units)
        if weights.dtype.kind not in "biuf":
            raise ValueError(f"expected weights of a real dtype, got {weights.dtype}")
        if weights.shape not in ((n,), (n, terms)):
            other = f" or ({n}, {terms})" if terms > 1 else ""
            raise ValueError(f"expected weights of shape ({n},){other}, got {weights.shape}")
        if on_host(weights) and not (0 <= weights.min() <= weights.max() < math.inf and weights.any()):
            low, high = float(weights.min()), float(weights.max())
            raise ValueError(f"expected finite weights >= 0, not all 0, got values from {low:g} to {high:g}")
        return xp.asarray(weights.reshape(n, -1), dtype=like.dtype)


def weighted(values: Array, weights: Array | None) -> Array:
    """Multiply values (..., N, C), or one per term (..., N, terms), by weights (N, 1) or (N, terms)."""
    if weights is None:
        return values
    return values * weights.repeat(values.shape[-1] // weights.shape[1], axis=1)


@dataclass(frozen=True)
class Categorical(Output):
    """One of C classes, p = softmax(z); targets are whole-number labels (N,) or probabilities q (N, C).

    The loss of a row q is the mean over its labels, -sum_c q_c log p_c, as for smoothed labels or another
    net's predictions; -log p_y for a label y is that of a one-hot row.
    """

    def _log_p(self, z: Array) -> Array:
        shifted = z - z.max(-1, keepdims=True)
        xp = array_module(z)
        return shifted - xp.log(xp.exp(shifted).sum(-1, keepdims=True))

    def terms(self, z: Array, y: Array) -> Array:
        if y.dtype.kind == "f":
            return -(self.encode(y, z) * self._log_p(z)).sum(-1, keepdims=True)
        return -self._log_p(z)[array_module(z).arange(len(z)), y][:, None]

    def n_terms(self, n_units: int) -> int:
        return 1

    def errors(self, z: Array, y: Array) -> Array:
        best = y.argmax(1) if y.ndim == 2 else y  # of probabilities, the most probable label
        wrong: Array = z.argmax(1) != best
        return wrong

    def mean(self, z: Array) -> Array:
        return array_module(z).exp(self._log_p(z))

    def encode(self, y: Array, z: Array) -> Array:
        xp = array_module(z)
        if y.dtype.kind == "f":
            return y.astype(z.dtype, copy=False)
        return (y[..., None] == xp.arange(z.shape[-1])).astype(z.dtype)

    def _variance_product(self, mean: Array, u: Array) -> Array:
        return mean * (u - (mean * u).sum(-1, keepdims=True))

    def fisher_root(self, z: Array) -> Array:
        """K = C columns sqrt(p_k) (p - e_k): the derivative for target k, weighted by its probability."""
        xp = array_module(z)
        p = self.mean(z)
        p_minus_targets = p - xp.eye(z.shape[1], dtype=z.dtype)[:, None, :]  # (K, N, C)
        return xp.sqrt(p.T)[:, :, None] * p_minus_targets

    def kl(self, z1: Array, z2: Array) -> Array:
        log_p = self._log_p(z1)
        return (array_module(z1).exp(log_p) * (log_p - self._log_p(z2))).sum(-1)

    def noise(self, rng: Any, n: int, n_samples: int, n_units: int) -> Array:
        return rng.random((n, n_samples, 1))

    def transform_noise(self, z: Array, noise: Array) -> Array:
        # float64, so that cumulative probabilities end at 1; counting keeps labels below C
        xp = array_module(z, noise)
        cumulated = self.mean(z.astype(xp.float64)).cumsum(-1)
        u = noise[..., 0] * cumulated[:, -1:]  # (N, n_samples)
        return (u[:, :, None] >= cumulated[:, None, :-1]).sum(-1).T

    def check_form(self, y: Array, n: int, n_units: int) -> None:
        check_array(y, "labels")
        if n_units < 2:
            raise ValueError(
                "expected at least two outputs, one for each class, got 1, whose probability is always 1; "
                "for two classes use two outputs, or output 'bernoulli' with targets (N, 1)"
            )
        if y.shape == (n, n_units) and y.dtype.kind == "f":
            return
        if y.shape != (n,) or n == 0:
            advice = f"; probabilities have shape ({n}, {n_units})" if y.ndim == 2 and n else ""
            if y.shape == (n, n_units):
                advice = "; if each row is one-hot, labels are y.argmax(1)"
            elif y.shape == (n, 1):
                advice = "; labels are y[:, 0]"
            raise ValueError(f"expected labels of shape ({n or 'N'},), got {y.shape}{advice}")
        if y.dtype.kind not in "iu":
            advice = "; convert labels with y.astype(int), or use output 'gaussian' for real targets"
            raise ValueError(f"expected whole-number labels of an integer dtype, got {y.dtype}{advice}")

    def check_values(self, y: Array, n_units: int) -> None:
        if y.dtype.kind == "f":
            wrong = ~self.has(y, n_units)
            if bool(wrong.any()):
                row = y[int(wrong.argmax())]
                raise ValueError(
                    f"expected rows of probabilities >= 0 that sum to 1, got {int(wrong.sum())} others among "
                    f"{len(y)}, the first with sum {float(row.sum()):g} and least entry {float(row.min()):g}"
                )
            return
        low, high = int(to_host(y.min())), int(to_host(y.max()))
        if low < 0 or high >= n_units:
            advice = label_advice(low, high, n_units)
            raise ValueError(f"expected labels in 0..{n_units - 1}, got values from {low} to {high}{advice}")

    def has(self, y: Array, n_units: int) -> Array:
        if y.dtype.kind == "f":
            rounding = max(1e-5, 10 * float(array_module(y).finfo(y.dtype).eps))
            return (y >= 0).all(-1) & (abs(y.sum(-1) - 1) <= rounding)
        return (y >= 0) & (y < n_units)


@dataclass(frozen=True)
class CategoricalPerPosition(Output):
    """One of C classes at each of T positions, of a sequence or an image; targets are labels (N, T).

    z is (N, T C): what a Flatten makes of (N, T, C) or (N, H, W, C), positions row by row. The loss of an
    example is the sum over its positions; those to be ignored have weight 0, in ``weights`` (N, T).

    Attributes:
        positions: T.
    """

    positions: int

    def __post_init__(self) -> None:
        check_positive("CategoricalPerPosition", positions=self.positions)

    def _apart(self, z: Array) -> Array:
        """z (N, T C) -> (N T, C)."""
        self.check_units(z.shape[-1])
        return z.reshape(len(z) * self.positions, -1)

    def check_units(self, n_units: int) -> None:
        """Reject a number of outputs that is not T times C."""
        if n_units % self.positions:
            raise ValueError(f"expected {self.positions} x C outputs, C for each position, got {n_units}")

    def terms(self, z: Array, y: Array) -> Array:
        return Categorical().terms(self._apart(z), y.reshape(-1)).reshape(y.shape)

    def n_terms(self, n_units: int) -> int:
        return self.positions

    def errors(self, z: Array, y: Array) -> Array:
        return Categorical().errors(self._apart(z), y.reshape(-1)).reshape(y.shape).mean(-1)

    def mean(self, z: Array) -> Array:
        return Categorical().mean(self._apart(z)).reshape(z.shape)

    def encode(self, y: Array, z: Array) -> Array:
        one_hot = Categorical().encode(y, z[..., : z.shape[-1] // self.positions])
        return one_hot.reshape(*y.shape[:-1], z.shape[-1])

    def _variance_product(self, mean: Array, u: Array) -> Array:
        return Categorical()._variance_product(self._apart(mean), self._apart(u)).reshape(u.shape)

    def fisher_root(self, z: Array) -> Array:
        """K = T C columns, each of one position and one label."""
        xp, t = array_module(z), self.positions
        root = Categorical().fisher_root(self._apart(z)).reshape(-1, len(z), t, z.shape[1] // t)
        alone = xp.eye(t, dtype=z.dtype)[:, None, None, :, None] * root  # (T, C, N, T, C)
        return alone.reshape(z.shape[1], *z.shape)

    def kl(self, z1: Array, z2: Array) -> Array:
        return Categorical().kl(self._apart(z1), self._apart(z2)).reshape(len(z1), -1).sum(-1)

    def noise(self, rng: Any, n: int, n_samples: int, n_units: int) -> Array:
        return rng.random((n, self.positions, n_samples, 1))

    def transform_noise(self, z: Array, noise: Array) -> Array:
        labels = Categorical().transform_noise(self._apart(z), noise.reshape(-1, *noise.shape[2:]))
        return labels.reshape(-1, len(z), self.positions)

    def check_form(self, y: Array, n: int, n_units: int) -> None:
        check_array(y, "labels")
        self.check_units(n_units)
        if y.shape != (n, self.positions) or n == 0:
            raise ValueError(f"expected labels of shape ({n or 'N'}, {self.positions}), got {y.shape}")
        Categorical().check_form(y.reshape(-1), y.size, n_units // self.positions)

    def check_values(self, y: Array, n_units: int) -> None:
        Categorical().check_values(y, n_units // self.positions)

    def has(self, y: Array, n_units: int) -> Array:
        return array_module(y).all(Categorical().has(y, n_units // self.positions), axis=-1)


class _RealTargets(Output):
    """Real targets (N, C), used unchanged."""

    def errors(self, z: Array, y: Array) -> Array:
        return ((self.mean(z) - y) ** 2).sum(-1)

    def encode(self, y: Array, z: Array) -> Array:
        return y.astype(z.dtype, copy=False)

    def check_form(self, y: Array, n: int, n_units: int) -> None:
        check_array(y, "targets")
        kind = type(self).__name__
        if y.shape != (n, n_units) or n == 0:
            raise ValueError(f"expected {kind} targets of shape ({n or 'N'}, {n_units}), got {y.shape}")
        if y.dtype.kind not in "biuf":
            raise ValueError(f"expected {kind} targets of a real dtype, got {y.dtype}")

    def check_values(self, y: Array, n_units: int) -> None:
        if not bool(array_module(y).isfinite(y).all()):
            raise ValueError(f"expected finite {type(self).__name__} targets, got NaN or infinite values")


@dataclass(frozen=True)
class Bernoulli(_RealTargets):
    """C independent yes-or-no units, p = logistic(z); targets (N, C) in [0, 1]."""

    def terms(self, z: Array, y: Array) -> Array:
        return softplus(z) - self.encode(y, z) * z

    def mean(self, z: Array) -> Array:
        return logistic(z)

    def _variance_product(self, mean: Array, u: Array) -> Array:
        return mean * (1 - mean) * u

    def fisher_root(self, z: Array) -> Array:
        """K = C columns sqrt(p_k (1 - p_k)) e_k."""
        xp = array_module(z)
        p = self.mean(z)
        return xp.eye(z.shape[1], dtype=z.dtype)[:, None, :] * xp.sqrt(p * (1 - p))

    def kl(self, z1: Array, z2: Array) -> Array:
        # log p = -softplus(-z), log(1 - p) = -softplus(z) avoid cancellation
        yes = self.mean(z1) * (softplus(-z2) - softplus(-z1))
        no = self.mean(-z1) * (softplus(z2) - softplus(z1))
        return (yes + no).sum(-1)

    def noise(self, rng: Any, n: int, n_samples: int, n_units: int) -> Array:
        return rng.random((n, n_samples, n_units))

    def transform_noise(self, z: Array, noise: Array) -> Array:
        p = self.mean(z)
        return (noise < p[:, None, :]).swapaxes(0, 1).astype(z.dtype)

    def check_values(self, y: Array, n_units: int) -> None:
        super().check_values(y, n_units)
        low, high = float(y.min()), float(y.max())
        if low < 0 or high > 1:
            raise ValueError(f"expected Bernoulli targets in [0, 1], got values from {low:g} to {high:g}")

    def has(self, y: Array, n_units: int) -> Array:
        return array_module(y).all((y >= 0) & (y <= 1), axis=-1)


@dataclass(frozen=True)
class Gaussian(_RealTargets):
    """C real values with unit variance around z; targets (N, C). The loss is 1/2 ||y - z||^2."""

    def terms(self, z: Array, y: Array) -> Array:
        return 0.5 * (self.encode(y, z) - z) ** 2

    def mean(self, z: Array) -> Array:
        return z

    def _variance_product(self, mean: Array, u: Array) -> Array:
        return u

    def fisher_root(self, z: Array) -> Array:
        """K = C columns e_k."""
        xp = array_module(z)
        return xp.eye(z.shape[1], dtype=z.dtype)[:, None, :] * xp.ones_like(z)

    def kl(self, z1: Array, z2: Array) -> Array:
        return 0.5 * ((z1 - z2) ** 2).sum(-1)

    def noise(self, rng: Any, n: int, n_samples: int, n_units: int) -> Array:
        return rng.standard_normal((n, n_samples, n_units))

    def transform_noise(self, z: Array, noise: Array) -> Array:
        return z + noise.swapaxes(0, 1).astype(z.dtype)

    def has(self, y: Array, n_units: int) -> Array:
        xp = array_module(y)
        return xp.all(xp.isfinite(y), axis=-1)


OUTPUTS: dict[str, type[Output]] = {"categorical": Categorical, "bernoulli": Bernoulli, "gaussian": Gaussian}
"""Output distributions by name."""
