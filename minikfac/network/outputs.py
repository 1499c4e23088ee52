"""Output distributions: distributions of the target whose natural parameters are the last pre-activations z.

                 p(y | z)                  -log p(y | z)              mean         Fisher matrix of z
    Categorical  softmax(z)_y              logsumexp(z) - z_y         softmax(z)   diag(p) - p p^T
    Bernoulli    prod p_c^y_c (1-p_c)^...  sum softplus(z_c) - y z_c  logistic(z)  diag(p (1 - p))
    Gaussian     N(y; z, I)                1/2 ||y - z||^2 + const    z            I

All three are exponential families with natural parameters z, so d(-log p)/dz = mean - y, and the second
derivative does not depend on y. It is therefore the Fisher matrix of z, and the generalized Gauss-Newton
matrix of the loss is the Fisher matrix of the net [MG15, sec. 2.2].

Losses are in nats, per example, summed over the C output units and never divided by N. The Gaussian's
constant C/2 log(2 pi) is omitted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from ..backend import Array, array_module, check_array, check_generator, label_advice, on_host, to_host
from .layers.pointwise import logistic, softplus


class Output(ABC):
    """A distribution of targets y given natural parameters z (N, C)."""

    @abstractmethod
    def nll(self, z: Array, y: Array) -> Array:
        """Negative log-likelihood of each example, (N,), in nats."""

    @abstractmethod
    def mean(self, z: Array) -> Array:
        """Mean of the (one-hot) target, (N, C): probabilities, or the Gaussian's mean."""

    @abstractmethod
    def encode(self, y: Array, z: Array) -> Array:
        """Targets as sufficient statistics (N, C): one-hot labels, or y itself."""

    def gradient(self, z: Array, y: Array) -> Array:
        """d(-log p(y | z)) / dz = mean - y, (N, C), per example."""
        return self.mean(z) - self.encode(y, z)

    def hessian_product(self, z: Array, y: Array, u: Array) -> Array:
        """Second derivative of -log p(y | z) with respect to z, times u (N, C), independent of y here."""
        return self.fisher_product(z, u)

    def fisher_product(self, z: Array, u: Array) -> Array:
        """The Fisher matrix of z times u (N, C), example by example."""
        return self._variance_product(self.mean(z), u)

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

    def losses(self, z: Array, y: Array) -> Array:
        """Like :meth:`nll`, but on a device NaN for targets that the distribution does not allow."""
        xp = array_module(z, y, names="the outputs z, the targets y")
        nll = self.nll(z, y)
        return nll if on_host(y) else xp.where(self.has(y, z.shape[1]), nll, xp.nan)


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

    def nll(self, z: Array, y: Array) -> Array:
        if y.dtype.kind == "f":
            return -(self.encode(y, z) * self._log_p(z)).sum(-1)
        return -self._log_p(z)[array_module(z).arange(len(z)), y]

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


class _RealTargets(Output):
    """Real targets (N, C), used unchanged."""

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

    def nll(self, z: Array, y: Array) -> Array:
        return (softplus(z) - self.encode(y, z) * z).sum(-1)

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

    def nll(self, z: Array, y: Array) -> Array:
        return 0.5 * ((self.encode(y, z) - z) ** 2).sum(-1)

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
